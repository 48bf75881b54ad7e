from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sf_plugin.score.staff_lines import find_lines

HEIGHT, WIDTH, CELL = 400, 640, 4
LEFT, RIGHT = 60, 588  # pixels, of the system
Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass
class Page:
    """A system of staves under one another whose lines rise by `tilt` degrees and bow upwards.

    `space` and `bow` are in pixels.
    """

    space: float
    staves: int = 2
    tilt: float = 0.0
    bow: float = 0.0
    ink: Floats = field(default_factory=lambda: np.zeros((HEIGHT, WIDTH), np.float32))

    def __post_init__(self) -> None:
        for staff in range(self.staves):
            for line in range(5):
                self.stroke(LEFT, RIGHT, staff, 2 * line, max(1.0, 0.13 * self.space))

    def y(self, x: np.ndarray | float, staff: int, step: float) -> np.ndarray:
        """The pixel row of a step; 0 is a staff's bottom line, 8 its top line."""
        away = (np.asarray(x) - WIDTH / 2) / (WIDTH / 2)
        course = -np.tan(np.radians(self.tilt)) * away * WIDTH / 2 + self.bow * away**2
        first = HEIGHT / 2 + (4.5 * self.staves - 2.5 + 0.37) * self.space
        return first - (9 * (self.staves - 1 - staff) + step / 2) * self.space + course

    def stroke(self, left: int, right: int, staff: int, step: float, thick: float) -> None:
        """Ink along a step, as dark at its edges as it covers a pixel."""
        y = self.y(np.arange(left, right) + 0.5, staff, step)
        away = np.abs(np.arange(HEIGHT)[:, None] + 0.5 - y)
        part = self.ink[:, left:right]
        np.maximum(part, np.clip((thick + 1) / 2 - away, 0, 1), out=part)

    def music(self, rng: np.random.Generator) -> Page:
        """Note heads with stems and ledger lines, and beams."""
        for staff in range(self.staves):
            for x in range(LEFT + 30, RIGHT - 30, round(2.5 * self.space)):
                step = int(rng.integers(-5, 14))
                half = round(0.65 * self.space)
                self.stroke(x - half, x + half, staff, step, 0.9 * self.space)
                for ledger in (*range(-2, step - 1, -2), *range(10, step + 1, 2)):
                    self.stroke(x - 2 * half, x + 2 * half, staff, ledger, 1.0)
                if rng.random() < 0.3:
                    last = min(RIGHT, x + round(5 * self.space))
                    self.stroke(x, last, staff, rng.uniform(-4, 12), 0.5 * self.space)
                head, end = (self.y(x, staff, s) for s in (step, step + rng.choice([-7, 7])))
                top, bottom = sorted((int(head), int(end)))
                self.ink[top:bottom, x + half] = 1
        return self

    @property
    def truth(self) -> Floats:
        """(staves, 2, columns) top and bottom lines over the cells."""
        x = CELL * (np.arange(WIDTH // CELL) + 0.5)
        return np.array(
            [[self.y(x, s, 8), self.y(x, s, 0)] for s in range(self.staves)], np.float32
        )

    @property
    def likely(self) -> Floats:
        """The map of a perfect page encoder."""
        row = np.arange(HEIGHT // CELL)[:, None]
        on = np.zeros((HEIGHT // CELL, WIDTH // CELL), np.float32)
        for top, bottom in np.round(self.truth / CELL):
            on[(row >= top) & (row < bottom)] = 1
        on[:, : LEFT // CELL] = on[:, RIGHT // CELL :] = 0
        return on

    @property
    def box(self) -> Box:
        """Of the system, in cells, at the mean height of its outer lines."""
        outer = self.truth[:, :, LEFT // CELL : RIGHT // CELL] / CELL
        return float(outer[0, 0].mean()), float(outer[-1, 1].mean()), LEFT / CELL, RIGHT / CELL

    def errors(self) -> Floats:
        """(staves, 2, columns of the system) staff spaces between what is found and the truth."""
        found = find_lines(self.ink, self.likely, self.box)
        assert found.shape == self.truth.shape
        inside = slice(LEFT // CELL, RIGHT // CELL)
        return np.abs(found - self.truth)[:, :, inside] / self.space


def faded(page: Page, rng: np.random.Generator) -> Page:
    """A third of the ink is left, and a quarter of the lines is gone in pieces of 20 pixels."""
    gone = np.kron(rng.random((HEIGHT // 2, WIDTH // 20)) < 0.25, np.ones((2, 20)))
    page.ink *= np.where(gone, 0, 0.35).astype(np.float32)
    return page


def noisy(page: Page, rng: np.random.Generator) -> Page:
    spoilt = page.ink + rng.normal(0, 0.15, page.ink.shape)
    page.ink = np.clip(spoilt, 0, 1).astype(np.float32)
    return page


SPACES = (5.0, 6.3, 8.0, 10.0)


@pytest.mark.parametrize("staves", [1, 2, 3])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("tilt", "bow"), [(0, 0), (2, 0), (-2, 0), (0, 1.5), (1, -1)])
def test_lines_are_found_level_slanted_and_bowed(
    space: float, staves: int, tilt: float, bow: float
) -> None:
    """`bow` in staff spaces."""
    assert Page(space, staves, tilt, bow * space).errors().max() < 0.25


@pytest.mark.parametrize("tilt", [0, 1.5])
@pytest.mark.parametrize("space", SPACES)
def test_lines_are_found_under_music_and_wear(space: float, tilt: float) -> None:
    worn, fair = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        page = Page(space, 1 + seed % 3, tilt, 0.5 * space).music(rng)
        fair.append(page.errors().ravel())
        page = faded(Page(space, 1 + seed % 3, tilt, 0.5 * space), rng).music(rng)
        worn.append(noisy(page, rng).errors().ravel())
    assert (np.concatenate(fair) < 0.25).mean() > 0.97
    assert (np.concatenate(worn) < 0.25).mean() > 0.9


def test_a_wrong_count_in_some_stretches_is_outvoted() -> None:
    page = Page(8, 2, 1).music(np.random.default_rng(0))
    likely = page.likely
    lower = slice(HEIGHT // CELL // 2, None)
    likely[lower, 20:40] = 0  # no lower staff
    likely[: HEIGHT // CELL // 2 + 15, 80:105] = 1  # both in one
    found = find_lines(page.ink, likely, page.box)
    inside = slice(LEFT // CELL, RIGHT // CELL)
    assert found.shape == page.truth.shape
    assert (np.abs(found - page.truth)[:, :, inside] < 0.25 * 8).all()


def test_an_empty_map_gives_no_staves() -> None:
    page = Page(8)
    none = find_lines(page.ink, np.zeros_like(page.likely), page.box)
    assert none.shape == (0, 2, WIDTH // CELL)


def test_stretches_that_disagree_have_a_course() -> None:
    """The lines lie half a space higher than the map says on one half, lower on the other."""
    page = Page(8, 1)
    half = WIDTH // 2
    page.ink[:-4, :half] = page.ink[4:, :half].copy()
    page.ink[4:, half:] = page.ink[:-4, half:].copy()
    found = find_lines(page.ink, page.likely, page.box)
    assert np.abs(found - page.truth).max() < 8


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    bands=st.integers(1, 12),
    ends=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_any_map_and_box_give_finite_courses(
    seed: int, size: tuple[int, int], bands: int, ends: tuple[float, float, float, float]
) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = size
    likely = np.repeat(rng.random((rows // bands + 1, columns)), bands, 0)[:rows]
    ink = rng.random((4 * rows, 4 * columns)).astype(np.float32)
    top, bottom, left, right = ends
    box = (top * rows, bottom * rows, left * columns, right * columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines = find_lines(ink, likely.astype(np.float32), box)
    assert lines.shape[1:] == (2, columns)
    assert lines.dtype == np.float32
    assert np.isfinite(lines).all()
