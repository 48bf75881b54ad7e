"""From a place on the page to system, measure and beat."""

from __future__ import annotations

from typing import Protocol

from sf_plugin.positions import Estimate, Position
from sf_plugin.score.layout import Layout


class MeasureMapper(Protocol):
    """Turns estimates into positions; keeps what it needs to count passes and tempo."""

    def open(self, layout: Layout) -> None:
        """Before the first estimate of a performance; also starts a new one."""

    def extend(self, layout: Layout) -> None:
        """More of the score was read: the same measures and later ones."""

    def locate(self, estimate: Estimate) -> Position:
        """The position of an estimate; called once per frame in order of time."""
