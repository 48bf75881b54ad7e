"""A follower that starts with the first sound and reads on at a constant pace.

pip install ./examples/constant_tempo_follower
scorefollow follow sonata.pdf --audio take.wav --follower constant-tempo
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sf_plugin import Follower, Layout, Score, hookimpl
from sf_plugin.followers import Progress, no_progress
from sf_plugin.positions import Estimate, State
from sf_plugin.score.layout import Measure, PageLayout, System

SYSTEM_SECONDS = 4.0
FRAME_SECONDS = 0.05
SILENCE = 0.01


@hookimpl
def register_followers(register) -> None:  # type: ignore[no-untyped-def]
    register("constant-tempo", ConstantTempo, help="reads on at a constant pace")


class ConstantTempo(Follower):
    sample_rate = 8000

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        layout = score.layout or Layout(tuple(_one_system(index + 1) for index in score.followed))
        self.systems = [(page.page, system) for page in layout.pages for system in page.systems]
        self.first = 0
        self.reset()
        return layout

    def reset(self) -> None:
        self.rest = np.zeros(0, np.float32)
        self.frames, self.played = 0, -1

    def expect(self, page: int, x: float, y: float) -> None:
        places = [(number, system.bottom) for number, system in self.systems]
        below = (i for i, place in enumerate(places) if place >= (page, y))
        self.first = next(below, len(places) - 1)
        self.reset()

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        size = round(FRAME_SECONDS * self.sample_rate)
        samples = np.concatenate([self.rest, samples])
        whole = len(samples) // size * size
        self.rest = samples[whole:]
        for frame in samples[:whole].reshape(-1, size):
            self.frames += 1
            self.played += self.played >= 0 or bool(np.abs(frame).max() > SILENCE)
            played = max(self.played, 0) * FRAME_SECONDS / SYSTEM_SECONDS
            yield self._estimate(self.first + played)

    def _estimate(self, read: float) -> Estimate:
        state: State = "waiting" if self.played < 0 else "tracking"
        if read >= len(self.systems):
            state, read = "ended", len(self.systems) - 1e-6
        page, system = self.systems[int(read)]
        x = system.left + (read % 1) * (system.right - system.left)
        y = (system.top + system.bottom) / 2
        time = self.frames * FRAME_SECONDS
        return Estimate(time, page, x, y, float(self.played >= 0), state)


def _one_system(page: int) -> PageLayout:
    return PageLayout(page, (System(0.1, 0.9, 0.1, 0.9, (Measure(page, 0.1, 0.9),)),))
