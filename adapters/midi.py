"""Page turns as MIDI: `--turn PORT[,PROFILE][,OPTION=NUMBER...]`.

    profile       next                          previous             NUMBER, default
    cc            controller at 127, then 0     controller - 1       controller, 67
    note          note on, then off             note - 1             note, 60
    program       program change                program - 1          program, 1
    cc-page       controller at the page number (1 to 127)           controller, 67

Half turns are not sent: the page is turned when its music has begun.

Written as `PORT,cc=67`; `prev=NUMBER` sets the number of "previous", `channel=1` to
16 the channel.  Applications learn the message or are set to it.  A turn over
several pages sends as many messages.

PORT is a part of the port's name, upper or lower case.  The ports are those of
mido's back end, chosen by the environment variable MIDO_BACKEND.
"""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mido

from sf_plugin.audio.quiet import quiet_stderr
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import Event, PageTurn
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

logger = logging.getLogger(__name__)

DEFAULT_NUMBERS = {"cc": 67, "note": 60, "program": 1, "cc-page": 67}

LOOK_SECONDS = 0.5
"""Time between two looks at whether the port is there."""


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--turn`."""
    register(
        "turn",
        PageTurnSink,
        help="turn pages by MIDI; profiles: cc, note, program, cc-page",
        metavar="PORT[,PROFILE]",
    )


@dataclass(frozen=True, slots=True)
class TurnProfile:
    """Which messages turn pages; `channel` counts from 1."""

    kind: str = "cc"
    number: int = DEFAULT_NUMBERS["cc"]
    previous: int = DEFAULT_NUMBERS["cc"] - 1
    channel: int = 1

    def messages(self, shown: int, wanted: int) -> list[mido.Message]:
        """What brings a reader from page `shown` to page `wanted`."""
        if shown == wanted:
            return []
        if self.kind == "cc-page":
            return [self._control(self.number, wanted)]
        number = self.number if wanted > shown else self.previous
        return self._press(number) * abs(wanted - shown)

    def _press(self, number: int) -> list[mido.Message]:
        channel = self.channel - 1
        if self.kind == "program":
            return [mido.Message("program_change", program=number, channel=channel)]
        if self.kind == "note":
            return [
                mido.Message("note_on", note=number, velocity=127, channel=channel),
                mido.Message("note_off", note=number, velocity=0, channel=channel),
            ]
        return [self._control(number, 127), self._control(number, 0)]

    def quiet(self) -> list[mido.Message]:
        """Ends whatever may still sound or be held."""
        held = []
        if self.kind == "note":
            held = [
                mido.Message("note_off", note=number, velocity=0, channel=self.channel - 1)
                for number in (self.number, self.previous)
            ]
        return [*held, self._control(123, 0)]

    def _control(self, control: int, value: int) -> mido.Message:
        return mido.Message(
            "control_change", control=control, value=value, channel=self.channel - 1
        )


def parse_turn(spec: str) -> tuple[str, TurnProfile]:
    """Port and profile of `PORT[,PROFILE[=NUMBER]][,prev=NUMBER][,channel=NUMBER]`.

    Raises:
        SinkError: it is written in another way.
    """
    port, *options = (part.strip() for part in spec.split(","))
    if not port:
        raise SinkError(f"page turns {spec!r}: name a MIDI port: PORT,cc=67")
    kind: str | None = None
    numbers: dict[str, int] = {}
    for option in options:
        name, _, text = option.partition("=")
        if name in DEFAULT_NUMBERS and kind is None:
            kind, name = name, "number"
            text = text or str(DEFAULT_NUMBERS[kind])
        elif name not in ("prev", "channel"):
            raise SinkError(
                f"page turns {spec!r}: {option!r} is none of {', '.join(DEFAULT_NUMBERS)}, "
                "prev=NUMBER, channel=NUMBER"
            )
        low, high = (1, 16) if name == "channel" else (0, 127)
        if not text.isdecimal() or not low <= int(text) <= high:
            raise SinkError(f"page turns {spec!r}: {option!r} needs a number from {low} to {high}")
        numbers[name] = int(text)
    number = numbers.get("number", DEFAULT_NUMBERS["cc"])
    previous = numbers.get("prev", (number - 1) % 128)
    if previous == number:
        raise SinkError(f"page turns {spec!r}: next and previous are the same message")
    return port, TurnProfile(kind or "cc", number, previous, numbers.get("channel", 1))


def find_port(names: list[str], wanted: str) -> str | None:
    """The port of this name, or the first with this part of a name."""
    name = wanted.casefold()
    exact = [port for port in names if port.casefold() == name]
    return next(iter(exact or [port for port in names if name in port.casefold()]), None)


class PageTurnSink(Sink):
    """Sends page turns to a MIDI port.

    A thread of its own owns the port.  While the port is away it is looked for; when
    it is back, the reader is brought to the page that is then wanted.

    Args:
        target: `PORT[,PROFILE][,OPTION=NUMBER...]`.

    Raises:
        SinkError: the target is written in another way.
    """

    def __init__(self, target: str) -> None:
        self._wanted, self._profile = parse_turn(target)
        self._port: Any = None
        self._here = False
        self._pages: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self, score: Score, layout: Layout) -> None:
        if self._profile.kind == "cc-page" and len(layout.pages) > 127:
            raise SinkError(
                f"page turns by cc-page: {len(layout.pages)} pages are more than 127: use cc"
            )
        names = _port_names()
        name = find_port(names, self._wanted)
        if name is None:
            there = ", ".join(repr(port) for port in names) or "no MIDI output at all"
            raise SinkError(f"no MIDI port called {self._wanted!r}: there is {there}")
        try:
            self._port = mido.open_output(name)
        except Exception as error:
            raise SinkError(
                f"MIDI port {name!r} cannot be opened ({error}): is another program using it?"
            ) from None
        self._here = True
        self._thread = threading.Thread(target=self._work, name="page turns", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        if isinstance(event, PageTurn) and not event.half:
            self._pages.put(event.page)

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._pages.put(None)
            thread.join()

    def _work(self) -> None:
        shown = wanted = 1
        page: int | None = wanted
        while page is not None:
            page = wanted
            with suppress(queue.Empty):
                page = self._pages.get(timeout=LOOK_SECONDS)
            wanted = wanted if page is None else page
            self._look()
            if self._send(self._profile.messages(shown, wanted)):
                shown = wanted
        self._send(self._profile.quiet())
        with suppress(Exception):
            self._port.close()

    def _send(self, messages: list[mido.Message]) -> bool:
        if not self._here:
            return False
        try:
            for message in messages:
                self._port.send(message)
        except Exception as error:
            logger.warning("MIDI port %r does not take messages: %s", self._port.name, error)
            self._here = False
        return self._here

    def _look(self) -> None:
        """Notices that the port went away; opens it anew where it came back."""
        names = self._names()
        if self._here:
            if self._port.name in names:
                return
            logger.warning("MIDI port %r is gone: looking for it", self._port.name)
            self._here = False
        name = find_port(names, self._wanted)
        if name is None:
            return
        try:
            port = mido.open_output(name)
        except Exception:
            return
        with suppress(Exception):
            self._port.close()
        self._port, self._here = port, True
        logger.warning("MIDI port %r is back", name)

    def _names(self) -> list[str]:
        rtmidi_port = getattr(self._port, "_rt", None)
        try:
            # A second client for each look would disturb JACK's audio.
            return _port_names() if rtmidi_port is None else list(rtmidi_port.get_ports())
        except Exception:
            return []


def _port_names() -> list[str]:
    try:
        with quiet_stderr():
            return list(mido.get_output_names())
    except ImportError as error:
        raise SinkError(f"MIDI back end is missing ({error}): pip install python-rtmidi") from None
    except Exception as error:
        raise SinkError(
            f"MIDI does not start ({error}): start the MIDI or JACK server, or choose an API with "
            "MIDO_BACKEND, such as mido.backends.rtmidi/UNIX_JACK"
        ) from None
