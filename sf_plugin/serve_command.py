"""The command `scorefollow serve`: a music stand in the browser, session after session."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from sf_plugin.arguments import (
    make_sinks,
    score_argument,
    score_of,
    sound_arguments,
    source_of,
)
from sf_plugin.audio.source import Source
from sf_plugin.errors import ScoreFollowerError, SinkError
from sf_plugin.follow_command import following_arguments, make_session
from sf_plugin.score.structure import parse_order
from sf_plugin.sinks import Sink
from sf_plugin.terminal import Display, command, one_line, say

if TYPE_CHECKING:
    from sf_adapters.stand.process import ServerProcess
    from sf_plugin.session import Session

BROWSER_RATE = 48000
"""Hz until a browser says what its microphone has."""

POLL_SECONDS = 0.5


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "serve",
        _serve,
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
    score_argument(parser)
    sound_arguments(parser, "sound (default: the browser's microphone)", required=False)
    _stand_arguments(parser)
    following_arguments(parser)


def _stand_arguments(parser: argparse.ArgumentParser) -> None:
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


def _serve(args: argparse.Namespace) -> int:
    from sf_adapters.stand.door import Address
    from sf_adapters.stand.process import ServerProcess
    from sf_adapters.stand.tls import certificate_of

    certificate = None if args.tls is None else certificate_of(args.tls)
    evening = _Evening(args)
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
        server.invite()
        if args.open or args.correct:
            webbrowser.open(server.url + ("#correct" if args.correct else ""))
        evening.last(server)
    return 0


class _Evening:
    """Session after session with one follower.

    A session ends when its sound does, when a viewer says so, or when another is wanted.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.by_browser = args.mic is None and args.audio is None and args.midi_in is None
        self._args = args
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._session: Session | None = None
        """The last; None while one is being made."""
        self._load()

    def _load(self) -> None:
        self.score = score_of(self._args)
        self.score.order = parse_order(self._args.order)

    def renew(self, reread: bool) -> None:
        """Another session where one is over or ends now; from any thread.

        `reread`: also where one runs, with the score read from its files again.
        """
        if reread:
            self._wanted.put(True)
            if self._session is not None:
                self._session.controls.stop()
        elif self._session is not None and self._session.controls.layout.pages:
            self._wanted.put(False)

    def last(self, server: ServerProcess) -> None:
        """Until somebody interrupts; a later session that cannot begin is told and left out."""
        from sf_plugin.api import make_follower

        follower = make_follower(self._args.follower)
        self._hold_session(server, follower)
        while True:
            reread = self._wait(server)
            last, self._session = self._session, None
            try:
                if reread:
                    self._load()
                self._hold_session(server, follower)
            except ScoreFollowerError as error:
                say(f"scorefollow: {one_line(error)}")
                self._session = last

    def _hold_session(self, server: ServerProcess, follower: Any) -> None:
        from sf_adapters.stand import Stand

        source = self._listen(server)
        self._args.realtime = not source.live
        display = Display(live=True)
        sinks: Sequence[tuple[str, Sink]] = [
            ("stand", Stand(server=server)),
            *make_sinks(self._args),
            ("status line", display),
        ]
        session = make_session(self._args, source, follower, self.score, sinks, display)
        self._session = session
        if not self._wanted.empty():
            session.controls.stop()
        with display.shown():
            session.run()

    def _listen(self, server: ServerProcess) -> Source:
        from sf_plugin.audio.live import PushedSource

        if not self.by_browser:
            return source_of(self._args)
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
