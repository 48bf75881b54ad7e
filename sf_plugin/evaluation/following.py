"""Follow cases as a user's session would, and judge what was said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.api import Samples
from sf_plugin.errors import ScoreError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.layouts import Matches, compare_layouts
from sf_plugin.evaluation.metrics import (
    Answers,
    Heeded,
    Recovery,
    Turns,
    answers,
    heed,
    judge_turns,
    recoveries,
)
from sf_plugin.followers import Follower
from sf_plugin.positions import STATES, PageTurn, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.model import Score
from sf_plugin.session import Narrator

BLOCK_SECONDS = 0.05

JUMPS = {
    "jump": "jump",
    "restart": "jump",
    "loop": "jump",
    "repeat": "printed",
    "volta": "printed",
    "da capo": "printed",
    "dal segno": "printed",
    "coda": "printed",
}
"""Kinds of happenings after which the music goes on elsewhere, and kinds of recoveries:
"printed" where the page says so, else "jump", or "pause" after `PAUSE` seconds of silence."""

PAUSE = 0.25

TRACK = np.dtype(
    [
        ("time", "f8"),
        ("page", "i4"),
        ("x", "f4"),
        ("y", "f4"),
        ("confidence", "f4"),
        ("state", "i1"),
    ]
)
"""One row a position; `state` is an index into `STATES`."""

Listen = Callable[[Case], Follower]
"""Gives the follower of a case: the same one for all, or one made for it."""


@dataclass(frozen=True)
class Reading:
    """How the pages of a score were read; `unreadable` where nothing was found on them."""

    paper: str
    pages: int
    seconds: float
    unreadable: bool
    systems: Matches
    measures: Matches


@dataclass(frozen=True)
class Outcome:
    """How one case was followed.

    Attributes:
        case, piece, condition: of the case.
        seconds: of sound.
        answers: one for every onset.
        measured: whether the truth knows measures.
        turns: pages turned and due.
        recoveries: of every jump.
        track: (frames,) of `TRACK`.
        turned: the page turns made.
        frame_seconds: (frames,) the time each took.
        reading: of its pages; None where they were read for an earlier case.
        heeded: how each stretch was taken in which something else was heard.
    """

    case: str
    piece: str
    condition: str
    seconds: float
    answers: Answers
    measured: bool
    turns: Turns
    recoveries: tuple[Recovery, ...]
    track: np.ndarray
    turned: tuple[PageTurn, ...]
    frame_seconds: NDArray[np.float64]
    reading: Reading | None
    heeded: tuple[Heeded, ...] = ()

    def states(self) -> NDArray[np.int64]:
        """(states,) frames in each of `STATES`."""
        return np.bincount(self.track["state"], minlength=len(STATES))


def follow_cases(
    cases: Iterable[Case], listen: Listen, *, align: bool = False
) -> Iterator[Outcome]:
    """Follow one case after another, or `align` it, which knows how the music goes on.

    A score is read once for the cases in a row that share it.
    """
    on_stand: tuple[Follower, Score] | None = None
    layout, unreadable = Layout(()), False
    for case in cases:
        follower = listen(case)
        reading = None
        if on_stand is None or on_stand[0] is not follower or on_stand[1] is not case.score:
            layout, reading = read(case, follower)
            unreadable = reading.unreadable
            if on_stand is not None and on_stand[1] is case.score:
                reading = None
            on_stand = follower, case.score
        yield follow_case(case, follower, layout, reading, unreadable, align)


def read(case: Case, follower: Follower) -> tuple[Layout, Reading]:
    """Put a case on the stand; the layout is what the follower found."""
    began = time.perf_counter()
    try:
        layout, unreadable = follower.prepare(case.score), False
    except ScoreError:
        layout, unreadable = Layout(()), True
    seconds = time.perf_counter() - began
    systems, measures = compare_layouts(layout, case.layout)
    return layout, Reading(
        case.paper, len(case.score.pages), seconds, unreadable, systems, measures
    )


def follow_case(
    case: Case,
    follower: Follower,
    layout: Layout,
    reading: Reading | None,
    unreadable: bool,
    align: bool = False,
) -> Outcome:
    """Hear a case whose score is on the stand; nothing is said where that was unreadable."""
    sound = case.sound()
    positions: list[Position] = []
    turned: list[PageTurn] = []
    spent = np.zeros(0)
    if not unreadable:
        hear = hear_whole if align else follow
        positions, turned, spent = hear(follower, layout, sound, case.sample_rate)
    return Outcome(
        case.name,
        case.piece,
        case.condition,
        len(sound) / case.sample_rate,
        answers(positions, case.truth),
        bool(case.truth.measure.any()),
        judge_turns(turned, case.truth, len(sound) / case.sample_rate),
        tuple(recoveries(positions, case.truth, jumps_of(case))),
        track_of(positions),
        tuple(turned),
        spent,
        reading,
        tuple(heed(positions, turned, case.asides)),
    )


def jumps_of(case: Case) -> list[tuple[float, str]]:
    """Seconds and kinds of recovery of a case's jumps, but for those into the next measure."""
    out = []
    for happening in case.happenings:
        kind = JUMPS.get(happening.kind)
        if kind is not None and happening.measure != happening.left + 1:
            paused = kind == "jump" and happening.pause >= PAUSE
            out.append((happening.time, "pause" if paused else kind))
    return out


def follow(
    follower: Follower, layout: Layout, sound: NDArray[np.float32], sample_rate: int
) -> tuple[list[Position], list[PageTurn], NDArray[np.float64]]:
    """Hear (samples,); what a session would tell, and the seconds each frame took."""
    follower.reset()
    narrator = Narrator(layout, PlainMapper())
    size = round(BLOCK_SECONDS * follower.sample_rate)
    positions: list[Position] = []
    turned: list[PageTurn] = []
    seconds: list[float] = []
    spent = 0.0
    for block in Samples(sound, sample_rate).blocks(follower.sample_rate):
        for piece in np.split(block, range(size, len(block), size)):
            began = time.perf_counter()
            events = [event for said in follower.feed(piece) for event in narrator.tell(said)]
            spent += time.perf_counter() - began
            heard = [event for event in events if isinstance(event, Position)]
            if heard:
                seconds += [spent / len(heard)] * len(heard)
                spent = 0.0
            positions += heard
            turned += [event for event in events if isinstance(event, PageTurn)]
    return positions, turned, np.array(seconds)


def hear_whole(
    follower: Follower, layout: Layout, sound: NDArray[np.float32], sample_rate: int
) -> tuple[list[Position], list[PageTurn], NDArray[np.float64]]:
    """The same of a follower that hears all of it first; every frame takes its share."""
    narrator = Narrator(layout, PlainMapper())
    began = time.perf_counter()
    estimates = follower.align(Samples(sound, sample_rate).blocks(follower.sample_rate))
    events = [event for said in estimates for event in narrator.tell(said)]
    spent = time.perf_counter() - began
    positions = [event for event in events if isinstance(event, Position)]
    turned = [event for event in events if isinstance(event, PageTurn)]
    return positions, turned, np.full(len(positions), spent / max(len(positions), 1))


def track_of(positions: Sequence[Position]) -> np.ndarray:
    """(positions,) of `TRACK`."""
    rows = [(p.time, p.page, p.x, p.y, p.confidence, STATES.index(p.state)) for p in positions]
    return np.array(rows, TRACK)
