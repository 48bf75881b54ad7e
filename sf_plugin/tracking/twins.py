"""Places that read alike: by ear they are one, and only the path tells them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]

AROUND = 8
"""Onsets before and after one that must read alike too."""
ALIKE = 0.9
"""Mean cosine of their pitches from which they do."""
SEMITONE = 0.6
"""How much of a pitch counts a semitone beside it: an accidental is what is most often misread."""
FAR = 8000
"""Onsets that are remembered: some forty pages."""


class TwinFinder:
    """Takes in a document's onsets page by page and finds those that read like earlier ones."""

    def __init__(self) -> None:
        self._read: Floats | None = None
        self._forgotten = 0

    def add(self, pitches: Floats) -> Pairs:
        """(onsets, pitches) of the next page to (pairs, 2) twins, numbered in the document.

        An onset is told when the eight after it are known; `pitches` are not negative.
        """
        near = np.pad(pitches, ((0, 0), (1, 1)))
        page = (pitches + SEMITONE * (near[:, :-2] + near[:, 2:])).astype(np.float32)
        page /= np.maximum(np.sqrt(np.square(page).sum(1, keepdims=True)), 1e-6)
        window = 2 * AROUND + 1
        read = page if self._read is None else np.concatenate([self._read, page])
        first = max(len(read) - len(page) - window + 1, 0)
        forgotten, new = self._forgotten, read[first:]
        self._forgotten += max(len(read) - FAR, 0)
        self._read = read[-FAR:]
        count = len(new) - window + 1
        if count < 1:
            return np.zeros((0, 2), np.int64)
        # sheared, so that what is as far apart stands in a column: new[row] beside the
        # document's onset row + column - rows
        rows = len(new)
        alike = np.zeros((rows, rows + len(read)), np.float32)
        np.matmul(new, read.T, out=alike[:, rows:])
        step, one = alike.strides
        apart = np.lib.stride_tricks.as_strided(alike, (rows, rows + first), (step + one, one))
        sums = np.cumsum(apart, 0)
        sums[window:] -= sums[:-window].copy()
        row, column = np.nonzero(sums[window - 1 :] > ALIKE * window)
        later, earlier = first + row + AROUND, row + AROUND + column - rows
        return forgotten + np.stack([earlier, later], 1)[earlier >= AROUND]


def kinds(count: int, pairs: Sequence[Pairs]) -> NDArray[np.int64]:
    """(count,) for every onset the first of those that are its twins, or twins of its twins."""
    one, other = np.concatenate([np.zeros((0, 2), np.int64), *pairs]).T
    kind = np.arange(count)
    while True:
        least = kind.copy()
        np.minimum.at(least, other, kind[one])
        np.minimum.at(least, one, kind[other])
        least = least[least]
        if np.array_equal(least, kind):
            return kind
        kind = least
