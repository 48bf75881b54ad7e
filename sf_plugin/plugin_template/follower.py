"""Starts with the first sound and reads on at a constant pace: `--follower my-plugin`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sf_plugin import Follower, Layout, Score, ScoreError, hookimpl
from sf_plugin.followers import Progress, no_progress
from sf_plugin.hookspecs import RegisterFollower
from sf_plugin.positions import Estimate, State

SYSTEM_SECONDS = 4.0
FRAME_SECONDS = 0.05
SILENCE = 0.01


@hookimpl
def register_followers(register: RegisterFollower) -> None:
    register("my-plugin", MyPlugin, help="reads on at a constant pace")


class MyPlugin(Follower):
    """Needs a layout: a score of symbols, or `scorefollow layout` with another follower."""

    sample_rate = 8000

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        layout = score.layout
        if layout is None or not any(page.systems for page in layout.pages):
            raise ScoreError(f"{score.name}: has no layout: make one with 'scorefollow layout'")
        self.systems = [(page.page, system) for page in layout.pages for system in page.systems]
        self.reset()
        return layout

    def reset(self) -> None:
        self.rest = np.zeros(0, np.float32)
        self.frames, self.played = 0, -1

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        size = round(FRAME_SECONDS * self.sample_rate)
        samples = np.concatenate([self.rest, samples])
        whole = len(samples) // size * size
        self.rest = samples[whole:]
        for frame in samples[:whole].reshape(-1, size):
            self.frames += 1
            self.played += self.played >= 0 or bool(np.abs(frame).max() > SILENCE)
            yield self._estimate(max(self.played, 0) * FRAME_SECONDS / SYSTEM_SECONDS)

    def _estimate(self, read: float) -> Estimate:
        state: State = "waiting" if self.played < 0 else "tracking"
        if read >= len(self.systems):
            state, read = "ended", len(self.systems) - 1e-6
        page, system = self.systems[int(read)]
        x = system.left + (read % 1) * (system.right - system.left)
        y = (system.top + system.bottom) / 2
        time = self.frames * FRAME_SECONDS
        return Estimate(time, page, x, y, float(self.played >= 0), state)
