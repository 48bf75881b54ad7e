"""Page turns as another program receives them, and wishes as it sends them, through virtual
ports on a JACK server."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mido
import pytest
from conftest import until
from hypothesis import given
from hypothesis import strategies as st
from jackd import jack_server, needs_jackd, start_ready, stop
from midi_peers import PEDAL, READER, jack_backend, lines, press

from sf_adapters.midi import APPS, KINDS, PROFILES, PageTurnSink, TurnProfile, parse_turn
from sf_adapters.midi_control import DEFAULTS, MidiControl, Switches, parse_control
from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.midi_ports import find_port
from sf_plugin.positions import Control, PageTurn, StateChange
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.model import Score

pytest.importorskip("rtmidi", reason="python-rtmidi is not installed")

SCORE, LAYOUT = Score("a piece", []), Layout(())


@pytest.fixture(autouse=True)
def jack_midi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with jack_backend(monkeypatch):
        yield


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with jack_server(monkeypatch):
        yield


@pytest.fixture
def reader(server: None) -> Iterator[subprocess.Popen[str]]:
    process = start_ready(READER)
    yield process
    stop(process)


def turn(sink: PageTurnSink, *pages: int) -> None:
    for page in pages:
        sink.emit(PageTurn(1.0, page, 0.5))


CC_NEXT = [
    "control_change channel=0 control=67 value=127",
    "control_change channel=0 control=67 value=0",
]
CC_PREVIOUS = [
    "control_change channel=0 control=66 value=127",
    "control_change channel=0 control=66 value=0",
]
QUIET = ["control_change channel=0 control=123 value=0"]


@needs_jackd
@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("", [*CC_NEXT, *CC_NEXT, *CC_PREVIOUS, *QUIET]),
        (
            ",note=61,channel=16",
            [
                *[
                    "note_on channel=15 note=61 velocity=127",
                    "note_off channel=15 note=61 velocity=0",
                ]
                * 2,
                "note_on channel=15 note=60 velocity=127",
                "note_off channel=15 note=60 velocity=0",
                "note_off channel=15 note=61 velocity=0",
                "note_off channel=15 note=60 velocity=0",
                "control_change channel=15 control=123 value=0",
            ],
        ),
        (
            ",program=5,prev=9",
            [
                "program_change channel=0 program=5",
                "program_change channel=0 program=5",
                "program_change channel=0 program=9",
                *QUIET,
            ],
        ),
        (
            ",cc-page=20",
            [
                *[f"control_change channel=0 control=20 value={page}" for page in (2, 3, 2)],
                *QUIET,
            ],
        ),
    ],
)
def test_another_program_receives_the_turns(
    reader: subprocess.Popen[str], profile: str, expected: list[str]
) -> None:
    sink = PageTurnSink("sheet READER" + profile)
    sink.open(SCORE, LAYOUT)
    sink.emit(StateChange(0.5, "tracking", "waiting"))
    sink.emit(PageTurn(0.9, 2, 8.0, half=True))
    turn(sink, 2, 3, 2)
    sink.close()
    sink.close()
    assert lines(reader, len(expected)) == expected


@needs_jackd
def test_the_reader_shows_the_page_that_the_session_begins_with(
    reader: subprocess.Popen[str],
) -> None:
    controls = Controls(50)
    controls.shown = 38
    with PageTurnSink("reader") as sink:
        sink.attach(controls)
        sink.open(SCORE, LAYOUT)
        turn(sink, 39)
    assert lines(reader, 3) == [*CC_NEXT, *QUIET]


@needs_jackd
def test_the_value_may_be_another(reader: subprocess.Popen[str]) -> None:
    with PageTurnSink("reader,note=16,channel=15,value=90") as sink:
        sink.open(SCORE, LAYOUT)
        turn(sink, 2)
    assert lines(reader, 2) == [
        "note_on channel=14 note=16 velocity=90",
        "note_off channel=14 note=16 velocity=0",
    ]


@needs_jackd
def test_notes_are_off_after_an_error(reader: subprocess.Popen[str]) -> None:
    with pytest.raises(RuntimeError), PageTurnSink("reader") as sink:
        sink.open(SCORE, LAYOUT)
        raise RuntimeError("the session breaks")
    assert lines(reader, 1) == QUIET


@needs_jackd
def test_a_port_that_vanishes_is_found_again(
    server: None, caplog: pytest.LogCaptureFixture
) -> None:
    def said(words: str) -> bool:
        return any(words in record.message for record in caplog.records)

    caplog.set_level(logging.WARNING)
    first = start_ready(READER)
    with PageTurnSink("reader") as sink:
        sink.open(SCORE, LAYOUT)
        turn(sink, 2)
        assert lines(first, 2) == CC_NEXT
        stop(first)
        until(lambda: said("is gone"))
        turn(sink, 3, 4, 3)
        second = start_ready(READER)
        assert lines(second, 2) == CC_NEXT
        assert said("is back")
        turn(sink, 2)
        assert lines(second, 2) == CC_PREVIOUS
    assert lines(second, 1) == QUIET
    stop(second)
    assert len(caplog.records) == 2


@needs_jackd
def test_a_name_that_is_not_there_lists_what_is(reader: subprocess.Popen[str]) -> None:
    with pytest.raises(SinkError, match=r"no MIDI port called 'pedal': there is .*Sheet Reader"):
        PageTurnSink("pedal").open(SCORE, LAYOUT)


@needs_jackd
def test_no_port_at_all(server: None) -> None:
    with pytest.raises(SinkError, match="there is no MIDI output at all"):
        PageTurnSink("pedal").open(SCORE, LAYOUT)


def test_no_midi_server(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "no-such-server")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    with pytest.raises(SinkError, match="MIDI does not start"):
        PageTurnSink("pedal").open(SCORE, LAYOUT)
    assert capfd.readouterr().err == ""


def test_no_rtmidi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rtmidi.py").write_text("raise ModuleNotFoundError('no rtmidi')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SinkError, match="MIDI back end is missing"):
        PageTurnSink("reader").open(SCORE, LAYOUT)


def test_targets() -> None:
    assert parse_turn("Piano") == ("Piano", TurnProfile("cc", 67, 66, 1))
    assert parse_turn("Piano, cc=20, prev=30") == ("Piano", TurnProfile("cc", 20, 30, 1))
    assert parse_turn("Piano,note") == ("Piano", TurnProfile("note", 60, 59, 1))
    assert parse_turn("Piano,program,channel=16") == ("Piano", TurnProfile("program", 1, 0, 16))
    assert parse_turn("P,mobilesheets") == ("P", TurnProfile("note", 16, 15, 15))
    assert parse_turn("P,mobilesheets=40,prev=3") == ("P", TurnProfile("note", 40, 3, 15))
    assert parse_turn("P,forscore,value=1") == ("P", TurnProfile("cc", 67, 66, 1, 1))
    assert parse_turn("P,prev=0") == ("P", TurnProfile("cc", 67, 0, 1))
    assert parse_turn("A:B 28:0,cc-page=0") == ("A:B 28:0", TurnProfile("cc-page", 0, 127, 1))


@pytest.mark.parametrize(
    "target",
    [
        "",
        ",cc",
        "P,pc",
        "P,cc=128",
        "P,cc=x",
        "P,cc=-1",
        "P,channel=0",
        "P,channel",
        "P,note=5,prev=5",
        "P,cc,note",
        "P,cc=",
        "P,value=0",
        "P,number=5",
        "P,prev",
        "P,forscore,okular",
    ],
)
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(SinkError, match="page turns"):
        PageTurnSink(target)


def test_each_program_has_a_profile() -> None:
    assert not set(APPS) & set(KINDS) and set(PROFILES) == set(APPS) | set(KINDS)
    for name in PROFILES:
        _, profile = parse_turn(f"P,{name}")
        assert profile.kind in KINDS and profile.number != profile.previous


def test_more_pages_than_a_controller_counts() -> None:
    pages = Layout(tuple(PageLayout(page) for page in range(1, 129)))
    with pytest.raises(SinkError, match="128 pages"):
        PageTurnSink("reader,cc-page").open(SCORE, pages)


def test_ports_by_part_of_their_name() -> None:
    names = ["Midi Through", "Nord Stage 3", "Nord"]
    assert find_port(names, "stage") == "Nord Stage 3"
    assert find_port(names, "NORD") == "Nord"
    assert find_port(names, "nord s") == "Nord Stage 3"
    assert find_port(names, "pedal") is None


@given(
    st.sampled_from(["cc", "note", "program", "cc-page"]),
    st.integers(1, 16),
    st.lists(st.integers(1, 127), max_size=20),
)
def test_a_reader_that_obeys_shows_the_page(kind: str, channel: int, pages: list[int]) -> None:
    profile = TurnProfile(kind, 67, 66, channel)
    wire = {"cc": "control_change", "note": "note_on", "program": "program_change"}
    shown = 1
    for before, page in zip([1, *pages], pages, strict=False):
        for message in profile.messages(before, page):
            assert message.channel == channel - 1
            if kind == "cc-page":
                shown = message.value
            elif message.type == wire[kind] and getattr(message, "value", 1):
                number = message.bytes()[1]
                shown += {67: 1, 66: -1}[number]
        assert shown == page


# wishes


def wishes(controls: Controls, count: int) -> list[tuple[str, int | None]]:
    taken: list[Control] = []

    def enough() -> bool:
        taken.extend(controls.taken())
        return len(taken) >= count

    until(enough)
    return [(wish.action, wish.page) for wish in taken]


@needs_jackd
def test_a_pedal_is_obeyed(server: None) -> None:
    pedal = start_ready(PEDAL)
    controls = Controls(3)
    controls.shown = 2
    with MidiControl("FOOT,next=cc:67,previous=note:3,reset=program:7,pause=note:36") as sink:
        sink.attach(controls)
        sink.open(SCORE, LAYOUT)
        press(pedal, "control_change control=67 value=127", "control_change control=67 value=0")
        assert wishes(controls, 1) == [("show", 3)]
        press(pedal, "note_on note=3", "note_off note=3", "program_change program=7")
        press(pedal, "control_change control=66 value=127", "note_on note=67", "clock")
        press(pedal, "note_on note=36", "note_on note=36 velocity=0")
        expected = [("show", 1), ("reset", None), ("pause", None)]
        assert wishes(controls, 3) == expected
        controls.paused = True
        press(pedal, "note_on note=36")
        assert wishes(controls, 1) == [("resume", None)]
        sink.close()
        press(pedal, "note_on note=36")
    stop(pedal)
    assert not list(controls.taken())


@needs_jackd
def test_a_pedal_that_is_unplugged_is_heard_again(
    server: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    controls = Controls(3)
    pedal = start_ready(PEDAL)
    with MidiControl("foot") as sink:
        sink.attach(controls)
        sink.open(SCORE, LAYOUT)
        stop(pedal)
        until(lambda: any("is gone" in message for message in caplog.messages))
        pedal = start_ready(PEDAL)
        until(lambda: any("is back" in message for message in caplog.messages))
        press(pedal, "control_change control=67 value=127")
        assert wishes(controls, 1) == [("show", 2)]
        stop(pedal)


@needs_jackd
def test_no_pedal_at_all(server: None) -> None:
    with pytest.raises(SinkError, match="there is no MIDI input at all"):
        MidiControl("foot").open(SCORE, LAYOUT)


def heard(switches: Switches, *messages: str) -> list[str | None]:
    return [switches.hear(mido.Message.from_str(message)) for message in messages]


def test_a_controller_is_pressed_once_on_its_way_down() -> None:
    way = (1, 40, 63, 64, 90, 127, 90, 63, 40, 70, 31, 64)
    said = heard(Switches(DEFAULTS), *(f"control_change control=67 value={v}" for v in way))
    assert [value for value, wish in zip(way, said, strict=True) if wish] == [64, 64]


def test_one_channel_is_heard() -> None:
    port, switches = parse_control("pad, next=note:5, next=cc:5, channel=3")
    assert port == "pad"
    assert heard(
        switches,
        "note_on channel=1 note=5",
        "note_on channel=2 note=5",
        "control_change channel=2 control=5 value=127",
        "control_change channel=3 control=5 value=127",
        "clock",
    ) == [None, "next", "next", None, None]


def test_without_wishes_a_pedal_turns_pages() -> None:
    assert parse_control("foot")[1].wishes == DEFAULTS
    assert parse_control("foot,channel=2")[1].wishes == DEFAULTS


@pytest.mark.parametrize(
    "target",
    [
        "",
        ",next=cc:67",
        "P,next",
        "P,next=67",
        "P,next=cc",
        "P,next=cc:128",
        "P,next=cc:-1",
        "P,next=pitch:3",
        "P,stop=cc:1",
        "P,channel=0",
        "P,channel=17",
        "P,next=cc:1,previous=cc:1",
    ],
)
def test_controls_that_are_none(target: str) -> None:
    with pytest.raises(SinkError, match="MIDI control"):
        MidiControl(target)
