from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from sf_plugin.score.layout import PageLayout
from sf_plugin.score.layout_detection import Floats, detect_page, part, peaks

WIDTH, HEIGHT, CELL, SPACE = 640, 900, 4, 7.0
FINE = 3  # how much finer pages are drawn than they are
LEFT, RIGHT = 60.0, 580.0
Point = tuple[float, float]


@dataclass
class Drawing:
    """Systems of staves under one another, drawn level and then turned by `tilt` degrees.

    Attributes:
        systems: for each its number of staves and the places of its bar lines.
        gap: staff spaces between the staves of a system.
        joined: whether the map of systems shows them as one, and the bar lines go through.
    """

    systems: list[tuple[int, list[float]]]
    tilt: float = 0.0
    gap: float = 6.0
    joined: bool = True
    apart: float = 10.0
    thick: float = 1.0

    def __post_init__(self) -> None:
        self.page = Image.new("L", (WIDTH * FINE, HEIGHT * FINE))
        size = WIDTH // CELL, HEIGHT // CELL
        self.maps = [Image.new("L", size) for _ in range(4)]
        y = 100.0
        self.boxes: list[tuple[float, float]] = []
        for staves, bars in self.systems:
            y = self.system(y, staves, bars) + self.apart * SPACE

    def turned(self, x: float, y: float) -> Point:
        angle = np.radians(self.tilt)
        x, y = x - WIDTH / 2, y - HEIGHT / 2
        return (
            float(np.cos(angle) * x + np.sin(angle) * y) + WIDTH / 2,
            float(np.cos(angle) * y - np.sin(angle) * x) + HEIGHT / 2,
        )

    def line(self, a: Point, b: Point, thick: float) -> None:
        ends = [tuple(FINE * part for part in self.turned(*point)) for point in (a, b)]
        ImageDraw.Draw(self.page).line(ends, 255, round(thick * FINE))

    def map(self, number: int, left: float, right: float, top: float, bottom: float) -> None:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        cells = [tuple(part / CELL for part in self.turned(*corner)) for corner in corners]
        ImageDraw.Draw(self.maps[number]).polygon(cells, 255)

    def system(self, top: float, staves: int, bars: list[float]) -> float:
        step = (4 + self.gap) * SPACE
        tops = [top + i * step for i in range(staves)]
        bottom = tops[-1] + 4 * SPACE
        for upper in tops:
            for n in range(5):
                self.line((LEFT, upper + n * SPACE), (RIGHT, upper + n * SPACE), self.thick)
            self.map(1, LEFT, RIGHT, upper, upper + 4 * SPACE)
            if not self.joined:
                self.map(0, LEFT, RIGHT, upper, upper + 4 * SPACE)
            self.head(LEFT + 90, upper + 1.5 * SPACE)
            for x in bars:
                self.line((x, upper), (x, upper + 4 * SPACE), 1.5)
        if staves > 1:
            self.line((LEFT, top), (LEFT, bottom), 1.5)
        for x in bars:
            self.map(2, x - 3, x + 3, top, bottom)
            if self.joined:
                self.line((x, top), (x, bottom), 1.5)
        if self.joined:
            self.map(0, LEFT, RIGHT, top, bottom)
        self.boxes.append((top, bottom))
        return bottom

    def head(self, x: float, y: float) -> None:
        self.line((x - 4, y), (x + 4, y), 5)
        self.line((x + 4, y), (x + 4, y + 3 * SPACE), 1.2)
        self.map(3, x - 4, x + 4, y - 4, y + 4)

    @property
    def ink(self) -> Floats:
        small = self.page.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        return np.asarray(small, np.float32) / np.float32(255)

    @property
    def likely(self) -> Floats:
        return np.stack([np.asarray(each, np.float32) for each in self.maps]) / np.float32(255)

    def found(self, noise: float = 0.0) -> PageLayout:
        rng = np.random.default_rng(0)
        ink = np.clip(self.ink + rng.normal(0, noise, self.ink.shape), 0, 1).astype(np.float32)
        return detect_page(ink, self.likely, 1, 1)

    def check(self, page: PageLayout, within: float) -> None:
        """Systems and measures are the drawn ones; `within` pixels."""
        assert len(page.systems) == len(self.systems)
        for system, (top, bottom), (_, bars) in zip(
            page.systems, self.boxes, self.systems, strict=True
        ):
            middle = (top + bottom) / 2
            assert system.top * HEIGHT == pytest.approx(self.turned(320, top)[1], abs=within + 0.5)
            assert system.bottom * HEIGHT == pytest.approx(
                self.turned(320, bottom)[1], abs=within + 0.5
            )
            edges = [system.left, *(m.right for m in system.measures)]
            expected = [self.turned(x, middle)[0] for x in (LEFT, *bars)]
            np.testing.assert_allclose(np.array(edges) * WIDTH, expected, atol=within)


BARS = [210.0, 300.0, 420.0, RIGHT]


@pytest.mark.parametrize("tilt", [0, 1.5, -3, 3])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("staves", [1, 2, 3, 4])
def test_systems_and_measures_are_found_where_they_are(
    tilt: float, joined: bool, staves: int
) -> None:
    """Where `joined` is false only the line at the left tells that staves belong together."""
    drawing = Drawing([(staves, BARS), (staves, [250.0, RIGHT])][: 6 // staves], tilt, 4, joined)
    drawing.check(drawing.found(), 5)


def test_twelve_staves_are_one_system() -> None:
    drawing = Drawing([(12, BARS)], 0.5, gap=2.5)
    drawing.check(drawing.found(), 5)


def test_noise_moves_nothing_far() -> None:
    drawing = Drawing([(2, BARS), (2, BARS)], -1)
    drawing.check(drawing.found(noise=0.15), 6)


def test_numbering_goes_on_from_the_pages_before() -> None:
    drawing = Drawing([(2, [300.0, RIGHT])])
    page = detect_page(drawing.ink, drawing.likely, 2, 17)
    assert page.page == 2
    assert [m.number for m in page.systems[0].measures] == [17, 18]


def test_a_double_bar_is_one() -> None:
    drawing = Drawing([(2, [300.0, 304.0, RIGHT])])
    assert len(drawing.found().systems[0].measures) == 2


def test_a_bar_line_before_the_first_note_opens_no_measure() -> None:
    opening = Drawing([(2, [LEFT + 50, 300.0, RIGHT])])
    assert len(opening.found().systems[0].measures) == 2
    upbeat = Drawing([(2, [LEFT + 110, 300.0, RIGHT])])
    assert len(upbeat.found().systems[0].measures) == 3


def test_a_missing_last_bar_line_ends_with_the_system() -> None:
    drawing = Drawing([(1, [300.0])])
    (system,) = drawing.found().systems
    assert system.measures[-1].right * WIDTH == pytest.approx(RIGHT, abs=5)
    assert len(system.measures) == 2


def test_what_stands_after_the_last_bar_line_is_no_measure_if_it_is_narrow() -> None:
    drawing = Drawing([(2, [300.0, RIGHT - 25])])
    (system,) = drawing.found().systems
    assert len(system.measures) == 2
    assert system.right * WIDTH == pytest.approx(RIGHT - 25, abs=3)


def test_stems_through_one_staff_are_no_bar_lines() -> None:
    drawing = Drawing([(2, [300.0, RIGHT])])
    top = drawing.boxes[0][0]
    drawing.line((400, top - 10), (400, top + 4 * SPACE), 1.2)
    drawing.map(2, 397, 403, top, top + 4 * SPACE)
    assert len(drawing.found().systems[0].measures) == 2


def test_what_shines_through_is_no_system() -> None:
    drawing = Drawing([(2, BARS), (2, BARS), (1, [RIGHT])])
    ink = drawing.ink
    ink[round(drawing.boxes[2][0]) - 8 :] *= 0.08
    assert len(detect_page(ink, drawing.likely, 1, 1).systems) == 2


def test_a_thick_bar_line_is_seen_without_the_map() -> None:
    drawing = Drawing([(2, [300.0, RIGHT])])
    top, bottom = drawing.boxes[0]
    drawing.line((420, top), (420, bottom), 6)
    assert len(drawing.found().systems[0].measures) == 3
    beam = Drawing([(2, [300.0, RIGHT])])
    beam.line((420, top), (420, top + 4 * SPACE), 6)
    assert len(beam.found().systems[0].measures) == 2


def test_the_key_of_the_next_system_is_no_measure() -> None:
    drawing = Drawing([(2, [300.0, RIGHT - 60])])
    assert len(drawing.found().systems[0].measures) == 2
    drawing.head(RIGHT - 20, drawing.boxes[0][0] + 9)
    assert len(drawing.found().systems[0].measures) == 3


def test_a_faint_staff_is_looked_for_where_the_other_systems_have_one() -> None:
    drawing = Drawing([(2, BARS)] * 3)
    likely = drawing.likely
    middle = round((drawing.boxes[1][0] + drawing.boxes[1][1]) / 2)
    faint = slice(middle // CELL, round(drawing.boxes[1][1]) // CELL + 2)
    likely[1, faint] *= 0.25
    drawing.check(detect_page(drawing.ink, likely, 1, 1), 5)
    alone = Drawing([(2, BARS)])
    likely, faint = alone.likely, slice(round(alone.boxes[0][1] - 4 * SPACE) // CELL - 1, None)
    likely[1, faint] *= 0.25
    (system,) = detect_page(alone.ink, likely, 1, 1).systems
    assert system.bottom * HEIGHT < alone.boxes[0][0] + 5 * SPACE


@pytest.mark.parametrize("tilt", [0, 2])
def test_a_system_ends_under_the_others_where_it_cannot_be_seen(tilt: float) -> None:
    drawing = Drawing([(2, BARS)] * 3, tilt)
    ink, likely = drawing.ink, drawing.likely
    dark = round(drawing.turned(RIGHT - 40, drawing.boxes[1][0])[0])
    rows = slice(round(drawing.boxes[1][0]) - 40, round(drawing.boxes[1][1]) + 40)
    ink[rows, dark:] = 1
    likely[:, rows.start // CELL : rows.stop // CELL, dark // CELL :] = 0
    drawing.check(detect_page(ink, likely, 1, 1), 8)


def test_a_short_last_system_ends_at_its_own_bar_line() -> None:
    drawing = Drawing([(2, BARS)] * 3)
    ink, likely = drawing.ink, drawing.likely
    below = round(drawing.boxes[2][0]) - 20
    ink[below:, 424:] = 0
    likely[:, below // CELL :, 424 // CELL :] = 0
    short = detect_page(ink, likely, 1, 1).systems[2]
    assert short.right * WIDTH == pytest.approx(420, abs=5)


def test_a_broken_line_at_the_left_parts_no_system_of_the_usual_size() -> None:
    drawing = Drawing([(4, BARS)] * 3, gap=3, joined=False, apart=8)
    for top, bottom in drawing.boxes:
        for upper in (top, bottom - 11 * SPACE):
            drawing.map(0, LEFT, RIGHT, upper, upper + 11 * SPACE)
    ink = drawing.ink
    middle = round(sum(drawing.boxes[1]) / 2)
    ink[middle - 3 : middle + 4, round(LEFT) - 4 : round(LEFT) + 5] = 0
    drawing.check(detect_page(ink, drawing.likely, 1, 1), 5)


def test_staves_are_parted_into_systems_of_a_size() -> None:
    def sizes(joins: list[float], usual: int) -> list[int]:
        return part(joins, usual)[1]

    assert sizes([2.4, 0.2, 2.4], 2) == [2, 2]
    assert sizes([2.4, 1.0, 2.4, 0.2, 2.4, 0.6, 2.4], 4) == [4, 4]
    assert sizes([2.4, 0.6, 2.4], 2) == [2, 2]
    assert sizes([0.9, 2.4, 0.2, 2.4], 2) == [1, 2, 2]
    assert sizes([2.4, 2.4, 0.2, 2.4], 2) == [3, 2]
    assert sizes([], 1) == [1]


def test_a_page_without_music_has_no_systems() -> None:
    blank = np.zeros((4, HEIGHT // CELL, WIDTH // CELL), np.float32)
    for ink in (np.zeros((HEIGHT, WIDTH), np.float32), Drawing([(2, BARS)]).ink):
        assert detect_page(ink, blank, 4, 9) == PageLayout(4)


def sound(page: PageLayout, first_measure: int) -> None:
    numbers = [m.number for s in page.systems for m in s.measures]
    assert numbers == list(range(first_measure, first_measure + len(numbers)))
    for above, below in pairwise(page.systems):
        assert above.bottom <= below.top
    for s in page.systems:
        assert 0 <= s.top < s.bottom <= 1
        assert 0 <= s.left < s.right <= 1
        assert s.measures[0].left == s.left
        assert s.measures[-1].right == s.right
        assert all(m.left < m.right for m in s.measures)
        assert all(one.right == after.left for one, after in pairwise(s.measures))


@settings(max_examples=15, deadline=None)
@given(
    staves=st.integers(1, 12),
    tilt=st.floats(-3, 3),
    gap=st.floats(2.5, 4),
    bars=st.lists(st.integers(0, 8), max_size=8, unique=True),
    noise=st.sampled_from([0.0, 0.1]),
)
def test_any_drawn_system_is_found(
    staves: int, tilt: float, gap: float, bars: list[int], noise: float
) -> None:
    places = [200.0 + 40 * bar for bar in sorted(bars)]
    drawing = Drawing([(staves, [*places, RIGHT])], tilt, gap)
    page = drawing.found(noise)
    sound(page, 1)
    drawing.check(page, 6)


BANDS = st.lists(st.tuples(st.integers(0, 59), st.integers(1, 12)), max_size=8)


@settings(max_examples=80, deadline=None)
@given(bands=BANDS, across=BANDS, seed=st.integers(0, 1000), first=st.integers(1, 500))
def test_striped_maps_give_sound_layouts(
    bands: list[tuple[int, int]], across: list[tuple[int, int]], seed: int, first: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = np.zeros((4, 60, 60), np.float32)
    for start, size in bands:
        maps[:2, start : start + size] = rng.uniform(0.3, 1)
    for start, size in across:
        maps[2, :, start : start + size] = 0.8
        maps[1, :, start : start + size] *= 0.4
    ink = rng.random((240, 240)).astype(np.float32) ** 3
    sound(detect_page(ink, maps, 1, first), first)


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.just(4), st.integers(1, 24), st.integers(1, 24)),
        elements=st.floats(0, 1, width=32),
        fill=st.sampled_from([np.float32(0), np.float32(0.6), np.float32(1)]),
    ),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_map_gives_a_sound_layout(maps: Floats, paper: float) -> None:
    ink = np.full((4 * maps.shape[1], 4 * maps.shape[2]), paper, np.float32)
    ink[::3] = 1 - paper
    sound(detect_page(ink, maps, 1, 1), 1)


def test_peaks_are_found_and_apart() -> None:
    profile = np.zeros(30, np.float32)
    profile[[5, 7, 20]] = 0.8, 0.5, 0.9
    assert peaks(profile, 0.35, 4) == [5.0, 20.0]
    assert peaks(profile, 0.85, 4) == [20.0]
    assert peaks(profile, 0.35, 2) == [5.0, 7.0, 20.0]
