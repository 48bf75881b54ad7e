"""The stand's server, seen from browsers and other programs that talk to it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
import zxingcpp
from conftest import add_distribution, make_layout
from PIL import Image
from rich.console import Console
from rich.text import Text

import sf_plugin
from sf_adapters.stand import Stand
from sf_adapters.stand.door import Address, Door, parse_address, token_for
from sf_adapters.stand.process import ServerProcess, show_code
from sf_plugin.api import Samples, make_mapper
from sf_plugin.audio.live import PushedSource
from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.positions import Control, Event, Jump, PageTurn, Position, StateChange
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.layout_files import numbered
from sf_plugin.score.model import Pages, Score
from sf_plugin.session import Session
from sf_plugin.sinks import Sink

PATIENCE = 60.0


def place(time: float, measure: int = 1) -> Position:
    return Position(time, 1, 0.5, 0.25, 1, measure, None, 1, None, None, 0.9, "tracking")


def eventually(true: Callable[[], object]) -> Any:
    """Wait until it is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return found


@pytest.fixture
def score(pdf: Path) -> Score:
    return sf_plugin.load_score(pdf)


@contextmanager
def served(
    score: Score, files: tuple[Path, ...] = (), host: str = "127.0.0.1", **how: Any
) -> Iterator[ServerProcess]:
    server = ServerProcess(Address(host, 0), score, files, **how)
    server.start()
    with server:
        yield server


@asynccontextmanager
async def client(server: ServerProcess, **how: Any) -> AsyncIterator[aiohttp.ClientSession]:
    base = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(base, **how) as session:
        yield session


async def next_of(socket: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """The next message of a type."""
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.TEXT, message
            data: dict[str, Any] = json.loads(message.data)
            if data["type"] == kind:
                return data


# the door


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("9000", Address("127.0.0.1", 9000)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:9000", Address("::1", 9000)),
        ("stage.local:0", Address("stage.local", 0)),
    ],
)
def test_an_address_may_name_a_host(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["sonata.pdf", ":9000", "host:", "host:99999", "1.5", "٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SinkError, match=r"write \[HOST:\]PORT"):
        parse_address(text)


def test_only_loopback_needs_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREFOLLOW_TOKEN", raising=False)
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert token_for(Address(host)) is None
    first, second = token_for(Address("0.0.0.0")), token_for(Address("stage.local"))
    assert first and second and first != second and len(first) > 16
    monkeypatch.setenv("SCOREFOLLOW_TOKEN", "a long secret")
    assert token_for(Address("::")) == "a long secret"
    monkeypatch.setenv("SCOREFOLLOW_TOKEN", "short")
    with pytest.raises(SinkError, match="SCOREFOLLOW_TOKEN is shorter"):
        token_for(Address("::"))


HERE = {"Host": "localhost:8765"}


@pytest.mark.parametrize(
    ("token", "headers", "query", "cookies", "acts", "status"),
    [
        (None, {"Host": "localhost"}, {}, {}, False, None),
        (None, {"Host": "[::1]:8765"}, {}, {}, False, None),
        (None, {}, {}, {}, False, 400),
        (None, {"Host": "a b"}, {}, {}, False, 400),
        (None, {"Host": "localhost\r\nX: y"}, {}, {}, False, 400),
        (None, {"Host": "evil.example:8765"}, {}, {}, False, 403),
        (None, {"Host": "localhost.evil.example"}, {}, {}, False, 403),
        (None, {**HERE, "Origin": "http://localhost:8765"}, {}, {}, True, None),
        (None, {**HERE, "Origin": "http://localhost:9999"}, {}, {}, True, 403),
        (None, {**HERE, "Origin": "http://evil.example"}, {}, {}, True, 403),
        (None, {**HERE, "Origin": "null"}, {}, {}, True, 403),
        (None, {**HERE, "Origin": ""}, {}, {}, True, 403),
        ("secret-one", {"Host": "evil.example"}, {}, {}, False, 401),
        ("secret-one", HERE, {"token": "secret-one"}, {}, False, None),
        ("secret-one", HERE, {"token": "secret-on"}, {}, False, 401),
        ("secret-one", HERE, {"token": "secret-onE"}, {}, False, 401),
        ("secret-one", HERE, {"token": "\udcff"}, {}, False, 401),
        ("secret-one", HERE, {}, {"sf_token_8765": "secret-one"}, False, None),
        ("secret-one", HERE, {}, {"sf_token_8766": "secret-one"}, False, 401),
        ("secret-one", {"Host": "[::1]"}, {}, {"sf_token": "secret-one"}, False, None),
        ("secret-one", {**HERE, "Authorization": "Bearer secret-one"}, {}, {}, True, None),
        ("secret-one", {**HERE, "Authorization": "Basic secret-one"}, {}, {}, True, 401),
        (
            "secret-one",
            {**HERE, "Origin": "http://evil.example"},
            {},
            {"sf_token_8765": "secret-one"},
            True,
            403,
        ),
    ],
)
def test_the_door(
    token: str | None,
    headers: dict[str, str],
    query: dict[str, str],
    cookies: dict[str, str],
    acts: bool,
    status: int | None,
) -> None:
    refusal = Door(token, "127.0.0.1").refusal(headers, query, cookies, acts=acts)
    assert (refusal and refusal[0]) == status


def test_beyond_loopback_everything_needs_the_token(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        token = server.url.partition("?token=")[2]
        assert token
        paths = ("/", "/static/app.js", "/api/score", "/api/state", "/pages/1.png?width=480", "/ws")
        async with client(server) as stranger:
            for path in paths:
                async with stranger.get(path) as answer:
                    assert answer.status == 401, path
            async with stranger.post("/api/control", json={"do": "next"}) as answer:
                assert answer.status == 401
        jar = aiohttp.CookieJar(unsafe=True)
        async with client(server, cookie_jar=jar) as friend:
            async with friend.get("/", params={"token": token}) as answer:
                assert answer.status == 200
                cookie = answer.headers["Set-Cookie"]
                assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
            async with friend.get("/api/state") as answer:
                assert answer.status == 200
            async with friend.ws_connect("/ws") as socket:
                assert (await next_of(socket, "hello"))["shown"] == 1
        bearer = {"Authorization": f"Bearer {token}"}
        async with client(server) as program, program.get("/api/score", headers=bearer) as answer:
            assert answer.status == 200

    with served(score, (pdf,), host="0.0.0.0") as server:
        asyncio.run(visit(server))


def test_other_sites_and_other_names_are_refused(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        evil = {"Origin": "http://evil.example"}
        here = {"Origin": f"http://127.0.0.1:{server.port}"}
        async with client(server) as browser:
            async with browser.post("/api/control", json={"do": "next"}, headers=evil) as answer:
                assert answer.status == 403
            async with browser.put("/api/layout", json={}, headers=evil) as answer:
                assert answer.status == 403
            for path in ("/ws", "/sound?rate=48000"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await browser.ws_connect(path, headers=evil)
                assert refused.value.status == 403
            async with browser.get("/api/score", headers={"Host": "rebound.example"}) as answer:
                assert answer.status == 403
            async with browser.ws_connect("/ws", headers=here) as socket:
                await next_of(socket, "hello")
            async with browser.post(
                "/api/control", data='{"do":"next"}', headers={"Content-Type": "text/plain"}
            ) as answer:
                assert answer.status == 415

    with served(score, (pdf,), browser_sound=True) as server:
        controls = Controls(2)
        server.begin(score, make_layout(2), controls)
        asyncio.run(visit(server))
        assert list(controls.taken()) == []


# what can be had


def test_files_come_from_a_fixed_list_with_a_strict_policy(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            async with browser.get("/") as answer:
                assert answer.status == 200 and answer.content_type == "text/html"
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "Access-Control-Allow-Origin" not in answer.headers
            async with browser.get("/static/app.js") as answer:
                assert answer.content_type == "text/javascript"
                seen = {"If-None-Match": answer.headers["ETag"]}
            async with browser.get("/static/app.js", headers=seen) as answer:
                assert answer.status == 304
            for path in (
                "/static/..%2Fserver.py",
                "/static/%2e%2e/server.py",
                "/static//etc/passwd",
                "/static/server.py",
                "/pages/..%2F1.png?width=480",
                "/nothing",
            ):
                async with browser.get(path) as answer:
                    assert answer.status == 404, path
                    assert set(await answer.json()) == {"error"}

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_pages_are_drawn_as_large_as_they_are_wanted(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            facts = await (await browser.get("/api/score")).json()
            assert facts["title"] == "score" and facts["sound"] == "computer"
            assert facts["can"] == {"correct": True}
            height = facts["pages"][0]["height"]
            assert facts["pages"] == [{"width": 848, "height": height}] * 2
            for width in (480, 2480):
                async with browser.get("/pages/2.png", params={"width": width}) as answer:
                    picture = Image.open(io.BytesIO(await answer.read()))
                    assert picture.width == width
                    assert abs(picture.height - height * width / 848) < 4
                    assert "no-cache" in answer.headers["Cache-Control"]
            line = np.asarray(picture)[:, 1240]
            assert line.min() == 0 and line.max() == 255
            params: dict[str, Any] = {"width": 2480, "key": facts["key"]}
            async with browser.get("/pages/2.png", params=params) as answer:
                assert "immutable" in answer.headers["Cache-Control"]
                assert answer.headers["Cache-Control"].startswith("private")
            for bad in ("/pages/3.png?width=480", "/pages/0.png?width=480", "/pages/1.png"):
                assert (await browser.get(bad)).status == 404
            for width in ("481", "-1", "1e3", "٤٨٠", "9" * 5000):
                answer = await browser.get("/pages/1.png", params={"width": width})
                assert answer.status in (400, 404), width

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def pictures(server: ServerProcess, count: int, width: int) -> list[Image.Image]:
    async def visit() -> list[Image.Image]:
        async with client(server) as browser:
            sizes = (await (await browser.get("/api/score")).json())["pages"]
            assert len(sizes) == count
            made = []
            for page in range(1, count + 1):
                answer = await browser.get(f"/pages/{page}.png?width={width}")
                assert answer.status == 200
                made.append(Image.open(io.BytesIO(await answer.read())))
            for size, picture in zip(sizes, made, strict=True):
                assert abs(size["height"] / 848 - picture.height / picture.width) < 0.01
            return made

    return asyncio.run(visit())


def test_images_and_engraved_scores_are_sharp_too(tmp_path: Path) -> None:
    sheet = Image.new("RGB", (1500, 1000), "white")
    sheet.paste("black", (700, 200, 702, 800))
    exif = Image.Exif()
    exif[0x0112] = 6
    sheet.save(tmp_path / "one.jpg", exif=exif)
    sheet.save(tmp_path / "two.png")
    files = (tmp_path / "one.jpg", tmp_path / "two.png")
    with served(sf_plugin.load_score(list(files)), files) as server:
        first, second = pictures(server, 2, 1240)
        assert first.height > first.width and second.width > second.height
        assert second.width == 1240
    tune = tmp_path / "tune.abc"
    tune.write_text("X:1\nT:Tune\nM:4/4\nL:1/4\nK:C\n" + "CDEF|" * 40 + "\n")
    score = sf_plugin.load_score(tune)
    with served(score, (tune,)) as server:
        made = pictures(server, len(score.pages), 1754)
        small = np.asarray(made[0].resize((848, round(848 * made[0].height / made[0].width))))
        ink = 255 - np.asarray(score.pages[0])[: len(small)].astype(float)
        other = 255 - small[: len(ink)].astype(float)
        assert np.corrcoef(ink.ravel(), other.ravel())[0, 1] > 0.8


def test_pages_without_files_are_shown_as_they_are() -> None:
    page = np.full((1200, 848), 255, np.uint8)
    page[100:200, 300:310] = 0
    score = Score("stream", Pages(2, lambda index: page))
    with served(score) as server:
        for picture in pictures(server, 2, 2480):
            assert np.array_equal(np.asarray(picture), page)
        folder = Path(server._folder.name) if server._folder else None
        assert folder is not None and folder.is_dir()
    assert not folder.exists()


def test_a_page_that_cannot_be_drawn_is_told(score: Score, pdf: Path, tmp_path: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            answer = await browser.get("/pages/1.png?width=480")
            assert answer.status == 400
            assert "cannot be drawn" in (await answer.json())["error"]

    gone = tmp_path / "gone.pdf"
    gone.write_bytes(pdf.read_bytes())
    with served(sf_plugin.load_score(gone), (gone,)) as server:
        gone.unlink()
        asyncio.run(visit(server))


# what the session tells


def test_viewers_hear_every_event_and_the_newest_position(score: Score, pdf: Path) -> None:
    positions = [place(n / 40, n // 20 + 1) for n in range(400)]
    told: list[Event] = [
        StateChange(0.0, "tracking", "waiting"),
        *(PageTurn(n / 10, 1 + n % 2, 0.5) for n in range(100)),
        Jump(10.0, 4, 9, 0.8),
    ]

    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            hello = await next_of(socket, "hello")
            assert hello["version"] == sf_plugin.__version__
            assert hello["running"] is False and hello["position"] is None
            server.begin(score, make_layout(2), Controls(2))
            assert len((await next_of(socket, "layout"))["layout"]["pages"]) == 2
            assert (await next_of(socket, "hello"))["running"] is True
            for n, position in enumerate(positions):
                server.tell(position)
                if n < len(told):
                    server.tell(told[n])
            heard, last = [], None
            while last != positions[-1].to_dict():
                message = json.loads((await socket.receive(PATIENCE)).data)
                if message["type"] == "position":
                    last = {**message, "pass": message["pass"]}
                elif message["type"] != "level":
                    heard.append(message)
            assert heard == [event.to_dict() for event in told]
            state = await (await browser.get("/api/state")).json()
            assert state["position"] == positions[-1].to_dict() and state["state"] == "tracking"
            server.tell(Control(11.0, "reset"))
            assert (await next_of(socket, "control"))["action"] == "reset"
            assert (await next_of(socket, "hello"))["position"] is None
            server.end()
            assert (await next_of(socket, "hello"))["running"] is False

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_a_session_may_begin_on_a_later_page(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            await next_of(socket, "hello")
            controls = Controls(2)
            controls.shown = 2
            server.begin(score, make_layout(2), controls)
            assert (await next_of(socket, "hello"))["shown"] == 2

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_a_viewer_hears_that_the_stand_is_there(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            await next_of(socket, "hello")
            for _ in range(3):
                await next_of(socket, "level")

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_a_stand_that_takes_nothing_more_is_closed(score: Score, pdf: Path) -> None:
    def tell() -> None:
        with suppress(SinkError):
            for n in range(10_000):
                server.tell(place(n / 40))
                told.append(n)

    told: list[int] = []
    server = ServerProcess(Address(port=0), score, (pdf,))
    server.start()
    server.begin(score, make_layout(2), Controls(2))
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    eventually(lambda: (before := len(told)) and not time.sleep(0.5) and len(told) == before)
    assert telling.is_alive()
    closing = threading.Thread(target=server.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()


def test_positions_are_thinned_out(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            server.begin(score, make_layout(2), Controls(2))
            began = time.monotonic()
            for n in range(2000):
                server.tell(place(n / 1000))
                await asyncio.sleep(0.0005)
            server.tell(Jump(3.0, 1, 2, 0.9))
            heard = 0
            while (message := json.loads((await socket.receive(PATIENCE)).data))["type"] != "jump":
                heard += message["type"] == "position"
            assert 1 <= heard <= 20 * (time.monotonic() - began) + 2

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_levels_are_told(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        controls = Controls(2)
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            server.begin(score, make_layout(2), controls)
            controls.hear(np.full(800, 0.25, np.float32), 8000)
            server.tell(place(0.1))
            while (level := await next_of(socket, "level"))["peak"] == 0.0:
                pass
            assert level == {"type": "level", "rms": 0.25, "peak": 0.25}

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_two_hundred_viewers_hear_the_same(score: Score, pdf: Path) -> None:
    turns = [PageTurn(n / 10, 1 + n % 2, 0.5) for n in range(60)]

    async def listen(browser: aiohttp.ClientSession, ready: asyncio.Semaphore) -> list[Any]:
        async with browser.ws_connect("/ws") as socket:
            await next_of(socket, "hello")
            ready.release()
            return [await next_of(socket, "page_turn") for _ in turns]

    async def visit(server: ServerProcess) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        ready = asyncio.Semaphore(0)
        async with client(server, connector=connector) as browser:
            listening = [asyncio.create_task(listen(browser, ready)) for _ in range(200)]
            for _ in listening:
                await ready.acquire()
            server.begin(score, make_layout(2), Controls(2))
            for n in range(600):
                server.tell(place(n / 40))
                if n % 10 == 0:
                    server.tell(turns[n // 10])
                await asyncio.sleep(0.002)
            expected = [turn.to_dict() for turn in turns]
            for heard in await asyncio.gather(*listening):
                assert heard == expected

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_a_viewer_that_takes_nothing_is_sent_away(score: Score, pdf: Path) -> None:
    """Its buffers fill; others, and the session, go on."""
    long = make_layout(2, systems=10, measures=40)

    async def visit(server: ServerProcess) -> None:
        stuck = socket.create_connection(("127.0.0.1", server.port))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        async with client(server) as browser, browser.ws_connect("/ws", max_msg_size=0) as good:
            server.begin(score, make_layout(2), Controls(2))
            for _ in range(60):
                server.extend(long)
                assert await next_of(good, "layout")
            for n in range(0, 1000, 50):
                for number in range(n, n + 50):
                    server.tell(Jump(n / 10, 1, number, 0.5))
                for number in range(n, n + 50):
                    assert (await next_of(good, "jump"))["to_measure"] == number
        stuck.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            while stuck.recv(1 << 20):
                pass
            raise ConnectionResetError
        stuck.close()

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))
        assert server.alive


# what viewers want

TENTH = make_layout(2).pages[1].systems[0]

WISHES = [
    (
        {"do": "goto", "measure": 10},
        Control(0.0, "goto", 2, TENTH.measures[1].left, (TENTH.top + TENTH.bottom) / 2, 10),
    ),
    (
        {"do": "point", "page": 2, "x": 0.5, "y": 0.25},
        Control(0.0, "goto", page=2, x=0.5, y=0.25),
    ),
    ({"do": "show", "page": 2}, Control(0.0, "show", page=2)),
    ({"do": "next"}, Control(0.0, "show", page=2)),
    ({"do": "previous"}, Control(0.0, "show", page=1)),
    ({"do": "reset"}, Control(0.0, "reset")),
    ({"do": "pause"}, Control(0.0, "pause")),
    ({"do": "resume"}, Control(0.0, "resume")),
    ({"do": "start"}, Control(0.0, "resume")),
    ({"do": "stop"}, Control(0.0, "stop")),
]

NO_WISHES = [
    "",
    "next",
    "[]",
    "null",
    '"next"',
    "{}",
    '{"do":"dance"}',
    '{"do":["next"]}',
    '{"do":"next","page":1}',
    '{"do":"goto"}',
    '{"do":"goto","measure":"1"}',
    '{"do":"goto","measure":true}',
    '{"do":"goto","measure":1.0}',
    '{"do":"goto","measure":0}',
    '{"do":"goto","measure":17}',
    '{"do":"goto","measure":' + "9" * 3000 + "}",
    '{"do":"show","page":3}',
    '{"do":"show","page":-1}',
    '{"do":"point","page":1,"x":NaN,"y":0.5}',
    '{"do":"point","page":1,"x":1e999,"y":0.5}',
    '{"do":"point","page":1,"x":1.01,"y":0.5}',
    '{"do":"point","page":1,"x":0.5}',
    '{"do":"next"}{"do":"next"}',
    "[" * 3000,
]


def test_wishes_reach_the_session(score: Score, pdf: Path) -> None:
    layout = make_layout(2)
    controls = Controls(2)
    controls.layout = layout

    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            await next_of(socket, "hello")
            for wish, control in WISHES:
                async with browser.post("/api/control", json=wish) as answer:
                    assert await answer.json() == {"ok": True}
                assert await asyncio.to_thread(eventually, lambda: list(controls.taken())) == [
                    control
                ]
                await socket.send_json(wish)
                assert await asyncio.to_thread(eventually, lambda: list(controls.taken())) == [
                    control
                ]

    with served(score, (pdf,)) as server:
        server.begin(score, layout, controls)
        asyncio.run(visit(server))


def test_two_pages_are_two_pages(score: Score, pdf: Path) -> None:
    """However soon the second wish comes."""
    controls = Controls(3)

    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            while not (await (await browser.get("/api/state")).json())["running"]:
                await asyncio.sleep(0.05)
            for _ in range(2):
                await browser.post("/api/control", json={"do": "next"})
        await asyncio.to_thread(eventually, lambda: len(controls._wishes) == 2)

    with served(score, (pdf,)) as server:
        server.begin(score, make_layout(2), controls)
        asyncio.run(visit(server))
    assert [wish.page for wish in controls.taken()] == [2, 3]


def test_what_is_no_wish_is_refused_and_not_obeyed(score: Score, pdf: Path) -> None:
    controls = Controls(2)

    async def visit(server: ServerProcess) -> None:
        json_type = {"Content-Type": "application/json"}
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            for text in NO_WISHES:
                async with browser.post("/api/control", data=text, headers=json_type) as answer:
                    assert answer.status == 400, text
                    assert (await answer.json())["error"]
                await socket.send_str(text)
                assert (await next_of(socket, "error"))["error"]
                await asyncio.sleep(0.05)
            async with browser.post(
                "/api/control", data=" " * 5000 + '{"do":"next"}', headers=json_type
            ) as answer:
                assert answer.status == 413
            await socket.send_str(" " * 5000 + '{"do":"next"}')
            while (message := await socket.receive(PATIENCE)).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)

    with served(score, (pdf,)) as server:
        server.begin(score, make_layout(2), controls)
        asyncio.run(visit(server))
    assert list(controls.taken()) == []


def test_without_a_session_nothing_is_obeyed(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            for do in ("next", "stop", "start"):
                async with browser.post("/api/control", json={"do": do}) as answer:
                    assert answer.status == 400
                    assert "start first" in (await answer.json())["error"]

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


def test_a_flood_of_wishes_is_held_back(score: Score, pdf: Path) -> None:
    controls = Controls(2)

    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            for _ in range(300):
                await socket.send_str('{"do":"pause"}')
            assert "too many" in (await next_of(socket, "error"))["error"]
            statuses = {
                (await browser.post("/api/control", json={"do": "pause"})).status
                for _ in range(300)
            }
            assert 429 in statuses

    with served(score, (pdf,)) as server:
        server.begin(score, make_layout(2), controls)
        asyncio.run(visit(server))


# correcting the layout


@pytest.fixture
def book(pdf: Path, tmp_path: Path) -> Path:
    path = tmp_path / "book.pdf"
    path.write_bytes(pdf.read_bytes())
    return path


def put(server: ServerProcess, body: str | bytes) -> tuple[int, Any]:
    async def visit() -> tuple[int, Any]:
        async with client(server) as browser:
            headers = {"Content-Type": "application/json"}
            async with browser.put("/api/layout", data=body, headers=headers) as answer:
                return answer.status, await answer.json()

    return asyncio.run(visit())


def test_a_corrected_layout_is_kept_and_found_again(book: Path) -> None:
    kept = book.with_name("book.layout.json")
    first = make_layout(2)
    second = make_layout(2, measures=5, repeat_end={5})
    renewed: list[bool] = []
    score = sf_plugin.load_score(book)
    with served(score, (book,), renew=renewed.append) as server:
        server.begin(score, first, Controls(2))
        assert put(server, first.to_json()) == (
            200,
            {"ok": True, "kept": "book.layout.json", "used": "now"},
        )
        assert put(server, second.to_json())[0] == 200
        eventually(lambda: renewed == [True, True])
    assert sf_plugin.load_score(book).layout == second
    assert Layout.from_json(kept.with_name(kept.name + "~").read_text()) == first


def test_a_wrong_layout_changes_nothing(book: Path) -> None:
    kept = book.with_name("book.layout.json")
    good = make_layout(2)
    kept.write_text(good.to_json())
    before = kept.read_bytes()
    page = good.pages[0]
    upside_down = Layout((replace(page, systems=page.systems[::-1]), good.pages[1]))
    wide = good.to_json().replace('"right": 0.9', '"right": 1.9')
    renewed: list[bool] = []
    score = sf_plugin.load_score(book)
    with served(score, (book,), renew=renewed.append) as server:
        server.begin(score, good, Controls(2))
        for body, reason in [
            (make_layout(3).to_json(), "has 3 pages, the score has 2"),
            (Layout((page, page)).to_json(), "page 2: 'page' is 1"),
            (Layout((replace(page, page=3),)).to_json(), "page 1: 'page' is 3"),
            (good.to_json().replace('"page": 1,', '"page": 1.0,'), "'page' is no number"),
            (upside_down.to_json(), "page 1, system 2: stands above"),
            (wide, "not a fraction of the page"),
            (b"\xff\xfe", "it is no text"),
            ("[]", "not a layout"),
            ('{"version": 2, "pages": []}', "version 2 is not 1"),
            ("[" * 100_000, "not a layout"),
        ]:
            status, answer = put(server, body)
            assert status == 400 and reason in answer["error"], answer
        assert put(server, b" " * 17_000_000)[0] == 413
    assert kept.read_bytes() == before and renewed == []
    assert [path.name for path in sorted(book.parent.iterdir())] == ["book.layout.json", "book.pdf"]


def to_correct(server: ServerProcess) -> Layout:
    async def visit() -> str:
        async with client(server) as browser, browser.get("/api/layout") as answer:
            return await answer.text()

    return Layout.from_json(asyncio.run(visit()))


def test_what_is_corrected_while_pages_are_read_is_kept_when_they_are(book: Path) -> None:
    kept = book.with_name("book.layout.json")
    score = sf_plugin.load_score(book)
    layout, other = make_layout(2), make_layout(2, systems=3, measures=5)
    unread = Layout((layout.pages[0], replace(layout.pages[1], systems=())))
    corrected = Layout((other.pages[0], PageLayout(2)))
    renewed: list[bool] = []
    with served(score, (book,), renew=renewed.append) as server:
        server.begin(score, unread, Controls(2))
        eventually(lambda: to_correct(server) == unread)
        told = {"ok": True, "kept": kept.name, "used": "when all pages are read"}
        assert put(server, Layout(other.pages[:1]).to_json()) == (200, told)
        assert to_correct(server) == corrected and not kept.exists() and not renewed
        server.extend(layout)
        eventually(lambda: renewed == [True])
        whole = numbered(Layout((other.pages[0], layout.pages[1])))
        assert to_correct(server) == Layout.from_json(kept.read_text()) == whole
        server.begin(replace(score, layout=whole), whole, Controls(2))
        eventually(lambda: put(server, layout.to_json())[1]["used"] == "now")
    assert Layout.from_json(kept.read_text()) == layout


def test_a_correction_that_waits_in_vain_is_told(
    book: Path, caplog: pytest.LogCaptureFixture
) -> None:
    score = sf_plugin.load_score(book)
    layout = make_layout(2)
    unread = Layout((layout.pages[0], replace(layout.pages[1], systems=())))
    with served(score, (book,)) as server:
        server.begin(score, unread, Controls(2))
        assert put(server, Layout(layout.pages[:1]).to_json())[0] == 200
    assert "a corrected layout is not kept: not all pages were read" in caplog.text
    assert not book.with_name("book.layout.json").exists()


def test_what_was_corrected_is_corrected_further(book: Path) -> None:
    """Also where the session that runs does not use it."""
    score = sf_plugin.load_score(book)
    other = make_layout(2, systems=3)
    with served(score, (book,)) as server:
        server.begin(score, make_layout(2), Controls(2))
        eventually(lambda: to_correct(server).pages)
        assert put(server, other.to_json())[1]["used"] == "next time"
        assert to_correct(server) == other


def test_only_a_layout_that_would_be_used_can_be_corrected(book: Path, tmp_path: Path) -> None:
    score = sf_plugin.load_score(book)
    layout = make_layout(2)
    for other in (
        replace(score, chosen=range(1)),
        replace(score, layout=layout, layout_file=None),
    ):
        with served(other, (book,)) as server:
            assert put(server, layout.to_json())[0] == 409


# a browser's microphone


def test_one_browser_at_a_time_is_heard(score: Score, pdf: Path) -> None:
    rate = 48000
    tone = (0.5 * np.sin(np.arange(rate) * 2 * np.pi * 440 / rate)).astype("<f4")
    source = PushedSource(44100)
    heard: list[np.ndarray] = []

    def listen() -> None:
        heard.extend(source.blocks(rate))

    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            assert (await (await browser.get("/api/score")).json())["sound"] == "browser"
            for bad in ("", "?rate=7", "?rate=abc", "?rate=48000.5", "?rate=-48000"):
                assert (await browser.get(f"/sound{bad}")).status == 400
            async with browser.ws_connect(f"/sound?rate={rate}") as first:
                await next_of(first, "listening")
                async with browser.ws_connect("/sound?rate=44100") as second:
                    await next_of(second, "busy")
                    closed = await second.receive(PATIENCE)
                    assert closed.type is aiohttp.WSMsgType.CLOSE and closed.data == 4009
                await first.send_bytes(b"\x00\x01\x02")
                for block in tone.reshape(50, -1):
                    await first.send_bytes(block.tobytes())
                    await asyncio.sleep(0.02)
                await first.send_str('{"type":"bye"}')
                while (await first.receive(PATIENCE)).type is not aiohttp.WSMsgType.CLOSED:
                    pass
            async with browser.ws_connect("/sound?rate=44100") as third:
                await next_of(third, "listening")
                wild = np.array([np.nan, np.inf, -np.inf, 1e30], "<f4")
                await third.send_bytes(wild.tobytes())
                await asyncio.sleep(0.3)

    with served(score, (pdf,), browser_sound=True) as server:
        server.listen(source)
        thread = threading.Thread(target=listen)
        thread.start()
        asyncio.run(visit(server))
        source.close()
        thread.join()
    sound = np.concatenate(heard)
    assert np.isfinite(sound).all() and np.abs(sound).max() <= 1.1
    matches = np.correlate(sound, tone[: rate // 4], "valid")
    assert matches.max() > 0.9 * float(np.square(tone[: rate // 4]).sum())


def test_a_browser_whose_network_was_away_is_heard_again(score: Score, pdf: Path) -> None:
    """Its connection of before, which nobody has closed, gives way."""
    tone = np.full(960, 0.25, "<f4").tobytes()
    source = PushedSource(48000)

    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            before = await browser.ws_connect("/sound?rate=48000&from=tablet")
            await next_of(before, "listening")
            await before.send_bytes(tone)
            async with browser.ws_connect("/sound?rate=48000&from=tablet") as again:
                await next_of(again, "listening")
                while (await before.receive(PATIENCE)).type is aiohttp.WSMsgType.TEXT:
                    pass
                for other in ("&from=phone", "&from=", ""):
                    async with browser.ws_connect(f"/sound?rate=48000{other}") as busy:
                        await next_of(busy, "busy")
                for _ in range(2):
                    await next_of(again, "listening")
                heard.clear()
                await again.send_bytes(tone)
                await asyncio.to_thread(eventually, lambda: max(map(np.max, heard), default=0) > 0)

    def listen() -> None:
        heard.extend(block for block in source.blocks(48000) if len(block))

    heard: list[np.ndarray] = []
    with served(score, (pdf,), browser_sound=True) as server:
        server.listen(source)
        thread = threading.Thread(target=listen)
        thread.start()
        asyncio.run(visit(server))
        source.close()
        thread.join()


def test_the_computers_microphone_leaves_no_room_for_the_browsers(score: Score, pdf: Path) -> None:
    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser:
            assert (await browser.get("/sound?rate=48000")).status == 409

    with served(score, (pdf,)) as server:
        asyncio.run(visit(server))


# in a session


class Kept(Sink):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_a_viewer_steers_a_running_session(
    score: Score, layout: Layout, pdf: Path, wav: Path, follower: Any
) -> None:
    samples, rate = soundfile.read(wav)
    kept, stand = Kept(), Stand("0", files=(pdf,))
    session = Session(
        Samples(np.tile(samples, 20), rate),
        follower,
        make_mapper(),
        replace(score, layout=layout),
        [("stand", stand), ("kept", kept)],
        realtime=True,
    )

    async def visit(server: ServerProcess) -> None:
        async with client(server) as browser, browser.ws_connect("/ws") as socket:
            while (await next_of(socket, "position"))["state"] != "tracking":
                pass
            await socket.send_json({"do": "show", "page": 2})
            assert (await next_of(socket, "page_turn"))["page"] == 2
            await socket.send_json({"do": "goto", "measure": 3})
            told = await next_of(socket, "control")
            assert told["action"] == "goto" and told["measure"] == 3
            await socket.send_json({"do": "pause"})
            assert (await next_of(socket, "control"))["action"] == "pause"
            await socket.send_json({"do": "stop"})
            while (await socket.receive(PATIENCE)).type is aiohttp.WSMsgType.TEXT:
                pass
            assert socket.close_code in (1000, 1001)

    running = threading.Thread(target=session.run)
    running.start()
    server = eventually(lambda: stand.server if stand.server and stand.server.alive else None)
    eventually(lambda: server.port)
    asyncio.run(visit(server))
    running.join(PATIENCE)
    assert not running.is_alive() and session.summary.failed_sinks == []
    actions = [event.action for event in kept.events if isinstance(event, Control)]
    assert actions == ["show", "goto", "pause", "stop"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0
    stand.close()


def test_the_session_goes_on_when_the_stand_dies(
    score: Score, layout: Layout, pdf: Path, wav: Path, follower: Any
) -> None:
    samples, rate = soundfile.read(wav)
    kept, stand = Kept(), Stand("0", files=(pdf,))
    session = Session(
        Samples(samples, rate),
        follower,
        make_mapper(),
        replace(score, layout=layout),
        [("stand", stand), ("kept", kept)],
    )
    for n, _ in enumerate(session.events()):
        if n == 20:
            assert stand.server is not None and stand.server._process is not None
            os.kill(stand.server._process.pid, signal.SIGKILL)
            stand.server._process.wait()
    assert session.summary.failed_sinks == ["stand"]
    assert session.summary.positions > 300


def test_a_taken_address_is_an_error(score: Score, pdf: Path, scorefollow: Any, wav: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match=f"cannot be at 127.0.0.1:{port}"):
            ServerProcess(Address(port=port), score, (pdf,)).start()
        done = scorefollow(
            "follow", pdf, "--audio", wav, "--follower", "constant-tempo", "--serve", port
        )
        assert done.returncode == 2 and "choose another address" in done.stderr
    with pytest.raises(SinkError, match="cannot be at"):
        ServerProcess(Address("no.such.host.invalid", 8765), score, (pdf,)).start()


# scorefollow serve


class Serving:
    """`scorefollow serve` as a user runs it."""

    def __init__(self, folder: Path, sites: Sequence[Path], *words: object) -> None:
        program = Path(sys.executable).parent / "scorefollow"
        command = [program, "serve", *words, "--follower", "constant-tempo", "--port", "0"]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sites))},
        )
        assert self.process.stderr is not None
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if "the stand is at" in line:
                break
        self.url = self.said[-1].split()[-1]
        self.port = int(self.url.partition("/?")[0].rstrip("/").rpartition(":")[2])

    def end(self) -> str:
        self.process.send_signal(signal.SIGINT)
        _, rest = self.process.communicate(timeout=PATIENCE)
        return "".join(self.said) + rest


@pytest.fixture
def serve(tmp_path: Path, example_plugin: Path) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def start(*words: object, site: Path | None = None) -> Serving:
        sites = [example_plugin] if site is None else [example_plugin, site]
        started.append(Serving(tmp_path, sites, *words))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


async def hello_that(socket: Any, **wanted: object) -> dict[str, Any]:
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            hello = await next_of(socket, "hello")
            if all(hello[name] == value for name, value in wanted.items()):
                return hello


@pytest.mark.slow
def test_serve_plays_session_after_session(
    book: Path, serve: Callable[..., Serving], wav: Path
) -> None:
    samples, rate = soundfile.read(wav, dtype="float32")

    async def visit(one: Serving) -> None:
        async with (
            aiohttp.ClientSession(f"http://localhost:{one.port}") as browser,
            browser.ws_connect("/ws") as socket,
            browser.ws_connect(f"/sound?rate={rate}") as sound,
        ):
            if not (await next_of(socket, "hello"))["running"]:
                await hello_that(socket, running=True)
            await next_of(sound, "listening")
            sending = asyncio.create_task(send(sound))
            while (await next_of(socket, "position"))["state"] != "tracking":
                pass
            await socket.send_json({"do": "reset"})
            await hello_that(socket, running=True, position=None)
            await socket.send_json({"do": "stop"})
            await hello_that(socket, running=False)
            await socket.send_json({"do": "next"})
            assert "start first" in (await next_of(socket, "error"))["error"]
            await socket.send_json({"do": "start"})
            await hello_that(socket, running=True)
            while (await next_of(socket, "position"))["state"] != "tracking":
                pass
            corrected = make_layout(2, systems=3).to_json()
            async with browser.put("/api/layout", json=json.loads(corrected)) as answer:
                assert (await answer.json())["used"] == "now"
            await hello_that(socket, running=False)
            layout = (await next_of(socket, "layout"))["layout"]
            assert len(layout["pages"][0]["systems"]) == 3
            while (await next_of(socket, "position"))["state"] != "tracking":
                pass
            sending.cancel()

    async def send(sound: Any) -> None:
        size = rate // 50
        while True:
            for start in range(0, len(samples) - size, size):
                await sound.send_bytes(samples[start : start + size].tobytes())
                await asyncio.sleep(0.02)

    one = serve(book, "--out", "events.jsonl")
    asyncio.run(visit(one))
    said = one.end()
    assert one.process.returncode == 130, said
    assert "Traceback" not in said and "layout from" in said
    lines = (book.parent / "events.jsonl").read_text().splitlines()
    assert any(json.loads(line)["type"] == "position" for line in lines)


SLOW_TO_CLOSE = """
import time
import numpy as np
from sf_plugin import Source, hookimpl

class Hum(Source):
    live = True

    def __init__(self, rest):
        self.open = True

    def blocks(self, sample_rate):
        while self.open:
            time.sleep(0.02)
            yield np.full(sample_rate // 50, 0.1, np.float32)

    def close(self):
        if self.open:
            self.open = False
            time.sleep(1.0)

@hookimpl
def register_sources(register):
    register("hum", Hum)
"""


def test_a_start_is_heard_while_the_microphone_is_still_being_closed(
    book: Path, serve: Callable[..., Serving], example_plugin: Path, tmp_path: Path
) -> None:
    site = tmp_path / "hum"
    site.mkdir()
    add_distribution(site, "hum", SLOW_TO_CLOSE)

    async def visit(one: Serving) -> None:
        async with (
            aiohttp.ClientSession(f"http://localhost:{one.port}") as browser,
            browser.ws_connect("/ws") as socket,
        ):
            await next_of(socket, "position")
            for do, running in (("stop", False), ("start", True), ("stop", False)):
                await socket.send_json({"do": do})
                await hello_that(socket, running=running)

    one = serve(book, "--audio", "hum:", site=site)
    asyncio.run(visit(one))
    assert "Traceback" not in one.end()


@pytest.mark.slow
def test_a_session_that_cannot_begin_does_not_end_the_stand(
    book: Path, serve: Callable[..., Serving], wav: Path, tmp_path: Path
) -> None:
    take = tmp_path / "take.wav"

    async def visit(one: Serving) -> None:
        assert one.process.stderr is not None
        async with (
            aiohttp.ClientSession(f"http://localhost:{one.port}") as browser,
            browser.ws_connect("/ws") as socket,
        ):
            if not (await next_of(socket, "hello"))["running"]:
                await hello_that(socket, running=True)
            await socket.send_json({"do": "stop"})
            await hello_that(socket, running=False)
            take.unlink()
            await socket.send_json({"do": "start"})
            while "no such file" not in (
                line := await asyncio.to_thread(one.process.stderr.readline)
            ):
                assert line, "the stand has ended"
            shutil.copy(wav, take)
            await socket.send_json({"do": "start"})
            await hello_that(socket, running=True)

    shutil.copy(wav, take)
    one = serve(book, "--audio", take)
    asyncio.run(visit(one))
    one.end()
    assert one.process.returncode == 130


def test_serve_beyond_loopback_prints_the_token(book: Path, serve: Callable[..., Serving]) -> None:
    one = serve(book, "--host", "0.0.0.0")
    assert "?token=" in one.url
    said = one.end()
    assert "https addresses only" in said and "█" not in said


@pytest.mark.parametrize("columns", [80, 30])
def test_in_a_terminal_the_address_is_a_code_too(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    address = "http://192.168.178.100:8765/?token=CJ9vS3e_4kkN3Kz5fYb2-A"
    shown = io.StringIO()
    terminal = Console(
        file=shown, force_terminal=True, color_system="standard", width=columns, soft_wrap=True
    )
    monkeypatch.setattr("sf_adapters.stand.process.errors", terminal)
    show_code(address)
    if columns < 40:
        assert not shown.getvalue()
        return
    lines = Text.from_ansi(shown.getvalue().rstrip("\n")).split("\n")
    assert shown.getvalue().count("\x1b[30;107m") == len(lines)  # black on bright white
    halves = [[(c in "▀█", c in "▄█") for c in line.plain] for line in lines]
    ink = np.array(halves).transpose(0, 2, 1).reshape(-1, len(halves[0]))
    picture = np.where(ink, 0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    assert zxingcpp.read_barcode(picture).text == address


def test_nothing_is_left_when_serve_is_killed(book: Path, serve: Callable[..., Serving]) -> None:
    def is_there() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", one.port)) == 0

    one = serve(book)
    assert is_there()
    one.process.kill()
    one.process.wait()
    eventually(lambda: not is_there())


def test_serve_by_https(
    book: Path,
    serve: Callable[..., Serving],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scorefollow: Any,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    async def visit(one: Serving, cert: Path) -> None:
        trusted = ssl.create_default_context(cafile=str(cert))
        async with aiohttp.ClientSession(f"https://localhost:{one.port}") as browser:
            token = one.url.partition("?token=")[2]
            async with browser.get("/", params={"token": token}, ssl=trusted) as answer:
                assert answer.status == 200
                assert "Secure" in answer.headers["Set-Cookie"]
            headers = {
                "Authorization": f"Bearer {token}",
                "Origin": f"https://localhost:{one.port}",
            }
            async with browser.ws_connect("/ws", ssl=trusted, headers=headers) as socket:
                await next_of(socket, "hello")

    one = serve(book, "--host", "0.0.0.0", "--tls")
    assert one.url.startswith("https://")
    (cert,) = (tmp_path / "data" / "scorefollow").glob("*.crt")
    (key,) = (tmp_path / "data" / "scorefollow").glob("*.key")
    assert key.stat().st_mode & 0o077 == 0
    told = ["openssl", "x509", "-in", cert, "-noout", "-ext", "extendedKeyUsage"]
    assert b"TLS Web Server Authentication" in subprocess.check_output(told)  # as iPads want it
    asyncio.run(visit(one, cert))
    one.end()
    made = cert.read_bytes()
    again = serve(book, "--host", "0.0.0.0", "--tls", f"{cert},{key}")
    asyncio.run(visit(again, cert))
    again.end()
    assert cert.read_bytes() == made
    for wrong, reason in [
        (f"{key},{cert}", "no certificate and its key"),
        ("nowhere.crt,nowhere.key", "No such file"),
        ("onefile", "write CERT,KEY"),
    ]:
        done = scorefollow("serve", book, "--tls", wrong)
        assert done.returncode == 2 and reason in done.stderr, done.stderr


def test_serve_says_what_is_wrong(book: Path, scorefollow_here: Any, tmp_path: Path) -> None:
    done = scorefollow_here("serve", tmp_path / "missing.pdf")
    assert done.returncode == 2 and "there is no such file" in done.stderr
    done = scorefollow_here("serve", book, "--port", "70000")
    assert done.returncode == 2 and "not in 0 to 65535" in done.stderr
    done = scorefollow_here("serve", book, "--port", "0", "--audio", tmp_path / "missing.wav")
    assert done.returncode == 2 and "missing.wav" in done.stderr and "Traceback" not in done.stderr


def test_layout_edit_opens_the_stand_for_correcting(
    example_plugin: Path, pdf: Path, layout_file: Path, tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/part\nmv {tmp_path}/part {tmp_path}/url\n'
    )
    browser.chmod(0o755)
    program = Path(sys.executable).parent / "scorefollow"
    words = ["layout", "--edit", "--follower", "constant-tempo", "--layout", layout_file, pdf]
    editing = subprocess.Popen(
        [program, *words],
        env={**os.environ, "PYTHONPATH": str(example_plugin), "BROWSER": f"{browser} %s"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        opened = tmp_path / "url"
        for _ in range(600):
            if opened.exists() or editing.poll() is not None:
                break
            time.sleep(0.1)
        url, _, place = opened.read_text().partition("#")
        assert place == "correct"
        with urllib.request.urlopen(url + "api/score") as answer:
            assert json.load(answer)["can"]["correct"] is True
    finally:
        editing.send_signal(signal.SIGINT)
        said = editing.communicate(timeout=60)[1]
    assert editing.returncode == 130, said
