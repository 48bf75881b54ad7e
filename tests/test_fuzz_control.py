"""Ten thousand packets and messages of nonsense: nothing breaks, nothing is obeyed."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

import pytest
from conftest import make_layout
from jackd import needs_jackd
from midi_peers import midi_server
from pythonosc.osc_message_builder import build_msg
from test_osc_control import free_port

from sf_adapters.midi_control import MidiControl
from sf_adapters.osc_control import MOST_BYTES, OscControl
from sf_plugin.controls import Controls
from sf_plugin.positions import Control
from sf_plugin.score.model import Score

SCORE, LAYOUT = Score("a piece", []), make_layout(pages=3)
PACKETS = 10_000
MESSAGES = 10_000

VALID = [
    build_msg(address, list(arguments)).dgram
    for address, *arguments in (
        ("/sf/next",),
        ("/sf/next", 1.0),
        ("/sf/previous",),
        ("/sf/page", 3),
        ("/sf/goto", 9),
        ("/sf/goto", "2:1"),
        ("/sf/point", 1, 0.5, 0.25),
        ("/sf/reset",),
        ("/sf/pause",),
        ("/sf/resume",),
        ("/sf/stop",),
    )
]
ODD = [
    b"", b"/", b"#bundle\0", b"/sf/", b",", b"i", b"f", b"s", b"b", b"[", b"]", b"\0", b"\0" * 4,
    b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"*", b"{a,b}", b"../", b"%n",
]  # fmt: skip


def bundle(chance: random.Random, packets: list[bytes]) -> bytes:
    packet = b"#bundle\0" + chance.randbytes(8)
    for one in packets:
        size = len(one) if chance.random() < 0.7 else chance.randint(-(2**31), 2**31 - 1)
        packet += struct.pack(">i", size) + one
    return packet


def nonsense(chance: random.Random) -> bytes:
    """Bytes, a packet that is nearly a wish, or bundles of such; never surely valid."""
    packet = chance.choice(VALID)
    match chance.randrange(8):
        case 0:
            return chance.randbytes(chance.choice([0, 1, 4, 16, 64, 1000, MOST_BYTES, 9000]))
        case 1:
            return packet[: chance.randrange(len(packet))]
        case 2:
            at = chance.randrange(len(packet))
            return packet[:at] + chance.randbytes(1) + packet[at + 1 :]
        case 3:
            at = chance.randrange(len(packet) + 1)
            return packet[:at] + chance.choice(ODD) + packet[at:]
        case 4:
            at, to = sorted(chance.sample(range(len(packet) + 1), 2))
            return packet[:at] + packet[at:to] * chance.randint(2, 50) + packet[to:]
        case 5:
            tags = bytes(chance.choices(b"ifsbTFNhdtmr[]", k=chance.randint(1, 60)))
            head = packet[: packet.index(b",")] + b"," + tags
            return head + bytes(-len(head) % 4 or 4) + chance.randbytes(4 * chance.randint(0, 60))
        case 6:
            return bundle(chance, [nonsense(chance) for _ in range(chance.randint(0, 5))])
    for _ in range(chance.randint(5, 100)):
        packet = b"#bundle\0" + bytes(8) + struct.pack(">i", len(packet)) + packet
    return packet


def until_obeyed(controls: Controls, sentinel: Control, again: Callable[[], None]) -> list[Control]:
    """Ask again and again until the sentinel is obeyed; all else that was obeyed by then."""
    taken: list[Control] = []
    for turn in range(10_000):
        if turn % 100 == 0:
            again()
        taken += controls.taken()
        if sentinel in taken:
            return [wish for wish in taken if wish != sentinel]
        time.sleep(0.002)
    raise AssertionError("a wish is not heard any more")


def fuzz(
    sink: OscControl, port: int, sentinel: bytes, wish: Control, seed: int
) -> Iterator[tuple[list[bytes], list[Control]]]:
    """Packets, fifty at a time, and what was obeyed of them."""
    controls = Controls(3)
    controls.layout = LAYOUT
    sink.attach(controls)
    chance = random.Random(seed)
    with sink, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sink.open(SCORE, LAYOUT)
        for _ in range(PACKETS // 50):
            packets = [nonsense(chance) for _ in range(50)]
            for packet in packets:
                sender.sendto(packet[:65_000], ("127.0.0.1", port))
            again = partial(sender.sendto, sentinel, ("127.0.0.1", port))
            yield packets, until_obeyed(controls, wish, again)


def test_packets_without_the_token_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    sink = OscControl(f"{port},token=tacet al fine")
    sentinel = build_msg("/sf/point", ["tacet al fine", 2, 0.125, 0.75]).dgram
    wish = Control(0.0, "goto", page=2, x=0.125, y=0.75)
    for _, obeyed in fuzz(sink, port, sentinel, wish, seed=1):
        assert obeyed == []
    assert 1 <= len(caplog.records) <= 20


ADDRESSES = {
    "show": (b"/sf/next", b"/sf/previous", b"/sf/page"),
    "goto": (b"/sf/goto", b"/sf/point"),
    **{name: (b"/sf/" + name.encode(),) for name in ("reset", "pause", "resume", "stop")},
}


def test_packets_without_a_token_are_obeyed_where_they_are_wishes() -> None:
    port = free_port()
    sentinel = build_msg("/sf/point", [2, 0.125, 0.75]).dgram
    wish = Control(0.0, "goto", page=2, x=0.125, y=0.75)
    some = 0
    for packets, obeyed in fuzz(OscControl(str(port)), port, sentinel, wish, seed=2):
        sent = b" ".join(packet for packet in packets if len(packet) <= MOST_BYTES)
        for action, addresses in ADDRESSES.items():
            written = sum(sent.count(address + b"\0") for address in addresses)
            assert sum(one.action == action for one in obeyed) <= written
        for one in obeyed:
            assert one.page in (None, 1, 2, 3)
            assert one.measure is None or 1 <= one.measure <= 24
            assert one.x is None or (0 <= one.x <= 1 and 0 <= one.y <= 1)
        some += len(obeyed)
    assert 0 < some < PACKETS / 10


@pytest.fixture
def jack_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with midi_server(monkeypatch):
        yield


def midi_nonsense(chance: random.Random) -> bytes:
    """A message, or bytes that are none, but nothing that presses a switch of channel 3."""
    match chance.randrange(4):
        case 0:
            made = chance.randbytes(chance.randint(1, 40))
        case 1:
            end = b"\xf7" if chance.random() < 0.9 else b""
            made = b"\xf0" + chance.randbytes(chance.randint(0, 60)) + end
        case 2:
            made = bytes(chance.choices([0x92, 0xB2, 0xC2, 0, 9, 20, 36, 127, 255], k=3))
        case _:
            made = bytes((chance.randrange(0x80, 0xF0), *chance.choices(range(128), k=2)))
    return b"\xfe" if made[0] in (0x92, 0xB2, 0xC2) and _is_switch(made) else made


def _is_switch(made: bytes) -> bool:
    return made[1:2] in (b"\x24", b"\x14", b"\x03", b"\x09")


@needs_jackd
def test_midi_messages_that_are_no_wishes(jack_backend: None) -> None:
    jack = pytest.importorskip("jack", reason="JACK-Client is not installed")
    chance = random.Random(3)
    controls = Controls(3)
    bytes_to_send: SimpleQueue[bytes] = SimpleQueue()
    client = jack.Client("fuzz", no_start_server=True)
    out = client.midi_outports.register("out")

    @client.set_process_callback
    def send(frames: int) -> None:
        out.clear_buffer()
        with suppress(Empty):
            for offset in range(100):
                out.write_midi_event(offset, bytes_to_send.get_nowait())

    def reset() -> None:
        bytes_to_send.put(b"\xf0\xf7")
        bytes_to_send.put(b"\x92\x09\x64")

    pedal = MidiControl("fuzz,next=note:36,previous=cc:20,pause=program:3,reset=note:9,channel=3")
    pedal.attach(controls)
    with client, pedal:
        pedal.open(SCORE, LAYOUT)
        for _ in range(MESSAGES // 200):
            for _ in range(200):
                bytes_to_send.put(midi_nonsense(chance))
            assert until_obeyed(controls, Control(0.0, "reset"), reset) == []
