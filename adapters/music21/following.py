"""Live or from a file: the measure, beat and notes of a stream that sound now."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from music21.note import GeneralNote
from music21.stream import Measure, Stream

import sf_plugin
from sf_adapters.music21.bars import Bars, Sounding, Written, on_stand
from sf_plugin.positions import Position
from sf_plugin.score.engraving import measures_of
from sf_plugin.score.model import Score

SILENT = ("waiting", "lost")


@dataclass(frozen=True, slots=True)
class FollowedPosition:
    """A position in a stream.

    Attributes:
        position: page, system, measure, beat and confidence.
        measure: the measure of the stream's first part; None where unknown.
        offset: quarter notes from the start of the stream; None where unknown.
        beat: as music21 counts, from 1 in the unit of the time signature; None where unknown.
        sounding: the notes, chords and rests of the stream that sound now, of all parts;
            none while the follower waits or is lost.
    """

    position: Position
    measure: Measure | None
    offset: float | None
    beat: float | None
    sounding: tuple[GeneralNote, ...]


def follow(
    stream: Stream, audio: Any, *, scan: Any = None, **options: Any
) -> Iterator[FollowedPosition]:
    """Follow a performance of a stream, live or from a file.

    Places are those of the stream as it is written: where a repeat is played, offsets go
    back, and `position.pass_` counts.  Of a stream without measures, `measure` is one made
    for it; `sounding` are its own notes all the same.

    Args:
        stream: the score.
        audio: what `sf_plugin.follow` takes.
        scan: the pages to follow, a PDF or page images; engraved from the stream by default.
        options: more for `sf_plugin.follow`.

    Raises:
        ScoreFollowerError: the stream or the audio cannot be followed.
    """
    score, measured = on_stand(stream, scan)
    own = isinstance(stream, Stream) and not measures_of(stream) and not isinstance(stream, Measure)
    sounding = Sounding(stream if own else measured)
    return _followed(score, Bars.of(measured), sounding, sf_plugin.follow(score, audio, **options))


def _followed(
    score: Score, bars: Bars, sounding: Sounding, positions: Generator[Position, None, None]
) -> Iterator[FollowedPosition]:
    written = Written(score)
    with closing(positions):
        for here in positions:
            index = None
            if here.measure is not None:
                index = written.index(here.measure, here.label, here.notes)
            if index is None:
                yield FollowedPosition(here, None, None, None, ())
                continue
            measure = bars.measures[index]
            if here.beat is None:
                yield FollowedPosition(here, measure, None, None, ())
                continue
            offset = bars.starts[index] + here.beat
            now = () if here.state in SILENT else sounding.at(offset)
            yield FollowedPosition(here, measure, offset, bars.beat(index, here.beat), now)
