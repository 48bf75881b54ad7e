"""Wishes as other programs send them over UDP."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import make_layout
from pythonosc.osc_bundle_builder import OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import build_msg
from pythonosc.udp_client import SimpleUDPClient

from sf_adapters.osc_control import MOST_BYTES, NotUnderstood, OscControl, obey, read_packet
from sf_plugin.controls import Controls
from sf_plugin.errors import ScoreError, SinkError
from sf_plugin.positions import Control, PageTurn, event_from_json
from sf_plugin.score.model import Score

SCORE, LAYOUT = Score("a piece", []), make_layout(pages=3)
NEXT = build_msg("/sf/next").dgram


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def three_pages() -> Controls:
    controls = Controls(3)
    controls.layout = LAYOUT
    return controls


@contextmanager
def listening(options: str = "", host: str = "") -> Iterator[tuple[int, Controls]]:
    port, controls = free_port(), three_pages()
    with OscControl(f"{host}{port}{options}") as sink:
        sink.attach(controls)
        sink.open(SCORE, LAYOUT)
        yield port, controls


def wishes(controls: Controls, count: int) -> list[Control]:
    """The next so many, as they come."""
    taken: list[Control] = []
    for _ in range(400):
        taken += controls.taken()
        if len(taken) >= count:
            break
        time.sleep(0.025)
    assert len(taken) == count, taken
    return taken


def wish(address: str, *arguments: int | float | str) -> Control:
    controls = three_pages()
    obey(controls, read_packet(build_msg(address, list(arguments)).dgram)[0])
    (only,) = controls.taken()
    return only


def test_each_address_is_a_wish() -> None:
    first = LAYOUT.pages[1].systems[0]
    middle = (first.top + first.bottom) / 2
    assert wish("/sf/next") == Control(0.0, "show", page=2)
    assert wish("/sf/previous") == Control(0.0, "show", page=1)
    assert wish("/sf/page", 3) == Control(0.0, "show", page=3)
    assert wish("/sf/goto", 9) == Control(0.0, "goto", page=2, x=first.left, y=middle, measure=9)
    assert wish("/sf/goto", "2:1") == Control(0.0, "goto", page=2, x=first.left, y=middle)
    assert wish("/sf/goto", "2:2").x == first.measures[1].left
    assert wish("/sf/point", 1, 0.5, 0.25) == Control(0.0, "goto", page=1, x=0.5, y=0.25)
    for action in ("reset", "pause", "resume", "stop"):
        assert wish(f"/sf/{action}") == Control(0.0, action)  # type: ignore[arg-type]


def test_programs_that_know_floats_only() -> None:
    assert wish("/sf/page", 3.0).page == 3
    assert wish("/sf/goto", 9.0).measure == 9
    assert wish("/sf/point", 1.0, 0.0, 1.0) == Control(0.0, "goto", page=1, x=0.0, y=1.0)


def test_a_button_pressed_and_let_go() -> None:
    with listening() as (port, controls):
        for state in (1.0, 0.0, 1, 0):
            SimpleUDPClient("127.0.0.1", port).send_message("/sf/next", state)
        SimpleUDPClient("127.0.0.1", port).send_message("/sf/reset", [])
        assert [one.action for one in wishes(controls, 3)] == ["show", "show", "reset"]


@pytest.mark.skipif(not shutil.which("oscsend"), reason="liblo-tools is not installed")
def test_oscsend_is_obeyed() -> None:
    with listening() as (port, controls):
        send = ["oscsend", "localhost", str(port)]
        subprocess.run([*send, "/sf/goto", "i", "5"], check=True)
        subprocess.run([*send, "/sf/goto", "s", "3:1"], check=True)
        subprocess.run([*send, "/sf/pause"], check=True)
        assert [(one.action, one.page) for one in wishes(controls, 3)] == [
            ("goto", 1),
            ("goto", 3),
            ("pause", None),
        ]


def test_bundles_are_obeyed_in_order() -> None:
    inner = OscBundleBuilder(0)
    inner.add_content(build_msg("/sf/page", [3]))
    outer = OscBundleBuilder(time.time() + 3600)
    outer.add_content(build_msg("/sf/pause"))
    outer.add_content(inner.build())
    outer.add_content(build_msg("/sf/resume"))
    assert read_packet(outer.build().dgram) == [
        ("/sf/pause", []),
        ("/sf/page", [3]),
        ("/sf/resume", []),
    ]


@pytest.mark.parametrize(
    "message",
    [
        build_msg("/sf/page"),
        build_msg("/sf/page", ["2"]),
        build_msg("/sf/page", [2.5]),
        build_msg("/sf/page", [float("nan")]),
        build_msg("/sf/page", [float("inf")]),
        build_msg("/sf/page", [2, 3]),
        build_msg("/sf/goto", []),
        build_msg("/sf/goto", ["1" * 300]),
        build_msg("/sf/goto", ["\x1b[2J"]),
        build_msg("/sf/point", [1, 0.5]),
        build_msg("/sf/point", ["1", 0.5, 0.5]),
        build_msg("/sf/reset", ["now"]),
        build_msg("/sf/stop", [1, 1]),
        build_msg("/sf/play"),
        build_msg("/sf/position", [1, 0.5, 0.5, 1, 1.0, 92.0, 0.9]),
        build_msg("/sf/*"),
        build_msg("/sf/{next,stop}"),
        build_msg("/SF/next"),
        build_msg("/"),
    ],
    ids=lambda message: f"{message.address} {message.params}"[:40].replace("\x1b", "ESC"),
)
def test_what_is_no_wish(message: OscMessage) -> None:
    controls = three_pages()
    with pytest.raises(NotUnderstood):
        obey(controls, read_packet(message.dgram)[0])
    assert not list(controls.taken())


@pytest.mark.parametrize(
    ("address", "argument"),
    [
        ("/sf/page", 0),
        ("/sf/page", -1),
        ("/sf/page", 4),
        ("/sf/goto", 0),
        ("/sf/goto", 25),
        ("/sf/goto", "4:1"),
        ("/sf/goto", "1:9"),
        ("/sf/goto", "tutti"),
    ],
)
def test_places_that_are_none(address: str, argument: int | str) -> None:
    controls = three_pages()
    with pytest.raises(ScoreError):
        obey(controls, (address, [argument]))
    assert not list(controls.taken())


def nested(depth: int) -> bytes:
    packet = NEXT
    for _ in range(depth):
        packet = b"#bundle\0" + bytes(7) + b"\1" + struct.pack(">i", len(packet)) + packet
    return packet


HEAD = b"#bundle\0" + bytes(7) + b"\1"

BROKEN = {
    "nothing": b"",
    "text": b"next page, please",
    "no end": b"/sf/next",
    "no tags": b"/sf/next\0\0\0\0next",
    "half a tag": NEXT[:-1],
    "unknown type": b"/sf/next\0\0\0\0,T\0\0",
    "blob": build_msg("/sf/next", [b"12345"]).dgram,
    "array": build_msg("/sf/page", [[1]]).dgram,
    "missing argument": b"/sf/page\0\0\0\0,i\0\0",
    "missing float": b"/sf/point\0\0\0,iff\0\0\0\0" + bytes(10),
    "too long": NEXT + bytes(4),
    "not UTF-8": b"/sf/\xff\xfe\0\0,\0\0\0",
    "a thousand types": b"/sf/next\0\0\0\0," + b"i" * 1003,
    "bundle without time": b"#bundle\0\0\0",
    "bundle of size -4": HEAD + struct.pack(">i", -4) + NEXT,
    "bundle of size -24": HEAD + struct.pack(">i", len(NEXT)) + NEXT + struct.pack(">i", -24),
    "bundle of size 0": HEAD + struct.pack(">i", 0) + NEXT,
    "bundle that promises": HEAD + struct.pack(">i", 2**31 - 1) + NEXT,
    "bundle with a rest": HEAD + struct.pack(">i", len(NEXT)) + NEXT + b"\0",
    "nested": nested(5),
    "deeply nested": nested(180),
    "one of two is broken": HEAD
    + struct.pack(">i", len(NEXT))
    + NEXT
    + struct.pack(">i", 4)
    + b"abcd",
    "large": b"/sf/next\0\0\0\0,s\0\0" + b"x" * MOST_BYTES + bytes(4),
}


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN)
def test_packets_that_are_broken(packet: bytes) -> None:
    with pytest.raises(NotUnderstood):
        read_packet(packet)


def test_broken_packets_are_told_of_once_and_obeyed_never(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with listening() as (port, controls), socket.socket(type=socket.SOCK_DGRAM) as sender:
        for packet in BROKEN.values():
            sender.sendto(packet, ("127.0.0.1", port))
        sender.sendto(NEXT, ("127.0.0.1", port))
        assert wishes(controls, 1) == [Control(0.0, "show", page=2)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages[0].startswith("OSC from 127.0.0.1 is not obeyed: ")


def test_who_asks_for_too_much_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with listening() as (port, controls), socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.settimeout(20)
        sender.sendto(build_msg("/sf/page", [9]).dgram, ("127.0.0.1", port))
        reply = OscMessage(sender.recv(1000))
        assert reply.address == "/sf/error"
        assert reply.params == ["there is no page 9 to show: the score has 3 pages"]
        assert not list(controls.taken())


def test_a_token_is_asked_for() -> None:
    with listening(",token=open sesame") as (port, controls):
        client = SimpleUDPClient("127.0.0.1", port)
        for arguments in ([], ["sesame"], ["open sesame "], [2, "open sesame"]):
            client.send_message("/sf/stop", arguments)
        half = OscBundleBuilder(0)
        half.add_content(build_msg("/sf/page", ["open sesame", 3]))
        half.add_content(build_msg("/sf/stop"))
        client.send(half.build())
        client.send_message("/sf/page", ["open sesame", 2])
        client.send_message("/sf/pause", ["open sesame"])
        assert [one.action for one in wishes(controls, 2)] == ["show", "pause"]


def test_others_are_heard_with_a_token_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREFOLLOW_TOKEN", raising=False)
    sink = OscControl(f"0.0.0.0:{free_port()}")
    sink.attach(three_pages())
    with pytest.raises(SinkError, match="set SCOREFOLLOW_TOKEN to a secret"):
        sink.open(SCORE, LAYOUT)
    monkeypatch.setenv("SCOREFOLLOW_TOKEN", "tacet")
    with listening(host="0.0.0.0:") as (port, controls):
        client = SimpleUDPClient("127.0.0.1", port)
        client.send_message("/sf/pause", [])
        client.send_message("/sf/resume", ["tacet"])
        assert [one.action for one in wishes(controls, 1)] == ["resume"]


def test_others_do_not_reach_it_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFOLLOW_TOKEN", "tacet")
    with listening() as (port, _), socket.socket(type=socket.SOCK_DGRAM) as beside:
        beside.bind(("127.0.0.2", port))
    with (
        listening(host="0.0.0.0:") as (port, _),
        socket.socket(type=socket.SOCK_DGRAM) as beside,
        pytest.raises(OSError, match="in use"),
    ):
        beside.bind(("127.0.0.2", port))


def test_a_port_that_is_taken() -> None:
    with listening() as (port, _), pytest.raises(SinkError, match="choose another port"):
        OscControl(str(port)).open(SCORE, LAYOUT)


def test_a_port_is_free_again_after_the_end() -> None:
    with listening() as (port, _):
        pass
    sink = OscControl(str(port))
    sink.attach(three_pages())
    sink.open(SCORE, LAYOUT)
    sink.close()
    sink.close()


@pytest.mark.parametrize(
    "address", ["", "x", "0", "65536", "a:", ":", "9100,", "9100,token=", "9100,key=x", "9,10"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(SinkError, match=r"write \[HOST:\]PORT"):
        OscControl(address)


def test_a_host_that_is_not_known() -> None:
    with pytest.raises(SinkError, match="is not known"):
        OscControl("no-such-host.invalid:9100,token=x").open(SCORE, LAYOUT)


def test_a_session_is_steered_and_ended(
    example_plugin: Path, tmp_path: Path, pdf: Path, layout_file: Path, wav: Path
) -> None:
    port = free_port()
    words = ["--layout", str(layout_file), "--follower", "constant-tempo", "--audio", str(wav)]
    words += ["--realtime", "--osc-in", str(port), "--out", "-"]
    program = str(Path(sys.executable).parent / "scorefollow")
    session = subprocess.Popen(
        [program, "follow", str(pdf), *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(example_plugin)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert session.stdout is not None
    session.stdout.readline()
    client = SimpleUDPClient("127.0.0.1", port)
    for address, argument in (("/sf/page", 2), ("/sf/page", 9), ("/sf/goto", 3), ("/sf/stop", 1)):
        client.send_message(address, argument)
    out, err = session.communicate(timeout=100)
    events = [event_from_json(line) for line in out.splitlines()]
    told = [event for event in events if isinstance(event, Control | PageTurn)]
    assert [getattr(event, "action", event.page) for event in told] == [
        "show",
        2,
        "goto",
        1,
        "stop",
    ]
    assert told[-1] == events[-1] and session.returncode == 0
    assert "there is no page 9" in err
