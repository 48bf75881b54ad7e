"""Which printed measures are which written ones: one path through both in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPREAD = 0.15
"""Logarithm by which a measure's width differs from what its notes need: at first."""
SPREAD_KNOWN = 0.08
"""The same once the scale of its system is known."""
SPREAD_OPENING = 0.2
"""The same where the width of clef and key at the system's start is not known."""
MISFIT = 5.0
"""Greatest cost of a width; costs are logarithms of odds."""
MISCOUNT = 2.0
"""Greatest cost of a number of onsets."""
MISSED, DOUBLED = 4.0, 4.0
"""Cost of a bar line that was not found, and of one that is none."""
SKIPPED = 8.0
"""Cost of a box that is no measure."""
ABSENT, OUTSIDE, EACH_ABSENT = 8.0, 4.0, 0.5
"""Cost of written measures missing from the pages; before the first or after the last; of each."""
RESTS = 1.0
"""Cost of a run of silent measures printed as one."""
MOST_MISSED, MOST_DOUBLED = 4, 3
"""Written measures in one box and boxes of one written measure, at most."""
SCALES = (0.7, 1.0, 1.4)
"""Where the scale is looked for, about that of the middle widths; and at that of all together."""
PASSES = 3


@dataclass(frozen=True)
class Printed:
    """Boxes in reading order, (boxes,) each.

    Attributes:
        width: of the music in it, without clef and key, in fractions of the page.
        system: within the document, from 0, rising.
        surely: whether the width is known, not guessed.
        onsets: how many places in it notes begin at; NaN where unknown.
    """

    width: Floats
    system: NDArray[np.intp]
    surely: NDArray[np.bool_]
    onsets: Floats


@dataclass(frozen=True)
class Needed:
    """Written measures in order, (measures,) each.

    Attributes:
        space: what their notes need, in any unit.
        onsets: how many places notes begin at.
        silent: whether there are none.
    """

    space: Floats
    onsets: Floats
    silent: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Match:
    """A stretch of boxes that is a stretch of written measures; one of them may be empty."""

    printed: range
    written: range


def match_measures(printed: Printed, needed: Needed) -> list[Match]:
    """The cheapest path; boxes and written measures are each in one match, in order.

    The scale of the engraving is found with it, for each system: a line is stretched
    to its end.
    """
    if not len(printed.width) or not len(needed.space):
        return [Match(range(len(printed.width)), range(len(needed.space)))]
    sounding = needed.space[~needed.silent]
    usual = np.median(sounding if len(sounding) else needed.space)
    middle = np.log(np.median(printed.width) / usual)
    whole = np.log(printed.width.sum() / needed.space.sum())
    found = []
    for scale in (whole, *(middle + np.log(SCALES))):
        scales = np.full(len(printed.width), scale)
        for step in range(PASSES):
            spread = np.where(printed.surely, SPREAD_KNOWN if step else SPREAD, SPREAD_OPENING)
            cost, matches = _cheapest(printed, needed, scales, spread)
            scales = _scales(printed, needed, matches, scales)
        found.append((cost, matches))
    return min(found, key=lambda one: one[0])[1]


class _Row:
    """The cheapest ways to and with a box, (measures + 1,) by the written ones used up.

    `used` and `taken` are the boxes and written measures of the last step.
    """

    def __init__(self, cost: Floats) -> None:
        self.cost = cost
        self.used = np.ones(len(cost), np.int64)
        self.taken = np.zeros(len(cost), np.int64)

    def offer(
        self, cost: Floats, at: NDArray[np.intp], used: int, taken: int | NDArray[np.intp]
    ) -> None:
        """A step that ends `at` some of them and may be cheaper."""
        less = cost < self.cost[at]
        at = at[less]
        self.cost[at], self.used[at] = cost[less], used
        self.taken[at] = taken[less] if isinstance(taken, np.ndarray) else taken

    def leave_out(self) -> None:
        """Written measures that are on no page."""
        ahead = np.arange(len(self.cost))
        level = self.cost - EACH_ABSENT * ahead
        least = np.minimum.accumulate(level)
        origin = np.maximum.accumulate(np.where(level <= least, ahead, 0))
        self.offer(least + ABSENT + EACH_ABSENT * ahead, ahead, 0, ahead - origin)


def _cheapest(
    printed: Printed, needed: Needed, scales: Floats, spread: Floats
) -> tuple[float, list[Match]]:
    """The cheapest path under given scales, (boxes,) logarithms, and its cost."""
    count = len(needed.space)
    ahead = np.arange(count + 1)
    runs = _silent_runs(needed.silent)
    outside = np.where(ahead > 0, OUTSIDE + EACH_ABSENT * ahead, 0.0)
    fit = _Fit(printed, needed, scales, spread)
    rows = [_Row(outside)]
    for box in range(len(printed.width)):
        row = _Row(rows[-1].cost + SKIPPED)
        for taken in range(1, min(MOST_MISSED, count) + 1):
            cost = rows[-1].cost[:-taken] + fit(box, 1, taken) + MISSED * (taken - 1)
            row.offer(cost, ahead[taken:], 1, taken)
        for used in range(2, min(MOST_DOUBLED, box + 1) + 1):
            cost = rows[-used].cost[:-1] + fit(box, used, 1) + DOUBLED * (used - 1)
            row.offer(cost, ahead[1:], used, 1)
        row.offer(rows[-1].cost[runs[:, 0]] + RESTS, runs[:, 1], 1, runs[:, 1] - runs[:, 0])
        row.leave_out()
        rows.append(row)
    final = rows[-1].cost + outside[::-1]
    end = int(np.argmin(final))
    return float(final[end]), _path(rows, end)


def _path(rows: Sequence[_Row], end: int) -> list[Match]:
    """Back from the last box and the written measures before `end`; the rest are left over."""
    box, written = len(rows) - 1, end
    count = len(rows[0].cost) - 1
    path = [Match(range(box, box), range(end, count))] if end < count else []
    while box:
        used, taken = int(rows[box].used[written]), int(rows[box].taken[written])
        path.append(Match(range(box - used, box), range(written - taken, written)))
        box, written = box - used, written - taken
    if written:
        path.append(Match(range(0), range(written)))
    return path[::-1]


class _Fit:
    """How badly boxes and written measures go together, by width and number of onsets."""

    def __init__(self, printed: Printed, needed: Needed, scales: Floats, spread: Floats) -> None:
        self.width = _sums(printed.width)
        self.seen = _sums(printed.onsets)
        self.space = _sums(needed.space)
        self.onsets = _sums(needed.onsets)
        self.scales, self.spread = scales, spread

    def __call__(self, box: int, used: int, taken: int) -> Floats:
        """Costs of the `used` boxes up to `box` for each stretch of `taken` written measures."""
        first = box + 1 - used
        space = self.space[taken:] - self.space[:-taken]
        width = self.width[box + 1] - self.width[first]
        off = (np.log(width / space) - self.scales[first]) / self.spread[first : box + 1].max()
        cost = np.minimum(off**2 / 2, MISFIT)
        seen = self.seen[box + 1] - self.seen[first]
        if np.isnan(seen):
            return cost
        expected = self.onsets[taken:] - self.onsets[:-taken]
        return cost + np.minimum(((seen - expected) / (0.7 + 0.15 * expected)) ** 2 / 2, MISCOUNT)


def _sums(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _silent_runs(silent: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(runs, 2): where two or more silent measures begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    return runs[runs[:, 1] - runs[:, 0] > 1]


def _scales(printed: Printed, needed: Needed, matches: Sequence[Match], before: Floats) -> Floats:
    """(boxes,) scales of their systems, drawn to the middle one where little is known."""
    ratio: list[list[float]] = [[] for _ in range(int(printed.system[-1]) + 1)]
    for match in matches:
        if len(match.printed) and len(match.written) and printed.surely[match.printed.start]:
            width = printed.width[match.printed.start : match.printed.stop].sum()
            space = needed.space[match.written.start : match.written.stop].sum()
            ratio[printed.system[match.printed.start]].append(float(np.log(width / space)))
    every = [value for system in ratio for value in system]
    middle = float(np.median(every)) if every else float(before[0])
    scale = [(sum(system) + middle) / (len(system) + 1) for system in ratio]
    return np.array(scale)[printed.system]


def system_numbers(systems: Sequence[object]) -> NDArray[np.intp]:
    """From 0, one more wherever the next box is of another system."""
    changes = [a != b for a, b in pairwise(systems)]
    return np.cumsum([0, *changes])[: len(systems)].astype(np.intp)
