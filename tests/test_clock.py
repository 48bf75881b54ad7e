"""MIDI clock and OSC beats as other programs receive them."""

from __future__ import annotations

import logging
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import mido
import numpy as np
import pytest
from conftest import until
from hypothesis import given
from hypothesis import strategies as st
from jackd import needs_jackd
from midi_peers import SCORE, Receiver, live, midi_server
from test_accompaniment import played, position, score_of

from sf_adapters.clock import CLOCKS, ClockPulses, ClockSink, parse_clock
from sf_adapters.osc import OscSink, parse_target
from sf_plugin.accompaniment.bent_clock import STEADY, Begin, BentClock, Stretch
from sf_plugin.accompaniment.prediction import Prediction
from sf_plugin.errors import SinkError
from sf_plugin.positions import Control, Event

pytest.importorskip("rtmidi", reason="python-rtmidi is not installed")

TEMPO = 120.0
QUARTERS = [(0.5 + 0.5 * n, float(n)) for n in range(32)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with midi_server(monkeypatch):
        yield


class Sequencer(Receiver):
    """Driven by a clock: it knows where it is and whether it runs."""

    def __init__(self) -> None:
        super().__init__("sync", "Sequencer")

    def kinds(self) -> list[str]:
        return [message.type for _, message in list(self.rows) if message.type != "clock"]

    def clocks(self) -> np.ndarray:
        return np.array([when for when, message in list(self.rows) if message.type == "clock"])


@pytest.fixture
def sequencer(server: None) -> Iterator[Sequencer]:
    made = Sequencer()
    yield made
    made.close()


def place(messages: Sequence[mido.Message]) -> tuple[int, bool]:
    """Where a sequencer is, in clocks from the start, and whether it runs."""
    at, runs = 0, False
    for message in messages:
        match message.type:
            case "songpos":
                at = message.pos * CLOCKS // 4 - 1
            case "start":
                at, runs = -1, True
            case "continue":
                runs = True
            case "stop":
                runs = False
            case "clock" if runs:
                at += 1
    return at, runs


# another program


@needs_jackd
def test_a_sequencer_is_where_the_soloist_is(sequencer: Sequencer) -> None:
    with ClockSink("sequencer") as sink:
        began = live(sink, played(QUARTERS[:20], 10.0), score_of(5))
        until(lambda: len(sequencer.clocks()) >= 19 * CLOCKS)
        sink.emit(position(10.0, 19.0, "lost", 0.1))
        until(lambda: "stop" in sequencer.kinds())
        count = len(sequencer.clocks())
        time.sleep(0.3)
        assert len(sequencer.clocks()) == count
    until(lambda: len(sequencer.kinds()) >= 4)
    assert sequencer.kinds()[:3] == ["songpos", "start", "stop"]
    times = sequencer.clocks()[8 * CLOCKS : 18 * CLOCKS]
    steps = np.diff(times)
    off = 1000 * np.abs(steps - steps.mean())
    print(
        f"clocks: {1000 * steps.mean():.2f} ms apart, 95 % within {np.percentile(off, 95):.2f} ms"
    )
    assert steps.mean() == pytest.approx(60 / TEMPO / CLOCKS, rel=0.03)
    assert abs(times[0] - (began + 0.5 + 8 * 0.5)) < 0.15


@needs_jackd
def test_a_jump_is_told_by_the_song_position(sequencer: Sequencer) -> None:
    jumped = [(t, beat if beat < 8 else beat + 20) for t, beat in QUARTERS[:16]]
    with ClockSink("sequencer") as sink:
        live(sink, played(jumped, 8.5), score_of(10))
        until(lambda: "continue" in sequencer.kinds())
        at, runs = place([message for _, message in list(sequencer.rows)])
    assert runs
    kinds = sequencer.kinds()
    assert kinds[:5] == ["songpos", "start", "stop", "songpos", "continue"]
    (_, there) = [message.pos for _, message in sequencer.rows if message.type == "songpos"]
    assert there % 4 == 0 and 28 <= there // 4 <= 31
    assert abs(at / CLOCKS - 35.5) < 1.5


@needs_jackd
def test_holding_sends_no_clocks_and_a_reset_stops(sequencer: Sequencer) -> None:
    held = [(t + (2.0 if beat > 7 else 0.0), beat) for t, beat in QUARTERS[:12]]
    events: list[Event] = list(played(held, 8.6))
    with ClockSink("sequencer,meter=4/4") as sink:
        began = live(sink, events, score_of(3))
        times = sequencer.clocks() - began
        assert not ((times > 5.4) & (times < 6.2)).any()
        sink.emit(Control(8.6, "reset"))
        until(lambda: sequencer.kinds()[-1] == "stop")
    assert "continue" not in sequencer.kinds()


@needs_jackd
def test_a_sequencer_that_is_killed_is_told_the_position_when_it_is_back(server: None) -> None:
    first = Sequencer()
    made: list[Sequencer] = []

    def meanwhile(seconds: float) -> None:
        if seconds > 2.0 and first.process.poll() is None:
            first.process.kill()
            first.process.wait()
        if seconds > 4.0 and not made:
            made.append(Sequencer())

    with ClockSink("sequencer") as sink:
        began = live(sink, played(QUARTERS, 16.0), score_of(8), meanwhile)
        (second,) = made
        at, runs = place([message for _, message in list(second.rows)])
        assert runs and abs(at / CLOCKS - (time.monotonic() - began - 0.5) * 2) < 1.5
    until(lambda: second.kinds()[-1] == "stop")
    assert second.kinds()[:2] == ["songpos", "continue"]
    second.close()
    first.close()


@needs_jackd
def test_without_symbols_a_meter_is_taken(
    sequencer: Sequencer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with ClockSink("sequencer") as sink:
        sink.open(SCORE, score_of(4, symbols=False))
    assert "measures of 4/4 are taken" in caplog.text
    caplog.clear()
    with ClockSink("sequencer,meter=3/4") as sink:
        sink.open(SCORE, score_of(4, symbols=False))
    assert not caplog.records


# the pulses


@given(st.lists(st.tuples(st.floats(-1, 1000), st.lists(st.floats(0, 2), max_size=12)), max_size=5))
def test_clocks_are_the_place_of_the_clock(runs: list[tuple[float, list[float]]]) -> None:
    pulses = ClockPulses()
    for entry, steps in runs:
        sent = pulses.begin(Begin(0.0, entry, entry))
        assert [message.type for message in sent][-1] in ("start", "continue")
        first, _ = place(sent)
        assert (first + 1) / CLOCKS >= max(entry, 0.0) - 1e-5
        assert (first + 1) / CLOCKS < max(entry, 0.0) + 0.25 + 1e-5
        here = entry
        for step in steps:
            sent += pulses.go(Stretch(0.0, 1.0, here, here + step, False))
            here += step
            at, runs_now = place(sent)
            assert runs_now
            due = int(np.floor(here * CLOCKS + 1e-9))
            assert at == max(due, first)


def test_a_song_position_that_cannot_be_told_is_left_out() -> None:
    messages = ClockPulses().begin(Begin(0.0, 5000.0, 5000.0))
    assert [message.type for message in messages] == ["continue"]


def test_the_steady_clock_is_steady_while_the_soloist_is_not() -> None:
    """Predictions that are wrong by up to 60 ms make clocks that differ by little."""
    rng = np.random.default_rng(1)
    clock, pulses = BentClock(settings=STEADY), ClockPulses()
    times: list[float] = []
    wrong = 0.0
    for tick in range(2000):
        now = tick / 100
        if tick % 50 == 0:
            wrong = rng.uniform(-0.12, 0.12)
        there = Prediction(max(2 * now + wrong, 0.0), TEMPO, "moving", 1e9, 0)
        for one in clock.advance(now, there):
            if isinstance(one, Begin):
                pulses.begin(one)
            elif isinstance(one, Stretch):
                before = pulses.next
                pulses.go(one)
                times += [one.time_of(n / CLOCKS) for n in range(before, pulses.next)]
    steps = np.diff(times[CLOCKS:])
    assert steps.min() > 0.8 * 60 / TEMPO / CLOCKS
    assert steps.max() < 1.25 * 60 / TEMPO / CLOCKS
    assert steps.mean() == pytest.approx(60 / TEMPO / CLOCKS, rel=0.02)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Digitakt", ("Digitakt", None)),
        ("A:B 20:0, meter=6/8", ("A:B 20:0", 3.0)),
        ("x,meter=3/2", ("x", 6.0)),
    ],
)
def test_targets(text: str, wanted: tuple[str, float | None]) -> None:
    assert parse_clock(text) == wanted


@pytest.mark.parametrize("text", ["", ",meter=3/4", "x,meter=0/4", "x,meter=3/5", "x,3/4", "x,"])
def test_targets_that_are_none(text: str) -> None:
    with pytest.raises(SinkError, match="MIDI clock"):
        ClockSink(text)


# OSC beats


def datagrams(receiver: socket.socket, seconds: float) -> list[tuple[float, float, bytes]]:
    """(arrived, time tag, message) of bundles; both in seconds since 1970."""
    out = []
    until_then = time.time() + seconds
    while (left := until_then - time.time()) > 0:
        receiver.settimeout(left)
        try:
            data = receiver.recv(4096)
        except TimeoutError:
            break
        assert data.startswith(b"#bundle\0")
        whole, part = struct.unpack(">II", data[8:16])
        out.append((time.time(), whole - 2208988800 + part / 2**32, data[20:]))
    return out


def test_beats_come_steadily_with_the_time_when_they_are_so() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        rows: list[tuple[float, float, bytes]] = []
        listening = threading.Thread(target=lambda: rows.extend(datagrams(receiver, 7.5)))
        listening.start()
        with OscSink(f"127.0.0.1:{receiver.getsockname()[1]},beats") as sink:
            began = time.time()
            live(sink, played(QUARTERS[:12], 6.5), score_of(3))
            sink.close()
        listening.join()
    beats = [
        (arrived, tag, *struct.unpack(">ff", data[-8:]))
        for arrived, tag, data in rows
        if data.startswith(b"/sf/beat\0")
    ]
    assert len(beats) > 150
    early = np.array([tag - arrived for arrived, tag, *_ in beats])
    assert 0.0 < np.median(early) <= 0.051
    settled = [(tag - began, beat, tempo) for _, tag, beat, tempo in beats if 3 < tag - began < 5.5]
    assert len(settled) > 60
    off = [beat - (at - 0.5) * 2 for at, beat, _ in settled]
    print(f"beats: off by {1000 * np.median(off) / 2:.0f} ms (median)")
    assert abs(np.median(off)) < 0.3
    assert np.median([tempo for *_, tempo in settled]) == pytest.approx(TEMPO, rel=0.05)
    values = [beat for _, _, beat, _ in beats]
    assert values == sorted(values)
    pulses = [
        (tag - began, *struct.unpack(">iif", data[-12:]))
        for _, tag, data in rows
        if data.startswith(b"/sf/pulse\0")
    ]
    places = [(measure, beat) for _, measure, beat, _ in pulses]
    assert places == sorted(set(places))
    assert (2, 1) in places and (3, 4) in places
    later = [(tag, 4 * (measure - 1) + beat - 1) for tag, measure, beat, _ in pulses[3:]]
    assert abs(np.median([tag - 0.5 - beat / 2 for tag, beat in later])) < 0.15


@pytest.mark.skipif(not shutil.which("oscdump"), reason="liblo-tools is not installed")
def test_oscdump_acts_at_the_time_of_the_tag() -> None:
    from test_osc import oscdump

    with oscdump() as (port, process):
        with OscSink(f"127.0.0.1:{port},beats") as sink:
            live(sink, played(QUARTERS[:4], 2.0), score_of(1))
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(40)]
    assert any("/sf/beat ff " in line for line in lines)
    assert any("/sf/pulse iif 1 " in line for line in lines)


def test_nothing_is_sent_before_the_music_and_while_it_is_lost() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        with OscSink(f"127.0.0.1:{receiver.getsockname()[1]},beats") as sink:
            sink.open(SCORE, score_of(4))
            for n in range(20):
                sink.emit(position(0.025 * n, 0.0, "waiting", 0.0))
                time.sleep(0.025)
            assert not datagrams(receiver, 0.2)
            began = time.monotonic()
            for n in range(120):
                now = time.monotonic() - began + 0.5
                state = "tracking" if n < 40 else "lost"
                sink.emit(position(now, min(2 * (now - 0.5), 2.0), state, 0.9))
                time.sleep(0.025)
            assert datagrams(receiver, 0.01)
            sink.emit(position(4.0, 2.0, "lost", 0.1))
            time.sleep(0.2)
            while datagrams(receiver, 0.05):
                pass
            assert not datagrams(receiver, 0.3)


def test_the_profile_has_a_name() -> None:
    assert parse_target("h:1,beats") == ("h", 1, "beats")
