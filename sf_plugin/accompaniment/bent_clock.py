"""A clock in quarter notes, bent towards where the soloist is predicted to be."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from sf_plugin.accompaniment.prediction import Prediction

STEP_SECONDS = 0.01
"""Longest time between two looks at the prediction."""

SAME = 1e-3
"""Quarter notes below which two moments are one."""

JUST_MISSED = 0.1
"""Quarter notes that a beat may be past to be the next one still."""


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """How the clock is bent.

    Attributes:
        bend: most relative speed below the soloist's tempo, to wait.
        rush: the same above it, to catch up.
        settle: seconds in which a difference would be caught up without that bound.
        slew: most change of relative speed a second.
        leap: quarter notes of difference from which it is not caught up but left out.
        late: quarter notes that may be late when the music begins.
    """

    bend: float = 0.4
    rush: float = 1.0
    settle: float = 0.08
    slew: float = 60.0
    leap: float = 1.0
    late: float = 0.3


STEADY = ClockSettings(bend=0.15, rush=0.15, settle=0.6, slew=1.5)
"""For receivers that follow the tempo rather than the notes."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The clock goes at a time from a moment; what is before `entry` is left out."""

    time: float
    beat: float
    entry: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """The clock went evenly from one moment to another; `holding` waits for the soloist."""

    begin: float
    end: float
    before: float
    after: float
    holding: bool

    def time_of(self, beat: float) -> float:
        """Seconds at which a moment within was passed."""
        span = self.after - self.before
        share = (beat - self.before) / span if span > 0 else 0.0
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)


@dataclass(frozen=True, slots=True)
class Stop:
    """The clock stands and does not know where."""

    time: float


class BentClock:
    """Says how the clock went as time passes and the soloist is heard.

    It never goes back, nor beyond the prediction's limit.  It begins with the soloist at
    once, and again at the next beat of a bar.

    Args:
        bars: moments at which bars begin, rising.
        settings: how it is bent.

    Attributes:
        beat: quarter notes from the start.
        speed: quarter notes a second.
        going: whether it has begun and not stopped.
    """

    def __init__(self, bars: Sequence[float] = (), settings: ClockSettings | None = None) -> None:
        self.settings = settings or ClockSettings()
        self.beat = 0.0
        self.speed = 0.0
        self.going = False
        self._bars = bars
        self._time: float | None = None
        self._begun = False

    def advance(self, time: float, soloist: Prediction) -> list[Begin | Stretch | Stop]:
        """What came to pass until `time`, knowing where the soloist is then."""
        before, self._time = self._time, time
        if soloist.beat is None or soloist.going in ("lost", "waiting"):
            return self.stop(time)
        if not self.going:
            return self._begin(time, soloist, soloist.beat)
        if abs(soloist.beat - self.beat) > self.settings.leap:
            return [*self.stop(time), *self._begin(time, soloist, soloist.beat)]
        out: list[Begin | Stretch | Stop] = []
        here = time if before is None else before
        while here < time:
            until = min(here + STEP_SECONDS, time)
            ahead = (time - until) * soloist.tempo / 60.0
            out.append(self._move(here, until, soloist, max(soloist.beat - ahead, 0.0)))
            here = until
        return out

    def seconds_to(self, beat: float) -> float:
        """Until a moment, at the speed of now; infinity where the clock stands."""
        if not self.going or self.speed <= 0:
            return math.inf
        return max(beat - self.beat, 0.0) / self.speed

    def stop(self, time: float) -> list[Begin | Stretch | Stop]:
        """Stand."""
        if not self.going:
            return []
        self.going, self.speed = False, 0.0
        return [Stop(time)]

    def reset(self, time: float) -> list[Begin | Stretch | Stop]:
        """A new performance begins."""
        self._begun = False
        return self.stop(time)

    def _begin(self, time: float, soloist: Prediction, beat: float) -> list[Begin | Stretch | Stop]:
        if soloist.going == "holding" and self._begun:
            return []
        entry = self._next_beat(beat) if self._begun else beat - self.settings.late
        self._begun = self.going = True
        self.beat, self.speed = beat, soloist.tempo / 60.0
        return [Begin(time, beat, entry)]

    def _next_beat(self, beat: float) -> float:
        bar = bisect_right(self._bars, beat + SAME) - 1
        start = self._bars[bar] if bar >= 0 else 0.0
        return start + math.ceil(beat - start - JUST_MISSED)

    def _move(self, here: float, until: float, soloist: Prediction, beat: float) -> Stretch:
        """One step towards the soloist, who is at `beat` when it ends."""
        settings = self.settings
        span = until - here
        tempo = soloist.tempo / 60.0
        before = self.beat
        behind = beat - before - tempo * span
        holding = soloist.going == "holding" or before >= soloist.limit
        bend = min(max(behind / tempo / settings.settle, -settings.bend), settings.rush)
        wanted = tempo * (1 + bend)
        if holding:
            wanted = min(max(beat - before, 0.0) / settings.settle, wanted)
        most = settings.slew * tempo * span
        self.speed += min(max(wanted - self.speed, -most), most)
        after = min(before + self.speed * span, max(before, soloist.limit))
        if after - before < self.speed * span - 1e-9:
            self.speed = (after - before) / span
        self.beat = after
        return Stretch(here, until, before, after, holding)
