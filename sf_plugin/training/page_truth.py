"""What stands where on a training page: systems, bar lines, staves and their notes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper import Warp
from sf_plugin.score.layout import PageLayout, System
from sf_plugin.unet.staff_reader import (
    ALTERATIONS,
    CELL_PIXELS,
    CLEFS,
    KEYS,
    LOWEST,
    STEPS,
    Staves,
    natural,
    start_columns,
)

ALONG = 9
"""Points that a staff line's course is known at."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Places on the page to cells of block H's grid over the canvas that it was put on."""

    warp: Warp
    rows: int
    columns: int

    def cells(self, x: np.ndarray, y: np.ndarray) -> tuple[Array, Array]:
        """Fractions of the page, any shape, to columns and rows."""
        x, y = self.warp.points(x, y)
        return np.asarray(x * self.columns, float), np.asarray(y * self.rows, float)


@dataclass(frozen=True)
class Course:
    """How the upper and the lower edges of boxes run: (boxes, ALONG) columns and rows."""

    top_x: Array
    top_y: Array
    bottom_x: Array
    bottom_y: Array

    @classmethod
    def of(cls, boxes: np.ndarray, left: np.ndarray, right: np.ndarray, grid: Grid) -> Course:
        """Of rows with "top" and "bottom", between `left` and `right`."""
        x = left[:, None] + np.linspace(0, 1, ALONG) * (right - left)[:, None]
        y = np.stack([boxes["top"], boxes["bottom"]])[:, :, None]
        columns, rows = grid.cells(*np.broadcast_arrays(x[None].astype(float), y))
        return cls(columns[0], rows[0], columns[1], rows[1])

    def fill(self, out: NDArray[np.bool_]) -> None:
        """Set what lies between the edges in a (rows, columns) map."""
        height, width = out.shape
        for top_x, top_y, bottom_x, bottom_y in zip(
            self.top_x, self.top_y, self.bottom_x, self.bottom_y, strict=True
        ):
            first = max(0, round((top_x[0] + bottom_x[0]) / 2))
            last = min(width, round((top_x[-1] + bottom_x[-1]) / 2))
            column = np.arange(first, last) + 0.5
            top = np.round(np.interp(column, top_x, top_y))
            bottom = np.round(np.interp(column, bottom_x, bottom_y))
            low, high = max(0, int(top_y.min()) - 1), min(height, int(bottom_y.max()) + 2)
            row = np.arange(low, high)[:, None]
            out[low:high, first:last] |= (row >= top) & (row < bottom)


def shaken(course: Course, grid: Grid, rng: np.random.Generator) -> PageLayout:
    """Systems as a detector might give them: upright boxes, a few pixels off.

    A tilted or bent system's box lies at the mean heights of its outer staff lines.
    """
    off = rng.uniform(-3 / CELL_PIXELS, 3 / CELL_PIXELS, (4, len(course.top_x)))
    tops = (course.top_y.mean(1) + off[0]) / grid.rows
    bottoms = (course.bottom_y.mean(1) + off[1]) / grid.rows
    lefts, rights = (
        ((course.top_x[:, end] + course.bottom_x[:, end]) / 2 + off[2 + i]) / grid.columns
        for i, end in enumerate((0, -1))
    )
    boxes = np.stack([tops, bottoms, lefts, rights], 1).tolist()
    return PageLayout(1, tuple(System(*box) for box in boxes))


def page_maps(piece: Engraving, here: np.ndarray, course: Course, grid: Grid) -> np.ndarray:
    """(3, rows, columns) bool: systems, staves and bar lines of the systems `here`."""
    maps = np.zeros((3, grid.rows, grid.columns), bool)
    course.fill(maps[0])
    systems = piece.systems
    staves = piece.staves[np.isin(piece.staves["system"], here)]
    if len(staves):
        around = systems[staves["system"]]
        Course.of(staves, around["left"], around["right"], grid).fill(maps[1])
    bars = piece.bars[np.isin(piece.bars["system"], here)]
    if len(bars):
        around = systems[bars["system"]]
        x, y = grid.cells(
            np.stack([bars["x"]] * 2, 1), np.stack([around["top"], around["bottom"]], 1)
        )
        along = np.linspace(0, 1, grid.rows)
        first, last = np.round(y).T[:, :, None]
        rows = np.minimum(np.round(first + along * (last - first)), last - 1)
        columns = x[:, :1] + along * np.diff(x)
        maps[
            2,
            np.clip(rows, 0, grid.rows - 1).astype(int),
            np.clip(columns, 0, grid.columns - 1).astype(int),
        ] = True
    return maps


@dataclass(frozen=True)
class StaffTruth:
    """What stands on a page's staves; -100 where it is unknown or nothing.

    Attributes:
        lines, system, start: as `Staves` has them, the lines a little off.
        heads: (heads, 4) staff, step from `LOWEST`, column, whether a note begins there.
        alterations: (heads,) index into `ALTERATIONS`.
        clefs: (staves, columns) index into `CLEFS`.
        keys: (staves, columns) index into `KEYS`.
    """

    lines: Tensor
    system: Tensor
    start: Tensor
    heads: Tensor
    alterations: Tensor
    clefs: Tensor
    keys: Tensor

    @property
    def staves(self) -> Staves:
        """Where they are."""
        return Staves(self.lines, self.system, self.start)

    def to(self, device: torch.device) -> StaffTruth:
        """All of it on a device."""
        return StaffTruth(**{name: value.to(device) for name, value in vars(self).items()})


BOTTOM_LINES = {
    "treble": 30, "bass": 18, "alto": 24, "tenor": 22, "soprano": 28, "mezzosoprano": 26,
    "baritone": 20, "french": 32,
}  # fmt: skip
"""What the bottom line is called under a clef, as in `CLEFS`."""
OTTAVAS = (0, 7, -7)
"""Letters that a bracket over the staff adds to its notes."""


def bottom_line(clef: str) -> int:
    """The letter of the bottom line under a SIGN's clef; -1 where it is not known."""
    name = clef.split("_")[0].split("^")[0]
    octave = 7 * (("^8" in clef) - ("_8" in clef))
    return BOTTOM_LINES[name] + octave if name in BOTTOM_LINES else -1


def staff_truth(
    piece: Engraving, here: np.ndarray, notes: np.ndarray, grid: Grid, rng: np.random.Generator
) -> StaffTruth:
    """The staves of the systems `here` and the `notes` of their page."""
    numbers = np.flatnonzero(np.isin(piece.staves["system"], here))
    staves = piece.staves[numbers]
    around = piece.systems[staves["system"]]
    course = Course.of(staves, around["left"], around["right"], grid)
    centre = np.arange(grid.columns) + 0.5
    lines = np.zeros((len(staves), 2, grid.columns), np.float32)
    for i in range(len(staves)):
        space = np.mean(course.bottom_y[i] - course.top_y[i]) / 4
        for line, x, y in ((0, course.top_x[i], course.top_y[i]),
                           (1, course.bottom_x[i], course.bottom_y[i])):  # fmt: skip
            off = space * (rng.normal(0, 0.05) + rng.normal(0, 0.04, ALONG))
            lines[i, line] = np.interp(centre, x, y + off) * CELL_PIXELS
    first = np.searchsorted(piece.staves["system"], np.arange(len(piece.systems)))
    unknown = np.full((len(staves), grid.columns), -100)
    clefs, keys = unknown.copy(), unknown.copy()
    letters = np.full(len(notes), -1)
    index = np.full(len(piece.staves) + 1, -1)
    index[numbers] = np.arange(len(numbers))
    staff = index[np.where(notes["staff"] >= 0, first[notes["system"]] + notes["staff"], -1)]
    signs = piece.signs[np.isin(piece.signs["system"], here) & (piece.signs["staff"] >= 0)]
    signs = signs[np.argsort(signs["x"], kind="stable")]
    sign_columns = grid.cells(signs["x"], signs["y"])[0]
    for sign, column in zip(signs, np.clip(sign_columns, 0, None).astype(int), strict=True):
        row = index[first[sign["system"]] + sign["staff"]]
        if sign["kind"] == "clef":
            letter = bottom_line(str(sign["value"]))
            clefs[row, column:] = letter - CLEFS.start if letter in CLEFS else -100
            if not (keys[row] >= 0).any():
                keys[row, column:] = -KEYS.start
            letters[(staff == row) & (notes["x"] > sign["x"] - 0.005)] = letter
        elif sign["kind"] == "key" and int(sign["value"]) in KEYS:
            keys[row, column:] = int(sign["value"]) - KEYS.start
    good = np.flatnonzero(staff >= 0)
    line = staves[staff[good]]
    step = np.round((line["bottom"] - notes["y"][good]) / (line["bottom"] - line["top"]) * 8)
    row = step.astype(int) - LOWEST
    good, row = good[(row >= 0) & (row < STEPS)], row[(row >= 0) & (row < STEPS)]
    column = np.clip(grid.cells(notes["x"][good], notes["y"][good])[0], 0, grid.columns - 1)
    column = column.astype(int)
    alterations = np.full(len(good), -100)
    for k, note in enumerate(notes[good]):
        for ottava in OTTAVAS:
            letter = letters[good[k]] + ottava
            away = int(note["pitch"]) - natural(letter + LOWEST + int(row[k]))
            if letter in CLEFS and away in ALTERATIONS:
                alterations[k] = away - ALTERATIONS.start
                if ottava:
                    clefs[staff[good[k]], column[k]] = letter - CLEFS.start
                break
    heads = np.stack([staff[good], row, column, ~notes["tied"][good]], 1)
    left = np.clip(course.top_x[:, 0], 0, grid.columns - 1).astype(np.int64)
    first_note = np.full(len(piece.systems), grid.columns)
    fresh = notes[~notes["tied"]]
    places = grid.cells(fresh["x"], fresh["y"])[0].astype(int)
    np.minimum.at(first_note, fresh["system"], places)
    start = start_columns(left, first_note[staves["system"]])
    return StaffTruth(
        torch.from_numpy(lines),
        torch.from_numpy((staves["system"] - here[0]).astype(np.int64)),
        torch.from_numpy(start),
        torch.from_numpy(heads.astype(np.int64)),
        torch.from_numpy(alterations.astype(np.int64)),
        torch.from_numpy(clefs.astype(np.int64)),
        torch.from_numpy(keys.astype(np.int64)),
    )
