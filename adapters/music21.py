"""Following and aligning music21 streams.

from music21 import corpus
from sf_adapters.music21 import follow

for place in follow(corpus.parse("bwv66.6"), "take.wav"):
    print(place.position.time, place.measure, place.offset)
"""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from music21.stream import Measure, Stream

import sf_plugin
from sf_plugin.alignment import MeasureTime
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

    Takes the arguments of `sf_plugin.align`.

    Raises:
        ScoreFollowerError: the stream or the audio cannot be followed.
    """
    score = sf_plugin.load_score(stream)
    measures = sf_plugin.align(score, audio, **options).measures
    aligned = copy.deepcopy(score.symbols)
    _write_times(aligned, measures)
    return Alignment(aligned, measures)


def _seconds_at(visit: MeasureTime, beat: float, length: float) -> float:
    """When a beat of a measure, `length` quarter notes long, came."""
    points: list[tuple[float, float]] = []
    for onset in visit.onsets:
        if onset.beat is not None and (not points or onset.beat > points[-1][0]):
            points.append((onset.beat, onset.time))
    points = points or [(0.0, visit.start)]
    if length > points[-1][0]:
        points.append((length, visit.end))
    beats, times = zip(*points, strict=True)
    return float(np.interp(beat, beats, times))


def _write_times(stream: Stream, visits: Sequence[MeasureTime]) -> None:
    first = {visit.number: visit for visit in reversed(visits)}
    measures = measures_of(stream)
    starts = [float(measure.getOffsetInHierarchy(stream)) for measure in measures]
    lengths = [after - before for before, after in pairwise(starts)]
    lengths += [float(measure.quarterLength) for measure in measures[-1:]]

    def seconds(index: int, offset: float) -> float | None:
        visit = first.get(index + 1)
        if visit is None:
            return None
        return _seconds_at(visit, offset - starts[index], lengths[index])

    for measure in stream.recurse().getElementsByClass(Measure):
        place = float(measure.getOffsetInHierarchy(stream))
        visit = first.get(max(bisect_right(starts, place), 1))
        if visit is not None:
            measure.editorial.sf_time = (visit.start, visit.end)
        for note in measure.recurse().notes:
            offset = place + float(note.getOffsetInHierarchy(measure))
            until = offset + float(note.quarterLength)
            start = seconds(max(bisect_right(starts, offset) - 1, 0), offset)
            end = seconds(max(bisect_left(starts, until) - 1, 0), until)
            if start is not None:
                note.editorial.sf_time = (start, start if end is None else max(start, end))
