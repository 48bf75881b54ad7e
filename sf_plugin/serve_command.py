"""The command `scorefollow serve`: a music stand in the browser, session after session."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from sf_plugin.audio.source import Source
from sf_plugin.errors import SinkError
from sf_plugin.score.model import Score
from sf_plugin.score.structure import parse_order
from sf_plugin.sinks import Sink
from sf_plugin.terminal import Display, command, say

if TYPE_CHECKING:
    from sf_adapters.stand.process import ServerProcess
    from sf_plugin.session import Session

BROWSER_RATE = 48000
"""Hz until a browser says what its microphone has."""

POLL_SECONDS = 0.5


class Parts(NamedTuple):
    """How `scorefollow follow` reads a score, listens, tells others, and puts these together."""

    load_score: Callable[[argparse.Namespace], Score]
    open_source: Callable[[argparse.Namespace], Source]
    make_sinks: Callable[[argparse.Namespace], list[tuple[str, Sink]]]
    make_session: Callable[..., Session]


def add_parser(commands: Any, parts: Parts) -> argparse.ArgumentParser:
    """`scorefollow serve`, without its arguments."""
    return command(
        commands,
        "serve",
        partial(_serve, parts=parts),
        "put a score on a music stand in the browser",
        "Show the pages of SCORE in a browser, listen, mark the measure that is played and\n"
        "turn the pages; performance after performance, until Ctrl-C. The microphone is the\n"
        "browser's, or with --mic this computer's.\n\n"
        "The stand is for this computer alone unless --host is given; then whoever opens it\n"
        "needs the address with the token, as it is printed.",
        ("on this computer, with its browser", "scorefollow serve sonata.pdf --open"),
        (
            "pages on a tablet, sound from this computer's microphone",
            "scorefollow serve sonata.pdf --host 0.0.0.0 --mic",
        ),
        (
            "a tablet alone: browsers lend their microphone to https addresses only",
            "scorefollow serve sonata.pdf --host 0.0.0.0 --tls",
        ),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `serve` alone has."""
    where = parser.add_argument_group("the stand")
    where.add_argument(
        "--host",
        metavar="HOST",
        default="127.0.0.1",
        help="an address of this computer at which others may see it; 0.0.0.0 for all it has "
        "(default: this computer alone)",
    )
    where.add_argument(
        "--port", metavar="N", type=_port, default=8765, help="(default %(default)s)"
    )
    where.add_argument(
        "--tls",
        metavar="CERT,KEY",
        nargs="?",
        const="",
        help="https with this certificate and key, or with a pair made by openssl",
    )
    how = where.add_mutually_exclusive_group()
    how.add_argument("--open", action="store_true", help="open it in a browser here")
    how.add_argument(
        "--correct",
        action="store_true",
        help="open it in a browser here, where systems, measures and signs can be corrected",
    )


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 to 65535")
    return value


def _serve(args: argparse.Namespace, *, parts: Parts) -> int:
    from sf_adapters.stand.door import Address
    from sf_adapters.stand.process import ServerProcess
    from sf_adapters.stand.tls import certificate_of

    certificate = None if args.tls is None else certificate_of(args.tls)
    evening = _Evening(args, parts)
    server = ServerProcess(
        Address(args.host, args.port),
        evening.score,
        args.score,
        certificate=certificate,
        browser_sound=evening.by_browser,
        renew=evening.renew,
    )
    server.start()
    with server:
        for line in server.invitation():
            say(line)
        if args.open or args.correct:
            webbrowser.open(server.url + ("#correct" if args.correct else ""))
        evening.last(server)
    return 0


class _Evening:
    """Session after session with one follower.

    A session ends when its sound does, when a viewer says so, or when another is wanted.
    """

    def __init__(self, args: argparse.Namespace, parts: Parts) -> None:
        self.by_browser = args.mic is None and args.audio is None and args.midi_in is None
        self._args = args
        self._parts = parts
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._session: Session | None = None
        self._load()

    def _load(self) -> None:
        self.score = self._parts.load_score(self._args)
        self.score.order = parse_order(self._args.order)

    def renew(self, reread: bool) -> None:
        """Another session where none runs; from any thread.

        `reread`: also where one runs, with the score read from its files again.
        """
        session = self._session
        if session is None or reread:
            self._wanted.put(reread)
        if session is not None and reread:
            session.controls.stop()

    def last(self, server: ServerProcess) -> None:
        """Until somebody interrupts."""
        from sf_plugin.api import make_follower

        follower = make_follower(self._args.follower)
        while True:
            self._hold_session(server, follower)
            if self._wait(server):
                self._load()

    def _hold_session(self, server: ServerProcess, follower: Any) -> None:
        from sf_adapters.stand import Stand

        source = self._listen(server)
        self._args.realtime = not source.live
        display = Display(live=True)
        sinks: Sequence[tuple[str, Sink]] = [
            ("stand", Stand(server=server)),
            *self._parts.make_sinks(self._args),
            ("status line", display),
        ]
        session = self._parts.make_session(self._args, source, follower, self.score, sinks, display)
        self._session = session
        with display.shown():
            session.run()
        self._session = None

    def _listen(self, server: ServerProcess) -> Source:
        from sf_plugin.audio.live import PushedSource

        if not self.by_browser:
            return self._parts.open_source(self._args)
        source = PushedSource(BROWSER_RATE, name="the browser's microphone")
        server.listen(source)
        return source

    def _wait(self, server: ServerProcess) -> bool:
        """Until another session is wanted; whether the score is to be read again.

        Raises:
            SinkError: nobody can want one any more.
        """
        while True:
            if not server.alive:
                raise SinkError("the stand's process has ended: begin again")
            try:
                reread = self._wanted.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            while not self._wanted.empty():
                reread |= self._wanted.get()
            return reread
