"""Trills and tremolos: many strikes of what the page prints once."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SOON, LATE = 0.06, 0.35
"""Seconds between strikes of the same, in a trill."""
MEMORY = 0.5
"""Seconds over which it is averaged how much of what sounds was struck just before."""
BEGINS, SURE = 0.3, 0.6
"""Averages from which it may be a trill, and from which it is one."""
STRUCK = 0.3
"""How likely a note begins in a frame that is taken for a strike."""


class Trill:
    """How new a strike is, one frame after the other.

    Repeated notes and figures that the page has are struck again as well, but seldom so
    soon and for so long.
    """

    def __init__(self) -> None:
        self._heard: deque[tuple[float, Floats]] = deque()
        self._time = 0.0
        self._average = 0.0

    def fresh(self, belief: Floats, struck: float, time: float) -> float:
        """Share of a frame's evidence that counts, 1 unless a trill goes on.

        `belief` is the network's (onsets,), known at `time` seconds; `struck` as of
        `Tracker.step`.
        """
        passed, self._time = max(time - self._time, 0.0), time
        while self._heard and (
            time - self._heard[0][0] > LATE or len(self._heard[0][1]) != len(belief)
        ):
            self._heard.popleft()
        again = 0.0
        if struck > STRUCK:
            mine: Floats = np.sqrt(belief)
            before = [likely for at, likely in self._heard if time - at >= SOON]
            if before:
                again = float(max(likely @ mine for likely in before))
            self._heard.append((time, mine * np.float32(struck)))
        fade = min(passed / MEMORY, 1.0)
        self._average += fade * (again * struck * 2 - self._average)
        sure = (self._average - BEGINS) / (SURE - BEGINS)
        return float(1 - again * min(max(sure, 0.0), 1.0))
