"""MIDI as a performance: files, and a keyboard that another program plays over JACK."""

from __future__ import annotations

import logging
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import pytest
from conftest import ROOT
from jackd import needs_jackd, start_ready, stop
from midi_peers import jack_backend, midi_server
from numpy.typing import NDArray

from sf_plugin.api import make_follower, make_mapper, open_audio
from sf_plugin.audio.keyboard import MOST_WAITING, TAIL_SECONDS, Keyboard, MidiFile
from sf_plugin.demo import ASSETS, load_truth
from sf_plugin.errors import AudioError
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.positions import Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.load import load_score
from sf_plugin.session import Session

RATE = 22050
TAKE = ROOT / "tests" / "data" / "sonatina-1.mid"
"""The first sixteen seconds of the demo's performance."""

Floats = NDArray[np.float32]

PLAYER = """
import sys, time, mido
port = mido.open_output("keys", virtual=True, client_name="Stage Piano")
print("ready")
for line in sys.stdin:
    word, *arguments = line.split()
    if word == "file":
        due = time.perf_counter()
        for message in mido.MidiFile(arguments[0]):
            due += message.time
            time.sleep(max(0, due - time.perf_counter()))
            if not message.is_meta:
                port.send(message)
        print("played")
    elif word == "hex":
        port.send(mido.Message.from_hex(" ".join(arguments)))
    elif word == "many":
        for n in range(int(arguments[0])):
            port.send(mido.Message("note_on", note=40 + n % 40, velocity=n % 128))
            time.sleep(0.0005)
        print("played")
port.close()
"""

# files


def write(path: Path, *tracks: list[mido.Message | mido.MetaMessage], kind: int = 1) -> Path:
    """A file of 100 ticks a quarter note, at first 120 quarter notes a minute."""
    file = mido.MidiFile(type=kind, ticks_per_beat=100)
    file.tracks += [mido.MidiTrack(track) for track in tracks]
    file.save(path)
    return path


def note(time: int, key: int = 60, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=key, velocity=80, channel=channel, time=time)


def hear(path: Path) -> Floats:
    with open_audio(str(path)) as source:
        return np.concatenate(list(source.blocks(RATE)))


def first_sound(sound: Floats) -> float:
    return float(np.flatnonzero(sound)[0] / RATE)


def test_a_file_is_played_in_its_own_time(tmp_path: Path) -> None:
    slower = [mido.MetaMessage("set_tempo", tempo=1_000_000, time=100)]
    path = write(tmp_path / "take.MID", slower, [note(200), note(100, 64)])
    sound = hear(path)
    assert first_sound(sound) == pytest.approx(1.5, abs=1e-3)
    assert len(sound) == round((2.5 + TAIL_SECONDS) * RATE)
    assert MidiFile(path).seconds == 2.5 + TAIL_SECONDS
    with MidiFile(path) as source:
        blocks = source.blocks(RATE)
        next(blocks)
        source.close()
        assert not list(blocks)


def test_drums_and_texts_are_left_out(tmp_path: Path) -> None:
    words = mido.MetaMessage("text", text="Allegro", time=0)
    path = write(tmp_path / "a.mid", [words, note(0, channel=9), note(200)])
    assert first_sound(hear(path)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged"),
        (b"RIFF0000WAVE", "is no MIDI file"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\1\0\0\x90", "is damaged"),
    ],
)
def test_files_that_cannot_be_played(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.mid"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"bad\.mid: .*{reason}"):
        open_audio(path)


def test_files_with_nothing_to_hear(tmp_path: Path) -> None:
    drums = write(tmp_path / "drums.mid", [note(0, channel=9)])
    with pytest.raises(AudioError, match=r"drums\.mid: holds no notes"):
        MidiFile(drums)
    songs = write(tmp_path / "songs.mid", [note(0)], [note(0)], kind=2)
    with pytest.raises(AudioError, match="of type 0 or 1"):
        MidiFile(songs)
    with pytest.raises(AudioError, match="no such file"):
        MidiFile(tmp_path / "none.mid")
    (tmp_path / "folder.mid").mkdir()
    with pytest.raises(AudioError, match="is a folder"):
        MidiFile(tmp_path / "folder.mid")
    days = write(tmp_path / "days.mid", [note(0), *(note(2**27) for _ in range(2))])
    with pytest.raises(AudioError, match="hours"):
        MidiFile(days)


def test_a_damaged_file_is_an_error_or_is_played(tmp_path: Path) -> None:
    chance = random.Random(5)
    played = 0
    for attempt in range(300):
        data = bytearray(TAKE.read_bytes())
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path = tmp_path / f"damaged-{attempt}.mid"
        path.write_bytes(data[: chance.randrange(len(data))] if attempt % 2 else data)
        try:
            source = MidiFile(path)
        except AudioError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            continue
        played += 1
        for sound in source.blocks(2000):
            assert np.isfinite(sound).all()
            if chance.random() < 0.1:
                source.close()
    assert 0 < played < 300


# a keyboard


@pytest.fixture
def jack_midi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with jack_backend(monkeypatch):
        yield


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with midi_server(monkeypatch):
        yield


@pytest.fixture
def player(server: None) -> Iterator[subprocess.Popen[str]]:
    process = start_ready(PLAYER)
    yield process
    stop(process)


def say(player: subprocess.Popen[str], words: str) -> None:
    assert player.stdin is not None
    player.stdin.write(words + "\n")
    player.stdin.flush()


def until(blocks: Iterator[Floats], true: Callable[[Floats], bool], seconds: float = 20) -> Floats:
    """The first block of which it is true."""
    heard = 0
    for block in blocks:
        heard += len(block)
        if true(block):
            return block
        assert heard < seconds * RATE, "it did not come to pass"
    raise AssertionError("the keyboard was closed")


def sounds(block: Floats) -> bool:
    return bool(block.any())


def is_silent(block: Floats) -> bool:
    return not block.any()


@needs_jackd
def test_keys_sound_until_they_are_let_go(player: subprocess.Popen[str]) -> None:
    with open_audio("midi:stage") as keyboard:
        assert isinstance(keyboard, Keyboard) and keyboard.live and keyboard.seconds is None
        blocks = keyboard.blocks(RATE)
        assert is_silent(next(blocks))
        say(player, "hex 90 3C 64")
        until(blocks, sounds)
        say(player, "hex FE")
        say(player, "hex F8")
        say(player, "hex 90 3C 00")
        until(blocks, is_silent)
        say(player, "hex BF 40 7F")
        say(player, "hex 9F 1E 64")
        say(player, "hex 8F 1E 00")
        until(blocks, sounds)
        for _ in range(150):
            assert sounds(next(blocks))
        say(player, "hex BF 40 00")
        until(blocks, is_silent)
    assert not list(blocks)
    keyboard.close()


@needs_jackd
def test_music_keeps_time_and_waits_for_a_late_listener(player: subprocess.Popen[str]) -> None:
    with Keyboard("PIANO") as keyboard:
        assert keyboard.waiting_seconds == 0
        blocks = keyboard.blocks(RATE)
        first = next(blocks)
        began = time.perf_counter()
        say(player, "hex 90 3C 64")
        time.sleep(1.5)
        assert 1.4 < keyboard.waiting_seconds < 60
        heard = [first]
        while keyboard.waiting_seconds > 0.02:
            heard.append(next(blocks))
        behind = time.perf_counter() - began - (sum(map(len, heard)) - len(first)) / RATE
        assert abs(behind) < 0.1
        assert first_sound(np.concatenate(heard)) < 1
        assert keyboard.dropped_seconds == 0


@needs_jackd
def test_a_listener_that_is_much_too_late_misses_some(
    player: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("sf_plugin.audio.keyboard.MOST_LATE_SECONDS", 0.5)
    with Keyboard("stage") as keyboard:
        blocks = keyboard.blocks(RATE)
        next(blocks)
        time.sleep(2)
        next(blocks)
        assert keyboard.dropped_seconds > 1.4
        assert 0.4 < keyboard.waiting_seconds < 60
        say(player, "hex 90 3C 64")
        until(blocks, sounds)
    assert "time stood still" in caplog.records[0].message


@needs_jackd
def test_a_keyboard_that_vanishes_is_let_go_and_found_again(
    server: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first = start_ready(PLAYER)
    with Keyboard("stage piano") as keyboard:
        blocks = keyboard.blocks(RATE)
        next(blocks)
        say(first, "hex B0 40 7F")
        say(first, "hex 90 15 7F")
        until(blocks, sounds)
        first.kill()
        first.communicate()
        until(blocks, is_silent)
        assert [r.message.endswith("is gone: looking for it") for r in caplog.records] == [True]
        second = start_ready(PLAYER)
        until(blocks, lambda _: len(caplog.records) > 1)
        assert caplog.records[1].message.endswith("is back")
        say(second, "hex 90 3C 64")
        until(blocks, sounds)
        say(second, "hex 80 3C 00")
        until(blocks, is_silent)
    stop(second)
    assert len(caplog.records) == 2


@needs_jackd
def test_more_than_can_be_played(
    player: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Keyboard("stage") as keyboard:
        blocks = keyboard.blocks(RATE)
        next(blocks)
        say(player, f"many {MOST_WAITING + 2000}")
        assert player.stdout is not None and player.stdout.readline() == "played\n"
        time.sleep(0.5)
        heard = [next(blocks)]
        while keyboard.waiting_seconds > 0.02:
            heard.append(next(blocks))
        assert np.isfinite(np.concatenate(heard)).all()
        until(blocks, is_silent)
    assert [r.message for r in caplog.records] == [
        "MIDI keyboard: too many messages at once: some are not heard"
    ]


@needs_jackd
def test_a_name_that_is_not_there_lists_what_is(player: subprocess.Popen[str]) -> None:
    with pytest.raises(AudioError, match=r"no MIDI port called 'organ': there is .*Stage Piano"):
        open_audio("midi:organ")


def test_no_midi_server(jack_midi: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rtmidi", reason="python-rtmidi is not installed")
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "no-such-server")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    with pytest.raises(AudioError, match="MIDI keyboard: MIDI does not start"):
        Keyboard("piano")


def test_no_rtmidi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rtmidi.py").write_text("raise ModuleNotFoundError('no rtmidi')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(AudioError, match="MIDI keyboard: MIDI back end is missing"):
        Keyboard("piano")


# following


@pytest.fixture(scope="module")
def truth() -> Truth:
    text = (ASSETS / "layout.json").read_text(encoding="utf-8")
    return load_truth(ASSETS / "truth.json", Layout.from_json(text))


def follow(source: Keyboard | MidiFile) -> Iterator[Position]:
    session = Session(source, make_follower(), make_mapper(), load_score(ASSETS / "score.pdf"))
    with closing(session.events()) as events:
        for event in events:
            if isinstance(event, Position):
                yield event


def share_right(positions: list[Position], truth: Truth, began: float = 0.0) -> float:
    """Of the positions: those in a measure that was played within half a second."""
    right = []
    for position in positions:
        now = position.time - began
        since = np.searchsorted(truth.time, [now - 0.5, now])
        played = truth.measure[max(since[0] - 1, 0) : since[1]]
        right.append(position.measure in played)
    return float(np.mean(right))


def test_a_file_is_followed(truth: Truth) -> None:
    positions = [p for p in follow(MidiFile(TAKE)) if 1 < p.time < 16]
    assert len(positions) > 500
    assert share_right(positions, truth) > 0.98


@needs_jackd
def test_a_performance_on_a_keyboard_is_followed(
    player: subprocess.Popen[str], truth: Truth
) -> None:
    positions: list[Position] = []
    began = 0.0
    for position in follow(Keyboard("stage")):
        if not positions:
            say(player, f"file {TAKE}")
            began = position.time
        positions.append(position)
        if position.time > began + 15:
            break
    heard = [p for p in positions if p.time > began + 2]
    assert share_right(heard, truth, began) > 0.9
    measures = [p.measure for p in heard if p.measure is not None]
    assert all(a <= b for a, b in pairwise(measures))
    assert measures[-1] == truth.measure[truth.time < 15][-1]
