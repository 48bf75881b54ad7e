"""Roads: how the music may go on elsewhere than in the next measure, as the signs say.

Nobody is bound by them: a repeat may be taken or not, and what is no road remains
possible.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, Measure

SHARE = 0.5
"""Of those who come to where a road begins, how many take it; of endings, all others but
the first together."""

STATED = 0.95
"""The same of a road that the user has stated, together with the user's others from there."""

UNSTATED = 0.1
"""What is left of a printed road's share when the user has stated other roads."""

Order = tuple[tuple[int, int], ...]
"""Stretches of measures, first and last, in the order played."""


@dataclass(frozen=True, slots=True)
class Road:
    """A way from the end of one measure to the start of another that is not the next.

    Attributes:
        leave: number of the measure at whose end it begins.
        enter: number of the measure to which it leads.
        share: of those who come to the end of `leave` and have taken none of the roads
            named before this one, how many take it.
    """

    leave: int
    enter: int
    share: float


@dataclass(frozen=True, slots=True)
class Roads:
    """All roads of a document; `begin` is the measure with which the music begins."""

    begin: int = 1
    roads: tuple[Road, ...] = ()

    def successors(self) -> dict[int, set[int]]:
        """Measures that may follow a measure, besides the next."""
        follow: dict[int, set[int]] = {}
        for road in self.roads:
            follow.setdefault(road.leave, set()).add(road.enter)
        return follow

    def within(self, first: int, last: int) -> Roads:
        """Those that both begin and end in some measures."""
        here = range(first, last + 1)
        return replace(
            self, roads=tuple(r for r in self.roads if r.leave in here and r.enter in here)
        )


NO_ROADS = Roads()


def find_roads(layout: Layout, order: Order = ()) -> Roads:
    """The roads that a layout's signs, and the user if there is an `order`, name.

    Raises:
        ScoreError: the order names a measure that is not there.
    """
    measures = measures_of(layout)
    printed = [road for movement in movements(measures) for road in _roads(movement)]
    if not order:
        return Roads(roads=tuple(printed))
    last = measures[-1].number if measures else 0
    for stretch in order:
        if stretch[1] > last:
            raise ScoreError(
                f"--order {spell(order)}: there is no measure {stretch[1]}: the last one found "
                f"is {last} ('scorefollow layout' lists them, counted from 1)"
            )
    rest = [replace(road, share=UNSTATED * road.share) for road in printed]
    return Roads(order[0][0], (*_stated(order), *rest))


def measures_of(layout: Layout) -> list[Measure]:
    """A document's measures in reading order."""
    return [
        measure for page in layout.pages for system in page.systems for measure in system.measures
    ]


def movements(measures: Sequence[Measure]) -> list[list[Measure]]:
    """The measures cut where their printed numbers, if known, begin again."""
    parts: list[list[Measure]] = []
    highest = -1
    for measure in measures:
        number = int(measure.label) if measure.label and measure.label.isdecimal() else None
        if not parts or (number is not None and number < highest and number <= 1):
            parts.append([])
            highest = -1
        if number is not None:
            highest = max(highest, number)
        parts[-1].append(measure)
    return parts


def _roads(measures: Sequence[Measure]) -> list[Road]:
    """The roads of a movement."""
    return [*_repeats(measures), *_endings(measures), *_signs(measures)]


def _road(leave: Measure, enter: Measure) -> Road:
    return Road(leave.number, enter.number, SHARE)


def _repeats(measures: Sequence[Measure]) -> list[Road]:
    """Back to the last start sign, else to the end of the repeat before, else to the start."""
    roads = []
    start = measures[0]
    behind: Measure | None = None
    for measure in measures:
        over = behind is not None and (behind.repeat_end or behind.volta is not None)
        if measure.repeat_start or (over and measure.volta is None):
            start = measure
        if measure.repeat_end:
            roads.append(_road(measure, start))
        behind = measure
    return roads


def _endings(measures: Sequence[Measure]) -> list[Road]:
    """From the measure before the first ending to each of the others."""
    roads: list[Road] = []
    fork: Measure | None = None
    others: list[Measure] = []
    for behind, measure in pairwise(measures):
        if measure.volta is None or measure.volta == behind.volta:
            continue
        if behind.volta is None:
            roads += _shared(fork, others)
            fork, others = behind, []
        else:
            others.append(measure)
    return roads + _shared(fork, others)


def _shared(fork: Measure | None, others: Sequence[Measure]) -> list[Road]:
    """The other endings take equal parts of the share."""
    if fork is None or not others:
        return []
    part = SHARE / len(others)
    return [
        Road(fork.number, other.number, part / (1 - n * part)) for n, other in enumerate(others)
    ]


def _signs(measures: Sequence[Measure]) -> list[Road]:
    """Da capo and dal segno, and from the first coda sign before them to the last after it."""
    roads = []
    backs = []
    segno: Measure | None = None
    for measure in measures:
        if "segno" in measure.signs:
            segno = measure
        if "da capo" in measure.signs:
            roads.append(_road(measure, measures[0]))
            backs.append(measure.number)
        if "dal segno" in measure.signs and segno is not None:
            roads.append(_road(measure, segno))
            backs.append(measure.number)
    codas = [n for n, measure in enumerate(measures) if "coda" in measure.signs]
    if backs and len(codas) > 1 and codas[0] > 0:
        roads.append(_road(measures[codas[0] - 1], measures[codas[-1]]))
    return roads


# as the user states them


def parse_order(text: str) -> Order:
    """ "1-8,1-8,9-24" as stretches; a measure alone is a stretch, and no text no order.

    Raises:
        ScoreError: it is no order.
    """
    stretches = []
    for part in text.split(",") if text else ():
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:[-–]\s*(\d{1,9})\s*)?", part, re.ASCII)
        first, last = (int(n or found[1]) for n in found.groups()) if found else (0, 0)
        if found is None or not 1 <= first <= last:
            raise ScoreError(
                f"--order {text}: '{part.strip()}' is no stretch of measures: write it like "
                "1-8,1-8,9-24, measures counted from 1 in the order printed"
            )
        stretches.append((first, last))
    return tuple(stretches)


def spell(order: Order) -> str:
    """The text of which `parse_order` makes it."""
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in order)


def _stated(order: Order) -> list[Road]:
    """From each stretch to the next; where several lead on, each as often as it is named.

    The music is over after the last as often as it goes on from there.
    """
    passes: dict[int, list[int | None]] = {}
    for first, last in order:
        for number in range(first, last):
            passes.setdefault(number, []).append(number + 1)
    for (_, leave), enter in zip(order, [*(first for first, _ in order[1:]), None], strict=True):
        passes.setdefault(leave, []).append(enter)
    roads = []
    for leave, onward in passes.items():
        left = 1.0
        for enter in dict.fromkeys(onward):
            if enter is not None and enter != leave + 1:
                share = STATED * onward.count(enter) / len(onward)
                roads.append(Road(leave, enter, share / left))
                left -= share
    return roads
