from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import ROOT, make_layout
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sf_plugin
from sf_plugin.api import Samples, make_mapper
from sf_plugin.audio.source import Source
from sf_plugin.errors import AudioError, ScoreError, SinkError
from sf_plugin.positions import Estimate, Event, Jump, PageTurn, Position, StateChange
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import Pages, Score
from sf_plugin.session import Narrator, Session, successors
from sf_plugin.sinks import Sink


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "constant_tempo_follower"))
    from constant_tempo_follower import ConstantTempo

    return ConstantTempo()


@pytest.fixture
def score(layout: Layout) -> Score:
    blank = np.full((1200, 848), 255, np.uint8)
    return Score("two pages", Pages(2, lambda index: blank), layout)


@pytest.fixture
def take(wav: Path) -> tuple[NDArray[np.float64], int]:
    samples, rate = soundfile.read(wav)
    return samples, rate


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
    from_file = list(sf_plugin.follow(score, wav, follower=follower))
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


def bars(*marks: str) -> Layout:
    """Measures from marks: '[' repeat start, ']' repeat end, a digit its volta."""
    measures = tuple(
        Measure(
            number,
            number / 20,
            (number + 1) / 20,
            repeat_start="[" in mark,
            repeat_end="]" in mark,
            volta=next(filter(str.isdigit, mark), None),
        )
        for number, mark in enumerate(marks, 1)
    )
    return Layout((PageLayout(1, (System(0.1, 0.2, 0.0, 1.0, measures),)),))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (["", "", "]", ""], {3: {1}}),
        (["", "[", "]", "", "]"], {3: {2}, 5: {4}}),
        (["[", "", "1]", "2", ""], {3: {1}, 2: {4}}),
        (["[", "", "1", "1]", "2]", "3"], {4: {1}, 2: {5, 6}, 5: {1}}),
        (["", ""], {}),
        ([], {}),
    ],
)
def test_repeats_and_voltas_say_what_may_follow(
    marks: list[str], expected: dict[int, set[int]]
) -> None:
    assert successors(bars(*marks)) == expected
