"""OSC as other programs receive it."""

from __future__ import annotations

import json
import logging
import math
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY

from sf_adapters.osc import Antescofo, Inscore, Native, OscSink, bundle, parse_target
from sf_plugin.errors import SinkError
from sf_plugin.positions import STATES, Event, Jump, PageTurn, Position, StateChange
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import Score

SCORE, LAYOUT = Score("a piece", []), Layout(())
PLACE = Position(12.35, 1, 0.5, 0.25, 2, 14, "14a", 1, 2.5, 92.0, 0.75, "tracking")
NOWHERE = Position(12.4, 1, 0.5, 0.25, None, None, None, 1, None, None, 0.125, "lost")
EVENTS: tuple[Event, ...] = (
    PLACE,
    PageTurn(13.0, 2, 0.75),
    StateChange(13.5, "lost", "tracking"),
    Jump(14.0, 14, 3, 0.5),
    Jump(14.0, None, 3, 0.5),
    NOWHERE,
)

SERVER = """
import sys, json
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer
dispatcher = Dispatcher()
dispatcher.set_default_handler(lambda address, *args: print(json.dumps([address, *args])))
server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
print(server.server_address[1])
server.serve_forever()
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def oscdump() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """liblo's receiver, after it has shown that it listens."""
    port = free_port()
    command = ["stdbuf", "-oL", "oscdump", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            while not select.select([process.stdout], [], [], 0.1)[0]:
                assert process.poll() is None
                knock.sendto(b"/knock\0\0,\0\0\0", ("127.0.0.1", port))
        knock_line = process.stdout.readline()
        assert "/knock" in knock_line
        yield port, process
    finally:
        process.kill()
        process.communicate()


def send(port: int, events: tuple[Event, ...], profile: str = "") -> None:
    with OscSink(f"127.0.0.1:{port}{profile}") as sink:
        sink.open(SCORE, LAYOUT)
        for event in events:
            sink.emit(event)


@pytest.mark.skipif(not shutil.which("oscdump"), reason="liblo-tools is not installed")
def test_oscdump_prints_the_contract() -> None:
    with oscdump() as (port, process):
        send(port, EVENTS)
        assert process.stdout is not None
        lines = []
        while len(lines) < 11:
            line = process.stdout.readline()
            if "/knock" not in line:
                lines.append(re.sub(r"(\.\d*?)0+(?= |$)", r"\1", line.strip()))
    assert [line.split(" ", 1)[1] for line in lines] == [
        "/sf/position iffifff 1 0.5 0.25 14 2.5 92. 0.75",
        '/sf/measure isi 14 "14a" 1',
        "/sf/tempo f 92.",
        '/sf/status fsiiisifi 12.35 "tracking" 1 0 14 "14a" 1 92. 0',
        "/sf/page if 2 0.75",
        '/sf/state ss "lost" "tracking"',
        "/sf/jump iif 14 3 0.5",
        "/sf/jump iif -1 3 0.5",
        "/sf/position iffifff 1 0.5 0.25 -1 -1. -1. 0.125",
        '/sf/measure isi -1 "" 1',
        "/sf/tempo f -1.",
    ]


def received(events: tuple[Event, ...], profile: str, count: int) -> list[list[Any]]:
    with subprocess.Popen(
        [sys.executable, "-u", "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        send(int(server.stdout.readline()), events, profile)
        lines = [json.loads(server.stdout.readline()) for _ in range(count)]
        server.kill()
    return lines


def test_a_python_osc_server_receives_the_same() -> None:
    half = PageTurn(12.9, 2, 8.0, half=True)
    assert received((PLACE, PLACE, half, EVENTS[1]), "", 7) == [
        ["/sf/position", 1, 0.5, 0.25, 14, 2.5, 92.0, 0.75],
        ["/sf/measure", 14, "14a", 1],
        ["/sf/tempo", 92.0],
        ["/sf/status", pytest.approx(12.35), "tracking", 1, 0, 14, "14a", 1, 92.0, 0],
        ["/sf/position", 1, 0.5, 0.25, 14, 2.5, 92.0, 0.75],
        ["/sf/half", 2, 8.0],
        ["/sf/page", 2, 0.75],
    ]


def test_inscore_moves_its_cursor() -> None:
    later = replace(PLACE, time=PLACE.time + 1)
    assert received((PLACE, EVENTS[1], PLACE, later), ",inscore", 9) == [
        ["/ITL/scene/cursor", "x", 0.0],
        ["/ITL/scene/cursor", "y", -0.5],
        ["/ITL/scene/score", "page", 1],
        ["/ITL/scene/score", "page", 2],
        ["/ITL/scene/cursor", "x", 0.0],
        ["/ITL/scene/cursor", "y", -0.5],
        ["/ITL/scene/cursor", "x", 0.0],
        ["/ITL/scene/cursor", "y", -0.5],
        ["/ITL/scene/score", "page", 2],
    ]


def at(measure: int | None, page: int = 1, confidence: float = 0.9) -> Position:
    label = None if measure is None else str(measure)
    return replace(PLACE, measure=measure, label=label, page=page, confidence=confidence)


JOURNEY = (
    NOWHERE,
    at(7, confidence=0.5),
    at(7),
    at(7),
    at(8),
    PageTurn(13.0, 2, 0.75),
    at(9),
    PageTurn(13.0, 3, 8.0, half=True),
    at(9, page=2),
    at(None, page=2),
    replace(at(11, page=2), state="unsure"),
    at(9, page=2),
    at(7, page=1),
    PageTurn(14.0, 1, 0.0),
    at(7, page=1),
)


def test_musescore_selects_measures_of_the_page_that_it_shows() -> None:
    assert received(JOURNEY, ",musescore", 6) == [
        ["/select-measure", 7],
        ["/select-measure", 8],
        ["/goto", 2],
        ["/select-measure", 9],
        ["/goto", 1],
        ["/select-measure", 7],
    ]


def test_cues_start_and_markers_are_gone_to_at_their_measure() -> None:
    measures = (7, 8, 9, 7)
    assert received(JOURNEY, ",qlab", 4) == [[f"/cue/m{number}/start"] for number in measures]
    assert received(JOURNEY, ",ardour", 4) == [["/marker", f"m{number}"] for number in measures]


def test_reaper_follows_the_tempo() -> None:
    events = (PLACE, PLACE, NOWHERE, replace(PLACE, tempo=60.0), PLACE)
    assert received(events, ",reaper", 3) == [["/tempo/raw", tempo] for tempo in (92.0, 60.0, 92.0)]


def test_antescofo_counts_quarter_notes_from_the_start() -> None:
    measures = tuple(
        Measure(number, number / 10, (number + 1) / 10, onsets=((number / 10, 0.0), (0.9, 3.0)))
        for number in (1, 2, 3)
    )
    layout = Layout((PageLayout(1, (System(0.1, 0.3, 0.1, 0.4, measures),)),))
    profile = Antescofo(layout)
    second = Position(1.0, 1, 0.5, 0.2, 1, 2, "2", 1, 1.5, 92.0, 0.9, "tracking")
    assert list(profile.messages(second)) == [
        ("/antescofo/event_beatpos", "f", (4.5,)),
        ("/antescofo/tempo", "f", (92.0,)),
    ]
    assert list(profile.messages(second)) == []
    assert list(profile.messages(NOWHERE)) == []


def test_antescofo_without_symbols_sends_the_tempo() -> None:
    assert received((PLACE,), ",antescofo", 1) == [["/antescofo/tempo", 92.0]]


shares = st.floats(0, 1, width=32)
counts = st.integers(1, 2**31 - 1)
positions = st.builds(
    Position,
    time=st.floats(0, 1e5),
    page=counts,
    x=shares,
    y=shares,
    system=st.none() | counts,
    measure=st.none() | counts,
    label=st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    pass_=counts,
    beat=st.none() | st.floats(0, 1e3, width=32),
    tempo=st.none() | st.floats(1, 1e3, width=32),
    confidence=shares,
    state=st.sampled_from(STATES),
)
others = (
    st.builds(PageTurn, time=shares, page=counts, lead=shares)
    | st.builds(Jump, shares, st.none() | counts, st.none() | counts, shares)
    | st.builds(StateChange, shares, st.sampled_from(STATES), st.sampled_from(STATES))
)


@given(positions | others, st.sampled_from([Native, Inscore]))
def test_what_is_sent_parses_back(event: Event, profile: type[Native] | type[Inscore]) -> None:
    messages = list(profile(LAYOUT).messages(event))
    if not messages:
        assert profile is Inscore
        return
    parsed = OscBundle(bundle(messages).dgram)
    assert parsed.timestamp == IMMEDIATELY and parsed.num_contents == len(messages)
    for (address, tags, arguments), message in zip(messages, parsed, strict=True):
        assert message.address == address
        assert len(message.params) == len(tags)
        for tag, sent, got in zip(tags, arguments, message.params, strict=True):
            assert type(got) is {"i": int, "f": float, "s": str}[tag]
            assert got == (struct.unpack("f", struct.pack("f", sent))[0] if tag == "f" else sent)
            assert tag == "s" or math.isfinite(got)


def test_a_network_that_fails_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    sink = OscSink("255.255.255.255:9000")
    sink.open(SCORE, LAYOUT)
    with caplog.at_level(logging.WARNING):
        for event in EVENTS:
            sink.emit(event)
    assert len(caplog.records) == 1 and "255.255.255.255:9000" in caplog.records[0].message
    sink.close()
    sink.close()
    sink.emit(PLACE)


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    sink = OscSink(f"localhost:{free_port()}")
    sink.open(SCORE, LAYOUT)
    for _ in range(5):
        sink.emit(PLACE)
        time.sleep(0.01)
    sink.close()
    assert not caplog.records


def test_targets() -> None:
    assert parse_target("localhost:9000") == ("localhost", 9000, "sf")
    assert parse_target("[::1]:9000, antescofo") == ("::1", 9000, "antescofo")


@pytest.mark.parametrize(
    "target",
    ["", "localhost", ":9000", "localhost:", "localhost:0", "a:65536", "a:-1", "a:9,cubase"],
)
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(SinkError, match=r"HOST:PORT|choose sf, antescofo, inscore"):
        OscSink(target)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example"])
def test_a_host_that_is_not_known(host: str) -> None:
    with pytest.raises(SinkError, match="is not known"):
        OscSink(f"{host}:9000").open(SCORE, LAYOUT)


def test_the_example_prints_measures_and_turns() -> None:
    example = Path(__file__).parent.parent / "examples" / "osc_receiver.py"
    with subprocess.Popen(
        [sys.executable, str(example), "0"], stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        send(int(receiver.stdout.readline().removeprefix("listening on port ")), EVENTS[:3])
        said = [receiver.stdout.readline() for _ in range(5)]
        receiver.kill()
    assert said == [
        "measure 14 (14a), pass 1\n",
        "/sf/tempo 92.0\n",
        "page 1 is shown\n",
        "turn to page 2: its music begins in 0.8 s\n",
        "/sf/state lost tracking\n",
    ]
