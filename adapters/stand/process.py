"""The server in a process of its own (`python -m sf_adapters.stand.process`).

However many look on, the follower shares no interpreter with them.  What each side tells
the other is pickled into a pipe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from rich.text import Text

from sf_adapters.stand.door import Address, token_for, url_of
from sf_adapters.stand.invitation import drawing
from sf_adapters.stand.pages import can_draw, key_of, save_pages
from sf_adapters.stand.server import Server, Settings
from sf_plugin.audio.live import PushedSource
from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.positions import Control, Event
from sf_plugin.score.layout import Layout
from sf_plugin.score.layout_files import kept_beside
from sf_plugin.score.model import Score
from sf_plugin.terminal import errors, say

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0


def show_code(address: str) -> None:
    """Where a terminal can show one."""
    lines = drawing(address)
    can = errors.is_terminal and errors.color_system and not errors.no_color
    if can and errors.encoding.startswith("utf") and errors.width > len(lines[0]):
        for line in lines:
            errors.print(Text(line, "black on bright_white"))


def kept_layout(score: Score, files: Sequence[Path]) -> Path | None:
    """Where a corrected layout of all its pages would be found; None if it would not be used."""
    if not files or score.chosen is not None:
        return None
    if score.layout is not None and score.layout_file is None:
        return None
    return (score.layout_file or kept_beside(files)).resolve()


class ServerProcess:
    """A stand that shows a score and the sessions that follow it.

    Args:
        address: where to listen; port 0 takes a free one.
        score: what stands on it.
        files: that the score was read from, where they are known: pages are drawn anew from
            these as large as a screen wants them.
        certificate: files of the certificate and the key for HTTPS.
        browser_sound: whether a browser's microphone is heard; see `listen`.
        renew: begins a session anew; called in a thread, with True where the layout was
            corrected and the score must be read again.

    Raises:
        SinkError: the token in the environment is too short.
    """

    def __init__(
        self,
        address: Address,
        score: Score,
        files: Sequence[Path] = (),
        *,
        certificate: tuple[Path, Path] | None = None,
        browser_sound: bool = False,
        renew: Callable[[bool], None] | None = None,
    ) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        drawn = tuple(path.resolve() for path in files)
        if not can_draw(drawn):
            self._folder = tempfile.TemporaryDirectory(prefix="scorefollow-")
            drawn = tuple(save_pages(score.pages, Path(self._folder.name)))
        self._settings = Settings(
            address=address,
            token=token_for(address),
            title=score.name,
            files=drawn,
            pages=len(score.pages),
            key=key_of(drawn),
            layout=score.layout,
            kept=kept_layout(score, files),
            certificate=certificate,
            browser_sound=browser_sound,
            renews=renew is not None,
        )
        self._renew = renew
        self._controls: Controls | None = None
        self._ear: PushedSource | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="stand", daemon=True)
        self.port = address.port

    def start(self) -> None:
        """Listen.

        Raises:
            SinkError: the address is taken or not of this machine.
        """
        command = [sys.executable, "-P", "-m", "sf_adapters.stand.process"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._tell(self._settings)
        what, *said = _heard(self._process)
        if what != "ready":
            self.close()
            raise SinkError(*said)
        self.port = said[0]
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """The address to open, with its token."""
        settings = self._settings
        secure = settings.certificate is not None
        return url_of(settings.address, self.port, settings.token, secure=secure)

    def invite(self) -> None:
        """Tell the user where it is; to whoever comes from elsewhere also as a QR code."""
        elsewhere = not self._settings.address.is_loopback
        if elsewhere and self._settings.certificate is None and self._settings.browser_sound:
            say(
                "browsers elsewhere lend their microphone to https addresses only: add --tls, "
                "or --mic to use this computer's"
            )
        if elsewhere:
            show_code(self.url)
        say(f"the stand is at {self.url}")

    def begin(self, score: Score, layout: Layout, controls: Controls) -> None:
        """A session begins."""
        self._controls = controls
        self._tell("begin", layout, score.layout is not None, controls.shown)

    def extend(self, layout: Layout) -> None:
        """More of the score was read."""
        self._tell("extend", layout)

    def tell(self, event: Event) -> None:
        """Something happened."""
        controls = self._controls
        if controls is not None:
            self._tell("tell", event, controls.shown, controls.paused, controls.level)

    def end(self) -> None:
        """The session is over; the stand is still there."""
        self._controls = None
        with suppress(SinkError):
            self._tell("end")

    def listen(self, ear: PushedSource | None) -> None:
        """Let a browser's microphone be heard here from now on."""
        self._ear = ear

    def close(self) -> None:
        """Send everybody home; closing twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            if self._lock.acquire(timeout=CLOSE_SECONDS):
                self._lock.release()
            else:
                # It takes nothing more, and whoever tells it something waits in vain.
                process.kill()
            with suppress(OSError):
                process.stdin.close()
            try:
                process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if self._reader.is_alive():
                self._reader.join(CLOSE_SECONDS)
            process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _tell(self, *message: object) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        packed = pickle.dumps(message)
        try:
            with self._lock:
                process.stdin.write(packed)
                process.stdin.flush()
        except (OSError, ValueError):
            raise SinkError("the stand's process has ended: begin again") from None

    def _read(self) -> None:
        """Do what viewers want, until the process ends."""
        process = self._process
        assert process is not None
        while process is self._process:
            match _heard(process):
                case "wish", Control() as control:
                    if self._controls is not None:
                        self._controls.wish(control)
                case "turn", bool(ahead):
                    if (controls := self._controls) is not None:
                        (controls.next_page if ahead else controls.previous_page)()
                case "renew", bool(reread):
                    if self._renew is not None:
                        self._renew(reread)
                case "sound", int(rate), bytes(samples):
                    if self._ear is not None:
                        self._ear.restart(rate)
                        self._ear.push(_samples(samples))
                case "rest", *_:
                    if self._ear is not None:
                        self._ear.rest()
                case "log", int(level), str(text):
                    logger.log(level, "%s", text)
                case "failed", *_:
                    return


def _heard(process: subprocess.Popen[bytes]) -> tuple[Any, ...]:
    """The next thing it tells; "failed" where it tells nothing more."""
    assert process.stdout is not None
    try:
        return tuple(pickle.load(process.stdout))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        return "failed", "the stand's process has ended: begin again"


def _samples(data: bytes) -> np.ndarray:
    """(n,) float32 of little-endian bytes, within full scale; what is no number is silence."""
    return np.clip(np.nan_to_num(np.frombuffer(data, "<f4")), -1.0, 1.0)


# in the other process


class _Outward(logging.Handler):
    """Tells the session's process what viewers want, and what is logged."""

    def __init__(self, pipe: BinaryIO) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe
        self._lock_pipe = threading.Lock()

    def tell(self, *message: object) -> None:
        packed = pickle.dumps(message)
        with self._lock_pipe, suppress(OSError):
            self._pipe.write(packed)
            self._pipe.flush()

    def wish(self, control: Control) -> None:
        self.tell("wish", control)

    def turn(self, ahead: bool) -> None:
        self.tell("turn", ahead)

    def renew(self, reread: bool) -> None:
        self.tell("renew", reread)

    def sound(self, rate: int, samples: bytes) -> None:
        self.tell("sound", rate, bytes(samples))

    def rest(self) -> None:
        self.tell("rest")

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() if error is None else f"{record.getMessage()}: {error!r}"
        self.tell("log", record.levelno, " ".join(text.split()))


async def _serve(settings: Settings, outward: _Outward, inward: BinaryIO) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    server = Server(settings, outward)
    todo: dict[str, Callable[..., None]] = {
        "begin": server.begin,
        "extend": server.extend,
        "tell": server.tell,
        "end": server.end,
    }

    def read() -> None:
        with suppress(EOFError, OSError):
            while True:
                what, *said = pickle.load(inward)
                loop.call_soon_threadsafe(todo[what], *said)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stopped.set)

    threading.Thread(target=read, name="session", daemon=True).start()
    await server.serve(lambda port: outward.tell("ready", port), stopped)


def main() -> None:
    """Serve what the first message on standard input says, until it ends."""
    inward = os.fdopen(os.dup(0), "rb")
    outward = _Outward(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    logging.getLogger().addHandler(outward)
    (settings,) = pickle.load(inward)
    try:
        asyncio.run(_serve(settings, outward, inward))
    except SinkError as error:
        outward.tell("failed", str(error))


if __name__ == "__main__":
    main()
