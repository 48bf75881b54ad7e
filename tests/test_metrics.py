from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.dataset.programme import Aside
from sf_plugin.evaluation.metrics import (
    ANSWER,
    EARLY,
    FOUND,
    HOLD,
    LATE,
    THRESHOLDS,
    TOO_LATE,
    Answers,
    Truth,
    answers,
    calibration_error,
    heed,
    judge_turns,
    recoveries,
    reliability,
)
from sf_plugin.positions import PageTurn, Position

TRUTH = Truth(
    time=np.array([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]),
    page=np.array([1, 1, 1, 1, 1, 1, 2, 2]),
    system=np.array([1, 1, 1, 2, 2, 2, 1, 1]),
    x=np.array([0.2, 0.4, 0.6, 0.2, 0.4, 0.6, 0.2, 0.4]),
    measure=np.array([1, 1, 2, 3, 3, 4, 5, 5]),
    system_centres={1: [0.25, 0.75], 2: [0.5]},
    bars={
        (1, 1): [(0.1, 1), (0.5, 2)],
        (1, 2): [(0.1, 3), (0.5, 4)],
        (2, 1): [(0.1, 5)],
    },
)
"""Eight onsets half a second apart on three systems and two pages."""


def at(index: int, time: float, **changes: object) -> Position:
    """The true place of an onset, said at `time`."""
    page, system = int(TRUTH.page[index]), int(TRUTH.system[index])
    said = Position(
        time=time,
        page=page,
        x=float(TRUTH.x[index]),
        y=TRUTH.system_centres[page][system - 1],
        system=system,
        measure=int(TRUTH.measure[index]),
        label=None,
        pass_=1,
        beat=None,
        tempo=None,
        confidence=0.9,
        state="tracking",
    )
    return replace(said, **changes)  # type: ignore[arg-type]


def perfect(late: float = 0.0) -> list[Position]:
    return [at(i, float(time) + late) for i, time in enumerate(TRUTH.time)]


def test_a_perfect_follower() -> None:
    judged = answers(perfect(), TRUTH)
    np.testing.assert_array_equal(judged.error, np.zeros(8))
    assert judged.summary() == {
        "onsets": 8,
        "within_0.05s": 1.0,
        "within_0.1s": 1.0,
        "within_0.5s": 1.0,
        "within_1s": 1.0,
        "within_5s": 1.0,
        "page": 1.0,
        "system": 1.0,
        "measure": 1.0,
    }
    assert judged.confidence.tolist() == [0.9] * 8


def test_knowing_60_ms_late_is_in_time() -> None:
    assert ANSWER == 0.075
    np.testing.assert_array_equal(answers(perfect(late=0.06), TRUTH).error, np.zeros(8))


def test_knowing_90_ms_late_is_a_note_behind() -> None:
    judged = answers(perfect(late=0.09), TRUTH)
    assert judged.error.tolist() == [np.inf] + [0.5] * 7
    assert judged.ratios() == [0, 0, 7 / 8, 7 / 8, 7 / 8]
    assert judged.right_page.tolist() == [False, *[True] * 5, False, True]
    assert judged.right_system.tolist() == [False, True, True, False, True, True, False, True]
    assert judged.right_measure.tolist() == [False, True, False, False, True, False, False, True]


def test_a_place_60_ms_from_the_onset_counts_within_100_ms() -> None:
    close = replace(TRUTH, time=np.array([1.0, 1.06, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]))
    said = [at(0, 1.0), at(0, 1.06), at(2, 2.0), *perfect()[3:]]
    judged = answers(said, close)
    assert judged.error == pytest.approx([0, 0.06, 0, 0, 0, 0, 0, 0])
    assert judged.ratios() == [7 / 8, 1, 1, 1, 1]


def test_the_wrong_system_of_the_right_page() -> None:
    said = perfect()
    said[1] = replace(said[1], y=0.75)
    judged = answers(said, TRUTH)
    assert judged.error[1] == pytest.approx(1.5)  # where 3.0 s stands
    assert judged.right_page[1]
    assert not judged.right_system[1]
    assert not judged.right_measure[1]
    assert judged.summary()["system"] == 7 / 8


def test_the_wrong_page() -> None:
    said = perfect()
    said[1] = replace(said[1], page=2, y=0.5)
    judged = answers(said, TRUTH)
    assert judged.error[1] == pytest.approx(3.0)
    assert not judged.right_page[1]
    assert not judged.right_system[1]
    assert not judged.right_measure[1]


def test_a_page_without_music_is_infinitely_wrong() -> None:
    said = perfect()
    said[1] = replace(said[1], page=7)
    judged = answers(said, TRUTH)
    assert judged.error[1] == np.inf
    assert judged.ratios() == [7 / 8] * 5
    assert not judged.right_measure[1]


def test_the_right_system_but_another_measure() -> None:
    said = perfect()
    said[0] = replace(said[0], x=0.55)
    judged = answers(said, TRUTH)
    assert judged.error[0] == pytest.approx(1.0)
    assert judged.right_system[0]
    assert not judged.right_measure[0]


def test_nothing_said() -> None:
    judged = answers([], TRUTH)
    assert (judged.error == np.inf).all()
    assert judged.ratios() == [0] * 5
    assert not judged.right_page.any()
    assert judged.confidence.tolist() == [0] * 8


def test_waiting_is_no_answer() -> None:
    judged = answers([replace(p, state="waiting") for p in perfect()], TRUTH)
    assert (judged.error == np.inf).all()
    assert judged.summary()["measure"] == 0


def test_lost_and_unsure_are_answers() -> None:
    for state in ("unsure", "lost", "ended"):
        judged = answers([replace(p, state=state) for p in perfect()], TRUTH)
        assert (judged.error == 0).all()


def test_the_last_word_before_the_deadline_counts() -> None:
    said = [at(3, 0.5), at(0, 1.0749), at(5, 1.076)]
    judged = answers(said, replace(TRUTH, time=TRUTH.time))
    assert judged.error[0] == 0
    assert judged.error[1] == pytest.approx(2.0)


def test_of_equally_near_onsets_the_one_nearest_in_time_counts() -> None:
    repeated = replace(TRUTH, x=np.array([0.2, 0.4, 0.2, 0.2, 0.4, 0.6, 0.2, 0.4]))
    said = [at(0, 1.0), at(0, 1.5), at(0, 2.0)]
    assert answers(said, repeated).error[:3] == pytest.approx([0, 0.5, 0])


def test_an_onset_in_no_measure_is_never_right() -> None:
    unnumbered = replace(TRUTH, measure=np.zeros(8, np.int64), bars={})
    assert not answers(perfect(), unnumbered).right_measure.any()


@pytest.mark.parametrize(
    ("page", "y", "system"),
    [(1, 0.0, 1), (1, 0.49, 1), (1, 0.51, 2), (1, 1.0, 2), (2, 0.9, 1), (3, 0.5, 0)],
)
def test_the_system_nearest_to_a_height(page: int, y: float, system: int) -> None:
    assert TRUTH.system_at(page, y) == system


@pytest.mark.parametrize(
    ("page", "x", "y", "measure"),
    [
        (1, 0.0, 0.2, 1),
        (1, 0.1, 0.2, 1),
        (1, 0.4999, 0.2, 2),
        (1, 0.49, 0.2, 1),
        (1, 0.9, 0.8, 4),
        (3, 0.5, 0.5, 0),
    ],
)
def test_the_measure_at_a_point(page: int, x: float, y: float, measure: int) -> None:
    assert TRUTH.measure_at(page, x, y) == measure


def test_joined_answers_are_pooled() -> None:
    judged = Answers.join([answers(perfect(), TRUTH), answers([], TRUTH)])
    assert judged.summary()["onsets"] == 16
    assert judged.ratios() == [0.5] * 5
    assert judged.confidence.tolist() == [0.9] * 8 + [0] * 8


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_ratios_grow_with_the_threshold(errors: list[float]) -> None:
    wrong = np.zeros(len(errors), bool)
    ratios = Answers(np.array(errors), wrong, wrong, wrong, np.zeros(len(errors))).ratios()
    assert ratios == sorted(ratios)
    assert len(ratios) == len(THRESHOLDS)
    assert ratios[0] == sum(error <= 0.05 + 1e-9 for error in errors) / len(errors)


def test_calibration_error_is_the_gap_between_word_and_deed() -> None:
    right = np.array([True] * 9 + [False])
    assert calibration_error(np.full(10, 0.9), right) == pytest.approx(0.0)
    assert calibration_error(np.full(10, 0.5), right) == pytest.approx(0.4)
    two = np.array([1.0] * 5 + [0.05] * 5)
    assert calibration_error(two, np.array([True, False] * 5)) == pytest.approx(
        0.5 * (1 - 0.6) + 0.5 * (0.4 - 0.05)
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40))
def test_the_bins_of_the_reliability_hold_every_onset_once(
    said: list[tuple[float, bool]],
) -> None:
    confidence = np.array([c for c, _ in said], float)
    right = np.array([r for _, r in said], bool)
    bins = reliability(confidence, right)
    assert bins.shape == (10, 3)
    assert bins[:, 0].sum() == len(said)
    assert (bins[:, 0] * bins[:, 1]).sum() == pytest.approx(confidence.sum())
    assert (bins[:, 0] * bins[:, 2]).sum() == pytest.approx(right.sum())


JUMPY = replace(
    TRUTH,
    time=np.arange(1.0, 17.0),
    page=np.array([1] * 4 + [2] * 4 + [1] * 4 + [1] * 4),
    system=np.array([1] * 4 + [1] * 4 + [2] * 4 + [1] * 4),
    x=np.tile([0.2, 0.4, 0.6, 0.8], 4),
    measure=np.zeros(16, np.int64),
)
"""An onset a second; at 5, 9 and 13 s the music is in another system."""


def telling(places: list[tuple[float, int, float]], until: float = 17.0) -> list[Position]:
    """20 positions a second: from each time on, a page and a height."""
    out = []
    for time in np.arange(0.05, until, 0.05).tolist():
        page, y = [place[1:] for place in places if place[0] <= time + 1e-9][-1]
        out.append(at(0, round(time, 2), page=page, y=y, system=1))
    return out


def test_a_jump_is_made_up_for_when_the_right_system_is_reached_for_good() -> None:
    said = telling([(0.0, 1, 0.25), (5.7, 2, 0.5), (9.0, 2, 0.5), (13.5, 1, 0.25)])
    first, second, third = recoveries(
        said, JUMPY, [(5.0, "jump"), (9.0, "pause"), (13.0, "printed")]
    )
    assert (first.kind, second.kind, third.kind) == ("jump", "pause", "printed")
    assert first.seconds == pytest.approx(0.7)
    assert second.seconds == np.inf
    assert third.seconds == pytest.approx(0.5)


def test_passing_through_the_right_system_is_no_recovery() -> None:
    passing = telling([(0.0, 1, 0.25), (5.2, 2, 0.5), (5.2 + HOLD - 0.1, 1, 0.75), (7.0, 2, 0.5)])
    (jump,) = recoveries(passing, JUMPY, [(5.0, "jump")])
    assert jump.seconds == pytest.approx(2.0)


def test_jumps_within_a_system_or_before_the_first_onset_are_not_counted() -> None:
    assert recoveries(telling([(0.0, 1, 0.25)]), JUMPY, [(0.5, "jump"), (3.0, "jump")]) == []
    assert recoveries([], JUMPY, [(99.0, "jump")]) == []
    assert recoveries([], JUMPY, []) == []


def test_who_says_nothing_recovers_never() -> None:
    (jump,) = recoveries([], JUMPY, [(5.0, "jump")])
    assert jump.seconds == np.inf
    waiting = [replace(p, state="waiting") for p in telling([(0.0, 2, 0.5)])]
    assert recoveries(waiting, JUMPY, [(5.0, "jump")])[0].seconds == np.inf


def turn(time: float, page: int, half: bool = False) -> PageTurn:
    return PageTurn(time=time, page=page, lead=0.0, half=half)


PAGED = replace(
    TRUTH,
    time=np.arange(1.0, 25.0),
    page=np.array([1] * 8 + [2] * 8 + [1] * 8),
    system=np.array([1] * 4 + [2] * 4 + [1] * 8 + [1] * 8),
    x=np.tile([0.2, 0.4, 0.6, 0.8], 6),
    measure=np.zeros(24, np.int64),
)
"""An onset a second; at 9 s the music reads on to page 2, at 17 s it goes back to page 1."""


def test_turns_are_paired_with_the_first_onset_of_their_page() -> None:
    judged = judge_turns([turn(8.0, 2), turn(20.0, 1)], PAGED, 24.0)
    assert [(due.page, due.time, due.onward, due.lead) for due in judged.asked] == [
        (2, 9.0, True, 1.0),
        (1, 17.0, False, -3.0),
    ]
    assert (judged.due, judged.made, judged.right, judged.false) == (2, 2, 2, 0)
    assert (judged.leads(), judged.leads(onward=False)) == ([1.0, -3.0], [-3.0])
    assert (judged.too_late, judged.seconds) == (0, 24.0)
    nothing = judge_turns([], PAGED)
    assert (nothing.due, nothing.made, nothing.right, nothing.too_late) == (2, 0, 0, 1)


@pytest.mark.parametrize(
    ("made", "right", "false"),
    [
        ([turn(8.0 - EARLY, 2)], 1, 0),
        ([turn(7.9 - EARLY, 2)], 0, 1),
        ([turn(9.0 + LATE, 2)], 1, 0),
        ([turn(9.1 + LATE, 2)], 0, 0),
        ([turn(17.0 + FOUND, 1)], 1, 0),
        ([turn(17.1 + FOUND, 1)], 0, 0),
        ([turn(8.0, 3)], 0, 1),
        ([turn(8.0, 2), turn(18.0, 2)], 1, 1),
        ([turn(5.0, 2), turn(6.0, 1), turn(8.0, 2)], 1, 1),
        ([turn(8.0, 2), turn(12.0, 1), turn(13.0, 2)], 1, 1),
        ([turn(8.0, 2, half=True)], 0, 0),
    ],
    ids=[
        "just not too early",
        "too early",
        "just not too late",
        "late is not false",
        "just found in time",
        "found late is not false",
        "to a wrong page",
        "back where the music no longer is",
        "fluttering ahead of the turn",
        "away from the music and back",
        "half turns do not count",
    ],
)
def test_which_turns_are_right_and_which_are_false(
    made: list[PageTurn], right: int, false: int
) -> None:
    judged = judge_turns(made, PAGED)
    assert (judged.right, judged.false) == (right, false)


def test_a_pause_after_the_last_note_makes_no_turn_too_early() -> None:
    paused = replace(PAGED, time=PAGED.time + np.where(np.arange(24) < 8, 0.0, 20.0))
    judged = judge_turns([turn(7.5, 2)], paused)
    assert (judged.leads(), judged.false) == ([21.5], 0)


def test_for_a_short_visit_nothing_is_due_and_turning_is_not_false() -> None:
    page = np.array([1] * 8 + [2] * 1 + [1] * 15)
    glance = replace(PAGED, page=page, system=np.where(page == 2, 1, 2))
    assert judge_turns([], glance).due == 0
    judged = judge_turns([turn(9.5, 2), turn(10.5, 1)], glance)
    assert (judged.due, judged.made, judged.right, judged.false) == (0, 2, 0, 0)


def test_a_turn_where_the_music_reads_on_may_be_in_time_and_too_late() -> None:
    assert judge_turns([turn(9.0 + TOO_LATE, 2)], PAGED).too_late == 0
    assert judge_turns([turn(9.1 + TOO_LATE, 2)], PAGED).too_late == 1


def test_a_performance_that_begins_on_a_later_page_asks_for_a_turn() -> None:
    inside = replace(TRUTH, page=np.array([2] * 8))
    judged = judge_turns([turn(1.5, 2)], inside)
    assert (judged.due, judged.leads(), judged.asked[0].onward) == (1, [-0.5], False)


def test_where_nothing_of_the_piece_is_played_every_turn_is_false() -> None:
    none = np.zeros(0, np.int64)
    other = replace(PAGED, time=np.zeros(0), page=none, system=none, x=np.zeros(0), measure=none)
    judged = judge_turns([turn(3.0, 2), turn(5.0, 1)], other, 60.0)
    assert (judged.due, judged.made, judged.false, judged.seconds) == (0, 2, 2, 60.0)


def test_one_page_gives_no_time_in_which_anything_could_be_turned() -> None:
    alone = replace(TRUTH, system_centres={1: [0.25, 0.75]})
    assert judge_turns([], alone, 60.0).seconds == 0.0


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=20),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 3)), max_size=12),
)
def test_no_more_turns_are_right_than_were_due_or_made(
    pages: list[int], made: list[tuple[float, int]]
) -> None:
    count = len(pages)
    truth = replace(
        TRUTH,
        time=np.arange(float(count)),
        page=np.array(pages),
        system=np.ones(count, np.int64),
        measure=np.zeros(count, np.int64),
    )
    judged = judge_turns([turn(*one) for one in sorted(made)], truth)
    assert 0 <= judged.right <= min(judged.due, judged.made - judged.false)
    assert all(lead >= -FOUND for lead in judged.leads())
    joined = judged + judged
    assert (joined.due, joined.right) == (2 * judged.due, 2 * judged.right)


def test_what_is_said_of_other_music_is_told_by_stretch() -> None:
    states = ["waiting"] * 20 + ["tracking"] * 10 + ["unsure"] * 2 + ["tracking"] * 4
    states += ["unsure"] * 14 + ["lost"] * 20 + ["ended"] * 10
    said = [at(0, 0.1 * i, state=state) for i, state in enumerate(states)]
    asides = [Aside("talk", 0.0, 2.0), Aside("other music", 2.0, 7.0), Aside("applause", 7.0, 9.0)]
    talk, other, applause = heed(said, [PageTurn(2.5, 2, 0.0), PageTurn(7.5, 1, 0.0)], asides)
    assert (talk.tracking, talk.noticed, talk.turned, talk.last) == (0, 0.0, 0, "waiting")
    assert (other.frames, other.tracking, other.turned, other.last) == (50, 14, 1, "lost")
    assert other.noticed == pytest.approx(1.6), "two frames of doubt are not enough"
    assert (applause.turned, applause.last) == (1, "ended")
    (never,) = heed([at(0, 0.1 * i) for i in range(50)], [], [Aside("talk", 1.0, 4.0)])
    assert never.noticed == np.inf and never.tracking == never.frames == 30
    (silent,) = heed([], [], [Aside("talk", 1.0, 4.0)])
    assert (silent.frames, silent.last) == (0, "waiting")
