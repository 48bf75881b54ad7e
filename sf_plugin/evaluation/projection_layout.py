"""A plain baseline without a network: staff lines by row projection, bar lines by columns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import Measure, PageLayout, System
from sf_plugin.score.staves import runs

INK = 0.8  # of the paper's brightness: less is ink
LINE = 0.35  # of the page's width that is inked in a row of a staff line
EVEN = 0.25  # of the mean distance by which those of five lines may differ
BAR = 0.95  # of the rows between two places that a bar line inks
EDGE = 3.0  # staff spaces at an end in which a bar line is the system's own

Ink = NDArray[np.bool_]
Lines = list[float]


def projection_layout(image: NDArray[np.uint8], page: int, first_measure: int) -> PageLayout:
    """The layout of page `page` (from 1); `first_measure` numbers its first measure."""
    height, width = image.shape
    ink = np.asarray(image < INK * np.median(image))
    found = []
    number = first_measure
    for staves in _systems(ink, _staves(ink)):
        top, bottom = staves[0][0], staves[-1][-1]
        space = (staves[0][-1] - staves[0][0]) / 4
        inked = np.flatnonzero(ink[round(top)] | ink[round(bottom)])
        left, right = float(inked[0]), float(inked[-1] + 1)
        bars = np.all([_solid(ink, lines[0], lines[-1]) for lines in staves], 0)
        inner = [(a + b) / 2 for a, b in runs(bars)]
        inner = [x for x in inner if left + EDGE * space < x < right - EDGE * space]
        edges = [x / width for x in (left, *inner, right)]
        measures = tuple(Measure(number + i, *ends) for i, ends in enumerate(pairwise(edges)))
        number += len(measures)
        found.append(System(top / height, bottom / height, edges[0], edges[-1], measures))
    return PageLayout(page, tuple(found))


def _staves(ink: Ink) -> list[Lines]:
    """Rows of five lines at even distances, from top to bottom."""
    lines = [(a + b - 1) / 2 for a, b in runs(ink.mean(1) > LINE)]
    found = []
    at = 0
    while at + 5 <= len(lines):
        distances = np.diff(lines[at : at + 5])
        even = np.abs(distances - distances.mean()).max() <= max(1, EVEN * distances.mean())
        if even:
            found.append(lines[at : at + 5])
        at += 5 if even else 1
    return found


def _systems(ink: Ink, staves: list[Lines]) -> list[list[Lines]]:
    """Staves that some column joins."""
    groups: list[list[Lines]] = []
    for lines in staves:
        if groups and _solid(ink, groups[-1][-1][-1], lines[0]).any():
            groups[-1].append(lines)
        else:
            groups.append([lines])
    return groups


def _solid(ink: Ink, top: float, bottom: float) -> Ink:
    """(width,) the columns that are inked from row to row."""
    return np.asarray(ink[round(top) : round(bottom) + 1].mean(0) >= BAR)
