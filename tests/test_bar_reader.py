from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run, page_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sf_plugin.evaluation.signs import compare_signs
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.load import load_score
from sf_plugin.unet.bar_reader import (
    ABOVE,
    AT_BAR,
    BARS,
    ENDINGS,
    BarReader,
    Edges,
    Spots,
    believable,
    find_edges,
    next_ending,
    with_signs,
)
from sf_plugin.unet.staff_reader import CELL_PIXELS, Staves

torch.set_num_threads(1)

HEIGHT, WIDTH = 240, 320
SPACE = 6.0
Flags = tuple[bool, bool, str | None]


@pytest.fixture(scope="module")
def reader() -> BarReader:
    torch.manual_seed(0)
    return BarReader().eval()


def two_staves(slope: float, top: float = 90.0) -> Staves:
    """One system of two staves across the page."""
    x = CELL_PIXELS * (torch.arange(WIDTH // CELL_PIXELS) + 0.5) - WIDTH / 2
    course = slope * x
    lines = [[top + y + course, top + y + 4 * SPACE + course] for y in (0, 60)]
    return Staves(
        torch.stack([torch.stack(pair) for pair in lines]),
        torch.tensor([0, 0]),
        torch.tensor([[0, 4], [0, 4]]),
    )


@settings(max_examples=40, deadline=None)
@given(slope=st.floats(-0.08, 0.08), x=st.floats(60, WIDTH - 60))
def test_a_bar_line_goes_through_the_middle_of_every_staffs_window(slope: float, x: float) -> None:
    staves = two_staves(slope)
    middle = 90 + 30 + 2 * SPACE + slope * (x - WIDTH / 2)
    row, column = torch.meshgrid(
        torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij"
    )
    bar = (column - (x - slope * (row - middle))).abs() < 1.5
    spots = Spots.on(staves, torch.tensor([0, 1]), torch.tensor([x, x]))
    windows = AT_BAR.cut(bar.float()[None, None], spots)
    height, width = AT_BAR.shape
    assert windows.shape == (2, 1, height, width)
    at_bar = windows[:, 0, :, width // 2 - 1 : width // 2 + 1]
    assert at_bar.amax(2).min() > 0.5
    assert windows[:, 0, :, : width // 2 - AT_BAR.pixels].max() < 0.5
    torch.testing.assert_close(spots.space, torch.full((2,), SPACE), atol=0.05, rtol=0)


def test_a_window_outside_the_page_is_paper() -> None:
    spots = Spots.on(two_staves(0, top=10), torch.tensor([0]), torch.tensor([8.0]))
    window = ABOVE.cut(torch.ones(1, 1, HEIGHT, WIDTH), spots)
    assert window[0, 0, 0].max() == 0
    assert window[0, 0, -1].max() == 1


def test_edges_are_left_of_measures_and_right_of_the_last() -> None:
    edges = find_edges(two_staves(0), page_of(3), np.array([16]), WIDTH)
    at = [edges.x[edges.edge == edge] for edge in range(4)]
    np.testing.assert_allclose(np.concatenate(at[1:3]) / WIDTH, [0.1 + 0.8 / 3, 0.9 - 0.8 / 3])
    np.testing.assert_allclose(at[3], 0.9 * WIDTH - SPACE * np.arange(3), rtol=1e-6)
    onset = 16.5 * CELL_PIXELS
    assert at[0][0] == pytest.approx(0.1 * WIDTH)
    assert at[0][-1] == pytest.approx(onset)
    assert 0 < np.diff(at[0]).max() <= SPACE + 1e-3
    opening = edges.above[edges.edge == 0]
    np.testing.assert_array_equal(opening, at[0] >= onset - 4 * SPACE)
    assert edges.above[edges.edge > 0].tolist() == [True, True, False, False, False]


def told(
    edges: Edges, bars: dict[int, str], endings: dict[int, str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities that see the last place of each edge as given."""
    shown = np.zeros((len(edges.x), len(BARS)), np.float32)
    above = np.zeros((len(edges.x), len(ENDINGS)), np.float32)
    last = {edge: place for place, edge in enumerate(edges.edge.tolist())}
    for edge, place in last.items():
        shown[place, BARS.index(bars.get(edge, "plain"))] = 0.9
        above[place, ENDINGS.index(endings.get(edge, "none"))] = 0.9
    return shown, above


def flags(page: PageLayout) -> list[Flags]:
    return [
        (measure.repeat_start, measure.repeat_end, measure.volta)
        for system in page.systems
        for measure in system.measures
    ]


def test_signs_belong_to_the_measures_beside_their_bar_lines() -> None:
    page = page_of(3, 2)
    edges = find_edges(two_staves(0), page, np.array([16, 16]), WIDTH)
    bars = {0: "start", 1: "both", 3: "end", 5: "double", 6: "final"}
    read = with_signs(page, edges, *told(edges, bars, {2: "1", 4: "2", 5: "on"}))
    assert flags(read) == [
        (True, True, None),
        (True, False, None),
        (False, True, "1"),
        (False, False, "2"),
        (False, False, "2"),
    ]
    assert [m.number for s in read.systems for m in s.measures] == [1, 2, 3, 4, 5]


@st.composite
def pieces(draw: st.DrawFn) -> list[list[Flags]]:
    """Systems of measures with repeats, some with a first and a second ending."""
    measures: list[Flags] = []
    for _ in range(draw(st.integers(1, 4))):
        begins, ends = draw(st.booleans()), draw(st.sampled_from(["straight", "repeat", "endings"]))
        body = draw(st.integers(1, 4))
        voltas: list[str | None] = [None] * body
        last = body - 1
        if ends == "endings":
            voltas += ["1"] * draw(st.integers(1, 3))
            last = len(voltas) - 1
            voltas += ["2"] * draw(st.integers(1, 3))
        measures += [
            (begins and i == 0, ends != "straight" and i == last, volta)
            for i, volta in enumerate(voltas)
        ]
    breaks = sorted(
        draw(st.sets(st.integers(1, len(measures) - 1), max_size=4)) if measures[1:] else []
    )
    return [measures[a:b] for a, b in pairwise([0, *breaks, len(measures)])]


@settings(max_examples=60, deadline=None)
@given(pieces())
def test_what_is_printed_is_what_is_read(systems: list[list[Flags]]) -> None:
    page = page_of(*map(len, systems))
    edges = find_edges(two_staves(0), page, np.full(len(systems), 16), WIDTH)
    bars: dict[int, str] = {}
    endings: dict[int, str] = {}
    edge, before = 0, None
    for system in systems:
        ends = False
        for i, (start, end, volta) in enumerate(system):
            bars[edge] = {(1, 1): "both", (1, 0): "start", (0, 1): "end"}.get(
                (int(start), int(ends)), "plain"
            )
            endings[edge] = "none" if volta is None else "on" if volta == before else volta
            ends, before = end, volta
            edge += 1
            if i + 1 == len(system):
                bars[edge] = "end" if end else "plain"
                edge += 1
    read = with_signs(page, edges, *told(edges, bars, endings))
    assert flags(read) == [measure for system in systems for measure in system]


@pytest.mark.parametrize(
    ("likely", "before", "wanted"),
    [
        ((0.1, 0.8, 0.1, 0.0), None, "1"),
        ((0.1, 0.1, 0.8, 0.0), "1", "2"),
        ((0.1, 0.0, 0.1, 0.8), "2", "2"),
        ((0.1, 0.0, 0.1, 0.8), None, None),
        ((0.8, 0.1, 0.1, 0.0), "1", None),
        ((0.4, 0.3, 0.3, 0.0), "1", None),
    ],
)
def test_an_ending_begins_or_goes_on(
    likely: tuple[float, ...], before: str | None, wanted: str | None
) -> None:
    assert next_ending(likely, before) == wanted


def test_endings_that_no_repeat_explains_are_not_believed() -> None:
    def read(*marks: Flags) -> list[str | None]:
        measures = [
            Measure(i, i / 9, (i + 1) / 9, None, start, end, volta)
            for i, (start, end, volta) in enumerate(marks)
        ]
        return [measure.volta for measure in believable(measures)]

    plain, closes = (False, False, None), (False, True, "1")
    open_first, second = (False, False, "1"), (False, False, "2")
    assert read(plain, closes, second, plain) == [None, "1", "2", None]
    assert read(plain, open_first, second, plain) == [None, None, None, None]
    assert read(plain, open_first, closes) == [None, "1", "1"]
    assert read(plain, second, plain) == [None, None, None]
    assert read(second, plain, open_first) == ["2", None, "1"]


def test_every_place_is_told_of_and_every_staff_is_asked(reader: BarReader) -> None:
    staves = two_staves(0)
    ink = torch.rand(1, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    edges = Edges(
        np.array([60, 100, 140], np.float32), np.array([0, 0, 1]), np.arange(3),
        np.array([True, False, True]),
    )  # fmt: skip
    with torch.inference_mode():
        bars, endings = reader(ink, staves, edges)
        lower = ink.clone()
        lower[:, :, 140:] = 0
        changed, _ = reader(lower, staves, edges)
    torch.testing.assert_close(bars.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(endings.sum(1), torch.tensor([1.0, 0.0, 0.0]))
    assert (bars[:2] != changed[:2]).any(1).all()


@pytest.mark.parametrize("systems", [(), (0,), (2,), (0, 3)])
def test_a_page_with_little_on_it_is_read(reader: BarReader, systems: tuple[int, ...]) -> None:
    page = page_of(*systems)
    ink = torch.zeros(1, 1, HEIGHT, WIDTH)
    for staves in (two_staves(0), Staves(torch.zeros(0, 2, 80), torch.zeros(0), torch.zeros(0, 2))):
        read = reader.read(ink, staves, page, np.full(len(systems), 16))
        assert [len(s.measures) for s in read.systems] == list(systems)


def test_signs_count_where_they_are_on_the_true_measure() -> None:
    left, right = Measure(1, 0.1, 0.5), Measure(2, 0.5, 0.9)
    true = Layout((PageLayout(1, (System(0.1, 0.2, 0.1, 0.9, (left, right)),)),))

    def read(*measures: Measure) -> Layout:
        return Layout((PageLayout(1, (System(0.1, 0.2, 0.1, 0.9, measures),)),))

    signed = read(Measure(1, 0.1, 0.5, repeat_end=True), Measure(2, 0.5, 0.9, volta="2"))
    close = read(Measure(1, 0.1, 0.45, repeat_end=True), Measure(2, 0.45, 0.9, volta="1"))
    counts = compare_signs(close, signed)
    assert (counts["repeat end"].same, counts["repeat end"].true) == (1, 1)
    assert (counts["ending 2"].same, counts["ending 2"].true) == (0, 1)
    assert (counts["ending 1"].found, counts["ending 1"].true) == (1, 0)
    assert compare_signs(signed, true)["repeat end"].found == 1
    assert compare_signs(Layout(()), signed)["repeat end"].true == 1


def test_repeats_and_endings_are_read_off_the_picture(scorefollow: Run, tmp_path: Path) -> None:
    waltz = load_score(Path(__file__).parent / "data" / "waltz.musicxml")
    assert waltz.layout is not None
    pictures = [tmp_path / f"{i}.png" for i in range(len(waltz.pages))]
    for picture, page in zip(pictures, waltz.pages, strict=True):
        Image.fromarray(page).save(picture)
    done = scorefollow("layout", *pictures)
    assert done.returncode == 0, done.stderr
    counts = compare_signs(Layout.from_json(done.stdout), waltz.layout)
    for name in ("repeat start", "repeat end", "ending 1"):
        assert counts[name].same == counts[name].true == counts[name].found == 1, name
