from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import make_layout

from sf_plugin import lanes
from sf_plugin.controls import Controls
from sf_plugin.lanes import MOST_WAITING, Lane
from sf_plugin.positions import Control, Event, PageTurn, Position, event_from_json
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Pages, Score
from sf_plugin.sinks import Sink

BLANK = np.full((1200, 848), 255, np.uint8)
SCORE = Score("two pages", Pages(2, lambda index: BLANK), make_layout(2))
LAYOUT = make_layout(2)


def position(time: float) -> Position:
    return Position(time, 1, 0.5, 0.5, 1, 1, None, 1, None, None, 0.9, "tracking")


class Slow(Sink):
    """Takes an event only when it is let."""

    def __init__(self) -> None:
        self.let = threading.Semaphore(0)
        self.events: list[Event] = []
        self.threads: set[str] = set()
        self.ended: list[type[BaseException] | None] = []

    def emit(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.let.acquire(timeout=20)
        self.events.append(event)

    def extend(self, layout: Layout) -> None:
        self.threads.add(threading.current_thread().name)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.ended.append(kind)


def opened(sink: Sink, failed: list[str], *, threaded: bool = True) -> Lane:
    lane = Lane("slow", sink, failed, threaded=threaded)
    lane.open(SCORE, LAYOUT, Controls(2))
    return lane


def test_a_slow_sink_delays_nobody_and_misses_only_old_positions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink, failed = Slow(), list[str]()
    with opened(sink, failed) as lane:
        turn = PageTurn(time=0.5, page=2, lead=1.0)
        lane.emit(turn)
        for n in range(1000):
            lane.emit(position(float(n)))
        lane.extend(LAYOUT)
        assert 1001 - MOST_WAITING <= lane.skipped <= 1003 - MOST_WAITING
        sink.let.release(2000)
    assert sink.events[0] == turn
    times = [event.time for event in sink.events[1:]]
    assert times == sorted(times)
    assert times[-1] == 999
    assert len(times) + lane.skipped == 1000
    assert sink.threads == {"sink slow"}
    assert (failed, sink.ended) == ([], [None])
    warned = [record.getMessage() for record in caplog.records]
    assert warned == ["'slow' is slower than the music: it misses positions"]


def test_only_where_no_position_waits_another_event_is_lost() -> None:
    sink, failed = Slow(), list[str]()
    with opened(sink, failed) as lane:
        for n in range(MOST_WAITING + 10):
            lane.emit(PageTurn(time=float(n), page=2, lead=1.0))
        sink.let.release(2000)
    assert sink.events[-1].time == MOST_WAITING + 9
    assert len(sink.events) + lane.skipped == MOST_WAITING + 10


def test_a_sink_that_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(lanes, "CLOSE_SECONDS", 0.2)
    sink, failed = Slow(), list[str]()
    with opened(sink, failed) as lane:
        lane.emit(position(0))
    assert failed == ["slow"]
    assert "does not end within 0.2 s" in caplog.text
    sink.let.release()


class Finishing(Sink):
    """Writes a large file when the session has ended."""

    def __init__(self) -> None:
        self.done = False

    def close(self) -> None:
        time.sleep(0.3)
        self.done = True


def test_a_sink_that_is_long_at_its_end_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.05)
    sink, failed = Finishing(), list[str]()
    with opened(sink, failed) as lane:
        lane.emit(position(0))
    assert sink.done
    assert failed == []
    assert "'slow' is not done yet: it is waited for, Ctrl-C leaves it behind" in caplog.text


class Broken(Sink):
    def __init__(self) -> None:
        self.closed = threading.Event()
        self.seen: list[float] = []

    def emit(self, event: Event) -> None:
        if event.time == 2:
            raise RuntimeError("cable pulled")
        self.seen.append(event.time)

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("threaded", [True, False])
def test_a_sink_that_fails_is_told_once_and_closed_once(
    caplog: pytest.LogCaptureFixture, threaded: bool
) -> None:
    caplog.set_level(logging.ERROR)
    sink, failed = Broken(), list[str]()
    with opened(sink, failed, threaded=threaded) as lane:
        for n in range(5):
            lane.emit(position(float(n)))
        assert sink.closed.wait(10)
        lane.emit(position(9))
    assert failed == ["slow"]
    assert sink.seen == [0, 1]
    assert caplog.text.count("cable pulled") == 1


@pytest.mark.parametrize("threaded", [True, False])
def test_a_sink_hears_why_a_session_ended_but_not_of_ctrl_c(threaded: bool) -> None:
    for error, told in ((ValueError("x"), ValueError), (KeyboardInterrupt(), None)):
        sink = Slow()
        with pytest.raises(type(error)), opened(sink, [], threaded=threaded):
            raise error
        assert sink.ended == [told]


def test_threads_end_with_their_sinks() -> None:
    before = threading.active_count()
    for _ in range(20):
        with opened(Slow(), []):
            pass
    assert threading.active_count() == before


@pytest.fixture
def controls() -> Iterator[Controls]:
    controls = Controls(2)
    controls.layout = LAYOUT
    yield controls


def test_wishes_wait_for_the_session_each_once(controls: Controls) -> None:
    controls.show(2)
    controls.goto(9)
    controls.point(1, 0.25, 0.5)
    for wish in (controls.pause, controls.resume, controls.reset, controls.stop):
        wish()
    wishes = list(controls.taken())
    actions = [wish.action for wish in wishes]
    assert actions == ["show", "goto", "goto", "pause", "resume", "reset", "stop"]
    (first, *_) = LAYOUT.pages[1].systems
    assert wishes[1].page == 2 and wishes[1].measure == 9
    assert (wishes[1].x, wishes[1].y) == (0.1, pytest.approx((first.top + first.bottom) / 2))
    assert (wishes[2].page, wishes[2].x, wishes[2].y, wishes[2].measure) == (1, 0.25, 0.5, None)
    assert not list(controls.taken())


def test_a_page_after_the_last_and_before_the_first_are_these(controls: Controls) -> None:
    controls.previous_page()
    controls.next_page()
    controls.shown = 2
    controls.next_page()
    assert [wish.page for wish in controls.taken()] == [1, 2, 2]


def test_wishes_in_quick_succession_add_up() -> None:
    controls = Controls(9)
    controls.next_page()
    controls.next_page()
    controls.previous_page()
    controls.next_page()
    assert [wish.page for wish in controls.taken()] == [2, 3, 2, 3]
    controls.next_page()
    assert [wish.page for wish in controls.taken()] == [2]
    controls.point(7, 0.5, 0.5)
    controls.pause()
    controls.previous_page()
    assert [wish.page for wish in controls.taken()] == [7, None, 6]


def test_wishes_that_nobody_heeds_do_not_gather(controls: Controls) -> None:
    for _ in range(100_000):
        controls.pause()
    assert len(list(controls.taken())) == 100


def test_the_level_rises_at_once_and_falls_slowly(controls: Controls) -> None:
    controls.hear(np.full(800, 0.5, np.float32), 16000)
    assert (controls.level.rms, controls.level.peak) == (0.5, 0.5)
    controls.hear(np.zeros(4800, np.float32), 16000)
    assert controls.level.rms == 0
    assert controls.level.peak == pytest.approx(0.25)
    controls.hear(np.zeros(0, np.float32), 16000)
    assert controls.level.peak == pytest.approx(0.25)


def test_a_wish_is_read_back_as_it_was_told() -> None:
    told = Control(time=1.5, action="goto", page=2, x=0.1, y=0.2, measure=9)
    assert event_from_json(told.to_json()) == told
    paused = Control(time=2.0, action="pause")
    assert paused.to_json() == '{"type":"control","time":2.0,"action":"pause"}'
    assert event_from_json(paused.to_json()) == paused
