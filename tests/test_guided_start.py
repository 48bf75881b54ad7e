"""`scorefollow follow` without arguments, at a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jackd import jack_server, needs_jackd, start_ready, stop
from midi_peers import READER

from sf_plugin.guided_start import lasting_port, paths_of

PROGRAM = str(Path(sys.executable).parent / "scorefollow")
PATIENCE = 60


class Terminal:
    """A program at a terminal, as a person sees it."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self.seen = ""
        self._fd = fd
        self._read = 0

    def expect(self, text: str) -> None:
        """Wait until this is shown, after what was expected before."""
        until = time.monotonic() + PATIENCE
        while (at := self.seen.find(text, self._read)) < 0:
            assert time.monotonic() < until, f"no {text!r} in {self.seen!r}"
            if not self._more() and self.seen.find(text, self._read) < 0:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
        self._read = at + len(text)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def insist(self, leave: Callable[[], object]) -> int:
        """Ask it to leave until it does; its exit code.

        A signal that comes just before Python reads is noticed only when the read is over.
        """
        for _ in range(3):
            leave()
            try:
                self.process.wait(PATIENCE / 3)
                break
            except subprocess.TimeoutExpired:
                pass
        return self.end()

    def end(self) -> int:
        """All that it says to its end; its exit code."""
        while self._more():
            pass
        return self.process.wait(PATIENCE)

    def _more(self) -> bool:
        if not select.select([self._fd], [], [], PATIENCE)[0]:
            return False
        try:
            said = os.read(self._fd, 4096)
        except OSError:
            return False
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode(errors="replace"))
        self.seen += text.replace("\r\n", "\n")
        return bool(said)


@contextmanager
def guided(folder: Path, *words: str) -> Iterator[Terminal]:
    here, there = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *(words or ("follow",))],
        cwd=folder,
        stdin=there,
        stdout=there,
        stderr=there,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(there)
    try:
        yield Terminal(process, here)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        os.close(here)


@pytest.fixture
def folder(tmp_path: Path, pdf: Path, wav: Path) -> Path:
    shutil.copy(pdf, tmp_path / "my sonata.pdf")
    shutil.copy(wav, tmp_path / "take.wav")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    return tmp_path


def number_of(terminal: Terminal, answer: str) -> str:
    """The number beside an answer that is shown."""
    terminal.expect(answer)
    found = re.findall(rf"^ +(\d+)  .*{re.escape(answer)}", terminal.seen, re.M)
    return str(found[-1])


def test_a_recording_is_followed_as_was_asked(folder: Path) -> None:
    with guided(folder) as terminal:
        terminal.expect("my sonata.pdf")
        terminal.expect("Score")
        terminal.type("1\n")  # broken.pdf comes first
        terminal.expect("broken.pdf: ")
        terminal.expect("Score")
        terminal.type("2\n")
        terminal.expect("my sonata.pdf: 2 pages")
        recording = number_of(terminal, "a recording")
        terminal.expect("Number")
        terminal.type(f"{recording}\n")
        terminal.expect("File")
        terminal.type("nothing.wav\n")
        terminal.expect("nothing.wav: ")
        terminal.expect("File")
        terminal.type("take.wav\n")
        terminal.expect("take.wav: 16 s")
        osc = number_of(terminal, "send OSC")
        terminal.expect("Number")
        terminal.type(f"{osc}\n")
        terminal.expect("Host and port")
        terminal.type("127.0.0.1:9\n")
        terminal.expect(
            "scorefollow follow 'my sonata.pdf' --audio take.wav --realtime --osc 127.0.0.1:9"
        )
        terminal.expect("Begin")
        terminal.type("\n")
        terminal.expect("starting")
        assert terminal.end() == 0
        assert " heard, " in terminal.seen
        assert "Traceback" not in terminal.seen


def test_pages_on_a_tablet_with_its_own_microphone(folder: Path) -> None:
    with guided(folder) as terminal:
        terminal.expect("Score")
        terminal.type("'my sonata.pdf'\n")
        browser = number_of(terminal, "the microphone of a tablet")
        terminal.expect("Number")
        terminal.type(f"{browser}\n")
        terminal.expect("on a tablet")
        terminal.expect("Number")
        terminal.type("1\n")
        terminal.expect("scorefollow serve 'my sonata.pdf' --host 0.0.0.0 --tls")
        terminal.expect("Begin")
        terminal.type("n\n")
        assert terminal.end() == 130


@pytest.mark.parametrize(
    ("question", "leave"),
    [("Score", "\x03"), ("Number", "\x04"), ("File", "\x03"), ("What shall", "\x03")],
)
def test_it_is_left_quietly_at_any_question(folder: Path, question: str, leave: str) -> None:
    before = sorted(os.listdir(folder))
    with guided(folder) as terminal:
        for asked, answer in (
            ("Score", "my sonata.pdf\n"),
            ("Number", None),
            ("File", "take.wav\n"),
            ("What shall", ""),
        ):
            if answer is None:
                answer = number_of(terminal, "a recording") + "\n"
            terminal.expect(asked)
            if asked == question:
                break
            terminal.type(answer)
        if question == "What shall":
            terminal.expect("Number")
        assert terminal.insist(lambda: terminal.type(leave)) == 130
        assert "Traceback" not in terminal.seen and "unexpected" not in terminal.seen
    assert sorted(os.listdir(folder)) == before


def test_the_end_of_the_terminal_ends_it(folder: Path) -> None:
    with guided(folder) as terminal:
        terminal.expect("Score")
        assert terminal.insist(lambda: terminal.process.send_signal(signal.SIGHUP)) == 130


def test_without_a_terminal_it_is_a_usage_error(folder: Path) -> None:
    done = subprocess.run([PROGRAM, "follow"], cwd=folder, input="", capture_output=True, text=True)
    assert done.returncode == 2
    assert "the following arguments are required: SCORE" in done.stderr
    assert not done.stdout


@needs_jackd
def test_a_microphone_and_a_page_turner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rtmidi", reason="python-rtmidi is not installed")
    monkeypatch.setenv("MIDO_BACKEND", "mido.backends.rtmidi/UNIX_JACK")
    with jack_server(monkeypatch):
        reader, piano = start_ready(READER), start_ready(PIANO)
        try:
            with guided(folder) as terminal:
                terminal.expect("Score")
                terminal.type("my sonata.pdf\n")
                microphone = number_of(terminal, "Grand Piano")
                terminal.expect("Number")
                terminal.type(f"{microphone}\n")
                terminal.expect("it is heard for 3 s")
                terminal.expect("loudest -6 dB of full scale: good")
                turns = number_of(terminal, "by MIDI")
                terminal.expect("Number")
                terminal.type(f"{turns}\n")
                port = number_of(terminal, "Sheet Reader")
                terminal.expect("Number")
                terminal.type(f"{port}\n")
                terminal.expect("scorefollow follow 'my sonata.pdf' --mic")
                terminal.expect("--turn 'Sheet Reader")
                terminal.expect("Begin")
                terminal.type("\n")
                terminal.expect("waiting")
                terminal.type("\x03")
                assert terminal.end() == 130
                assert " heard, " in terminal.seen
        finally:
            stop(reader)
            stop(piano)


PIANO = """
import sys, jack, numpy as np
client = jack.Client("Grand Piano")
out = client.outports.register("out_1")
tone = 0.5 * np.sin(2 * np.pi * 441 * np.arange(44100) / 44100).astype(np.float32)
@client.set_process_callback
def process(frames):
    out.get_array()[:] = np.resize(tone[:100], frames)
client.activate()
print("ready")
sys.stdin.read()
client.deactivate()
"""


def test_paths_as_terminals_take_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "two words.pdf").touch()
    assert paths_of("two words.pdf ") == ["two words.pdf"]
    assert paths_of(r"/music/two\ words.pdf ") == ["/music/two words.pdf"]
    assert paths_of("'/music/it is.pdf'") == ["/music/it is.pdf"]
    assert paths_of("1.png 2.png") == ["1.png", "2.png"]
    assert paths_of("~/a.pdf") == ["/home/me/a.pdf"]
    assert paths_of("don't.pdf") == ["don't.pdf"]
    assert paths_of("  ") == []
    assert paths_of("x" * 5000) == ["x" * 5000]


def test_ports_are_named_without_passing_numbers() -> None:
    assert lasting_port("Digital Piano:Digital Piano MIDI 1 20:0") == (
        "Digital Piano:Digital Piano MIDI 1"
    )
    assert lasting_port("IAC Driver Bus 1") == "IAC Driver Bus 1"
