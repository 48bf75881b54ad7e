"""What a microphone hears in a quiet room and while somebody plays, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.level import CLIPPED_SHARE, FULL_SCALE, decibels

Floats = NDArray[np.float32]

HOP_SECONDS = 0.05
MAINS = (50, 60)
HARMONICS = 8
HUM_STANDS_OUT_DB = 10.0
"""Lines of the mains that stand out less above what is beside them are noise."""

LOUD_HUM_DB = -70.0
LOUD_NOISE_DB = -45.0
BAD_ABOVE_DB, POOR_ABOVE_DB = 5.0, 15.0
"""In pink noise following was worse at the first; `docs/sound.md` has the figures."""

SOFT_DB, NOTHING_DB = -60.0, -85.0
LARGE_OFFSET = 0.01


@dataclass(frozen=True, slots=True)
class Hum:
    """What the mains add to a recording.

    Attributes:
        frequency: 50 or 60, in Hz.
        level: of all its harmonics, in dB of full scale.
        above: dB by which they stand out above what is beside them.
    """

    frequency: int
    level: float
    above: float


@dataclass(frozen=True, slots=True)
class Take:
    """A few seconds of sound; dB are of full scale, of a recording without its offset.

    Attributes:
        seconds: its length.
        level: RMS, dB.
        peak: highest sample, dB.
        floor: RMS of its softest tenth, dB.
        loud: RMS that a tenth of it exceeds, dB.
        clipped: share of its samples at full scale.
        offset: mean of the samples, full scale 1.
    """

    seconds: float
    level: float
    peak: float
    floor: float
    loud: float
    clipped: float
    offset: float


@dataclass(frozen=True, slots=True)
class Advice:
    """Something about the sound; `what` to know and what to do, in a line."""

    status: Literal["ok", "poor", "bad"]
    what: str


@dataclass(frozen=True, slots=True)
class Room:
    """A quiet take, a played one, and what they mean.

    Attributes:
        above_noise: dB by which the louder playing stands above the quiet room.
    """

    quiet: Take
    playing: Take
    hum: Hum | None
    above_noise: float
    advice: tuple[Advice, ...]


def measure(samples: Floats, rate: int) -> Take:
    """Measure (n,) or (n, channels) samples at `rate` Hz, of a tenth of a second at least."""
    clipped = float((np.abs(samples) >= FULL_SCALE).mean())
    mono = samples.reshape(len(samples), -1).mean(axis=1, dtype=np.float64)
    offset = float(mono.mean())
    mono -= offset
    hop = round(rate * HOP_SECONDS)
    hops = mono[: len(mono) // hop * hop].reshape(-1, hop)
    loudness = np.sqrt(np.square(hops).mean(axis=1))
    softest, loud = np.quantile(loudness, (0.1, 0.9))
    return Take(
        seconds=len(mono) / rate,
        level=decibels(float(np.sqrt(np.square(mono).mean()))),
        peak=decibels(float(np.abs(mono).max())),
        floor=decibels(float(softest)),
        loud=decibels(float(loud)),
        clipped=clipped,
        offset=offset,
    )


def find_hum(samples: Floats, rate: int) -> Hum | None:
    """Hum of the mains in (n,) or (n, channels) samples of a quiet room, of a second at least."""
    mono = samples.reshape(len(samples), -1).mean(axis=1, dtype=np.float64)
    window = np.hanning(len(mono))
    power = np.abs(np.fft.rfft((mono - mono.mean()) * window)) ** 2
    power *= 2 / (window.sum() ** 2)
    found = [hum for mains in MAINS if (hum := _hum_of(power, rate / len(mono), mains))]
    return max(found, key=lambda hum: hum.level, default=None)


def _hum_of(power: NDArray[np.float64], resolution: float, mains: int) -> Hum | None:
    """`power` of a full-scale sine's bin is 1/2; bins are `resolution` Hz apart."""
    near, beside = 3, round(0.4 * mains / resolution)
    lines, surroundings = [], []
    for n in range(1, HARMONICS + 1):
        at = round(n * mains / resolution)
        if at + beside >= len(power):
            break
        around = np.r_[power[at - beside : at - near], power[at + near + 1 : at + beside + 1]]
        lines.append(float(power[at - near : at + near + 1].sum()) / HANN_BINS)
        surroundings.append(float(np.median(around)) / np.log(2) * (2 * near + 1) / HANN_BINS)
    level, ground = sum(lines), sum(surroundings)
    above = 10 * float(np.log10(max(level, 1e-16) / max(ground, 1e-16)))
    if above < HUM_STANDS_OUT_DB:
        return None
    return Hum(mains, decibels(level**0.5), above)


HANN_BINS = 1.5
"""A sine's power is spread over so many bins of a Hann window."""


def judge(quiet: Take, playing: Take, hum: Hum | None) -> Room:
    """What the takes mean and what to do, the worst first."""
    above = playing.loud - quiet.level
    found = [*_level(quiet, playing, above), *_faults(quiet, playing, hum)]
    if not found:
        found = [Advice("ok", "this microphone and room are good to follow with")]
    found.sort(key=lambda advice: ("bad", "poor", "ok").index(advice.status))
    return Room(quiet, playing, hum, above, tuple(found))


def _level(quiet: Take, playing: Take, above: float) -> list[Advice]:
    if playing.loud < NOTHING_DB:
        return [Advice("bad", "nothing is heard: is it muted, or the wrong device or channel?")]
    found = []
    if above < BAD_ABOVE_DB:
        found.append(
            Advice(
                "bad",
                f"playing is only {above:.0f} dB above the room: bring the microphone closer, "
                "or was nothing played?",
            )
        )
    elif above < POOR_ABOVE_DB:
        found.append(
            Advice("poor", f"playing is {above:.0f} dB above the room: closer would be better")
        )
    if playing.loud < SOFT_DB:
        found.append(
            Advice("poor", f"playing is very soft ({playing.loud:.0f} dB): turn the input up")
        )
    return found


def _faults(quiet: Take, playing: Take, hum: Hum | None) -> list[Advice]:
    found = []
    clipped = max(quiet.clipped, playing.clipped)
    if clipped >= CLIPPED_SHARE:
        found.append(
            Advice("bad", f"{clipped:.1%} of the samples are clipped: turn the input down")
        )
    if quiet.level > LOUD_NOISE_DB:
        found.append(
            Advice(
                "poor",
                f"the room is noisy ({quiet.level:.0f} dB): switch off what hums or blows, "
                "or turn the input down",
            )
        )
    if hum is not None and hum.level > LOUD_HUM_DB:
        found.append(
            Advice(
                "poor",
                f"the mains hum at {hum.frequency} Hz ({hum.level:.0f} dB): try another power "
                "supply, USB port or cable",
            )
        )
    if abs(quiet.offset) > LARGE_OFFSET:
        found.append(
            Advice(
                "poor",
                f"the signal is {abs(quiet.offset):.1%} off centre: harmless here, but the "
                "input may be broken",
            )
        )
    return found
