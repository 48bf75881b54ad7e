"""The follower: chroma in, places on the pages out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from online_time_warping.chroma import HOP, SAMPLE_RATE, Chroma
from online_time_warping.reference import play
from online_time_warping.warping import OnlineTimeWarping
from sf_plugin import Follower, Layout, Score
from sf_plugin.followers import Progress, no_progress
from sf_plugin.positions import Estimate, State

SEARCH_SECONDS = 10.0
"""Of the reference, before and after the present place."""

END_SECONDS = 2.0
"""Of silence near the end of the reference after which the music has ended."""

MEMORY = 0.95
"""Share of the confidence that is kept from a frame to the next."""


class TimeWarping(Follower):
    """Follows a score whose notes are known, from its beginning or an expected place.

    The confidence is how alike the sound and the reference have been in the last second: it
    orders moments, and is no probability.
    """

    sample_rate = SAMPLE_RATE

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        progress("playing the score", 0, 1)
        self.reference = play(score)
        progress("playing the score", 1, 1)
        self.warping = OnlineTimeWarping(
            self.reference.frames, round(SEARCH_SECONDS * SAMPLE_RATE / HOP)
        )
        self.first = 0
        self.reset()
        assert score.layout is not None
        return score.layout

    def reset(self) -> None:
        self.chroma = Chroma()
        self.warping.reset(self.first)
        self.frames, self.quiet, self.likeness = 0, 0, 0.0
        self.begun = False

    def expect(self, page: int, x: float, y: float) -> None:
        self.first = self._frame_at(page, x, y)
        self.reset()

    def goto(self, page: int, x: float, y: float) -> None:
        self.warping.reset(self._frame_at(page, x, y))

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        for frame, sounds in self.chroma.hear(samples):
            self.frames += 1
            self.begun |= sounds
            self.quiet = 0 if sounds else self.quiet + 1
            if self.begun:
                at = self.warping.step(frame)
                alike = float(np.clip(self.reference.frames[at] @ frame, 0, 1))
                self.likeness = MEMORY * self.likeness + (1 - MEMORY) * alike
            yield self._estimate()

    def _estimate(self) -> Estimate:
        at = self.warping.at
        time = self.frames * HOP / SAMPLE_RATE
        page, x, y = self.reference.page[at], self.reference.x[at], self.reference.y[at]
        return Estimate(time, int(page), float(x), float(y), self.likeness, self._state())

    def _state(self) -> State:
        if not self.begun:
            return "waiting"
        left = (len(self.reference.frames) - self.warping.at) * HOP / SAMPLE_RATE
        silent = self.quiet * HOP / SAMPLE_RATE > END_SECONDS
        return "ended" if silent and left < END_SECONDS else "tracking"

    def _frame_at(self, page: int, x: float, y: float) -> int:
        """The nearest frame: on the page, then on the system, then by x."""
        way = np.abs(self.reference.x - x) + 10 * np.abs(self.reference.y - y)
        return int(np.argmin(way + 100 * np.abs(self.reference.page - page)))
