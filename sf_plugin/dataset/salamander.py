"""A sampler for the Salamander grand: single notes recorded every minor third, five strengths.

Each key plays the nearest recorded one, resampled to its pitch; each velocity plays the
nearest recorded strength, its level put right between the recorded ones.  Dampers, the
sustain pedal and the keys' way back are as on the instrument: strings above F#6 have no
dampers.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sf_plugin.dataset.instruments import FETCH, InstrumentError

NAMES = {0: "C", 3: "D#", 6: "F#", 9: "A"}
RECORDED = np.arange(21, 109, 3)
"""MIDI numbers of the recorded keys, A0 to C8."""

LAYERS = {2: (30, -7.6), 5: (45, -2.7), 8: (60, 0.0), 11: (84, 2.5), 14: (108, 5.9)}
"""Recorded strength: the velocity it stands for and its level in dB (median over the keys,
root mean square of the first 0.4 s)."""

UNDAMPED = 90  # the first key without a damper
BEFORE = 0.002  # seconds of the recording kept before its attack
RELEASE_DB = -37.0  # of the recorded noise of a key's way back
FULL_SCALE = 0.25  # so that loud chords stay below full scale


def play(
    notes: np.ndarray,
    ends: NDArray[np.float64],
    folder: Path,
    sample_rate: int,
    samples: int,
    tuning: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(2, samples) the notes on the Salamander, from time 0.

    `ends` are the seconds when each note's string is damped, key and pedal considered.

    Raises:
        InstrumentError: its samples are not in `folder`.
    """
    out = np.zeros((2, samples))
    velocities = np.array([velocity for velocity, _ in LAYERS.values()])
    levels = np.array([level for _, level in LAYERS.values()])
    names = list(LAYERS)
    layer = np.abs(notes["velocity"][:, None] - velocities).argmin(1)
    wanted = np.interp(notes["velocity"], velocities, levels)
    # beyond what was recorded, power goes with velocity to the fourth
    inside = np.clip(notes["velocity"], velocities[0], velocities[-1])
    wanted += 40 * np.log10(np.maximum(notes["velocity"], 1) / inside)
    gain = FULL_SCALE * 10 ** ((wanted - levels[layer]) / 20)
    fade = release_seconds(notes["pitch"])
    length = ends - notes["onset"] + fade
    for key, strength in sorted(set(zip(notes["pitch"].tolist(), layer.tolist(), strict=True))):
        mine = np.flatnonzero((notes["pitch"] == key) & (layer == strength))
        clip = _pitched(folder, key, names[strength], sample_rate, float(tuning[key]))
        for i in mine:
            count = int(length[i] * sample_rate)
            sound = clip[:, :count] * gain[i]
            damped = int((ends[i] - notes["onset"][i]) * sample_rate)
            if damped < sound.shape[1]:
                after = np.arange(sound.shape[1] - damped) / sample_rate
                sound[:, damped:] *= 10 ** (-3 * after / fade[i])
            _add(out, sound, round(notes["onset"][i] * sample_rate))
    back = notes["onset"] + notes["duration"]
    for i in np.flatnonzero(notes["pitch"] < UNDAMPED):
        noise = _release(folder, int(notes["pitch"][i]), sample_rate)
        _add(out, noise * gain[i] * 10 ** (RELEASE_DB / 20), round(back[i] * sample_rate))
    return out


def release_seconds(pitches: np.ndarray) -> NDArray[np.float64]:
    """Seconds to -60 dB once the damper falls: long strings take longer."""
    damped = np.interp(pitches, [21, 60, 89], [0.6, 0.3, 0.15])
    return np.where(pitches < UNDAMPED, damped, 4.0)


def _add(out: NDArray[np.float64], sound: NDArray[np.float64], start: int) -> None:
    if start < 0:
        sound, start = sound[:, -start:], 0
    room = out.shape[1] - start
    if room > 0:
        out[:, start : start + sound.shape[1]] += sound[:, :room]


@lru_cache(maxsize=256)
def _pitched(
    folder: Path, key: int, layer: int, sample_rate: int, cents: float
) -> NDArray[np.float32]:
    """(2, samples) of a key, its attack BEFORE seconds from the beginning."""
    recorded = int(RECORDED[np.abs(RECORDED - key).argmin()])
    name = f"{NAMES[recorded % 12]}{recorded // 12 - 1}v{layer}.ogg"
    sound, rate = _read(folder / f"piano-velocity{layer}" / name)
    factor = 2 ** ((key + cents / 100 - recorded) / 12)
    pitched = soxr.resample(sound, rate * factor, sample_rate)
    size = np.abs(pitched).max(1)
    start = int(np.argmax(size > 0.05 * size.max()))
    start = max(0, start - int(BEFORE * sample_rate))
    return np.ascontiguousarray(pitched[start:].T)


@lru_cache(maxsize=128)
def _release(folder: Path, key: int, sample_rate: int) -> NDArray[np.float32]:
    sound, rate = _read(folder / "piano-release" / f"rel{key - 20}.ogg")
    return np.ascontiguousarray(soxr.resample(sound, rate, sample_rate).T)


def _read(path: Path) -> tuple[NDArray[np.float32], int]:
    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True, frames=12 * 48000)
    except soundfile.SoundFileError:
        raise InstrumentError(
            f"{path}: the Salamander grand is not here or damaged; fetch it: {FETCH}"
        ) from None
    return sound, rate
