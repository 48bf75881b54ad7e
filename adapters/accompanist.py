"""Plays an accompaniment with the soloist: `--accompany FILE[,OPTION...]`.

    part=NAME         only the parts of this name, or of this number from 1
    without=NAME      all but these, which the soloist plays
    port=NAME         a MIDI port, by a part of its name; else fluidsynth is started
    soundfont=FILE    of fluidsynth; one of the system's by default
    audio=DRIVER      of fluidsynth, such as jack
    delay=30          milliseconds that everything is played early, for what is slow on the way
    intro             what comes before the soloist's first note is played at once

FILE is a MIDI file, MusicXML or another file that music21 reads.  In Python a sink like any
other, also of a music21 part: `Accompanist(part, port="piano")`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import mido

from sf_adapters.fluidsynth import Synthesizer
from sf_plugin.accompaniment.bent_clock import STEP_SECONDS
from sf_plugin.accompaniment.music import choose, read_music
from sf_plugin.accompaniment.places import as_played
from sf_plugin.accompaniment.player import Due, Player
from sf_plugin.accompaniment.soloist import Soloist
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.midi_ports import LOOK_SECONDS, MidiPort
from sf_plugin.positions import Control, Event, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

logger = logging.getLogger(__name__)

DELAY = 0.03
"""Seconds from a sound to its block of samples, and from a message to its sound."""

SPARE_SECONDS = 0.03
"""A look at the port is taken where no message is due for so long."""

FAST = 2.0
"""Seconds of sound a second that nobody plays."""

OPTIONS = ("part", "without", "port", "soundfont", "audio", "delay")


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--accompany`."""
    register(
        "accompany",
        parse_accompaniment,
        help="play along: a MIDI file, MusicXML; options: port=, part=, without=, delay=, intro",
        metavar="FILE[,OPTION...]",
    )


class Instrument(Protocol):
    """What an accompaniment is played on: a `MidiPort` or a `Synthesizer`."""

    here: bool

    def open(self) -> None: ...

    def send(self, messages: list[mido.Message]) -> bool: ...

    def look(self) -> None: ...

    def close(self) -> None: ...


def parse_accompaniment(spec: str) -> Accompanist:
    """The accompanist of `FILE[,OPTION...]`.

    Raises:
        SinkError: it is written in another way.
        ScoreError: the file cannot be read, or has no such part.
    """
    file, *words = (word.strip() for word in spec.split(","))
    if not file:
        raise SinkError(f"accompaniment {spec!r}: name a file: concerto.mid,port=piano")
    options: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        if word == "intro":
            options["intro"] = True
        elif name not in OPTIONS or not text:
            raise SinkError(
                f"accompaniment {spec!r}: {word!r} is none of "
                + ", ".join(f"{option}=…" for option in OPTIONS)
                + ", intro"
            )
        elif name == "delay":
            options[name] = _milliseconds(spec, text)
        else:
            options[name] = text
    return Accompanist(Path(file), **options)


def _milliseconds(spec: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise SinkError(f"accompaniment {spec!r}: delay={text} is not in 0 to 1000 milliseconds")
    return value / 1000


class Accompanist(Sink):
    """Plays a file or a music21 stream with the soloist of a live session.

    A thread of its own owns the instrument.  All notes are off when it ends, however that
    comes, and on a port that went away, when it is back.

    Args:
        music: a path, or a music21 part or score.
        port: a part of a MIDI port's name; "fluidsynth" starts that program.
        part, without: which parts are played; see `sf_plugin.accompaniment.music.choose`.
        delay: seconds that everything is played early.
        intro: whether what comes before the soloist's first note is played at once.
        soundfont, audio: of fluidsynth.

    Raises:
        ScoreError: the music cannot be read, or has no such part.
    """

    def __init__(
        self,
        music: Any,
        port: str = "fluidsynth",
        *,
        part: str = "",
        without: str = "",
        delay: float = DELAY,
        intro: bool = False,
        soundfont: str = "",
        audio: str = "",
    ) -> None:
        source = Path(music) if isinstance(music, str) else music
        self.music = choose(read_music(source), part, without)
        self.delay = delay
        self.intro = intro
        self.instrument: Instrument
        if port.casefold() == "fluidsynth":
            self.instrument = Synthesizer(soundfont, audio)
        else:
            self.instrument = MidiPort(port)
        self._soloist: Soloist | None = None
        self._player = Player(self.music)
        self._pages = 0
        self._down: set[tuple[int, int]] = set()
        self._reset = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._pace = _Pace()

    def open(self, score: Score, layout: Layout) -> None:
        music = as_played(self.music, layout, score.order)
        self._soloist = Soloist(music, score.order)
        self._player = Player(music)
        self._pages = len(score.followed)
        self._learn(layout)
        self.instrument.open()
        if self.intro:
            self._soloist.begin()
        self._ended.clear()
        self._thread = threading.Thread(target=self._work, name="accompanist", daemon=True)
        self._thread.start()

    def extend(self, layout: Layout) -> None:
        self._learn(layout)

    def emit(self, event: Event) -> None:
        if self._soloist is None:
            return
        now = time.monotonic()
        self._soloist.hear(event, now)
        if isinstance(event, Control) and event.action == "reset":
            self._reset.set()
        if isinstance(event, Position):
            self._pace.hear(event.time, now)

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
            thread.join()
        self.instrument.close()

    def _learn(self, layout: Layout) -> None:
        assert self._soloist is not None
        places = self._soloist.learn(layout)
        if not places.whole and len(layout.pages) >= self._pages:
            logger.warning(
                "the accompaniment has %d measures and the pages have fewer: what is played "
                "may be elsewhere ('scorefollow layout' shows the measures found; --order "
                "says how they are played)",
                len(self.music.bars),
            )

    def _work(self) -> None:
        looked = time.monotonic()
        try:
            while not self._ended.is_set():
                now = time.monotonic()
                self._play(now)
                if now - looked > LOOK_SECONDS and self._spare(now - looked):
                    looked = now
                    self._look()
                self._ended.wait(min(STEP_SECONDS, max(self._player.seconds_to_next(), 0.0005)))
        except Exception as error:
            logger.error("the accompaniment ends: %r", error)
            logger.debug("traceback of the accompaniment", exc_info=error)
        finally:
            with suppress(Exception):
                self._send([*self._offs(), *self._player.quiet()])

    def _play(self, now: float) -> None:
        assert self._soloist is not None
        if self._reset.is_set():
            self._reset.clear()
            self._deliver(self._player.reset(now + self.delay))
        prediction = self._soloist.at(now + self.delay)
        self._deliver(self._player.advance(now + self.delay, prediction))

    def _deliver(self, dues: list[Due]) -> None:
        self._send([due.message for due in dues])

    def _send(self, messages: list[mido.Message]) -> None:
        if not messages or not self.instrument.send(messages):
            return
        for message in messages:
            if message.type == "note_on":
                self._down.add((message.channel, message.note))
            elif message.type == "note_off":
                self._down.discard((message.channel, message.note))

    def _spare(self, since: float) -> bool:
        """Whether there is time to look at the port."""
        return self._player.seconds_to_next() > SPARE_SECONDS or since > 4 * LOOK_SECONDS

    def _look(self) -> None:
        before = self.instrument.here
        self.instrument.look()
        if self.instrument.here and not before:
            here = self._player.clock.beat
            self._send([*self._offs(), *self._player.quiet(), *self._player.standing(here)])

    def _offs(self) -> list[mido.Message]:
        """Ends every note that was sent and not ended."""
        return [
            mido.Message("note_off", channel=channel, note=pitch, velocity=0)
            for channel, pitch in sorted(self._down)
        ]


class _Pace:
    """Warns once where the sound comes faster than anybody plays."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._warned = False

    def hear(self, sound: float, wall: float) -> None:
        if self._first is None:
            self._first = sound, wall
        heard, passed = sound - self._first[0], wall - self._first[1]
        if not self._warned and heard > 5.0 and heard > FAST * passed:
            self._warned = True
            logger.warning("the sound is heard faster than it is played: give --realtime")
