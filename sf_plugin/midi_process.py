"""Has a MIDI port in a process of its own: a MIDI system that hangs or dies harms nobody else.

Run as a program with "in" or "out" and a part of the port's name.  Each line of its standard
input is a task, and is answered by a line of JSON with its number:

    open            find the port and open it
    look            notice that it went away, open it where it came back
    send 90 3C 7F   messages as bytes; not answered

What an input hears comes as lines of bytes.  When the input ends, all notes that were sent
end, and so does it.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

JACK_API = 3
"""RtMidi's number."""

SETTLE_SECONDS = 0.1
"""An output needs this time before its first message and after its last: JACK connects and
passes on with its next periods."""

CLOSE_SECONDS = 2.0
"""RtMidi may wait for ever to close a port, and lets nobody else run meanwhile."""

MOST_WAITING = 10_000
"""Messages of an input that may wait to be read; later ones are lost."""


def find_port(names: Sequence[str], wanted: str) -> str | None:
    """The port of this name, or the first with this part of a name, upper or lower case."""
    name = wanted.casefold()
    exact = [port for port in names if port.casefold() == name]
    return next(iter(exact or [port for port in names if name in port.casefold()]), None)


def jack_server() -> tuple[int, int] | None:
    """Another one after the JACK server was started anew; None where there is none."""
    name = os.environ.get("JACK_DEFAULT_SERVER", "default")
    with suppress(OSError, AttributeError):
        door = os.stat(f"/dev/shm/jack_{name}_{os.getuid()}_0")
        return door.st_ino, door.st_ctime_ns
    return None


class State(NamedTuple):
    """Of a port.

    Attributes:
        here: whether it can be used.
        name: of the port that is or was opened.
        names: all there are, where none was found.
        problem: why it cannot be used; `kind` is "back end", "system" or "port".
    """

    here: bool = False
    name: str = ""
    names: Sequence[str] = ()
    problem: str = ""
    kind: str = ""


class _Port:
    def __init__(self, wanted: str, heard: Callable[[Any], None] | None) -> None:
        self._wanted = wanted
        self._heard = heard
        self._mido: Any = None
        self._port: Any = None
        self._name = ""
        self._here = False
        self._server: tuple[int, int] | None = None
        self._down: set[tuple[int, int]] = set()

    def open(self) -> State:
        try:
            names = self._all_names()
        except ImportError as error:
            return State(problem=str(error), kind="back end")
        except Exception as error:
            return State(problem=str(error), kind="system")
        name = find_port(names, self._wanted)
        if name is None:
            return State(names=names)
        try:
            self._port = self._opened(name)
        except Exception as error:
            return State(name=name, problem=str(error), kind="port")
        self._here = True
        return State(True, name)

    def send(self, data: bytes) -> None:
        if not self._here:
            return
        try:
            for message in self._mido.parse_all(data):
                self._port.send(message)
                self._note(message)
        except Exception:
            self._here = False

    def _note(self, message: Any) -> None:
        if message.type in ("note_on", "note_off"):
            key = message.channel, message.note
            if message.type == "note_on" and message.velocity:
                self._down.add(key)
            else:
                self._down.discard(key)

    def look(self) -> State:
        if self._port is not None and self._is_orphan():
            # Its client still lists the ports of the server that ended.
            self._let_go()
        names = self._names()
        if self._here:
            self._here = self._port is not None and self._port.name in names
        if not self._here:
            name = find_port(names, self._wanted)
            if name is not None:
                with suppress(Exception):
                    port = self._opened(name)
                    self._let_go()
                    self._port, self._here = port, True
        return State(self._here, self._name)

    def close(self) -> None:
        if self._here:
            for channel, note in self._down:
                with suppress(Exception):
                    self._port.send(self._mido.Message("note_off", channel=channel, note=note))
            if self._heard is None:
                time.sleep(SETTLE_SECONDS)
        self._let_go()

    def _let_go(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with suppress(Exception):
                port.close()

    def _is_orphan(self) -> bool:
        """Whether the JACK server that it was opened on is another or gone."""
        api = getattr(getattr(self._port, "_rt", None), "get_current_api", int)()
        return bool(api == JACK_API and jack_server() != self._server)

    def _opened(self, name: str) -> Any:
        self._name, self._server = name, jack_server()
        if self._heard is not None:
            return self._mido.open_input(name, callback=self._heard)
        port = self._mido.open_output(name)
        time.sleep(SETTLE_SECONDS)
        return port

    def _names(self) -> list[str]:
        rtmidi_port = getattr(self._port, "_rt", None)
        try:
            # A second client for each look would disturb JACK's audio.
            return self._all_names() if rtmidi_port is None else list(rtmidi_port.get_ports())
        except Exception:
            return []

    def _all_names(self) -> list[str]:
        if self._mido is None:
            self._mido = importlib.import_module("mido")
        names = self._mido.get_output_names if self._heard is None else self._mido.get_input_names
        return list(names())


def main(kind: str, wanted: str) -> None:
    """Do what standard input says, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    said: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_say, args=(said,), daemon=True).start()

    def heard(message: Any) -> None:
        if said.qsize() < MOST_WAITING:
            said.put(message.hex())

    port = _Port(wanted, heard if kind == "in" else None)
    answered = 0
    for line in sys.stdin:
        task, _, rest = line.strip().partition(" ")
        if task == "send":
            port.send(bytes.fromhex(rest))
            continue
        answered += 1
        state = port.open() if task == "open" else port.look()
        said.put(json.dumps({"answer": answered, **state._asdict()}))
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(CLOSE_SECONDS, exit=True, file=nowhere)
        port.close()


def _say(said: SimpleQueue[str]) -> None:
    """A thread of its own: who waits in a callback of JACK holds all of JACK."""
    with suppress(OSError):
        while True:
            view = memoryview(said.get().encode() + b"\n")
            while view:
                view = view[os.write(1, view) :]
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)
