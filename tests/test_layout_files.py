"""Layouts kept beside the score: found by themselves, and checked before they are believed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import EXAMPLE, draw_pdf, make_layout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sf_plugin.cli import main
from sf_plugin.errors import ScoreError
from sf_plugin.plugins import registry
from sf_plugin.positions import Position, event_from_json
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.layout_files import checked, kept_beside, numbered, read_layout
from sf_plugin.score.load import load_score

RELAXED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.one_of(st.none(), st.text(st.characters(exclude_categories=["C", "Z"]), max_size=4))


@st.composite
def measures(draw: st.DrawFn, left: float, right: float) -> Measure:
    count = draw(st.integers(0, 3))
    step = (right - left) / 4
    onsets = tuple((left + i * step, float(i)) for i in range(count + 1)) if count else ()
    return Measure(
        1,
        left,
        right,
        label=draw(texts),
        repeat_start=draw(st.booleans()),
        repeat_end=draw(st.booleans()),
        volta=draw(texts),
        onsets=onsets,
        signs=tuple(draw(st.lists(st.sampled_from(["segno", "fine"]), max_size=1))),
        notes=((0.0, "n1"),) if onsets else (),
    )


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Layouts as there can be."""
    pages = []
    for page in range(1, draw(st.integers(1, 2)) + 1):
        systems = []
        edges = sorted(draw(st.sets(st.integers(0, 50), min_size=2, max_size=4)))
        for top, bottom in zip(edges[::2], edges[1::2], strict=False):
            bars = sorted(draw(st.sets(st.integers(0, 20), min_size=2, max_size=5)))
            inside = [draw(measures(a / 20, b / 20)) for a, b in pairwise(bars)]
            systems.append(
                System(top / 50, bottom / 50, bars[0] / 20, bars[-1] / 20, tuple(inside))
            )
        pages.append(PageLayout(page, tuple(systems)))
    return numbered(Layout(tuple(pages)))


@given(layouts())
@RELAXED
def test_a_file_gives_back_the_layout(tmp_path: Path, layout: Layout) -> None:
    file = tmp_path / "a.layout.json"
    file.write_text(layout.to_json())
    assert read_layout(file, len(layout.pages)) == layout


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=3), st.just(10**400)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)


def places_in(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON tree."""
    here: list[tuple[Any, Any]] = []
    keys = data.keys() if isinstance(data, dict) else range(len(data))
    for key in list(keys):
        here.append((data, key))
        if isinstance(data[key], dict | list):
            here += places_in(data[key])
    return here


@given(layouts(), values, st.randoms(use_true_random=False), st.booleans())
@RELAXED
def test_a_damaged_file_is_a_clear_error_or_a_layout_that_can_be(
    tmp_path: Path, layout: Layout, value: Any, rng: random.Random, remove: bool
) -> None:
    data = json.loads(layout.to_json())
    container, key = rng.choice(places_in(data))
    if remove:
        del container[key]
    else:
        container[key] = value
    file = tmp_path / "a.layout.json"
    file.write_text(json.dumps(data))
    try:
        found = read_layout(file, len(layout.pages))
    except ScoreError as error:
        assert str(file) in str(error)
    else:
        assert checked(found) == found
        Layout.from_json(found.to_json())


@given(st.binary(max_size=60), st.integers(0, 400))
@RELAXED
def test_a_file_cut_off_or_of_other_bytes_is_a_clear_error(
    tmp_path: Path, noise: bytes, cut: int
) -> None:
    whole = make_layout(1).to_json().encode()
    file = tmp_path / "a.layout.json"
    for data in (noise, whole[:cut], whole[:cut] + noise):
        file.write_bytes(data)
        with pytest.raises(ScoreError):
            read_layout(file, 1)


def test_a_file_nested_without_end_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "a.layout.json"
    file.write_bytes(b"[" * 100_000)
    with pytest.raises(ScoreError, match="not a layout file"):
        read_layout(file, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"left": 0.6}, r"page 2, system 1, measure 2: 'left' is 0.6, not less than 'right', 0.5"),
        ({"right": 1.2}, r"page 2, system 1, measure 2: 'right' is 1.2, not a fraction"),
        ({"left": "x"}, r"page 2, system 1, measure 2: 'left' is 'x', not a fraction"),
        ({"left": 0.2}, r"measure 2: begins at 0.2, before the measure before ends at 0.3"),
        ({"right": 0.95}, r"measure 2: ends at 0.95, after the system at 0.9"),
        ({"label": 7}, r"measure 2: 'label' is 7, neither text nor null"),
        ({"repeat_end": 1}, r"measure 2: 'repeat_end' is 1, neither true nor false"),
        ({"onsets": ((0.4, 1.0), (0.35, 2.0))}, r"measure 2: onsets do not rise at x 0.35"),
        ({"onsets": ((0.7, 1.0),)}, r"measure 2: an onset stands outside it"),
    ],
)
def test_an_error_names_page_system_and_measure(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    layout = make_layout(2)
    page = layout.pages[1]
    system = page.systems[0]
    bars = list(system.measures)
    bars[1] = replace(bars[1], **change)
    wrong = replace(page, systems=(replace(system, measures=tuple(bars)), *page.systems[1:]))
    file = tmp_path / "a.layout.json"
    file.write_text(Layout((layout.pages[0], wrong)).to_json())
    with pytest.raises(ScoreError, match=says) as caught:
        read_layout(file, 2)
    assert str(caught.value).startswith(f"{file}: ")


def test_pages_and_systems_are_in_order() -> None:
    layout = make_layout(2)
    with pytest.raises(ScoreError, match="page 1: 'page' is 2"):
        checked(Layout(layout.pages[::-1]))
    page = replace(layout.pages[0], systems=layout.pages[0].systems[::-1])
    with pytest.raises(ScoreError, match="page 1, system 2: stands above the one before"):
        checked(Layout((page,)))


def test_measures_are_numbered_anew(tmp_path: Path) -> None:
    """A corrector who puts a measure in need not count the rest again."""
    layout = make_layout(1)
    system = layout.pages[0].systems[0]
    middle = (system.measures[0].left + system.measures[0].right) / 2
    halves = (replace(system.measures[0], right=middle), replace(system.measures[0], left=middle))
    parted = replace(system, measures=(*halves, *system.measures[1:]))
    page = replace(layout.pages[0], systems=(parted, *layout.pages[0].systems[1:]))
    file = tmp_path / "a.layout.json"
    file.write_text(Layout((page,)).to_json())
    found = read_layout(file, 1)
    numbers = [m.number for s in found.pages[0].systems for m in s.measures]
    assert numbers == list(range(1, 10))


@pytest.fixture
def score(tmp_path: Path) -> Path:
    return draw_pdf(tmp_path / "sonata.pdf", make_layout(2))


def test_a_kept_layout_is_taken_and_can_be_ignored(score: Path) -> None:
    assert load_score(score).layout is None
    kept = kept_beside([score])
    assert kept.name == "sonata.layout.json"
    kept.write_text(make_layout(2, measures=3).to_json())
    found = load_score(score)
    assert found.layout == make_layout(2, measures=3)
    assert found.layout_file == kept
    assert load_score(score, ignore_layout=True).layout is None
    other = score.with_name("other.json")
    other.write_text(make_layout(2, systems=1).to_json())
    assert load_score(score, layout=other).layout == make_layout(2, systems=1)


def test_a_kept_layout_that_does_not_fit_says_what_to_do(score: Path) -> None:
    kept_beside([score]).write_text(make_layout(1).to_json())
    with pytest.raises(ScoreError, match=r"has 1 pages, the score has 2: .*--ignore-layout"):
        load_score(score)


def test_an_engraved_score_keeps_its_own_layout(tmp_path: Path) -> None:
    tune = tmp_path / "sonata.abc"
    tune.write_text("X:1\nT:t\nM:4/4\nL:1/4\nK:C\nCDEF|GABc|\n")
    kept_beside([tune]).write_text(make_layout(2).to_json())
    found = load_score(tune)
    assert found.layout_file is None and found.layout is not None
    assert len(found.layout.pages) == 1


Command = Callable[..., int]


@pytest.fixture
def run(example_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, here, with the example follower."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(example_plugin))
    registry.cache_clear()
    return lambda *words: main([*map(str, words), *EXAMPLE])


def test_a_layout_is_kept_corrected_and_followed(
    run: Command, score: Path, wav: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("layout", score, "--keep") == 0
    said = capfd.readouterr()
    assert said.out == ""
    assert f"kept as {kept_beside([score])}" in said.err
    corrected = make_layout(2, measures=3)
    kept_beside([score]).write_text(corrected.to_json())

    assert run("follow", score, "--audio", wav, "--out", "p.jsonl") == 0
    assert "layout from" in capfd.readouterr().err
    events = map(event_from_json, (tmp_path / "p.jsonl").read_text().splitlines())
    assert {e.measure for e in events if isinstance(e, Position)} == set(range(1, 13))

    assert run("layout", score) == 0
    assert Layout.from_json(capfd.readouterr().out) == corrected

    assert run("layout", score, "--keep", "--ignore-layout") == 0
    older = score.with_name("sonata.layout.json~")
    assert Layout.from_json(older.read_text()) == corrected
    assert Layout.from_json(kept_beside([score]).read_text()) != corrected


def test_a_damaged_kept_layout_stops_following(
    run: Command, score: Path, wav: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept_beside([score]).write_text(make_layout(2).to_json().replace("0.9", "0.05"))
    assert run("follow", score, "--audio", wav) == 2
    said = capfd.readouterr().err
    assert "sonata.layout.json: page 1, system 1: 'left' is 0.1, not less than 'right'" in said
    assert "--ignore-layout" in said
    assert run("follow", score, "--audio", wav, "--ignore-layout") == 0


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("x.json", "{"),
        ("x.mei", "<?xml"),
        ("x.musicxml", "<?xml"),
        ("x.jsonld", '{\n "@context"'),
    ],
)
def test_the_suffix_chooses_the_format(
    run: Command, score: Path, tmp_path: Path, name: str, start: str
) -> None:
    assert run("layout", score, "--out", name) == 0
    assert (tmp_path / name).read_text().startswith(start)


def test_an_unknown_suffix_names_those_there_are(
    run: Command, score: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("layout", score, "--out", "x.doc") == 2
    assert ".json, .mei, .musicxml, .jsonld" in capfd.readouterr().err
    assert run("layout", score, "--picture", "x.bmp") == 2
    assert not (tmp_path / "x.doc").exists()


def test_the_layout_is_drawn_on_every_page(run: Command, score: Path, tmp_path: Path) -> None:
    import pymupdf

    kept_beside([score]).write_text(make_layout(2).to_json())
    assert run("layout", score, "--picture", "seen.png") == 0
    plain = load_score(score).pages[0]
    with Image.open(tmp_path / "seen-2.png") as picture:
        assert picture.size == (2 * plain.shape[1], 2 * plain.shape[0])
        left, top = round(0.3 * picture.width), round(0.3 * picture.height)
        assert picture.getpixel((left, top)) == (0, 150, 90) or len(picture.getcolors(1 << 20)) > 10
    assert run("layout", score, "--picture", "seen.pdf") == 0
    with pymupdf.open(tmp_path / "seen.pdf") as document:
        assert document.page_count == 2
        assert all(page.get_images() for page in document)
