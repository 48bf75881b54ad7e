from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.evaluation.metrics import ANSWER, THRESHOLDS, Answers, Truth, answers
from sf_plugin.positions import Position

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
