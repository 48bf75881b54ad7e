"""The document as one row of onsets in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import PageLayout
from sf_plugin.tracking.twins import Pairs, kinds


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
    @property
    def twins(self) -> Pairs: ...


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
        measure: within the document, from 1; never falls, and is 0 before the first.
        kind: the same number where the same is printed before and after: see
            `sf_plugin.tracking.twins`.
    """

    page: NDArray[np.int32]
    system: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    beats: NDArray[np.float32]
    opens: NDArray[np.bool_]
    measure: NDArray[np.int64]
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of_pages(cls, pages: Sequence[PageOnsets]) -> DocumentOnsets:
        page, system, y, opens, measure = [], [], [], [], []
        first = 0
        for p in pages:
            middles = np.array([(s.top + s.bottom) / 2 for s in p.layout.systems], np.float32)
            page.append(np.full(len(p.x), p.layout.page, np.int32))
            system.append(p.system + first)
            y.append(middles[p.system])
            opens.append(opens_measure(p))
            measure.append(measure_numbers(p))
            first += len(p.layout.systems)
        return cls(
            np.concatenate(page),
            np.concatenate(system),
            np.concatenate([p.x for p in pages]),
            np.concatenate(y),
            np.concatenate([p.beats for p in pages]),
            np.concatenate(opens),
            np.maximum.accumulate(np.concatenate(measure)),
            kinds(sum(len(p.x) for p in pages), [p.twins for p in pages]),
        )

    def part(self, onsets: slice) -> DocumentOnsets:
        """Some of them in a row."""
        return DocumentOnsets(*(getattr(self, field.name)[onsets] for field in fields(self)))

    def nearest(self, page: int, x: float, y: float) -> int:
        """The onset nearest to a point; the page first, then the system, then x."""
        away = np.abs(self.page - page) * 1e4 + np.abs(self.y - y) * 1e2 + np.abs(self.x - x)
        return int(np.argmin(away))


def opens_measure(page: PageOnsets) -> NDArray[np.bool_]:
    """(onsets,) whether no other stands between it and the bar line before it."""
    bar = np.stack([page.system, measure_numbers(page)])
    opens = np.ones(len(page.x), bool)
    opens[1:] = (bar[:, 1:] != bar[:, :-1]).any(0)
    return opens


def measure_numbers(page: PageOnsets) -> NDArray[np.int64]:
    """(onsets,) the measure that each is in, or 0; what stands before the first is in it."""
    numbers = np.zeros(len(page.x), np.int64)
    for index, system in enumerate(page.layout.systems):
        mine = page.system == index
        if system.measures:
            edges = [measure.left for measure in system.measures[1:]]
            found = np.searchsorted(edges, page.x[mine], side="right")
            numbers[mine] = np.array([m.number for m in system.measures])[found]
    return numbers
