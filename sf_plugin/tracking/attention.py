"""Which pages of a long document are listened for.

While the place is sure only the pages around it are; the others are again after a
silence, as soon as the place is not sure, and when notes are struck that fit them better.
So a frame costs about the same in a sonata and in a book.
"""

from __future__ import annotations

from collections.abc import Sequence

from sf_plugin.positions import Estimate

REACH = 6
"""Pages with music before and after the present one."""
STEADY = 2.0
"""Seconds of tracking after which the other pages are left alone."""
ASTRAY = 0.5
"""Seconds without tracking after which they are listened for again."""
REST = 1.0
"""The same of silence."""
ELSEWHERE = 0.5
"""Share of the network's belief, when notes are struck, that lies on the other pages and
calls the attention to them."""
MEMORY = 12
"""Frames with a struck note that this is averaged over."""


class Attention:
    """Hears every estimate of a performance; pages count from 1.

    Attributes:
        pages: the first and the last of those with music that are now listened for.
    """

    def __init__(self, pages: Sequence[int]) -> None:
        self._all = list(pages)
        self.reset()

    def reset(self) -> None:
        """Listen for all pages."""
        self.pages = self._all[0], self._all[-1]
        self._same_since: tuple[bool, float] | None = None
        self._quiet_since: float | None = None
        self._elsewhere = 0.0

    @property
    def everywhere(self) -> bool:
        """Whether all pages are listened for."""
        return self.pages == (self._all[0], self._all[-1])

    def glance(self, elsewhere: float) -> None:
        """A note is struck; `elsewhere` is the share of the belief on the other pages."""
        self._elsewhere += (elsewhere - self._elsewhere) / MEMORY

    def extend(self, pages: Sequence[int]) -> None:
        """More pages have been read: all of them, in order."""
        everywhere = self.everywhere
        self._all = list(pages)
        if everywhere:
            self.pages = self._all[0], self._all[-1]

    def hear(self, estimate: Estimate, *, quiet: bool = False) -> bool:
        """Whether other pages are listened for from now on."""
        waiting = estimate.state == "waiting" and not estimate.confidence
        if len(self._all) <= 2 * REACH + 1 or waiting:
            return False
        before, time = self.pages, estimate.time
        sure = estimate.state == "tracking" and self._elsewhere < ELSEWHERE
        if self._same_since is None or self._same_since[0] != sure:
            self._same_since = sure, time
        self._quiet_since = (self._quiet_since or time) if quiet else None
        lasted = time - self._same_since[1]
        rested = self._quiet_since is not None and time - self._quiet_since >= REST
        if rested or self._elsewhere >= ELSEWHERE or (not sure and lasted >= ASTRAY):
            self.pages = self._all[0], self._all[-1]
            self._same_since, self._elsewhere = (False, time), 0.0
        elif sure and lasted >= STEADY:
            self.look_around(estimate.page)
        return self.pages != before

    def look_around(self, page: int) -> None:
        """Listen for the pages around one, unless enough of them are listened for already."""
        end = len(self._all) - 1
        at = min(range(len(self._all)), key=lambda i: abs(self._all[i] - page))
        first, last = (self._all.index(edge) for edge in self.pages)
        edge = (first > 0 and at - first < REACH // 2) or (last < end and last - at < REACH // 2)
        if edge or last - first > 2 * REACH:
            self.pages = self._all[max(at - REACH, 0)], self._all[min(at + REACH, end)]
