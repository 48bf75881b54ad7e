"""Wishes to the session by OSC over UDP: `--osc-in [HOST:]PORT[,token=SECRET]`.

    /sf/next, /sf/previous             the page after or before the one shown
    /sf/page    ,i    page             show this page
    /sf/goto    ,i    measure          the music is here; measures in reading order
    /sf/goto    ,s    "page:measure"   the same, by a page and one of its measures
    /sf/point   ,iff  page x y         the music is at this place
    /sf/reset                          a new performance begins
    /sf/pause, /sf/resume              hear silence; hear the sound again
    /sf/stop                           end the session

Whole floats count as integers.  What needs no argument may have a number: 0, a button
let go, does nothing.  Addresses are taken literally, bundles at once.  A wish is answered, to
the port that it came from, with `/sf/ok`, its address and its arguments; one that cannot be
granted with `/sf/error ,s`.

Only this computer is heard unless HOST is given.  Any other host needs a token, here or
in the environment variable SCOREFOLLOW_TOKEN; it is then the first argument, a string,
of every message.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pythonosc.osc_message_builder import build_msg
from pythonosc.parsing.osc_types import ParseError, get_float, get_int, get_string

from sf_plugin.controls import Controls
from sf_plugin.errors import ScoreFollowerError, SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.score.places import Start
from sf_plugin.sinks import Sink

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "SCOREFOLLOW_TOKEN"

MOST_BYTES = 4096
"""Longer packets are not read."""

MOST_NESTED = 4
"""Bundles in bundles."""

COMPLAIN_SECONDS = 10.0
"""Time between two warnings about what is not understood."""

LOOK_SECONDS = 0.2
"""Time between two looks at whether the session has ended."""

Argument = int | float | str
Message = tuple[str, list[Argument]]
"""Address, arguments."""

_BUNDLE = b"#bundle\0"
_READERS: dict[str, Callable[[bytes, int], tuple[Any, int]]] = {
    "i": get_int,
    "f": get_float,
    "s": get_string,
}

_SIMPLE: dict[str, Callable[[Controls], None]] = {
    "/sf/next": Controls.next_page,
    "/sf/previous": Controls.previous_page,
    "/sf/reset": Controls.reset,
    "/sf/pause": Controls.pause,
    "/sf/resume": Controls.resume,
    "/sf/stop": Controls.stop,
}


class NotUnderstood(Exception):
    """A packet that is no wish."""


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--osc-in`."""
    register(
        "osc-in",
        OscControl,
        help="obey OSC that comes to this UDP port: /sf/next, /sf/goto, /sf/pause and others; "
        "HOST:PORT to be reached from elsewhere, with a token",
        metavar="PORT[,token=SECRET]",
    )


def read_packet(packet: bytes) -> list[Message]:
    """All messages of a packet.

    Raises:
        NotUnderstood: any of it is not well formed, or has other types than i, f and s.
    """
    if len(packet) > MOST_BYTES:
        raise NotUnderstood(f"more than {MOST_BYTES} bytes")
    try:
        return list(_messages(packet, 0))
    except (ParseError, UnicodeDecodeError):
        raise NotUnderstood("broken OSC") from None


def _messages(packet: bytes, nested: int) -> Iterator[Message]:
    if not packet.startswith(_BUNDLE):
        yield _message(packet)
        return
    if nested == MOST_NESTED:
        raise NotUnderstood("bundles in bundles in bundles")
    at = len(_BUNDLE) + 8
    if len(packet) < at:
        raise NotUnderstood("broken OSC")
    while at < len(packet):
        size, at = get_int(packet, at)
        if not 0 < size <= len(packet) - at:
            raise NotUnderstood("broken OSC")
        yield from _messages(packet[at : at + size], nested + 1)
        at += size


def _message(packet: bytes) -> Message:
    if not packet.startswith(b"/"):
        raise NotUnderstood("no OSC")
    address, at = get_string(packet, 0)
    tags = ","
    if at < len(packet):
        tags, at = get_string(packet, at)
    if not tags.startswith(",") or not set(tags[1:]) <= set(_READERS):
        raise NotUnderstood(f"{address[:40]!r} with types {tags[:20]!r}")
    arguments = []
    for tag in tags[1:]:
        if at >= len(packet):
            raise NotUnderstood("broken OSC")
        argument, at = _READERS[tag](packet, at)
        arguments.append(argument)
    if at != len(packet):
        raise NotUnderstood("broken OSC")
    return address, arguments


def obey(controls: Controls, message: Message) -> None:
    """Make a message a wish.

    Raises:
        NotUnderstood: it is none.
        ScoreError: there is no such page or measure.
    """
    address, arguments = message
    match (address, *map(_whole, arguments)):
        case "/sf/page", int(page):
            controls.show(page)
        case "/sf/goto", int(measure):
            controls.goto(measure)
        case "/sf/goto", str(place) if len(place) <= 20 and place.isprintable():
            start = Start.of(place)
            controls.point(start.page, *start.place(controls.layout))
        case "/sf/point", int(page), int() | float() as x, int() | float() as y:
            controls.point(page, x, y)
        case (simple,) if simple in _SIMPLE:
            _SIMPLE[address](controls)
        case simple, int() | float() as pressed if simple in _SIMPLE:
            if pressed:
                _SIMPLE[address](controls)
        case _:
            kinds = ", ".join(type(argument).__name__ for argument in arguments) or "nothing"
            raise NotUnderstood(f"{address[:40]!r} with {kinds}")


def _whole(argument: Argument) -> Argument:
    """Programs that know floats only mean integers by whole ones."""
    whole = isinstance(argument, float) and argument.is_integer()
    return int(argument) if whole else argument


def parse_address(spec: str) -> tuple[str, int, str]:
    """Host, port and token of `[HOST:]PORT[,token=SECRET]`; an empty token where none is named.

    Raises:
        SinkError: it is written in another way.
    """
    address, comma, option = spec.partition(",")
    host, _, port = address.strip().rpartition(":")
    name, _, token = option.strip().partition("=")
    well = port.isdecimal() and 1 <= int(port) <= 65535
    if not well or (comma and (name != "token" or not token)):
        raise SinkError(f"OSC control {spec!r}: write [HOST:]PORT[,token=SECRET], such as 9100")
    return host.strip("[] ") or "127.0.0.1", int(port), token


class OscControl(Sink):
    """Obeys OSC messages that come to a UDP port, in a thread of its own.

    Args:
        address: `[HOST:]PORT[,token=SECRET]`.

    Raises:
        SinkError: the address is written in another way.
    """

    def __init__(self, address: str) -> None:
        self._host, self._port, self._token = parse_address(address)
        self._controls: Controls | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._complained = -COMPLAIN_SECONDS
        self._unsaid = 0

    def attach(self, controls: Controls) -> None:
        self._controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        listening = self._listen()
        listening.settimeout(LOOK_SECONDS)
        self._ending.clear()
        self._thread = threading.Thread(
            target=self._work, args=(listening,), name="OSC control", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ending.set()
            thread.join()

    def _listen(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            raise SinkError(f"OSC control: {self._host!r} is not known ({error})") from None
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        family, kind, protocol, _, address = found[0]
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
            self._token = self._token or os.environ.get(TOKEN_VARIABLE, "")
            if not self._token:
                raise SinkError(
                    f"OSC control on {self._host!r} can be reached by others: set "
                    f"{TOKEN_VARIABLE} to a secret and send it as first argument"
                )
        opened = socket.socket(family, kind, protocol)
        try:
            opened.bind(address)
        except OSError as error:
            opened.close()
            raise SinkError(
                f"OSC control cannot listen on {self._host}:{self._port}: {error.strerror}: "
                "choose another port for --osc-in"
            ) from None
        return opened

    def _work(self, opened: socket.socket) -> None:
        with opened:
            while not self._ending.is_set():
                try:
                    packet, sender = opened.recvfrom(MOST_BYTES + 1)
                except (TimeoutError, ConnectionResetError):
                    # Windows tells here that an answer reached nobody.
                    continue
                except OSError as error:
                    logger.warning("OSC control hears nothing any more: %s", error)
                    return
                self._hear(packet, sender, opened)

    def _hear(self, packet: bytes, sender: Any, opened: socket.socket) -> None:
        """Obey a packet of which every message is well formed and knows the token."""
        try:
            for message in [self._allowed(message) for message in read_packet(packet)]:
                self._obey(message, sender, opened)
        except NotUnderstood as reason:
            self._complain(sender, str(reason))

    def _allowed(self, message: Message) -> Message:
        if not self._token:
            return message
        address, arguments = message
        told = str(arguments[0]) if arguments else ""
        if not hmac.compare_digest(told.encode(), self._token.encode()):
            raise NotUnderstood("its first argument is not the token")
        return address, arguments[1:]

    def _obey(self, message: Message, sender: Any, opened: socket.socket) -> None:
        if self._controls is None:
            return
        try:
            obey(self._controls, message)
        except ScoreFollowerError as error:
            self._complain(sender, str(error))
            answer = build_msg("/sf/error", [str(error)])
        else:
            address, arguments = message
            answer = build_msg("/sf/ok", [address, *arguments])
        with suppress(OSError):
            opened.sendto(answer.dgram, sender)

    def _complain(self, sender: Any, reason: str) -> None:
        now = time.monotonic()
        if now - self._complained < COMPLAIN_SECONDS:
            self._unsaid += 1
            return
        more = f" (and {self._unsaid} others before)" if self._unsaid else ""
        self._complained, self._unsaid = now, 0
        logger.warning("OSC from %s is not obeyed: %s%s", sender[0], reason, more)
