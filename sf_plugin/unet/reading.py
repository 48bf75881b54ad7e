"""Reads a document's pages: all at once, or the later ones while following goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event, Thread

import torch

from sf_plugin.errors import ScoreError
from sf_plugin.followers import Reading
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.tracking.twins import TwinFinder
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.pages import EncodedPage, PageEncoder

log = logging.getLogger("sf_plugin")

Pages = list[tuple[int, EncodedPage]]
"""Indices and pages with music."""

SHARE = 8
"""Pages are taken in by this part of those read, at least one: what that costs grows
with them."""


class PageReader:
    """Reads the pages of a score in order, numbers their measures, and notes what comes again.

    Raises:
        ScoreError: the score's layout is another score's.
    """

    def __init__(self, net: ScoreUNet, score: Score) -> None:
        self._encoder = PageEncoder(net)
        self._score = score
        self._known = score.layout.pages if score.layout is not None else None
        self._measures = 0
        self._twins = TwinFinder()
        if self._known is not None and len(self._known) != len(score.pages):
            raise ScoreError(
                f"{score.name}: the layout has {len(self._known)} pages, the score "
                f"{len(score.pages)}: is it another score's layout?"
            )

    def read(self, index: int) -> EncodedPage | None:
        """The next page; None where there is no music on it.

        Raises:
            ScoreError: it cannot be rendered.
        """
        known = self._known[index] if self._known is not None else None
        page = self._encoder(self._score.pages[index], index + 1, self._measures + 1, known)
        if page is None:
            return None
        self._measures += sum(len(system.measures) for system in page.layout.systems)
        return replace(page, twins=self._twins.add(page.pitches))


class LaterPages(Reading):
    """Reads on in a thread; what it has read is taken in when the follower asks for more.

    A page that cannot be read is left out with a warning.

    Args:
        layout: of what has been read already.
        reader: of the pages.
        indices: of those to read.
        take_in: called in the follower's own thread; gives the larger layout.
    """

    def __init__(
        self,
        layout: Layout,
        reader: PageReader,
        indices: Sequence[int],
        take_in: Callable[[Pages], Layout],
    ) -> None:
        super().__init__(layout)
        self._reader = reader
        self._indices = indices
        self._take_in = take_in
        self._found: SimpleQueue[tuple[int, EncodedPage]] = SimpleQueue()
        self._waiting: Pages = []
        self._taken = sum(bool(page.systems) for page in layout.pages)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="page reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        torch.set_num_threads(1)
        for index in self._indices:
            if self._stop.is_set():
                return
            try:
                page = self._reader.read(index)
            except Exception as error:
                log.warning("page %d is left out: %s", index + 1, error)
                continue
            if page is not None:
                self._found.put((index, page))

    def more(self) -> Layout | None:
        done = not self._thread.is_alive()
        while True:
            try:
                self._waiting.append(self._found.get_nowait())
            except Empty:
                break
        if not self._waiting or (not done and len(self._waiting) < self._taken // SHARE):
            return None
        return self._take(len(self._waiting))

    def until(self, page: int) -> Layout:
        while not any(index + 1 >= page for index, _ in self._waiting):
            try:
                self._waiting.append(self._found.get(timeout=0.1))
            except Empty:
                if not self._thread.is_alive() and self._found.empty():
                    break
        ready = sum(index < page for index, _ in self._waiting)
        return self._take(ready) if ready else self.layout

    def _take(self, count: int) -> Layout:
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self.layout = self._take_in(taken)
        self._taken += count
        self.through = taken[-1][0] + 1
        return self.layout

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
