"""Ports in processes of their own, which hang and die, on a JACK server."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mido
import pytest
from conftest import until
from jackd import needs_jackd, start, start_ready, stop
from midi_peers import READER, lines, midi_server

from sf_plugin import midi_process
from sf_plugin.midi_ports import MOST_UNANSWERED, MidiPort

pytestmark = needs_jackd

TURN = mido.Message("control_change", control=67, value=127)
TURNED = "control_change channel=0 control=67 value=127"

PLAYER = """
import sys, mido
from sf_plugin.midi_ports import MidiPort
port = MidiPort("reader")
port.open()
port.send([mido.Message("note_on", note=60), mido.Message("note_on", note=64)])
port.send([mido.Message("note_off", note=60)])
print("ready")
sys.stdin.read()
"""

OTHER = """
import mido, sys
ports = [mido.open_input("in", virtual=True, client_name="Standing"),
         mido.open_output("out", virtual=True, client_name="Standing Keys")]
print("ready")
sys.stdin.read()
"""


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    with midi_server(monkeypatch):
        process = start_ready(READER)
        yield process
        stop(process)


def process_of_port() -> int:
    """The youngest child that has a port."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = sorted(int(pid) for file in listed for pid in file.read_text().split())
    name = os.fsencode(midi_process.__file__)
    return next(p for p in reversed(pids) if name in Path(f"/proc/{p}/cmdline").read_bytes())


def is_here(port: MidiPort) -> bool:
    port.look()
    return port.here


def test_a_port_whose_process_is_killed_is_opened_by_another(
    reader: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(MidiPort("READER")) as port:
        port.open()
        assert port.send([TURN])
        assert lines(reader, 1) == [TURNED]
        os.kill(process_of_port(), signal.SIGKILL)
        until(lambda: not is_here(port))
        assert not port.send([TURN])
        until(lambda: is_here(port))
        assert port.send([TURN])
        assert lines(reader, 1) == [TURNED]
    assert [message.split("' is ")[1] for message in caplog.messages] == [
        "gone: looking for it",
        "back",
    ]


def test_a_port_whose_process_hangs_is_opened_by_another(
    reader: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with closing(MidiPort("reader")) as port:
        port.open()
        os.kill(hung := process_of_port(), signal.SIGSTOP)
        looks = 0
        while is_here(port):
            looks += 1
            assert looks <= MOST_UNANSWERED
        assert not Path(f"/proc/{hung}").exists()
        until(lambda: is_here(port))
        assert port.send([TURN])
        assert lines(reader, 1) == [TURNED]


def test_a_port_whose_process_was_held_is_there(reader: subprocess.Popen[str]) -> None:
    with closing(MidiPort("reader")) as port:
        port.open()
        os.kill(held := process_of_port(), signal.SIGSTOP)
        for _ in range(3):
            assert is_here(port)
        os.kill(held, signal.SIGCONT)
        assert is_here(port) and process_of_port() == held
        assert port.send([TURN])
        assert lines(reader, 1) == [TURNED]


def test_notes_end_when_the_program_is_killed(reader: subprocess.Popen[str]) -> None:
    player = start_ready(PLAYER)
    assert len(lines(reader, 3)) == 3
    player.kill()
    player.wait()
    assert lines(reader, 1)[0].startswith("note_off channel=0 note=64")


def test_a_client_that_stands_still_holds_nobody(reader: subprocess.Popen[str]) -> None:
    """JACK waits for it when a port is closed."""
    stood: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not ended.wait(0.01):
            now = time.monotonic()
            stood.append(now - last)
            last = now

    heard: list[mido.Message] = []
    with closing(MidiPort("reader")) as port, closing(MidiPort("keys", heard.append)) as keys:
        other = start_ready(OTHER)
        try:
            port.open()
            keys.open()
            os.kill(other.pid, signal.SIGSTOP)
            thread = threading.Thread(target=tick)
            thread.start()
            port.close()
            keys.close()
            ended.set()
            thread.join()
        finally:
            other.kill()
            other.communicate()
    assert max(stood) < 3


def test_ctrl_c_leaves_the_port_to_its_owner(reader: subprocess.Popen[str]) -> None:
    player = start(PLAYER, start_new_session=True)
    assert player.stdout is not None and player.stdout.readline() == "ready\n"
    assert len(lines(reader, 3)) == 3
    os.killpg(player.pid, signal.SIGINT)
    player.wait(60)
    assert lines(reader, 1)[0].startswith("note_off channel=0 note=64")


def test_its_process_needs_nothing_but_mido() -> None:
    words = [sys.executable, "-P", midi_process.__file__, "out", "nothing"]
    code = subprocess.run(words, stdin=subprocess.DEVNULL, timeout=60).returncode
    assert code == 0
