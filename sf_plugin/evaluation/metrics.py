"""How well a performance was followed: pure functions with their definitions.

A position answers for an onset if it is the last one known `ANSWER` seconds
after it; so a system is charged for being late.  The published systems are
measured alike: a frame is centred on the onset and hears half a window more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import Position

ANSWER = 0.075
"""Seconds after an onset at which the system's word for it is taken."""

THRESHOLDS = (0.05, 0.1, 0.5, 1.0, 5.0)
"""Seconds, of Henkel et al. 2020 and later papers."""


@dataclass(frozen=True)
class Truth:
    """Where every onset of a performance stands, in order of time.

    Attributes:
        time: (onsets,) seconds.
        page: (onsets,) from 1.
        system: (onsets,) within the page, from 1.
        x: (onsets,) fraction of the page's width.
        measure: (onsets,) within the document, from 1; 0 where there is none.
        system_centres: per page, the systems' middles as fractions of its height.
        bars: per (page, system), the measures' left edges and their numbers.
    """

    time: NDArray[np.float64]
    page: NDArray[np.int64]
    system: NDArray[np.int64]
    x: NDArray[np.float64]
    measure: NDArray[np.int64]
    system_centres: dict[int, list[float]]
    bars: dict[tuple[int, int], list[tuple[float, int]]]

    def system_at(self, page: int, y: float) -> int:
        """The true system nearest to `y`, from 1; 0 on a page without music."""
        centres = self.system_centres.get(page, [])
        if not centres:
            return 0
        return int(np.argmin(np.abs(np.array(centres) - y))) + 1

    def measure_at(self, page: int, x: float, y: float) -> int:
        """The true measure at a point, 0 where there is none."""
        edges = self.bars.get((page, self.system_at(page, y)), [])
        number = edges[0][1] if edges else 0
        for left, measure in edges:
            if x >= left - 1e-4:
                number = measure
        return number


@dataclass(frozen=True)
class Answers:
    """One answer for every onset.

    `error` is seconds between the onset and the onset nearest to the answer's
    place, infinite where the system had said nothing or was on a wrong page
    without music.
    """

    error: NDArray[np.float64]
    right_page: NDArray[np.bool_]
    right_system: NDArray[np.bool_]
    right_measure: NDArray[np.bool_]
    confidence: NDArray[np.float64]

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """All onsets of several performances: for pooled figures."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("error", "right_page", "right_system", "right_measure", "confidence")
            )
        )

    def ratios(self) -> list[float]:
        """Share of onsets within each of THRESHOLDS."""
        return [float((self.error <= limit + 1e-9).mean()) for limit in THRESHOLDS]

    def summary(self) -> dict[str, float]:
        """All figures by name."""
        return {
            "onsets": len(self.error),
            **{f"within_{t:g}s": r for t, r in zip(THRESHOLDS, self.ratios(), strict=True)},
            "page": float(self.right_page.mean()),
            "system": float(self.right_system.mean()),
            "measure": float(self.right_measure.mean()),
        }


def answers(positions: Sequence[Position], truth: Truth) -> Answers:
    """What was said of every onset."""
    count = len(truth.time)
    error = np.full(count, np.inf)
    right = np.zeros((3, count), bool)
    confidence = np.zeros(count)
    known = np.array([p.time for p in positions])
    index = np.searchsorted(known, truth.time + ANSWER, side="right") - 1
    for i, j in enumerate(index):
        if j < 0 or positions[j].state == "waiting":
            continue
        said = positions[j]
        confidence[i] = said.confidence
        system = truth.system_at(said.page, said.y)
        here = np.flatnonzero((truth.page == said.page) & (truth.system == system))
        if len(here):
            away = np.abs(truth.x[here] - said.x)
            # of equally near onsets (chords, repeats) the one nearest in time
            nearest = here[away <= away.min() + 1e-6]
            error[i] = np.abs(truth.time[nearest] - truth.time[i]).min()
        right[0, i] = said.page == truth.page[i]
        right[1, i] = right[0, i] and system == truth.system[i]
        right[2, i] = truth.measure_at(said.page, said.x, said.y) == truth.measure[i] > 0
    return Answers(error, right[0], right[1], right[2], confidence)
