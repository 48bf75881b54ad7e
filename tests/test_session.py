from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, make_layout
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sf_plugin
from sf_plugin.api import Samples, make_mapper
from sf_plugin.audio.source import Source
from sf_plugin.controls import Controls
from sf_plugin.errors import AudioError, ScoreError, SinkError
from sf_plugin.followers import Reading
from sf_plugin.positions import (
    Control,
    Estimate,
    Event,
    Jump,
    PageTurn,
    Position,
    State,
    StateChange,
)
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.model import Pages, Score
from sf_plugin.score.places import Start
from sf_plugin.session import Narrator, Session
from sf_plugin.sinks import Sink


class Heard(Sink):
    def __init__(self, fail_at: int | None = None, fail_in: str = "") -> None:
        self.events: list[Event] = []
        self.fail_at = fail_at
        self.fail_in = fail_in
        self.opened = self.closed = 0

    def open(self, score: Score, layout: Layout) -> None:
        self.opened += 1
        if self.fail_in == "open":
            raise SinkError("nobody listens: start the receiver")
        if self.fail_in == "open by a bug":
            raise KeyError("x")

    def emit(self, event: Event) -> None:
        if len(self.events) == self.fail_at:
            raise RuntimeError("cable pulled")
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1
        if self.fail_in == "close":
            raise SinkError("disk full: free some space")


class Watched(Samples):
    closed = 0

    def close(self) -> None:
        super().close()
        self.closed += 1


def test_a_performance_becomes_events_in_order(follower: Any, score: Score, take: Any) -> None:
    sink = Heard()
    source = Watched(*take)
    summary = Session(source, follower, make_mapper(), score, [("heard", sink)]).run()
    positions = [event for event in sink.events if isinstance(event, Position)]
    assert summary.positions == len(positions) == 330
    assert summary.last == positions[-1]
    assert summary.seconds == pytest.approx(16.5)
    times = [event.time for event in sink.events]
    assert times == sorted(times)
    states = [(e.previous, e.state) for e in sink.events if isinstance(e, StateChange)]
    assert states == [("waiting", "tracking")]
    assert [e.page for e in sink.events if isinstance(e, PageTurn)] == [2]
    assert not [e for e in sink.events if isinstance(e, Jump)]
    playing = [p.measure for p in positions if p.state == "tracking"]
    assert sorted(set(playing)) == list(range(1, 17))
    assert playing == sorted(playing)
    assert (sink.opened, sink.closed, source.closed) == (1, 1, 1)


class Live(Samples):
    live = True


class Growing(Reading):
    """The second page is read when the first has been asked for `after` times."""

    def __init__(self, layout: Layout, after: int) -> None:
        super().__init__(Layout((layout.pages[0], PageLayout(2))))
        self.whole, self.after = layout, after
        self.closed = 0

    def more(self) -> Layout | None:
        self.after -= 1
        return self.whole if self.after == 0 else None

    def close(self) -> None:
        self.closed += 1


def test_what_is_read_while_it_is_played_reaches_all_who_know_the_layout(
    follower: Any, score: Score, layout: Layout, take: Any
) -> None:
    class Extended(Heard):
        layouts: tuple[Layout, ...] = ()

        def open(self, score: Score, layout: Layout) -> None:
            self.layouts = (layout,)

        def extend(self, layout: Layout) -> None:
            self.layouts += (layout,)

    reading = Growing(layout, 3)
    follower.read = lambda score, progress, through: follower.prepare(score) and reading
    sink = Extended()
    Session(Live(*take), follower, make_mapper(), score, [("heard", sink)]).run()
    assert sink.layouts == (Layout((layout.pages[0], PageLayout(2))), layout)
    assert reading.closed == 1
    playing = [p.measure for p in sink.events if isinstance(p, Position) and p.state == "tracking"]
    assert sorted(set(playing)) == list(range(1, 17))
    assert [e.page for e in sink.events if isinstance(e, PageTurn)] == [2]
    recorded = Heard()
    Session(Samples(*take), follower, make_mapper(), score, [("heard", recorded)]).run()
    assert recorded.events == sink.events


def test_a_start_is_followed_from_and_is_the_page_shown(
    follower: Any, score: Score, take: Any
) -> None:
    sink = Heard()
    start = Start.of("2:5")
    Session(Samples(*take), follower, make_mapper(), score, [("heard", sink)], start=start).run()
    positions = [event for event in sink.events if isinstance(event, Position)]
    assert {p.page for p in positions} == {2}
    assert positions[0].measure == 13
    assert not [e for e in sink.events if isinstance(e, PageTurn)]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"start": "3"}, "the score has 2 pages"),
        ({"start": "2:9"}, "8 measures were found"),
        ({"pages": "2-5"}, "has 2 pages"),
    ],
)
def test_a_place_that_is_not_there_is_refused(
    follower: Any, score: Score, take: Any, how: Any, says: str
) -> None:
    with pytest.raises(ScoreError, match=says):
        list(sf_plugin.follow(score, take, follower=follower, **how))


def test_only_chosen_pages_are_followed(follower: Any, score: Score, take: Any) -> None:
    positions = list(sf_plugin.follow(score, take, follower=follower, pages="2"))
    assert {p.page for p in positions} == {2}
    assert {p.measure for p in positions} == set(range(9, 17))


@given(cuts=st.lists(st.integers(0, 16 * 8000), max_size=12))
@settings(max_examples=10, deadline=None)
def test_how_the_sound_is_cut_changes_nothing(cuts: list[int]) -> None:
    import sys

    sys.path.insert(0, str(ROOT / "examples" / "constant_tempo_follower"))
    from constant_tempo_follower import ConstantTempo

    class Cut(Source):
        def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
            yield from np.split(sound, sorted(cuts))

    class Whole(Source):
        def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
            yield sound

    sound = np.concatenate([np.zeros(3000), np.full(16 * 8000, 0.2)]).astype(np.float32)
    score = Score("blank", Pages(2, lambda index: np.zeros((9, 9), np.uint8)), make_layout(2))
    one, other = (
        list(Session(source, ConstantTempo(), make_mapper(), score).events())
        for source in (Whole(), Cut())
    )
    assert one == other


def test_realtime_says_the_same_at_the_pace_of_the_sound(
    follower: Any, score: Score, take: Any
) -> None:
    now = [100.0]
    told: list[tuple[float, float]] = []

    def sleep(seconds: float) -> None:
        assert seconds >= 0
        now[0] += seconds

    fast = list(Session(Samples(*take), follower, make_mapper(), score).events())
    live = Session(
        Samples(*take),
        follower,
        make_mapper(),
        score,
        realtime=True,
        clock=lambda: now[0],
        sleep=sleep,
    )
    paced = []
    for event in live.events():
        paced.append(event)
        told.append((now[0] - 100.0, event.time))
    assert paced == fast
    lags = [wall - time for wall, time in told]
    assert min(lags) > -1e-6
    assert max(lags) < 0.03


def test_a_failing_sink_is_dropped_once_and_the_others_hear_everything(
    follower: Any, score: Score, take: Any, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad, buggy = Heard(), Heard(fail_at=5), Heard(fail_in="open by a bug")
    session = Session(
        Samples(*take),
        follower,
        make_mapper(),
        score,
        [("bad", bad), ("good", good), ("buggy", buggy)],
    )
    summary = session.run()
    assert summary.failed_sinks == ["buggy", "bad"]
    assert len(bad.events) == 5
    assert len([e for e in good.events if isinstance(e, Position)]) == 330
    assert (bad.closed, good.closed, buggy.closed) == (1, 1, 1)
    reports = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(reports) == 2
    assert "'bad' failed and is dropped: RuntimeError('cable pulled')" in reports


def test_a_sink_that_cannot_finish_is_reported(
    follower: Any, score: Score, take: Any, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(
        Samples(*take), follower, make_mapper(), score, [("file", Heard(fail_in="close"))]
    )
    assert session.run().failed_sinks == ["file"]
    assert "'file' failed and is dropped: disk full: free some space" in caplog.text


def test_a_sink_that_cannot_be_opened_stops_the_session_and_closes_all(
    follower: Any, score: Score, take: Any
) -> None:
    first, second, source = Heard(), Heard(fail_in="open"), Watched(*take)
    session = Session(
        source, follower, make_mapper(), score, [("first", first), ("second", second)]
    )
    with pytest.raises(SinkError, match="nobody listens"):
        session.run()
    assert (first.closed, second.closed, source.closed) == (1, 1, 1)
    assert first.events == []


def test_leaving_early_closes_the_source(follower: Any, score: Score, take: Any) -> None:
    source = Watched(*take)
    positions = sf_plugin.follow(score, source, follower=follower)
    assert next(positions).state == "waiting"
    assert source.closed == 0
    positions.close()
    assert source.closed == 1


def test_a_broken_source_is_an_error_and_sinks_learn_of_it(follower: Any, score: Score) -> None:
    class Broken(Source):
        def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
            yield np.ones(sample_rate, np.float32)
            raise AudioError("the cable is out: plug it in")

    class Careful(Heard):
        error: BaseException | None = None

        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            self.error = error
            self.close()

    sink = Careful()
    with pytest.raises(AudioError, match="cable"):
        Session(Broken(), follower, make_mapper(), score, [("careful", sink)]).run()
    assert isinstance(sink.error, AudioError)
    assert sink.closed == 1


def test_follow_takes_files_and_arrays(
    follower: Any, pdf: Path, wav: Path, take: Any, score: Score
) -> None:
    sink = Heard()
    from_file = list(sf_plugin.follow(score, wav, follower=follower, sinks=[("heard", sink)]))
    assert [event for event in sink.events if isinstance(event, Position)] == from_file
    samples, rate = take
    pcm = np.round(samples * 32767).astype(np.int16)
    stereo = np.stack([pcm, pcm], axis=1)
    from_memory = list(sf_plugin.follow(score, (stereo, rate), follower=follower))
    assert [p.measure for p in from_memory] == [p.measure for p in from_file]
    assert len(sf_plugin.load_score(pdf).pages) == 2
    with pytest.raises(ScoreError, match="no such file"):
        sf_plugin.follow("missing.pdf", wav)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.zeros(0), 8000),
        (np.zeros((2, 2, 2)), 8000),
        (np.array(["a"]), 8000),
        (np.zeros(9), 0),
    ],
)
def test_what_is_no_audio_is_refused(samples: Any, rate: int) -> None:
    with pytest.raises(AudioError):
        Samples(samples, rate)


class ByX:
    """Ten measures across the page."""

    def open(self, layout: Layout) -> None:
        pass

    def extend(self, layout: Layout) -> None:
        pass

    def locate(self, e: Estimate) -> Position:
        measure = int(e.x * 10) + 1
        return Position(
            e.time, e.page, e.x, e.y, 1, measure, None, 1, None, None, e.confidence, e.state
        )


def ten_measures(**marks: set[int]) -> Layout:
    return make_layout(1, systems=1, measures=10, **marks)


def jumps(measures: list[int], *, layout: Layout | None = None, **how: Any) -> list[Jump]:
    """Half a second in each measure."""
    narrator = Narrator(layout or ten_measures(), ByX())
    how = {"confidence": 0.9, "state": "tracking"} | how
    events: list[Event] = []
    for frame in range(10 * len(measures)):
        x = (measures[frame // 10] - 0.5) / 10
        events += narrator.tell(Estimate(frame * 0.05, 1, x, 0.5, **how))
    return [event for event in events if isinstance(event, Jump)]


def test_playing_on_is_no_jump() -> None:
    assert jumps([1, 2, 3, 3, 4]) == []


@pytest.mark.parametrize(("before", "after"), [(2, 7), (7, 2), (5, 4)])
def test_a_move_that_does_not_follow_is_one_jump(before: int, after: int) -> None:
    (jump,) = jumps([before, after, after, after + 1])
    assert (jump.from_measure, jump.to_measure, jump.confidence) == (before, after, 0.9)
    assert 0.5 <= jump.time <= 1.0


def test_a_flicker_is_no_jump() -> None:
    narrator = Narrator(ten_measures(), ByX())
    events: list[Event] = []
    for frame in range(200):
        x = 0.75 if frame % 10 == 9 else 0.25
        events += narrator.tell(Estimate(frame * 0.05, 1, x, 0.5, 0.9, "tracking"))
    assert not [event for event in events if isinstance(event, Jump)]


@pytest.mark.parametrize("how", [{"confidence": 0.4}, {"state": "lost"}, {"state": "unsure"}])
def test_an_unsure_move_is_no_jump(how: dict[str, Any]) -> None:
    assert jumps([1, 7, 7, 2], **how) == []


def test_a_repeat_is_no_jump_but_a_wrong_one_is() -> None:
    layout = ten_measures(repeat_start={3}, repeat_end={5})
    assert jumps([2, 3, 4, 5, 3, 4, 5, 6], layout=layout) == []
    assert [j.to_measure for j in jumps([4, 5, 1, 2], layout=layout)] == [1]


def test_reset_forgets_the_place() -> None:
    narrator = Narrator(ten_measures(), ByX())
    list(narrator.tell(Estimate(0.0, 1, 0.95, 0.5, 0.9, "tracking")))
    narrator.reset()
    first = list(narrator.tell(Estimate(0.0, 1, 0.05, 0.5, 0.9, "tracking")))
    assert [event.type for event in first] == ["position", "state"]


def test_a_bar_line_crossed_too_soon_is_no_jump() -> None:
    """At the end of a repeated part the place may for a moment be past it."""
    layout = ten_measures(repeat_start={3}, repeat_end={5})
    narrator = Narrator(layout, ByX())
    xs = [*[0.41] * 10, *[0.48] * 6, *[0.505] * 3, *[0.25] * 20, *[0.35] * 10]
    events: list[Event] = []
    for frame, x in enumerate(xs):
        events += narrator.tell(Estimate(frame * 0.05, 1, x, 0.5, 0.9, "tracking"))
    assert not [event for event in events if isinstance(event, Jump)]


def places(*stays: tuple[int, float, State], layout: Layout | None = None) -> list[Jump]:
    """Stays of so many seconds in the middle of measures."""
    narrator = Narrator(layout or ten_measures(), ByX())
    events: list[Event] = []
    frame = 0
    for measure, seconds, state in stays:
        for _ in range(round(seconds / 0.05)):
            x = (measure - 0.5) / 10
            events += narrator.tell(Estimate(frame * 0.05, 1, x, 0.5, 0.9, state))
            frame += 1
    return [event for event in events if isinstance(event, Jump)]


def test_where_it_waited_is_not_where_it_jumped_from() -> None:
    assert places((1, 2, "waiting"), (6, 1, "tracking"), (7, 1, "tracking")) == []


def test_found_again_further_on_is_no_jump_but_elsewhere_is_one() -> None:
    astray: list[tuple[int, float, State]] = [(9, 2, "lost"), (2, 1, "lost"), (8, 1, "lost")]
    onward = places((3, 1, "tracking"), *astray, (6, 1, "tracking"), (7, 1, "tracking"))
    assert onward == []
    (back,) = places((3, 1, "tracking"), *astray, (1, 1, "tracking"), (2, 1, "tracking"))
    assert (back.from_measure, back.to_measure) == (3, 1)
    (ahead,) = places((3, 1, "tracking"), (9, 0.5, "lost"), (9, 1, "tracking"))
    assert (ahead.from_measure, ahead.to_measure) == (3, 9)


@pytest.mark.parametrize("passed", [(), ((9, 0.6, "unsure"),)])
def test_a_jump_leads_to_where_it_landed_though_it_is_sure_later(passed: Any) -> None:
    there: list[tuple[int, float, State]] = [(2, 0.6, "unsure"), (3, 1, "tracking")]
    (jump,) = places((6, 1, "tracking"), *passed, *there)
    assert (jump.from_measure, jump.to_measure) == (6, 2)
    assert jump.time == pytest.approx(1.9 + 0.6 * len(passed), abs=0.06)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=8))
def test_every_jump_is_told_once(measures: list[int]) -> None:
    told = places(*((measure, 0.6, "tracking") for measure in measures))
    expected = [(a, b) for a, b in pairwise(measures) if b not in (a, a + 1)]
    assert [(jump.from_measure, jump.to_measure) for jump in told] == expected


def test_the_player_may_turn_and_the_music_is_looked_for_there(
    follower: Any, score: Score, take: Any
) -> None:
    places: list[tuple[int, float, float]] = []
    follower.goto = lambda *place: places.append(place)
    session = Session(Samples(*take), follower, make_mapper(), score)
    turned = []
    wished = False
    for event in session.events():
        if isinstance(event, PageTurn):
            turned.append(event)
        elif not wished and event.time > 2.0:
            session.controls.show(2)
            wished = True
    assert [(turn.page, turn.lead) for turn in turned] == [(2, 0.0)]
    assert 2.0 < turned[0].time < 3.5
    assert session.summary.turns == 1
    ((page, x, y),) = places
    assert page == 2
    first = make_layout(2).pages[1].systems[0]
    assert (x, y) == pytest.approx((first.left, (first.top + first.bottom) / 2))


def test_a_page_that_the_score_has_not_cannot_be_shown(
    follower: Any, score: Score, take: Any
) -> None:
    session = Session(Samples(*take), follower, make_mapper(), score)
    with pytest.raises(ScoreError, match="there is no page 3 to show"):
        session.controls.show(3)


def test_a_page_that_the_follower_does_not_know_ends_nothing(
    follower: Any, score: Score, take: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = Layout(make_layout(2).pages[:1])
    prepare = follower.prepare
    follower.prepare = lambda score, progress: prepare(replace(score, layout=first), progress)
    session = _session(follower, score, take)
    told: list[Event] = []
    for event in session.events():
        told.append(event)
        if len(told) == 20:
            session.controls.show(2)
            session.controls.point(2, 0.5, 0.5)
            session.controls.pause()
    assert [event.action for event in told if isinstance(event, Control)] == ["pause"]
    assert session.summary.seconds == pytest.approx(16.5)
    assert caplog.text.count("there is no page 2 to show") == 2


def test_the_page_shown_is_known_as_soon_as_a_wish_is_heeded(
    follower: Any, score: Score, take: Any
) -> None:
    session = _session(follower, score, take)
    shown = {}
    for event in session.events():
        match event:
            case Position(time=time) if 2 < time < 2.1:
                session.controls.show(2)
            case Control() | PageTurn():
                shown[event.type] = session.controls.shown
    assert shown == {"control": 2, "page_turn": 2}


def _session(follower: Any, score: Score, take: Any, sink: Sink | None = None) -> Session:
    sinks = [] if sink is None else [("heard", sink)]
    return Session(Samples(*take), follower, make_mapper(), score, sinks)


def test_the_player_says_where_the_music_is(follower: Any, score: Score, take: Any) -> None:
    places: list[tuple[int, float, float]] = []
    follower.goto = lambda *place: places.append(place)
    session = _session(follower, score, take)
    told: list[Event] = []
    for event in session.events():
        told.append(event)
        if len(told) == 20:
            session.controls.goto(9)
    control = next(event for event in told if isinstance(event, Control))
    turn = next(event for event in told if isinstance(event, PageTurn))
    assert (control.action, control.measure, control.page) == ("goto", 9, 2)
    assert control.time == turn.time and turn.page == 2
    assert places == [(2, control.x, control.y)]
    assert not [event for event in told if isinstance(event, Jump)]


def test_a_new_performance_begins_at_the_first_page_and_time_goes_on(
    follower: Any, score: Score, take: Any
) -> None:
    session = _session(follower, score, take)
    told: list[Event] = []
    wished = False
    for event in session.events():
        told.append(event)
        if not wished and isinstance(event, PageTurn):
            session.controls.reset()
            wished = True
    (reset,) = (event for event in told if isinstance(event, Control))
    after = told[told.index(reset) + 1 :]
    assert isinstance(after[0], PageTurn) and after[0].page == 1
    positions = [event for event in after if isinstance(event, Position)]
    assert next(p.measure for p in positions if p.state == "tracking") == 1
    assert all(position.pass_ == 1 for position in positions)
    times = [event.time for event in told]
    assert times == sorted(times)


def test_while_paused_silence_is_heard(follower: Any, score: Score, take: Any) -> None:
    samples, rate = take
    session = _session(follower, score, (samples, rate))
    heard: list[float] = []
    feed = follower.feed
    follower.feed = lambda block: heard.append(float(np.abs(block).max(initial=0))) or feed(block)
    told: list[Event] = []
    for event in session.events():
        told.append(event)
        match event:
            case Position(time=time) if 4 < time < 4.1:
                session.controls.pause()
            case Position(time=time) if 8 < time < 8.1:
                session.controls.resume()
    pause, *_, resume = (event for event in told if isinstance(event, Control))
    assert (pause.action, resume.action) == ("pause", "resume")
    assert 0.0 in heard and max(heard) > 0.1
    assert session.summary.seconds == pytest.approx(16.5)
    assert not session.controls.paused


def test_the_player_ends_the_session(follower: Any, score: Score, take: Any) -> None:
    sink = Heard()
    session = _session(follower, score, take, sink)
    for event in session.events():
        if event.time > 3:
            session.controls.stop()
    assert isinstance(sink.events[-1], Control) and sink.events[-1].action == "stop"
    assert session.summary.seconds < 6
    assert sink.closed == 1


class Asking(Heard):
    """A receiver that asks for things, as a stand does."""

    def attach(self, controls: Controls) -> None:
        self.controls = controls

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, Position) and len(self.events) == 5:
            self.controls.show(2)


@pytest.mark.parametrize("realtime", [False, True])
def test_a_sink_may_ask_the_session(follower: Any, score: Score, take: Any, realtime: bool) -> None:
    sink = Asking()
    options: dict[str, Any] = {"realtime": realtime, "sleep": lambda seconds: None}
    Session(Samples(*take), follower, make_mapper(), score, [("asks", sink)], **options).run()
    turn = next(event for event in sink.events if isinstance(event, PageTurn))
    assert turn.page == 2
    assert sink.controls.layout == score.layout


class Patient(Heard):
    """Does not close before another has."""

    def __init__(self, other: Heard) -> None:
        super().__init__()
        self.other = other

    def close(self) -> None:
        for _ in range(500):
            if self.other.closed:
                super().close()
                return
            time.sleep(0.01)


def test_who_is_long_at_its_end_keeps_nobody_else_from_ending(
    follower: Any, score: Score, take: Any
) -> None:
    first = Heard()
    last = Patient(first)
    sinks = [("first", first), ("last", last)]
    session = Session(Live(*take), follower, make_mapper(), score, sinks)
    assert session.run().failed_sinks == []
    assert (first.closed, last.closed) == (1, 1)


class Behind(Live):
    """A source of which more and more waits, then less."""

    waits: Any = ()

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        whole = np.concatenate(list(super().blocks(sample_rate)))
        pieces = np.array_split(whole, len(self.waits))
        for waiting, piece in zip(self.waits, pieces, strict=True):
            self.waiting_seconds = waiting
            yield piece


def test_fewer_frames_are_listened_to_while_more_sound_waits(
    follower: Any, score: Score, take: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = Behind(*take)
    source.waits = [0, 0.2, 0.3, 0.6, 5, 1.5, 0.3, 0.11, 0.05, 0.2, 0]
    paces: list[int] = []
    feed = follower.feed
    follower.feed = lambda block: paces.append(follower.hurry) or feed(block)
    summary = Session(source, follower, make_mapper(), score).run()
    assert paces == [1, 1, 2, 4, 40, 40, 40, 40, 1, 1, 1]
    assert summary.hurried_seconds == pytest.approx(16.5 * 6 / 11, abs=0.01)
    warned = [record.getMessage() for record in caplog.records]
    assert warned == ["the computer is too slow: some frames are passed over to keep up"]


def test_being_too_slow_now_and_then_is_told_once(
    follower: Any, score: Score, take: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = Behind(*take)
    source.waits = [0.3, 0.0] * 8
    summary = Session(source, follower, make_mapper(), score).run()
    assert summary.hurried_seconds == pytest.approx(16.5 / 2, abs=0.01)
    assert caplog.text.count("the computer is too slow") == 1
