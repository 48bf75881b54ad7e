"""A whole performance and its score: when each measure and each place was played."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from sf_plugin.errors import AudioError, ScoreError
from sf_plugin.positions import Estimate, Event, Jump, Position, State, StateChange
from sf_plugin.score.layout import Layout
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.structure import Order, find_roads

SHORTEST = 0.2
"""Seconds that a stay in a measure must last to be one."""
BACK = 0.5
"""Share of a measure by which the place must fall back for the measure to begin again."""


@dataclass(frozen=True, slots=True)
class OnsetTime:
    """When a place of a measure was reached.

    Attributes:
        time: seconds.
        x: fraction of the page's width.
        beat: quarter notes into the measure; None where unknown.
    """

    time: float
    x: float
    beat: float | None


@dataclass(frozen=True, slots=True)
class MeasureTime:
    """When a measure was played.

    Attributes:
        number: of the measure in reading order, from 1.
        label: the printed number; None where unknown.
        page: from 1.
        system: within the page, from 1.
        pass_: which visit of a repeated measure, from 1.
        start: seconds.
        end: seconds.
        jumped: whether the music came here from elsewhere, by no printed repeat.
        onsets: every place passed in it, in order.
    """

    number: int
    label: str | None
    page: int
    system: int
    pass_: int
    start: float
    end: float
    jumped: bool
    onsets: tuple[OnsetTime, ...]

    @property
    def name(self) -> str:
        """For people: the label or number, the pass where it is not the first, and jumps."""
        again = f" ({self.pass_})" if self.pass_ > 1 else ""
        return ("→ " if self.jumped else "") + (self.label or str(self.number)) + again


@dataclass(frozen=True)
class Alignment:
    """A performance laid beside its score.

    Attributes:
        events: positions, jumps and changes of state, as a session tells them; a
            position's time is when the live follower would have known it.
        measures: every measure as often as it was played, in order of time.
        layout: the pages' systems and measures.
        name: of the score.
    """

    events: tuple[Event, ...]
    measures: tuple[MeasureTime, ...]
    layout: Layout = field(default_factory=lambda: Layout(()))
    name: str = "score"

    @property
    def positions(self) -> tuple[Position, ...]:
        return tuple(event for event in self.events if isinstance(event, Position))


def make_alignment(
    estimates: Iterable[Estimate],
    layout: Layout,
    mapper: MeasureMapper,
    name: str,
    lag: float = 0,
    order: Order = (),
) -> Alignment:
    """The alignment that a follower's estimates tell.

    Args:
        estimates: of the whole performance, in order of time.
        layout: what the follower found on the pages.
        mapper: names the places.
        name: of the score, for errors.
        lag: seconds from a sound to the estimate that knows of it.
        order: in which the measures are played, if the user has stated it.

    Raises:
        ScoreFollowerError: nothing was heard, or nothing recognised.
    """
    mapper.open(layout)
    positions = [mapper.locate(estimate) for estimate in estimates]
    states = {position.state for position in positions}
    if states <= {"waiting"}:
        raise AudioError("no note was heard: check that the right file or channel was recorded")
    visits = _visits(positions, layout)
    if "tracking" not in states or not visits:
        raise ScoreError(f"{name}: was not recognised in the recording: is it of this score?")
    follow = find_roads(layout, order).successors()
    numbers = [positions[visit[0]].measure or 0 for visit in visits]
    jumped = [False] + [b != a + 1 and b not in follow.get(a, ()) for a, b in pairwise(numbers)]
    jumps: dict[int, Jump] = {}
    count: dict[int, int] = {}
    measures = []
    for i, visit in enumerate(visits):
        count[numbers[i]] = count.get(numbers[i], 0) + 1
        for n in visit:
            positions[n] = replace(positions[n], pass_=count[numbers[i]])
        first = positions[visit[0]]
        if jumped[i]:
            jumps[visit[0]] = Jump(first.time, numbers[i - 1], numbers[i], first.confidence)
        after = min(visit[-1] + 1, len(positions) - 1)
        end = positions[after].time
        if i + 1 < len(visits) and (onward := positions[visits[i + 1][0]].time) - end < SHORTEST:
            end = onward
        measures.append(_measure([positions[n] for n in visit], end, jumped[i], lag))
    return Alignment(tuple(_events(positions, jumps)), tuple(measures), layout, name)


def _visits(positions: Sequence[Position], layout: Layout) -> list[list[int]]:
    """The positions of every stay in a measure, while the place was known.

    A stay that is over at once is none, unless the next measure follows.
    """
    width = {
        measure.number: measure.right - measure.left
        for page in layout.pages
        for system in page.systems
        for measure in system.measures
    }
    stays: list[list[int]] = []
    repeats = []
    furthest = 0.0
    for n, here in enumerate(positions):
        if here.measure is None or here.state not in ("tracking", "unsure"):
            continue
        same = bool(stays) and positions[stays[-1][-1]].measure == here.measure
        back = same and here.x < furthest - BACK * width[here.measure]
        if not same or back:
            stays.append([])
            repeats.append(back)
            furthest = here.x
        furthest = max(furthest, here.x)
        stays[-1].append(n)
    visits: list[list[int]] = []
    measures = [positions[stay[0]].measure or 0 for stay in stays]
    for stay, again, measure, onward in zip(
        stays, repeats, measures, [*measures, 0][1:], strict=True
    ):
        until = min(stay[-1] + 1, len(positions) - 1)
        lasts = positions[until].time - positions[stay[0]].time >= SHORTEST
        if visits and positions[visits[-1][-1]].measure == measure and not again:
            visits[-1] += stay
        elif lasts or onward == measure + 1:
            visits.append(stay)
    return visits


def _measure(stay: Sequence[Position], end: float, jumped: bool, lag: float) -> MeasureTime:
    first = stay[0]
    assert first.measure is not None and first.system is not None
    onsets: list[OnsetTime] = []
    for here in stay:
        if not onsets or here.x > onsets[-1].x:
            onsets.append(OnsetTime(_before(here.time, lag), here.x, here.beat))
    return MeasureTime(
        first.measure,
        first.label,
        first.page,
        first.system,
        first.pass_,
        onsets[0].time,
        _before(end, lag),
        jumped,
        tuple(onsets),
    )


def _before(time: float, lag: float) -> float:
    return max(0.0, round(time - lag, 4))


def _events(positions: Sequence[Position], jumps: dict[int, Jump]) -> Iterator[Event]:
    state: State = "waiting"
    for n, position in enumerate(positions):
        yield position
        if position.state != state:
            yield StateChange(position.time, position.state, state)
            state = position.state
        if n in jumps:
            yield jumps[n]
