"""The course of every staff's lines across the page, to a fraction of a pixel.

The page encoder's map tells roughly where staves are; the ink tells exactly: five
dark lines at equal distances, with light between them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sf_plugin.score.staves import runs

Floats = NDArray[np.float32]

STRETCHES = 12  # along a staff, in each of which it is taken to be straight and level
THIN = 3  # rows of the map: less is no staff
OFFSETS = np.linspace(-0.7, 0.7, 29)  # staff spaces beside the map's middle
SPACES = np.linspace(0.88, 1.12, 25)  # times the map's staff space
HALF = 2.05  # staff spaces from the middle to the outer edges of the outer lines
BESIDE = np.linspace(-3.2, 3.2, 129)  # all places that are looked at, as apart as the offsets
ON_LINES = slice(10, 91, 20)
ON_GAPS = slice(0, 101, 20)


def find_lines(
    ink: Floats, staves: Floats, box: tuple[float, float, float, float]
) -> NDArray[np.float32]:
    """(staves, 2, columns) pixel rows of the top and bottom lines of a system's staves.

    Args:
        ink: (height, width), paper 0.
        staves: (rows, columns) how likely a cell of the map lies on a staff.
        box: the system's top, bottom, left and right, in cells of the map.
    """
    rows, columns = staves.shape
    top, bottom = max(0, int(box[0]) - 3), min(rows, int(np.ceil(box[1])) + 3)
    left, right = int(box[2]), max(int(np.ceil(box[3])), int(box[2]) + STRETCHES)
    edges = np.linspace(left, min(right, columns), STRETCHES + 1).astype(int)
    found = [_staves_in(staves[top:bottom, a:b], top) for a, b in pairwise(edges)]
    counts = np.array([len(stretch) for stretch in found])
    if not counts.any():
        return np.zeros((0, 2, columns), np.float32)
    count = int(np.argmax(np.bincount(counts[counts > 0])))
    pixels = ink.shape[0] / rows
    known = np.flatnonzero(counts == count)
    middle = np.array([[(a + b) / 2 for a, b in found[i]] for i in known]).T * pixels
    space = np.median([[b - a for a, b in found[i]] for i in known], 0) * pixels / 4
    centres = (edges[:-1] + edges[1:]) / 2
    profiles = [_profile(ink, a, b, columns) for a, b in pairwise(edges)]
    cells = np.arange(columns, dtype=np.float64) + 0.5
    lines = np.zeros((count, 2, columns), np.float32)
    for staff in range(count):
        guess = np.interp(centres, centres[known], middle[staff])
        fits = [_fit(p, g, space[staff] * SPACES) for p, g in zip(profiles, guess, strict=True)]
        own = float(np.median([fit[1] for fit in fits]))
        at = [_fit(p, g, np.array([own]))[0] for p, g in zip(profiles, guess, strict=True)]
        course = _smooth(centres, guess, np.array(at), own, cells)
        lines[staff] = course - HALF * own, course + HALF * own
    return lines


def _staves_in(likely: Floats, first: int) -> list[tuple[int, int]]:
    """Rows of the map where staves begin and end in a stretch of a system."""
    on = likely.sum(1) > 0.5 * likely.shape[1]
    return [(a + first, b + first) for a, b in runs(on) if b - a >= THIN]


def _profile(ink: Floats, first: int, last: int, columns: int) -> Floats:
    """(height,) mean ink over some columns of the map, a little smoothed."""
    scale = ink.shape[1] / columns
    mean = ink[:, int(first * scale) : max(int(last * scale), int(first * scale) + 1)].mean(1)
    padded = np.pad(mean, 1, mode="edge")
    return np.asarray((padded[:-2] + 2 * mean + padded[2:]) / 4, np.float32)


def _fit(profile: Floats, guess: float, spaces: NDArray[np.float64]) -> tuple[float, float]:
    """The middle line and the staff space that put most ink on lines and least between."""
    rows = np.arange(len(profile)) + 0.5
    seen = np.interp(guess + BESIDE * spaces[:, None], rows, profile)
    moved = sliding_window_view(seen, len(OFFSETS), axis=1)  # (spaces, places, offsets)
    on, off = moved[:, ON_LINES], moved[:, ON_GAPS]
    # the faintest line counts too: a beam or a ledger line is not a staff
    score = (on.mean(1) + 0.5 * on.min(1) - off.mean(1)).T
    best = np.unravel_index(int(np.argmax(score)), score.shape)
    return float(guess + OFFSETS[best[0]] * spaces[best[1]]), float(spaces[best[1]])


def _smooth(
    x: NDArray[np.float64],
    guess: NDArray[np.float64],
    y: NDArray[np.float64],
    space: float,
    at: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A cubic through most of the points, at other places; level beyond the ends.

    A point that is a line off leaves its guess otherwise than the others do.
    """
    middle, reach = x.mean(), max(float(np.ptp(x)) / 2, 1.0)
    off = y - guess
    kept = np.abs(off - np.quantile(off, 0.5, method="nearest")) <= 0.35 * space
    for _ in range(3):
        degree = min(3, max(0, len(np.unique(x[kept])) - 2))
        curve = np.polynomial.polynomial.polyfit((x[kept] - middle) / reach, y[kept], degree)
        away = np.abs(np.polynomial.polynomial.polyval((x - middle) / reach, curve) - y)
        kept = away <= max(0.15 * space, float(np.median(away)))
    inside = (np.clip(at, x[0], x[-1]) - middle) / reach
    return np.asarray(np.polynomial.polynomial.polyval(inside, curve))
