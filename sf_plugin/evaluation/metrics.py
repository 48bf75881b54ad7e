"""How well a performance was followed: pure functions with their definitions.

A position answers for an onset if it is the last one known `ANSWER` seconds
after it; so a system is charged for being late.  The published systems are
measured alike: a frame is centred on the onset and hears half a window more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import PageTurn, Position, State

if TYPE_CHECKING:
    from sf_plugin.dataset.programme import Aside

ANSWER = 0.075
"""Seconds after an onset at which the system's word for it is taken."""

THRESHOLDS = (0.05, 0.1, 0.5, 1.0, 5.0)
"""Seconds, of Henkel et al. 2020 and later papers."""


@dataclass(frozen=True)
class Truth:
    """Where every onset of a performance stands, in order of time.

    Attributes:
        time: (onsets,) seconds.
        page: (onsets,) from 1.
        system: (onsets,) within the page, from 1.
        x: (onsets,) fraction of the page's width.
        measure: (onsets,) within the document, from 1; 0 where there is none.
        system_centres: per page, the systems' middles as fractions of its height.
        bars: per (page, system), the measures' left edges and their numbers.
    """

    time: NDArray[np.float64]
    page: NDArray[np.int64]
    system: NDArray[np.int64]
    x: NDArray[np.float64]
    measure: NDArray[np.int64]
    system_centres: dict[int, list[float]]
    bars: dict[tuple[int, int], list[tuple[float, int]]]

    def system_at(self, page: int, y: float) -> int:
        """The true system nearest to `y`, from 1; 0 on a page without music."""
        centres = self.system_centres.get(page, [])
        if not centres:
            return 0
        return int(np.argmin(np.abs(np.array(centres) - y))) + 1

    def measure_at(self, page: int, x: float, y: float) -> int:
        """The true measure at a point, 0 where there is none."""
        edges = self.bars.get((page, self.system_at(page, y)), [])
        number = edges[0][1] if edges else 0
        for left, measure in edges:
            if x >= left - 1e-4:
                number = measure
        return number


@dataclass(frozen=True)
class Answers:
    """One answer for every onset.

    `error` is seconds between the onset and the onset nearest to the answer's
    place, infinite where the system had said nothing or was on a wrong page
    without music.
    """

    error: NDArray[np.float64]
    right_page: NDArray[np.bool_]
    right_system: NDArray[np.bool_]
    right_measure: NDArray[np.bool_]
    confidence: NDArray[np.float64]

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """All onsets of several performances: for pooled figures."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("error", "right_page", "right_system", "right_measure", "confidence")
            )
        )

    def ratios(self) -> list[float]:
        """Share of onsets within each of THRESHOLDS."""
        return [float((self.error <= limit + 1e-9).mean()) for limit in THRESHOLDS]

    def summary(self) -> dict[str, float]:
        """All figures by name."""
        return {
            "onsets": len(self.error),
            **{f"within_{t:g}s": r for t, r in zip(THRESHOLDS, self.ratios(), strict=True)},
            "page": float(self.right_page.mean()),
            "system": float(self.right_system.mean()),
            "measure": float(self.right_measure.mean()),
        }


def answers(positions: Sequence[Position], truth: Truth) -> Answers:
    """What was said of every onset."""
    count = len(truth.time)
    error = np.full(count, np.inf)
    right = np.zeros((3, count), bool)
    confidence = np.zeros(count)
    known = np.array([p.time for p in positions])
    index = np.searchsorted(known, truth.time + ANSWER, side="right") - 1
    for i, j in enumerate(index):
        if j < 0 or positions[j].state == "waiting":
            continue
        said = positions[j]
        confidence[i] = said.confidence
        system = truth.system_at(said.page, said.y)
        here = np.flatnonzero((truth.page == said.page) & (truth.system == system))
        if len(here):
            away = np.abs(truth.x[here] - said.x)
            # of equally near onsets (chords, repeats) the one nearest in time
            nearest = here[away <= away.min() + 1e-6]
            error[i] = np.abs(truth.time[nearest] - truth.time[i]).min()
        right[0, i] = said.page == truth.page[i]
        right[1, i] = right[0, i] and system == truth.system[i]
        right[2, i] = truth.measure_at(said.page, said.x, said.y) == truth.measure[i] > 0
    return Answers(error, right[0], right[1], right[2], confidence)


# calibration


def reliability(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10
) -> NDArray[np.float64]:
    """(bins, 3): onsets, their mean confidence and the share that was right, by confidence.

    The bins are equal parts of 0 to 1; the means of empty ones are 0.
    """
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, values, bins) for values in (confidence, right)]
    return np.column_stack([count, *(total / np.maximum(count, 1) for total in sums)])


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error: mean |confidence - share right| over equal bins by onsets."""
    count, said, done = reliability(confidence, right, bins).T
    return float((count * np.abs(said - done)).sum() / max(1, len(right)))


# jumps

WITHIN = (1.0, 2.0, 5.0)
"""Seconds after a jump in which the follower is given to find the place again."""

HOLD = 0.5
"""Seconds for which the right system must be kept, so that passing through it is no recovery."""


@dataclass(frozen=True)
class Recovery:
    """How a jump was dealt with.

    Attributes:
        kind: what led there.
        seconds: from the first onset at the new place until the follower's word was in
            the right system and stayed there for `HOLD`; infinite if that did not come
            before the next jump or the end.
    """

    kind: str
    seconds: float


def recoveries(
    positions: Sequence[Position], truth: Truth, jumps: Sequence[tuple[float, str]]
) -> list[Recovery]:
    """Of every jump into another system; `jumps` are seconds and kinds, in order of time."""
    onsets = np.searchsorted(truth.time, [time - 1e-6 for time, _ in jumps])
    kinds = {
        int(onset): kind
        for onset, (_, kind) in zip(onsets, jumps, strict=True)
        if 0 < onset < len(truth.time)
    }
    starts = np.array(sorted(kinds), int)
    known = np.array([p.time for p in positions])
    heard = np.searchsorted(truth.time, known, side="right") - 1
    right = np.array(
        [
            i >= 0
            and p.state != "waiting"
            and p.page == truth.page[i]
            and truth.system_at(p.page, p.y) == truth.system[i]
            for p, i in zip(positions, heard, strict=True)
        ],
        bool,
    )
    out = []
    for start in starts.tolist():
        if (truth.page[start], truth.system[start]) == (
            truth.page[start - 1],
            truth.system[start - 1],
        ):
            continue
        began = float(truth.time[start])
        later = starts[starts > start]
        end = float(truth.time[later[0] - 1]) if len(later) else float(truth.time[-1])
        here = (known >= began) & (known <= end)
        found = _held(known[here], right[here], end) - began
        out.append(Recovery(kinds[start], found))
    return out


def _held(time: NDArray[np.float64], right: NDArray[np.bool_], end: float) -> float:
    """The first time from which all is right for `HOLD` seconds or to the end; else infinite."""
    wrong = time[~right]
    for moment in time[right]:
        after = np.searchsorted(wrong, moment)
        if after == len(wrong) or wrong[after] > min(moment + HOLD, end):
            return float(moment)
    return float("inf")


# when something else is heard


@dataclass(frozen=True)
class Heeded:
    """How a stretch was taken in which the piece on the stand is not played.

    Attributes:
        kind: of the aside.
        frames: positions told meanwhile.
        tracking: those that said "tracking".
        noticed: seconds from its beginning until no position said "tracking" for `HOLD`
            or to its end; infinite if that did not come.
        turned: pages turned meanwhile.
        last: the state at its end; "waiting" where nothing was said.
    """

    kind: str
    frames: int
    tracking: int
    noticed: float
    turned: int
    last: State


def heed(
    positions: Sequence[Position], turns: Sequence[PageTurn], asides: Sequence[Aside]
) -> list[Heeded]:
    """Of every aside, in order of time."""
    out = []
    for aside in asides:
        said = [p for p in positions if aside.begin <= p.time < aside.end]
        tracking = np.array([p.state == "tracking" for p in said], bool)
        known = np.array([p.time for p in said])
        out.append(
            Heeded(
                aside.kind,
                len(said),
                int(tracking.sum()),
                _held(known, ~tracking, aside.end) - aside.begin if said else 0.0,
                sum(aside.begin <= turn.time < aside.end for turn in turns),
                said[-1].state if said else "waiting",
            )
        )
    return out


# page turns

EARLY = 5.0
"""Seconds before the last onset on a page from which turning away from it is in time."""

LATE, FOUND = 2.0, 5.0
"""Seconds after the first onset on a page until which a turn to it is in time: where the music
reads on, and where it goes elsewhere, which nobody can know before."""

TOO_LATE = 0.3
"""Seconds after the first onset of a page that the music reads on to."""


@dataclass(frozen=True)
class Due:
    """A turn that the music asks for.

    Attributes:
        page: to be shown.
        time: of the first onset there, in seconds.
        onward: whether the music reads on to it, from the end of the page before.
        lead: seconds from the turn until `time`; None where none came in time.
    """

    page: int
    time: float
    onward: bool
    lead: float | None = None


@dataclass(frozen=True)
class Turns:
    """Page turns of performances.

    A turn is due when the music comes to another page and stays there until `LATE`, or
    `FOUND`; page 1 is shown at the start.  It is right if it is made once the last onset
    on the page before is no more than `EARLY` away, and by then.  A turn made is false
    unless the music is on the page that it shows, or comes to it that soon and finds it
    still shown.  So turning away too early is false, and turning back is not.

    Attributes:
        asked: turns that were due.
        made: turns that the page turner made.
        wrong: those that were false.
        seconds: of performances of several pages; with one, nothing can be turned.
    """

    asked: tuple[Due, ...] = ()
    made: int = 0
    wrong: tuple[PageTurn, ...] = ()
    seconds: float = 0.0

    def __add__(self, other: Turns) -> Turns:
        return Turns(
            self.asked + other.asked,
            self.made + other.made,
            self.wrong + other.wrong,
            self.seconds + other.seconds,
        )

    @property
    def due(self) -> int:
        """Turns that the music asked for."""
        return len(self.asked)

    @property
    def false(self) -> int:
        """Turns made that were false."""
        return len(self.wrong)

    @property
    def right(self) -> int:
        """Turns due that were made in time."""
        return len(self.leads())

    def leads(self, onward: bool | None = None) -> list[float]:
        """Seconds from each right turn until its page's music, of one kind or of all."""
        return [
            due.lead
            for due in self.asked
            if due.lead is not None and (onward is None or due.onward == onward)
        ]

    @property
    def too_late(self) -> int:
        """Turns where the music reads on that came more than `TOO_LATE` late or not at all."""
        return sum(
            due.onward and (due.lead is None or due.lead < -TOO_LATE - 1e-9) for due in self.asked
        )


def judge_turns(turns: Sequence[PageTurn], truth: Truth, seconds: float = 0.0) -> Turns:
    """Pair the turns made, in order of time, with those due; half turns do not count.

    `seconds` are those of the performance.
    """
    whole = [turn for turn in turns if not turn.half]
    visits = _visits(truth)
    due = _due(visits)
    asked = [Due(visit.page, visit.start, visit.onward) for visit in due]
    wrong = []
    for n, turn in enumerate(whole):
        until = whole[n + 1].time if n + 1 < len(whole) else np.inf
        if not any(visit.shown_by(turn, until) for visit in visits):
            wrong.append(turn)
            continue
        for i, visit in enumerate(due):
            in_time = turn.time <= visit.start + visit.patience
            if asked[i].lead is None and in_time and visit.shown_by(turn, until):
                asked[i] = replace(asked[i], lead=round(visit.start - turn.time, 3))
                break
    several = len(truth.system_centres) > 1
    return Turns(tuple(asked), len(whole), tuple(wrong), seconds if several else 0.0)


@dataclass(frozen=True)
class _Visit:
    """Music on one page, from its first onset until the first on another.

    `before` is the time of the last onset on the page before.
    """

    page: int
    start: float
    end: float
    before: float
    onward: bool

    @property
    def patience(self) -> float:
        """Seconds after its start until which a turn to it is in time."""
        return LATE if self.onward else FOUND

    def shown_by(self, turn: PageTurn, until: float) -> bool:
        """Whether a turn that holds `until` the next one shows this, soon enough but not sooner."""
        return (
            turn.page == self.page
            and self.before - EARLY <= turn.time < self.end
            and until > self.start
        )


def _visits(truth: Truth) -> list[_Visit]:
    before = np.concatenate([[0], truth.page[:-1]])
    starts = np.flatnonzero(truth.page != before)
    ends = [*truth.time[starts[1:]].tolist(), np.inf][: len(starts)]
    return [
        _Visit(
            int(truth.page[i]),
            float(truth.time[i]),
            end,
            float(truth.time[max(i - 1, 0)]),
            _reads_on(truth, i),
        )
        for i, end in zip(starts.tolist(), ends, strict=True)
    ]


def _reads_on(truth: Truth, onset: int) -> bool:
    """Whether a page's first onset follows the last system of the page before it."""
    if onset == 0 or truth.system[onset] != 1:
        return False
    left, page = int(truth.page[onset - 1]), int(truth.page[onset])
    between = range(left + 1, page)
    return bool(
        page > left
        and not any(truth.system_centres.get(number) for number in between)
        and truth.system[onset - 1] == len(truth.system_centres.get(left, []))
        and truth.measure[onset] - truth.measure[onset - 1] <= 1
    )


def _due(visits: Sequence[_Visit]) -> list[_Visit]:
    """Those to turn for: on another page than the one before, short ones left out."""
    out = []
    shown = 1
    for visit in visits:
        if visit.end - visit.start >= visit.patience:
            if visit.page != shown:
                out.append(visit)
            shown = visit.page
    return out
