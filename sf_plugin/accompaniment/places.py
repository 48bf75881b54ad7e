"""From a place on a page to a moment of the accompaniment."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sf_plugin.accompaniment.music import SAME, Accompaniment, Bar, along, along_order
from sf_plugin.score.layout import Layout, Measure
from sf_plugin.score.measures import beat_at, place_at
from sf_plugin.score.structure import Order, find_roads, measures_of
from sf_plugin.score.symbols import WrittenMeasure, name_measures

STEP = 1.0
"""Quarter notes at which music is taken to stand where a file's notes do not tell."""

EXACT = 0.8
"""Of the measures, how many must have symbols of their own."""

SHARED = 0.9
"""Of the accompaniment's notes, how many are on pages that show it too."""

MOST_PASSES = 8
"""Of one measure in unfolded music; signs that ask for more are not understood."""


@dataclass(frozen=True, slots=True)
class Places:
    """The moments at which the music may stand at a place of the pages.

    Attributes:
        layout: the printed measures; the label of each that is known is the index of its
            measure in the printed order, from 0.
        visits: for each such index, the moments at which that measure begins.
        shifts: quarter notes from each such measure's beginning in the file to its print's.
        exact: whether beats come from the score's own symbols.
        whole: whether all measures of the file have a place.
        solo: moments at which the soloist's notes begin; empty where not known.
    """

    layout: Layout
    visits: dict[int, tuple[float, ...]]
    shifts: dict[int, float]
    exact: bool
    whole: bool
    solo: tuple[float, ...] = ()

    def moments(self, page: int, x: float, y: float) -> tuple[float, ...]:
        """Quarter notes from the start, rising: one for every time the place is passed."""
        sheet = next((one for one in self.layout.pages if one.page == page), None)
        found = place_at(sheet, x, y)
        measure = found.measure if found is not None else None
        if found is None or measure is None or not (measure.label or "").isdecimal():
            return ()
        index = int(measure.label or 0)
        beat = beat_at(measure, x)
        if beat is None:
            return ()
        shift = self.shifts.get(index, 0.0)
        return tuple(start + shift + beat for start in self.visits.get(index, ()))


def find_places(music: Accompaniment, layout: Layout, order: Order = ()) -> Places:
    """Where the music of a file stands on the pages.

    The measures of the file are those of the pages, in the printed order, or as they are
    played: by the `order`, or with all repeats and endings.  Beats come from the symbols of
    the pages; without these from the places of the file's own notes, as `name_measures`
    finds them, by its own bars.
    """
    printed = measures_of(layout)
    road = played(music, layout, order)
    visits: dict[int, list[float]] = {}
    for bar, index in zip(music.bars, road, strict=False):
        visits.setdefault(index, []).append(bar.start)
    starts = {index: tuple(at) for index, at in visits.items()}
    whole = len(printed) >= len(visits)
    if sum(bool(measure.onsets) for measure in printed) > EXACT * len(printed):
        first = _pickup(printed[0], music.bars[0]) if road and road[0] == 0 else 0.0
        solo = music.solo or (_own(music, layout) if road == sorted(set(road)) else ())
        return Places(_labelled(layout), starts, {0: first}, True, whole, solo)
    first_visit = {index: bar for bar, index in reversed([*zip(music.bars, road, strict=False)])}
    written = [
        _written(music, first_visit[index], index)
        for index in range(max(first_visit, default=-1) + 1)
        if index in first_visit
    ]
    return Places(name_measures(layout, written), starts, {}, False, whole, music.solo)


def played(music: Accompaniment, layout: Layout, order: Order = ()) -> list[int]:
    """For each bar of the file the printed measure, an index from 0."""
    count = len(music.bars)
    for road in (along_order(order), unfolded(layout)):
        if len(road) == count and road != list(range(count)):
            return road
    return list(range(count))


def as_played(music: Accompaniment, layout: Layout, order: Order) -> Accompaniment:
    """The music along an order, where its bars are those of the printed pages."""
    road = along_order(order)
    if not road or len(road) == len(music.bars) or max(road) >= len(music.bars):
        return music
    return along(music, road)


def unfolded(layout: Layout) -> list[int]:
    """Indices from 0 of the printed measures with all repeats and endings taken."""
    measures = measures_of(layout)
    if not measures:
        return []
    first = measures[0].number
    leaves: dict[int, list[int]] = {}
    for road in find_roads(layout).roads:
        leaves.setdefault(road.leave, []).append(road.enter)
    taken: dict[tuple[int, int], int] = {}
    out: list[int] = []
    here = first
    while here < first + len(measures) and len(out) < MOST_PASSES * len(measures):
        out.append(here - first)
        onward = here + 1
        passed = out.count(here - first)
        for enter in leaves.get(here, ()):
            back = enter <= here
            if (back and not taken.get((here, enter))) or (not back and passed == 2):
                taken[here, enter] = 1
                onward = enter
                break
        here = onward
    return out


def timeline(layout: Layout, meter: float) -> Accompaniment:
    """The bars of the pages without any notes; `meter` quarter notes where they tell none."""
    bars: list[Bar] = []
    at = 0.0
    for measure in measures_of(layout):
        length = measure.onsets[-1][1] if measure.onsets else meter
        bars.append(Bar(at, length))
        at += length
    return Accompaniment((), (), tuple(bars))


def struck(layout: Layout) -> tuple[float, ...]:
    """Moments of the printed pages at which notes begin, where their symbols tell."""
    out: list[float] = []
    at = 0.0
    for measure in measures_of(layout):
        if not measure.onsets:
            return ()
        beats = {beat for beat, _ in measure.notes} or {beat for _, beat in measure.onsets[:-1]}
        out += [at + beat for beat in sorted(beats)]
        at += measure.onsets[-1][1]
    return tuple(out)


def _own(music: Accompaniment, layout: Layout) -> tuple[float, ...]:
    """The notes of the pages, where these are the soloist's: without the accompaniment's."""
    printed = struck(layout)
    starts = np.unique([note.start for note in music.notes])
    if not printed or not len(starts):
        return printed
    after = np.searchsorted(printed, starts - SAME)
    there = np.append(printed, np.inf)[after] <= starts + SAME
    return () if there.mean() > SHARED else printed


def _pickup(measure: Measure, bar: Bar) -> float:
    """An upbeat stands at the end of a file's first bar."""
    length = measure.onsets[-1][1] if measure.onsets else bar.length
    return max(bar.length - length, 0.0)


def _labelled(layout: Layout) -> Layout:
    """The layout with indices from 0 for labels."""
    first = next((m.number for m in measures_of(layout)), 1)
    pages = tuple(
        replace(
            page,
            systems=tuple(
                replace(
                    system,
                    measures=tuple(
                        replace(m, label=str(m.number - first)) for m in system.measures
                    ),
                )
                for system in page.systems
            ),
        )
        for page in layout.pages
    )
    return type(layout)(pages)


def _written(music: Accompaniment, bar: Bar, index: int) -> WrittenMeasure:
    """A bar of the file as a measure of a symbolic score, called by its index."""
    moments = sorted({round(at - bar.start, 4) for at in _moments(music, bar)})
    steps = [STEP * n for n in range(max(int((bar.length - SAME) / STEP) + 1, 1))]
    beats = tuple(moments if moments and music.solo else steps)
    return WrittenMeasure(str(index), bar.length, beats, tuple((beat, "") for beat in beats))


def _moments(music: Accompaniment, bar: Bar) -> Sequence[float]:
    """Where notes of the soloist or the others begin in a bar."""
    until = bar.start + bar.length - SAME
    starts = [note.start for note in music.notes]
    first, last = bisect_left(starts, bar.start - SAME), bisect_left(starts, until)
    solo = music.solo[bisect_left(music.solo, bar.start - SAME) : bisect_left(music.solo, until)]
    return [*solo, *starts[first:last]]
