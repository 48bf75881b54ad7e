"""Events as JSON lines in a file or on standard output: `--out FILE`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import IO

from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import Event
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

logger = logging.getLogger(__name__)


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--out`."""
    register("out", JsonLines, help="write events as JSON lines ('-': stdout)", metavar="FILE")


class JsonLines(Sink):
    """One line per event, written at once.

    The lines gather in `FILE.part` beside the file, which `tail -f` can show, and
    get their name at the end.  After an error the part that was written stays.
    Pipes and devices are written directly.

    Args:
        target: a file name, or "-" for standard output.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._file: IO[str] | None = None
        self._part: Path | None = None
        self._lines = 0

    def open(self, score: Score, layout: Layout) -> None:
        if self.target == "-":
            self._file = sys.stdout
            return
        path = Path(self.target)
        try:
            if path.is_dir():
                raise SinkError(f"{path}: is a folder: name a file in it")
            if path.exists() and not path.is_file():
                self._file = path.open("w", encoding="utf-8", buffering=1)
                return
            part = Path(f"{path.resolve()}.part")
            self._file = part.open("w", encoding="utf-8", buffering=1)
            self._part = part
        except OSError as error:
            raise SinkError(
                f"{path}: cannot be written: {error.strerror}: choose another place"
            ) from None

    def emit(self, event: Event) -> None:
        if self._file is None:
            return
        try:
            self._file.write(event.to_json() + "\n")
            self._lines += 1
            if self.target == "-":
                self._file.flush()
        except OSError as error:
            if self._file is sys.stdout:
                _give_up_stdout()
            raise SinkError(f"{self._name()}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        self._close(failed=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(failed=kind is not None and not issubclass(kind, KeyboardInterrupt))

    def _close(self, *, failed: bool) -> None:
        file, self._file = self._file, None
        part, self._part = self._part, None
        if file is None or file is sys.stdout:
            return
        try:
            file.close()
            if part is None:
                return
            if not failed:
                part.replace(str(part).removesuffix(".part"))
            elif self._lines:
                logger.warning("%s holds the events up to the error", part)
            else:
                part.unlink()
        except OSError as error:
            raise SinkError(f"{self._name()}: cannot be written: {error.strerror}") from None

    def _name(self) -> str:
        return "standard output" if self.target == "-" else self.target


def _give_up_stdout() -> None:
    """Lets the interpreter end without trying to flush into a closed pipe."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
