"""Ten thousand wrong requests and messages to the real server: none is obeyed."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from conftest import make_layout

import sf_plugin
from sf_adapters.stand.door import Address
from sf_adapters.stand.process import ServerProcess
from sf_plugin.audio.live import PushedSource
from sf_plugin.controls import Controls
from sf_plugin.positions import Control, Jump

REQUESTS, MESSAGES, SOUNDS = 6000, 3500, 500
AT_ONCE = 32
PATIENCE = 60.0
MOMENT = 0.5
"""Some requests are never whole, and never answered."""

METHODS = ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get"]
PATHS = [
    "/", "/static/app.js", "/static/../server.py", "/static/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/pages/1.png?width=480", "/pages/1.png?width=481", "/pages/99.png?width=480",
    "/pages/..%2f..%2f1.png?width=480", "/pages/-1.png", "/api/score", "/api/state",
    "/api/control", "/api/layout", "/api/../ws", "/ws", "/sound?rate=48000", "/sound?rate=",
    "//", "/%00", "/%ff%fe", "*", "http://evil.example/", "/api/control?token=x&do=next",
]  # fmt: skip
WISHES = [
    '{"do":"next"}', '{"do":"stop"}', '{"do":"goto","measure":3}', '{"do":"reset"}',
    '{"do":"point","page":1,"x":0.5,"y":0.5}', '{"do":"show","page":2}', '{"do":"pause"}',
]  # fmt: skip
EVIL = ["http://evil.example", "null", "", "http://localhost.evil.example", "file://", "\xff"]
NAMES = ["evil.example", "localhost.evil.example", "", "a b", "[::1", "127.0.0.1@evil.example"]
KINDS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]


def noise(chance: random.Random, most: int = 200) -> bytes:
    return chance.randbytes(chance.randrange(most))


def mutated(chance: random.Random, text: bytes) -> bytes:
    """Some bytes of it changed, lost or doubled."""
    data = bytearray(text)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(3):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1:
                del data[at : at + chance.randint(1, 5)]
            case _:
                data[at:at] = data[max(0, at - chance.randint(1, 8)) : at]
    return bytes(data)


def is_wish(data: bytes) -> bool:
    """Whether somebody could take it for one."""
    try:
        wish = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(wish, dict) and "do" in wish


def no_wish(chance: random.Random) -> bytes:
    """A message that must not be obeyed."""
    while True:
        match chance.randrange(6):
            case 0:
                data = noise(chance)
            case 1:
                data = chance.choice(["[", '{"do":', '{"a":']).encode() * chance.randint(1, 600)
            case 2:
                values = [None, True, -1, 0, 3, 1e300, 10**40, "3", [], {}, "next", float("nan")]
                fields = ["measure", "page", "x", "y", "token", "do "]
                wish = {name: chance.choice(values) for name in chance.sample(fields, 3)}
                wish["do"] = chance.choice(["goto", "point", "show", "Next", "eval", None, 1])
                if wish["do"] in ("goto", "show", "point"):
                    wish["more"] = 1
                return json.dumps(wish).encode()
            case 3:
                data = chance.choice(WISHES).encode() + noise(chance, 8)
            case 4:
                data = chance.choice(WISHES).encode("utf-16")
            case _:
                data = mutated(chance, chance.choice(WISHES).encode())
        if not is_wish(data):
            return data


def request(chance: random.Random, port: int) -> bytes:
    """A request that must not be obeyed, though it may be answered."""
    good = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json"}
    headers, body = dict(good), b""
    method, path = chance.choice(METHODS), chance.choice(PATHS)
    match chance.randrange(6):
        case 0:
            return noise(chance, 2000) + b"\r\n\r\n"
        case 1:
            method, path, body = "POST", "/api/control", no_wish(chance)
        case 2:
            method, path = chance.choice([("POST", "/api/control"), ("PUT", "/api/layout")])
            body = (
                chance.choice(WISHES).encode() if method == "POST" else b'{"version":1,"pages":[]}'
            )
            wrong = chance.choice(["Origin", "Host", "Content-Type"])
            headers[wrong] = chance.choice(
                {"Origin": EVIL, "Host": NAMES, "Content-Type": KINDS}[wrong]
            )
        case 3:
            method, path, body = (
                "PUT",
                "/api/layout",
                mutated(chance, make_layout(3).to_json().encode()),
            )
        case 4:
            path = chance.choice(["/ws", "/sound?rate=48000"])
            method = "GET"
            headers |= {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Origin": chance.choice(EVIL),
            }
            headers["Sec-WebSocket-Version"] = chance.choice(["13", "8", "x"])
            headers["Sec-WebSocket-Key"] = chance.choice(["dGhlIHNhbXBsZSBub25jZQ==", "short"])
        case _:
            if path.startswith("/api/control"):
                body = no_wish(chance)
            headers[chance.choice(["X-" + "a" * 9000, "Cookie", "If-None-Match", "Range"])] = (
                "\x01ü" * 3
            )
    length = len(body) if chance.random() < 0.8 else chance.choice([-1, 10**12, "x"])
    if length == len(body) and chance.random() < 0.2:
        headers["Transfer-Encoding"] = chance.choice(["chunked", "gzip", "chunked, chunked"])
    lines = [f"{method} {path} HTTP/{chance.choice(['1.1', '1.1', '1.0', '9.9', 'x'])}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {length}"]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


async def send_requests(port: int, chance: random.Random, statuses: Counter[str]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(data: bytes) -> None:
        async with places:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with suppress(ConnectionError, TimeoutError):
                writer.write(data)
                head = await asyncio.wait_for(reader.readline(), MOMENT)
                words = head.split()
                statuses[words[1].decode() if len(words) > 1 else "none"] += 1
            writer.transport.abort()

    await asyncio.gather(*(one(request(chance, port)) for _ in range(REQUESTS)))


async def send_messages(port: int, chance: random.Random) -> None:
    """Each is answered by an error; then one that is too long or no text, which ends it."""
    sent = 0
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
        while sent < MESSAGES:
            async with browser.ws_connect("/ws", max_msg_size=0) as ws:
                count = chance.randint(1, 60)
                for _ in range(count):
                    await ws.send_str(no_wish(chance).decode("utf-8", "replace"))
                sent += count
                while count:
                    message = await ws.receive(PATIENCE)
                    assert message.type is aiohttp.WSMsgType.TEXT, message
                    count -= json.loads(message.data)["type"] == "error"
                if chance.random() < 0.5:
                    await ws.send_str(" " * 100_000)
                else:
                    await ws.send_bytes(chance.choice(WISHES).encode())
                while message.type is aiohttp.WSMsgType.TEXT:
                    message = await ws.receive(PATIENCE)


async def send_sounds(port: int, chance: random.Random) -> None:
    sent = 0
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
        while sent < SOUNDS:
            async with browser.ws_connect("/sound?rate=44100") as ws:
                for _ in range(chance.randint(1, 40)):
                    sent += 1
                    with suppress(ConnectionError):
                        await ws.send_bytes(noise(chance, 3000))
                with suppress(ConnectionError):
                    await ws.send_str(no_wish(chance).decode("latin-1"))


def raw_frames(chance: random.Random) -> Iterator[bytes]:
    """What no WebSocket client sends."""
    for _ in range(60):
        yield chance.randbytes(chance.randint(1, 300))


async def send_frames(port: int, chance: random.Random) -> None:
    hello = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for frames in raw_frames(chance):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            writer.write(hello.encode())
            assert b"101" in await asyncio.wait_for(reader.readline(), PATIENCE)
            writer.write(frames)
            await writer.drain()
        writer.transport.abort()


async def jump_heard(witness: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    while True:
        told: dict[str, Any] = json.loads((await witness.receive(PATIENCE)).data)
        if told["type"] == "jump":
            return told


@pytest.mark.timeout(900)
def test_ten_thousand_wrong_things_are_not_obeyed(
    pdf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book = tmp_path / "book.pdf"
    book.write_bytes(pdf.read_bytes())
    score, layout, controls = sf_plugin.load_score(book), make_layout(2), Controls(2)
    chance = random.Random(20261129)
    statuses: Counter[str] = Counter()
    source = PushedSource()

    async def attack(server: ServerProcess) -> None:
        port = server.port
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser,
            browser.ws_connect("/ws") as witness,
        ):
            hearing = asyncio.create_task(jump_heard(witness))
            await send_requests(port, chance, statuses)
            await send_messages(port, chance)
            await send_sounds(port, chance)
            await send_frames(port, chance)
            assert list(controls.taken()) == []
            server.tell(Jump(1.0, 1, 7, 0.9))
            assert (await hearing)["to_measure"] == 7
            async with browser.post("/api/control", json={"do": "goto", "measure": 7}) as answer:
                assert answer.status == 200

    server = ServerProcess(Address(port=0), score, (book,), browser_sound=True)
    server.start()
    with server:
        server.listen(source)
        server.begin(score, layout, controls)
        assert server._process is not None
        process = psutil.Process(server._process.pid)
        before = process.memory_info().rss
        with caplog.at_level(logging.WARNING):
            asyncio.run(attack(server))
        assert process.memory_info().rss - before < 200_000_000
        wish = wait_for(controls)
    assert wish.action == "goto" and wish.measure == 7
    assert [path.name for path in tmp_path.iterdir()] == ["book.pdf"]
    assert statuses["500"] == 0 and statuses["400"] > 500 and statuses["403"] > 300, statuses
    said = Counter(record.getMessage() for record in caplog.records)
    assert not said, said.most_common(9)


def wait_for(controls: Controls) -> Control:
    import time

    deadline = time.monotonic() + PATIENCE
    while True:
        for wish in controls.taken():
            return wish
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_attack_is_the_same_every_time() -> None:
    def begin() -> list[Any]:
        chance = random.Random(1)
        return [request(chance, 80) for _ in range(50)] + [no_wish(chance) for _ in range(50)]

    assert begin() == begin()
