"""Chroma and online time warping: the classic of audio-to-audio following, strictly causal."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.errors import ScoreFollowerError

SAMPLE_RATE = 22050
WINDOW, HOP = 4096, 1024
"""Samples of a frame, 186 ms, and between two, 46 ms."""

COMPRESSION = 100.0
ONSETS = 1.0
"""Weight of what has just begun beside what sounds."""

SILENCE = 1e-3
"""Root mean square of a frame, full scale 1, below which nothing sounds."""

SEARCH_SECONDS = 10.0
"""How far before and after the present place the path may go on."""

Frames = NDArray[np.float64]
"""(frames, 24): twelve pitch classes that sound and twelve that begin, of length 1."""


@cache
def pitch_classes() -> NDArray[np.float64]:
    """(12, bins): librosa's chroma filter bank.

    Raises:
        ScoreFollowerError: librosa is not installed.
    """
    try:
        import librosa
    except ImportError:
        raise ScoreFollowerError(
            "the baseline 'chroma-oltw' needs librosa: pip install librosa"
        ) from None
    bank: Any = librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=WINDOW, tuning=0.0)
    return np.asarray(bank, float)


class Chroma:
    """Hears samples in blocks of any size; a frame ends with the last sample it has heard."""

    def __init__(self) -> None:
        self._bank = pitch_classes()
        self._shape = np.hanning(WINDOW)
        self._rest = np.zeros(WINDOW - HOP)
        self._last = np.zeros(12)

    def hear(self, samples: NDArray[np.float32]) -> tuple[Frames, NDArray[np.bool_]]:
        """The new frames, and which of them sound."""
        sound = np.concatenate([self._rest, samples])
        count = max(0, (len(sound) - WINDOW) // HOP + 1)
        self._rest = sound[count * HOP :]
        if not count:
            return np.zeros((0, 24)), np.zeros(0, bool)
        cuts = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP][:count]
        power = np.abs(np.fft.rfft(cuts * self._shape)) ** 2
        level = np.log1p(COMPRESSION * power @ self._bank.T)
        before = np.vstack([self._last, level[:-1]])
        self._last = level[-1]
        begins = np.maximum(level - before, 0)
        frames = np.hstack([_unit(level), ONSETS * _unit(begins)])
        return _unit(frames), np.sqrt((cuts**2).mean(1)) > SILENCE


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


class OnlineTimeWarping:
    """Finds where in a reference the newest frame is: our own, after two papers.

    Dixon, "Live tracking of musical performances using on-line time warping"
    (DAFx 2005): the accumulated cost is kept for a stretch around the present place
    only, and compared by its mean over the path.  As in Arzt and Widmer, "Simple
    tempo models for real-time music tracking" (SMC 2010), each new frame adds one row,
    and the path may move on in the reference by any number of frames.  A diagonal step
    counts twice, so every path to a place has the same length.

    Args:
        reference: (frames, 24) to follow.
        search: frames that the path may be away from the present place.
    """

    def __init__(self, reference: Frames, search: int) -> None:
        self.reference = reference
        self.search = search
        self.reset()

    def reset(self) -> None:
        """Begin again before the first frame."""
        self.at = 0
        self._heard = 0
        self._cost = np.full(len(self.reference), np.inf)

    def step(self, frame: NDArray[np.float64]) -> int:
        """The place in the reference of a new (24,) frame, from 0."""
        first = max(0, self.at - self.search)
        last = min(len(self.reference), self.at + self.search + 1)
        here = 1.0 - self.reference[first:last] @ frame
        if self._heard == 0:
            arrive = np.full(len(here), np.inf)
            arrive[0] = here[0]
        else:
            before = self._cost[first:last]
            diagonal = np.full(len(here), np.inf)
            diagonal[1:] = before[:-1]
            if first:
                diagonal[0] = self._cost[first - 1]
            arrive = np.minimum(before + here, diagonal + 2 * here)
        # stepping on in the reference from the best place to arrive at
        along = np.cumsum(here)
        cost = along + np.minimum.accumulate(arrive - along)
        self._cost = np.full(len(self.reference), np.inf)
        self._cost[first:last] = cost
        self._heard += 1
        length = self._heard + np.arange(first, last)
        self.at = first + int(np.argmin(cost / length))
        return self.at
