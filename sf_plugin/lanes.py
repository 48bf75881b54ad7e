"""A lane for each sink: what one does, or fails to do, disturbs nobody else."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from sf_plugin.controls import Controls
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.positions import Event, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

MOST_WAITING = 400
"""Events that may wait in a lane: ten seconds of positions."""

PATIENCE_SECONDS, CLOSE_SECONDS = 5.0, 300.0
"""A sink that closes for longer is told of after the first, and left behind after the second."""

log = logging.getLogger("sf_plugin")

Work = tuple[Callable[..., None], tuple[object, ...]]


class Lane:
    """A sink that cannot stop the session: what it raises is logged once and drops it.

    With `threaded` it cannot delay the session either: it works in a thread of its own, and
    where it is slower than the events come it misses the oldest positions that wait, and
    never another event while one waits.

    Attributes:
        skipped: positions that it missed.
        live: whether it still works.
    """

    def __init__(self, name: str, sink: Sink, failed: list[str], *, threaded: bool) -> None:
        self.name = name
        self.sink = sink
        self.failed = failed
        self.live = True
        self.skipped = 0
        self._waiting: deque[Work] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"sink {name}", daemon=True)
        self._threaded = threaded
        self._ending = False

    def open(self, score: Score, layout: Layout, controls: Controls) -> None:
        """Open the sink, here and now.

        Raises:
            ScoreFollowerError: it cannot be opened.
        """
        try:
            self.sink.attach(controls)
            self.sink.open(score, layout)
        except ScoreFollowerError:
            raise
        except Exception as error:
            self._drop(error)
        if self._threaded and self.live:
            self._thread.start()

    def extend(self, layout: Layout) -> None:
        self._do(self.sink.extend, layout)

    def emit(self, event: Event) -> None:
        self._do(self.sink.emit, event)

    def end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the sink close after what waits; `__exit__` waits for it."""
        if self._ending:
            return
        self._ending = True
        if not isinstance(error, Exception):
            kind = error = trace = None
        self._do(self._close, kind, error, trace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(kind, error, trace)
        if not self._thread.is_alive():
            return
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            log.warning(
                "'%s' is not done yet: it is waited for, Ctrl-C leaves it behind", self.name
            )
            self._thread.join(CLOSE_SECONDS - PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._report(TimeoutError(f"does not end within {CLOSE_SECONDS:g} s"))

    def _do(self, what: Callable[..., None], *arguments: object) -> None:
        if not self.live:
            return
        if not self._thread.is_alive():
            self._try(what, arguments)
            return
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._make_room()
            self._waiting.append((what, arguments))
            self._changed.notify()

    def _make_room(self) -> None:
        """Forget the oldest position that waits; where none waits, the oldest event."""
        if not self.skipped:
            log.warning("'%s' is slower than the music: it misses positions", self.name)
        self.skipped += 1
        for index, (_, arguments) in enumerate(self._waiting):
            if arguments and isinstance(arguments[0], Position):
                del self._waiting[index]
                return
        self._waiting.popleft()

    def _work(self) -> None:
        while self.live:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                what, arguments = self._waiting.popleft()
            self._try(what, arguments)
            if what == self._close:
                return

    def _try(self, what: Callable[..., None], arguments: tuple[object, ...]) -> None:
        try:
            what(*arguments)
        except Exception as error:
            if what == self._close:
                self._report(error)
            else:
                self._drop(error)

    def _close(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sink.__exit__(kind, error, trace)

    def _drop(self, error: Exception) -> None:
        self._report(error)
        with suppress(Exception):
            self.sink.__exit__(type(error), error, error.__traceback__)

    def _report(self, error: Exception) -> None:
        self.live = False
        self.failed.append(self.name)
        reason = str(error) if isinstance(error, ScoreFollowerError) else repr(error)
        log.error("'%s' failed and is dropped: %s", self.name, reason)
        log.debug("traceback of '%s'", self.name, exc_info=error)
