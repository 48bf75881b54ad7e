"""Appends every page turn to a file: `scorefollow follow ... --my-plugin FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from sf_plugin import Event, Layout, PageTurn, Score, Sink, SinkError, hookimpl
from sf_plugin.hookspecs import RegisterSink


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    register("my-plugin", MyPlugin, help="append page turns to a file", metavar="FILE")


class MyPlugin(Sink):
    """Seconds and page, a turn a line.

    Args:
        path: the option's argument.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.file: IO[str] | None = None

    def open(self, score: Score, layout: Layout) -> None:
        try:
            self.file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise SinkError(f"{self.path}: {error.strerror}: choose another place") from None

    def emit(self, event: Event) -> None:
        if isinstance(event, PageTurn):
            print(f"{event.time:.2f}\t{event.page}", file=self.file, flush=True)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
