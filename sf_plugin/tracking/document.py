"""The document as one row of cells in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import PageLayout


class PageCells(Protocol):
    """What a page gives to the row: see `sf_plugin.unet.pages.EncodedPage`."""

    @property
    def layout(self) -> PageLayout: ...
    @property
    def x(self) -> NDArray[np.float32]: ...
    @property
    def system(self) -> NDArray[np.int32]: ...
    @property
    def onset(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class DocumentCells:
    """All cells of all pages, (cells,) each.

    Attributes:
        page: from 1.
        system: within the document, from 0.
        x: centre, fraction of the page's width.
        y: middle of its system, fraction of the page's height.
        onset: how likely a note stands there.
        starts: (systems,) first cell of every system.
    """

    page: NDArray[np.int32]
    system: NDArray[np.int32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    onset: NDArray[np.float32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of_pages(cls, pages: Sequence[PageCells]) -> DocumentCells:
        page, system, y = [], [], []
        first = 0
        for p in pages:
            middles = np.array([(s.top + s.bottom) / 2 for s in p.layout.systems], np.float32)
            page.append(np.full(len(p.x), p.layout.page, np.int32))
            system.append(p.system + first)
            y.append(middles[p.system])
            first += len(p.layout.systems)
        systems = np.concatenate(system)
        return cls(
            np.concatenate(page),
            systems,
            np.concatenate([p.x for p in pages]),
            np.concatenate(y),
            np.concatenate([p.onset for p in pages]),
            np.searchsorted(systems, np.arange(first)),
        )

    def nearest(self, page: int, x: float, y: float) -> int:
        """The cell nearest to a point; the page first, then the system, then x."""
        away = np.abs(self.page - page) * 1e4 + np.abs(self.y - y) * 1e2 + np.abs(self.x - x)
        return int(np.argmin(away))
