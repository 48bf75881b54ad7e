"""The measures of a stream: where they begin, their beats, what sounds in them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from music21.harmony import Harmony
from music21.meter import TimeSignature
from music21.note import GeneralNote
from music21.stream import Measure, Stream

from sf_plugin.errors import ScoreError
from sf_plugin.score.engraving import measures_of
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Score

TINY = 1e-4
"""Quarter notes that are none."""
EARLY = 0.2
"""By how much a follower may fall short of the next onset: share of the way to it, and at most
so many quarter notes."""


@dataclass(frozen=True)
class Bars:
    """The measures of a stream's first part, from 0.

    Attributes:
        measures: the objects of the stream.
        starts: quarter notes from the start of the stream, (measures,).
        lengths: quarter notes, (measures,).
    """

    measures: tuple[Measure, ...]
    starts: tuple[float, ...]
    lengths: tuple[float, ...]

    @classmethod
    def of(cls, stream: Stream) -> Bars:
        """The measures of a stream that has some."""
        measures = tuple(measures_of(stream))
        starts = tuple(offset_in(measure, stream) for measure in measures)
        lengths = [after - before for before, after in pairwise(starts)]
        lengths += [float(measure.quarterLength) for measure in measures[-1:]]
        return cls(measures, starts, tuple(lengths))

    def at(self, offset: float) -> int:
        """Which measure an offset is in; the first before it, the last after it."""
        return max(bisect_right(self.starts, offset + TINY) - 1, 0)

    def beat(self, index: int, offset: float) -> float:
        """The beat `offset` quarter notes into a measure, as music21 counts: from 1.

        The end of a full measure is its last beat's end.
        """
        metre, place = self._metre(index), offset + float(self.measures[index].paddingLeft)
        full = float(metre.barDuration.quarterLength)
        if place >= full:
            beats = metre.getBeatOffsets()
            return len(beats) + (place - beats[-1]) / (full - beats[-1])
        return float(metre.getBeatProportion(max(place, 0.0)))

    def beats(self, index: int) -> list[tuple[int, float]]:
        """The beats of a measure: number from 1, and quarter notes from the measure's start."""
        padding = float(self.measures[index].paddingLeft)
        places = [
            (n, float(at) - padding) for n, at in enumerate(self._metre(index).getBeatOffsets(), 1)
        ]
        return [(n, at) for n, at in places if 0 <= at < self.lengths[index] - TINY]

    def _metre(self, index: int) -> TimeSignature:
        measure = self.measures[index]
        metre = measure.timeSignature or measure.getContextByClass(TimeSignature)
        return TimeSignature("4/4") if metre is None else metre


class Sounding:
    """What sounds at an offset of a stream: its own notes, chords and rests, in order of parts.

    Grace notes and chord symbols take no time and never sound.
    """

    def __init__(self, stream: Stream) -> None:
        spans = []
        for element in stream.recurse().getElementsByClass(GeneralNote):
            if element.quarterLength > 0 and not isinstance(element, Harmony):
                start = offset_in(element, stream)
                spans.append((start, start + float(element.quarterLength), element))
        edges = sorted({round(at, 6) for start, end, _ in spans for at in (start, end)})
        index = {at: n for n, at in enumerate(edges)}
        found: list[list[GeneralNote]] = [[] for _ in edges]
        for start, end, element in spans:
            for n in range(index[round(start, 6)], index[round(end, 6)]):
                found[n].append(element)
        self._edges, self._found = edges, [tuple(elements) for elements in found]

    def at(self, offset: float) -> tuple[GeneralNote, ...]:
        """Those that have begun and not ended.

        Followers say where the last heard notes stand on the page, so a place right before
        an onset is that onset.
        """
        n = bisect_right(self._edges, offset + TINY) - 1
        if 0 <= n < len(self._edges) - 1 and self._found[n + 1]:
            before, after = self._edges[n : n + 2]
            n += after - offset < EARLY * min(1.0, after - before)
        return self._found[n] if n >= 0 else ()


class Written:
    """Which written measure, from 0, a printed one is.

    Pages that were engraved from a stream have its measures; those of a scan are known
    by the notes and labels that the stream gave them.
    """

    def __init__(self, score: Score) -> None:
        self._scanned = bool(score.written)
        self._by_note = {n: i for i, w in enumerate(score.written) for _, n in w.notes if n}
        self._by_label = {w.label: i for i, w in enumerate(score.written) if w.label}

    def index(self, number: int, label: str | None, notes: Iterable[str]) -> int | None:
        """Of the printed measure of a number, label and notes; None where it is none."""
        if not self._scanned:
            return number - 1
        named = next((self._by_note[note] for note in notes if note in self._by_note), None)
        return self._by_label.get(label or "") if named is None else named


def offset_in(element: Any, stream: Stream) -> float:
    """Quarter notes from the start of a stream."""
    return float(element.getOffsetInHierarchy(stream))


def on_stand(stream: Any, scan: Any) -> tuple[Score, Stream]:
    """The score to follow, and the stream with measures that names its places.

    Raises:
        ScoreError: one of them cannot be followed.
    """
    if scan is None:
        score = load_score(stream)
        if not isinstance(score.symbols, Stream):
            raise ScoreError(f"{score.name}: has no music21 stream: give one, or a scan beside it")
        return score, score.symbols
    if not isinstance(stream, Stream) or not stream.recurse().notes:
        raise ScoreError("beside a scan a music21 stream with notes is needed")
    if not measures_of(stream):
        stream = stream.makeNotation()
    return load_score(scan, symbols=stream), stream


def sequence_of(measures: Sequence[Any], length: int) -> None:
    """Check that measure numbers are of a stream with so many measures.

    Raises:
        ScoreError: they are of another.
    """
    highest = max((measure.number for measure in measures), default=0)
    if highest > length:
        raise ScoreError(
            f"measure {highest} was played and the stream has {length}: align it again"
        )
