"""How loud sound is: warnings where it is wrong, and a gain where it is soft."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FULL_SCALE = 0.999
CLIPPED_SHARE = 1e-3
"""Share of a second's samples at full scale that is heard."""

CALM_SECONDS = 10
"""An incident is over after so long without it."""

NOTHING_DB, NOTHING_SECONDS = -70.0, 10
SOFT_DB, SOFT_SECONDS = -50.0, 30


def decibels(amplitude: float) -> float:
    """dB of full scale; -160 for nothing."""
    return 20 * float(np.log10(max(amplitude, 1e-8)))


class LevelWatch:
    """Hears what one microphone records and warns, once an incident.

    Args:
        name: of the microphone or sender.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = self._clipped = 0
        self._energy = self._peak = 0.0
        self._seconds = self._zeros = 0
        self._calm = CALM_SECONDS
        self._loudest = self._highest = 0.0

    def hear(self, samples: NDArray[Any], rate: int) -> None:
        """(n,) or (n, channels) samples as they were recorded, at `rate` Hz."""
        size = np.abs(samples)
        self._count += size.size
        self._clipped += int(np.count_nonzero(size >= FULL_SCALE))
        self._energy += float(np.vdot(samples, samples))
        self._peak = max(self._peak, float(size.max(initial=0.0)))
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        if self._count >= rate * channels:
            self._judge()
            self._count = self._clipped = 0
            self._energy = self._peak = 0.0

    def _judge(self) -> None:
        """After a second."""
        self._seconds += 1
        self._loudest = max(self._loudest, (self._energy / self._count) ** 0.5)
        self._highest = max(self._highest, self._peak)
        self._zeros = 0 if self._peak else self._zeros + 1
        self._judge_clipping(self._clipped / self._count)
        nothing = decibels(self._loudest) < NOTHING_DB
        if self._zeros == NOTHING_SECONDS or (nothing and self._seconds == NOTHING_SECONDS):
            logger.warning(
                "%s: nothing heard for %d s: is it muted or turned down?",
                self._name,
                NOTHING_SECONDS,
            )
        soft = decibels(self._highest) < SOFT_DB
        if soft and not nothing and self._seconds == SOFT_SECONDS:
            logger.warning(
                "%s: very soft, never above %.0f dB of full scale: turn the input up",
                self._name,
                decibels(self._highest),
            )

    def _judge_clipping(self, share: float) -> None:
        if share < CLIPPED_SHARE:
            self._calm += 1
            return
        if self._calm >= CALM_SECONDS:
            logger.warning(
                "%s: too loud, %.1f %% of the samples are clipped: turn the input down",
                self._name,
                100 * share,
            )
        self._calm = 0


class AutomaticGain:
    """Raises soft music slowly, and leaves loud music and noise as they are.

    Music is what stands out from the softest that was heard lately.  Its loudest 50 ms
    are brought to `TARGET_DB`, with at most `MOST_DB` of gain; the gain moves by
    `SLEW_DB` a second and never clips.

    Args:
        rate: Hz of the samples.
    """

    HOP_SECONDS = 0.05
    TARGET_DB = -24.0
    MOST_DB = 40.0
    SLEW_DB = 20.0
    STANDS_OUT_DB = 12.0
    FLOOR_RISE_DB = 1.0
    """A second; so fast is forgotten how soft it was."""
    FORGET_DB = 0.1
    """A second of music; so fast is forgotten how loud it was."""
    NOTHING_DB = -90.0

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._hop = round(rate * self.HOP_SECONDS)
        self._sum = self._energy = 0.0
        self._count = 0
        self._floor = self._level = float("inf")
        self._wanted = self._gain = 0.0

    @property
    def decibels(self) -> float:
        """The gain now."""
        return self._gain

    def feed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) samples to (n,) samples."""
        self._hear(block)
        most = self.SLEW_DB * len(block) / self._rate
        before = self._gain
        self._gain += min(max(self._wanted - before, -most), most)
        if not before and not self._gain:
            return block
        room = -decibels(float(np.abs(block).max(initial=0.0)))
        self._gain = max(0.0, min(self._gain, room))
        steps = np.linspace(min(before, max(0.0, room)), self._gain, len(block), dtype=np.float32)
        return np.clip(block * 10 ** (steps / 20), -1.0, 1.0, dtype=np.float32)

    def _hear(self, block: NDArray[np.float32]) -> None:
        while len(block):
            part, block = np.split(block, [self._hop - self._count])
            self._sum += float(part.sum())
            self._energy += float(np.dot(part, part))
            self._count += len(part)
            if self._count == self._hop:
                variance = self._energy / self._hop - (self._sum / self._hop) ** 2
                self._judge(decibels(max(variance, 0.0) ** 0.5))
                self._sum = self._energy = 0.0
                self._count = 0

    def _judge(self, loudness: float) -> None:
        """After a hop of so many dB."""
        if loudness < self.NOTHING_DB:
            return
        self._floor = min(loudness, self._floor + self.FLOOR_RISE_DB * self.HOP_SECONDS)
        if loudness < self._floor + self.STANDS_OUT_DB:
            return
        known = self._level < float("inf")
        faded = self._level - self.FORGET_DB * self.HOP_SECONDS
        self._level = max(loudness, faded) if known else loudness
        self._wanted = min(max(self.TARGET_DB - self._level, 0.0), self.MOST_DB)
