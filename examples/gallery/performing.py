"""Performances to try things with: a stream played at tempos of its own, as a MIDI file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

from music21 import stream, tempo


def perform(score: stream.Stream, tempo_at: Callable[[float], float], path: Path) -> Path:
    """Write a MIDI file of a score.

    Args:
        score: has measures; its own tempos do not count.
        tempo_at: quarter notes a minute at an offset; asked at every quarter note.
        path: the file; it is also what is returned.
    """
    played = copy.deepcopy(score)
    for mark in list(played.recurse().getElementsByClass(tempo.TempoIndication)):
        played.remove(mark, recurse=True)
    for measure in played.parts[0].getElementsByClass(stream.Measure):
        for quarter in range(max(1, int(measure.quarterLength))):
            number = tempo_at(measure.offset + quarter)
            measure.insert(quarter, tempo.MetronomeMark(number=number, referent=1.0))
    played.write("midi", path)
    return path
