"""Sound as what is heard of the twelve pitch classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
WINDOW, HOP = 4096, 800
"""Samples of a frame, a quarter of a second, and between two, a twentieth."""

LOWEST, HIGHEST = 48, 96
"""MIDI pitches that are listened to: an octave below middle C to three above."""

COMPRESSION = 100.0
SILENCE = 1e-3
"""Root mean square of the newest samples, full scale 1.0, below which nothing sounds."""


class Chroma:
    """Hears samples in blocks of any size; a frame ends with the last sample it has heard."""

    def __init__(self) -> None:
        self._rest = np.zeros(WINDOW - HOP)
        self._last: NDArray[np.float64] | None = None

    def hear(self, samples: NDArray[np.float32]) -> list[tuple[NDArray[np.float64], bool]]:
        """The new frames: (24,), what sounds and what begins, of length 1; whether any does."""
        sound = np.concatenate([self._rest, samples])
        count = max(0, (len(sound) - WINDOW) // HOP + 1)
        self._rest = sound[count * HOP :]
        return [self._frame(sound[n * HOP : n * HOP + WINDOW]) for n in range(count)]

    def _frame(self, cut: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
        power = np.abs(np.fft.rfft(cut * _SHAPE)) ** 2
        level = np.log1p(COMPRESSION * (_BANK @ power))
        begins = np.maximum(level - (level if self._last is None else self._last), 0)
        self._last = level
        sounds = bool(np.sqrt(np.mean(cut[-HOP:] ** 2)) > SILENCE)
        return _unit(np.concatenate([_unit(level), _unit(begins)])), sounds


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def _bank() -> NDArray[np.float64]:
    """(12, bins): each pitch hears the bins within a semitone, the nearest most."""
    hertz = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    pitch = 69 + 12 * np.log2(np.maximum(hertz, 1.0) / 440)
    bank = np.zeros((12, len(hertz)))
    for key in range(LOWEST, HIGHEST + 1):
        bank[key % 12] += np.maximum(1 - np.abs(pitch - key), 0)
    return bank


_SHAPE = np.hanning(WINDOW)
_BANK = _bank()
