"""Raw samples over the network."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import re
import secrets
import socket
import threading
import time
from contextlib import suppress

from sf_plugin.audio.live import PATIENCE_SECONDS, PushedSource
from sf_plugin.audio.pcm import PcmFormat
from sf_plugin.errors import AudioError

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "SCOREFOLLOW_TOKEN"
GREETING = b"SF-TOKEN "

READ_BYTES = 16384
BEGINNING_BYTES = 8
MOST_LINE_BYTES = 256
MOST_CONNECTIONS = 16
TOKEN_SECONDS = 5.0
WRONG_TOKEN_SECONDS = 1.0

NOT_SOUND = re.compile(
    rb"RIFF|fLaC|OggS|ID3[\x02-\x04]|(GET|HEAD|POST|PUT|DELETE|OPTIONS|CONNECT|PATCH|TRACE) "
)
"""How files, browsers and others begin that are no raw samples."""

SPEC = re.compile(r"(?:(?P<host>\[[^]]*\]|[^,:]*):)?(?P<port>\d+)(?:,(?P<format>.*))?")


class TcpSource(PushedSource):
    """Raw samples from whoever connects, one sender at a time.

    Time goes on in silence while nobody sends.  Beyond this computer a sender has to begin
    with a line `SF-TOKEN token`.

    Args:
        host: address to listen at.
        port: 0 for any that is free; `port` then has it.
        form: of the samples; 16 bits, mono, 44100 Hz where not given.
        token: what a sender has to know where `host` is not this computer alone; by
            default $SCOREFOLLOW_TOKEN, or a new one that is told in a warning.

    Raises:
        AudioError: it cannot listen there.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        form: PcmFormat | None = None,
        *,
        token: str | None = None,
    ) -> None:
        self._form = form or PcmFormat()
        super().__init__(self._form.rate, name="network sound")
        self._token: bytes | None = None
        self._closed = False
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, address = infos[0]
            self._server = socket.create_server(address[:2], family=family)
        except (OSError, OverflowError, UnicodeError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if isinstance(number, int) and number > 0 else error
            raise AudioError(
                f"network sound: cannot listen at {host}:{port}: {reason}: choose another port"
            ) from None
        self.host, self.port = self._server.getsockname()[:2]
        if not ipaddress.ip_address(self.host).is_loopback:
            self._token = (token or os.environ.get(TOKEN_VARIABLE) or self._new_token()).encode()
        self._seat = threading.Lock()
        self._sender: socket.socket | None = None
        self._heard = 0.0
        self._connections: set[socket.socket] = set()
        self._refused: set[str] = set()
        threading.Thread(target=self._welcome, name="network sound", daemon=True).start()

    @classmethod
    def from_spec(cls, spec: str) -> TcpSource:
        """`[HOST:]PORT[,ENCODING[,RATE[,CHANNELS]]]`."""
        found = SPEC.fullmatch(spec.strip())
        if found is None or int(found["port"]) > 65535:
            raise AudioError(
                f"network sound {spec!r}: write [HOST:]PORT,ENCODING,RATE,CHANNELS such as "
                "9100,s16le,44100,1"
            )
        host = (found["host"] or "127.0.0.1").strip("[]")
        return cls(host, int(found["port"]), PcmFormat.from_spec(found["format"] or ""))

    def close(self) -> None:
        self._closed = True
        super().close()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._seat:
            for connection in self._connections:
                _hang_up(connection)

    def _new_token(self) -> str:
        token = secrets.token_urlsafe(12)
        logger.warning(
            "network sound at %s:%d: a sender has to begin with the line '%s%s'; "
            "%s sets a token of your own",
            self.host,
            self.port,
            GREETING.decode(),
            token,
            TOKEN_VARIABLE,
        )
        return token

    def _welcome(self) -> None:
        while True:
            try:
                connection, address = self._server.accept()
            except OSError:
                return
            with self._seat:
                if self._closed or len(self._connections) >= MOST_CONNECTIONS:
                    connection.close()
                    continue
                self._connections.add(connection)
            threading.Thread(
                target=self._receive, args=(connection, address[0]), daemon=True
            ).start()

    def _receive(self, connection: socket.socket, host: str) -> None:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._token is not None:
                _check_token(connection, self._token)
            self._hear(connection)
        except _Refused as refused:
            if (reason := str(refused)) not in self._refused:
                self._refused.add(reason)
                logger.warning("network sound: %s %s", host, reason)
        except OSError as error:
            logger.debug("network sound: %s: %s", host, error)
        finally:
            with self._seat:
                self._connections.discard(connection)
            connection.close()

    def _hear(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        data = more = connection.recv(READ_BYTES)
        while more and len(data) < BEGINNING_BYTES:
            more = connection.recv(READ_BYTES)
            data += more
        if NOT_SOUND.match(data):
            raise _Refused("sends no raw samples: send them without a header (ffmpeg -f s16le)")
        if not data or not self._sit_down(connection):
            return
        try:
            while data:
                self._heard = time.monotonic()
                frames, rest = self._form.read(data)
                self.push(frames)
                more = connection.recv(READ_BYTES)
                data = rest + more if more else b""
        finally:
            with self._seat:
                if self._sender is connection:
                    self._sender = None
                    self.rest()
                    self._say("the sender is gone: silence is heard until it is back")

    def _sit_down(self, connection: socket.socket) -> bool:
        """Be the one that is heard, where nobody is or who is has fallen silent."""
        with self._seat:
            if self._sender is not None:
                if time.monotonic() - self._heard < PATIENCE_SECONDS:
                    raise _Refused("is not heard: another sender is")
                _hang_up(self._sender)
            if self._heard:
                self._say("there is a sender again")
            self._sender, self._heard = connection, time.monotonic()
            return True

    def _say(self, what: str) -> None:
        if not self._closed:
            logger.warning("network sound: %s", what)


class _Refused(Exception):
    """A connection that is not listened to; the message says why."""


def _check_token(connection: socket.socket, token: bytes) -> None:
    connection.settimeout(TOKEN_SECONDS)
    deadline = time.monotonic() + TOKEN_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        if len(line) > MOST_LINE_BYTES or time.monotonic() > deadline:
            raise _Refused("does not begin with a token: send 'SF-TOKEN token' first")
        byte = connection.recv(1)
        if not byte:
            return
        line += byte
    said = line.strip()
    if not hmac.compare_digest(said, GREETING + token):
        time.sleep(WRONG_TOKEN_SECONDS)
        raise _Refused("has a wrong token: send the line 'SF-TOKEN token' that was told")


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
