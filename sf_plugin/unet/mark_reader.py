"""Reads da capo, dal segno, segno, coda and fine above, below and between the staves.

A small network looks over the whole page, made so large that a staff space is always
as high, and says of every cell what stands there.  Then each system is gone along,
above it, below it and between its staves: what stands side by side is one mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from sf_plugin.errors import WeightsError
from sf_plugin.score.layout import Measure, PageLayout
from sf_plugin.score.staves import level, runs
from sf_plugin.unet.staff_reader import CELL_PIXELS, Staves

SHIPPED = Path(__file__).with_name("marks.safetensors")
NONE = "none"
MORE = "more"
"""What belongs to a da capo or a dal segno: "al Fine"."""
KINDS = (NONE, "segno", "coda", "to coda", "da capo", "dal segno", "fine", MORE)
BEGINS = "segno", "coda"
"""Kinds that stand where a measure begins; the others stand where one ends."""
BACK = "da capo", "dal segno"
"""Kinds that more may belong to."""
SPACE = 6.0
"""Pixels of a staff space where marks are read."""
CELL = 4, 8
"""Rows and columns of pixels that a cell has."""
REACH = 8.0
"""Staff spaces from a system to a mark above or below it, at most."""
SEEN = 0.5
"""Probability from which a cell shows a mark."""
GAP = 1
"""Columns of cells between two words of a mark."""
LEAST = 1.2
"""Columns of cells that a mark has at least, each counted by its probability."""
SURE = 0.85
"""Mean probability from which a mark counts."""
PURE = 0.7
"""Least share of its columns that show it, or what belongs to it: other words show all sorts."""
BESIDE = 2.5
"""Staff spaces before a bar line from which a segno or coda belongs to the measure after it,
and beside one where a da capo or a fine ends that belongs to the measure before it."""

CLOSE = 1.5
"""Staff spaces beside a bar line at which words begin that are about the measure before it."""

Floats = NDArray[np.float32]


def scaled(ink: Floats, space: float) -> Floats:
    """(height, width) ink, levelled, at `SPACE` pixels a staff space instead of `space`.

    Height and width are those of whole cells.
    """
    rows, columns = (
        max(round(side * SPACE / space / cell), 1)
        for side, cell in zip(ink.shape, CELL, strict=True)
    )
    image = torch.from_numpy(level(ink))[None, None]
    size = rows * CELL[0], columns * CELL[1]
    small = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
    out: Floats = small[0, 0].numpy()
    return out


@dataclass(frozen=True)
class Mark:
    """What was read: one of `KINDS`, and where, in pixel columns of the page."""

    kind: str
    left: float
    right: float
    sure: float


class MarkReader(nn.Module):
    """Convolutions over the page that see further along than up and down, as words do."""

    def __init__(self) -> None:
        super().__init__()
        plan = (
            # channels, kernel, stride, dilation
            (16, (5, 5), (2, 2), (1, 1)),
            (24, (3, 3), (2, 2), (1, 1)),
            (32, (3, 3), (1, 2), (1, 1)),
            (40, (3, 3), (1, 1), (1, 1)),
            (40, (3, 3), (1, 1), (1, 2)),
            (40, (1, 3), (1, 1), (1, 3)),
        )
        layers: list[nn.Module] = []
        before = 1
        for channels, kernel, stride, dilation in plan:
            padding = kernel[0] // 2 * dilation[0], kernel[1] // 2 * dilation[1]
            layers += [
                nn.Conv2d(before, channels, kernel, stride, padding, dilation, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            before = channels
        self.look = nn.Sequential(*layers)
        self.show = nn.Conv2d(before, len(KINDS), 1)

    def forward(self, ink: Tensor) -> Tensor:
        """(pages, 1, height, width) to (pages, kinds, height / 4, width / 8) logits."""
        logits: Tensor = self.show(self.look(ink))
        return logits

    @torch.inference_mode()
    def read(self, ink: Tensor, staves: Staves, page: PageLayout, bf16: bool = False) -> PageLayout:
        """The page with the marks of its measures.

        Args:
            ink: (1, 1, height, width), paper 0.
            staves: of the page, those of a system from top to bottom.
            page: its systems and measures.
            bf16: whether to count in bfloat16.
        """
        if not len(staves.system):
            return page
        space = float((staves.lines[:, 1] - staves.lines[:, 0]).median()) / 4
        if not space > 1:
            return page
        image = torch.from_numpy(scaled(ink[0, 0].numpy(), space))[None, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = self(image.contiguous(memory_format=torch.channels_last))
        shown = logits[0].float().softmax(0).numpy()
        height, width = ink.shape[2:]
        marks: list[tuple[int, Mark]] = []
        before: list[tuple[int, Mark]] = []
        for number, rows in bands(staves, page, height):
            here = [(number, mark) for mark in find_marks(shown, rows, height, width)]
            here = once(before, here)
            marks, before = [*marks, *before], here
        marks += before
        return with_marks(page, marks, width, space)


def bands(staves: Staves, page: PageLayout, height: int) -> Iterator[tuple[int, Floats]]:
    """Where marks may stand: a system's number and (2, columns) pixel rows, top and bottom.

    Above the first staff, between staves and below the last, up to half-way to the
    next system; columns are block H's.
    """
    lines, system = staves.lines.numpy(), staves.system.numpy()
    of_system = [lines[system == number] for number in range(len(page.systems))]
    reach = REACH * float(np.median(lines[:, 1] - lines[:, 0])) / 4
    for number, own in enumerate(of_system):
        if not len(own):
            continue
        before = of_system[number - 1] if number else own[:0]
        after = of_system[number + 1] if number + 1 < len(of_system) else own[:0]
        first, last = own[0, 0], own[-1, 1]
        top, bottom = first - reach, last + reach
        if len(before):
            top = np.maximum(top, (before[-1, 1] + first) / 2)
        if len(after):
            bottom = np.minimum(bottom, (after[0, 0] + last) / 2)
        edges = [top, *own.reshape(-1, lines.shape[2]), bottom]
        for upper, lower in zip(edges[::2], edges[1::2], strict=True):
            yield number, np.clip(np.stack([upper, lower]), 0, height)


def find_marks(shown: Floats, band: Floats, height: int, width: int) -> list[Mark]:
    """The marks of a band from left to right.

    Args:
        shown: (kinds, rows, columns) probabilities.
        band: (2, columns of block H's grid) pixel rows.
        height, width: of the page in pixels.
    """
    _, rows, columns = shown.shape
    at = (np.arange(columns) + 0.5) * (width / columns)
    cell = np.clip((at / CELL_PIXELS).astype(int), 0, band.shape[1] - 1)
    top, bottom = np.round(band[:, cell] * (rows / height)).astype(int)
    first, last = int(top.min()), int(bottom.max())
    if last - first < 2:
        return []
    row = np.arange(first, last)[:, None]
    inside = np.where((row >= top) & (row < bottom), shown[:, first:last], 0)
    # a mark is two cells high at least
    likely = ((inside[:, :-1] + inside[:, 1:]) / 2).max(1)
    seen = likely[1:].max(0) > SEEN
    best = np.where(seen, likely[1:].argmax(0), -1)
    for first, last in runs(~seen):
        if last - first <= GAP and first > 0 and last < columns:
            seen[first:last] = True
    marks = []
    for first, last in runs(seen):
        here = likely[1:-1, first:last]
        kind = int(np.argmax(here.sum(1)))
        told = best[first:last]
        own = here[kind][told == kind]
        pure = np.isin(told[told >= 0], [kind, len(here)] if KINDS[1 + kind] in BACK else [kind])
        if own.sum() >= LEAST and own.mean() >= SURE and pure.mean() >= PURE:
            left, right = first * width / columns, last * width / columns
            marks.append(Mark(KINDS[1 + kind], left, right, float(own.mean())))
    return marks


def once(before: list[tuple[int, Mark]], here: list[tuple[int, Mark]]) -> list[tuple[int, Mark]]:
    """A band's marks without those that are known from the band before.

    What stands half-way between two systems is seen from both; the surer sight counts, and
    the other is taken out of its list.
    """
    kept = []
    for number, mark in here:
        twin = next(
            (
                (other, known)
                for other, known in before
                if other != number and known.kind == mark.kind
                and known.left < mark.right and mark.left < known.right
            ),
            None,
        )  # fmt: skip
        if twin is None or mark.sure > twin[1].sure:
            kept.append((number, mark))
            if twin is not None:
                before.remove(twin)
    return kept


def with_marks(
    page: PageLayout, marks: Sequence[tuple[int, Mark]], width: int, space: float
) -> PageLayout:
    """The page's measures with the marks of each system; `space` in pixels."""
    signs: dict[int, list[str]] = {}
    starts = np.cumsum([0, *(len(system.measures) for system in page.systems)]).tolist()
    for number, mark in marks:
        measures = page.systems[number].measures
        if measures:
            place = measure_of(measures, mark, width, space)
            sign = mark.kind
            if sign == "to coda":  # leads away from where it ends; the sign begins what is left out
                sign, place = "coda", place + 1
            place = min(starts[number] + place, starts[-1] - 1)
            signs.setdefault(place, []).append(sign)
    every = iter(
        replace(measure, signs=tuple(dict.fromkeys(signs.get(number, measure.signs))))
        for number, measure in enumerate(m for system in page.systems for m in system.measures)
    )
    systems = tuple(
        replace(system, measures=tuple(islice(every, len(system.measures))))
        for system in page.systems
    )
    return replace(page, systems=systems)


def measure_of(measures: Sequence[Measure], mark: Mark, width: int, space: float) -> int:
    """Which measure of a system, from 0, a mark belongs to.

    What stands where a measure begins, belongs to that in which its middle lies or at
    which it stands.  What stands where one ends, belongs to that at whose end it ends or
    begins, over whose end it goes, or in which it lies; before a repeat sign that it ends in
    front of, to the measure that this ends.
    """
    left = np.array([measure.left for measure in measures]) * width
    right = np.array([measure.right for measure in measures]) * width
    middle = (mark.left + mark.right) / 2
    if mark.kind in BEGINS:
        return max(int(np.searchsorted(left, middle + BESIDE * space, side="right")) - 1, 0)
    ends = int(np.abs(right - mark.right).argmin())
    if abs(right[ends] - mark.right) < BESIDE * space:
        return ends
    inside = min(int(np.searchsorted(right, mark.right)), len(measures) - 1)
    if measures[inside].repeat_end and left[inside] < middle:
        return inside
    begun = int(np.abs(right - mark.left).argmin())
    if abs(right[begun] - mark.left) < CLOSE * space:
        return begun
    crossed = np.flatnonzero((right > mark.left) & (right < mark.right))
    if len(crossed):
        return int(crossed[-1])
    return min(int(np.searchsorted(right, middle)), len(measures) - 1)


def load_reader(path: Path = SHIPPED) -> MarkReader:
    """The reader of `path`.

    Raises:
        WeightsError: the file is missing, damaged or another network's.
    """
    reader = MarkReader()
    try:
        tensors = load_file(path)
        reader.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), "unreadable")
        raise WeightsError(
            f"{path}: not the weights of a reader of marks ({reason}): reinstall sf-plugin or "
            "train them (docs/training.md)"
        ) from None
    return reader.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
