"""Systems and measures from the page encoder's maps.

The maps say for every cell of a grid over the page how likely it lies in a
system, on a staff, on a bar line; this decoder reads boxes off their profiles.
It finds systems that stand below one another.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import Measure, PageLayout, System

Floats = NDArray[np.float32]

MIN_WIDTH = 0.2  # of the page: less is no system
MIN_HEIGHT = 3  # rows
BAR = 0.35  # mean probability along the system's height
BAR_DISTANCE = 4  # columns between two bar lines
EDGE = 3  # columns at a system's start where a bar line opens no new measure
TRAIL = 8  # columns after the last bar line that make a measure of their own


def runs(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and past-the-last index of each stretch of True."""
    edges = np.diff(np.concatenate([[0], on.astype(np.int8), [0]]))
    return list(
        zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(), strict=True)
    )


def peaks(profile: Floats, threshold: float, distance: int) -> list[float]:
    """Centres of the local maxima above `threshold`, the higher of two close ones."""
    padded = np.pad(profile, 1, constant_values=-1)
    tops = np.flatnonzero(
        (profile >= threshold) & (profile >= padded[:-2]) & (profile > padded[2:])
    )
    found: list[int] = []
    for i in tops[np.argsort(-profile[tops], kind="stable")]:
        if all(abs(int(i) - j) >= distance for j in found):
            found.append(int(i))
    centres = []
    for i in sorted(found):
        window = slice(max(0, i - 1), i + 2)
        weight = profile[window]
        columns = np.arange(window.start, window.start + len(weight))
        centres.append(float((columns * weight).sum() / weight.sum()))
    return centres


def find_systems(systems: Floats, staves: Floats) -> list[tuple[float, float, float, float]]:
    """(top, bottom, left, right) in rows and columns of the (rows, columns) maps."""
    _, columns = systems.shape
    inside = np.maximum(systems, staves) > 0.5
    out = []
    for top, bottom in runs((systems > 0.5).sum(1) > MIN_WIDTH * columns):
        if bottom - top < MIN_HEIGHT:
            continue
        covered = inside[top:bottom].mean(0) > 0.5
        stretches = [s for s in runs(covered) if s[1] - s[0] >= 4]
        if not stretches:
            continue
        left, right = stretches[0][0], stretches[-1][1]
        if right - left >= MIN_WIDTH * columns:
            out.append((float(top), float(bottom), float(left), float(right)))
    return out


def find_measures(bars: Floats, left: float, right: float) -> list[tuple[float, float]]:
    """Stretches of columns between bar lines; `bars` is the mean over the system's rows."""
    inside = bars[int(left) : int(np.ceil(right)) + 2]
    lines = [x + int(left) + 0.5 for x in peaks(inside, BAR, BAR_DISTANCE)]
    edges = [left] + [x for x in lines if x - left > EDGE]
    if len(edges) > 1 and right - edges[-1] < TRAIL:
        edges[-1] = right
    else:
        edges.append(right)
    return list(pairwise(edges))


def detect_page(maps: Floats, page: int, first_measure: int) -> PageLayout:
    """The layout of page `page` (from 1) from its (3, rows, columns) probabilities.

    `first_measure` numbers its first measure.
    """
    systems, staves, bars = maps
    rows, columns = systems.shape
    number = first_measure
    found = []
    for top, bottom, left, right in find_systems(systems, staves):
        profile = bars[int(top) : int(bottom)].mean(0)
        measures = []
        for a, b in find_measures(profile, left, right):
            measures.append(Measure(number, a / columns, b / columns))
            number += 1
        found.append(
            System(top / rows, bottom / rows, left / columns, right / columns, tuple(measures))
        )
    return PageLayout(page, tuple(found))
