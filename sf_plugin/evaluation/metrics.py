"""How well a performance was followed: pure functions with their definitions.

A position answers for an onset if it is the last one known `ANSWER` seconds
after it; so a system is charged for being late.  The published systems are
measured alike: a frame is centred on the onset and hears half a window more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import PageTurn, Position

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


# page turns

EARLY, LATE = 5.0, 2.0
"""Seconds before and after the first onset of a page in which turning to it is right."""


@dataclass(frozen=True)
class Turns:
    """Page turns of a performance.

    A turn is due at the first onset on another page than the one before; page 1 is
    shown at the start.  A turn made is right if it shows that page from `EARLY`
    seconds before to `LATE` seconds after it was due, once.

    Attributes:
        due: turns that the music asks for.
        made: turns that the page turner made.
        leads: of the right ones, seconds from the turn until the page's first onset.
    """

    due: int = 0
    made: int = 0
    leads: tuple[float, ...] = ()

    def __add__(self, other: Turns) -> Turns:
        return Turns(self.due + other.due, self.made + other.made, self.leads + other.leads)

    @property
    def right(self) -> int:
        """Turns to the right page in time."""
        return len(self.leads)


def judge_turns(turns: Sequence[PageTurn], truth: Truth) -> Turns:
    """Pair the turns made, in order of time, with those due."""
    before = np.concatenate([[1], truth.page[:-1]])
    due = np.flatnonzero(truth.page != before)
    free = list(turns)
    leads = []
    for onset in due.tolist():
        time, page = float(truth.time[onset]), int(truth.page[onset])
        for turn in free:
            if turn.page == page and time - EARLY <= turn.time <= time + LATE:
                leads.append(round(time - turn.time, 3))
                free.remove(turn)
                break
    return Turns(len(due), len(turns), tuple(leads))
