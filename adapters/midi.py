"""Page turns as MIDI: `--turn PORT[,PROFILE][,OPTION=NUMBER...]`.

    profile       next                          previous             NUMBER, default
    cc            controller at 127, then 0     controller - 1       controller, 67
    note          note on, then off             note - 1             note, 60
    program       program change                program - 1          program, 1
    cc-page       controller at the page number (1 to 127)           controller, 67

The name of a program that shows scores is a profile too; `APPS` has them.

Half turns are not sent: the page is turned when its music has begun.

Written as `PORT,cc=67`; `prev=NUMBER` sets the number of "previous", `channel=1` to
16 the channel, `value=1` to 127 the controller's value or the note's velocity.
Applications learn the message or are set to it.  A turn over several pages sends as
many messages.

PORT is a part of the port's name, upper or lower case.  The ports are those of
mido's back end, chosen by the environment variable MIDO_BACKEND.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from dataclasses import dataclass

import mido

from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.midi_ports import LOOK_SECONDS, MidiPort
from sf_plugin.positions import Event, PageTurn
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--turn`."""
    register(
        "turn",
        PageTurnSink,
        help="turn pages by MIDI; profiles: cc, note, program, cc-page and the names of "
        "programs ('scorefollow turn --list-profiles')",
        metavar="PORT[,PROFILE]",
    )


@dataclass(frozen=True, slots=True)
class TurnProfile:
    """Which messages turn pages; `channel` counts from 1."""

    kind: str = "cc"
    number: int = 67
    previous: int = 66
    channel: int = 1
    value: int = 127

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
                mido.Message("note_on", note=number, velocity=self.value, channel=channel),
                mido.Message("note_off", note=number, velocity=0, channel=channel),
            ]
        return [self._control(number, self.value), self._control(number, 0)]

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


KINDS = {
    "cc": TurnProfile(),
    "note": TurnProfile("note", 60, 59),
    "program": TurnProfile("program", 1, 0),
    "cc-page": TurnProfile("cc-page"),
}


@dataclass(frozen=True, slots=True)
class App:
    """A program that shows scores, what it is sent, and how it comes to obey."""

    profile: TurnProfile
    setting: str


APPS = {
    "forscore": App(KINDS["cc"], "learns it: Page turners & shortcuts, tap a function, play it"),
    "mobilesheets": App(
        TurnProfile("note", 16, 15, channel=15), "set it as MIDI actions for the page turns"
    ),
    "okular": App(KINDS["cc"], "as midi-okular-pageturner comes"),
    "onsong": App(KINDS["cc"], "set it as triggers of Page Down and Page Up"),
    "opensong": App(KINDS["note"], "learns it: Listen for incoming MIDI, then the pedals"),
    "songbook": App(KINDS["cc-page"], "set the controller's value to mean the page"),
    "songone": App(KINDS["cc"], "map it to the arrow keys"),
}

PROFILES = KINDS | {name: app.profile for name, app in APPS.items()}


_RANGES = {"prev": (0, 127), "channel": (1, 16), "value": (1, 127)}


def parse_turn(spec: str) -> tuple[str, TurnProfile]:
    """Port and profile of `PORT[,PROFILE[=NUMBER]][,prev=NUMBER][,channel=NUMBER][,value=NUMBER]`.

    Raises:
        SinkError: it is written in another way.
    """
    port, *options = (part.strip() for part in spec.split(","))
    if not port:
        raise SinkError(f"page turns {spec!r}: name a MIDI port: PORT,cc=67")
    profile: TurnProfile | None = None
    numbers: dict[str, int] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if name in PROFILES and profile is None:
            profile, name = PROFILES[name], "number"
            if not equals:
                continue
        elif name not in _RANGES:
            raise SinkError(
                f"page turns {spec!r}: {option!r} is none of {', '.join(PROFILES)}, "
                "prev=NUMBER, channel=NUMBER, value=NUMBER"
            )
        low, high = _RANGES.get(name, (0, 127))
        if not text.isdecimal() or not low <= int(text) <= high:
            raise SinkError(f"page turns {spec!r}: {option!r} needs a number from {low} to {high}")
        numbers[name] = int(text)
    base = profile or KINDS["cc"]
    number = numbers.get("number", base.number)
    below = (number - 1) % 128 if "number" in numbers else base.previous
    previous = numbers.get("prev", below)
    if previous == number:
        raise SinkError(f"page turns {spec!r}: next and previous are the same message")
    channel, value = numbers.get("channel", base.channel), numbers.get("value", base.value)
    return port, TurnProfile(base.kind, number, previous, channel, value)


class PageTurnSink(Sink):
    """Sends page turns to a MIDI port.

    A thread of its own owns the port.  While the port is away it is looked for; when
    it is back, the reader is brought to the page that is then wanted.  The reader shows
    at first the page that the session shows.

    Args:
        target: `PORT[,PROFILE][,OPTION=NUMBER...]`.

    Raises:
        SinkError: the target is written in another way.
    """

    def __init__(self, target: str) -> None:
        wanted, self._profile = parse_turn(target)
        self._port = MidiPort(wanted)
        self._pages: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._controls: Controls | None = None

    def attach(self, controls: Controls) -> None:
        self._controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        if self._profile.kind == "cc-page" and len(layout.pages) > 127:
            raise SinkError(
                f"page turns by cc-page: {len(layout.pages)} pages are more than 127: use cc"
            )
        self._port.open()
        first = 1 if self._controls is None else self._controls.shown
        self._thread = threading.Thread(
            target=self._work, args=(first,), name="page turns", daemon=True
        )
        self._thread.start()

    def emit(self, event: Event) -> None:
        if isinstance(event, PageTurn) and not event.half:
            self._pages.put(event.page)

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._pages.put(None)
            thread.join()

    def _work(self, shown: int) -> None:
        wanted = shown
        page: int | None = wanted
        while page is not None:
            page = wanted
            with suppress(queue.Empty):
                page = self._pages.get(timeout=LOOK_SECONDS)
            wanted = wanted if page is None else page
            self._port.look()
            if self._port.send(self._profile.messages(shown, wanted)):
                shown = wanted
        self._port.send(self._profile.quiet())
        self._port.close()
