"""Wishes to the session by MIDI: `--midi-control PORT[,WISH=KIND:NUMBER...][,channel=NUMBER]`.

WISH is `next` or `previous` page, `reset` (a new performance begins) or `pause` (hear
silence; once more: hear the sound again).  KIND is `cc`, `note` or `program`.  Where no
wish is named, controller 67 is "next" and 66 is "previous".  Written as
`pedal,next=cc:67,pause=note:36`; without a channel all are heard.

A controller is pressed when it comes to 64 or more, and again once it was below 32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import mido

from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.midi_ports import LOOK_SECONDS, MidiPort
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

PRESSED, LET_GO = 64, 32
"""Values of a controller."""

Switch = tuple[str, int]
"""Kind and number of a message."""

DEFAULTS: dict[Switch, str] = {("cc", 67): "next", ("cc", 66): "previous"}


def _pause(controls: Controls) -> None:
    if controls.paused:
        controls.resume()
    else:
        controls.pause()


WISHES: dict[str, Callable[[Controls], None]] = {
    "next": Controls.next_page,
    "previous": Controls.previous_page,
    "reset": Controls.reset,
    "pause": _pause,
}


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--midi-control`."""
    register(
        "midi-control",
        MidiControl,
        help="obey a pedal or pad: next, previous, reset and pause, such as "
        "pedal,next=cc:67,pause=note:36",
        metavar="PORT[,WISH=KIND:NUMBER]",
    )


class Switches:
    """Which messages are wishes; remembers the controllers that are pressed.

    Args:
        wishes: a name of `WISHES` by kind and number.
        channel: the only one that is heard, from 1; None for all.
    """

    def __init__(self, wishes: Mapping[Switch, str], channel: int | None = None) -> None:
        self.wishes = dict(wishes)
        self.channel = channel
        self._pressed: set[tuple[int, int]] = set()

    def hear(self, message: mido.Message) -> str | None:
        """The wish that a message is, if it is one."""
        if self.channel is not None and getattr(message, "channel", None) != self.channel - 1:
            return None
        match message.type:
            case "control_change" if self._press(message):
                return self.wishes.get(("cc", message.control))
            case "note_on" if message.velocity:
                return self.wishes.get(("note", message.note))
            case "program_change":
                return self.wishes.get(("program", message.program))
        return None

    def _press(self, message: mido.Message) -> bool:
        key = (message.channel, message.control)
        if message.value < LET_GO:
            self._pressed.discard(key)
        if message.value < PRESSED or key in self._pressed:
            return False
        self._pressed.add(key)
        return True


def parse_control(spec: str) -> tuple[str, Switches]:
    """Port and switches of `PORT[,WISH=KIND:NUMBER...][,channel=NUMBER]`.

    Raises:
        SinkError: it is written in another way.
    """
    port, *options = (part.strip() for part in spec.split(","))
    if not port:
        raise SinkError(f"MIDI control {spec!r}: name a MIDI port: PORT,next=cc:67")
    wishes: dict[Switch, str] = {}
    channel: int | None = None
    for option in options:
        name, _, said = option.partition("=")
        kind, _, number = said.rpartition(":")
        if name == "channel" and said.isdecimal() and 1 <= int(said) <= 16:
            channel = int(said)
            continue
        well = number.isdecimal() and int(number) <= 127 and kind in ("cc", "note", "program")
        if name not in WISHES or not well:
            raise SinkError(
                f"MIDI control {spec!r}: {option!r} is none of {', '.join(WISHES)} with cc:, "
                "note: or program: and a number from 0 to 127, nor channel=1 to 16"
            )
        if wishes.setdefault((kind, int(number)), name) != name:
            raise SinkError(f"MIDI control {spec!r}: {said} would be two wishes")
    return port, Switches(wishes or DEFAULTS, channel)


class MidiControl(Sink):
    """Obeys the messages of a MIDI input, in the thread that they come in.

    Another thread looks for the port while it is away.

    Args:
        target: `PORT[,WISH=KIND:NUMBER...][,channel=NUMBER]`.

    Raises:
        SinkError: the target is written in another way.
    """

    def __init__(self, target: str) -> None:
        wanted, self._switches = parse_control(target)
        self._port = MidiPort(wanted, self._hear)
        self._controls: Controls | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def attach(self, controls: Controls) -> None:
        self._controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        self._port.open()
        self._ending.clear()
        self._thread = threading.Thread(target=self._work, name="MIDI control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ending.set()
            thread.join()

    def _work(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            self._port.look()
        self._port.close()

    def _hear(self, message: mido.Message) -> None:
        wish = self._switches.hear(message)
        if wish is not None and self._controls is not None:
            WISHES[wish](self._controls)
