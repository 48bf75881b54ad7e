"""A performance: what sounds when, and which place of the print it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field

import mido
import numpy as np

from sf_plugin.dataset.midi import midi_file
from sf_plugin.dataset.render import damped

NOTE = np.dtype(
    [
        ("onset", "f8"),  # seconds
        ("duration", "f4"),  # seconds that the key is down
        ("pitch", "i2"),
        ("velocity", "i2"),
        ("printed", "i4"),  # index into Engraving.notes, -1 for a note that is not printed
    ]
)
ONSET = np.dtype(
    [
        ("time", "f8"),
        ("page", "i2"),
        ("system", "i2"),
        ("x", "f4"),
        ("score", "i2"),
        ("moment", "f8"),  # printed whole notes
        ("passing", "i2"),  # how many-th visit to that place, from 1
    ]
)
"""Where the notes that begin together stand; `page` and `system` from 0."""

PEDAL = np.dtype([("time", "f8"), ("value", "u1")])
"""The sustain pedal's movements, 0 to 127; from 64 on it holds."""

MEASURE = np.dtype([("time", "f8"), ("number", "i4"), ("passing", "i2")])
"""When each measure begins, or is entered by a jump; numbers as in `printed_measures`."""

SHORTEST_SOUND = 0.01
"""Seconds that a note sounds at least."""


@dataclass(frozen=True)
class Happening:
    """Something that the print does not say, or that leads elsewhere than to the next bar.

    Attributes:
        time: seconds; of a jump, when the first note after it is due.
        kind: a `roads.Stretch` kind, or "hesitation", "wrong rhythm", "wrong note",
            "missing note", "extra note".
        measure: where it happens or leads to; 0 where unknown.
        left: the measure that a jump leaves; 0 for what is no jump.
        pause: seconds of silence before it.
        printed: the note head concerned, an index into `Engraving.notes`; -1 for none.
    """

    time: float
    kind: str
    measure: int = 0
    left: int = 0
    pause: float = 0.0
    printed: int = -1


@dataclass
class Performance:
    """Sounding notes, the place of every onset, and what else happened, in order of time."""

    notes: np.ndarray
    onsets: np.ndarray
    pedals: np.ndarray = field(default_factory=lambda: np.zeros(0, PEDAL))
    measures: np.ndarray = field(default_factory=lambda: np.zeros(0, MEASURE))
    happenings: tuple[Happening, ...] = ()


def sounding(performance: Performance) -> np.ndarray:
    """The NOTE table with durations as they sound: until key and pedal are up."""
    notes = performance.notes.copy()
    ends = damped(notes, performance.pedals)
    notes["duration"] = np.maximum(ends - notes["onset"], SHORTEST_SOUND)
    return notes


def to_midi(performance: Performance, program: int = 0) -> mido.MidiFile:
    """Notes and pedal (controller 64) as a MIDI file, 1 tick = 1 ms."""
    return midi_file(performance.notes, program, performance.pedals)
