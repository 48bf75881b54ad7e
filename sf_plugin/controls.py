"""What the receivers of a session may ask of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.errors import ScoreError
from sf_plugin.positions import Action, Control
from sf_plugin.score.layout import Layout
from sf_plugin.score.structure import measures_of

MOST_WISHES = 100
"""Wishes that may wait; of more, the oldest are forgotten."""

HOLD_SECONDS = 0.3
"""A peak of the level falls to half in this time."""


@dataclass(frozen=True, slots=True)
class Level:
    """How loud the sound is; full scale 1.0.

    Attributes:
        rms: of the last block.
        peak: of the last blocks, falling.
    """

    rms: float = 0.0
    peak: float = 0.0


class Controls:
    """Wishes to a running session, from any thread; heeded with the next sound.

    Every wish that is heeded is told to all receivers as a `Control` event.

    Attributes:
        layout: systems and measures read so far; empty before the session is open.
        shown: the page that is shown, counted from 1.
        paused: whether the session hears silence instead of the sound.
        level: how loud the sound is now, also while paused.
        seconds: audio heard so far.
        dropped_seconds: audio lost so far.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.layout = Layout(())
        self.shown = 1
        self.paused = False
        self.level = Level()
        self.seconds = 0.0
        self.dropped_seconds = 0.0
        self._wishes: deque[Control] = deque(maxlen=MOST_WISHES)

    def show(self, page: int) -> None:
        """Turn to a page, and look for the music there.

        Raises:
            ScoreError: there is no such page.
        """
        if not 1 <= page <= self.pages:
            raise ScoreError(f"there is no page {page} to show: the score has {self.pages} pages")
        self._wish("show", page=page)

    def next_page(self) -> None:
        """Turn to the page after the one shown; nothing happens at the last."""
        self.show(min(self._wanted + 1, self.pages))

    def previous_page(self) -> None:
        """Turn to the page before the one shown; nothing happens at the first."""
        self.show(max(self._wanted - 1, 1))

    @property
    def _wanted(self) -> int:
        """The page that will be shown when the wishes that wait are heeded."""
        pages = [wish.page for wish in list(self._wishes) if wish.page is not None]
        return pages[-1] if pages else self.shown

    def goto(self, measure: int) -> None:
        """The music is in this measure now, counted from 1 in reading order.

        Raises:
            ScoreError: there is no such measure on the pages read so far.
        """
        for page in self.layout.pages:
            for system in page.systems:
                for one in system.measures:
                    if one.number == measure:
                        y = (system.top + system.bottom) / 2
                        self._wish("goto", page=page.page, x=one.left, y=y, measure=measure)
                        return
        count = len(measures_of(self.layout))
        raise ScoreError(f"there is no measure {measure}: the pages read have {count} measures")

    def point(self, page: int, x: float, y: float) -> None:
        """The music is at this place now; fractions of the page from the top left.

        Raises:
            ScoreError: there is no such place.
        """
        if not (1 <= page <= self.pages and 0 <= x <= 1 and 0 <= y <= 1):
            raise ScoreError(f"there is no place {x:g}, {y:g} on page {page}")
        self._wish("goto", page=page, x=float(x), y=float(y))

    def reset(self) -> None:
        """A new performance begins."""
        self._wish("reset")

    def pause(self) -> None:
        """Hear silence until `resume`."""
        self._wish("pause")

    def resume(self) -> None:
        """Hear the sound again."""
        self._wish("resume")

    def stop(self) -> None:
        """End the session."""
        self._wish("stop")

    def wish(self, control: Control) -> None:
        """Ask for what another session heeded, as a replay does."""
        self._wishes.append(control)

    def _wish(self, action: Action, **where: float | int | None) -> None:
        self._wishes.append(Control(time=0.0, action=action, **where))  # type: ignore[arg-type]

    # the session's side

    def taken(self) -> Iterator[Control]:
        """The wishes that wait, each once."""
        while self._wishes:
            yield self._wishes.popleft()

    def hear(self, block: NDArray[np.float32], rate: int) -> None:
        """Note how loud a block of (n,) samples is."""
        if not len(block):
            return
        fall = 0.5 ** (len(block) / rate / HOLD_SECONDS)
        peak = float(np.abs(block).max())
        rms = float(np.sqrt(np.square(block).mean()))
        self.level = Level(rms, max(peak, self.level.peak * fall))
