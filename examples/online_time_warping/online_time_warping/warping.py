"""Online time warping: where in a reference the newest frame is.

Simon Dixon, "Live tracking of musical performances using on-line time warping", DAFx 2005.
The accumulated cost is kept for a stretch around the present place only, and places are compared
by the mean cost of the path to them.  As Andreas Arzt and Gerhard Widmer do it ("Simple tempo
models for real-time music tracking", SMC 2010), each new frame adds one row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class OnlineTimeWarping:
    """Steps through a reference, a frame at a time.

    Args:
        reference: (frames, features), each frame of length 1.
        search: frames that the path may be away from the present place.

    Attributes:
        at: the place in the reference, from 0.
    """

    def __init__(self, reference: NDArray[np.float64], search: int) -> None:
        self.reference = reference
        self.search = search
        self.reset()

    def reset(self, at: int = 0) -> None:
        """Begin again, before the first frame, at a place in the reference."""
        self.at = self.first = at
        self.heard = 0
        self.cost = np.full(len(self.reference), np.inf)

    def step(self, frame: NDArray[np.float64]) -> int:
        """The place of a new (features,) frame."""
        low = max(self.first, self.at - self.search)
        high = min(len(self.reference), self.at + self.search + 1)
        here = 1 - self.reference[low:high] @ frame
        if self.heard == 0:
            arrive = np.where(np.arange(low, high) == self.first, here, np.inf)
        else:
            waited = self.cost[low:high] + here
            before = (
                self.cost[low - 1 : high - 1] if low else np.append(np.inf, self.cost[: high - 1])
            )
            arrive = np.minimum(waited, before + 2 * here)
        # from the best place to arrive at, on through the reference
        along = np.cumsum(here)
        cost = along + np.minimum.accumulate(arrive - along)
        self.cost[:] = np.inf
        self.cost[low:high] = cost
        self.heard += 1
        steps = self.heard + np.arange(low, high) - self.first
        self.at = low + int(np.argmin(cost / steps))
        return self.at
