"""The view in a pseudo-terminal of the real command, keys and all."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import EXAMPLE, Run, make_layout
from rich.console import Console

from sf_adapters.terminal_view import QUIETEST, TerminalView, bar, decibels, meter
from sf_plugin.controls import Controls, Level
from sf_plugin.positions import Position
from sf_plugin.score.layout import Layout

ROWS, COLUMNS = 24, 90
ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>]")


class Screen:
    """As much of a terminal as the view needs: what stands on which line."""

    def __init__(self) -> None:
        self.cells = [[" "] * COLUMNS for _ in range(ROWS)]
        self.row = self.column = 0
        self.whole = False
        """Whether the alternate screen is shown."""
        self.cursor = True

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            escape = ESCAPE.match(text, at)
            if escape:
                at = escape.end()
                self._obey(escape[1] or "", escape[2] or "")
                continue
            self._put(text[at])
            at += 1

    def _obey(self, numbers: str, letter: str) -> None:
        if letter == "H":
            self.row = self.column = 0
        elif (numbers, letter) in (("?1049", "h"), ("?1049", "l")):
            self.whole = letter == "h"
            self.cells = [[" "] * COLUMNS for _ in range(ROWS)]
            self.row = self.column = 0
        elif (numbers, letter) in (("?25", "h"), ("?25", "l")):
            self.cursor = letter == "h"

    def _put(self, character: str) -> None:
        if character == "\n":
            self.row = min(self.row + 1, ROWS - 1)
        elif character == "\r":
            self.column = 0
        else:
            self.cells[self.row][min(self.column, COLUMNS - 1)] = character
            self.column += 1

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    def value(self, name: str) -> str:
        """Of a fact such as "page"."""
        for line in self.lines:
            if line.startswith(name):
                return line.removeprefix(name).strip()
        return ""


class Terminal:
    """`scorefollow` with a terminal of its own."""

    def __init__(self, folder: Path, site: Path, *words: object) -> None:
        program = Path(sys.executable).parent / "scorefollow"
        self.process, self.master = pty.fork()
        if not self.process:
            os.chdir(folder)
            environment = {**os.environ, "PYTHONPATH": str(site), "TERM": "xterm-256color"}
            environment.pop("COLUMNS", None)
            environment.pop("LINES", None)
            os.execve(str(program), [str(program), *map(str, words)], environment)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.screen = Screen()
        self.said = ""
        self.status: int | None = None
        self._rest = b""

    def mode(self) -> int:
        """Local modes of the terminal."""
        return termios.tcgetattr(self.master)[3]

    def hear(self, seconds: float = 0.2) -> bool:
        """What is written within this time; False at the end."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self._rest += data
        text = self._rest.decode(errors="ignore")
        whole = text[: text.rfind("\x1b")] if "\x1b" in text[-12:] else text
        self._rest = self._rest[len(whole.encode()) :]
        self.said += whole
        self.screen.feed(whole)
        return bool(data)

    def until(self, true: object, what: str, seconds: float = 90) -> None:
        """Wait until something is seen."""
        end = time.monotonic() + seconds
        while not true():  # type: ignore[operator]
            assert time.monotonic() < end, f"no {what}:\n" + "\n".join(self.screen.lines)
            assert self.hear(), f"ended before {what}: {self.said[-2000:]}"

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        """Wait for the end; the exit code."""
        while self.hear(30):
            pass
        self.screen.feed(self._rest.decode(errors="ignore"))
        _, status = os.waitpid(self.process, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def close(self) -> None:
        if self.status is None:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        os.close(self.master)


@pytest.fixture
def terminal(
    tmp_path: Path, example_plugin: Path, pdf: Path, wav: Path, layout_file: Path
) -> object:
    opened: list[Terminal] = []

    def start(*words: object) -> Terminal:
        common = ("--audio", wav, "--layout", layout_file, *EXAMPLE, "--realtime", "--tui")
        opened.append(Terminal(tmp_path, example_plugin, "follow", pdf, *common, *words))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def actions(path: Path) -> list[tuple[str, int | None]]:
    lines = map(json.loads, path.read_text().splitlines())
    return [
        (line["action"], line.get("measure") or line.get("page"))
        for line in lines
        if line["type"] == "control"
    ]


def test_place_and_level_are_shown_and_keys_are_obeyed(terminal: object, tmp_path: Path) -> None:
    view: Terminal = terminal("--out", "events.jsonl")  # type: ignore[operator]
    view.until(lambda: view.screen.value("state") == "tracking", "tracking")
    screen = view.screen
    assert screen.whole and not screen.cursor
    assert screen.lines[0].startswith("score")
    assert screen.value("page") == "1 of 2"
    assert screen.value("lost") == "nothing"
    assert screen.value("confidence").endswith("100%")
    view.until(lambda: re.search(r"━.* -\d+ dB  peak +-\d+ dB", screen.value("level")), "level")
    view.until(lambda: screen.value("measure").startswith("2 "), "measure 2")
    assert not view.mode() & (termios.ECHO | termios.ICANON)
    view.press("n")
    view.until(lambda: screen.value("page") == "2 of 2", "page 2")
    view.press("\x1b[5~")
    view.until(lambda: screen.value("page") == "1 of 2", "page 1")
    view.press("g1x3\x7f2")
    view.until(lambda: "measure 12_" in screen.lines[-1], "an entry")
    view.press("\n")
    view.until(lambda: any("goto 12" in line for line in screen.lines), "goto")
    view.press("g999\n")
    view.until(lambda: "there is no measure 999" in screen.lines[-1], "an answer")
    view.press("g5\x1b")
    view.press(" ")
    view.until(lambda: screen.value("state") == "paused", "a pause")
    view.press(" r")
    view.until(lambda: any("reset" in line for line in screen.lines), "a new performance")
    view.press("q")
    assert view.end() == 0
    assert not screen.whole and screen.cursor
    assert view.mode() & termios.ECHO and view.mode() & termios.ICANON
    assert any("heard" in line for line in screen.lines)
    assert actions(tmp_path / "events.jsonl") == [
        ("show", 2), ("show", 1), ("goto", 12), ("pause", None), ("resume", None),
        ("reset", None), ("stop", None),
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM"])
def test_the_terminal_is_as_before_whatever_ends_it(terminal: object, how: str) -> None:
    view: Terminal = terminal("--record", "takes")  # type: ignore[operator]
    view.until(lambda: view.screen.value("state") == "tracking", "tracking")
    if how == "ctrl-c":
        view.press("\x03")
    else:
        os.kill(view.process, signal.SIGTERM)
    assert view.end() == 130
    assert not view.screen.whole and view.screen.cursor
    assert view.mode() & termios.ECHO and view.mode() & termios.ICANON


def test_warnings_are_shown_and_told_again(terminal: object) -> None:
    view: Terminal = terminal("--osc", "255.255.255.255:9")  # type: ignore[operator]
    view.until(lambda: any("OSC to 255.255" in line for line in view.screen.lines), "a warning")
    assert view.screen.whole
    view.press("q")
    assert view.end() == 0
    assert view.said.rstrip().count("scorefollow: warning: OSC to 255.255.255.255:9") == 1


def test_without_a_terminal_the_reason_is_told(
    scorefollow: Run, pdf: Path, wav: Path, layout_file: Path
) -> None:
    words = ("--audio", wav, "--layout", layout_file, *EXAMPLE)
    done = scorefollow("follow", pdf, *words, "--tui")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("--tui: messages do not go to a terminal: leave it out")


def test_two_views_are_one_too_many(terminal: object) -> None:
    view: Terminal = terminal("--tui")  # type: ignore[operator]
    assert view.end() == 2
    assert "give it once" in view.said
    assert not view.screen.whole and view.mode() & termios.ECHO


def test_the_meter_tells_loudness_and_clipping() -> None:
    assert decibels(0.0) == decibels(1e-9) == QUIETEST
    assert decibels(1.0) == 0.0
    assert bar(0.5).plain.count("━") == bar(0.5).plain.count("─")
    loud, quiet = meter(Level(0.5, 1.0)), meter(Level(0.001, 0.01))
    assert loud.plain.endswith("  -6 dB  peak    0 dB")
    assert quiet.plain.endswith(" -60 dB  peak  -40 dB")
    assert "red" in str(loud.spans) and "red" not in str(quiet.spans)


def test_the_picture_is_as_high_as_the_terminal() -> None:
    view = TerminalView()
    view.attach(Controls(7))
    for n in range(50):
        position = Position(n, 3, 0.5, 0.5, 2, 9, "8a", 2, 1.5, 92.4, 0.5, "unsure")
        view.emit(position)
        view._say(n, f"line {n} " + "long " * 40)
    for height in (12, 24, 60):
        console = Console(width=80, height=height)
        with console.capture() as shown:
            console.print(view.picture(height))
        lines = shown.get().splitlines()
        assert len(lines) == max(height, 13)
        assert any("8a   beat 1.5   time 2   (page 3, system 2)" in line for line in lines)
        assert any(line.split() == ["tempo", "92"] for line in lines)
        assert "line 49" in "".join(lines)


def test_a_measure_is_called_by_its_printed_number() -> None:
    """After an upbeat; of two movements, that in which the music is."""
    (page,) = make_layout(1, systems=2).pages
    rows = [
        replace(row, measures=tuple(replace(m, label=str(n)) for n, m in enumerate(row.measures)))
        for row in page.systems
    ]
    view, controls = TerminalView(), Controls(1)
    controls.layout = Layout((replace(page, systems=tuple(rows)),))
    view.attach(controls)
    for here, measure in ((None, 4), (3, 4), (7, 8)):
        if here is not None:
            view.emit(Position(1.0, 1, 0.5, 0.5, 1, here, "?", 1, None, None, 0.9, "tracking"))
        for key in "g3\r":
            view.press(key)
        (wish,) = controls.taken()
        assert (wish.action, wish.measure) == ("goto", measure)
    for key in "g8\r":
        view.press(key)
    assert not list(controls.taken())
