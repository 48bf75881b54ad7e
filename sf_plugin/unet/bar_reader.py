"""Reads bar lines for repeat signs, and what stands above a system for endings.

Small straight windows are cut out of the page: of every staff around a bar line,
and above the top staff from a bar line to the right.  At a system's start, where a
sign stands behind clef and key, they are tried one after another up to the first note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sf_plugin.score.layout import Measure, PageLayout
from sf_plugin.unet.norms import in_float
from sf_plugin.unet.staff_reader import CELL_PIXELS, Staves

BARS = ("none", "plain", "double", "final", "start", "end", "both")
"""What a bar line may be; the last three are repeat signs."""
ENDINGS = ("none", "1", "2", "on")
"""What may stand above a bar line: no ending, one that begins, one that goes on."""
ALONG = 1.0
"""Staff spaces between two windows at a system's start or end."""
AT_END = 3
"""Windows at a system's end."""
NEAR = 4.0
"""Staff spaces before a system's first onset in which an ending begins."""
APART = 2.0
"""Staff spaces from one bar line to the next at least."""
SURE = 0.5
"""Probability from which a sign counts."""
REACH = 4
"""Columns of the grid to both sides over which a staff's slope is measured."""


@dataclass(frozen=True)
class Spots:
    """Places where bar lines cross staves, each (spots,).

    Attributes:
        x: pixel column.
        y: pixel row of the staff's middle.
        slope: of the staff, rows a column.
        space: pixels between two staff lines.
    """

    x: Tensor
    y: Tensor
    slope: Tensor
    space: Tensor

    @classmethod
    def on(cls, staves: Staves, staff: Tensor, x: Tensor) -> Spots:
        """On (spots,) staves, where bar lines at `x` half-way down their systems cross them.

        A bar line stands at a right angle to the staves.
        """
        upper, lower = outer(staves)
        slope = _slope(staves.lines, staff, x)
        middle = (_height(staves.lines, upper[staff], 0, x)
                  + _height(staves.lines, lower[staff], 1, x)) / 2  # fmt: skip
        y = (_height(staves.lines, staff, 0, x) + _height(staves.lines, staff, 1, x)) / 2
        at = x - slope * (y - middle)
        top, bottom = _height(staves.lines, staff, 0, at), _height(staves.lines, staff, 1, at)
        return cls(at, (top + bottom) / 2, slope, ((bottom - top) / 4).clamp(min=1))

    def __getitem__(self, some: Tensor) -> Spots:
        return Spots(self.x[some], self.y[some], self.slope[some], self.space[some])


def outer(staves: Staves) -> tuple[Tensor, Tensor]:
    """(staves,) the first and the last staff of each one's system; staves are in order."""
    same = staves.system[:, None] == staves.system[None]
    number = torch.arange(len(same), device=same.device).expand_as(same)
    upper = torch.where(same, number, len(same)).amin(1)
    return upper, torch.where(same, number, -1).amax(1)


def _height(lines: Tensor, staff: Tensor, line: int, x: Tensor) -> Tensor:
    """Pixel rows of the top (0) or bottom (1) lines of (spots,) staves at pixel columns `x`."""
    last = lines.shape[2] - 1
    at = (x / CELL_PIXELS - 0.5).clamp(0, last)
    low = at.floor().long()
    part = at - low
    first, second = lines[staff, line, low], lines[staff, line, (low + 1).clamp(max=last)]
    return first * (1 - part) + second * part


def _slope(lines: Tensor, staff: Tensor, x: Tensor) -> Tensor:
    far = REACH * CELL_PIXELS
    rise = sum(
        _height(lines, staff, line, x + far) - _height(lines, staff, line, x - far)
        for line in (0, 1)
    )
    return torch.as_tensor(rise) / (4 * far)


@dataclass(frozen=True)
class Window:
    """A part of the page beside a spot, in staff spaces to the right and down from it.

    Attributes:
        pixels: a staff space.
    """

    left: float
    right: float
    top: float
    bottom: float
    pixels: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.bottom - self.top, self.right - self.left
        return round(height * self.pixels), round(width * self.pixels)

    def cut(self, ink: Tensor, spots: Spots) -> Tensor:
        """(1, 1, height, width) ink to (spots, 1, *shape), turned as the staff is."""
        height, width = self.shape
        down = self.top + (torch.arange(height, device=ink.device) + 0.5) / self.pixels
        across = self.left + (torch.arange(width, device=ink.device) + 0.5) / self.pixels
        x, y, slope, space = (
            v[:, None, None].float() for v in (spots.x, spots.y, spots.slope, spots.space)
        )
        column = x + space * (across[None, None] - slope * down[None, :, None])
        row = y + space * (down[None, :, None] + slope * across[None, None])
        scale = column.new_tensor([ink.shape[3], ink.shape[2]])
        grid = torch.stack([column, row], 3) / scale * 2 - 1
        # all spots' windows below one another, so that the page is not repeated
        out = F.grid_sample(ink, grid.reshape(1, -1, width, 2), align_corners=False)
        return out.reshape(-1, 1, height, width)


AT_BAR = Window(-3.0, 3.0, -3.6, 3.6, 5)
ABOVE = Window(-2.0, 10.0, -14.0, -2.0, 4)


class Glance(nn.Module):
    """Three convolutions over a window, and what it shows."""

    def __init__(self, window: Window, classes: int, channels: int = 24) -> None:
        super().__init__()
        self.window = window
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(1, 12, 5, 2, padding=2),
                nn.Conv2d(12, channels, 3, 2, padding=1),
                nn.Conv2d(channels, channels, 3, 2, padding=1),
            ]
        )
        self.norms = nn.ModuleList([nn.GroupNorm(4, c) for c in (12, channels, channels)])
        height, width = (-(-side // 8) for side in window.shape)
        self.enter = nn.Linear(channels * height * width, 32)
        self.show = nn.Linear(32, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """(windows, 1, height, width), ink 1, to (windows, classes) logits."""
        x = windows
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.elu(in_float(norm, conv(x)))
        logits: Tensor = self.show(F.elu(self.enter(x.flatten(1))))
        return logits


@dataclass(frozen=True)
class Edges:
    """Where windows are looked at: (places,) pixel columns, and what they belong to.

    Attributes:
        system: on the page, from 0.
        edge: of all measures' edges on the page, from 0; several where one is searched for.
        above: whether an ending may begin or go on there.
    """

    x: NDArray[np.float32]
    system: NDArray[np.int64]
    edge: NDArray[np.int64]
    above: NDArray[np.bool_]


class BarReader(nn.Module):
    """Repeat signs at bar lines and endings above them."""

    def __init__(self) -> None:
        super().__init__()
        self.bar = Glance(AT_BAR, len(BARS))
        self.ending = Glance(ABOVE, len(ENDINGS))

    def forward(self, ink: Tensor, staves: Staves, edges: Edges) -> tuple[Tensor, Tensor]:
        """(1, 1, height, width) ink to (places, bars) and (places, endings) probabilities.

        All staves of a system have a say in what a bar line is; an ending stands above
        the first.  Zeros where nothing is looked at.
        """
        system, x = torch.from_numpy(edges.system), torch.from_numpy(edges.x)
        place, staff = torch.nonzero(system[:, None] == staves.system[None], as_tuple=True)
        spots = Spots.on(staves, staff, x[place])
        told = self.bar(AT_BAR.cut(ink, spots)).log_softmax(1)
        count = torch.bincount(place, minlength=len(x))[:, None]
        total = told.new_zeros(len(x), len(BARS)).index_add(0, place, told)
        bars = (total / count.clamp(min=1)).softmax(1) * (count > 0)
        top = torch.from_numpy(edges.above)[place]
        top[1:] &= place[1:] != place[:-1]
        endings = told.new_zeros(len(x), len(ENDINGS))
        endings[place[top]] = self.ending(ABOVE.cut(ink, spots[top])).softmax(1)
        return bars, endings

    @torch.inference_mode()
    def read(
        self, ink: Tensor, staves: Staves, page: PageLayout, first: NDArray[np.int64]
    ) -> PageLayout:
        """The page with its repeat signs and endings.

        Args:
            ink: (1, 1, height, width), paper 0.
            staves: of the page, those of a system from top to bottom.
            page: its systems and measures.
            first: (systems,) column of the first onset in each, on block H's grid.
        """
        if not len(staves.system):
            return page
        edges = find_edges(staves, page, first, ink.shape[3])
        bars, endings = (told.numpy() for told in self(ink, staves, edges))
        return with_signs(page, edges, bars, endings)


def find_edges(staves: Staves, page: PageLayout, first: NDArray[np.int64], width: int) -> Edges:
    """Left edges of all measures and the right edge of each system's last, in reading order.

    A system's first is looked for from its left to its first onset, an ending only
    close before that; its last inside the system's end, where a sign has its dots.
    """
    places: list[tuple[float, int, int, bool]] = []
    edge = 0
    for number, system in enumerate(page.systems):
        space = _space(staves, number)
        onset = (first[number] + 0.5) * CELL_PIXELS
        for i, measure in enumerate(system.measures):
            left = measure.left * width
            if i == 0:
                last = max(left, min(onset, measure.right * width - APART * space))
                tried = [*np.arange(left, last, ALONG * space).tolist(), last]
                places += [(x, number, edge, x >= last - NEAR * space) for x in tried]
            else:
                places.append((left, number, edge, True))
            edge += 1
        if system.measures:
            right = system.measures[-1].right * width
            places += [(right - i * ALONG * space, number, edge, False) for i in range(AT_END)]
            edge += 1
    x, system_of, edge_of, above = np.array(places, float).reshape(-1, 4).T
    return Edges(
        x.astype(np.float32), system_of.astype(np.int64), edge_of.astype(np.int64), above > 0
    )


def _space(staves: Staves, system: int) -> float:
    """Mean staff space of a system in pixels; of a usual staff where it has none."""
    lines = staves.lines[staves.system == system]
    return max(float((lines[:, 1] - lines[:, 0]).mean()) / 4, 2.0) if len(lines) else 6.0


def with_signs(
    page: PageLayout,
    edges: Edges,
    bars: NDArray[np.float32],
    endings: NDArray[np.float32],
) -> PageLayout:
    """The page's measures with the signs that (places, …) probabilities tell.

    An ending lasts as long as its bracket goes on over the next bar line.
    """
    count = int(edges.edge.max(initial=-1)) + 1
    start, end = np.zeros(count), np.zeros(count)
    both = bars[:, BARS.index("both")]
    np.maximum.at(start, edges.edge, bars[:, BARS.index("start")] + both)
    np.maximum.at(end, edges.edge, bars[:, BARS.index("end")] + both)
    above = np.zeros((count, len(ENDINGS)), np.float32)
    np.maximum.at(above, edges.edge, endings)
    edge, volta = 0, None
    read: list[Measure] = []
    for system in page.systems:
        for measure in system.measures:
            volta = next_ending(above[edge], volta)
            opens, closes = bool(start[edge] > SURE), bool(end[edge + 1] > SURE)
            read.append(replace(measure, repeat_start=opens, repeat_end=closes, volta=volta))
            edge += 1
        edge += bool(system.measures)
    rest = iter(believable(read))
    systems = [
        replace(system, measures=tuple(islice(rest, len(system.measures))))
        for system in page.systems
    ]
    return replace(page, systems=tuple(systems))


def believable(measures: Sequence[Measure]) -> list[Measure]:
    """A page's measures without first endings that no repeat ends and second ones after no first.

    What the page cuts off is believed.
    """
    out: list[Measure] = []
    for volta, run in groupby(measures, key=lambda measure: measure.volta):
        same = list(run)
        fits = True
        if volta == "1":
            fits = same[-1].repeat_end or len(out) + len(same) == len(measures)
        elif volta == "2":
            fits = not out or out[-1].volta == "1"
        out += same if fits else [replace(measure, volta=None) for measure in same]
    return out


def next_ending(likely: Sequence[float] | NDArray[np.float32], before: str | None) -> str | None:
    """The ending of a measure from `ENDINGS` above its left edge and the ending before it."""
    best = ENDINGS[1 + int(np.argmax(likely[1:]))]
    if max(likely[1:]) <= SURE:
        return None
    return before if best == "on" else best
