"""Sound that is made now: kept for a late listener, and kept in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.level import AutomaticGain, LevelWatch
from sf_plugin.audio.recorder import BUFFER_SECONDS, clock
from sf_plugin.audio.resampler import MonoResampler
from sf_plugin.audio.source import Source

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 3.0
"""Sound that does not come for so long is not coming."""

MOST_SILENCE_SECONDS = 60.0
"""A gap is filled with silence up to this length."""

SURPLUS_SECONDS = 0.5
"""Sound that is so much ahead of the clock is left out."""

SETTLE_SECONDS = 1.0
"""Sound that is late for so long is not late, but some before it is missing."""

MOST_DRIFT_SECONDS = 0.02
"""In `SETTLE_SECONDS`; a device's clock differs less from ours."""

MOST_HASTE_SECONDS = 0.00015
"""In `SETTLE_SECONDS`, of a device's clock before ours.  Sound that is further ahead is so because
too much silence was put before it, by a block that came late after a loss: the next silence is
shorter by that."""

INCIDENT_SECONDS = 10.0
"""Losses closer together are one incident."""

DEVICE_TOLERANCE_SECONDS, NETWORK_TOLERANCE_SECONDS = 0.1, 0.5
"""Sound from a device or a sender may be late by so much without anything being lost."""

POLL_SECONDS = 0.1
PIECE_SECONDS = 0.1
ASLEEP_SECONDS = 1.0


class Timeline:
    """Where blocks of sound belong in time, by when they come.

    A block is as late as its end is behind the clock.  Blocks come unevenly, so what
    counts is the least lateness of a while: it is the usual one, moves slowly with the
    clocks of devices, and rises at once where sound was lost.  All times are seconds.

    Args:
        tolerance: a loss that nobody flagged is seen from this length.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """Time 0 is now."""
        self._began = now
        self._placed = self._skipped = 0.0
        self._usual: float | None = None
        self._settled = False
        self._window = self._least = 0.0

    def skip(self) -> float:
        """What was left out of gaps too long to fill since this was last asked."""
        skipped, self._skipped = self._skipped, 0.0
        return skipped

    def missing(self, now: float) -> float:
        """Silence due by now where no block came."""
        return self._limited(now - self._began - self._placed - (self._usual or 0.0))

    def place(self, seconds: float) -> None:
        """So much sound or silence goes on the line."""
        self._placed += seconds

    def surplus(self, now: float, seconds: float) -> bool:
        """Whether a block that comes now is too far ahead of the clock to be heard."""
        if self._usual is None:
            return False
        return self._lateness(now, seconds) < self._usual - SURPLUS_SECONDS

    def gap(self, now: float, seconds: float, lost: bool = False) -> float:
        """Silence due before a block that comes now; `lost` says that some was lost before it."""
        late = self._lateness(now, seconds)
        if self._usual is None:
            self._usual = late
            self._watch(now, late)
            return 0.0
        gap = 0.0
        if lost:
            gap = max(0.0, late - self._usual)
        elif now - self._window < SETTLE_SECONDS:
            self._least = min(self._least, late)
            return 0.0
        elif not self._settled:
            self._usual, self._settled = self._least, True
        elif self._least - self._usual > self.tolerance:
            gap = max(0.0, min(self._least, late) - self._usual)
        else:
            change = self._least - self._usual
            self._usual += min(max(change, -MOST_HASTE_SECONDS), MOST_DRIFT_SECONDS)
        self._watch(now, late - gap)
        return self._limited(gap)

    def _lateness(self, now: float, seconds: float) -> float:
        return now - self._began - self._placed - seconds

    def _watch(self, now: float, late: float) -> None:
        self._window, self._least = now, late

    def _limited(self, gap: float) -> float:
        over = max(0.0, gap - MOST_SILENCE_SECONDS)
        self._began += over
        self._skipped += over
        return max(0.0, gap - over)


class _Chunk(NamedTuple):
    samples: NDArray[np.float32]
    rate: int
    seconds: float
    came: float
    """By the clock."""
    at: float
    """Seconds pushed before it."""
    lost: bool


class SoundBuffer:
    """Between one thread that records and one that listens; bounded, without locks.

    What is heard keeps to the clock: silence stands for sound that was lost, is late for
    good, or that nobody sends.

    Args:
        name: of the device or sender, for warnings.
        tolerance: a loss that nobody flagged is seen from this many seconds.
    """

    def __init__(self, name: str, tolerance: float) -> None:
        self.absent = False
        """Set while nobody sends, so that silence is not delayed; sound ends it."""
        self._name = name
        self._queue: SimpleQueue[_Chunk] = SimpleQueue()
        self._timeline = Timeline(tolerance)
        self._watch = LevelWatch(name)
        self._open = self._closed = False
        self._pushed = self._overflowed = self._taken = 0.0
        self._late = 0.0
        """Seconds that the last sound was on its way."""
        self._filled = self._surplus = self._away = 0.0

    @property
    def waiting_seconds(self) -> float:
        """Sound recorded and not yet taken, also where it is still on its way."""
        return self._late + self._kept

    @property
    def _kept(self) -> float:
        return max(0.0, self._pushed - self._overflowed - self._taken)

    @property
    def dropped_seconds(self) -> float:
        """About how much sound was lost, or nobody sent, since the first was heard."""
        return self._overflowed + self._filled + self._surplus + self._away

    def push(
        self,
        samples: NDArray[np.float32],
        rate: int,
        came: float | None = None,
        lost: bool = False,
    ) -> None:
        """Take in (n,) or (n, channels) samples at `rate` Hz, which nobody changes later.

        They came now, or at that time by the `clock`; `lost`: some before them were lost.
        Nothing is taken in before somebody listens.
        """
        if not self._open or not len(samples):
            return
        seconds = len(samples) / rate
        while self._kept + seconds > BUFFER_SECONDS:
            try:
                oldest = self._queue.get_nowait()
            except Empty:
                break
            self._overflowed += oldest.seconds
        now = clock()
        came = now if came is None else came
        self._late = max(0.0, now - came)
        self._queue.put(_Chunk(samples, rate, seconds, came, self._pushed, lost))
        self._pushed += seconds
        self.absent = False

    def close(self) -> None:
        """No more sound; `sound` and `blocks` end soon after."""
        self._open, self._closed = False, True

    def blocks(self, sample_rate: int, rate: int) -> Iterator[NDArray[np.float32]]:
        """(n,) blocks at `sample_rate` Hz in the time of the clock, soft music raised."""
        gain = AutomaticGain(sample_rate)
        resampler = MonoResampler(rate, sample_rate)
        for samples, at_rate in self.sound(rate):
            if at_rate != rate:
                rest, rate = resampler.finish(), at_rate
                resampler = MonoResampler(rate, sample_rate)
                if len(rest):
                    yield gain.feed(rest)
            block = resampler.feed(samples)
            if len(block):
                yield gain.feed(block)
        rest = resampler.finish()
        if len(rest):
            yield gain.feed(rest)

    def sound(self, rate: int) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Samples as they were pushed and their rate, in the time of the clock, until closed.

        Silence, as (n,) samples, has the rate of the sound before it, at first `rate`.
        """
        name = self._name.replace("%", "%%")
        losses = _Losses(
            f"{name}: about %.2f s of audio lost: the computer, or what sends it, is too "
            "slow or was busy"
        )
        hurry = _Losses(
            f"{name}: %.2f s of audio left out: it comes faster than it sounds: send it in "
            "real time (ffmpeg -re) or correct the rate"
        )
        sleep = _Sleep()
        line = self._timeline
        line.begin(clock())
        self._open = not self._closed
        heard, waited = self._pushed, 0.0
        while not self._closed:
            sleep.look()
            losses.hear(self._overflowed + self._filled, time.monotonic())
            hurry.hear(self._surplus, time.monotonic())
            try:
                chunk = self._queue.get(timeout=POLL_SECONDS)
            except Empty:
                self._late = 0.0
                waited += POLL_SECONDS
                if self.absent or waited >= PATIENCE_SECONDS:
                    missing = line.missing(clock())
                    if heard:
                        self._away += missing
                    yield from self._silence(missing, rate)
                continue
            waited, rate = 0.0, chunk.rate
            self._taken += chunk.seconds
            yield from self._silence(chunk.at - heard, rate)
            heard = chunk.at + chunk.seconds
            if line.surplus(chunk.came, chunk.seconds):
                self._surplus += chunk.seconds
                continue
            gap = line.gap(chunk.came, chunk.seconds, chunk.lost)
            self._filled += max(gap, chunk.seconds if chunk.lost else 0.0)
            yield from self._silence(gap, rate)
            line.place(chunk.seconds)
            self._watch.hear(chunk.samples, rate)
            yield chunk.samples, rate
        losses.hear(self._overflowed + self._filled, float("inf"))
        hurry.hear(self._surplus, float("inf"))

    def _silence(self, seconds: float, rate: int) -> Iterator[tuple[NDArray[np.float32], int]]:
        frames, most = round(seconds * rate), round(PIECE_SECONDS * rate)
        for at in range(0, frames, most):
            piece = np.zeros(min(most, frames - at), np.float32)
            self._timeline.place(len(piece) / rate)
            yield piece, rate
        if skipped := self._timeline.skip():
            logger.warning("%s: time stood still for %.0f s: too long a gap", self._name, skipped)


class PushedSource(Source):
    """Sound that other threads push in, such as a browser's microphone.

    Time goes on while nobody pushes: silence is heard then.

    Args:
        rate: Hz of the samples that are pushed, until `restart` names another.
        name: of the sender, for warnings.
    """

    live = True

    def __init__(self, rate: int = 44100, *, name: str = "pushed sound") -> None:
        self._buffer = SoundBuffer(name, NETWORK_TOLERANCE_SECONDS)
        self._buffer.absent = True
        self._lock = threading.Lock()
        self._first_rate = self._rate = rate

    @property
    def dropped_seconds(self) -> float:  # type: ignore[override]
        """About how much sound was lost, or nobody pushed, since the first was heard."""
        return self._buffer.dropped_seconds

    @property
    def waiting_seconds(self) -> float:  # type: ignore[override]
        """Sound pushed and not yet taken."""
        return self._buffer.waiting_seconds

    def push(self, samples: NDArray[Any]) -> None:
        """Hear (n,) or (n, channels) samples now, full scale 1.0; from any thread.

        What is pushed before `blocks` is asked for the first is not heard.
        """
        block = np.clip(np.nan_to_num(np.array(samples, np.float32)), -1.0, 1.0)
        with self._lock:
            self._buffer.push(block, self._rate)

    def restart(self, rate: int) -> None:
        """A new sender pushes at `rate` Hz from now on."""
        with self._lock:
            self._rate = rate

    def rest(self) -> None:
        """The sender is gone: silence begins at once, until the next `push`."""
        self._buffer.absent = True

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        return self._buffer.blocks(sample_rate, self._first_rate)

    def close(self) -> None:
        self._buffer.close()


class _Losses:
    """Tells of lost audio once per incident, a moment after it began."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._known = self._before = 0.0
        self._last = float("-inf")
        self._due: float | None = None

    def hear(self, lost_seconds: float, now: float) -> None:
        """So much has been lost so far."""
        if lost_seconds > self._known:
            if now - self._last > INCIDENT_SECONDS:
                self._before, self._due = self._known, now + SETTLE_SECONDS
            self._known, self._last = lost_seconds, now
        if self._due is not None and now >= self._due:
            self._due = None
            logger.warning(self._message, self._known - self._before)


class _Sleep:
    """Tells when the computer was asleep."""

    def __init__(self) -> None:
        self._known = clock() - time.monotonic()

    def look(self) -> None:
        slept = clock() - time.monotonic() - self._known
        if slept > ASLEEP_SECONDS:
            self._known += slept
            logger.warning("the computer was asleep for %.0f s", slept)
