"""What was recorded of a session, and what is read off it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import STATES
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import beat_at, place_at
from sf_plugin.score.structure import find_roads, measures_of

TRACK = np.dtype(
    [
        ("time", "f8"),
        ("page", "i4"),
        ("x", "f4"),
        ("y", "f4"),
        ("confidence", "f4"),
        ("state", "i1"),
        ("measure", "i4"),
        ("pass", "i4"),
    ]
)
"""One row a position; `state` is an index into `STATES`, `measure` 0 where unknown."""

Track = NDArray[np.void]
Truth = NDArray[np.float64]
"""(onsets, 4): time, page, x, y in order of time."""

LOST, UNSURE, WAITING = (STATES.index(name) for name in ("lost", "unsure", "waiting"))
ASTRAY = (LOST, UNSURE)

SHORTEST = 0.2
"""Seconds that a stay in a measure must last to have a tempo."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A time in one state or one measure, in seconds; `first` and `last` are rows of the track."""

    start: float
    end: float
    first: int
    last: int


def astray(track: Track) -> list[tuple[str, Stay]]:
    """When the place was "lost" or "unsure"."""
    return [
        (STATES[int(track["state"][stay.first])], stay)
        for stay in _stays(track, track["state"])
        if int(track["state"][stay.first]) in ASTRAY
    ]


def _stays(track: Track, values: NDArray[np.generic]) -> Iterator[Stay]:
    """Where values stay the same; each ends when the next begins."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    for part in np.split(np.arange(len(track)), edges):
        if len(part):
            first, last = int(part[0]), int(part[-1])
            times = track["time"][[first, min(last + 1, len(track) - 1)]]
            yield Stay(float(times[0]), float(times[1]), first, last)


@dataclass(frozen=True, slots=True)
class MeasureTempo:
    """How fast a measure was played; `value` in the unit of its curve."""

    start: float
    end: float
    value: float
    measure: int


@dataclass(frozen=True, slots=True)
class TempoCurve:
    """A tempo for every measure that led on; `unit` is "quarter notes" or "measures" a minute."""

    unit: str
    measures: tuple[MeasureTempo, ...]

    @property
    def median(self) -> float:
        return float(np.median([one.value for one in self.measures]))


def tempo_curve(track: Track, layout: Layout) -> TempoCurve:
    """The tempo from measure to measure, where the music went on as it is printed.

    In quarter notes where the beats of all measures are known, else in measures.
    """
    measures = {measure.number: measure for measure in measures_of(layout)}
    known = bool(measures) and all(measure.onsets for measure in measures.values())
    roads = find_roads(layout).successors()
    where = np.where(np.isin(track["state"], (LOST, WAITING)), 0, track["measure"])
    stays = [
        stay
        for stay in _stays(track, where.astype(np.int64) * 4096 + track["pass"])
        if where[stay.first] in measures and stay.end - stay.start >= SHORTEST
    ]
    out = []
    for here, there in pairwise(stays):
        number, after = int(where[here.first]), int(where[there.first])
        if after != number + 1 and after not in roads.get(number, ()):
            continue
        if there.start - here.end > SHORTEST:
            continue
        if not known and here.first and int(track["state"][here.first - 1]) == LOST:
            continue
        length = 1.0
        if known:
            length = measures[number].onsets[-1][1]
            length -= beat_at(measures[number], float(track["x"][here.first])) or 0.0
            length += beat_at(measures[after], float(track["x"][there.first])) or 0.0
        if length > 0:
            value = 60 * length / (there.start - here.start)
            out.append(MeasureTempo(here.start, there.start, value, number))
    return TempoCurve("quarter notes" if known else "measures", tuple(out))


@dataclass(frozen=True, slots=True)
class _Stretch:
    page: int
    first: float
    last: float


class ScoreLine:
    """The document as one line: measures where the layout has them, else systems."""

    def __init__(self, layout: Layout) -> None:
        self._pages = {page.page: page for page in layout.pages}
        systems = [system for page in layout.pages for system in page.systems]
        self.unit = "measure" if systems and all(s.measures for s in systems) else "system"
        self.stretches: list[_Stretch] = []
        self._before: dict[int, int] = {}
        end = 1.0
        count = 0
        for page in layout.pages:
            self._before[page.page] = count
            count += len(page.systems)
            start = end
            for system in page.systems:
                end += len(system.measures) if self.unit == "measure" else 1
            if end > start:
                self.stretches.append(_Stretch(page.page, start, end))
        self.end = max(end, 2.0)

    def at(self, page: int, x: float, y: float) -> float:
        """The place counted from 1.0; NaN off the layout."""
        known = self._pages.get(page)
        place = place_at(known, x, y)
        if known is None or place is None:
            return float("nan")
        if self.unit == "measure" and place.measure is not None:
            return place.measure.number + place.inside
        system = known.systems[place.system - 1]
        inside = (x - system.left) / max(system.right - system.left, 1e-6)
        return self._before[page] + place.system + min(max(inside, 0.0), 1.0)


def clock(seconds: float) -> str:
    """Minutes and seconds, such as "1:05"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def colour(share: float) -> str:
    """From blue at 0 through magenta to orange at 1."""
    return f"hsl({(225 + 170 * min(max(share, 0.0), 1.0)) % 360:.0f} 85% 52%)"


def time_link(seconds: float, page: int) -> str:
    """A link to the moment: the place in the picture of the page."""
    return f'<a href="#page-{page}" data-time="{seconds:.2f}">{clock(seconds)}</a>'


def at(track: Track, time: float) -> np.void | None:
    """The position of an event told at `time`."""
    if not len(track):
        return None
    after = int(np.searchsorted(track["time"], time, side="right"))
    row: np.void = track[max(after - 1, 0)]
    return row
