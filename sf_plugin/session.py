"""The live loop: source → follower → mapper → events → sinks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.source import Source
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.page_turns import PageTurner
from sf_plugin.positions import Estimate, Event, Jump, PageTurn, Position, State, StateChange
from sf_plugin.score.layout import Layout, Measure
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

REALTIME_BLOCK_SECONDS = 0.025

log = logging.getLogger("sf_plugin")


@dataclass(frozen=True, slots=True)
class NarratorSettings:
    """When a move in the score is worth telling.

    Attributes:
        confidence: below this, and in any state but "tracking", no jump is told.
        settle: seconds for which the music must go on at the new place.
    """

    confidence: float = 0.5
    settle: float = 0.3


@dataclass(slots=True)
class _Told:
    state: State = "waiting"
    measure: int | None = None
    landing: tuple[float, int] | None = None
    """Time and measure of a move that does not follow and is not yet confirmed."""
    landed_in: int | None = None


class Narrator:
    """Makes events of estimates; holds all that is remembered of a performance."""

    def __init__(
        self,
        layout: Layout,
        mapper: MeasureMapper,
        turner: PageTurner | None = None,
        settings: NarratorSettings | None = None,
    ) -> None:
        self.layout = layout
        self.mapper = mapper
        self.turner = turner or PageTurner(layout)
        self.settings = settings or NarratorSettings()
        self._successors = successors(layout)
        self.reset()

    def reset(self) -> None:
        """Forget the performance; the next estimate is the first of a new one."""
        self._told = _Told()
        self.turner.reset()
        self.mapper.open(self.layout)

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
        if here is None:
            return None
        if told.measure is None or self._follows(told.measure, here):
            told.measure, told.landing = here, None
            return None
        if position.state != "tracking" or position.confidence < self.settings.confidence:
            told.landing = None
            return None
        if told.landing is None or not self._follows(told.landed_in, here):
            told.landing = (position.time, here)
        told.landed_in = here
        since, landed = told.landing
        if position.time - since < self.settings.settle:
            return None
        left, told.measure, told.landing = told.measure, here, None
        return Jump(
            time=position.time,
            from_measure=left,
            to_measure=landed,
            confidence=position.confidence,
        )

    def _follows(self, before: int | None, after: int) -> bool:
        return before is not None and (
            after in (before, before + 1) or after in self._successors.get(before, ())
        )


def successors(layout: Layout) -> dict[int, set[int]]:
    """Measures that the score's repeats and voltas let follow a measure, besides the next."""
    measures: list[Measure] = [
        measure for page in layout.pages for system in page.systems for measure in system.measures
    ]
    follow: dict[int, set[int]] = {}
    start = measures[0].number if measures else 1
    fork: int | None = None
    for i, measure in enumerate(measures):
        ahead = measures[i + 1] if i + 1 < len(measures) else None
        behind = measures[i - 1] if i else None
        if measure.repeat_start:
            start, fork = measure.number, None
        begins_volta = measure.volta is not None and (
            behind is None or behind.volta != measure.volta
        )
        if begins_volta and behind is not None:
            if behind.volta is None:
                fork = behind.number
            elif fork is not None:
                follow.setdefault(fork, set()).add(measure.number)
        if measure.repeat_end:
            follow.setdefault(measure.number, set()).add(start)
            if ahead is not None and ahead.volta is None:
                start = ahead.number
    return follow


@dataclass(slots=True)
class Summary:
    """What a session came to.

    Attributes:
        seconds: audio heard.
        positions: frames followed.
        turns: pages turned.
        dropped_seconds: audio lost to overruns.
        failed_sinks: names of the sinks that were dropped.
        last: the last position, if any.
    """

    seconds: float = 0.0
    positions: int = 0
    turns: int = 0
    dropped_seconds: float = 0.0
    failed_sinks: list[str] = field(default_factory=list)
    last: Position | None = None


class Session:
    """One performance of one score, from its sound to its receivers.

    `sinks` are (name, sink) pairs; the session closes them and the source, however
    it ends.  A sink that fails is logged once by name and dropped; the session goes
    on.  `realtime` paces a source by its own sample clock; what is said is the same.

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
        self.turner = turner
        self.realtime = realtime
        self.progress = progress
        self.clock = clock
        self.sleep = sleep
        self.summary = Summary()

    def run(self) -> Summary:
        """Follow to the end."""
        for _ in self.events():
            pass
        return self.summary

    def events(self) -> Generator[Event, None, None]:
        """Follow to the end; each event comes after the sinks have it."""
        self.summary = Summary()
        with ExitStack() as stack:
            stack.enter_context(self.source)
            sinks = [
                stack.enter_context(_Guarded(name, sink, self.summary.failed_sinks))
                for name, sink in self.sinks
            ]
            layout = self.follower.prepare(self.score, self.progress)
            self.follower.reset()
            narrator = Narrator(layout, self.mapper, self.turner(layout))
            for sink in sinks:
                sink.open(self.score, layout)
            for block in self._blocks():
                for estimate in self.follower.feed(block):
                    for event in narrator.tell(estimate):
                        self._count(event)
                        for sink in sinks:
                            sink.emit(event)
                        yield event

    def _count(self, event: Event) -> None:
        if isinstance(event, Position):
            self.summary.positions += 1
            self.summary.last = event
        elif isinstance(event, PageTurn):
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
                self.summary.seconds = heard / rate
                self.summary.dropped_seconds = self.source.dropped_seconds
                self.progress("following", int(self.summary.seconds), total)


class _Guarded:
    """A sink that cannot stop the session: what it raises is logged once and drops it."""

    def __init__(self, name: str, sink: Sink, failed: list[str]) -> None:
        self.name = name
        self.sink = sink
        self.failed = failed
        self.live = True

    def open(self, score: Score, layout: Layout) -> None:
        try:
            self.sink.open(score, layout)
        except ScoreFollowerError:
            raise
        except Exception as error:
            self._drop(error)

    def emit(self, event: Event) -> None:
        if self.live:
            try:
                self.sink.emit(event)
            except Exception as error:
                self._drop(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.live:
            return
        if not isinstance(error, Exception):
            kind = error = trace = None
        try:
            self.sink.__exit__(kind, error, trace)
        except Exception as failure:
            self._report(failure)

    def _drop(self, error: Exception) -> None:
        self._report(error)
        with suppress(Exception):
            self.sink.__exit__(type(error), error, error.__traceback__)

    def _report(self, error: Exception) -> None:
        self.live = False
        self.failed.append(self.name)
        reason = str(error) if isinstance(error, ScoreFollowerError) else repr(error)
        log.error("'%s' failed and is dropped: %s", self.name, reason)
        log.debug("traceback of '%s'", self.name, exc_info=error)
