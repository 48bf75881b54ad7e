"""OSC through a network that loses half of it, and delays, reorders and doubles the rest."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from conftest import make_layout
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import build_msg
from rough_network import RoughNetwork

from sf_adapters.osc import OscSink
from sf_adapters.osc_control import OscControl
from sf_plugin.controls import Controls
from sf_plugin.positions import Control, Event, PageTurn, Position, StateChange
from sf_plugin.score.model import Score

SCORE, LAYOUT = Score("a piece", []), make_layout(pages=3)
FRAMES = 40
"""A second."""


@dataclass
class Receiver:
    """Keeps what OSC said last, as docs/osc-and-midi.md advises.

    Attributes:
        status: the latest, by its own time.
        missed: pages that the status was the first to tell of.
        turned: pages that `/sf/page` told of.
    """

    status: tuple[Any, ...] = ()
    page: int = 1
    missed: list[int] = field(default_factory=list)
    turned: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _work(self) -> None:
        while not self._ended.is_set():
            try:
                packet = self._socket.recv(65536)
            except TimeoutError:
                continue
            for message in OscBundle(packet):
                self._hear(message)

    def _hear(self, message: OscMessage) -> None:
        if message.address == "/sf/page":
            self.page = message.params[0]
            self.turned.append(self.page)
        if message.address == "/sf/status" and tuple(message.params) > self.status:
            self.status = tuple(message.params)
            if self.status[2] != self.page:
                self.page = self.status[2]
                self.missed.append(self.page)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def at(time: float, measure: int = 1, page: int = 1) -> Position:
    return Position(time, page, 0.5, 0.5, 1, measure, f"{measure}a", 1, None, 92.0, 0.9, "tracking")


def play(sink: OscSink, begin: float, seconds: float, *events: Event, measure: int = 1) -> None:
    """So many seconds of positions, ten times as fast as sound; then events."""
    for frame in range(round(seconds * FRAMES)):
        sink.emit(at(begin + frame / FRAMES, measure))
        time.sleep(0.1 / FRAMES)
    for event in events:
        sink.emit(event)


@pytest.mark.parametrize("loss", [0.2, 0.5])
def test_who_misses_what_is_told_once_knows_it_from_the_status(loss: float) -> None:
    with Receiver() as receiver, RoughNetwork(receiver.port, loss=loss) as network:
        controls = Controls(3)
        controls.shown = 3
        with OscSink(f"127.0.0.1:{network.port}") as sink:
            sink.attach(controls)
            sink.open(SCORE, LAYOUT)
            play(sink, 0.0, 8.0)
            until(lambda: receiver.page == 3)
            now, pages = 8.0, [1, 2, 3] * 4
            for page in pages:
                play(sink, now, 2.0, PageTurn(now + 2.0, page, 0.5))
                now += 2.0
            play(sink, now, 1.0, Control(now, "pause"), PageTurn(now, 2, 5.0, half=True))
            play(sink, now + 1.0, 1.0, StateChange(now, "tracking", "lost"))
            play(sink, now + 2.0, 12.0, measure=9)
        last = (2, 1, 9, "9a", 1, 92.0, 1)
        until(lambda: receiver.status[2:] == last)
    assert receiver.status[1] == "tracking"
    assert network.lost > 0.7 * loss * 34 * FRAMES
    assert len(set(receiver.turned)) == 3
    assert receiver.missed[0] == 3 and len(receiver.missed) > 1


def test_without_loss_the_status_brings_no_news() -> None:
    with Receiver() as receiver:
        with OscSink(f"127.0.0.1:{receiver.port}") as sink:
            sink.attach(Controls(3))
            sink.open(SCORE, LAYOUT)
            for now, page in enumerate((2, 3, 1)):
                play(sink, float(now), 1.0, PageTurn(now + 1.0, page, 0.5))
            play(sink, 3.0, 1.0)
        until(lambda: receiver.status[2:3] == (1,))
    assert receiver.turned == [2, 3, 1] and not receiver.missed


def ask(sender: socket.socket, port: int, address: str, *arguments: int | str) -> list[Any]:
    """Repeat a wish until it is answered; the answer."""
    for _ in range(200):
        sender.sendto(build_msg(address, list(arguments)).dgram, ("127.0.0.1", port))
        try:
            answer = OscMessage(sender.recv(4096))
        except TimeoutError:
            continue
        if answer.address == "/sf/error" or answer.params == [address, *arguments]:
            return [answer.address, *answer.params]
    raise AssertionError("nobody answers")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0.2)
        yield sender


def test_a_wish_is_repeated_until_it_is_answered(sender: socket.socket) -> None:
    port, controls = free_port(), Controls(3)
    controls.layout = LAYOUT
    with OscControl(str(port)) as sink, RoughNetwork(port, loss=0.5) as network:
        sink.attach(controls)
        sink.open(SCORE, LAYOUT)
        for page in (3, 2, 1, 2):
            told = ask(sender, network.port, "/sf/page", page)
            assert told == ["/sf/ok", "/sf/page", page]
        error = ["/sf/error", "there is no page 4 to show: the score has 3 pages"]
        while ask(sender, network.port, "/sf/page", 4) != error:
            pass
    wished = [wish.page for wish in controls.taken()]
    assert set(wished) == {1, 2, 3} and network.lost


def test_an_answer_does_not_tell_the_token(sender: socket.socket) -> None:
    port = free_port()
    with OscControl(f"{port},token=tacet") as sink:
        sink.attach(Controls(3))
        sink.open(SCORE, LAYOUT)
        sender.sendto(build_msg("/sf/page", ["tacet", 2]).dgram, ("127.0.0.1", port))
        sender.settimeout(20)
        answer = OscMessage(sender.recv(4096))
    assert [answer.address, *answer.params] == ["/sf/ok", "/sf/page", 2]


def test_a_session_is_steered_and_seen_through_a_rough_network(
    example_plugin: Path,
    tmp_path: Path,
    pdf: Path,
    layout_file: Path,
    wav: Path,
    sender: socket.socket,
) -> None:
    port = free_port()
    with (
        Receiver() as receiver,
        RoughNetwork(receiver.port, loss=0.5) as there,
        RoughNetwork(port, loss=0.5, seed=1) as back,
    ):
        words = ["--layout", str(layout_file), "--follower", "constant-tempo"]
        words += ["--audio", str(wav), "--realtime"]
        words += ["--osc", f"127.0.0.1:{there.port}", "--osc-in", str(port)]
        program = str(Path(sys.executable).parent / "scorefollow")
        session = subprocess.Popen(
            [program, "follow", str(pdf), *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(example_plugin)},
            stderr=subprocess.PIPE,
            text=True,
        )
        stop = build_msg("/sf/stop").dgram
        try:
            until(lambda: bool(receiver.status))
            assert ask(sender, back.port, "/sf/pause") == ["/sf/ok", "/sf/pause"]
            assert ask(sender, back.port, "/sf/page", 2) == ["/sf/ok", "/sf/page", 2]
            until(lambda: receiver.page == 2 and receiver.status[-1] == 1)
            while session.poll() is None:
                sender.sendto(stop, ("127.0.0.1", back.port))
                time.sleep(0.1)
        finally:
            session.kill()
            _, err = session.communicate(timeout=100)
    assert session.returncode == 0, err
