"""The interface of everything that receives events."""

from __future__ import annotations

from abc import ABC
from types import TracebackType
from typing import Self

from sf_plugin.controls import Controls
from sf_plugin.positions import Event
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score


class Sink(ABC):
    """Receives every event of a session, in order.

    A context manager; closing twice is harmless.  While the music is live, every sink
    has a thread of its own, in which `extend`, `emit` and `close` are called; one that is
    slower than the music misses positions, and nothing else.
    """

    def attach(self, controls: Controls) -> None:
        """Before `open`: what this receiver may ask of the session, from any thread."""

    def open(self, score: Score, layout: Layout) -> None:
        """Before the first event.

        Raises:
            SinkError: the receiver cannot be reached or written.
        """

    def extend(self, layout: Layout) -> None:
        """More of the score was read: the same measures and later ones."""

    def emit(self, event: Event) -> None:
        """One event."""

    def close(self) -> None:
        """After the last event, also when the session fails."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
