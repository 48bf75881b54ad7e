"""The measure mapper that trusts the layout: nearest system, then measure, then beat."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from statistics import median

from sf_plugin.positions import Estimate, Position
from sf_plugin.score.layout import Layout, Measure, PageLayout, System

DWELL = 0.25
"""Seconds a leap must last to be believed."""
BACK = 0.5
"""Measures the place may fall back without having been repeated."""
AHEAD = 1.5
"""Measures the place may run ahead without having leapt."""

FLEETING = 0.5
"""Seconds that a measure must last before a leap to have been played."""

TEMPO_WINDOW = 4.0
"""Seconds of progress that the tempo is fitted to."""
TEMPO_STEP = 0.1
"""Least seconds between two points of the fit."""
TEMPO_SPAN = 2.0
"""Least seconds of progress that make a tempo."""
TEMPO_RANGE = (10.0, 400.0)
"""Quarter notes a minute; what lies outside is no tempo."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point of a page is in the music."""

    system: int
    """Within the page, from 1."""
    measure: Measure | None
    inside: float
    """How far into the measure, from 0 at its left to 1 at its right."""


def place_at(page: PageLayout | None, x: float, y: float) -> Place | None:
    """The nearest system by `y` and the measure by `x`; None on a page without systems."""
    if page is None or not page.systems:
        return None
    best = min(
        range(len(page.systems)),
        key=lambda i: _distance(page.systems[i], y),
    )
    measures = page.systems[best].measures
    if not measures:
        return Place(best + 1, None, 0.0)
    after = bisect_right(measures, x, key=lambda m: m.left)
    measure = measures[max(after - 1, 0)]
    if after < len(measures) and measures[after].left - x < x - measure.right:
        measure = measures[after]
    width = measure.right - measure.left
    inside = (x - measure.left) / width if width > 0 else 0.0
    return Place(best + 1, measure, min(max(inside, 0.0), 1.0))


def _distance(system: System, y: float) -> tuple[float, float]:
    outside = max(system.top - y, 0.0, y - system.bottom)
    return outside, abs(y - (system.top + system.bottom) / 2)


def beat_at(measure: Measure, x: float) -> float | None:
    """Quarter notes into the measure by interpolation; None where its onsets are unknown."""
    onsets = measure.onsets
    if not onsets:
        return None
    after = bisect_right(onsets, x, key=lambda pair: pair[0])
    if after == 0:
        return onsets[0][1]
    if after == len(onsets):
        return onsets[-1][1]
    (x0, b0), (x1, b1) = onsets[after - 1], onsets[after]
    return b0 + (b1 - b0) * (x - x0) / (x1 - x0)


def notes_at(measure: Measure, beat: float | None) -> tuple[str, ...]:
    """Ids of the notes of a measure that were the last to begin at a beat."""
    begun = [at for at, _ in measure.notes if beat is not None and at <= beat]
    return tuple(name for at, name in measure.notes if begun and at == begun[-1])


class Passes:
    """Counts how often each measure has been come to.

    The place moves on a line of measures.  Falling back less than `BACK` or
    running ahead less than `AHEAD` of the furthest point is playing on; a leap
    counts once it has lasted `DWELL` seconds.  A leap back begins a new run, and
    each measure of a run counts once.  At a turn the place may for a moment run on;
    what was come to less than `FLEETING` before a leap does not count.
    """

    def __init__(self) -> None:
        self._visits: dict[int, int] = {}
        self._run: set[int] = set()
        self._furthest: float | None = None
        self._leap: list[int] = []
        self._leap_time = 0.0
        self._leap_at = 0.0
        self._newest = (0.0, 0)

    def move(self, time: float, number: int, inside: float) -> bool:
        """The place is `inside` measure `number`; whether a leap has just been believed."""
        at = number + inside
        if self._furthest is None:
            self._furthest = at
            self._come_to(number, time)
            return False
        if self._furthest - BACK <= at <= self._furthest + AHEAD:
            self._leap.clear()
            self._furthest = max(self._furthest, at)
            self._come_to(number, time)
            return False
        if not self._leap or not self._leap_at - BACK <= at <= self._leap_at + AHEAD:
            self._leap = [number]
            self._leap_time, self._leap_at = time, at
            return False
        self._leap_at = max(self._leap_at, at)
        if number != self._leap[-1]:
            self._leap.append(number)
        if time - self._leap_time < DWELL:
            return False
        came, newest = self._newest
        if self._leap_time - came < FLEETING and newest in self._run:
            self._visits[newest] -= 1
            self._run.remove(newest)
        if self._leap_at < self._furthest:
            self._run.clear()
        self._furthest = self._leap_at
        for come_to in self._leap:
            self._come_to(come_to, self._leap_time)
        self._leap.clear()
        return True

    def count(self, number: int) -> int:
        """Visits of a measure so far, at least 1."""
        return max(self._visits.get(number, 0), 1)

    @property
    def leaping(self) -> bool:
        """Whether the place is away from where the music was, and not yet believed."""
        return bool(self._leap)

    def _come_to(self, number: int, time: float) -> None:
        if number not in self._run:
            self._run.add(number)
            self._newest = time, number
            self._visits[number] = self._visits.get(number, 0) + 1


class Tempo:
    """Quarter notes a minute from recent progress: a median of slopes, causal."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()
        self._tempo: float | None = None

    def forget(self) -> None:
        """The music went elsewhere."""
        self._points.clear()
        self._tempo = None

    def hear(self, time: float, beats: float) -> float | None:
        """The tempo, knowing that the music stood at `beats` (of the document) at `time`."""
        points = self._points
        if points and time - points[-1][0] < TEMPO_STEP:
            return self._tempo
        points.append((time, beats))
        while time - points[0][0] > TEMPO_WINDOW:
            points.popleft()
        self._tempo = fit_tempo(list(points))
        return self._tempo


def fit_tempo(points: list[tuple[float, float]]) -> float | None:
    """Median slope over pairs half the points apart, in quarter notes a minute.

    `points` are (seconds, quarter notes) in order of time.
    """
    if len(points) < 4 or points[-1][0] - points[0][0] < TEMPO_SPAN:
        return None
    half = len(points) // 2
    slope = 60.0 * median(
        (b1 - b0) / (t1 - t0)
        for (t0, b0), (t1, b1) in zip(points[:-half], points[half:], strict=True)
    )
    return slope if TEMPO_RANGE[0] <= slope <= TEMPO_RANGE[1] else None


def measure_starts(layout: Layout) -> dict[int, float]:
    """Quarter notes from the start of the document by measure number.

    Ends before the first measure of unknown length.
    """
    starts: dict[int, float] = {}
    total = 0.0
    for page in layout.pages:
        for system in page.systems:
            for measure in system.measures:
                if not measure.onsets:
                    return starts
                starts[measure.number] = total
                total += measure.onsets[-1][1]
    return starts


class PlainMapper:
    """Looks the place up in the layout, counts passes and measures the tempo.

    While the follower waits or is lost, the place is looked up all the same but
    nothing is learned from it, and there is no tempo.
    """

    def __init__(self) -> None:
        self.open(Layout(()))

    def open(self, layout: Layout) -> None:
        self.extend(layout)
        self._passes = Passes()
        self._tempo = Tempo()

    def extend(self, layout: Layout) -> None:
        self._pages = {page.page: page for page in layout.pages}
        self._starts = measure_starts(layout)

    def locate(self, estimate: Estimate) -> Position:
        place = place_at(self._pages.get(estimate.page), estimate.x, estimate.y)
        measure = place.measure if place is not None else None
        beat = beat_at(measure, estimate.x) if measure is not None else None
        tempo = None
        if estimate.state in ("waiting", "lost"):
            self._tempo.forget()
        elif place is not None and measure is not None:
            leapt = self._passes.move(estimate.time, measure.number, place.inside)
            if leapt:
                self._tempo.forget()
            start = self._starts.get(measure.number)
            if beat is not None and start is not None and not self._passes.leaping:
                tempo = self._tempo.hear(estimate.time, start + beat)
        return Position(
            time=estimate.time,
            page=estimate.page,
            x=estimate.x,
            y=estimate.y,
            system=place.system if place is not None else None,
            measure=measure.number if measure is not None else None,
            label=measure.label if measure is not None else None,
            pass_=self._passes.count(measure.number) if measure is not None else 1,
            beat=beat,
            tempo=tempo,
            confidence=estimate.confidence,
            state=estimate.state,
            notes=notes_at(measure, beat) if measure is not None else (),
        )
