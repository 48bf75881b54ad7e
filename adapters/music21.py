"""Following and aligning music21 streams.

from music21 import corpus
from sf_adapters.music21 import follow

for place in follow(corpus.parse("bwv66.6"), "take.wav"):
    print(place.position.time, place.measure, place.offset)
"""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from music21.stream import Measure, Stream

import sf_plugin
from sf_plugin.positions import Position
from sf_plugin.score.engraving import measures_of


@dataclass(frozen=True, slots=True)
class FollowedPosition:
    """A position in a stream.

    Attributes:
        position: page, system, measure, beat and confidence.
        measure: the measure of the stream's first part; None where unknown.
        offset: quarter notes from the start of the stream; None where unknown.
    """

    position: Position
    measure: Measure | None
    offset: float | None


@dataclass(frozen=True, slots=True)
class MeasureTime:
    """When a measure was played.

    Attributes:
        number: of the measure in reading order, from 1.
        pass_: which visit of a repeated measure, from 1.
        start: seconds.
        end: seconds.
    """

    number: int
    pass_: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """A performance written into its score.

    Attributes:
        stream: a copy whose measures and notes that were heard carry
            `editorial.sf_time`: (start, end) in seconds, of the first pass.
        measures: every measure and pass that was heard, in order of time.
    """

    stream: Stream
    measures: tuple[MeasureTime, ...]


def follow(stream: Stream, audio: Any, **options: Any) -> Iterator[FollowedPosition]:
    """Follow a performance of a stream, live or from a file.

    A stream without measures is put into measures first.

    Args:
        stream: the score.
        audio: what `sf_plugin.follow` takes.
        options: more for `sf_plugin.follow`.

    Raises:
        ScoreFollowerError: the stream or the audio cannot be followed.
    """
    score = sf_plugin.load_score(stream)
    return _followed(score, sf_plugin.follow(score, audio, **options))


def _followed(score: sf_plugin.Score, positions: Any) -> Iterator[FollowedPosition]:
    measures = measures_of(score.symbols)
    starts = [float(measure.getOffsetInHierarchy(score.symbols)) for measure in measures]
    with closing(positions):
        for position in positions:
            if position.measure is None:
                yield FollowedPosition(position, None, None)
                continue
            index = position.measure - 1
            offset = None if position.beat is None else starts[index] + position.beat
            yield FollowedPosition(position, measures[index], offset)


def align(stream: Stream, audio: Any, **options: Any) -> Alignment:
    """Hear a whole performance and write its times into a copy of the stream.

    Takes the arguments of `follow`.

    Raises:
        ScoreFollowerError: the stream or the audio cannot be followed.
    """
    score = sf_plugin.load_score(stream)
    with closing(sf_plugin.follow(score, audio, **options)) as positions:
        visits = _longest(_visits(positions))
    aligned = copy.deepcopy(score.symbols)
    _write_times(aligned, visits)
    return Alignment(aligned, tuple(visit.time for visit in visits))


@dataclass(frozen=True, slots=True)
class _Visit:
    time: MeasureTime
    beats: tuple[tuple[float, float], ...]
    """(quarter notes into the measure, seconds), rising."""

    def seconds_at(self, beat: float, length: float) -> float:
        """When a beat of the measure, `length` quarter notes long, came."""
        points = self.beats or ((0.0, self.time.start),)
        if length > points[-1][0]:
            points = (*points, (length, self.time.end))
        beats, times = zip(*points, strict=True)
        return float(np.interp(beat, beats, times))


def _visits(positions: Iterable[Position]) -> list[_Visit]:
    """Stretches of one measure and pass, while the place was known.

    A pass is counted a moment after the music went back; what was said of the
    measure in between belongs to the new pass.
    """
    stretches: list[list[Position]] = []
    seen: set[tuple[int, int]] = set()
    for position in positions:
        if position.measure is None or position.state not in ("tracking", "unsure"):
            continue
        last = stretches[-1][-1] if stretches else None
        same = last is not None and last.measure == position.measure
        if last and same and (last.pass_ == position.pass_ or (last.measure, last.pass_) in seen):
            stretches[-1].append(position)
            continue
        if last and last.measure is not None:
            seen.add((last.measure, last.pass_))
        stretches.append([position])
    ends = [after[0].time for _, after in pairwise(stretches)]
    ends += [stretch[-1].time for stretch in stretches[-1:]]
    return [_visit(stretch, end) for stretch, end in zip(stretches, ends, strict=True)]


def _visit(stretch: list[Position], end: float) -> _Visit:
    last = stretch[-1]
    assert last.measure is not None
    beats: list[tuple[float, float]] = []
    for position in stretch:
        if position.beat is not None and (not beats or position.beat > beats[-1][0]):
            beats.append((position.beat, position.time))
    time = MeasureTime(last.measure, last.pass_, stretch[0].time, end)
    return _Visit(time, tuple(beats))


def _longest(visits: list[_Visit]) -> list[_Visit]:
    """One visit per measure and pass: a follower may flicker between two measures."""
    best: dict[tuple[int, int], _Visit] = {}
    for visit in visits:
        key = (visit.time.number, visit.time.pass_)
        known = best.get(key)
        if known is None or _seconds(visit) > _seconds(known):
            best[key] = visit
    return sorted(best.values(), key=lambda visit: visit.time.start)


def _seconds(visit: _Visit) -> float:
    return visit.time.end - visit.time.start


def _write_times(stream: Stream, visits: list[_Visit]) -> None:
    first = {visit.time.number: visit for visit in reversed(visits)}
    measures = measures_of(stream)
    starts = [float(measure.getOffsetInHierarchy(stream)) for measure in measures]
    lengths = [after - before for before, after in pairwise(starts)]
    lengths += [float(measure.quarterLength) for measure in measures[-1:]]

    def seconds(index: int, offset: float) -> float | None:
        visit = first.get(index + 1)
        if visit is None:
            return None
        return visit.seconds_at(offset - starts[index], lengths[index])

    for measure in stream.recurse().getElementsByClass(Measure):
        place = float(measure.getOffsetInHierarchy(stream))
        visit = first.get(max(bisect_right(starts, place), 1))
        if visit is not None:
            measure.editorial.sf_time = (visit.time.start, visit.time.end)
        for note in measure.recurse().notes:
            offset = place + float(note.getOffsetInHierarchy(measure))
            until = offset + float(note.quarterLength)
            start = seconds(max(bisect_right(starts, offset) - 1, 0), offset)
            end = seconds(max(bisect_left(starts, until) - 1, 0), until)
            if start is not None:
                note.editorial.sf_time = (start, start if end is None else max(start, end))
