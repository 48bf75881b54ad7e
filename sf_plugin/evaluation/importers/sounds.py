"""What is heard in the sets' cases: (samples,) at SAMPLE_RATE, read or rendered when called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.files import FileSource
from sf_plugin.dataset.instruments import TRAINING_INSTRUMENTS
from sf_plugin.dataset.render import render

SAMPLE_RATE = 22050
PIANO = TRAINING_INSTRUMENTS[0]
"""Plays what a set gives as MIDI only."""

Sound = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Recorded:
    """An audio file; calling it may raise AudioError."""

    path: Path

    def __call__(self) -> NDArray[np.float32]:
        return np.concatenate(list(FileSource(self.path).blocks(SAMPLE_RATE)))


@dataclass(frozen=True)
class Rendered:
    """Notes and pedals as `perform` gives them, played by PIANO, no louder than full scale."""

    notes: np.ndarray
    pedals: np.ndarray

    def __call__(self) -> NDArray[np.float32]:
        sound = render(self.notes, PIANO, SAMPLE_RATE, pedals=self.pedals)
        return sound / max(1.0, float(np.abs(sound).max()) / 0.99)


@dataclass(frozen=True)
class Cut:
    """A sound from `begin` to `end` in seconds; to its end where that is None."""

    sound: Sound
    begin: float
    end: float | None

    def __call__(self) -> NDArray[np.float32]:
        end = None if self.end is None else round(self.end * SAMPLE_RATE)
        return self.sound()[round(self.begin * SAMPLE_RATE) : end]


@dataclass(frozen=True)
class Joined:
    """Sounds one after the other, each cut or filled with silence to its seconds."""

    parts: tuple[tuple[Sound, float], ...]

    def __call__(self) -> NDArray[np.float32]:
        ends = np.cumsum([0.0, *(seconds for _, seconds in self.parts)])
        edges = np.rint(ends * SAMPLE_RATE).astype(int)
        whole = np.zeros(edges[-1], np.float32)
        for (sound, _), begin, end in zip(self.parts, edges, edges[1:], strict=False):
            samples = sound()[: end - begin]
            whole[begin : begin + len(samples)] = samples
        return whole
