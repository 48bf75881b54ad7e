"""MIDI ports by part of a name, which may go away and come back.

The ports are those of mido's back end, chosen by the environment variable MIDO_BACKEND.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import mido

from sf_plugin.audio.quiet import quiet_stderr
from sf_plugin.errors import SinkError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""A good time between two looks at whether a port is there."""


def find_port(names: Sequence[str], wanted: str) -> str | None:
    """The port of this name, or the first with this part of a name, upper or lower case."""
    name = wanted.casefold()
    exact = [port for port in names if port.casefold() == name]
    return next(iter(exact or [port for port in names if name in port.casefold()]), None)


JACK_API = 3
"""RtMidi's number."""


def jack_server() -> tuple[int, int] | None:
    """Another one after the JACK server was started anew; None where there is none."""
    name = os.environ.get("JACK_DEFAULT_SERVER", "default")
    with suppress(OSError, AttributeError):
        door = os.stat(f"/dev/shm/jack_{name}_{os.getuid()}_0")
        return door.st_ino, door.st_ctime_ns
    return None


SETTLE_SECONDS = 0.1
"""An output needs this time before its first message and after its last: JACK connects and
passes on with its next periods."""


class MidiPort:
    """An output, or an input where there is somebody to hear it.

    While it is away, `look` looks for it; all but `heard` belongs to one thread.

    Args:
        wanted: a part of the port's name, upper or lower case.
        heard: of an input, gets its messages, in a thread of the back end.

    Attributes:
        here: whether the port was there at the last look.
    """

    def __init__(self, wanted: str, heard: Callable[[mido.Message], None] | None = None) -> None:
        self.wanted = wanted
        self.heard = heard
        self.here = False
        self._port: Any = None
        self._name = ""
        self._server: tuple[int, int] | None = None

    def open(self) -> None:
        """Find the port and open it.

        Raises:
            SinkError: there is none, or it cannot be opened.
        """
        names = self._all_names()
        name = find_port(names, self.wanted)
        if name is None:
            kind = "output" if self.heard is None else "input"
            there = ", ".join(repr(port) for port in names) or f"no MIDI {kind} at all"
            raise SinkError(f"no MIDI port called {self.wanted!r}: there is {there}")
        try:
            self._port = self._opened(name)
        except Exception as error:
            raise SinkError(
                f"MIDI port {name!r} cannot be opened ({error}): is another program using it?"
            ) from None
        self.here = True

    def send(self, messages: Sequence[mido.Message]) -> bool:
        """Send all of them; False where the port is away."""
        if not self.here:
            return False
        try:
            for message in messages:
                self._port.send(message)
        except Exception as error:
            logger.warning("MIDI port %r does not take messages: %s", self._port.name, error)
            self.here = False
        return self.here

    def look(self) -> None:
        """Notice that the port went away; open it anew where it came back."""
        if self._port is not None and self._is_orphan():
            # Its client still lists the ports of the server that ended.
            self._let_go()
        names = self._names()
        if self.here:
            if self._port is not None and self._port.name in names:
                return
            logger.warning("MIDI port %r is gone: looking for it", self._name)
            self.here = False
        name = find_port(names, self.wanted)
        if name is None:
            return
        try:
            port = self._opened(name)
        except Exception:
            return
        self._let_go()
        self._port, self.here = port, True
        logger.warning("MIDI port %r is back", name)

    def close(self) -> None:
        """Let go of the port; twice is harmless."""
        port, self._port, self.here = self._port, None, False
        if port is None:
            return
        if self.heard is None:
            time.sleep(SETTLE_SECONDS)
        with suppress(Exception):
            port.close()

    def _let_go(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with suppress(Exception):
                port.close()

    def _is_orphan(self) -> bool:
        """Whether the JACK server that it was opened on is another or gone."""
        api = getattr(getattr(self._port, "_rt", None), "get_current_api", int)()
        return api == JACK_API and jack_server() != self._server

    def _opened(self, name: str) -> Any:
        self._name, self._server = name, jack_server()
        if self.heard is not None:
            return mido.open_input(name, callback=self.heard)
        port = mido.open_output(name)
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
        try:
            with quiet_stderr():
                names = mido.get_output_names if self.heard is None else mido.get_input_names
                return list(names())
        except ImportError as error:
            raise SinkError(
                f"MIDI back end is missing ({error}): 'scorefollow doctor' says how to get it"
            ) from None
        except Exception as error:
            raise SinkError(
                f"MIDI does not start ({error}): start the MIDI or JACK server, or choose an API "
                "with MIDO_BACKEND, such as mido.backends.rtmidi/UNIX_JACK"
            ) from None
