"""A score played by the computer: its chroma, and the place of each frame on the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mido
import numpy as np
from numpy.typing import NDArray

from online_time_warping.chroma import HOP, SAMPLE_RATE, Chroma
from sf_plugin import Layout, Score, ScoreError
from sf_plugin.audio.piano import Piano
from sf_plugin.score.engraving import measures_of, parse_with_music21

QUARTERS_A_SECOND = 1.6
VELOCITY = 80

MUSICXML = (".musicxml", ".xml", ".mxl")


@dataclass(frozen=True)
class Reference:
    """Frames of the score from its first note.

    Attributes:
        frames: (frames, 24) chroma.
        page: (frames,) from 1.
        x, y: (frames,) fractions of the page.
    """

    frames: NDArray[np.float64]
    page: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Place:
    """A moment, quarter notes from the beginning of the score, on the pages."""

    beat: float
    page: int
    x: float
    y: float


def play(score: Score) -> Reference:
    """The score's notes as they are written, without repeats, at one tempo.

    Raises:
        ScoreError: its notes are not known, or there are none on the pages to follow.
    """
    layout, symbols = score.layout, _symbols(score)
    if layout is None or symbols is None:
        raise ScoreError(
            f"{score.name}: time warping needs the notes: give MusicXML, a file that music21 "
            "reads, such as .mid or .abc, or a music21 stream"
        )
    notes = _notes(symbols)
    heard = [frame for frame, _ in Chroma().hear(_sound(notes))]
    beats = (np.arange(len(heard)) + 1) * HOP / SAMPLE_RATE * QUARTERS_A_SECOND
    starts = [float(measure.offset) for measure in measures_of(symbols)]
    places = _places(layout, starts)
    first_note = min(start for start, _, _ in notes if start >= places[0].beat)
    chosen = (beats > first_note) & (beats <= places[-1].beat)
    if not chosen.any():
        raise ScoreError(f"{score.name}: has no notes on the pages to follow: choose other pages")
    return _reference(np.array(heard)[chosen], beats[chosen], places)


def _symbols(score: Score) -> Any:
    """The score as a music21 stream, where there is one."""
    if score.symbols is None and len(score.files) == 1 and score.files[0].suffix in MUSICXML:
        return parse_with_music21(score.files[0])
    return score.symbols


def _notes(stream: Any) -> list[tuple[float, float, int]]:
    """Start and end in quarter notes, and MIDI pitch; a tied note is one."""
    return [
        (float(note.offset), float(note.offset + note.quarterLength), int(pitch.midi))
        for note in stream.stripTies().flatten().notes
        for pitch in note.pitches
        if note.quarterLength > 0
    ]


def _sound(notes: list[tuple[float, float, int]]) -> NDArray[np.float32]:
    """On the piano that MIDI keyboards are heard with."""
    messages = []
    for start, end, pitch in notes:
        messages += [(start, "note_on", pitch), (end, "note_off", pitch)]
    piano = Piano(SAMPLE_RATE)
    parts = []
    for beat, kind, pitch in sorted(messages):
        at = round(beat / QUARTERS_A_SECOND * SAMPLE_RATE)
        parts.append(piano.render(at - piano.now))
        piano.hear(mido.Message(kind, note=pitch, velocity=VELOCITY), at)
    return np.concatenate(parts)


def _places(layout: Layout, starts: list[float]) -> list[_Place]:
    """Where notes and rests begin, and where measures end, in order."""
    return [
        _Place(starts[measure.number - 1] + beat, page.page, x, (system.top + system.bottom) / 2)
        for page in layout.pages
        for system in page.systems
        for measure in system.measures
        for x, beat in measure.onsets
    ]


def _reference(
    frames: NDArray[np.float64], beats: NDArray[np.float64], places: list[_Place]
) -> Reference:
    moments = np.array([place.beat for place in places])
    page = np.array([place.page for place in places])
    x = np.array([place.x for place in places])
    y = np.array([place.y for place in places])
    last = np.clip(np.searchsorted(moments, beats, side="right") - 1, 0, len(places) - 2)
    length = np.maximum(moments[last + 1] - moments[last], 1e-9)
    share = np.clip((beats - moments[last]) / length, 0, 1)
    return Reference(frames, page[last], x[last] + share * (x[last + 1] - x[last]), y[last])
