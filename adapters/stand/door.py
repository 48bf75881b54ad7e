"""Who may come in: addresses, names, tokens and origins."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from sf_plugin.errors import SinkError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8765

TOKEN_VARIABLE = "SCOREFOLLOW_TOKEN"
SHORTEST_TOKEN = 8

HOST_HEADER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """`[HOST:]PORT`; what is left out is the default.

    Raises:
        SinkError: it is written in another way.
    """
    host, colon, port = text.strip().rpartition(":")
    if not text.strip():
        return Address()
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535) or (colon and not host):
        raise SinkError(f"the stand's address {text!r}: write [HOST:]PORT such as 8765")
    return Address(host.strip("[] ") or DEFAULT_HOST, int(port))


def token_for(address: Address) -> str | None:
    """The token that visitors need: none on this machine alone.

    Raises:
        SinkError: the one in the environment is too short.
    """
    if address.is_loopback:
        return None
    given = os.environ.get(TOKEN_VARIABLE)
    if given is not None and len(given) < SHORTEST_TOKEN:
        raise SinkError(
            f"{TOKEN_VARIABLE} is shorter than {SHORTEST_TOKEN} characters: choose a longer one, "
            "or leave it away for one by chance"
        )
    return given or secrets.token_urlsafe(16)


def cookie_name(host: str) -> str:
    """Of the token at a Host header; browsers do not keep cookies apart by the port."""
    return f"sf_token_{host.rpartition(':')[2]}" if re.search(r":\d+$", host) else "sf_token"


def own_address() -> str:
    """This machine's address in its network, as others see it; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def url_of(address: Address, port: int, token: str | None, *, secure: bool) -> str:
    """What to open in a browser, here or elsewhere, to come in."""
    host = address.host
    if host in ("", "0.0.0.0", "::"):
        host = own_address()
    host = f"[{host}]" if ":" in host else host
    query = f"?token={quote(token, safe='')}" if token else ""
    return f"{'https' if secure else 'http'}://{host}:{port}/{query}"


@dataclass(frozen=True, slots=True)
class Door:
    """Lets requests in or says why not.

    Attributes:
        token: what visitors must show; None where the stand is for this machine alone,
            which is then the only name it answers to.
        host: where it listens.
    """

    token: str | None
    host: str

    def refusal(
        self,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        cookies: Mapping[str, str],
        *,
        acts: bool,
    ) -> tuple[int, str] | None:
        """HTTP status and reason; None lets the request in.

        Args:
            headers: with case-insensitive names.
            query: of the URL.
            cookies: of the request.
            acts: whether it may change something, or opens a WebSocket.
        """
        host = headers.get("Host", "")
        named = HOST_HEADER.fullmatch(host)
        if named is None:
            return 400, "the Host header names no host"
        if self.token is None and named[1].lower() not in {*LOOPBACK_NAMES, self.host.lower()}:
            return 403, f"this stand is for this machine alone, and not called {named[1]}"
        origin = headers.get("Origin")
        if acts and origin is not None and not _is_from(origin, host):
            return 403, "another site may not do this"
        if self.token is not None and not self._knows(headers, query, cookies, host):
            return 401, "open the address with the token, as it was printed when the stand began"
        return None

    def _knows(
        self,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        cookies: Mapping[str, str],
        host: str,
    ) -> bool:
        assert self.token is not None
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        shown = (
            query.get("token"),
            cookies.get(cookie_name(host)),
            bearer.strip() if scheme.lower() == "bearer" else None,
        )
        return any([_same(text, self.token) for text in shown if text is not None])


def _same(shown: str, token: str) -> bool:
    return hmac.compare_digest(
        shown.encode("utf-8", "backslashreplace"), token.encode("utf-8", "backslashreplace")
    )


def _is_from(origin: str, host: str) -> bool:
    scheme, _, there = origin.partition("://")
    return scheme in ("http", "https") and there.lower() == host.lower()
