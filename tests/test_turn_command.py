"""`scorefollow turn` as a user runs it, with another program at the other end of the port."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run
from jackd import needs_jackd, start_ready, stop
from midi_peers import PEDAL, READER, lines, midi_server, press
from mido import Message

from sf_adapters.midi import PROFILES, parse_turn
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.turn_command import profile_of

pytest.importorskip("rtmidi", reason="python-rtmidi is not installed")

PROGRAM = str(Path(sys.executable).parent / "scorefollow")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with midi_server(monkeypatch):
        yield


@pytest.fixture
def reader(server: None) -> Iterator[subprocess.Popen[str]]:
    process = start_ready(READER)
    yield process
    stop(process)


@pytest.fixture
def pedal(server: None) -> Iterator[subprocess.Popen[str]]:
    process = start_ready(PEDAL)
    yield process
    stop(process)


@needs_jackd
def test_a_test_turns_a_page_and_turns_back(
    reader: subprocess.Popen[str], scorefollow: Run
) -> None:
    done = scorefollow("turn", "sheet,mobilesheets", "--test")
    assert done.returncode == 0 and done.stdout == ""
    assert lines(reader, 4) == [
        "note_on channel=14 note=16 velocity=127",
        "note_off channel=14 note=16 velocity=0",
        "note_on channel=14 note=15 velocity=127",
        "note_off channel=14 note=15 velocity=0",
    ]
    assert done.stderr.splitlines() == [
        "next page: note 16 on with velocity 127, channel 15, note 16 off, channel 15",
        "previous page: note 15 on with velocity 127, channel 15, note 15 off, channel 15",
    ]


@needs_jackd
def test_keys_of_a_terminal_turn_pages(reader: subprocess.Popen[str]) -> None:
    mine, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    words = [PROGRAM, "turn", "sheet,cc-page=20"]
    command = subprocess.Popen(words, stdin=theirs, stderr=subprocess.PIPE, text=True)
    assert command.stderr is not None
    assert command.stderr.readline() == "n: next page   p: previous page   q: quit\n"
    os.write(mine, b"n")
    assert lines(reader, 1) == ["control_change channel=0 control=20 value=2"]
    os.write(mine, b"xNpppq")
    _, said = command.communicate(timeout=60)
    assert command.returncode == 0 and said.count("next page") == 2
    assert lines(reader, 3) == [
        f"control_change channel=0 control=20 value={page}" for page in (3, 2, 1)
    ]
    assert termios.tcgetattr(theirs) == before
    os.close(mine)
    os.close(theirs)


@needs_jackd
def test_without_a_terminal_there_are_no_keys(
    reader: subprocess.Popen[str], scorefollow: Run
) -> None:
    done = scorefollow("turn", "sheet", stdin=b"n")
    assert done.returncode == 2 and "add --test" in done.stderr


def learn(pedal: subprocess.Popen[str], *presses: tuple[str, ...]) -> tuple[int, str, str]:
    """What `--learn` says after these presses, each once it was asked for."""
    command = subprocess.Popen(
        [PROGRAM, "turn", "foot", "--learn"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stderr is not None
    said = ""
    for messages in presses:
        line = ""
        while not line.startswith("press '"):
            line = command.stderr.readline()
            assert line, said
            said += line
        press(pedal, *messages)
    out, rest = command.communicate(timeout=90)
    return command.returncode, out, said + rest


@needs_jackd
def test_the_messages_of_a_pedal_are_learned(pedal: subprocess.Popen[str]) -> None:
    code, out, said = learn(
        pedal,
        (
            "clock",
            "note_on channel=1 note=64 velocity=0",
            "note_on channel=1 note=64 velocity=127",
            "note_off channel=1 note=64",
        ),
        ("note_on channel=1 note=64 velocity=127", "note_on channel=1 note=63 velocity=127"),
    )
    assert (code, out) == (0, "note=64,prev=63,channel=2\n")
    assert "next page: note 64 on with velocity 127, channel 2" in said


@needs_jackd
def test_a_pedal_that_goes_down_slowly(pedal: subprocess.Popen[str]) -> None:
    down = [f"control_change control=64 value={value}" for value in (3, 50, 100, 40, 0)]
    code, out, _ = learn(pedal, tuple(down), ("control_change control=65 value=100", *down[-1:]))
    assert (code, out) == (0, "cc=64,prev=65,value=100\n")


@needs_jackd
def test_a_pedal_of_two_minds(pedal: subprocess.Popen[str]) -> None:
    code, out, said = learn(pedal, ("note_on note=64 velocity=127",), ("program_change program=3",))
    assert (code, out) == (2, "")
    assert "differ in more than their number" in said


@pytest.mark.parametrize("name", sorted(set(PROFILES) - {"cc-page", "songbook"}))
def test_what_is_sent_is_learned_as_itself(name: str) -> None:
    profile = PROFILES[name]
    forward, back = profile.messages(1, 2)[0], profile.messages(2, 1)[0]
    assert parse_turn(f"P,{profile_of(forward, back)}") == ("P", profile)


def test_one_message_alone() -> None:
    assert profile_of(Message("program_change", program=5), None) == "program=5"
    with pytest.raises(ScoreFollowerError, match="set the pedal to alike messages"):
        profile_of(Message("note_on", note=1), Message("note_on", note=2, channel=1))


def test_profiles_are_listed(scorefollow: Run) -> None:
    done = scorefollow("turn", "--list-profiles")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["profile", *PROFILES]
    assert "note 16 on with velocity 127, channel 15" in done.stdout


def test_a_port_must_be_named(scorefollow: Run) -> None:
    done = scorefollow("turn", "--test")
    assert done.returncode == 2 and "Name a MIDI port" in done.stderr
