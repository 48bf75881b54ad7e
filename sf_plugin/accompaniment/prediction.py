"""Where the soloist is now and will be: beats and tempo, predicted from what was heard.

The onsets of the soloist's notes are the observations of a linear dynamical system whose
state is the time of the last onset and the seconds of a quarter note, as in C. Raphael,
"Music Plus One and machine learning", ICML 2010, and A. T. Cemgil et al., "On tempo tracking:
tempogram representation and Kalman filtering", Journal of New Music Research 29, 2000.  What
comes much earlier or later than predicted moves the beat but hardly the tempo, as an
attentional oscillator hears it (E. W. Large and M. R. Jones, "The dynamics of attending",
Psychological Review 106, 1999; A. Cont, "Antescofo", ICMC 2008).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

SAME = 1e-3
"""Quarter notes below which two moments are one."""

ASTRAY = 0.6
"""Quarter notes within which a place belongs to a known note."""

OTHER = 9.0
"""Squared standard deviations by which a place must be beside the soloist's notes to be none
of them."""

ACCOMPANIMENT = 2.0
"""The same to be one of the accompaniment's notes rather than the soloist's."""

SKIPPED = 6.0
"""The same that a note of the soloist was not heard."""

MOST_NEAR = 16
"""Notes near a place that are looked at."""

ODD = 4.0
"""Standard deviations beyond which all times are as unlikely."""

Going = Literal["waiting", "moving", "holding", "lost"]


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """How the soloist is heard.

    Attributes:
        lag: seconds from a note to the position that knows it.
        confidence: below this, and in any state but "tracking", a position says nothing.
        onset: seconds, standard deviation of what is heard around the intended time.
        agogic: the same of the intended time, for each square root of a quarter note.
        drift: relative change of tempo, standard deviation for each square root of a
            quarter note.
        place: quarter notes, standard deviation of a place where symbols tell beats.
        spacing: the same where the spacing of the notes does.
        start: relative standard deviation of the first tempo.
        gate: standard deviations beyond which an onset does not tell the tempo.
        hurry: most relative change of tempo by one onset.
        patience: seconds that a known note of the soloist may be late before it is waited
            for.
        coast: quarter notes that the music goes on without a known note of the soloist, at
            least.
        leap: quarter notes away from the prediction from which a place is elsewhere.
        settle: seconds for which the music must go on elsewhere to be followed there.
        lost: quarter notes that the music goes on after the place was lost.
        unsure: seconds for which a note that nobody can have heard is not waited for.
    """

    lag: float = 0.047
    confidence: float = 0.5
    onset: float = 0.015
    agogic: float = 0.012
    drift: float = 0.09
    place: float = 0.04
    spacing: float = 0.15
    start: float = 0.25
    gate: float = 2.5
    hurry: float = 0.4
    patience: float = 0.08
    coast: float = 2.0
    leap: float = 1.5
    settle: float = 0.25
    lost: float = 1.5
    unsure: float = 1.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the soloist is at a time.

    Attributes:
        beat: quarter notes from the start; None before the music began.
        tempo: quarter notes a minute.
        going: "waiting" for the beginning; "holding" where the music stands still until a
            note is heard; "lost" where nothing is known any more.
        limit: quarter notes beyond which nothing is to be played yet.
        jumps: how often the soloist went elsewhere so far.
    """

    beat: float | None
    tempo: float
    going: Going
    limit: float
    jumps: int


NOWHERE = Prediction(None, 100.0, "waiting", 0.0, 0)


@dataclass(slots=True)
class _Landing:
    """A place elsewhere that is not yet believed."""

    since: float
    at: float
    time: float


@dataclass(slots=True)
class _Memory:
    beat: float | None = None
    """The last onset heard, quarter notes."""
    raw: float = 0.0
    """The same before it was taken to a known note."""
    time: float = 0.0
    """Seconds when it sounded."""
    second: float = 0.6
    """Seconds a quarter note."""
    covariance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of time and seconds a quarter: time, both, seconds a quarter."""
    heard: float = 0.0
    """Seconds up to which the sound is known."""
    lost_at: float | None = None
    landing: _Landing | None = None
    jumps: int = 0


@dataclass(slots=True)
class BeatTracker:
    """Predicts a soloist; times are seconds of one clock, moments quarter notes.

    Attributes:
        tempo: quarter notes a minute that are expected at first.
        onsets: moments, rising, at which notes of the soloist begin; empty where unknown.
        others: moments at which notes of the accompaniment begin, which may be heard too.
        holds: moments under a fermata, where the next note is waited for.
        exact: whether places tell beats exactly.
    """

    tempo: float = 100.0
    onsets: Sequence[float] = ()
    others: Sequence[float] = ()
    holds: Sequence[float] = ()
    exact: bool = True
    settings: PredictionSettings = field(default_factory=PredictionSettings)
    _memory: _Memory = field(default_factory=_Memory)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new performance begins."""
        second = 60.0 / self.tempo
        spread = (self.settings.start * second) ** 2
        self._memory = _Memory(second=second, covariance=(0.0, 0.0, spread))

    def begin(self, time: float, beat: float = 0.0) -> None:
        """The music begins here, before the soloist does."""
        self._anchor(time, beat)
        self._memory.beat = self._memory.raw = beat

    def wait(self, time: float) -> None:
        """Until `time` no note of the soloist was heard."""
        self._memory.heard = max(self._memory.heard, time - self.settings.lag)

    def hear(
        self, time: float, moments: Sequence[float], *, sure: bool, near: bool = False
    ) -> None:
        """A position that was known at `time`, and the moments at which it may stand.

        `near` says that what is elsewhere is where the print leads.
        """
        memory, settings = self._memory, self.settings
        heard = time - settings.lag
        if sure and moments:
            memory.heard, memory.lost_at = max(memory.heard, heard), None
            self._place(heard, moments, near)

    def lose(self, time: float) -> None:
        """The place is not known any more."""
        memory = self._memory
        memory.landing = None
        if memory.beat is not None and memory.lost_at is None:
            memory.lost_at = self.at(time).beat

    def at(self, time: float) -> Prediction:
        """Where the soloist is at a time, now or later."""
        memory, settings = self._memory, self.settings
        tempo = 60.0 / memory.second
        if memory.beat is None:
            return Prediction(None, tempo, "waiting", 0.0, memory.jumps)
        free = memory.beat + max(time - memory.time, 0.0) / memory.second
        following = bisect_right(self.onsets, memory.beat + SAME)
        known = bool(self.onsets)
        then = self.onsets[following] if following < len(self.onsets) else None
        if then is not None:
            unheard = min(max(time - memory.heard, 0.0), settings.unsure) + settings.patience
            limit = then - SAME if self._held(memory.beat) else then + unheard / memory.second
        elif known:
            limit = float("inf")
        else:
            limit = memory.beat + settings.coast
        going: Going = "moving"
        if memory.lost_at is not None and not (known and then is None):
            resting = then is not None and then - memory.beat >= 2.0
            end = then if resting and then is not None else memory.lost_at + settings.lost
            limit = min(limit, max(end, memory.beat))
            going = "lost" if free >= limit else "moving"
        elif free > limit:
            going = "holding"
        return Prediction(min(free, limit), tempo, going, limit, memory.jumps)

    def _spread(self, step: float) -> float:
        """Variance of the time of an onset `step` quarter notes after the last."""
        p, c, s = self._memory.covariance
        return p + 2 * step * c + step * step * s + self._process(step)[0]

    def _held(self, beat: float) -> bool:
        nearest = bisect_left(self.holds, beat - SAME)
        return nearest < len(self.holds) and self.holds[nearest] <= beat + SAME

    def _place(self, time: float, moments: Sequence[float], near: bool) -> None:
        memory, settings = self._memory, self.settings
        if memory.beat is None:
            self._anchor(time, moments[0])
            return
        free = memory.beat + (time - memory.time) / memory.second
        expected = min(max(free, memory.beat), self.at(time).limit)
        raw = min(moments, key=lambda moment: abs(moment - expected))
        if memory.raw - settings.leap / 2 <= raw <= max(expected, memory.raw) + settings.leap:
            memory.landing = None
            if raw > memory.raw + self._step:
                self._onset(time, raw)
            return
        landing = memory.landing
        if landing is None or not landing.at - 0.5 <= raw <= landing.at + settings.leap:
            landing = memory.landing = _Landing(time, raw, time)
        elif raw > landing.at + self._step:
            landing.at, landing.time = raw, time
        if time - landing.since >= (settings.settle / 2 if near else settings.settle):
            memory.landing = None
            memory.jumps += 1
            self._anchor(landing.time, landing.at)

    @property
    def _step(self) -> float:
        """Quarter notes by which the place must move to tell a new onset."""
        return 0.06 if self.exact else 0.12

    def _anchor(self, time: float, raw: float) -> None:
        """The music is here; the tempo stays."""
        memory = self._memory
        memory.beat, memory.raw, memory.time = self._nearest(raw), raw, time
        memory.covariance = (self.settings.onset**2, 0.0, memory.covariance[2])

    def _nearest(self, raw: float) -> float:
        """The soloist's note nearest to a place, if one is near."""
        after = bisect_left(self.onsets, raw)
        near = self.onsets[max(after - 1, 0) : after + 1]
        best = min(near, key=lambda onset: abs(onset - raw), default=raw)
        return best if abs(best - raw) <= ASTRAY else raw

    def _next(self, time: float, raw: float) -> float:
        """The moment that came, by its place and its time; the place where none is likely."""
        memory = self._memory
        assert memory.beat is not None
        place = self._place_spread
        best, least = raw, self._strangeness(time, raw) + OTHER
        for moments, unlikely in ((self.onsets, 0.0), (self.others, ACCOMPANIMENT)):
            first = bisect_right(moments, max(memory.beat + SAME, raw - ASTRAY))
            for moment in moments[first : first + MOST_NEAR]:
                if moment > raw + ASTRAY:
                    break
                beside = ((moment - raw) / place) ** 2
                cost = self._strangeness(time, moment) + beside + unlikely
                if cost < least:
                    best, least = moment, cost
        return best

    def _strangeness(self, time: float, beat: float) -> float:
        """Squared standard deviations of a time from when a moment was expected, and what it
        costs that notes of the soloist before it were not heard."""
        memory = self._memory
        assert memory.beat is not None
        passed = bisect_right(self.onsets, memory.beat + SAME)
        skipped = max(bisect_left(self.onsets, beat - SAME) - passed, 0)
        step = max(beat - memory.beat, 0.0)
        spread = self._spread(step) + self.settings.onset**2
        away = time - memory.time - step * memory.second
        return float(min(away**2 / spread, ODD**2) + SKIPPED * skipped)

    @property
    def _place_spread(self) -> float:
        return self.settings.place if self.exact else self.settings.spacing

    def _process(self, step: float) -> tuple[float, float]:
        """What `step` quarter notes add to the variance of time and seconds a quarter."""
        settings = self.settings
        return settings.agogic**2 * step, (settings.drift * self._memory.second) ** 2 * step

    def _onset(self, time: float, raw: float) -> None:
        memory, settings = self._memory, self.settings
        before = memory.beat
        assert before is not None
        beat = self._next(time, raw)
        memory.raw = raw
        if beat <= before + SAME:
            return
        step, second = beat - before, memory.second
        p, c, s = memory.covariance
        p, c = p + 2 * step * c + step * step * s, c + step * s
        more_time, more_second = self._process(step)
        p, s = p + more_time, s + more_second
        noise = settings.onset**2
        if beat == raw:
            noise += (self._place_spread * second) ** 2
        innovation = time - (memory.time + step * second)
        spread = p + noise
        bound = settings.gate * spread**0.5
        told = min(max(innovation, -bound), bound)
        gain_time, gain_second = p / spread, c / spread
        change = gain_second * told
        most = settings.hurry * second
        memory.second = min(max(second + min(max(change, -most), most), 0.1), 6.0)
        strange = abs(innovation) > bound
        memory.time = time if strange else memory.time + step * second + gain_time * innovation
        memory.beat = beat
        if strange:
            memory.covariance = (noise, 0.0, s)
        else:
            memory.covariance = (p - gain_time * p, c - gain_time * c, s - gain_second * c)
