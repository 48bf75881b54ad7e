"""The page encoder's work, once per page: layout, strip, and what block I keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.layout_detection import detect_page
from sf_plugin.score.model import PageImage
from sf_plugin.score.staff_lines import find_lines
from sf_plugin.tracking.twins import Pairs
from sf_plugin.unet.mark_reader import load_reader
from sf_plugin.unet.network import Onsets, ScoreUNet, SystemRows
from sf_plugin.unet.staff_reader import PITCHES, Staves, cut_out, start_columns

NOTE = 0.3
"""Probability from which a note begins in a cell."""
APART = 2
"""Cells between the centres of two note heads at least."""


def system_rows(layout: PageLayout, rows: int, columns: int) -> list[SystemRows]:
    """A page's systems on block H's grid of `rows` x `columns` cells.

    Each reaches up and down by seven tenths of its height, at most half-way into
    the gap to its neighbours, so that ledger lines are inside.
    """
    systems = layout.systems
    out = []
    for i, system in enumerate(systems):
        top, bottom = system.top * rows, system.bottom * rows
        reach = min(0.7 * (bottom - top), 0.05 * rows)
        above = (top - systems[i - 1].bottom * rows) / 2 if i else top
        below = (systems[i + 1].top * rows - bottom) / 2 if i + 1 < len(systems) else rows - bottom
        first = int(np.clip(top - min(reach, max(above, 2)), 0, rows - 2))
        last = int(np.clip(np.ceil(bottom + min(reach, max(below, 2))), first + 1, rows))
        left = int(np.clip(system.left * columns, 0, columns - 2))
        right = int(np.clip(np.ceil(system.right * columns), left + 1, columns))
        out.append(SystemRows(first, last, left, right))
    return out


def find_onsets(likely: NDArray[np.float32], systems: list[SystemRows]) -> NDArray[np.int64]:
    """Cells of the strip where notes begin, in order; at least one in every system.

    `likely` is (cells,) the probability of it; of maxima within `APART` cells the
    greatest counts.
    """
    found = []
    start = 0
    for system in systems:
        row = likely[start : start + system.right - system.left]
        before, after = np.append(0, row[:-1]), np.append(row[1:], 0)
        tops = np.flatnonzero((row > before) & (row >= after) & (row > NOTE))
        kept = np.zeros(len(row) + 2 * APART, bool)
        for top in tops[np.argsort(-row[tops], kind="stable")]:
            around = kept[top : top + 2 * APART + 1]
            around[APART] = not around.any()
        inside = np.flatnonzero(kept[APART : APART + len(row)])
        found.append(start + (inside if len(inside) else np.array([int(np.argmax(row))])))
        start += len(row)
    return np.concatenate(found).astype(np.int64)


def strip_places(cells: Tensor, systems: list[SystemRows]) -> tuple[Tensor, Tensor]:
    """(onsets,) cells of the strip to their systems, from 0, and columns on the page's grid."""
    widths = torch.tensor([s.right - s.left for s in systems], device=cells.device)
    left = torch.tensor([s.left for s in systems], device=cells.device)
    ends = widths.cumsum(0)
    system = torch.searchsorted(ends, cells, right=True)
    return system, cells - (ends - widths)[system] + left[system]


@dataclass(frozen=True)
class EncodedPage:
    """One page as the per-frame loop needs it.

    Attributes:
        systems: their rows and columns on `grid`.
        onsets: what block I keeps.
        at: (onsets,) their columns on `grid`.
        system: (onsets,) on the page, from 0.
        beats: (onsets,) quarter notes until the next.
        twins: (pairs, 2) onsets that read alike, of this page or earlier ones, numbered
            in the document.
    """

    layout: PageLayout
    systems: list[SystemRows]
    grid: tuple[int, int]
    onsets: Onsets
    at: NDArray[np.int64]
    system: NDArray[np.int64]
    beats: NDArray[np.float32]
    twins: Pairs = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    @property
    def pitches(self) -> NDArray[np.float32]:
        """(onsets, 88) what begins there, of about unit length."""
        return np.asarray(self.onsets.key[:, -PITCHES:].numpy(), np.float32)

    @property
    def x(self) -> NDArray[np.float32]:
        """(onsets,) fractions of the page's width."""
        return ((self.at + 0.5) / self.grid[1]).astype(np.float32)


class PageEncoder:
    """Runs the unconditioned blocks; `bf16` halves the time where the CPU has it."""

    def __init__(self, net: ScoreUNet, bf16: bool | None = None) -> None:
        self.net = net
        self.bf16 = bf16_is_fast() if bf16 is None else bf16
        self.marks = load_reader()

    @torch.inference_mode()
    def __call__(
        self, image: PageImage, page: int, first_measure: int, known: PageLayout | None = None
    ) -> EncodedPage | None:
        """Encode page `page` (from 1); None where it holds no system."""
        ink = ink_of(image)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            features = self.net.page.encode(ink.contiguous(memory_format=torch.channels_last))["x"]
            pitch_maps, maps = self.net.pitch_maps(features), self.net.maps(features)
        rows, columns = features.shape[2:]
        if known is None:
            likely_maps = probabilities(maps, pitch_maps)
            layout = detect_page(ink[0, 0].numpy(), likely_maps, page, first_measure)
        else:
            layout = known
        if not layout.systems:
            return None
        systems = system_rows(layout, rows, columns)
        strip = self.net.strip(features.float(), pitch_maps, systems)
        likely = torch.sigmoid(self.net.strip_pitches(strip)[:, -1]).numpy()
        cells = torch.from_numpy(find_onsets(likely, systems))
        system, at = strip_places(cells, systems)
        first = np.full(len(systems), columns)
        np.minimum.at(first, system.numpy(), at.numpy())
        likely = torch.sigmoid(maps[0, 1].float()).numpy()
        staves = find_staves(ink[0, 0].numpy(), likely, layout, first)
        if known is None:
            layout = self.net.bars.read(ink, staves, layout, first)
            layout = self.marks.read(ink, staves, layout, self.bf16)
        pitches = self._read(ink, staves, layout, system, at)
        onsets, length = self.net.read_onsets(strip, cells, pitches)
        return EncodedPage(
            layout,
            systems,
            (rows, columns),
            onsets,
            at.numpy(),
            system.numpy(),
            np.exp2(length.numpy()),
        )

    def _read(
        self, ink: Tensor, staves: Staves, page: PageLayout, system: Tensor, column: Tensor
    ) -> Tensor:
        """(onsets, 88) how likely each pitch begins at (onsets,) systems and columns."""
        if not len(staves.system):
            return torch.zeros(len(column), PITCHES)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            reading = self.net.staff(
                cut_out(ink, staves.lines), staves.start, measure=measures(staves, page)
            )
        return self.net.staff.pitches(reading, staves, system, column)


def measures(staves: Staves, page: PageLayout) -> Tensor:
    """(staves, columns) a number for the measure that each column of a staff is in.

    Where a system's measures are not known every column has its own.
    """
    column = np.arange(staves.lines.shape[2])
    rows = [
        np.searchsorted([m.left * len(column) for m in system.measures], column + 0.5)
        if system.measures
        else column
        for system in page.systems
    ]
    return torch.from_numpy(np.stack(rows))[staves.system]


def ink_of(image: PageImage) -> Tensor:
    """(1, 1, height, width), paper 0."""
    ink = image.astype(np.float32)
    ink /= -255
    ink += 1
    return torch.from_numpy(ink)[None, None]


def probabilities(maps: Tensor, pitch_maps: Tensor) -> NDArray[np.float32]:
    """(4, rows, columns) of systems, staves, bar lines and note heads, from a page's logits."""
    logits = torch.cat([maps[0], pitch_maps[0].amax(0, keepdim=True)])
    likely: NDArray[np.float32] = torch.sigmoid(logits.float()).numpy()
    return likely


@torch.inference_mode()
def page_maps(net: ScoreUNet, image: PageImage, bf16: bool) -> NDArray[np.float32]:
    """What `detect_page` asks of a page."""
    ink = ink_of(image)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = net.page.encode(ink.contiguous(memory_format=torch.channels_last))["x"]
        return probabilities(net.maps(features), net.pitch_maps(features))


def find_staves(
    ink: NDArray[np.float32],
    likely: NDArray[np.float32],
    page: PageLayout,
    first: NDArray[np.int64],
) -> Staves:
    """The staves of a page's systems.

    Args:
        ink: (height, width), paper 0.
        likely: (rows, columns) how likely a cell of block H's grid lies on a staff.
        page: its systems.
        first: (systems,) column of the first onset in each.
    """
    rows, columns = likely.shape
    boxes = [
        (s.top * rows, s.bottom * rows, s.left * columns, s.right * columns) for s in page.systems
    ]
    found = [find_lines(ink, likely, box) for box in boxes]
    system = np.repeat(np.arange(len(found)), [len(lines) for lines in found])
    left = np.array([int(box[2]) for box in boxes])
    return Staves(
        torch.from_numpy(np.concatenate(found)),
        torch.from_numpy(system),
        torch.from_numpy(start_columns(left[system], first[system])),
    )


def bf16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    capability = torch.backends.cpu.get_cpu_capability()
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "AVX512" in capability and any(
        bool(getattr(torch.cpu, name, lambda: False)()) for name in checks
    )


def document_layout(pages: list[EncodedPage | None]) -> Layout:
    """All pages' layouts as one; a page without systems keeps its number."""
    return Layout(
        tuple(
            page.layout if page is not None else PageLayout(i + 1) for i, page in enumerate(pages)
        )
    )
