"""A performance written into its stream: times, tempo and timing."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from music21.stream import Measure, Stream
from music21.tempo import MetronomeMark, TempoIndication
from numpy.typing import NDArray

import sf_plugin
from sf_adapters.music21.bars import TINY, Bars, Written, offset_in, on_stand, sequence_of
from sf_plugin.alignment import MeasureTime
from sf_plugin.errors import ScoreError
from sf_plugin.passages import BREAK, Passage
from sf_plugin.positions import STATES, Position
from sf_plugin.score.structure import measures_of as printed_measures

Span = tuple[float, float]
"""Start and end in seconds."""

ENOUGH = 0.75
"""Share of a quarter note, or of a shorter measure, that must be heard of one with a tempo."""

PLACES = np.dtype(
    [
        ("time", "f8"),
        ("measure", "i4"),
        ("beat", "f4"),
        ("pass", "i4"),
        ("confidence", "f4"),
        ("state", "i1"),
    ]
)
"""One row a position: the measure counts from 1, 0 where unknown; the beat is quarter notes
into it; the state an index into `STATES`."""


@dataclass(frozen=True)
class Performance:
    """What was heard of a stream, kept as `stream.editorial.sf_performance`.

    Attributes:
        measures: every measure and pass, in order of time; their numbers count the
            measures of the stream's first part from 1.
        positions: (n,) of `PLACES`.
        audio: the recording's file, where there is one.
    """

    measures: tuple[MeasureTime, ...]
    positions: NDArray[np.void]
    audio: str = ""


@dataclass(frozen=True, slots=True)
class TempoPoint:
    """The tempo of a measure.

    Attributes:
        offset: where it begins, quarter notes from the start of the stream.
        time: when it began, seconds.
        tempo: quarter notes a minute.
        quarters: how many the tempo was measured over, those of the measure if all was heard.
        measure: counted from 1.
        pass_: which visit, from 1.
    """

    offset: float
    time: float
    tempo: float
    quarters: float
    measure: int
    pass_: int


@dataclass(frozen=True, slots=True)
class BeatTime:
    """A beat on which notes begin.

    Attributes:
        offset: quarter notes from the start of the stream.
        time: seconds.
        beat: its number in the measure, from 1.
        measure: counted from 1.
        pass_: which visit, from 1.
        tempo: quarter notes a minute to the next of these beats; None for the last of a
            stretch that was played without a break.
        deviation: how much later it came than at an even tempo through its measure, in
            beats of that measure; None where the measure's end is unknown.
    """

    offset: float
    time: float
    beat: int
    measure: int
    pass_: int
    tempo: float | None
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """A performance written into its score.

    Attributes:
        stream: a copy whose measures and notes that were heard carry
            `editorial.sf_times`: (start, end) in seconds of each pass, in order of
            time, and `editorial.sf_time`, the first of them.
        measures: every measure and pass that was heard, in order of time.
        tempo_map: the tempo of each of them, where it is known.
        beats: every beat that was heard and on which notes begin, in order of time.
    """

    stream: Stream
    measures: tuple[MeasureTime, ...]
    tempo_map: tuple[TempoPoint, ...]
    beats: tuple[BeatTime, ...]

    def with_tempos(self) -> Stream:
        """A copy that plays at the tempo of the first pass: a MetronomeMark a measure.

        They stand in the first part, sound and are not printed.  Marks of the score go.
        """
        stream = copy.deepcopy(self.stream)
        for mark in list(stream.recurse().getElementsByClass(TempoIndication)):
            stream.remove(mark, recurse=True)
        measures = Bars.of(stream).measures
        first = {point.measure: point for point in reversed(self.tempo_map)}
        for number, point in sorted(first.items()):
            mark = MetronomeMark(numberSounding=round(point.tempo, 3), referent=1.0)
            measures[number - 1].insert(0.0, mark)
        return stream


def align(stream: Stream, audio: Any, *, scan: Any = None, **options: Any) -> Alignment:
    """Hear a whole performance and write its times into a copy of the stream.

    Args:
        stream: the score.
        audio: what `sf_plugin.align` takes.
        scan: the pages to follow, a PDF or page images; engraved from the stream by default.
        options: more for `sf_plugin.align`.

    Raises:
        ScoreFollowerError: the stream or the audio cannot be followed.
    """
    score, measured = on_stand(stream, scan)
    heard = sf_plugin.align(score, audio, **options)
    written = Written(score)
    index = {
        measure.number: written.index(
            measure.number, measure.label, (note for _, note in measure.notes)
        )
        for measure in printed_measures(heard.layout)
    }
    visits = [
        replace(visit, number=n + 1)
        for visit in heard.measures
        if (n := index[visit.number]) is not None
    ]
    audio = os.fspath(audio) if isinstance(audio, str | os.PathLike) else ""
    aligned = copy.deepcopy(measured)
    return write(aligned, Performance(tuple(visits), _places(heard.positions, index), audio))


def _places(positions: Sequence[Position], index: dict[int, int | None]) -> NDArray[np.void]:
    rows = []
    for here in positions:
        measure = index.get(here.measure or 0)
        number = 0 if measure is None else measure + 1
        state = STATES.index(here.state)
        rows.append((here.time, number, here.beat or 0, here.pass_, here.confidence, state))
    return np.array(rows, PLACES)


def write(stream: Stream, performance: Performance) -> Alignment:
    """Write a performance into a stream.

    Raises:
        ScoreError: it is of another stream.
    """
    sequence_of(performance.measures, len(Bars.of(stream).measures))
    stream.editorial.sf_performance = performance
    alignment = alignment_of(stream)
    _write_times(stream, performance.measures)
    return alignment


def performance_of(stream: Stream) -> Performance:
    """What was heard of an aligned stream.

    Raises:
        ScoreError: it was not aligned.
    """
    performance = getattr(stream.editorial, "sf_performance", None)
    if not isinstance(performance, Performance):
        raise ScoreError("the stream has no times: use the stream that align() returns")
    return performance


def alignment_of(stream: Stream) -> Alignment:
    """The alignment of an aligned stream, such as one that was read from a file.

    Raises:
        ScoreError: it was not aligned.
    """
    measures = performance_of(stream).measures
    bars = Bars.of(stream)
    sequence_of(measures, len(bars.measures))
    passages = make_passages(measures, bars)
    return Alignment(
        stream, measures, tuple(_tempo_map(passages, bars)), tuple(_beats(stream, passages, bars))
    )


def make_passages(visits: Sequence[MeasureTime], bars: Bars) -> list[Passage]:
    """The stretches played without a break, in order of time."""
    parts: list[list[MeasureTime]] = []
    for visit in visits:
        if not parts or visit.jumped or visit.start - parts[-1][-1].end > BREAK:
            parts.append([])
        parts[-1].append(visit)
    return [_passage(part, bars) for part in parts]


def _passage(visits: list[MeasureTime], bars: Bars) -> Passage:
    offsets = [0.0]
    points: list[tuple[float, float]] = []

    def reach(quarter: float, second: float) -> None:
        if not points or (quarter > points[-1][0] + TINY and second > points[-1][1]):
            points.append((quarter, max(0.0, second)))

    for visit in visits:
        start = offsets[-1]
        offsets.append(start + bars.lengths[visit.number - 1])
        for onset in visit.onsets:
            reach(start + (onset.beat or 0.0), onset.time)
    reach(offsets[-1], visits[-1].end)
    quarters, seconds = zip(*points, strict=True)
    return Passage(tuple(visits), tuple(offsets), quarters, seconds)


def _known(passage: Passage) -> Iterator[tuple[MeasureTime, float, float, float]]:
    """Every measure: where it begins and ends in the passage, and up to where it was heard.

    When the last measure's last notes end is not known.
    """
    last = passage.measures[-1]
    final = passage.offsets[-2] + max((onset.beat or 0.0 for onset in last.onsets), default=0.0)
    for visit, start, end in zip(
        passage.measures, passage.offsets, passage.offsets[1:], strict=False
    ):
        yield visit, start, end, min(end, final)


def _tempo_map(passages: Sequence[Passage], bars: Bars) -> Iterator[TempoPoint]:
    for passage in passages:
        for visit, start, end, heard in _known(passage):
            begin = max(start, passage.quarters[0])
            quarters, seconds = heard - begin, passage.at(heard) - passage.at(begin)
            if quarters > ENOUGH * min(1.0, end - start) and seconds > 0:
                offset = bars.starts[visit.number - 1] + begin - start
                tempo, when = 60 * quarters / seconds, passage.at(begin)
                yield TempoPoint(offset, when, tempo, quarters, visit.number, visit.pass_)


def _beats(stream: Stream, passages: Sequence[Passage], bars: Bars) -> Iterator[BeatTime]:
    struck = {round(offset_in(note, stream), 3) for note in stream.recurse().notes}
    on_beats = [
        [(n, at) for n, at in bars.beats(i) if round(start + at, 3) in struck]
        for i, start in enumerate(bars.starts)
    ]
    for passage in passages:
        found = []
        for visit, start, end, heard in _known(passage):
            i = visit.number - 1
            begin, whole = passage.at(start), start >= passage.quarters[0] and heard == end
            even = (passage.at(end) - begin) / bars.lengths[i]
            beats = bars.beats(i)
            step = beats[1][1] - beats[0][1] if len(beats) > 1 else bars.lengths[i]
            for n, at in on_beats[i]:
                if not passage.quarters[0] - TINY <= start + at <= heard + TINY:
                    continue
                time = passage.at(start + at)
                late = (time - begin - at * even) / (even * step) if whole and even > 0 else None
                beat = BeatTime(bars.starts[i] + at, time, n, visit.number, visit.pass_, None, late)
                found.append((start + at, beat))
        for (q0, one), (q1, after) in pairwise(found):
            gap = after.time - one.time
            yield replace(one, tempo=60 * (q1 - q0) / gap if gap > 0 else None)
        yield from (beat for _, beat in found[-1:])


def _write_times(stream: Stream, visits: Sequence[MeasureTime]) -> None:
    bars = Bars.of(stream)
    heard: dict[int, list[tuple[MeasureTime, float, Passage]]] = {}
    for passage in make_passages(visits, bars):
        for visit, start in zip(passage.measures, passage.offsets, strict=False):
            heard.setdefault(visit.number - 1, []).append((visit, start, passage))
    for measure in stream.recurse().getElementsByClass(Measure):
        place = offset_in(measure, stream)
        here = heard.get(bars.at(place), ())
        _write_spans(measure, [(max(0.0, visit.start), visit.end) for visit, _, _ in here])
        for note in measure.recurse().notes:
            offset = place + offset_in(note, measure)
            index = bars.at(offset)
            spans = []
            for _, start, passage in heard.get(index, ()):
                begin = start + offset - bars.starts[index]
                spans.append((passage.at(begin), passage.at(begin + float(note.quarterLength))))
            _write_spans(note, spans)


def _write_spans(element: Any, spans: Sequence[Span]) -> None:
    if spans:
        element.editorial.sf_times = tuple(spans)
        element.editorial.sf_time = spans[0]
