"""Plain baselines: followers that are told more than a user knows, and say what.

A baseline is made for each case, since it looks behind the page images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.perform import MECHANICAL, perform
from sf_plugin.dataset.render import render
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.time_warping import (
    HOP,
    SAMPLE_RATE,
    SEARCH_SECONDS,
    Chroma,
    OnlineTimeWarping,
)
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

PIANO = "timgm-grand"
"""Plays the score for `ChromaWarping`; one of those that play the cases."""


class ConstantSpeed(Follower):
    """Moves along the systems at the one speed that gets it from first to last note in time."""

    sample_rate = 8000
    frame_seconds = 0.05

    def __init__(self, layout: Layout, start: float, end: float) -> None:
        self.layout = layout
        self.start, self.end = start, end
        self.systems = [(page.page, system) for page in layout.pages for system in page.systems]
        self.edges = np.cumsum([0.0, *(s.right - s.left for _, s in self.systems)])
        self.reset()

    @classmethod
    def for_case(cls, case: Case) -> ConstantSpeed:
        return cls(case.layout, float(case.truth.time[0]), float(case.truth.time[-1]))

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        return self.layout

    def reset(self) -> None:
        self.samples = self.frames = 0

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        self.samples += len(samples)
        size = round(self.frame_seconds * self.sample_rate)
        while (self.frames + 1) * size <= self.samples:
            self.frames += 1
            yield self._estimate(self.frames * self.frame_seconds)

    def _estimate(self, time: float) -> Estimate:
        share = (time - self.start) / max(self.end - self.start, 1e-6)
        way = min(max(share, 0.0), 1.0) * float(self.edges[-1])
        index = min(int(np.searchsorted(self.edges, way, side="right")), len(self.systems)) - 1
        page, system = self.systems[index]
        x = system.left + way - float(self.edges[index])
        y = (system.top + system.bottom) / 2
        known = share >= 0
        return Estimate(time, page, x, y, float(known), "tracking" if known else "waiting")


@dataclass(frozen=True)
class Reference:
    """The score as sound: (frames, 24) chroma from its first note, and the place of each frame."""

    chroma: NDArray[np.float64]
    page: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


class ChromaWarping(Follower):
    """Warps what it hears to the engraved score's own synthesis, frame by frame."""

    sample_rate = SAMPLE_RATE

    def __init__(self, layout: Layout, reference: Reference) -> None:
        self.layout = layout
        self.reference = reference
        search = round(SEARCH_SECONDS * SAMPLE_RATE / HOP)
        self.warping = OnlineTimeWarping(reference.chroma, search)
        self.reset()

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        return self.layout

    def reset(self) -> None:
        self.chroma = Chroma()
        self.warping.reset()
        self.frames = 0
        self.begun = False

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        for frame, sounds in zip(*self.chroma.hear(samples), strict=True):
            self.frames += 1
            self.begun |= bool(sounds)
            at = self.warping.step(frame) if self.begun else 0
            yield Estimate(
                self.frames * HOP / SAMPLE_RATE,
                int(self.reference.page[at]),
                float(self.reference.x[at]),
                float(self.reference.y[at]),
                float(self.begun),
                "tracking" if self.begun else "waiting",
            )


class Warpings:
    """Makes `ChromaWarping` for cases; a score is synthesised once for the cases in a row."""

    def __init__(self) -> None:
        self._known: tuple[Score, Reference] | None = None

    def __call__(self, case: Case) -> ChromaWarping:
        if self._known is None or self._known[0] is not case.score:
            self._known = case.score, synthesise(case)
        return ChromaWarping(case.layout, self._known[1])


def synthesise(case: Case) -> Reference:
    """The printed notes, played mechanically on one piano.

    Raises:
        ScoreFollowerError: the case does not know what is printed.
    """
    if case.symbols is None:
        raise ScoreFollowerError(
            f"{case.name}: its notes are not known, and 'chroma-oltw' has to play them: "
            "choose another --follower"
        )
    performance = perform(case.symbols, np.random.default_rng(0), MECHANICAL)
    sound = render(performance.notes, PIANO, SAMPLE_RATE)
    chroma, sounds = Chroma().hear(sound)
    onsets = performance.onsets
    time = (np.arange(len(chroma)) + 1) * HOP / SAMPLE_RATE
    at = np.searchsorted(onsets["time"], time, side="right") - 1
    first = int(np.argmax(sounds & (at >= 0)))
    place = onsets[at[first:]]
    centres = [
        (system.top + system.bottom) / 2 for page in case.layout.pages for system in page.systems
    ]
    return Reference(
        chroma[first:],
        place["page"].astype(np.int64) + 1,
        place["x"].astype(float),
        np.array(centres)[place["system"]],
    )


@dataclass(frozen=True)
class Baseline:
    """A baseline by name; `listen()` makes what gives each case its follower."""

    help: str
    sees: str
    listen: Callable[[], Callable[[Case], Follower]]


def _constant_speed() -> Callable[[Case], Follower]:
    return ConstantSpeed.for_case


BASELINES = {
    "constant-speed": Baseline(
        "moves along the systems at a constant speed",
        "the true systems, and when the first and the last note are played; no sound",
        _constant_speed,
    ),
    "chroma-oltw": Baseline(
        "chroma and online time warping against the score's own synthesis",
        "the printed notes and where each stands; no page images",
        Warpings,
    ),
}
