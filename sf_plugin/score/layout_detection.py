"""Systems and measures from the page encoder's maps and the ink.

The maps say for every cell of a grid over the page how likely it lies in a
system, on a staff, on a bar line; the ink says where exactly, and what joins
staves into a system: the line at their left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import Measure, PageLayout, System
from sf_plugin.score.staves import Staff, find_staves, level, streaks, weights

Floats = NDArray[np.float32]

JOINED = 0.8  # how much ink and map between two staves make them one system
ODD = 0.2  # what it counts against every staff of a system that has not as many as the others
FAINT = 3.0  # by which a map is multiplied where a staff is looked for that must be there
PLAIN = 0.85  # twice a staff's contrast, as a share of the page's, and its mean probability
SURE = 1.58  # the same of the surest staff of a system
LONELY = 1.9  # the same where a system has fewer staves than the others
LEANS = 0.04, 0.02, 0.01  # columns a row by which bar lines may lean more or less
BAR = 0.44  # how much a column must look like a bar line, as a share of the page's clearest
CLEAREST = 0.6, 1.0  # least and most that they are taken to look like one
INK = 0.12, 0.48  # what ink through the staves and through the system counts beside the map
DARK = 0.1, 0.6  # the ink of a line is darker than the first, and need not be than the second
BETWEEN = np.array([n + f for n in range(-2, 2) for f in (0.3, 0.5, 0.7)], np.float32)
HEAD = 0.6  # probability from which there is a note head
ROWS = 12  # at which a bar line is looked at
APART = 2.0  # staff spaces between two bar lines
OPENING = 16.0  # staff spaces for a clef, a key and a metre
START = 2.5  # staff spaces at a system's start where a bar line opens no new measure
TRAIL = 5.0  # staff spaces after the last bar line that make a measure of their own
CLOSED = 1.5  # staff spaces from a system's end within which a line closes it
MARGIN = 6.5, 12.0  # staff spaces at the left, the right, that may be too dark or faint to see


@dataclass(frozen=True)
class _Page:
    """What is known of a page.

    Attributes:
        ink: (height, width), levelled.
        thick: the same with thicker lines.
        maps: as `detect_page` has them.
        bars: (rows, width) the map of bar lines, as wide as the ink.
    """

    ink: Floats
    thick: Floats
    maps: Floats
    bars: Floats

    def likely(self, number: int, rows: NDArray[np.floating], columns: NDArray[Any]) -> Floats:
        """A map's values at pixels."""
        return _at(
            self.maps[number],
            rows * (self.maps.shape[1] / self.ink.shape[0]),
            columns * (self.maps.shape[2] / self.ink.shape[1]),
        )


def detect_page(ink: Floats, maps: Floats, page: int, first_measure: int) -> PageLayout:
    """The layout of page `page` (from 1); `first_measure` numbers its first measure.

    Args:
        ink: (height, width), paper 0.
        maps: (4, rows, columns) probabilities of systems, staves, bar lines and note heads.
    """
    height, width = ink.shape
    ink = level(ink)
    dirt = streaks(ink)
    ink = np.maximum(ink - dirt, 0)
    clean = 1 - np.minimum(1, thick(thick(dirt[None])) / DARK[1])
    across = weights(width, maps.shape[2], width / maps.shape[2])
    here = _Page(ink, thick(ink), maps, maps[2] @ across.T * clean)
    groups, sure, usual = group(here, find_staves(ink, maps[1]))
    if any(len(staves) < usual for staves in groups):
        faint = find_staves(ink, np.minimum(FAINT * maps[1], 1))
        groups = complete(here, groups, usual, faint)
        groups = [
            staves
            for staves, own in zip(groups, sure, strict=True)
            if len(staves) >= usual or own > LONELY
        ]
    shear = lean(here, groups)
    likely = [bar_lines(here, staves, shear) for staves in groups]
    least = threshold(likely, groups)
    number = first_measure
    found: list[System] = []
    ends = find_ends(groups, shear, likely, least)
    for staves, profile, (left, right) in zip(groups, likely, ends, strict=True):
        edges = find_measures(here, staves, float(left), float(right), profile, least)
        inside = slice(round(edges[0]), round(edges[-1]))
        top = float(staves[0].top[inside].mean() + 0.5) / height
        bottom = float(staves[-1].bottom[inside].mean() + 0.5) / height
        top, bottom = max(top, found[-1].bottom if found else 0.0), min(bottom, 1.0)
        if top >= bottom:
            continue
        bars = [min(x / width, 1.0) for x in edges]
        measures = tuple(Measure(number + i, *sides) for i, sides in enumerate(pairwise(bars)))
        number += len(measures)
        found.append(System(top, bottom, bars[0], bars[-1], measures))
    return PageLayout(page, tuple(found))


def _at(image: Floats, rows: NDArray[np.floating], columns: NDArray[np.floating]) -> Floats:
    """The pixels or cells in which places lie."""
    height, width = image.shape
    return image[
        np.clip(rows, 0, height - 1).astype(np.intp), np.clip(columns, 0, width - 1).astype(np.intp)
    ]


def thick(ink: Floats) -> Floats:
    """Every pixel as dark as the darkest of it and those beside it."""
    padded = np.pad(ink, ((0, 0), (1, 1)))
    return np.maximum(np.maximum(padded[:, :-2], padded[:, 2:]), ink)


def group(page: _Page, staves: Sequence[Staff]) -> tuple[list[list[Staff]], list[float], int]:
    """Staves by system, how sure the surest of each is, and how many staves systems usually have.

    Those systems of which no staff is sure are none.
    """
    sure = plain(page, staves)
    if not sure:
        return [], [], 0
    joins = [join(page, one[0], other[0]) for one, other in pairwise(sure)]
    parted = [part(joins, usual) for usual in range(1, len(sure) + 1)]
    usual, (_, sizes) = max(enumerate(parted, 1), key=lambda way: way[1][0])
    ends = accumulate(sizes, initial=0)
    systems = [sure[first:last] for first, last in pairwise(ends)]
    systems = [system for system in systems if max(own for _, own in system) > SURE]
    groups = [[staff for staff, _ in system] for system in systems]
    return groups, [max(own for _, own in system) for system in systems], usual


def part(joins: Sequence[float], usual: int) -> tuple[float, list[int]]:
    """The likeliest numbers of staves in systems from top to bottom, and how likely they are.

    Args:
        joins: how much every staff and the next are joined.
        usual: number of staves in a system that is not odd.
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(joins) + 2):
        ways = []
        for start, (score, sizes) in enumerate(best):
            inside = sum(joins[start : end - 1]) - JOINED * (end - 1 - start)
            odd = ODD * (end - start) * (end - start != usual)
            ways.append((score + inside - odd, [*sizes, end - start]))
        best.append(max(ways))
    return best[-1]


def height(staff: Staff) -> float:
    """Mean row of its middle line."""
    return staff.between(staff.middle)


def apart(one: Staff, other: Staff) -> bool:
    """Whether two staves do not overlap."""
    away = abs(height(one) - height(other))
    return away > 5 * (one.space + other.space) / 2


def complete(
    page: _Page, groups: Sequence[Sequence[Staff]], usual: int, faint: Sequence[Staff]
) -> list[list[Staff]]:
    """Systems of fewer staves than usual, with those faint ones that are joined to them."""
    known = [staff for staves in groups for staff in staves]
    new = [staff for staff in faint if all(apart(staff, other) for other in known)]
    out = []
    for staves in groups:
        whole = list(staves)
        while len(whole) < usual:
            top, bottom = height(whole[0]), height(whole[-1])
            above = [s for s in new if height(s) < top][-1:]
            below = [s for s in new if height(s) > bottom][:1]
            ways = [(join(page, s, whole[0]), [s, *whole]) for s in above]
            ways += [(join(page, whole[-1], s), [*whole, s]) for s in below]
            sure, more = max(ways, key=lambda way: way[0], default=(0.0, whole))
            if sure < JOINED:
                break
            whole = more
        out.append(whole)
    return out


def plain(page: _Page, staves: Sequence[Staff]) -> list[tuple[Staff, float]]:
    """Staves with how surely they are; without what is none at all.

    What shines through from the other side is paler than the page's own; a title is
    smaller than its staves.
    """
    if not staves:
        return []
    contrast = [float(staff.contrast(page.ink).mean()) for staff in staves]
    usual = max(float(np.quantile(contrast, 0.7)), 0.01)
    size = float(np.median([staff.space for staff in staves]))
    sure = [2 * c / usual + _on_staff(page, s) for c, s in zip(contrast, staves, strict=True)]
    return [
        (staff, own * min(1.0, staff.space / size))
        for staff, own in zip(staves, sure, strict=True)
        if own > PLAIN
    ]


def _on_staff(page: _Page, staff: Staff) -> float:
    """Mean probability along a staff."""
    columns = np.arange(staff.left, staff.right)
    return float(page.likely(1, staff.middle[columns], columns).mean())


def join(page: _Page, upper: Staff, lower: Staff) -> float:
    """How much joins two neighbours: the map between them, and ink at their left ends."""
    left, right = max(upper.left, lower.left), min(upper.right, lower.right)
    if right <= left:
        return 0.0
    columns = np.linspace(left, right - 1, 40).astype(int)
    rows = _steps(upper.bottom[columns], lower.top[columns], 5)[1:-1]
    likely = float(page.likely(0, rows, columns).min(0).mean())
    return 1.5 * likely + max(_line_at_left(page.ink, upper, lower), 0.0)


def _steps(first: NDArray[np.floating], last: NDArray[np.floating], count: int) -> np.ndarray:
    return np.round(np.linspace(first, last, count)).astype(int)


def _line_at_left(ink: Floats, upper: Staff, lower: Staff) -> float:
    """The darkest way from one staff to the next near their left ends, 1 where it is a line."""
    space = round((upper.space + lower.space) / 2)
    first, last = upper.bottom[upper.left] + 1, lower.top[lower.left] - 1
    count = int(last - first)
    if count < 2:
        return 0.0
    dark = (upper.darkness(ink) + lower.darkness(ink)) / 2
    away = np.arange(-2 * space, 2 * space + 1)[:, None, None]
    lean = np.array([[-2], [0], [2]]) * np.linspace(0, 1, count)
    start = min(upper.left, lower.left)
    columns = np.linspace([upper.left, start], [lower.left, start], count).T[:, None, None]
    columns = columns + away + lean
    columns = np.clip(np.round(columns), space, ink.shape[1] - space - 2).astype(int)
    rows = np.linspace(first, last, count).astype(int)
    beside = np.maximum(ink[rows, columns - space], ink[rows, columns + 1 + space])
    line = np.maximum(ink[rows, columns], ink[rows, columns + 1]) - beside
    return float(np.minimum(1, line / max(dark, 0.05)).mean(-1).max())


def upright(
    image: Floats, rows: Floats, staves: Sequence[Staff], shear: float, scale: float = 1.0
) -> Floats:
    """What stands at (..., width) rows of a system, with leaning lines made upright.

    `scale` is how many rows of the image a pixel is.
    """
    middle = (staves[0].top + staves[-1].bottom) / 2
    columns = np.arange(image.shape[1]) + shear * (rows - middle)
    return _at(image, (rows + 0.5) * scale, columns + 0.5)


def lean(page: _Page, groups: Sequence[Sequence[Staff]]) -> float:
    """The shear at which bar lines stand out most."""

    def sharpness(shear: float) -> float:
        return sum(float((through(page, staves, shear) ** 2).sum()) for staves in groups)

    best = 0.0
    for step in LEANS:
        best = max((best, best - step, best + step), key=sharpness)
    return best


def through(page: _Page, staves: Sequence[Staff], shear: float) -> Floats:
    """(width,) how likely a bar line goes through a whole system."""
    rows = np.linspace(staves[0].top, staves[-1].bottom, ROWS, dtype=np.float32)
    scale = len(page.bars) / len(page.ink)
    return np.asarray(upright(page.bars, rows, staves, shear, scale).mean(0), np.float32)


def threshold(profiles: Sequence[Floats], groups: Sequence[Sequence[Staff]]) -> float:
    """How much a column of a page must look like a bar line: less where all are faint."""
    tops = [
        profile[round(x)]
        for profile, staves in zip(profiles, groups, strict=True)
        for x in peaks(profile, BAR * CLEAREST[0], APART * staves[0].space)
    ]
    return BAR * float(np.clip(np.quantile(tops or [1.0], 0.9), *CLEAREST))


def find_ends(
    groups: Sequence[Sequence[Staff]], shear: float, profiles: Sequence[Floats], least: float
) -> NDArray[np.float64]:
    """(systems, 2) columns where systems begin and end: where their staves do.

    Where no line closes a system, it ends under those that are closed.

    Args:
        profiles: of each system, as `bar_lines` has it.
        least: as `threshold` has it.
    """
    ends = np.zeros((len(groups), 2))
    y, near = np.zeros(len(groups)), np.zeros(len(groups))
    for i, staves in enumerate(groups):
        rows = np.array([height(staff) for staff in staves])
        y[i] = (rows[0] + rows[-1]) / 2
        near[i] = CLOSED * space_of(staves)
        away = shear * (rows - y[i])
        ends[i, 0] = (np.array([staff.left for staff in staves]) - away).min()
        ends[i, 1] = (np.array([staff.right for staff in staves]) - away).max()
        ends[i] = np.clip(ends[i], 0, len(profiles[i]) - 1)
    for side, (share, far) in enumerate(zip((0.25, 0.75), MARGIN, strict=True)):
        x = ends[:, side]
        closed = np.array(
            [
                profile[max(0, round(at - reach)) : round(at + reach) + 1].max() > least
                for profile, at, reach in zip(profiles, x, near, strict=True)
            ]
        )
        if closed.sum() > 1:
            margin = shear * y + np.quantile((x - shear * y)[closed], share)
            away = np.abs(x - margin) / near * CLOSED
            ends[:, side] = np.where(~closed & (away > CLOSED) & (away < far), margin, x)
    return ends


def space_of(staves: Sequence[Staff]) -> float:
    """Mean pixels between two lines of a system."""
    return float(np.mean([staff.space for staff in staves]))


def find_measures(
    page: _Page, staves: Sequence[Staff], left: float, right: float, likely: Floats, least: float
) -> list[float]:
    """The edges of a system's measures in pixels.

    A bar line at the system's start opens no measure of its own, nor does one before
    the first note; what stands after the last one is a measure if it is wide enough
    and has a note or a bar line at its end: else it is the key of the next system.

    Args:
        left, right: ends of the system.
        likely: as `bar_lines` has it.
        least: as `threshold` has it.
    """
    space = space_of(staves)
    first, last = max(0, round(left - space)), round(right + space)
    lines = [x + first for x in peaks(likely[first:last], least, APART * space)]
    lines = [x for x in lines if x - left > START * space]
    if lines and is_empty(page, staves, left, lines[0]):
        lines = lines[1:]
    seen = max(staff.right for staff in staves) > right - CLOSED * space
    if lines and (
        right - lines[-1] < TRAIL * space or (seen and is_empty(page, staves, lines[-1], right))
    ):
        right = lines.pop()
    return [left, *lines, max(right, left + 1)]


def is_empty(page: _Page, staves: Sequence[Staff], left: float, right: float) -> bool:
    """Whether two places are close together and no note head stands between them."""
    space = space_of(staves)
    if right - left > OPENING * space:
        return False
    columns = np.arange(round(left), max(round(left), round(right - space)))
    rows = _steps(staves[0].top[columns] - 3 * space, staves[-1].bottom[columns] + 3 * space, 40)
    return bool(page.likely(3, rows, columns).max(initial=0.0) < HEAD)


def bar_lines(page: _Page, staves: Sequence[Staff], shear: float) -> Floats:
    """(width,) how much a column looks like a bar line: on the map, and in the ink.

    In the ink it goes through every staff from the top to the bottom line and not beyond,
    and mostly through what is between the staves too.
    """
    likely, whole, gaps, beyond = [], [], [], []
    scale = len(page.bars) / len(page.ink)
    dark = float(np.clip(np.mean([s.darkness(page.ink) for s in staves]), *DARK))
    for staff in staves:
        rows = staff.middle + np.linspace(-2, 2, 7, dtype=np.float32)[:, None] * staff.space
        likely.append(upright(page.bars, rows, staves, shear, scale).mean(0))
        rows = staff.middle + BETWEEN[:, None] * staff.space
        whole.append(np.minimum(1, upright(page.thick, rows, staves, shear) / dark).mean(0))
    for upper, lower in pairwise(staves):
        rows = np.linspace(upper.bottom, lower.top, 2 + 2 * ROWS, dtype=np.float32)[1:-1]
        gaps.append(np.minimum(1, upright(page.thick, rows, staves, shear) / dark).mean(0))
    for edge, space in ((staves[0].top, -staves[0].space), (staves[-1].bottom, staves[-1].space)):
        rows = edge + np.linspace(0.4, 1.1, 4, dtype=np.float32)[:, None] * space
        beyond.append(np.minimum(1, upright(page.thick, rows, staves, shear) / dark).mean(0))
    inked = np.min(whole, 0)
    solid = np.minimum(inked, np.mean(gaps, 0)) if gaps else np.zeros_like(inked)
    ends = 1 - np.mean(beyond, 0)
    seen = (np.mean(likely, 0) + through(page, staves, shear)) / 2
    return np.asarray(seen + ends * (INK[0] * inked**4 + INK[1] * solid**8), np.float32)


def peaks(profile: Floats, threshold: float, distance: float) -> list[float]:
    """Places of the local maxima above `threshold`, the higher of two close ones."""
    padded = np.pad(profile, 1, constant_values=-1)
    tops = np.flatnonzero(
        (profile >= threshold) & (profile >= padded[:-2]) & (profile > padded[2:])
    )
    found: list[int] = []
    for i in tops[np.argsort(-profile[tops], kind="stable")]:
        if all(abs(int(i) - j) >= distance for j in found):
            found.append(int(i))
    return [float(i) for i in sorted(found)]
