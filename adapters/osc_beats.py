"""Beats as OSC at a steady rate: the profile `beats` of `--osc`.

    /sf/beat   ,ff    beat tempo             fifty times a second while the music goes
    /sf/pulse  ,iif   measure beat tempo     every quarter note of a measure, from 1

`beat` counts quarter notes from the start of the printed score, `tempo` is in quarter notes a
minute and 0 while the soloist holds.  Each bundle carries as its time tag when this is so,
which is 50 ms after it was sent.  Nothing is sent before the music begins and while the place
is lost.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator

from sf_adapters.clock import DELAY, followed
from sf_plugin.accompaniment.bent_clock import BentClock, Stretch
from sf_plugin.accompaniment.places import timeline
from sf_plugin.positions import Control, Event
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

PERIOD = 0.02
"""Seconds between two messages."""

AHEAD = 0.05
"""Seconds from sending to the time tag."""

Message = tuple[str, str, tuple[int | float | str, ...]]
Send = Callable[[list[Message], float], None]
"""Sends a bundle with a time tag in seconds since 1970."""


class Beats:
    """Sends beats from a thread of its own, until closed."""

    def __init__(self, score: Score, layout: Layout, send: Send) -> None:
        self._soloist = followed(layout, score, None)
        self._clock = BentClock()
        self._bars = [bar.start for bar in self._soloist.music.bars]
        self._send = send
        self._beat = -math.inf
        """The last whole beat that was sent."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="OSC beats", daemon=True)
        self._thread.start()

    def extend(self, layout: Layout) -> None:
        """More of the score was read."""
        self._soloist.music = timeline(layout, 4.0)
        self._bars = [bar.start for bar in self._soloist.music.bars]
        self._soloist.learn(layout)

    def hear(self, event: Event) -> None:
        """An event of the session."""
        self._soloist.hear(event, time.monotonic())
        if isinstance(event, Control) and event.action == "reset":
            self._beat = -math.inf

    def close(self) -> None:
        """Closing twice is harmless."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + PERIOD, time.monotonic())
            self._tell(time.monotonic() + AHEAD, time.time() - time.monotonic())

    def _tell(self, when: float, offset: float) -> None:
        """What will be so at `when`; `offset` from this clock to seconds since 1970."""
        there = self._soloist.at(when + DELAY)
        passed = self._clock.advance(when, there)
        for one in passed:
            if isinstance(one, Stretch):
                for beat, message in self._pulses(one, there.tempo):
                    self._send([message], one.time_of(beat) + offset)
        if self._clock.going:
            tempo = 0.0 if there.going == "holding" else there.tempo
            self._send([("/sf/beat", "ff", (self._clock.beat, tempo))], when + offset)
        else:
            self._beat = -math.inf

    def _pulses(self, stretch: Stretch, tempo: float) -> Iterator[tuple[float, Message]]:
        """The quarter notes of measures that were passed, each once."""
        bar = bisect_right(self._bars, stretch.after + 1e-9) - 1
        if bar < 0:
            return
        start = self._bars[bar]
        count = math.floor(stretch.after - start + 1e-9)
        beat = start + count
        if stretch.before - 1e-9 <= beat and beat != self._beat:
            self._beat = beat
            yield beat, ("/sf/pulse", "iif", (bar + 1, count + 1, tempo))
