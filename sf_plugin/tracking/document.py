"""The document as one row of onsets in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import PageLayout


class PageOnsets(Protocol):
    """What a page gives to the row: see `sf_plugin.unet.pages.EncodedPage`."""

    @property
    def layout(self) -> PageLayout: ...
    @property
    def x(self) -> NDArray[np.float32]: ...
    @property
    def system(self) -> NDArray[np.int64]: ...
    @property
    def beats(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class DocumentOnsets:
    """All places of all pages where notes begin, (onsets,) each.

    Attributes:
        page: from 1.
        system: within the document, from 0.
        x: fraction of the page's width.
        y: middle of its system, fraction of the page's height.
        beats: quarter notes until the next.
        opens: whether it is the first of its measure.
    """

    page: NDArray[np.int32]
    system: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    beats: NDArray[np.float32]
    opens: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of_pages(cls, pages: Sequence[PageOnsets]) -> DocumentOnsets:
        page, system, y, opens = [], [], [], []
        first = 0
        for p in pages:
            middles = np.array([(s.top + s.bottom) / 2 for s in p.layout.systems], np.float32)
            page.append(np.full(len(p.x), p.layout.page, np.int32))
            system.append(p.system + first)
            y.append(middles[p.system])
            opens.append(opens_measure(p))
            first += len(p.layout.systems)
        return cls(
            np.concatenate(page),
            np.concatenate(system),
            np.concatenate([p.x for p in pages]),
            np.concatenate(y),
            np.concatenate([p.beats for p in pages]),
            np.concatenate(opens),
        )

    def nearest(self, page: int, x: float, y: float) -> int:
        """The onset nearest to a point; the page first, then the system, then x."""
        away = np.abs(self.page - page) * 1e4 + np.abs(self.y - y) * 1e2 + np.abs(self.x - x)
        return int(np.argmin(away))


def opens_measure(page: PageOnsets) -> NDArray[np.bool_]:
    """(onsets,) whether no other stands between it and the bar line before it."""
    opens = np.ones(len(page.x), bool)
    for number, system in enumerate(page.layout.systems):
        mine = np.flatnonzero(page.system == number)
        measure = np.searchsorted([m.left for m in system.measures], page.x[mine], side="right")
        opens[mine[1:]] = measure[1:] > measure[:-1]
    return opens
