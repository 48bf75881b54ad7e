"""The stand's server: pages, places and wishes over HTTP and WebSockets; see `protocol.md`.

What the session tells is kept short for each viewer: of positions and levels the newest,
of all else everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from sf_adapters.stand.door import Address, Door, cookie_name, url_of
from sf_adapters.stand.invitation import picture
from sf_adapters.stand.pages import WIDTHS, Pictures
from sf_adapters.stand.tls import tls_context
from sf_adapters.stand.wishes import obey, parse_wish
from sf_plugin import __version__
from sf_plugin.controls import Controls, Level
from sf_plugin.errors import ScoreError, ScoreFollowerError, SinkError
from sf_plugin.positions import Control, Event, Position
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.layout_files import checked, numbered
from sf_plugin.terminal import write_anew

logger = logging.getLogger(__name__)

POSITION_SECONDS = 0.05
"""Between two positions to a viewer, at least."""

LEVEL_SECONDS = 0.1

SIGN_SECONDS = 2.0
"""Whoever listens hears something at least so often, and knows by that that we are there."""

MOST_VIEWERS = 500
MOST_WAITING = 500
"""Events that may wait for a viewer; one for whom more wait is sent away."""

STUCK_SECONDS = 15.0
"""A viewer that takes nothing for so long is sent away."""

HEARTBEAT_SECONDS = 15.0

WISH_BYTES = 4096
LAYOUT_BYTES = 16_000_000
SOUND_BYTES = 65536

WISHES_A_SECOND = 20.0
BLOCKS_A_SECOND = 500.0

RATES = range(8000, 192_001)
"""Hz that a browser may record at."""

BUSY = 4009
"""The close code for a second microphone."""

AT_ONCE = struct.pack("ii", 1, 0)
"""To close a connection and forget what waits in it."""

STATIC = Path(__file__).parent / "static"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), screen-wake-lock=(self), fullscreen=(self)",
}

VISITORS_FAULTS = (HttpProcessingError, ConnectionError)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server shows, where and to whom.

    Attributes:
        address: where to listen; port 0 takes a free one.
        token: what visitors must show; None where none is needed.
        title: of the score.
        files: that its pages are drawn from.
        pages: how many there are.
        key: a name for these very pages.
        layout: what is known before a session begins.
        kept: where a corrected layout is written; None where it would not be used.
        certificate: files of the certificate and the key for HTTPS.
        browser_sound: whether a browser's microphone is heard.
        renews: whether a session can be begun from here.
    """

    address: Address
    token: str | None
    title: str
    files: tuple[Path, ...]
    pages: int
    key: str
    layout: Layout | None = None
    kept: Path | None = None
    certificate: tuple[Path, Path] | None = None
    browser_sound: bool = False
    renews: bool = False


class Listener(Protocol):
    """Hears what viewers want; called in the loop, and must return at once."""

    def wish(self, control: Control) -> None:
        """Of the session that runs."""

    def turn(self, ahead: bool) -> None:
        """To the page after or before the one that is shown when this is heeded."""

    def renew(self, reread: bool) -> None:
        """Another session; with the score read again, since its layout was corrected."""

    def sound(self, rate: int, samples: bytes) -> None:
        """float32, little-endian, mono."""

    def rest(self) -> None:
        """The microphone is gone."""


class TooManyWishes(ScoreError):
    """More in a second than anybody has."""


class Bucket:
    """So many drops a second, and twice as many at once."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._full = self._drops = 2 * rate
        self._last = now

    def take(self, now: float) -> bool:
        """Whether there is a drop left."""
        self._drops = min(self._full, self._drops + (now - self._last) * self._rate)
        self._last = now
        if self._drops < 1:
            return False
        self._drops -= 1
        return True


class _Viewer:
    """One browser, and what it is still to be sent."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.ws = ws
        self.wishes = Bucket(WISHES_A_SECOND, time.monotonic())
        self._transport = transport
        self._lines: deque[str] = deque()
        self._newest: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._sending_since: float | None = None

    def tell(self, line: str) -> None:
        """Send this, after what waits."""
        if len(self._lines) >= MOST_WAITING:
            self.drop()
            return
        self._lines.append(line)
        self._wake.set()

    def show(self, kind: str, line: str | None) -> None:
        """Send this instead of what waits of its kind; None: send nothing of it."""
        if line is None:
            self._newest.pop(kind, None)
        else:
            self._newest[kind] = line
            self._wake.set()

    async def write(self) -> None:
        """Send for ever."""
        with suppress(ConnectionError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._lines:
                    await self._send(self._lines.popleft())
                while self._newest:
                    await self._send(self._newest.pop(next(iter(self._newest))))

    async def _send(self, line: str) -> None:
        self._sending_since = time.monotonic()
        await self.ws.send_str(line)
        self._sending_since = None

    def is_stuck(self, now: float) -> bool:
        since = self._sending_since
        return since is not None and now - since > STUCK_SECONDS

    def drop(self) -> None:
        """Send it away."""
        _hang_up(self._transport)


class Server:
    """Shows a score and the sessions that follow it; everything happens in one loop.

    Args:
        settings: what to show, where and to whom.
        listener: hears what viewers want.
    """

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        self._door = Door(settings.token, settings.address.host)
        self._pictures = Pictures(settings.files)
        self._easel = ThreadPoolExecutor(1, "stand pages")
        self._drawing: dict[tuple[int, int], asyncio.Future[bytes]] = {}
        self._statics = _statics()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._controls = Controls(settings.pages)
        self._running = False
        self._known = settings.layout is not None
        self._layout_text = "null"
        self._position: Position | None = None
        self._position_due = 0.0
        self._position_timer: asyncio.TimerHandle | None = None
        self._viewers: set[_Viewer] = set()
        self._posts = Bucket(WISHES_A_SECOND, time.monotonic())
        self._speaking: _Speaker | None = None
        self._corrected: _Correction | None = None
        self._keeping: asyncio.Future[None] | None = None
        self._port = settings.address.port
        self.extend(settings.layout or Layout(()))

    async def serve(self, ready: Callable[[int], None], stopped: asyncio.Event) -> None:
        """Listen until `stopped` is set; `ready` is told the port.

        Raises:
            SinkError: the address is taken or not of this machine.
        """
        self._loop = asyncio.get_running_loop()
        address, certificate = self._settings.address, self._settings.certificate
        runner = web.AppRunner(
            self._app(), handle_signals=False, access_log=None, shutdown_timeout=2.0, logger=logger
        )
        logger.addFilter(_is_ours)
        await runner.setup()
        chores = asyncio.create_task(self._chores())
        try:
            tls = None if certificate is None else tls_context(*certificate)
            try:
                await web.TCPSite(runner, address.host, address.port, ssl_context=tls).start()
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise SinkError(
                    f"the stand cannot be at {address.host}:{address.port} ({reason}): "
                    "choose another address"
                ) from None
            self._port = runner.addresses[0][1]
            ready(self._port)
            await stopped.wait()
        finally:
            chores.cancel()
            if self._corrected is not None and self._corrected.waits:
                logger.warning(
                    "a corrected layout is not kept: not all pages were read, or the last has no "
                    "music ('scorefollow layout SCORE --keep' reads them all)"
                )
            await runner.cleanup()
            self._pictures.close()
            self._easel.shutdown(wait=False, cancel_futures=True)

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=LAYOUT_BYTES)
        app.on_response_prepare.append(self._finish)
        app.on_shutdown.append(self._send_home)
        app.router.add_get("/", self._index)
        app.router.add_get("/static/{name}", self._static)
        app.router.add_get("/pages/{page}.png", self._picture)
        app.router.add_get("/api/score", self._tell_score)
        app.router.add_get("/api/state", self._tell_state)
        app.router.add_post("/api/control", self._control)
        app.router.add_get("/api/layout", self._tell_layout)
        app.router.add_put("/api/layout", self._correct)
        app.router.add_get("/address.svg", self._address_picture)
        app.router.add_get("/ws", self._view, allow_head=False)
        app.router.add_get("/sound", self._hear, allow_head=False)
        return app

    async def _chores(self) -> None:
        told, due = None, 0.0
        while True:
            await asyncio.sleep(LEVEL_SECONDS)
            now = time.monotonic()
            for viewer in list(self._viewers):
                if viewer.is_stuck(now):
                    viewer.drop()
            level = self._level()
            if now >= due or (self._running and level != told):
                told, due = level, now + SIGN_SECONDS
                line = json.dumps({"type": "level", **level})
                for viewer in self._viewers:
                    viewer.show("level", line)

    # what the session tells

    def begin(self, layout: Layout, known: bool, shown: int) -> None:
        """A session begins; `known`: the layout was there before the pages were read."""
        self._controls = Controls(self._settings.pages)
        self._controls.shown = shown
        self._running, self._known = True, known
        if known:
            self._corrected = None
        self._forget_position()
        self.extend(layout)
        self._greet()

    def extend(self, layout: Layout) -> None:
        """More of the score was read."""
        self._controls.layout = layout
        self._layout_text = _compact(layout)
        self._broadcast(f'{{"type":"layout","layout":{self._layout_text}}}')
        if self._corrected is not None and self._corrected.waits and self._is_read:
            self._keeping = asyncio.ensure_future(self._keep_later())

    def end(self) -> None:
        """The session is over; the stand is still there."""
        if self._running:
            self._send_position()
            self._running = False
            self._greet()

    def tell(self, event: Event, shown: int, paused: bool, level: Level) -> None:
        """Something happened; and how things are."""
        controls = self._controls
        controls.shown, controls.paused, controls.level = shown, paused, level
        if isinstance(event, Position):
            self._position = event
            if self._viewers and self._position_timer is None:
                assert self._loop is not None
                due = max(self._position_due, self._loop.time())
                self._position_timer = self._loop.call_at(due, self._send_position)
            return
        self._broadcast(event.to_json())
        if isinstance(event, Control) and event.action == "reset":
            self._forget_position()
            self._greet()

    def _send_position(self) -> None:
        if self._position_timer is not None:
            self._position_timer.cancel()
            self._position_timer = None
        if self._position is None or self._loop is None:
            return
        self._position_due = self._loop.time() + POSITION_SECONDS
        line = self._position.to_json()
        for viewer in self._viewers:
            viewer.show("position", line)

    def _forget_position(self) -> None:
        self._position = None
        for viewer in self._viewers:
            viewer.show("position", None)

    def _broadcast(self, line: str) -> None:
        for viewer in list(self._viewers):
            viewer.tell(line)

    def _greet(self) -> None:
        self._broadcast(self._hello())

    def _hello(self) -> str:
        return json.dumps({"type": "hello", **self._state(), "version": __version__})

    def _state(self) -> dict[str, Any]:
        position = self._position
        return {
            "shown": self._controls.shown,
            "paused": self._controls.paused,
            "position": None if position is None else position.to_dict(),
            "state": "waiting" if position is None else position.state,
            "level": self._level(),
            "running": self._running,
        }

    def _level(self) -> dict[str, float]:
        level = self._controls.level
        return {"rms": round(level.rms, 5), "peak": round(level.peak, 5)}

    # who comes in

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        acts = request.method not in ("GET", "HEAD") or request.path in ("/ws", "/sound")
        if len(request.headers.getall("Host", ())) != 1:
            return _error(400, "one Host header is needed")
        refusal = self._door.refusal(request.headers, request.query, request.cookies, acts=acts)
        if refusal is not None:
            return _error(*refusal)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        except ScoreFollowerError as error:
            return _error(400, str(error))

    async def _finish(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        host = request.headers.get("Host", "")
        sockets = f"ws://{host} wss://{host}" if response.status < 400 else ""
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
            "img-src 'self' data: blob:; manifest-src 'self'; worker-src 'self'; "
            f"connect-src 'self' {sockets}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["Server"] = "scorefollow"

    async def _send_home(self, app: web.Application) -> None:
        open_ones = [viewer.ws for viewer in self._viewers]
        if self._speaking is not None:
            open_ones.append(self._speaking.ws)
        away = [ws.close(code=WSCloseCode.GOING_AWAY) for ws in open_ones]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*away, return_exceptions=True), 1.0)

    # what can be had

    async def _index(self, request: web.Request) -> web.StreamResponse:
        response = self._file(request, "index.html")
        if self._settings.token is not None and "token" in request.query:
            response.set_cookie(
                cookie_name(request.headers["Host"]),
                self._settings.token,
                httponly=True,
                samesite="Strict",
                secure=self._settings.certificate is not None,
            )
        return response

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return self._file(request, request.match_info["name"])

    def _file(self, request: web.Request, name: str) -> web.Response:
        if name not in self._statics:
            return _error(404, "there is no such file")
        kind, body = self._statics[name]
        return _cached(request, body, kind)

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        page = _number(request.match_info["page"], range(1, self._settings.pages + 1))
        width = _number(request.query.get("width", ""), WIDTHS)
        if page is None or width is None:
            return _error(404, f"there is no such page, or its width is none of {WIDTHS}")
        drawn = self._pictures.kept(page, width) or await self._drawn(page, width)
        for_ever = request.query.get("key") == self._settings.key
        return _cached(request, drawn, "image/png", for_ever=for_ever)

    async def _drawn(self, page: int, width: int) -> bytes:
        assert self._loop is not None
        if (page, width) not in self._drawing:
            drawing = self._loop.run_in_executor(self._easel, self._pictures.png, page, width)
            drawing.add_done_callback(lambda _: self._drawing.pop((page, width), None))
            self._drawing[page, width] = drawing
        return await asyncio.shield(self._drawing[page, width])

    async def _tell_score(self, request: web.Request) -> web.StreamResponse:
        assert self._loop is not None
        sizes = await self._loop.run_in_executor(self._easel, self._pictures.sizes)
        facts = {
            "title": self._settings.title,
            "pages": [{"width": width, "height": height} for width, height in sizes],
            "key": self._settings.key,
            "sound": "browser" if self._settings.browser_sound else "computer",
            "can": {"correct": self._settings.kept is not None},
            "address": self._address(),
        }
        text = json.dumps(facts)
        return web.Response(
            text=f'{text[:-1]}, "layout": {self._layout_text}}}', content_type="application/json"
        )

    def _address(self) -> str | None:
        """What others open; None where this machine alone may come in."""
        settings = self._settings
        if settings.address.is_loopback:
            return None
        secure = settings.certificate is not None
        return url_of(settings.address, self._port, settings.token, secure=secure)

    async def _address_picture(self, request: web.Request) -> web.StreamResponse:
        address = self._address()
        if address is None:
            return _error(404, "the stand is for this machine alone: begin it with --host")
        return _cached(request, picture(address), "image/svg+xml")

    async def _tell_state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._state())

    # what can be asked for

    async def _control(self, request: web.Request) -> web.StreamResponse:
        try:
            self._do(await _body(request, WISH_BYTES), self._posts)
        except TooManyWishes as error:
            return _error(429, str(error))
        return web.json_response({"ok": True})

    def _do(self, text: str | bytes, bucket: Bucket) -> None:
        """Obey.

        Raises:
            ScoreError: it is no wish, cannot be had, or is one too many.
        """
        wish = parse_wish(text)
        if not bucket.take(time.monotonic()):
            raise TooManyWishes("too many wishes: wait a second")
        if not self._running:
            if wish["do"] != "start" or not self._settings.renews:
                raise ScoreError("nothing is followed now: start first")
            self._listener.renew(False)
        elif wish["do"] in ("next", "previous"):
            self._listener.turn(wish["do"] == "next")
        else:
            obey(wish, self._controls)
            for control in self._controls.taken():
                self._listener.wish(control)

    @property
    def _is_read(self) -> bool:
        """Whether all pages have been read; not known where the last has no music."""
        pages = self._controls.layout.pages
        return self._known or bool(pages and pages[-1].systems)

    def _to_correct(self) -> Layout:
        """The layout as it was corrected last, with what was read since."""
        read = self._controls.layout
        return read if self._corrected is None else self._corrected.with_pages(read)

    async def _tell_layout(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=_compact(self._to_correct()), content_type="application/json")

    async def _correct(self, request: web.Request) -> web.StreamResponse:
        if not self._posts.take(time.monotonic()):
            return _error(429, "too many wishes: wait a second")
        text = await _body(request, LAYOUT_BYTES)
        path = self._settings.kept
        if path is None:
            return _error(409, "the layout of this score cannot be corrected here")
        assert self._loop is not None
        pages = self._settings.pages
        corrected = await self._loop.run_in_executor(None, read_correction, text, pages)
        if self._is_read or not corrected.unread:
            await self._keep(path, corrected.with_pages(self._controls.layout))
            used = "now" if self._settings.renews else "next time"
        else:
            self._corrected = replace(corrected, waits=True)
            used = "when all pages are read"
        return web.json_response({"ok": True, "kept": path.name, "used": used})

    async def _keep(self, path: Path, layout: Layout) -> None:
        """Write a corrected layout, and begin anew with it where that can be."""
        assert self._loop is not None
        await self._loop.run_in_executor(None, keep_layout, path, layout)
        self._corrected = _Correction(layout)
        if self._settings.renews:
            self._listener.renew(True)

    async def _keep_later(self) -> None:
        """Write what waited for the last page."""
        assert self._settings.kept is not None
        layout = self._to_correct()
        self._corrected = _Correction(layout)
        try:
            await self._keep(self._settings.kept, layout)
        except ScoreFollowerError as error:
            logger.warning("a corrected layout is not kept: %s", error)

    async def _view(self, request: web.Request) -> web.StreamResponse:
        if len(self._viewers) >= MOST_VIEWERS:
            return _error(503, "too many viewers: close another first")
        ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=WISH_BYTES, compress=False
        )
        await ws.prepare(request)
        viewer = _Viewer(ws, request.transport)
        viewer.tell(self._hello())
        self._viewers.add(viewer)
        writer = asyncio.create_task(viewer.write())
        try:
            async for message in ws:
                if message.type is not WSMsgType.TEXT:
                    break
                self._answer(viewer, message.data)
        finally:
            self._viewers.discard(viewer)
            writer.cancel()
        return ws

    def _answer(self, viewer: _Viewer, text: str) -> None:
        try:
            self._do(text, viewer.wishes)
        except ScoreFollowerError as error:
            viewer.tell(json.dumps({"type": "error", "error": str(error)}))

    async def _hear(self, request: web.Request) -> web.StreamResponse:
        rate = _number(request.query.get("rate", ""), RATES)
        if rate is None:
            return _error(400, "?rate= is the rate of the sound in Hz, such as 48000")
        if not self._settings.browser_sound:
            return _error(409, "the sound comes from the computer")
        ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=SOUND_BYTES, compress=False
        )
        await ws.prepare(request)
        name, before = request.query.get("from", ""), self._speaking
        if before is not None and not (name and name == before.name):
            await ws.send_str('{"type":"busy"}')
            await ws.close(code=BUSY, message=b"another microphone is in use")
            return ws
        speaker = self._speaking = _Speaker(ws, request.transport, name)
        if before is not None:
            _hang_up(before.transport)
        blocks = Bucket(BLOCKS_A_SECOND, time.monotonic())
        signs = asyncio.create_task(_give_signs(ws))
        try:
            async for message in ws:
                if message.type is not WSMsgType.BINARY or not blocks.take(time.monotonic()):
                    break
                if speaker is not self._speaking:
                    break
                if len(message.data) % 4 == 0:
                    self._listener.sound(rate, message.data)
        finally:
            signs.cancel()
            if speaker is self._speaking:
                self._speaking = None
                self._listener.rest()
        await ws.close()
        return ws


@dataclass(frozen=True, slots=True)
class _Speaker:
    """The browser whose microphone is heard; by its name it may come again."""

    ws: web.WebSocketResponse
    transport: asyncio.Transport | None
    name: str


async def _give_signs(ws: web.WebSocketResponse) -> None:
    """Tell a speaker again and again that it is heard."""
    with suppress(ConnectionError):
        while True:
            await ws.send_str('{"type":"listening"}')
            await asyncio.sleep(SIGN_SECONDS)


def _hang_up(transport: asyncio.Transport | None) -> None:
    """End a connection without a word: it would not be heard, nor what was sent."""
    if transport is None:
        return
    line = transport.get_extra_info("socket")
    if line is not None:
        with suppress(OSError):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    transport.abort()


@dataclass(frozen=True, slots=True)
class _Correction:
    """A layout that a viewer corrected.

    Attributes:
        layout: of all pages.
        unread: the pages that the viewer did not know yet.
        waits: for these, to be kept.
    """

    layout: Layout
    unread: frozenset[int] = frozenset()
    waits: bool = False

    def with_pages(self, read: Layout) -> Layout:
        """With what was read of these pages since."""
        found = {page.page: page for page in read.pages}
        return numbered(
            Layout(
                tuple(
                    found.get(page.page, page) if page.page in self.unread else page
                    for page in self.layout.pages
                )
            )
        )


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether it is no visitor's doing, which is not worth a word."""
    return not (record.exc_info and isinstance(record.exc_info[1], VISITORS_FAULTS))


def read_correction(text: bytes, pages: int) -> _Correction:
    """A layout as a viewer sends it: the pages that it does not know are left out.

    Raises:
        ScoreError: it is no layout of so many pages.
    """
    try:
        layout = Layout.from_json(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise ScoreError("not a layout file: it is no text") from None
    if len(layout.pages) > pages:
        raise ScoreError(f"the layout has {len(layout.pages)} pages, the score has {pages}")
    known = {page.page: page for page in layout.pages if isinstance(page.page, int)}
    unread = frozenset(range(1, pages + 1)) - set(known)
    if len(unread) + len(layout.pages) > pages:
        checked(layout)
        raise ScoreError("'page' is no number from 1, or is there twice: correct it there")
    whole = Layout(tuple(known.get(n, PageLayout(n)) for n in range(1, pages + 1)))
    return _Correction(numbered(checked(whole)), unread)


def keep_layout(path: Path, layout: Layout) -> None:
    """Write a layout; what was there before becomes FILE~.

    Raises:
        ScoreFollowerError: it cannot be written.
    """
    write_anew(path, f"{layout.to_json()}\n".encode())


def _statics() -> dict[str, tuple[str, bytes]]:
    """Type and content of each file that may be had, by name."""
    if not STATIC.is_dir():
        return {}
    return {
        path.name: (TYPES[path.suffix], path.read_bytes())
        for path in STATIC.iterdir()
        if path.suffix in TYPES and path.is_file()
    }


def _compact(layout: Layout) -> str:
    return json.dumps(json.loads(layout.to_json()), separators=(",", ":"))


def _number(text: str, allowed: Sequence[int]) -> int | None:
    """A number written in digits, where it is one of these."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        return None
    return int(text) if int(text) in allowed else None


async def _body(request: web.Request, most: int) -> bytes:
    """The body of a JSON request.

    Raises:
        HTTPException: it is of another type or too long.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="write JSON, and say so: application/json")
    body = bytearray()
    async for part in request.content.iter_any():
        body += part
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(most, len(body), reason=f"more than {most} bytes")
    return bytes(body)


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


def _cached(
    request: web.Request, body: bytes, kind: str, *, for_ever: bool = False
) -> web.Response:
    """The body, or that the browser has it already."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    keep = "private, max-age=31536000, immutable" if for_ever else "private, no-cache"
    headers = {"ETag": etag, "Cache-Control": keep}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = kind
    return web.Response(body=body, headers=headers)
