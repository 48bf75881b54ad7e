"""What commands share: their help, their progress, and what they write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sf_plugin.errors import ScoreFollowerError
from sf_plugin.positions import Event, Jump, PageTurn, Position, StateChange
from sf_plugin.sinks import Sink

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""With which the command ends."""

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    summary: str,
    description: str,
    *examples: tuple[str, str],
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=example_lines(*examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    parser.set_defaults(run=run)
    return parser


def example_lines(*pairs: tuple[str, str]) -> str:
    return "examples:\n" + "\n".join(f"  {command}\n      {what}" for what, command in pairs)


def count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not in 1 to 1000")
    return value


def write_whole(path: Path, content: str | bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ScoreFollowerError(
            f"{path}: cannot be written: {error.strerror}: choose another place"
        ) from None


def write_anew(path: Path, content: bytes) -> None:
    """Write a file whole; another that was there before becomes FILE~."""
    try:
        if path.exists() and path.read_bytes() != content:
            path.replace(path.with_name(path.name + "~"))
    except OSError as error:
        raise ScoreFollowerError(
            f"{path}: cannot be written anew: {error.strerror}: choose another place"
        ) from None
    write_whole(path, content)


class Display(Sink):
    """Progress bars and a status line on a terminal's stderr; plain lines elsewhere.

    As a sink it tells page turns, jumps and changes of state, and on live sessions
    also the place.
    """

    def __init__(self, live: bool) -> None:
        self.live = live
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            console=errors,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            disable=not errors.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._measure: int | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the session starts and goes on."""
        self._tasks["starting"] = self._progress.add_task("starting", total=None, amount="")
        with self._progress:
            yield

    def progress(self, what: str, done: int, total: int) -> None:
        """Of the page reading and the following: a bar each."""
        if errors.quiet:
            return
        if what not in self._tasks:
            if (starting := self._tasks.pop("starting", None)) is not None:
                self._progress.remove_task(starting)
            self._tasks[what] = self._progress.add_task(what, total=total or None, amount="")
        amount = f"{done}/{total}" if total else f"{done}"
        self._progress.update(self._tasks[what], completed=done, amount=amount)

    def emit(self, event: Event) -> None:
        match event:
            case Position():
                self._place(event)
            case PageTurn() if self.live:
                half = ", upper half" if event.half else ""
                self._line(event.time, f"page {event.page}{half}")
            case Jump() if self.live:
                self._line(event.time, f"jump to measure {event.to_measure}")
            case StateChange() if self.live:
                self._line(event.time, event.state)

    def _place(self, position: Position) -> None:
        if not self.live:
            return
        place = f"page {position.page}  measure {position.label or position.measure or '?'}"
        if errors.is_terminal:
            what = f"{place}  {position.state} {position.confidence:.0%}"
            task = self._tasks.get("following")
            if task is not None:
                self._progress.update(task, description=what)
        elif position.measure != self._measure:
            self._measure = position.measure
            self._line(position.time, place)

    @staticmethod
    def _line(time: float, text: str) -> None:
        say(f"{clock(time)}  {text}")


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def say(text: str) -> None:
    errors.print(Text(text))


def print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(head[0], box=None, pad_edge=False)
    for column in head[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    print_table(table)


def print_table(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    console.print(table)
