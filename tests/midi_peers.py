"""Other programs at the other end of MIDI ports, on a JACK server without a sound card."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import mido
import numpy as np
import pytest
from jackd import jack_server, start_ready, stop

from sf_plugin.positions import Event
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

JACK = "mido.backends.rtmidi/UNIX_JACK"
SCORE = Score("a piece", [np.zeros((4, 4), np.uint8)])

READER = """
import sys, mido
port = mido.open_input("pages", virtual=True, client_name="Sheet Reader", callback=print)
print("ready")
sys.stdin.read()
port.close()
"""
"""Prints what it is sent."""

PEDAL = """
import sys, mido
port = mido.open_output("pedal", virtual=True, client_name="Foot Switch")
print("ready")
for line in sys.stdin:
    port.send(mido.Message.from_str(line))
"""
"""Sends what it reads."""

RECEIVER = """
import json, sys, time, mido
def show(message):
    print(json.dumps([time.monotonic(), message.bytes()]))
port = mido.open_input(sys.argv[1], virtual=True, client_name=sys.argv[2], callback=show)
port._rt.ignore_types(False, False, False)
print("ready")
sys.stdin.read()
port.close()
"""


@contextmanager
def jack_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What MIDO_BACKEND does for a new process, here and in those started from here."""
    before = mido.backend
    monkeypatch.setenv("MIDO_BACKEND", JACK)
    mido.set_backend(JACK)
    yield
    mido.set_backend(before)


@contextmanager
def midi_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MIDI ports of this and other programs on a server of their own."""
    pytest.importorskip("rtmidi", reason="python-rtmidi is not installed")
    with jack_backend(monkeypatch), jack_server(monkeypatch):
        yield


def press(pedal: subprocess.Popen[str], *messages: str) -> None:
    """Have PEDAL send these."""
    assert pedal.stdin is not None
    for message in messages:
        pedal.stdin.write(message + "\n")
    pedal.stdin.flush()


def lines(reader: subprocess.Popen[str], count: int) -> list[str]:
    """The next messages that READER was sent."""
    assert reader.stdout is not None
    return [reader.stdout.readline().removesuffix(" time=0\n") for _ in range(count)]


class Receiver:
    """A program of its own with a MIDI input, which notes what comes and when."""

    def __init__(self, port: str, client: str) -> None:
        self.process = start_ready(RECEIVER, port, client)
        self.rows: list[tuple[float, mido.Message]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            when, data = json.loads(line)
            self.rows.append((when, mido.Message.from_bytes(data)))

    def close(self) -> None:
        stop(self.process)


def live(
    sink: Sink,
    events: Iterable[Event],
    layout: Layout,
    meanwhile: Callable[[float], None] = lambda seconds: None,
) -> float:
    """Tell events when they are due; gives when the sound began."""
    due = list(events)
    sink.open(SCORE, layout)
    began = time.monotonic()
    for event in due:
        time.sleep(max(began + event.time - time.monotonic(), 0.0))
        sink.emit(event)
        meanwhile(event.time)
    return began
