"""The session on the whole terminal: `--tui`.

Level, place, confidence and the last events, drawn ten times a second; keys pause, turn
pages, start again and say where the music is.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sf_plugin.controls import Controls, Level
from sf_plugin.errors import ScoreError, SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import Control, Event, Jump, PageTurn, Position, StateChange
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.score.structure import measures_of
from sf_plugin.sinks import Sink
from sf_plugin.terminal import clock, errors, say

DRAW_SECONDS = 0.1
NOTICE_SECONDS = 4.0
"""An answer to a key, or a clipped sample, is shown for so long."""

LINES = 200
"""Of the log that are kept."""

BAR = 40
"""Characters of a bar."""

QUIETEST = -60.0
"""Left end of the level meter, dB of full scale."""

CLIPPED = 0.999
"""Peak from which the sound is cut off at full scale."""

KEYS = "space pause   n p page   g measure   r start again   q quit"

COLOURS = {"tracking": "green", "unsure": "yellow", "lost": "red"}

ARROWS = {"\x1b[C": "n", "\x1b[6~": "n", "\x1b[D": "p", "\x1b[5~": "p"}
"""Arrows and page keys are letters too."""

LOGGERS = ("sf_plugin", "sf_adapters")


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--tui`."""
    register(
        "tui",
        TerminalView,
        help="show level, place and events on the whole terminal; keys pause, turn pages and "
        "say where the music is",
    )


def decibels(amplitude: float) -> float:
    """Of full scale; `QUIETEST` at least."""
    return max(20 * math.log10(amplitude), QUIETEST) if amplitude > 0 else QUIETEST


def bar(share: float, mark: float | None = None, colour: str = "") -> Text:
    """`BAR` characters, filled up to a share in [0, 1], with a mark at another."""
    filled = round(min(max(share, 0.0), 1.0) * BAR)
    cells = ["━" if i < filled else "─" for i in range(BAR)]
    text = Text("".join(cells), style="dim")
    text.stylize(f"not dim {colour}", 0, filled)
    if mark is not None:
        at = min(round(min(max(mark, 0.0), 1.0) * BAR), BAR - 1)
        text = Text.assemble(text[:at], ("┃", f"not dim {colour}"), text[at + 1 :])
    return text


def meter(level: Level) -> Text:
    """Loudness as a bar, with a mark at the peak."""
    rms, peak = decibels(level.rms), decibels(level.peak)
    shares = (1 - rms / QUIETEST, 1 - peak / QUIETEST)
    text = bar(*shares, "red" if level.peak >= CLIPPED else "green")
    return text.append(f"  {rms:4.0f} dB  peak {peak:4.0f} dB", "not dim")


def measure_called(name: str, layout: Layout, here: Position | None) -> int:
    """The measure of this printed number, of several the nearest; see `Controls.goto`.

    Raises:
        ScoreError: there is none on the pages read so far.
    """
    near = (here.measure if here is not None else None) or 1
    named = [m.number for m in measures_of(layout) if (m.label or str(m.number)) == name]
    if not named:
        raise ScoreError(f"there is no measure {name} on the pages read so far")
    return min(named, key=lambda number: abs(number - near))


class TerminalView(Sink):
    """Draws the session and hears keys, until it is closed.

    Whatever else would be written meanwhile is kept off the terminal; warnings are told
    again at the end.

    Args:
        argument: nothing.
    """

    def __init__(self, argument: str = "") -> None:
        self.controls: Controls | None = None
        self.entry: str | None = None
        """The number of a measure while it is typed."""
        self._score = ""
        self._position: Position | None = None
        self._lines: deque[Text] = deque(maxlen=LINES)
        self._warnings: deque[str] = deque(maxlen=LINES)
        self._notice = ""
        self._noticed = self._clipped = -math.inf
        self._handler = _Lines(self._warn)
        self._terminal: _Terminal | None = None
        self._failure: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="terminal view", daemon=True)

    def attach(self, controls: Controls) -> None:
        self.controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        if not errors.is_terminal or errors.is_dumb_terminal:
            raise SinkError("--tui: messages do not go to a terminal: leave it out")
        if errors.quiet:
            raise SinkError("--tui: is shown already: give it once")
        self._score = score.name
        self._terminal = _Terminal()
        atexit.register(self.close)
        errors.quiet = True
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._handler)
        self._thread.start()

    def emit(self, event: Event) -> None:
        if self._failure is not None:
            raise SinkError(f"--tui: the terminal is gone: {self._failure}")
        match event:
            case Position():
                self._position = event
            case StateChange():
                self._say(event.time, event.state, COLOURS.get(event.state, ""))
            case PageTurn():
                self._say(event.time, f"page {event.page}{', upper half' if event.half else ''}")
            case Jump():
                self._say(event.time, f"jump to measure {event.to_measure}")
            case Control():
                where = event.measure or event.page
                self._say(event.time, f"{event.action}{f' {where}' if where else ''}", "cyan")

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(2)
        terminal, self._terminal = self._terminal, None
        if terminal is None:
            return
        atexit.unregister(self.close)
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
        terminal.restore()
        errors.quiet = False
        for line in self._warnings:
            say(line)

    def _say(self, at: float, text: str, style: str = "") -> None:
        self._lines.append(Text.assemble((f"{clock(at):>8}  ", "dim"), (text, style)))

    def _warn(self, text: str) -> None:
        self._warnings.append(f"scorefollow: {text}")
        self._say(self.controls.seconds if self.controls else 0.0, text, "yellow")

    # the view's own thread

    def _run(self) -> None:
        terminal = self._terminal
        assert terminal is not None
        try:
            with Live(
                console=Console(stderr=True, highlight=False),
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            ) as live:
                while not self._closing.is_set():
                    live.update(self.picture(live.console.height), refresh=True)
                    for key in terminal.keys(DRAW_SECONDS):
                        self.press(key)
        except Exception as error:
            self._failure = error

    def picture(self, height: int) -> RenderableType:
        """All that is shown, on so many lines."""
        controls = self.controls or Controls(1)
        now = time.monotonic()
        if controls.level.peak >= CLIPPED:
            self._clipped = now
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim")
        for name, value in self._facts(controls, now):
            facts.add_row(name, value)
        if self.entry is not None:
            foot = Text(f"measure {self.entry}_   Enter goes there, Esc does not")
        elif now - self._noticed < NOTICE_SECONDS:
            foot = Text(self._notice, "yellow")
        else:
            foot = Text(KEYS, "dim")
        room = max(height - len(facts.rows) - 5, 1)
        lines = list(self._lines)[-room:]
        lines += [Text()] * (room - len(lines))
        for text in (*lines, foot):
            text.no_wrap, text.overflow = True, "ellipsis"
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        head.add_row(Text(self._score, "bold", no_wrap=True), clock(controls.seconds))
        return Group(head, Text(), facts, Text(), *lines, Text(), foot)

    def _facts(self, controls: Controls, now: float) -> Iterable[tuple[str, RenderableType]]:
        here = self._position
        yield "page", f"{controls.shown} of {controls.pages}"
        if here is None:
            yield "measure", "–"
        else:
            beat = "" if here.beat is None else f"   beat {here.beat:.1f}"
            again = f"   time {here.pass_}" if here.pass_ > 1 else ""
            measure = here.label or here.measure or "–"
            place = f"   (page {here.page}, system {here.system or '–'})"
            yield "measure", Text.assemble((str(measure), "bold"), beat, again, (place, "dim"))
        tempo = None if here is None else here.tempo
        yield "tempo", "–" if tempo is None else f"{tempo:.0f}"
        state = "waiting" if here is None else here.state
        colour = COLOURS.get(state, "")
        yield "state", Text("paused", "cyan") if controls.paused else Text(state, colour)
        sure = 0.0 if here is None else here.confidence
        yield "confidence", bar(sure, colour=colour).append(f"  {sure:4.0%}", "not dim")
        level = meter(controls.level)
        if now - self._clipped < NOTICE_SECONDS:
            level.append("  too loud", "not dim red")
        yield "level", level
        lost = controls.dropped_seconds
        yield "lost", Text(f"{lost:.1f} s of sound", "red") if lost else "nothing"

    def press(self, key: str) -> None:
        """A key: a character, or the escape sequence of one that is none."""
        assert self.controls is not None
        try:
            if self.entry is not None:
                self._type(key, self.controls)
            else:
                self._do(ARROWS.get(key, key), self.controls)
        except ScoreError as error:
            self._notice, self._noticed = str(error), time.monotonic()

    def _type(self, key: str, controls: Controls) -> None:
        if key.isdecimal() and key.isascii() and len(self.entry or "") < 5:
            self.entry = (self.entry or "") + key
        elif key in ("\x7f", "\b"):
            self.entry = (self.entry or "")[:-1]
        elif key in ("\r", "\n", "\x1b"):
            entry, self.entry = self.entry, None
            if entry and key != "\x1b":
                controls.goto(measure_called(entry, controls.layout, self._position))

    def _do(self, key: str, controls: Controls) -> None:
        actions: dict[str, Callable[[], None]] = {
            " ": controls.resume if controls.paused else controls.pause,
            "n": controls.next_page,
            "p": controls.previous_page,
            "r": controls.reset,
            "q": controls.stop,
        }
        if key == "g":
            self.entry = ""
        elif key in actions:
            actions[key]()


class _Lines(logging.Handler):
    """Hands on what is logged."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}")


class _Terminal:
    """The keyboard, key by key and without echo, until it is restored.

    Raises:
        SinkError: there is no terminal.
    """

    KEY = re.compile(r"\x1b\[[0-9;]*[~A-Za-z]|\x1bO.|.", re.DOTALL)

    def __init__(self) -> None:
        try:
            import termios

            self._descriptor = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
            self._before = termios.tcgetattr(self._descriptor)
            self._termios: Any = termios
        except ImportError:
            raise SinkError("--tui: this system has no such terminals: leave it out") from None
        except OSError as error:
            raise SinkError(
                f"--tui: there is no terminal to hear keys from ({error.strerror}): leave it out"
            ) from None
        mode = termios.tcgetattr(self._descriptor)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        mode[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, mode)

    def keys(self, seconds: float) -> list[str]:
        """Those pressed; waits so long for the first."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return []
        return self.KEY.findall(os.read(self._descriptor, 256).decode(errors="ignore"))

    def restore(self) -> None:
        """As it was before; twice is harmless."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        with suppress(self._termios.error):
            self._termios.tcsetattr(descriptor, self._termios.TCSADRAIN, self._before)
        os.close(descriptor)
