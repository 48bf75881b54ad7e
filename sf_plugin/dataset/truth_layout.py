"""The true layout of an engraved piece, read from its printed bar lines."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.score.layout import Layout, Measure, PageLayout, System

SAME_BAR = 0.015
"""Bar lines closer than this share of the page's width are one."""

INSIDE_A_MEASURE = frozenset("!;',")
"""Glyphs of dashed, dotted and ticked bar lines, which end no measure."""

Table = NDArray[np.void]


@dataclass(frozen=True)
class _Bar:
    """One printed bar line; `onset` in whole notes, `number` of the measure it begins."""

    x: float
    onset: float
    number: int
    repeat_start: bool
    repeat_end: bool


def measures_of_engraving(engraving: Engraving) -> Layout:
    """Systems and measures as printed, numbered from 1 in reading order.

    A measure lies between two bar lines, or between a system's edge and a bar line.
    What stands before a bar line that begins a system is no measure, nor what stands
    after a system's last bar line unless there are notes.  Labels are LilyPond's bar
    numbers, which start again with each movement; voltas are unknown.
    """
    number = 0
    previous: _Bar | None = None
    systems: list[list[System]] = [[] for _ in engraving.pages]
    for index, system in enumerate(engraving.systems):
        score = system["score"]
        if index == 0 or score != engraving.systems[index - 1]["score"]:
            previous = None
        notes = engraving.notes[engraving.notes["system"] == index]
        bars = _bar_lines(engraving.bars[engraving.bars["system"] == index])
        top, bottom, left, right = (
            round(float(system[side]), 5) for side in ("top", "bottom", "left", "right")
        )
        opening = _opening(bars, previous, notes)
        edges: list[_Bar | None] = [*bars] if opening else [None, *bars]
        last = edges[-1]
        if last is None or (len(notes) and float(notes["x"].max()) > last.x):
            edges.append(None)
        measures = []
        for begin, end in pairwise(edges):
            number += 1
            at = left if begin is None or begin is opening else begin.x
            start = begin or previous
            until = right if end is None else end.x
            onsets = _onsets(notes, begin.x if begin else at, until, start, end)
            measures.append(
                Measure(
                    number,
                    round(at, 5),
                    round(until, 5),
                    label=_label(start, end),
                    repeat_start=begin is not None and begin.repeat_start,
                    repeat_end=end is not None and end.repeat_end,
                    onsets=onsets,
                )
            )
        systems[system["page"]].append(System(top, bottom, left, right, tuple(measures)))
        previous = bars[-1] if bars else previous
    return Layout(tuple(PageLayout(i, tuple(page)) for i, page in enumerate(systems, 1)))


def _bar_lines(bars: Table) -> list[_Bar]:
    """One bar line for all grobs at the same place, from left to right."""
    bars = bars[[not INSIDE_A_MEASURE.issuperset(str(glyph)) for glyph in bars["glyph"]]]
    bars = bars[np.argsort(bars["x"], kind="stable")]
    groups = np.split(bars, np.flatnonzero(np.diff(bars["x"]) > SAME_BAR) + 1)
    return [
        _Bar(
            x=float(group["x"].mean()),
            onset=float(group["onset"].max()),
            number=int(group["measure"].max()),
            repeat_start=any(str(glyph).endswith(":") for glyph in group["glyph"]),
            repeat_end=any(str(glyph).startswith(":") for glyph in group["glyph"]),
        )
        for group in groups
        if len(group)
    ]


def _opening(bars: list[_Bar], previous: _Bar | None, notes: Table) -> _Bar | None:
    """The bar line with which a system begins, if it begins with one."""
    if not bars or (len(notes) and float(notes["x"].min()) < bars[0].x):
        return None
    start = previous.onset if previous else 0.0
    return bars[0] if bars[0].onset <= start else None


def _label(begin: _Bar | None, end: _Bar | None) -> str | None:
    if begin is not None:
        return str(begin.number)
    return str(end.number - 1) if end is not None else None


def _onsets(
    notes: Table, left: float, right: float, begin: _Bar | None, end: _Bar | None
) -> tuple[tuple[float, float], ...]:
    """(x, quarter notes) pairs of a measure's heads, and of its end; none where unknown."""
    inside = notes[(notes["x"] > left) & (notes["x"] < right) & (notes["grace"] == 0)]
    start = begin.onset if begin else 0.0
    if end is None or end.onset <= start:
        return ()
    pairs: list[tuple[float, float]] = []
    for onset in np.unique(inside["onset"]):
        x = round(float(inside["x"][inside["onset"] == onset].min()), 5)
        beat = round(4 * (float(onset) - start), 4)
        if beat >= 0 and (not pairs or x > pairs[-1][0]):
            pairs.append((x, beat))
    return (*pairs, (round(right, 5), round(4 * (end.onset - start), 4)))
