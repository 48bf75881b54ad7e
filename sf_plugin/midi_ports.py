"""MIDI ports by part of a name, which may go away and come back.

The ports are those of mido's back end, chosen by the environment variable MIDO_BACKEND.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import mido

from sf_plugin import midi_process
from sf_plugin.errors import SinkError
from sf_plugin.midi_process import State, find_port, jack_server

__all__ = ["LOOK_SECONDS", "MidiPort", "find_port", "jack_server"]

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""A good time between two looks at whether a port is there."""

OPEN_SECONDS = 20.0
END_SECONDS = 4.0

ANSWER_SECONDS = 0.25
"""A look waits so long for its answer."""

MOST_UNANSWERED = 10
"""Looks; then the process that has the port is ended, and another looks for it."""


class MidiPort:
    """An output, or an input where there is somebody to hear it, in a process of its own.

    While it is away, `look` looks for it; all but `heard` belongs to one thread.

    Args:
        wanted: a part of the port's name, upper or lower case.
        heard: of an input, gets its messages, in another thread.

    Attributes:
        here: whether the port was there at the last look.
    """

    def __init__(self, wanted: str, heard: Callable[[mido.Message], None] | None = None) -> None:
        self.wanted = wanted
        self.heard = heard
        self.here = False
        self._name = ""
        self._process: _Process | None = None

    def open(self) -> None:
        """Find the port and open it.

        Raises:
            SinkError: there is none, or it cannot be opened.
        """
        process = _Process(self.wanted, self.heard)
        state = process.ask("open", OPEN_SECONDS)
        if state is None:
            state = State(kind="system", problem="it does not answer")
        if not state.here:
            process.end()
            raise SinkError(self._reason(state))
        self._process, self._name, self.here = process, state.name, True

    def _reason(self, state: State) -> str:
        match state.kind:
            case "back end":
                return (
                    f"MIDI back end is missing ({state.problem}): 'scorefollow doctor' says how to "
                    "get it"
                )
            case "system":
                return (
                    f"MIDI does not start ({state.problem}): start the MIDI or JACK server, or "
                    "choose an API with MIDO_BACKEND, such as mido.backends.rtmidi/UNIX_JACK"
                )
            case "port":
                return (
                    f"MIDI port {state.name!r} cannot be opened ({state.problem}): is another "
                    "program using it?"
                )
        kind = "output" if self.heard is None else "input"
        there = ", ".join(repr(port) for port in state.names) or f"no MIDI {kind} at all"
        return f"no MIDI port called {self.wanted!r}: there is {there}"

    def send(self, messages: Sequence[mido.Message]) -> bool:
        """Send all of them; False where the port is away."""
        if not self.here or self._process is None:
            return False
        if messages and not self._process.tell("send " + " ".join(m.hex() for m in messages)):
            self._away()
        return self.here

    def look(self) -> None:
        """Notice that the port went away; open it anew where it came back."""
        if self._process is None:
            return
        state = self._process.ask("look", ANSWER_SECONDS)
        if state is None:
            if self._process.unanswered >= MOST_UNANSWERED:
                self._away()
                self._process.end(0.0)
                self._process = _Process(self.wanted, self.heard)
            return
        if state.here and not self.here:
            logger.warning("MIDI port %r is back", state.name)
        if self.here and not state.here:
            self._away()
        self.here, self._name = state.here, state.name or self._name

    def _away(self) -> None:
        if self.here:
            logger.warning("MIDI port %r is gone: looking for it", self._name)
            self.here = False

    def close(self) -> None:
        """Let go of the port; twice is harmless."""
        process, self._process, self.here = self._process, None, False
        if process is not None:
            process.end()


class _Process:
    """`midi_process` at work.

    Attributes:
        unanswered: how often in a row an answer did not come in time.
    """

    def __init__(self, wanted: str, heard: Callable[[mido.Message], None] | None) -> None:
        self.unanswered = 0
        self._heard = heard
        self._asked = self._answered = 0
        self._state: State | None = None
        self._ended = False
        self._changed = threading.Condition()
        kind = "out" if heard is None else "in"
        self._process = subprocess.Popen(
            [sys.executable, "-P", midi_process.__file__, kind, wanted],
            env={**os.environ, "MIDO_BACKEND": _back_end()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="MIDI port", daemon=True)
        self._reader.start()

    def tell(self, task: str) -> bool:
        """Give it a task; False where it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(task + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def ask(self, task: str, seconds: float) -> State | None:
        """Its answer, where one comes in time; a task is given when the last is answered."""
        if self._answered == self._asked:
            self._asked += 1
            if not self.tell(task):
                self.unanswered = MOST_UNANSWERED
                return None
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._answered < self._asked and not self._ended:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    self.unanswered += 1
                    return None
        if self._answered < self._asked:
            self.unanswered = MOST_UNANSWERED
            return None
        self.unanswered = 0
        return self._state

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith("{"):
                    said = json.loads(line)
                    with self._changed:
                        self._answered = said.pop("answer")
                        self._state = State(**said)
                        self._changed.notify()
                elif self._heard is not None:
                    self._heard(mido.Message.from_hex(line.strip()))
        with self._changed:
            self._ended = True
            self._changed.notify()

    def end(self, seconds: float = END_SECONDS) -> None:
        """Let it end its notes and the port; by force where it does not in time."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_SECONDS)


def _back_end() -> str:
    """What mido uses here, for another process."""
    name: Any = mido.backend.name
    api: Any = mido.backend.api
    return f"{name}/{api}" if api else str(name)
