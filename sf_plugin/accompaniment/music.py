"""An accompaniment: what a file or a stream has for others to play, in quarter notes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mido

from sf_plugin.errors import ScoreError
from sf_plugin.score import engraving
from sf_plugin.score.structure import Order

MIDI_SUFFIXES = (".mid", ".midi", ".smf")

TEMPO = 100.0
"""Quarter notes a minute where the file says none."""

SAME = 1e-3
"""Quarter notes below which two moments are one."""

DRUMS = 9
"""Channel, from 0."""


@dataclass(frozen=True, slots=True)
class Note:
    """A key of a MIDI channel (from 0) that is down from `start` to `end`, quarter notes."""

    start: float
    end: float
    channel: int
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Change:
    """A program, controller or bend of a channel, sent `at` a moment in quarter notes."""

    at: float
    message: mido.Message


@dataclass(frozen=True, slots=True)
class Bar:
    """A measure of the file; quarter notes from its beginning."""

    start: float
    length: float


@dataclass(frozen=True, slots=True)
class Part:
    """What one player of a file plays."""

    name: str
    notes: tuple[Note, ...]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Music:
    """All of a file.

    Attributes:
        name: what to call it in messages.
        parts: those with notes, in the file's order.
        bars: without gaps, from 0.
        tempos: (quarter notes from the start, quarter notes a minute), rising, from 0.
        holds: moments under a fermata.
    """

    name: str
    parts: tuple[Part, ...]
    bars: tuple[Bar, ...]
    tempos: tuple[tuple[float, float], ...] = ((0.0, TEMPO),)
    holds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Accompaniment:
    """What is played to a soloist.

    Attributes:
        notes: in order of their start.
        changes: in order.
        bars: those of the music.
        tempos, holds: as of `Music`.
        solo: moments at which the soloist's notes begin; empty where not known.
    """

    notes: tuple[Note, ...]
    changes: tuple[Change, ...]
    bars: tuple[Bar, ...]
    tempos: tuple[tuple[float, float], ...] = ((0.0, TEMPO),)
    holds: tuple[float, ...] = ()
    solo: tuple[float, ...] = ()

    def tempo_at(self, beat: float) -> float:
        """Quarter notes a minute that the file asks for at a moment."""
        after = bisect_right(self.tempos, beat + SAME, key=lambda pair: pair[0])
        return self.tempos[max(after - 1, 0)][1]

    @property
    def channels(self) -> tuple[int, ...]:
        """Those with notes, rising."""
        return tuple(sorted({note.channel for note in self.notes}))


# reading


def read_music(source: Path | Any) -> Music:
    """A MIDI file, a file that music21 or Verovio reads, or a music21 stream.

    Raises:
        ScoreError: it is no such file, damaged, or has no notes.
    """
    if not isinstance(source, Path):
        return _of_stream(source, "the accompaniment")
    if not source.is_file():
        raise ScoreError(f"{source}: there is no such file: check the name")
    try:
        if source.suffix.lower() in MIDI_SUFFIXES:
            return _of_midi(source)
        known = (*MIDI_SUFFIXES, *engraving.VEROVIO_SUFFIXES, *engraving.MUSIC21_SUFFIXES)
        if source.suffix.lower() not in known:
            raise ScoreError(f"no music can be read from it: give a file of {', '.join(known)}")
        return _of_stream(engraving.parse_with_music21(source), str(source))
    except ScoreError as error:
        if str(error).startswith(str(source)):
            raise
        raise ScoreError(f"{source}: {error}") from None


def _of_midi(path: Path) -> Music:
    try:
        file = mido.MidiFile(path, clip=True)
        quarter = int(file.ticks_per_beat)
        tracks = [list(_timed(track)) for track in file.tracks]
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScoreError(f"not a MIDI file, or damaged ({reason}): export it again") from None
    if quarter <= 0 or quarter >= 0x8000:
        raise ScoreError("its time is counted in seconds, not in beats: export it again")
    sounding = [track for track in tracks if any(m.type == "note_on" for _, m in track)]
    if len(sounding) == 1:
        sounding = list(_by_channel(sounding[0]))
    everything = [pair for track in tracks for pair in track]
    metas = sorted((pair for pair in everything if pair[1].is_meta), key=lambda pair: pair[0])
    changes = [
        Change(tick / quarter, message.copy(time=0))
        for tick, message in sorted(everything, key=lambda pair: pair[0])
        if message.type in ("program_change", "control_change", "pitchwheel", "aftertouch")
    ]
    parts = []
    for number, track in enumerate(sounding, 1):
        notes = tuple(sorted(_notes(track, quarter), key=lambda note: (note.start, note.pitch)))
        mine = {note.channel for note in notes}
        if notes:
            own = tuple(change for change in changes if change.message.channel in mine)
            parts.append(Part(_track_name(track, number), notes, own))
    if not parts:
        raise ScoreError("has no notes: give another file")
    end = max(note.end for part in parts for note in part.notes)
    meters = [
        (tick / quarter, 4.0 * message.numerator / message.denominator)
        for tick, message in metas
        if message.type == "time_signature" and message.numerator > 0
    ]
    tempos = [
        (tick / quarter, mido.tempo2bpm(message.tempo))
        for tick, message in metas
        if message.type == "set_tempo" and message.tempo > 0
    ]
    return Music(str(path), tuple(parts), bars_of(meters, end), _from_start(tempos))


def _timed(track: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    tick = 0
    for message in track:
        tick += message.time
        yield tick, message


def _by_channel(track: Sequence[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    channels = sorted({m.channel for _, m in track if m.type == "note_on"})
    if len(channels) == 1:
        yield list(track)
        return
    for channel in channels:
        name = mido.MetaMessage("track_name", name=f"channel {channel + 1}")
        mine = [pair for pair in track if getattr(pair[1], "channel", None) == channel]
        yield [(0, name), *mine]


def _track_name(track: Sequence[tuple[int, Any]], number: int) -> str:
    names = (m.name.strip() for _, m in track if m.type == "track_name")
    return next((name for name in names if name), f"part {number}")


def _notes(track: Sequence[tuple[int, Any]], quarter: int) -> Iterator[Note]:
    down: dict[tuple[int, int], tuple[int, int]] = {}
    for tick, message in [*track, (track[-1][0], None)]:
        ends = [(message.channel, message.note)] if _is_note(message) else []
        for key in ends if message is not None else list(down):
            if key in down:
                start, velocity = down.pop(key)
                if tick > start:
                    yield Note(start / quarter, tick / quarter, *key, velocity)
        if message is not None and message.type == "note_on" and message.velocity:
            down[message.channel, message.note] = tick, message.velocity


def _is_note(message: Any) -> bool:
    return message is not None and message.type in ("note_on", "note_off")


def bars_of(meters: Sequence[tuple[float, float]], end: float) -> tuple[Bar, ...]:
    """The measures of (moment, length) pairs of time signatures until `end`; 4/4 without any."""
    marks = [(at, length) for at, length in meters if length > SAME]
    if not marks or marks[0][0] > SAME:
        marks.insert(0, (0.0, 4.0))
    bars: list[Bar] = []
    for (at, length), (until, _) in pairwise([*marks, (max(end, marks[-1][0] + SAME), 0.0)]):
        last = until >= end
        while at < until - SAME:
            bars.append(Bar(at, length if last else min(length, until - at)))
            at += length
    return tuple(bars)


def _from_start(tempos: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    kept = sorted(dict(tempos).items())
    if not kept:
        return ((0.0, TEMPO),)
    return ((0.0, kept[0][1]), *kept[1:]) if kept[0][0] <= SAME else ((0.0, TEMPO), *kept)


def _of_stream(stream: Any, name: str) -> Music:
    from music21 import expressions, tempo
    from music21.stream import Measure, Opus, Score
    from music21.volume import realizeVolume

    if isinstance(stream, Opus):
        raise ScoreError(f"{name}: holds several pieces: give one of them")
    if not list(stream.recurse().getElementsByClass(Measure)):
        stream = stream.makeNotation()
    voices = list(stream.parts) if isinstance(stream, Score) else [stream]
    parts: list[Part] = []
    holds: set[float] = set()
    free = [channel for channel in range(16) if channel != DRUMS]
    for number, voice in enumerate(voices, 1):
        flat = voice.stripTies().flatten()
        realizeVolume(flat)
        instrument: Any = voice.getInstrument(returnDefault=True)
        drums = getattr(instrument, "midiChannel", None) == DRUMS
        channel = DRUMS if drums else free[len(parts) % len(free)]
        notes = []
        for element in flat.notes:
            start = float(element.offset)
            if any(isinstance(e, expressions.Fermata) for e in element.expressions):
                holds.add(start)
            length = float(element.quarterLength)
            velocity = min(max(round(127 * element.volume.cachedRealized), 1), 127)
            if length > 0:
                notes += [
                    Note(start, start + length, channel, pitch.midi, velocity)
                    for pitch in element.pitches
                    if 0 <= pitch.midi <= 127
                ]
        if not notes:
            continue
        program = instrument.midiProgram or 0
        change = mido.Message("program_change", channel=channel, program=program)
        called = voice.partName or instrument.partName or f"part {number}"
        notes.sort(key=lambda note: (note.start, note.pitch))
        parts.append(Part(str(called).strip(), tuple(notes), (Change(0.0, change),)))
    if not parts:
        raise ScoreError(f"{name}: has no notes: give another file")
    marks = [
        (float(mark.getOffsetInHierarchy(stream)), mark.getQuarterBPM())
        for mark in stream.recurse().getElementsByClass(tempo.MetronomeMark)
    ]
    measures = list(voices[0].getElementsByClass(Measure))
    starts = [float(measure.offset) for measure in measures]
    end = max(note.end for part in parts for note in part.notes)
    ends = [*starts[1:], max(end, starts[-1] + float(measures[-1].duration.quarterLength))]
    bars = tuple(Bar(a, b - a) for a, b in zip(starts, ends, strict=True) if b > a)
    tempos = _from_start((at, float(bpm)) for at, bpm in marks if bpm)
    return Music(name, tuple(parts), bars, tempos, tuple(sorted(holds)))


# choosing


def choose(music: Music, part: str = "", without: str = "") -> Accompaniment:
    """The parts to play: all, those named by `part`, or all but those named by `without`.

    A part is named by some of its name, upper or lower case, or by its number from 1.
    Those left out are the soloist's.

    Raises:
        ScoreError: no part is called so, or none is left to be played.
    """
    solo: tuple[Part, ...] = ()
    parts = music.parts
    if without:
        solo = _called(music, without)
        parts = tuple(one for one in parts if one not in solo)
    if part:
        parts = tuple(one for one in _called(music, part) if one in parts)
    if not parts:
        raise ScoreError(f"{music.name}: nothing is left to be played: {_names(music)}")
    notes = sorted((n for one in parts for n in one.notes), key=lambda n: (n.start, n.pitch))
    once = {id(change): change for one in parts for change in one.changes}
    changes = sorted(once.values(), key=lambda change: change.at)
    starts = sorted({round(n.start, 4) for one in solo for n in one.notes})
    return Accompaniment(
        tuple(notes),
        tuple(changes),
        music.bars,
        music.tempos,
        music.holds,
        tuple(starts),
    )


def _called(music: Music, name: str) -> tuple[Part, ...]:
    if name.isdecimal():
        found = music.parts[int(name) - 1 : int(name)] if int(name) else ()
    else:
        like = name.casefold()
        exact = tuple(one for one in music.parts if one.name.casefold() == like)
        found = exact or tuple(one for one in music.parts if like in one.name.casefold())
    if not found:
        raise ScoreError(f"{music.name}: no part is called {name!r}: {_names(music)}")
    return found


def _names(music: Music) -> str:
    return "it has " + ", ".join(f"{n} {one.name!r}" for n, one in enumerate(music.parts, 1))


# along a road


def along(music: Accompaniment, bars: Sequence[int]) -> Accompaniment:
    """The music with its bars (indices from 0) in the order in which they are played."""
    notes: list[Note] = []
    changes: list[Change] = []
    made: list[Bar] = []
    tempos: list[tuple[float, float]] = []
    holds: list[float] = []
    solo: list[float] = []
    here = 0.0
    for first, last in _runs(bars):
        start, end = music.bars[first].start, music.bars[last].start + music.bars[last].length
        move = here - start

        def inside(at: float, start: float = start, end: float = end) -> bool:
            return start - SAME <= at < end - SAME

        tempos.append((here, music.tempo_at(start)))
        tempos += [(at + move, bpm) for at, bpm in music.tempos if start + SAME < at < end - SAME]
        notes += [
            replace(n, start=n.start + move, end=min(n.end, end) + move)
            for n in music.notes
            if inside(n.start)
        ]
        if here == 0.0:
            changes += [replace(c, at=0.0) for c in music.changes if c.at < start - SAME]
        changes += [replace(c, at=c.at + move) for c in music.changes if inside(c.at)]
        holds += [at + move for at in music.holds if inside(at)]
        solo += [at + move for at in music.solo if inside(at)]
        made += [replace(bar, start=bar.start + move) for bar in music.bars[first : last + 1]]
        here += end - start
    return Accompaniment(
        tuple(notes), tuple(changes), tuple(made), tuple(tempos), tuple(holds), tuple(solo)
    )


def along_order(order: Order) -> list[int]:
    """Indices from 0 of the measures of an order, as played."""
    return [number - 1 for first, last in order for number in range(first, last + 1)]


def _runs(bars: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stretches of bars that follow one another."""
    first = previous = None
    for bar in bars:
        if previous is None or bar != previous + 1:
            if first is not None and previous is not None:
                yield first, previous
            first = bar
        previous = bar
    if first is not None and previous is not None:
        yield first, previous
