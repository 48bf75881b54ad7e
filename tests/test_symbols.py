"""A symbolic score beside a scan: its numbers, beats and notes on the printed measures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_pdf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from music21 import converter

from sf_plugin.cli import main
from sf_plugin.errors import ScoreError
from sf_plugin.evaluation.naming import compare, damaged
from sf_plugin.plugins import registry
from sf_plugin.positions import Position, event_from_json
from sf_plugin.score import engraving
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.load import load_score
from sf_plugin.score.measure_matching import Needed, Printed, match_measures, system_numbers
from sf_plugin.score.measures import notes_at
from sf_plugin.score.model import Score
from sf_plugin.score.symbols import (
    WrittenMeasure,
    match_places,
    name_measures,
    named,
    read_symbols,
    without_names,
)

RHYTHMS = ("4 4 4 4", "2 2", "8 8 8 8 4 4", "1", "8 8 8 8 8 8 8 8", "4. 8 2", "16 16 8 4 2")


def tune(bars: int, seed: int) -> str:
    """MusicXML of one staff with measures of different rhythms."""
    rng = np.random.default_rng(seed)
    rows = [str(rng.choice(RHYTHMS)) for _ in range(bars)]
    notes = " ".join("c" + length for row in rows for length in row.split())
    return engraving.to_musicxml(converter.parse(f"tinynotation: 4/4 {notes}"))


@pytest.fixture(scope="module")
def text() -> str:
    return tune(60, 0)


@pytest.fixture(scope="module")
def written(text: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[WrittenMeasure, ...]:
    file = tmp_path_factory.mktemp("symbols") / "tune.musicxml"
    file.write_text(text)
    return read_symbols(file)


@pytest.fixture(scope="module")
def printed(text: str) -> Layout:
    """The same music in a spacing and with breaks of its own; labels are indices."""
    patch = pytest.MonkeyPatch()
    patch.setitem(engraving._OPTIONS, "spacingNonLinear", 0.5)
    patch.setitem(engraving._OPTIONS, "spacingLinear", 0.35)
    try:
        layout = engraving.engrave(text).layout
    finally:
        patch.undo()
    assert layout is not None
    return layout


def labels(layout: Layout) -> list[str | None]:
    return [m.label for page in layout.pages for s in page.systems for m in s.measures]


def beats_of(layout: Layout) -> list[tuple[float, ...]]:
    measures = [m for page in layout.pages for s in page.systems for m in s.measures]
    return [tuple(beat for _, beat in m.onsets) for m in measures]


def test_every_measure_gets_its_number_and_beats(
    printed: Layout, written: tuple[WrittenMeasure, ...]
) -> None:
    found = name_measures(without_names(printed), written)
    assert labels(found) == [str(n) for n in range(1, 61)]
    assert beats_of(found) == beats_of(printed)


def test_onsets_are_found_where_they_were_seen(
    printed: Layout, written: tuple[WrittenMeasure, ...]
) -> None:
    places = [
        (page.page, x, (s.top + s.bottom) / 2)
        for page in printed.pages
        for s in page.systems
        for m in s.measures
        for x, _ in m.onsets[:-1]
    ]
    found = name_measures(without_names(printed), written, places)
    assert labels(found) == labels(printed)
    for page, true in zip(found.pages, printed.pages, strict=True):
        for system, there in zip(page.systems, true.systems, strict=True):
            for measure, printed_one in zip(system.measures, there.measures, strict=True):
                xs = [x for x, _ in measure.onsets]
                assert xs == pytest.approx([x for x, _ in printed_one.onsets], abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_bars_missed_and_doubled_are_mended(
    printed: Layout, written: tuple[WrittenMeasure, ...], seed: int
) -> None:
    bad = damaged(printed, 0.1, np.random.default_rng(seed))
    assert len(labels(bad)) != 60 or seed
    found = compare(name_measures(bad, written), printed, list(range(1, 61)))
    assert found.right / found.measures > 0.9


def test_numbers_rise_by_one_and_boxes_stay_in_their_systems(
    printed: Layout, written: tuple[WrittenMeasure, ...]
) -> None:
    found = name_measures(damaged(printed, 0.2, np.random.default_rng(5)), written)
    measures = [m for page in found.pages for s in page.systems for m in s.measures]
    assert [m.number for m in measures] == list(range(1, len(measures) + 1))
    for page in found.pages:
        for system in page.systems:
            assert all(a.right <= b.left + 1e-9 for a, b in pairwise(system.measures))
            for m in system.measures:
                assert system.left - 1e-6 <= m.left < m.right <= system.right + 1e-6
                assert all(a < b for (a, _), (b, _) in pairwise(m.onsets))


def one_line(*widths: float, indent: float = 0.0) -> Layout:
    edges = 0.1 + np.cumsum([0, *widths])
    measures = tuple(Measure(n, a, b) for n, (a, b) in enumerate(pairwise(edges.tolist()), 1))
    system = System(0.1, 0.2, 0.1, measures[-1].right, measures)
    return Layout((PageLayout(1, (system,)),))


def quarters(label: int, count: int = 4, **more: bool) -> WrittenMeasure:
    beats = tuple(float(beat) for beat in range(count))
    return WrittenMeasure(
        str(label), float(count), beats, tuple((b, f"n{label}-{b:g}") for b in beats), **more
    )


def silence(label: int) -> WrittenMeasure:
    return WrittenMeasure(str(label), 4.0, (0.0,), ())


def test_a_pickup_keeps_its_number() -> None:
    found = name_measures(one_line(0.13, 0.17, 0.17), [quarters(0, 1), quarters(1), quarters(2)])
    assert labels(found) == ["0", "1", "2"]
    assert beats_of(found)[0] == (0.0, 1.0)


def test_rests_of_many_measures_printed_as_one() -> None:
    symbols = [quarters(1), quarters(2), *map(silence, range(3, 11)), quarters(11), quarters(12)]
    found = name_measures(one_line(0.2, 0.14, 0.12, 0.14, 0.14), symbols)
    assert labels(found) == ["1", "2", "3", "11", "12"]
    assert beats_of(found)[2][-1] == 32


def test_a_measure_broken_at_the_end_of_a_line_counts_on() -> None:
    above = System(0.1, 0.2, 0.1, 0.7, (Measure(1, 0.1, 0.5), Measure(2, 0.5, 0.7)))
    below = System(0.3, 0.4, 0.1, 0.76, (Measure(3, 0.1, 0.36), Measure(4, 0.36, 0.76)))
    layout = Layout((PageLayout(1, (above, below)),))
    found = name_measures(layout, [quarters(1, 8), quarters(2, 8), quarters(3, 8)])
    assert labels(found) == ["1", "2", "2", "3"]
    first, second = (beats_of(found)[i] for i in (1, 2))
    assert first[0] == 0 and first[-1] == second[0] and second[-1] == 8


def test_a_few_measures_of_many_are_neighbours() -> None:
    symbols = [quarters(n) for n in range(1, 9)]
    layout = one_line(0.18, 0.12, 0.12)
    found = name_measures(layout, symbols)
    assert len(labels(found)) == 3
    numbers = [int(label or 0) for label in labels(found)]
    assert [b - a for a, b in pairwise(numbers)] == [1, 1]


@given(st.lists(st.floats(0.02, 0.3), max_size=12), st.lists(st.integers(1, 8), max_size=12))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_box_and_every_measure_is_matched_once(
    widths: list[float], counts: list[int]
) -> None:
    space = np.array([1.0 + count for count in counts])
    printed = Printed(
        np.array(widths),
        system_numbers([i // 4 for i in range(len(widths))]),
        np.array([i % 4 > 0 for i in range(len(widths))]),
        np.full(len(widths), np.nan),
    )
    needed = Needed(space, np.array(counts, float), np.array([c == 1 for c in counts], bool))
    matches = match_measures(printed, needed)
    assert [i for match in matches for i in match.printed] == list(range(len(widths)))
    assert [j for match in matches for j in match.written] == list(range(len(counts)))


def test_places_are_matched_in_order() -> None:
    expected = np.array([0.1, 0.12, 0.2, 0.3])
    assert match_places(expected, np.array([0.101, 0.199, 0.302])) == [(0, 0), (2, 1), (3, 2)]
    assert match_places(expected, expected + 0.1) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert match_places(expected, np.zeros(0)) == []


def test_notes_are_called_as_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tune.musicxml"
    plain = tune(2, 1)
    file.write_text(plain.replace("<note", '<note id="mine"', 1) if 'id="' not in plain else plain)
    notes = [name for measure in read_symbols(file) for _, name in measure.notes]
    assert len(set(notes)) == len(notes) and all(notes)
    mei = tmp_path / "tune.mei"
    toolkit = engraving.open_toolkit(plain)
    mei.write_text(toolkit.getMEI())
    assert len(read_symbols(mei)) == 2


def test_notes_without_names_get_part_measure_and_place(tmp_path: Path) -> None:
    file = tmp_path / "tune.musicxml"
    import re

    file.write_text(re.sub(r'(<note[^>]*?) id="[^"]*"', r"\1", tune(2, 1)))
    (first, _) = read_symbols(file)
    assert re.fullmatch(r".+-m1-n1", first.notes[0][1])


def test_the_notes_of_a_place_are_those_that_last_began() -> None:
    measure = Measure(1, 0.1, 0.5, notes=((0.0, "a"), (0.0, "b"), (1.5, "c")))
    assert notes_at(measure, 1.0) == ("a", "b")
    assert notes_at(measure, 1.5) == ("c",)
    assert notes_at(measure, None) == ()


def test_a_layout_with_names_keeps_them(printed: Layout) -> None:
    score = Score("tune", [], printed, written=(quarters(99),))
    assert named(printed, score) == printed


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.pdf", b"%PDF", "no symbolic score"),
        ("x.musicxml", b"<score-partwise", "damaged or cut off"),
        ("x.mei", b"<mei xmlns='http://www.music-encoding.org/ns/mei'/>", "x.mei"),
        ("x.abc", b"", "x.abc"),
    ],
)
def test_symbols_that_are_none(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ScoreError, match=says):
        read_symbols(file)
    with pytest.raises(ScoreError, match="no such file"):
        read_symbols(tmp_path / "missing.mei")


def test_following_a_scan_with_symbols_tells_numbers_beats_and_notes(
    example_plugin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    printed: Layout,
    text: str,
    wav: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(example_plugin))
    registry.cache_clear()
    boxes = without_names(printed)
    draw_pdf(tmp_path / "scan.pdf", boxes)
    (tmp_path / "scan.layout.json").write_text(boxes.to_json())
    (tmp_path / "tune.musicxml").write_text(text)
    words = ("--symbols", "tune.musicxml", "--follower", "constant-tempo")
    assert main(["follow", "scan.pdf", "--audio", str(wav), "--out", "p.jsonl", *words]) == 0
    events = map(event_from_json, (tmp_path / "p.jsonl").read_text().splitlines())
    places = [event for event in events if isinstance(event, Position)]
    assert {p.label for p in places} == {str(p.measure) for p in places}
    assert all(p.beat is not None and p.tempo != 0 for p in places)
    assert len({name for p in places for name in p.notes}) > 20

    assert main(["layout", "scan.pdf", "--out", "named.json", *words]) == 0
    kept = Layout.from_json((tmp_path / "named.json").read_text())
    assert labels(kept) == [str(n) for n in range(1, 61)]
    measures = [m for page in kept.pages for s in page.systems for m in s.measures]
    assert all(m.notes for m in measures)
    score = load_score(tmp_path / "scan.pdf", symbols=tmp_path / "tune.musicxml")
    assert len(score.written) == 60
    assert score == replace(score, layout_file=tmp_path / "scan.layout.json")
