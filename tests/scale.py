"""A small engraved piece for tests, and a follower that only hears how loud it is.

The piece has two pages, three systems, four measures and 16 onsets.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.evaluation.cases import Case
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

PITCHES = (72, 74, 76, 77, 79, 81, 83, 84, 84, 83, 81, 79, 77, 76, 74, 72)
SYSTEMS = ((0, 0.2), (1, 0.2), (1, 0.6))
"""Page and top of each system; the first holds two measures, the others one."""


def scale() -> Engraving:
    """Up and down in quarter notes, over half notes an octave and a half below."""
    pages = np.full((2, 1200, 848), 255, np.uint8)
    notes, systems, staves, bars = [], [], [], []
    for index, (page, top) in enumerate(SYSTEMS):
        for line in range(5):
            pages[page, round(1200 * top) + 10 * line, 85:763] = 0
        bottom = top + 40 / 1200
        systems.append((page, 0, 1, top, bottom, 0.1, 0.9))
        staves.append((index, top, bottom))
    for i, pitch in enumerate(PITCHES):
        measure = i // 4
        system = max(0, measure - 1)
        wide = 0.4 if system == 0 else 0.8
        left = 0.1 + 0.4 * (measure == 1)
        x = left + wide * (i % 4 + 0.5) / 4
        page, top = SYSTEMS[system]
        y = top + 0.02
        row, column = round(1200 * y), round(848 * x)
        pages[page, row - 4 : row + 4, column - 5 : column + 5] = 0
        onset = i / 4
        notes.append((page, system, x, y, 0, onset, 0, pitch, 0.25, False, 33, 0, 0, 0))
        if i % 2 == 0:
            low = pitch - 19
            notes.append((page, system, x, y + 0.01, 0, onset, 0, low, 0.5, False, 33, 0, 0, 0))
    for number, (system, x) in enumerate(((0, 0.5), (0, 0.9), (1, 0.9), (2, 0.9)), 1):
        bars.append((system, x, float(number), number + 1, "|." if number == 4 else "|"))
    return Engraving.of_rows(list(pages), notes, systems, staves, bars)


class Loudness(Follower):
    """The louder, the further right on the first system."""

    sample_rate = 8000

    def __init__(self, case: Case) -> None:
        self.case = case
        self.heard = 0

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        return self.case.layout

    def reset(self) -> None:
        self.heard = 0

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        self.heard += len(samples)
        if len(samples):
            loud = float(np.abs(samples).max())
            yield Estimate(self.heard / 8000, 1, loud % 1, 0.2, loud % 1, "tracking")


def hears_loudness() -> type[Loudness]:
    """As a contestant."""
    return Loudness
