"""The live loop: source → follower → mapper → events → sinks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.source import Source
from sf_plugin.controls import Controls
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower, Progress, Reading, no_progress
from sf_plugin.lanes import Lane
from sf_plugin.page_turns import PageTurner
from sf_plugin.positions import (
    Control,
    Estimate,
    Event,
    Jump,
    PageTurn,
    Position,
    State,
    StateChange,
)
from sf_plugin.score.layout import Layout
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.model import Score
from sf_plugin.score.places import Start
from sf_plugin.score.structure import Roads, find_roads, measures_of
from sf_plugin.score.symbols import named
from sf_plugin.sinks import Sink

REALTIME_BLOCK_SECONDS = 0.025

LATE = ((0.25, 2), (0.4, 4), (0.6, 8), (0.8, 16), (1.0, 40))
"""Seconds of sound that wait, and of how many frames one is then listened to."""

TOLD_SECONDS = 60.0
"""Of sound after which it is told again that the computer is too slow."""

IN_TIME = 0.1
"""Seconds of sound that may wait where every frame is listened to again."""

log = logging.getLogger("sf_plugin")


@dataclass(frozen=True, slots=True)
class NarratorSettings:
    """When a move in the score is worth telling.

    Attributes:
        confidence: below this, and in any state but "tracking", no jump is told.
        settle: seconds for which the music must go on at the new place.
        back: measures that the place may fall back without a jump.
        pace: measures a second that the music may have gone on while the place was unknown.
    """

    confidence: float = 0.5
    settle: float = 0.3
    back: float = 0.5
    pace: float = 1.0


@dataclass(slots=True)
class _Told:
    state: State = "waiting"
    measure: int | None = None
    before: int | None = None
    """Where the music was before it came to `measure`."""
    since: float = 0.0
    """When it came there."""
    at: float = 0.0
    """The furthest place in `measure`, counted in measures."""
    time: float = 0.0
    """When the music was last known to be there."""
    landing: tuple[float, int] | None = None
    """Of a move that does not follow and is not yet confirmed: since when it is sure, and the
    measure."""
    landed_in: int | None = None


class Narrator:
    """Makes events of estimates; holds all that is remembered of a performance."""

    def __init__(
        self,
        layout: Layout,
        mapper: MeasureMapper,
        turner: PageTurner | None = None,
        settings: NarratorSettings | None = None,
        roads: Roads | None = None,
    ) -> None:
        self.mapper = mapper
        self.turner = turner or PageTurner(layout)
        self.settings = settings or NarratorSettings()
        self._learn(layout, find_roads(layout) if roads is None else roads)
        self.reset()

    def _learn(self, layout: Layout, roads: Roads) -> None:
        self.layout = layout
        self._successors = roads.successors()
        self._sides = {m.number: (m.left, m.right) for m in measures_of(layout)}

    def extend(self, layout: Layout, roads: Roads) -> None:
        """More of the score was read: the same measures and later ones."""
        self._learn(layout, roads)
        self.mapper.extend(layout)
        self.turner.extend(layout)

    def reset(self) -> None:
        """Forget the performance; the next estimate is the first of a new one."""
        self._told = _Told()
        self.turner.reset()
        self.mapper.open(self.layout)

    def forget_place(self) -> None:
        """The player said where the music is: wherever it is next, it did not jump there."""
        self._told = _Told(state=self._told.state)

    def tell(self, estimate: Estimate) -> Iterator[Event]:
        """The events of one estimate: its position first."""
        position = self.mapper.locate(estimate)
        yield position
        if position.state != self._told.state:
            previous, self._told.state = self._told.state, position.state
            yield StateChange(time=position.time, state=position.state, previous=previous)
        jump = self._jump(position)
        if jump:
            yield jump
        turn = self.turner.hear(position)
        if turn:
            yield turn

    def _jump(self, position: Position) -> Jump | None:
        told, here = self._told, position.measure
        if here is None or position.state in ("waiting", "lost"):
            told.landing = None
            return None
        at = here + self._inside(here, position.x)
        if told.measure is None or self._goes_on(told.measure, here, position.time):
            self._come_to(here, at, position.time)
            return None
        if told.at - self.settings.back <= at < told.at:
            told.time, told.landing = position.time, None
            return None
        if told.landing is None or not self._follows(told.landed_in, here):
            told.landing = (position.time, here)
        told.landed_in = here
        since, landed = told.landing
        if position.state != "tracking" or position.confidence < self.settings.confidence:
            told.landing = (position.time, landed)
            return None
        if position.time - since < self.settings.settle:
            return None
        strayed = since - told.since < self.settings.settle and told.before is not None
        left = told.before if strayed else told.measure
        self._come_to(here, at, position.time)
        told.before = None
        return Jump(
            time=position.time,
            from_measure=left,
            to_measure=landed,
            confidence=position.confidence,
        )

    def _come_to(self, measure: int, at: float, time: float) -> None:
        told = self._told
        if measure != told.measure:
            told.before, told.measure, told.since, told.at = told.measure, measure, time, at
        told.at, told.time, told.landing = max(told.at, at), time, None

    def _follows(self, before: int | None, after: int) -> bool:
        return before is not None and (
            after in (before, before + 1) or after in self._successors.get(before, ())
        )

    def _goes_on(self, before: int, after: int, time: float) -> bool:
        """Whether the music may be in `after` because it was last known in `before`.

        Who has just come there may not have been there.
        """
        told = self._told
        fresh = time - told.since < self.settings.settle and self._follows(told.before, after)
        passed = int(self.settings.pace * (time - told.time))
        return fresh or self._follows(before, after) or before < after <= before + passed

    def _inside(self, number: int, x: float) -> float:
        left, right = self._sides.get(number, (0.0, 0.0))
        return min(max((x - left) / (right - left), 0.0), 1.0) if right > left else 0.0


@dataclass(slots=True)
class Summary:
    """What a session came to.

    Attributes:
        seconds: audio heard.
        positions: frames followed.
        turns: pages turned.
        dropped_seconds: audio lost to overruns.
        hurried_seconds: audio of which some frames were passed over, the computer being
            too slow.
        failed_sinks: names of the sinks that were dropped.
        last: the last position, if any.
    """

    seconds: float = 0.0
    positions: int = 0
    turns: int = 0
    dropped_seconds: float = 0.0
    hurried_seconds: float = 0.0
    failed_sinks: list[str] = field(default_factory=list)
    last: Position | None = None


class Session:
    """One performance of one score, from its sound to its receivers.

    `sinks` are (name, sink) pairs; the session closes them and the source, however
    it ends.  `start` is where the performance begins, if known.  A sink that fails is
    logged once by name and dropped; the session goes on.  `realtime` paces a source by
    its own sample clock; what is said is the same.

    Raises:
        ScoreFollowerError: the score cannot be followed, the source cannot be read, or
            a sink cannot be opened.
    """

    def __init__(
        self,
        source: Source,
        follower: Follower,
        mapper: MeasureMapper,
        score: Score,
        sinks: Sequence[tuple[str, Sink]] = (),
        *,
        start: Start | None = None,
        turner: Callable[[Layout], PageTurner] = PageTurner,
        realtime: bool = False,
        progress: Progress = no_progress,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source = source
        self.follower = follower
        self.mapper = mapper
        self.score = score
        self.sinks = list(sinks)
        self.start = start
        self.turner = turner
        self.realtime = realtime
        self.progress = progress
        self.clock = clock
        self.sleep = sleep
        self.summary = Summary()
        self.controls = Controls(len(score.pages))
        self._fed = 0
        self._begun = 0
        """Samples fed, and of those the ones before the present performance."""
        self._told_slow = -TOLD_SECONDS
        """Seconds at which it was last told that the computer is too slow."""

    def run(self) -> Summary:
        """Follow to the end."""
        for _ in self.events():
            pass
        return self.summary

    def events(self) -> Generator[Event, None, None]:
        """Follow to the end; each event comes after the sinks were told.

        While the music is live, each sink works in a thread of its own.
        """
        self.summary = Summary()
        self._fed = self._begun = 0
        self._told_slow = -TOLD_SECONDS
        self.follower.hurry = 1
        live = self.source.live or self.realtime
        with ExitStack() as stack:
            stack.enter_context(self.source)
            lanes = [
                stack.enter_context(Lane(name, sink, self.summary.failed_sinks, threaded=live))
                for name, sink in self.sinks
            ]
            reading = stack.enter_context(self._read())
            if live:
                stack.push(partial(_end, lanes))
            layout = named(reading.layout, self.score)
            self.follower.reset()
            roads = find_roads(layout, self.score.order)
            turner = self.turner(layout)
            turner.first = self.score.followed.start + 1
            if self.start is not None:
                self.follower.expect(self.start.page, *self.start.place(layout))
                turner.first = self.start.page
            narrator = Narrator(layout, self.mapper, turner, roads=roads)
            self.controls.layout, self.controls.shown = layout, turner.shown
            for lane in lanes:
                lane.open(self.score, layout, self.controls)
            for block in self._blocks():
                if (larger := reading.more()) is not None:
                    self._extend(narrator, lanes, named(larger, self.score))
                self._keep_up(self.source.waiting_seconds)
                for event in chain(self._obey(narrator), self._listen(narrator, block)):
                    self.controls.shown = turner.shown
                    self._count(event)
                    for lane in lanes:
                        lane.emit(event)
                    yield event
                    if isinstance(event, Control) and event.action == "stop":
                        return

    def _read(self) -> Reading:
        """Read the pages; what is played now does not wait for the last."""
        if not self.source.live:
            return Reading(self.follower.prepare(self.score, self.progress))
        return self.follower.read(self.score, self.progress, self._through)

    @property
    def _through(self) -> int:
        """The page up to which the score is read before following begins."""
        return self.score.followed.start + 1 if self.start is None else self.start.page

    def _extend(self, narrator: Narrator, lanes: Sequence[Lane], layout: Layout) -> None:
        narrator.extend(layout, find_roads(layout, self.score.order))
        self.controls.layout = layout
        for lane in lanes:
            lane.extend(layout)

    def _obey(self, narrator: Narrator) -> Iterator[Event]:
        """Heed the wishes that wait; one that cannot be granted is told and forgotten."""
        now = self._fed / self.follower.sample_rate
        for wish in self.controls.taken():
            try:
                turn = self._heed(wish, narrator)
            except ScoreError as error:
                log.warning("%s", error)
                continue
            yield replace(wish, time=now)
            if turn is not None:
                yield replace(turn, time=now)

    def _heed(self, wish: Control, narrator: Narrator) -> PageTurn | None:
        """Do what is wished; the turn that comes of it."""
        turner = narrator.turner
        match wish:
            case Control(action="show", page=int(page)):
                beginning = turner.beginning(page)
                turn = turner.show(page)
                if beginning is not None:
                    self.follower.goto(page, *beginning)
                return turn
            case Control(action="goto", page=int(page), x=float(x), y=float(y)):
                turn = turner.show(page)
                self.follower.goto(page, x, y)
                narrator.forget_place()
                return turn
            case Control(action="reset"):
                turn = turner.show(turner.first)
                self.follower.reset()
                narrator.reset()
                self._begun = self._fed
                return turn
            case Control(action="pause" | "resume"):
                self.controls.paused = wish.action == "pause"
        return None

    def _keep_up(self, waiting: float) -> None:
        """Listen to fewer frames, evenly, while more sound waits than can be heard in time."""
        before = self.follower.hurry
        hurry = max([1, *(pace for seconds, pace in LATE if waiting > seconds)])
        self.follower.hurry = hurry if hurry > before or waiting < IN_TIME else before
        now = self._fed / self.follower.sample_rate
        if before == 1 < self.follower.hurry and now >= self._told_slow + TOLD_SECONDS:
            self._told_slow = now
            log.warning("the computer is too slow: some frames are passed over to keep up")

    def _listen(self, narrator: Narrator, block: NDArray[np.float32]) -> Iterator[Event]:
        rate = self.follower.sample_rate
        self.controls.hear(block, rate)
        if self.controls.paused:
            block = np.zeros_like(block)
        since = self._begun / rate
        for estimate in self.follower.feed(block):
            if since:
                estimate = replace(estimate, time=since + estimate.time)
            yield from narrator.tell(estimate)
        if self.follower.hurry > 1:
            self.summary.hurried_seconds += len(block) / rate
        self._fed += len(block)

    def _count(self, event: Event) -> None:
        if isinstance(event, Position):
            self.summary.positions += 1
            self.summary.last = event
        elif isinstance(event, PageTurn) and not event.half:
            self.summary.turns += 1

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        rate = self.follower.sample_rate
        total = round(self.source.seconds or 0)
        most = max(1, round(REALTIME_BLOCK_SECONDS * rate))
        heard = 0
        started = self.clock()
        for block in self.source.blocks(rate):
            pieces = np.split(block, range(most, len(block), most)) if self.realtime else (block,)
            for piece in pieces:
                heard += len(piece)
                if self.realtime:
                    self.sleep(max(0.0, started + heard / rate - self.clock()))
                yield piece
                self.summary.seconds = self.controls.seconds = heard / rate
                lost = self.source.dropped_seconds
                self.summary.dropped_seconds = self.controls.dropped_seconds = lost
                self.progress("following", int(self.summary.seconds), total)


def _end(
    lanes: Sequence[Lane],
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """Let all close at once: one may be long at its end, and another sounds until then."""
    for lane in lanes:
        lane.end(kind, error, trace)
