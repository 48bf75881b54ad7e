"""How well systems and measures were found on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import Layout

SAME_BOX = 0.7
"""Least intersection over union of a detected box and its true one."""

Boxes = NDArray[np.float64]
"""(boxes, 4): top, bottom, left, right."""


@dataclass(frozen=True)
class Matches:
    """Detected and true boxes, and how many of them are the same."""

    found: int = 0
    true: int = 0
    same: int = 0

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.found + other.found, self.true + other.true, self.same + other.same)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.same / max(1, self.found + self.true)


def compare_layouts(found: Layout, true: Layout) -> tuple[Matches, Matches]:
    """Systems and measures of the same places; no measures where the truth has none."""
    by_page = {page.page: page for page in found.pages}
    systems = measures = Matches()
    measured = any(system.measures for page in true.pages for system in page.systems)
    for page in true.pages:
        mine = by_page.get(page.page)
        there = mine.systems if mine is not None else ()
        systems += match(
            _boxes((s.top, s.bottom, s.left, s.right) for s in there),
            _boxes((s.top, s.bottom, s.left, s.right) for s in page.systems),
        )
        if measured:
            measures += match(
                _boxes((s.top, s.bottom, m.left, m.right) for s in there for m in s.measures),
                _boxes(
                    (s.top, s.bottom, m.left, m.right) for s in page.systems for m in s.measures
                ),
            )
    return systems, measures


def _boxes(edges: Iterator[tuple[float, float, float, float]]) -> Boxes:
    return np.array(list(edges), float).reshape(-1, 4)


def match(found: Boxes, true: Boxes, least: float = SAME_BOX) -> Matches:
    """Pairs of boxes with at least `least` intersection over union, the best first."""
    top, bottom, left, right = (
        pick(found[:, None, i], true[None, :, i])
        for i, pick in enumerate((np.maximum, np.minimum, np.maximum, np.minimum))
    )
    inside = np.clip(bottom - top, 0, None) * np.clip(right - left, 0, None)
    size = [(b[:, 1] - b[:, 0]) * (b[:, 3] - b[:, 2]) for b in (found, true)]
    overlap = inside / np.maximum(size[0][:, None] + size[1][None] - inside, 1e-12)
    same = 0
    while overlap.size and overlap.max() >= least:
        i, j = np.unravel_index(int(overlap.argmax()), overlap.shape)
        overlap[i], overlap[:, j] = 0, 0
        same += 1
    return Matches(len(found), len(true), same)
