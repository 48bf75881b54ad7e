"""MIDI clock in the soloist's tempo: `--clock PORT[,meter=3/4]`.

24 clocks a quarter note.  Where the music begins or goes elsewhere, song position, and
start (at the beginning) or continue; no clocks while the soloist holds, stop where the place
is lost.  Positions are those of the printed score.  `meter` is the length of all measures
where no symbols tell it; 4/4 without it.

PORT is a part of the port's name, upper or lower case.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from contextlib import suppress

import mido

from sf_plugin.accompaniment.bent_clock import STEADY, STEP_SECONDS, Begin, BentClock, Stretch
from sf_plugin.accompaniment.music import Accompaniment
from sf_plugin.accompaniment.places import timeline
from sf_plugin.accompaniment.soloist import Soloist
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.midi_ports import LOOK_SECONDS, MidiPort
from sf_plugin.positions import Control, Event
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.score.structure import measures_of
from sf_plugin.sinks import Sink

logger = logging.getLogger(__name__)

CLOCKS = 24
"""A quarter note."""

SIXTEENTH = CLOCKS // 4
"""Clocks of one step of the song position."""

LAST_POSITION = 16383

DELAY = 0.03
"""Seconds from a sound to its block of samples; clocks are so much early."""


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--clock`."""
    register(
        "clock",
        ClockSink,
        help="send MIDI clock with song position in the soloist's tempo",
        metavar="PORT[,meter=3/4]",
    )


def parse_clock(spec: str) -> tuple[str, float | None]:
    """Port, and quarter notes of a measure, of `PORT[,meter=N/M]`.

    Raises:
        SinkError: it is written in another way.
    """
    port, *words = (word.strip() for word in spec.split(","))
    if not port:
        raise SinkError(f"MIDI clock {spec!r}: name a MIDI port: PORT,meter=3/4")
    length = None
    for word in words:
        found = re.fullmatch(r"meter=(\d{1,2})/(1|2|4|8|16|32)", word, re.ASCII)
        if found is None or not int(found[1]):
            raise SinkError(f"MIDI clock {spec!r}: {word!r} is no meter: write it like meter=3/4")
        length = 4.0 * int(found[1]) / int(found[2])
    return port, length


class ClockPulses:
    """The messages of a clock that begins, goes on and stops."""

    def __init__(self) -> None:
        self.next = 0
        """The next clock, counted from the start of the score."""

    def begin(self, begin: Begin) -> list[mido.Message]:
        """From the next sixteenth on."""
        position = max(math.ceil(begin.entry * 4 - 1e-6), 0)
        self.next = position * SIXTEENTH
        if position == 0:
            return [mido.Message("songpos", pos=0), mido.Message("start")]
        where = [mido.Message("songpos", pos=position)] if position <= LAST_POSITION else []
        return [*where, mido.Message("continue")]

    def go(self, stretch: Stretch) -> list[mido.Message]:
        """Those that came due."""
        count = max(math.floor(stretch.after * CLOCKS + 1e-9) + 1 - self.next, 0)
        self.next += count
        return [mido.Message("clock")] * count


class ClockSink(Sink):
    """Sends MIDI clock to a port; a thread of its own owns it.

    Args:
        target: `PORT[,meter=N/M]`.

    Raises:
        SinkError: the target is written in another way.
    """

    def __init__(self, target: str) -> None:
        wanted, self._meter = parse_clock(target)
        self._port = MidiPort(wanted)
        self._soloist: Soloist | None = None
        self._clock = BentClock(settings=STEADY)
        self._pulses = ClockPulses()
        self._reset = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, score: Score, layout: Layout) -> None:
        self._soloist = followed(layout, score, self._meter)
        self._port.open()
        self._ended.clear()
        self._thread = threading.Thread(target=self._work, name="MIDI clock", daemon=True)
        self._thread.start()

    def extend(self, layout: Layout) -> None:
        if self._soloist is not None:
            self._soloist.music = timeline(layout, self._meter or 4.0)
            self._soloist.learn(layout)

    def emit(self, event: Event) -> None:
        if self._soloist is not None:
            self._soloist.hear(event, time.monotonic())
        if isinstance(event, Control) and event.action == "reset":
            self._reset.set()

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
            thread.join()
        self._port.close()

    def _work(self) -> None:
        looked = time.monotonic()
        try:
            while not self._ended.is_set():
                now = time.monotonic()
                self._port.send(self._due(now + DELAY))
                to_next = self._clock.seconds_to(self._pulses.next / CLOCKS)
                if now - looked > LOOK_SECONDS:
                    looked = now
                    self._look(now)
                self._ended.wait(min(STEP_SECONDS, max(to_next, 0.0005)))
        except Exception as error:
            logger.error("the MIDI clock ends: %r", error)
            logger.debug("traceback of the MIDI clock", exc_info=error)
        finally:
            with suppress(Exception):
                self._port.send([mido.Message("stop")])

    def _due(self, now: float) -> list[mido.Message]:
        assert self._soloist is not None
        out: list[mido.Message] = []
        passed = self._clock.advance(now, self._soloist.at(now))
        if self._reset.is_set():
            self._reset.clear()
            passed += self._clock.reset(now)
        for one in passed:
            match one:
                case Begin():
                    out += self._pulses.begin(one)
                case Stretch():
                    out += self._pulses.go(one)
                case _:
                    out.append(mido.Message("stop"))
        return out

    def _look(self, now: float) -> None:
        """A receiver that is back is told the position again."""
        before = self._port.here
        self._port.look()
        if self._port.here and not before:
            self._clock.stop(now + DELAY)


def followed(layout: Layout, score: Score, meter: float | None) -> Soloist:
    """The soloist in quarter notes of the printed score; `meter` where it tells none."""
    if meter is None and not all(measure.onsets for measure in measures_of(layout)):
        logger.warning(
            "beats are not known without symbols: measures of 4/4 are taken; say meter=3/4, or "
            "give the music as --symbols"
        )
    music: Accompaniment = timeline(layout, meter or 4.0)
    soloist = Soloist(music)
    soloist.learn(layout)
    return soloist
