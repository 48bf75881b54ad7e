"""The true layout of an engraved piece, read from its printed bar lines."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.score.layout import Layout, Measure, PageLayout, System

SAME_BAR = 0.015
"""Bar lines closer than this share of the page's width are one."""

INSIDE_A_MEASURE = frozenset("!;',")
"""Glyphs of dashed, dotted and ticked bar lines, which end no measure."""

BEGINS_WITH = ("segno", "coda")
"""Marks that stand where a measure begins; the others stand where one ends."""

SAME_MOMENT = 1e-6
"""Whole notes below which two moments are one."""

SHORTEST = 1 / 64
"""Whole notes that a movement lasts at least after its last onset."""

Table = NDArray[np.void]


@dataclass(frozen=True)
class _Bar:
    """One printed bar line; `onset` in whole notes, `number` of the measure it begins."""

    x: float
    onset: float
    number: int
    repeat_start: bool
    repeat_end: bool


PRINTED = np.dtype(
    [
        ("number", "i4"),  # from 1 in reading order through the document
        ("page", "i2"),  # from 0
        ("system", "i2"),  # within the document, from 0
        ("score", "i2"),
        ("left", "f4"),  # fractions of the page's width
        ("right", "f4"),
        ("start", "f8"),  # whole notes from the start of the movement
        ("end", "f8"),
        ("before", "f8"),  # of the same measure on the line before, whole notes
        ("label", "i4"),  # the printed number, -1 where unknown
        ("repeat_start", "?"),
        ("repeat_end", "?"),
        ("volta", "U8"),  # as VOLTA's passes, "" where there is no bracket
        ("signs", "U64"),  # marks of `Measure.signs`, parted by ","
    ]
)
"""A measure as printed; one that is broken across two lines is two of them."""


def printed_measures(engraving: Engraving) -> np.ndarray:
    """The PRINTED measures in reading order; a movement's last one ends with its last note.

    A measure lies between two bar lines, or between a system's edge and a bar line.
    What stands before a bar line that begins a system is no measure, nor what stands
    after a system's last bar line unless there are notes.
    """
    rows: list[tuple[Any, ...]] = []
    previous: _Bar | None = None
    broken = False
    notes_of = _rows_of(engraving.notes, len(engraving.systems))
    bars_of = _rows_of(engraving.bars, len(engraving.systems))
    for index, system in enumerate(engraving.systems):
        if index == 0 or system["score"] != engraving.systems[index - 1]["score"]:
            previous, broken = None, False
        notes = engraving.notes[notes_of[index]]
        bars = _bar_lines(engraving.bars[bars_of[index]])
        opening = _opening(bars, previous, notes)
        edges: list[_Bar | None] = [*bars] if opening else [None, *bars]
        last = edges[-1]
        if last is None or (len(notes) and float(notes["x"].max()) > last.x):
            edges.append(None)
        for begin, end in pairwise(edges):
            if begin is not None:
                start = begin.onset
            elif broken and len(notes):
                start = float(notes["onset"].min())
            else:
                start = previous.onset if previous else 0.0
            at = float(system["left"]) if begin is None or begin is opening else begin.x
            rows.append(
                (
                    len(rows) + 1,
                    system["page"],
                    index,
                    system["score"],
                    at,
                    float(system["right"]) if end is None else end.x,
                    start,
                    np.nan if end is None else end.onset,
                    max(0.0, start - previous.onset) if begin is None and previous else 0.0,
                    _label(begin or (previous if broken else None), end),
                    begin is not None and begin.repeat_start,
                    end is not None and end.repeat_end,
                    "",
                    "",
                )
            )
        broken = edges[-1] is None
        previous = bars[-1] if bars else previous
    measures = np.array(rows, PRINTED)
    _close(measures, engraving)
    for volta in engraving.voltas:
        inside = (measures["start"] >= volta["start"]) & (measures["start"] < volta["end"])
        measures["volta"][inside & (measures["score"] == volta["score"])] = volta["passes"]
    _mark(measures, engraving)
    return measures


def _mark(measures: np.ndarray, engraving: Engraving) -> None:
    """Give each mark to the measure that begins at or before it, or that ends at or after it."""
    marks = engraving.signs[engraving.signs["kind"] == "mark"]
    for mark in np.unique(marks[["system", "onset", "value"]]):
        mine = measures["score"] == engraving.systems["score"][mark["system"]]
        mine &= measures["end"] > measures["start"]
        value = str(mark["value"])
        if value in BEGINS_WITH:
            found = np.flatnonzero(mine & (measures["start"] <= mark["onset"] + SAME_MOMENT))[-1:]
        else:
            found = np.flatnonzero(mine & (measures["end"] >= mark["onset"] - SAME_MOMENT))[:1]
        for row in found:
            known = [sign for sign in str(measures["signs"][row]).split(",") if sign]
            measures["signs"][row] = ",".join(dict.fromkeys([*known, value]))


def measures_of_engraving(engraving: Engraving) -> Layout:
    """Systems and measures as printed, numbered from 1 in reading order.

    Labels are the printed bar numbers, which start again with each movement.
    """
    measures = printed_measures(engraving)
    notes_of = _rows_of(engraving.notes, len(engraving.systems))
    measures_of = _rows_of(measures, len(engraving.systems))
    systems: list[list[System]] = [[] for _ in engraving.pages]
    for index, system in enumerate(engraving.systems):
        notes = engraving.notes[notes_of[index]]
        top, bottom, left, right = (
            round(float(system[side]), 5) for side in ("top", "bottom", "left", "right")
        )
        inside = tuple(_measure(row, notes) for row in measures[measures_of[index]])
        systems[system["page"]].append(System(top, bottom, left, right, inside))
    return Layout(tuple(PageLayout(i, tuple(page)) for i, page in enumerate(systems, 1)))


def _rows_of(table: np.ndarray, systems: int) -> list[NDArray[np.intp]]:
    """For each system the rows of a table that are in it."""
    order = np.argsort(table["system"], kind="stable")
    ends = np.searchsorted(table["system"][order], np.arange(systems + 1))
    return [order[a:b] for a, b in pairwise(ends)]


def _close(measures: np.ndarray, engraving: Engraving) -> None:
    """Fill in the ends that no bar line tells."""
    notes = engraving.notes
    for i in range(len(measures) - 1, -1, -1):
        score = measures["score"][i]
        if i + 1 < len(measures) and measures["score"][i + 1] == score:
            if np.isnan(measures["end"][i]):
                measures["end"][i] = measures["start"][i + 1]
        else:
            mine = notes[notes["score"] == score]
            ends = np.maximum(mine["onset"] + mine["length"], mine["onset"] + SHORTEST)
            measures["end"][i] = np.nanmax([measures["end"][i], measures["start"][i], *ends])
    measures["end"] = np.maximum(measures["end"], measures["start"])


def _measure(row: np.void, notes: Table) -> Measure:
    left, right = round(float(row["left"]), 5), round(float(row["right"]), 5)
    return Measure(
        int(row["number"]),
        left,
        right,
        label=str(row["label"]) if row["label"] >= 0 else None,
        repeat_start=bool(row["repeat_start"]),
        repeat_end=bool(row["repeat_end"]),
        volta=str(row["volta"]) or None,
        onsets=_onsets(notes, row),
        signs=tuple(sign for sign in str(row["signs"]).split(",") if sign),
    )


def printed_glyph(name: str) -> str:
    """A bar line's glyph without LilyPond's note of what stands at a line's end instead."""
    return str(name).partition("-")[0]


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
            repeat_start=any(printed_glyph(glyph).endswith(":") for glyph in group["glyph"]),
            repeat_end=any(printed_glyph(glyph).startswith(":") for glyph in group["glyph"]),
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


def _label(begin: _Bar | None, end: _Bar | None) -> int:
    if begin is not None:
        return begin.number
    return end.number - 1 if end is not None else -1


def _onsets(notes: Table, measure: np.void) -> tuple[tuple[float, float], ...]:
    """(x, quarter notes) pairs of a measure's heads, and of its end; none where it has no length.

    A measure that goes on after a line's end counts its quarters through.
    """
    origin, end = float(measure["start"] - measure["before"]), float(measure["end"])
    if end <= measure["start"]:
        return ()
    inside = (notes["x"] > measure["left"]) & (notes["x"] < measure["right"])
    inside &= (notes["grace"] == 0) & (notes["onset"] >= origin) & (notes["onset"] < end)
    pairs: list[tuple[float, float]] = []
    for onset in np.unique(notes["onset"][inside]):
        x = round(float(notes["x"][inside & (notes["onset"] == onset)].min()), 5)
        if not pairs or x > pairs[-1][0]:
            pairs.append((x, round(4 * (float(onset) - origin), 4)))
    return (*pairs, (round(float(measure["right"]), 5), round(4 * (end - origin), 4)))
