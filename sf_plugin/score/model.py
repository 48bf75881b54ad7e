"""A score as the follower sees it: page images, and the layout where it is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import Layout
from sf_plugin.score.structure import Order

if TYPE_CHECKING:
    from sf_plugin.score.symbols import WrittenMeasure

PAGE_WIDTH = 848
"""Working resolution: pages are rendered to this width in pixels (A4: 848 x 1200)."""

PageImage = NDArray[np.uint8]
"""(height, PAGE_WIDTH) grey levels, 0 black, 255 white."""


class Pages(Sequence[PageImage]):
    """Page images by index from 0, rendered when asked for and not kept.

    A 400-page book costs memory only for the pages somebody holds.
    """

    def __init__(self, count: int, render: Callable[[int], PageImage]) -> None:
        self._count = count
        self._render = render

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._render(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"page {index + 1} of {self._count}")
        return self._render(index % self._count)


@dataclass
class Score:
    """A document to follow.

    Attributes:
        name: what to call it in messages and reports.
        pages: images, from 0.
        layout: systems and measures; None until found in the images.
        symbols: the music21 stream it was engraved from, where there is one.
        order: the stretches of measures that will be played, if the user has stated them.
        chosen: indices of the pages to follow; all where None.
        layout_file: where the layout was read from, if it was.
        files: what it was read from; none where it was made in memory.
        written: the measures of a symbolic score given beside the pages.
    """

    name: str
    pages: Sequence[PageImage]
    layout: Layout | None = None
    symbols: Any = field(default=None, repr=False)
    order: Order = ()
    chosen: range | None = None
    layout_file: Path | None = None
    files: tuple[Path, ...] = ()
    written: tuple[WrittenMeasure, ...] = field(default=(), repr=False)

    @property
    def followed(self) -> range:
        """Indices of the pages to follow."""
        return range(len(self.pages)) if self.chosen is None else self.chosen
