"""The page encoder's work, once per page: layout, strip, and what block I keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.layout_detection import detect_page
from sf_plugin.score.model import PageImage
from sf_plugin.unet.network import Cells, ScoreUNet, SystemRows


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


@dataclass(frozen=True)
class EncodedPage:
    """One page as the per-frame loop needs it.

    `x` is the centre of every cell as a fraction of the page's width, `system`
    its system on the page from 0, `onset` how likely a note stands there.
    """

    layout: PageLayout
    systems: list[SystemRows]
    grid: tuple[int, int]
    cells: Cells
    x: NDArray[np.float32]
    system: NDArray[np.int32]
    onset: NDArray[np.float32]


class PageEncoder:
    """Runs the unconditioned blocks; `bf16` halves the time where the CPU has it."""

    def __init__(self, net: ScoreUNet, bf16: bool | None = None) -> None:
        self.net = net
        self.bf16 = bf16_is_fast() if bf16 is None else bf16

    @torch.inference_mode()
    def __call__(
        self, image: PageImage, page: int, first_measure: int, known: PageLayout | None = None
    ) -> EncodedPage | None:
        """Encode page `page` (from 1); None where it holds no system."""
        ink = torch.from_numpy(1 - image.astype(np.float32) / 255)[None, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            features = self.net.page.encode(ink.contiguous(memory_format=torch.channels_last))["x"]
            pitch_maps, maps = self.net.pitch_maps(features), self.net.maps(features)
        rows, columns = features.shape[2:]
        if known is None:
            layout = detect_page(torch.sigmoid(maps[0].float()).numpy(), page, first_measure)
        else:
            layout = known
        if not layout.systems:
            return None
        systems = system_rows(layout, rows, columns)
        strip = self.net.strip(features.float(), pitch_maps.float(), systems)
        onset = torch.sigmoid(self.net.strip_pitches(strip)[:, -1])
        return EncodedPage(
            layout,
            systems,
            (rows, columns),
            self.net.read_strip(strip),
            np.concatenate([(np.arange(s.left, s.right) + 0.5) / columns for s in systems]).astype(
                np.float32
            ),
            np.concatenate([np.full(s.right - s.left, i, np.int32) for i, s in enumerate(systems)]),
            onset.numpy(),
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
