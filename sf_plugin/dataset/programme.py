"""What is heard besides the piece: an audience, another piece, an interruption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sf_plugin.dataset.acoustics import Crowd
from sf_plugin.dataset.perform import FIRST_ONSET
from sf_plugin.dataset.performance import NOTE, PEDAL, Performance

LONG = 5.0
"""Seconds of silence from which a jump leaves room for an interruption."""

BEFORE, AFTER = 0.3, 0.7
"""Seconds of silence before and after an interruption."""


@dataclass(frozen=True)
class Aside:
    """Seconds in which the piece is not played.

    Attributes:
        kind: "talk", "applause" or "other music".
        begin, end: seconds.
    """

    kind: str
    begin: float
    end: float


@dataclass(frozen=True)
class Programme:
    """A performance whose sound holds more than its piece.

    Attributes:
        performance: its onsets are the piece's only, its notes are all that is played.
        crowd: what people do.
        asides: when the piece is not played, in order of time.
    """

    performance: Performance
    crowd: tuple[Crowd, ...] = ()
    asides: tuple[Aside, ...] = ()


Other = Callable[[], Performance]
"""Plays another piece."""


def among_audience(performance: Performance, other: Other, rng: np.random.Generator) -> Programme:
    """People talk until shortly before the music and applaud after it."""
    talk, hush = rng.uniform(4, 8), rng.uniform(1, 2)
    played = later(performance, talk + hush)
    claps = float((played.notes["onset"] + played.notes["duration"]).max()) + rng.uniform(0.5, 2)
    over = claps + rng.uniform(6, 10)
    crowd = (
        Crowd("talk", 0.0, talk, rng.uniform(-20, -10)),
        Crowd("applause", claps, over, rng.uniform(-8, 2)),
    )
    return Programme(played, crowd, tuple(Aside(c.kind, c.begin, c.end) for c in crowd))


def another_piece(performance: Performance, other: Other, rng: np.random.Generator) -> Programme:
    """The other piece is played instead, from its beginning to its end."""
    wrong = other()
    notes = _unprinted(wrong.notes)
    end = float((notes["onset"] + notes["duration"]).max())
    played = Performance(notes, performance.onsets[:0], wrong.pedals)
    return Programme(played, (), (Aside("other music", FIRST_ONSET, end),))


def interrupted(performance: Performance, other: Other, rng: np.random.Generator) -> Programme:
    """In the long silence before a jump someone talks, or the other piece is begun."""
    jumps = [h for h in performance.happenings if h.kind == "jump" and h.pause > LONG]
    if not jumps:
        return Programme(performance)
    begin, end = jumps[0].time - jumps[0].pause + BEFORE, jumps[0].time - AFTER
    if rng.random() < 0.5:
        crowd = Crowd("talk", begin, end, rng.uniform(-20, -10))
        return Programme(performance, (crowd,), (Aside("talk", begin, end),))
    wrong = later(other(), begin - FIRST_ONSET)
    notes = _unprinted(wrong.notes[wrong.notes["onset"] < end])
    notes["duration"] = np.minimum(notes["duration"], end - notes["onset"])
    lifted = np.array([(end, 0)], PEDAL)
    pedals = np.concatenate([wrong.pedals[wrong.pedals["time"] < end], lifted])
    both = replace(
        performance,
        notes=np.sort(np.concatenate([performance.notes, notes]), order="onset", kind="stable"),
        pedals=np.sort(np.concatenate([performance.pedals, pedals]), order="time", kind="stable"),
    )
    return Programme(both, (), (Aside("other music", begin, end),))


def later(performance: Performance, seconds: float) -> Performance:
    """The same, all of it `seconds` later."""

    def moved(table: np.ndarray, name: str) -> np.ndarray:
        table = table.copy()
        table[name] += seconds
        return table

    return Performance(
        moved(performance.notes, "onset"),
        moved(performance.onsets, "time"),
        moved(performance.pedals, "time"),
        moved(performance.measures, "time"),
        tuple(replace(h, time=h.time + seconds) for h in performance.happenings),
    )


def _unprinted(notes: np.ndarray) -> np.ndarray:
    """The notes as played from another score."""
    notes = notes.astype(NOTE, copy=True)
    notes["printed"] = -1
    return notes


PROGRAMMES: dict[str, Callable[[Performance, Other, np.random.Generator], Programme]] = {
    "audience": among_audience,
    "wrong piece": another_piece,
    "interruption": interrupted,
}
"""Each makes a programme of a performance."""
