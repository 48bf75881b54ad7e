"""Plays an accompaniment with a soloist: what is to be sent, and when."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import mido

from sf_plugin.accompaniment.bent_clock import Begin, BentClock, ClockSettings, Stretch
from sf_plugin.accompaniment.music import SAME, Accompaniment, Note
from sf_plugin.accompaniment.prediction import Prediction

SUSTAIN, NOTES_OFF = 64, 123
"""Controllers."""

SILENCE_SECONDS = 5.0
"""What sounds is ended when the soloist holds longer."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message that is due at a time in seconds.

    `beat` is its moment in quarter notes; None for what is sent out of its time.
    """

    time: float
    message: mido.Message
    beat: float | None = None


@dataclass(frozen=True, slots=True)
class _Event:
    at: float
    rank: int
    message: mido.Message
    note: int = -1
    """Index of the note that begins or ends; -1 for other messages."""


class Player:
    """Says what is to be sent, in order, as time passes and the soloist is heard.

    Nothing here looks at a clock or a port.  Every note that is begun is ended: by its own
    end, when the clock stops or the same key is struck again, or by `silence`.  Where the
    soloist goes elsewhere or is lost, what sounds is ended; programs and controllers are
    sent again where the music goes on.

    Args:
        music: what to play.
        settings: how the clock is bent.
    """

    def __init__(self, music: Accompaniment, settings: ClockSettings | None = None) -> None:
        self.music = music
        self.clock = BentClock([bar.start for bar in music.bars], settings)
        self._events = sorted(_events(music), key=lambda event: (event.at, event.rank))
        self._times = [event.at for event in self._events]
        self._next = 0
        self._sounding: dict[tuple[int, int], int] = {}
        self._played: set[int] = set()
        self._held_since: float | None = None

    def advance(self, time: float, soloist: Prediction) -> list[Due]:
        """What is due until `time`, knowing where the soloist is then."""
        out: list[Due] = []
        for passed in self.clock.advance(time, soloist):
            match passed:
                case Begin():
                    out += self._begin(passed)
                case Stretch():
                    out += self._pass(passed)
                case _:
                    out += self.silence(passed.time)
        return out

    def seconds_to_next(self) -> float:
        """Until the next message, at the speed of now; infinity where none is due."""
        if self._next >= len(self._events):
            return math.inf
        return self.clock.seconds_to(self._times[self._next])

    def silence(self, time: float) -> list[Due]:
        """Ends all that sounds, now."""
        out = [Due(time, _note_off(*key)) for key in sorted(self._sounding)]
        self._sounding.clear()
        return [*out, *(Due(time, message) for message in self.quiet())]

    def quiet(self) -> list[mido.Message]:
        """What ends the sound of any receiver."""
        return [
            mido.Message("control_change", channel=channel, control=control, value=0)
            for channel in self.music.channels
            for control in (SUSTAIN, NOTES_OFF)
        ]

    def standing(self, at: float) -> list[mido.Message]:
        """Programs, controllers and bends as they are just before a moment."""
        stand: dict[tuple[int, str, int], mido.Message] = {}
        for change in self.music.changes:
            if change.at >= at - SAME:
                break
            message = change.message
            key = (message.channel, message.type, getattr(message, "control", 0))
            stand.pop(key, None)
            stand[key] = message
        return list(stand.values())

    def reset(self, time: float) -> list[Due]:
        """A new performance begins."""
        self.clock.reset(time)
        return self.silence(time)

    def _begin(self, begin: Begin) -> list[Due]:
        self._played.clear()
        self._held_since = None
        self._next = bisect_left(self._times, begin.entry - SAME)
        out = [Due(begin.time, message) for message in self.standing(begin.entry)]
        return out + self._pass(Stretch(begin.time, begin.time, begin.beat, begin.beat, False))

    def _pass(self, stretch: Stretch) -> list[Due]:
        out: list[Due] = []
        while self._next < len(self._events) and self._times[self._next] <= stretch.after:
            event = self._events[self._next]
            self._next += 1
            out += self._send(stretch.time_of(event.at), event)
        if not stretch.holding:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = stretch.end
        elif stretch.end - self._held_since > SILENCE_SECONDS and self._sounding:
            out += self.silence(stretch.end)
        return out

    def _send(self, time: float, event: _Event) -> Iterator[Due]:
        if event.note < 0:
            yield Due(time, event.message, event.at)
            return
        key = (event.message.channel, event.message.note)
        if event.message.type == "note_off":
            if self._sounding.get(key) == event.note:
                del self._sounding[key]
                yield Due(time, event.message, event.at)
        elif event.note not in self._played:
            self._played.add(event.note)
            if key in self._sounding:
                yield Due(time, _note_off(*key))
            self._sounding[key] = event.note
            yield Due(time, event.message, event.at)


def _events(music: Accompaniment) -> Iterator[_Event]:
    """Ends before changes before beginnings of one moment."""
    for change in music.changes:
        yield _Event(change.at, 1, change.message)
    for index, note in enumerate(music.notes):
        yield _Event(note.start, 2, _note_on(note), index)
        yield _Event(
            max(note.end, note.start + SAME), 0, _note_off(note.channel, note.pitch), index
        )


def _note_on(note: Note) -> mido.Message:
    return mido.Message("note_on", channel=note.channel, note=note.pitch, velocity=note.velocity)


def _note_off(channel: int, pitch: int) -> mido.Message:
    return mido.Message("note_off", channel=channel, note=pitch, velocity=0)
