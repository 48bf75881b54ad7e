from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import make_layout
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sf_adapters.report import EMBEDDED, Recorder, Report, build_report, data_uri
from sf_adapters.report.plots import CLOCK_STEPS, PLACE_STEPS, ticks
from sf_adapters.report.track import ScoreLine, tempo_curve
from sf_plugin.errors import SinkError
from sf_plugin.positions import Control, Jump, PageTurn, Position, State
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import Pages, Score

LAYOUT = make_layout(2)
SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)


def stave(index: int) -> np.ndarray:
    image = np.full((120, 85), 255, np.uint8)
    image[20 + index :: 10] = 0
    return image


def position(
    time: float,
    page: int,
    x: float,
    y: float,
    state: State = "tracking",
    measure: int | None = None,
) -> Position:
    return Position(time, page, x, y, None, measure, None, 1, None, None, 0.9, state)


def play(sink: Recorder, score: Score | None = None, state: State = "tracking") -> None:
    """Five seconds on each of the four systems of two pages; a turn and a jump."""
    sink.open(score or Score("Duo & <more>", Pages(2, stave), LAYOUT), LAYOUT)
    systems = [(page.page, system) for page in LAYOUT.pages for system in page.systems]
    for frame in range(400):
        page, system = systems[frame // 100]
        x = system.left + frame % 100 / 100 * (system.right - system.left)
        measure = system.measures[frame % 100 // 25].number
        y = (system.top + system.bottom) / 2
        sink.emit(position(frame / 20, page, x, y, state, measure))
    sink.emit(PageTurn(9.0, 2, 1.0))
    sink.emit(Jump(12.0, 9, 11, 0.8))


def attributes(html: str, tag: str) -> list[dict[str, str | None]]:
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
            if name == tag:
                found.append(dict(attrs))

    Reader().feed(html)
    return found


def polylines(html: str, kind: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in (line["points"] or "").split()]  # type: ignore[misc]
        for line in attributes(html, "polyline")
        if kind in (line["class"] or "").split()
    ]


def test_the_report_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with Report(str(path)) as sink:
        play(sink)
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    html = path.read_text(encoding="utf-8")
    assert "Duo &amp; &lt;more&gt;" in html and "<more>" not in html
    assert "$" not in html
    assert not re.search(r"https?:|<script src|<link|url\(|@import|fetch", html)
    pictures = [image["src"] or "" for image in attributes(html, "img")]
    for index, source in enumerate(pictures):
        png = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert np.array_equal(picture, stave(index))
    drawings = SVG.findall(html)
    assert len(pictures) == 2 and len(drawings) == 4
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_a_measure_named_like_html_is_only_a_name() -> None:
    page = LAYOUT.pages[0]
    system = page.systems[0]
    named = replace(system.measures[0], label="</title><script>alert(1)</script>")
    system = replace(system, measures=(named, *system.measures[1:]))
    sink = Recorder()
    play(sink)
    sink.extend(Layout((replace(page, systems=(system, *page.systems[1:])), LAYOUT.pages[1])))
    html = sink.report()
    assert "measure &lt;/title&gt;&lt;script&gt;" in html and "<script>alert" not in html


def test_the_path_is_drawn_where_the_follower_was() -> None:
    sink = Recorder()
    play(sink)
    html = sink.report()
    *_, first, second = SVG.findall(html)
    for drawing in (first, second):
        runs = polylines(drawing, "path")
        assert len(runs) == 2
        for run, system in zip(runs, LAYOUT.pages[0].systems, strict=True):
            assert {y for _, y in run} == {round((system.top + system.bottom) / 2 * 120)}
            assert run[0][0] == round(0.1 * 85) and 0.85 * 85 < run[-1][0] < 0.9 * 85
            assert [x for x, _ in run] == sorted(x for x, _ in run)
        assert len(attributes(drawing, "rect")) == 8
    assert "page 2 · 0:09" in first and "page 2 · 0:09" not in second
    assert "jump · 0:12" in second and "jump · 0:12" not in first


def test_the_plot_rises_with_the_music_and_shows_the_truth() -> None:
    sink = Recorder()
    play(sink)
    plot = SVG.findall(sink.report())[0]
    points = [point for piece in polylines(plot, "path") for point in piece]
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))
    assert not polylines(plot, "truth")
    truth = np.array([[0.0, 1, 0.1, 0.2], [10.0, 2, 0.1, 0.2], [19.9, 2, 0.9, 0.7]])
    plot = SVG.findall(sink.report(truth))[0]
    (line,) = polylines(plot, "truth")
    assert line[0] == points[0]
    middle = min(points, key=lambda point: abs(point[0] - line[1][0]))
    assert middle == pytest.approx(line[1], abs=2)


def test_another_layout_can_measure_the_place() -> None:
    sink = Recorder()
    play(sink)
    ruler = make_layout(2, measures=5)
    plain, ruled = (SVG.findall(sink.report(ruler=r))[0] for r in (None, ruler))
    highest = [
        max(float(text) for text in re.findall(r">(\d+)</text>", plot)) for plot in (plain, ruled)
    ]
    assert highest == [16, 20]


def test_where_it_was_unsure_is_marked() -> None:
    sink = Recorder()
    play(sink, state="lost")
    html = sink.report()
    assert [r["class"] for r in attributes(html, "rect")].count("lost") == 1
    assert len(polylines(html, "astray")) == 4
    assert "0.0% of the time" in html


@pytest.mark.parametrize(
    "layout",
    [
        Layout(()),
        Layout((PageLayout(1), PageLayout(2, (System(0.1, 0.2, 0.1, 0.9),)))),
        Layout((PageLayout(1, (System(0.1, 0.2, 0.5, 0.5, (Measure(1, 0.5, 0.5),)),)),)),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 30])
def test_poor_layouts_and_short_tracks_still_make_a_page(layout: Layout, count: int) -> None:
    sink = Recorder()
    sink.open(Score("poor", Pages(2, stave), layout), layout)
    for frame in range(count):
        sink.emit(position(0.05 * frame, 1 + frame % 3, frame / 30, 0.15))
    html = sink.report(np.zeros((0, 4)))
    assert "nan" not in html.split("base64")[0].lower()
    for drawing in SVG.findall(html):
        ElementTree.fromstring(drawing)


def test_only_the_pages_that_were_visited_are_read() -> None:
    read = []

    def page(index: int) -> np.ndarray:
        read.append(index)
        return stave(0)

    sink = Recorder()
    play(sink, Score("book", Pages(400, page), LAYOUT))
    sink.report()
    assert read == [0, 1]


def test_a_long_performance_makes_a_small_plot() -> None:
    track = np.zeros(72_000, Recorder().track.dtype)
    track["time"] = np.arange(72_000) / 20
    track["page"] = 1
    track["x"] = 0.1 + 0.8 * (np.arange(72_000) % 2000) / 2000
    track["y"] = 0.2
    track["state"] = 1
    html = build_report(Score("long", Pages(2, stave), LAYOUT), LAYOUT, track)
    assert len(html) < 1_000_000


def test_nothing_heard_leaves_no_file(tmp_path: Path) -> None:
    with Report(str(tmp_path / "report.html")) as sink:
        sink.open(Score("silent", Pages(2, stave), LAYOUT), LAYOUT)
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_report_cut_short_is_written_and_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), Report(str(path)) as sink:
        play(sink)
        raise KeyboardInterrupt
    assert "</html>" in path.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_said_before_the_music(tmp_path: Path) -> None:
    score: Any = Score("x", Pages(2, stave), LAYOUT)
    with pytest.raises(SinkError, match="is a folder"):
        Report(str(tmp_path)).open(score, LAYOUT)
    with pytest.raises(SinkError, match=r"missing.*choose another place"):
        Report(str(tmp_path / "missing" / "report.html")).open(score, LAYOUT)


def test_the_score_line_counts_measures_else_systems() -> None:
    line = ScoreLine(LAYOUT)
    assert line.unit == "measure" and line.end == 17
    assert line.at(1, 0.1, 0.2) == pytest.approx(1)
    assert line.at(2, 0.5, 0.7) == pytest.approx(15)
    assert np.isnan(line.at(3, 0.5, 0.5))
    bare = Layout(
        (
            PageLayout(1, (System(0.1, 0.2, 0.1, 0.9), System(0.5, 0.6, 0.1, 0.9))),
            PageLayout(2, (System(0.1, 0.2, 0.1, 0.9),)),
        )
    )
    line = ScoreLine(bare)
    assert line.unit == "system" and line.end == 4
    assert line.at(1, 0.5, 0.55) == pytest.approx(2.5)
    assert line.at(2, 0.3, 0.15) == pytest.approx(3.25)


@given(
    first=st.integers(0, 100),
    span=st.floats(0.1, 5000),
    most=st.integers(2, 12),
    steps=st.sampled_from([CLOCK_STEPS, PLACE_STEPS]),
)
def test_ticks_lie_inside_and_are_few(
    first: int, span: float, most: int, steps: tuple[int, ...]
) -> None:
    found = ticks(first, first + span, most, steps)
    assert len(found) <= most + 1
    assert all(first <= tick <= first + span for tick in found)


def test_a_picture_keeps_sixteen_greys() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    png = base64.b64decode(data_uri(ramp).split(",")[1])
    back = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert np.abs(back.astype(int) - ramp).max() <= 16
    assert back.min() == 0 and back.max() == 255


# tempo, tables, sound


def stays(
    layout: Layout, *stays: tuple[int, float], state: State = "tracking"
) -> tuple[Recorder, float]:
    """The place goes evenly through measures, so many seconds each."""
    sink = Recorder()
    sink.open(Score("etude", Pages(2, stave), layout), layout)
    places = {
        measure.number: (page.page, system, measure)
        for page in layout.pages
        for system in page.systems
        for measure in system.measures
    }
    now = 0.0
    for number, seconds in stays:
        page, system, measure = places[number]
        count = round(seconds * 40)
        for n in range(count):
            x = measure.left + n / count * (measure.right - measure.left)
            y = (system.top + system.bottom) / 2
            sink.emit(position(now, page, x, y, state, number))
            now += 1 / 40
    return sink, now


def with_beats(layout: Layout, quarters: float) -> Layout:
    """Every measure is so long, its notes on its first and its second half."""
    pages = []
    for page in layout.pages:
        systems = []
        for system in page.systems:
            measures = []
            for m in system.measures:
                middle = (m.left + m.right) / 2
                onsets = ((m.left, 0.0), (middle, quarters / 2), (m.right, quarters))
                measures.append(replace(m, onsets=onsets))
            systems.append(replace(system, measures=tuple(measures)))
        pages.append(replace(page, systems=tuple(systems)))
    return Layout(tuple(pages))


def test_the_tempo_is_of_quarter_notes_where_beats_are_known() -> None:
    stretch = [(1, 2.0), (2, 1.0), (3, 4.0), (4, 1.0)]
    for layout, unit, values in (
        (LAYOUT, "measures", [30, 60, 15]),
        (with_beats(LAYOUT, 3.0), "quarter notes", [90, 180, 45]),
    ):
        sink, _ = stays(layout, *stretch)
        curve = tempo_curve(sink.track, layout)
        assert curve.unit == unit
        assert [one.value for one in curve.measures] == pytest.approx(values, rel=0.03)
        assert [one.measure for one in curve.measures] == [1, 2, 3]
        assert [one.start for one in curve.measures] == pytest.approx([0, 2, 3], abs=0.03)


def test_a_jump_has_no_tempo_and_a_repeat_has() -> None:
    layout = make_layout(2, repeat_end={2})
    stretch = [(1, 1.0), (2, 1.0), (1, 1.0), (2, 1.0), (7, 1.0), (8, 1.0)]
    sink, _ = stays(layout, *stretch)
    told = [one.measure for one in tempo_curve(sink.track, layout).measures]
    assert told == [1, 2, 1, 7]


def test_where_the_place_is_lost_there_is_no_tempo() -> None:
    sink, now = stays(LAYOUT, (1, 1.0), (2, 1.0))
    for n in range(80):
        sink.emit(position(now + n / 40, 1, 0.5, 0.2, "lost", 3))
    for n in range(160):
        measure = 3 + n // 80
        sink.emit(position(now + 2 + n / 40, 1, 0.5, 0.2, measure=measure))
    assert [one.measure for one in tempo_curve(sink.track, LAYOUT).measures] == [1]


def test_tables_tell_turns_jumps_wishes_and_where_it_was_lost() -> None:
    sink = Recorder()
    play(sink)
    for n in range(30):
        sink.emit(position(20 + n / 10, 2, 0.5, 0.7, "lost", 14))
    sink.emit(position(23.0, 2, 0.5, 0.7, measure=15))
    sink.emit(Control(13.5, "goto", 1, 0.1, 0.2, measure=5))
    sink.emit(Control(14.0, "pause"))
    html = sink.report()
    rows = [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    cells = [[cell for cell in row.split("|") if cell] for row in rows]
    assert cells == [
        ["0:20", "lost for 3.0 s", "after page 2, measure 16, then page 2, measure 15"],
        ["0:09", "page 2 shown", "1.0 s before its music"],
        ["0:12", "jump from measure 9 to measure 11", "confidence 0.80"],
        ["0:13", "sent to measure 5", "by hand"],
        ["0:14", "paused", "by hand"],
    ]
    assert "once, 3 s" in html
    figures = {figure["id"] for figure in attributes(html, "figure")}
    links = [link for link in attributes(html, "a") if "data-time" in link]
    assert len(links) == 5 and {(link["href"] or "")[1:] for link in links} <= figures


def test_a_small_recording_is_in_the_page_and_a_large_one_beside_it(
    tmp_path: Path, wav: Path
) -> None:
    small = tmp_path / "take one.wav"
    small.write_bytes(wav.read_bytes())
    large = tmp_path / "out" / "long.flac"
    large.parent.mkdir()
    with large.open("wb") as file:
        file.truncate(EMBEDDED + 1)
    sources = {}
    for sound in (small, large, tmp_path / "gone.wav", None):
        with Report(str(tmp_path / "out" / "report.html")) as sink:
            if sound is not None:
                sink.with_sound(sound)
            play(sink)
        html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        found = attributes(html, "audio")
        sources[sound] = found[0]["src"] if found else None
        assert len(attributes(html, "input")) == (0 if found else 1)
    kind, _, data = (sources[small] or "").partition(";base64,")
    assert kind == "data:audio/wav" and base64.b64decode(data) == wav.read_bytes()
    assert sources[large] == "long.flac"
    assert sources[tmp_path / "gone.wav"] is None and sources[None] is None


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium)
        yield opened
        opened.close()


@pytest.mark.parametrize("heard", [True, False])
def test_in_a_browser_links_and_plots_move_the_cursor(
    browser: Any, tmp_path: Path, wav: Path, heard: bool
) -> None:
    path = tmp_path / "report.html"
    with Report(str(path)) as sink:
        if heard:
            sink.with_sound(wav)
        play(sink)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    moment = "Number(document.querySelector('audio') ? document.querySelector('audio').currentTime"
    moment += " : document.querySelector('input').value)"
    if heard:
        page.wait_for_function("document.querySelector('audio').readyState > 0")
    page.get_by_role("link", name="0:12").click()
    assert page.evaluate(moment) == pytest.approx(12)
    assert page.url.endswith("#page-2")
    on_page = "[...document.querySelectorAll('svg[data-page] .now')].map(e => e.style.display)"
    page.wait_for_function(f"{on_page}.join() === 'none,inline'")
    place = page.evaluate(
        "(e => [e.transform.baseVal[0].matrix.e / 85, e.transform.baseVal[0].matrix.f / 120])"
        "(document.querySelectorAll('svg[data-page] .now')[1])"
    )
    system = LAYOUT.pages[1].systems[0]
    assert place == pytest.approx([0.1 + 0.8 * 0.4, (system.top + system.bottom) / 2], abs=0.02)
    plot = page.locator("svg[data-until]").first
    size = plot.bounding_box()
    plot.click(position={"x": size["width"] * (46 + 902 / 4) / 960, "y": 60})
    assert page.evaluate(moment) == pytest.approx(19.95 / 4, abs=0.1)
    page.wait_for_function(f"{on_page}.join() === 'inline,none'")
    assert said == []
    page.close()
