from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale import scale

from sf_plugin.errors import ScoreFollowerError
from sf_plugin.evaluation.baselines import BASELINES, ConstantSpeed, Warpings
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.engraved import Setting, make_cases
from sf_plugin.evaluation.following import follow_cases
from sf_plugin.evaluation.time_warping import SAMPLE_RATE, Chroma, OnlineTimeWarping

RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.random((60, 24))
REFERENCE /= np.linalg.norm(REFERENCE, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """The scale, played by someone human and then in strict time."""
    cache = tmp_path_factory.mktemp("recordings")
    setting = Setting(("clean", "mechanical"), False, 0, cache)
    return make_cases("scale", "scale", scale(), setting)


def tone(pitch: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)).astype(np.float32)


# chroma


@pytest.mark.parametrize("pitch", [57, 60, 64, 71, 83])
def test_a_tone_is_its_own_pitch_class(pitch: int) -> None:
    frames, sounds = Chroma().hear(tone(pitch, 1.0))
    assert sounds[4:].all()
    assert (frames[4:, :12].argmax(1) == pitch % 12).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9000), max_size=8))
def test_chroma_does_not_depend_on_how_the_sound_is_cut(cuts: list[int]) -> None:
    sound = np.concatenate([tone(60, 0.2), np.zeros(2000, np.float32), tone(67, 0.2)])
    whole, sounding = Chroma().hear(sound)
    ear = Chroma()
    parts = [ear.hear(part) for part in np.split(sound, sorted(cuts))]
    np.testing.assert_allclose(np.concatenate([frames for frames, _ in parts]), whole, atol=1e-9)
    np.testing.assert_array_equal(np.concatenate([s for _, s in parts]), sounding)


def test_silence_does_not_sound() -> None:
    frames, sounds = Chroma().hear(np.zeros(SAMPLE_RATE, np.float32))
    assert not sounds.any()
    assert np.isfinite(frames).all()


# online time warping


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=60, max_size=60))
def test_a_slower_performance_is_followed_frame_by_frame(lengths: list[int]) -> None:
    warping = OnlineTimeWarping(REFERENCE, 20)
    played = np.repeat(np.arange(60), lengths)
    heard = [warping.step(REFERENCE[place]) for place in played]
    np.testing.assert_array_equal(heard, played)


def test_a_faster_performance_is_followed() -> None:
    warping = OnlineTimeWarping(REFERENCE, 20)
    heard = np.array([warping.step(REFERENCE[place]) for place in range(0, 60, 2)])
    assert np.abs(heard - np.arange(0, 60, 2)).max() <= 2


def test_the_whole_path_cost_is_that_of_plain_dynamic_time_warping() -> None:
    played = REFERENCE[np.sort(RANDOM.integers(0, 60, 40))]
    warping = OnlineTimeWarping(REFERENCE, 1000)
    for frame in played:
        warping.step(frame)
    here = 1 - played @ REFERENCE.T
    cost = np.full(here.shape, np.inf)
    for i in range(here.shape[0]):
        for j in range(here.shape[1]):
            if i == j == 0:
                cost[0, 0] = here[0, 0]
                continue
            ways = [
                cost[i - 1, j] + here[i, j] if i else np.inf,
                cost[i, j - 1] + here[i, j] if j else np.inf,
                cost[i - 1, j - 1] + 2 * here[i, j] if i and j else np.inf,
            ]
            cost[i, j] = min(ways)
    np.testing.assert_allclose(warping._cost, cost[-1])


def test_the_path_does_not_leave_the_search() -> None:
    warping = OnlineTimeWarping(REFERENCE, 5)
    for _ in range(10):
        warping.step(REFERENCE[0])
    assert warping.step(REFERENCE[59]) <= warping.at + 5
    warping.reset()
    assert warping.step(REFERENCE[0]) == 0


# followers


def test_the_warping_baseline_follows_a_human(cases: list[Case]) -> None:
    for outcome in follow_cases(cases, BASELINES["chroma-oltw"].listen()):
        shares = outcome.answers.summary()
        assert shares["within_0.5s"] >= 0.9, outcome.case
        assert shares["measure"] >= 0.8, outcome.case


def test_the_score_is_synthesised_once_for_the_cases_on_one_stand(cases: list[Case]) -> None:
    listen = Warpings()
    assert listen(cases[0]).reference is listen(cases[1]).reference


def test_the_reference_knows_where_each_note_is(cases: list[Case]) -> None:
    reference = Warpings()(cases[0]).reference
    steps = np.flatnonzero(np.diff(reference.x, prepend=-1) != 0)
    truth = cases[0].truth
    np.testing.assert_allclose(reference.x[steps], truth.x)
    np.testing.assert_array_equal(reference.page[steps], truth.page)
    places = zip(truth.page, truth.system, strict=True)
    centres = [truth.system_centres[page][system - 1] for page, system in places]
    np.testing.assert_allclose(reference.y[steps], centres)


def test_who_has_no_notes_cannot_be_warped_to(cases: list[Case]) -> None:
    with pytest.raises(ScoreFollowerError, match="choose another --follower"):
        Warpings()(replace(cases[0], symbols=None))


def test_constant_speed_is_right_where_the_music_is_even(cases: list[Case]) -> None:
    (outcome,) = follow_cases(cases[1:], BASELINES["constant-speed"].listen())
    assert outcome.answers.right_page.mean() >= 0.8
    assert outcome.answers.summary()["within_1s"] > 0.5


def test_constant_speed_begins_and_ends_with_the_music(cases: list[Case]) -> None:
    follower = ConstantSpeed.for_case(cases[0])
    said = list(follower.feed(np.zeros(8000 * 60, np.float32)))
    start, end = cases[0].truth.time[[0, -1]]
    assert all((one.state == "waiting") == (one.time < start) for one in said)
    first = next(one for one in said if one.state == "tracking")
    assert (first.page, first.x) == (1, pytest.approx(0.1, abs=0.02))
    last = said[-1]
    assert last.time > end and (last.page, last.x) == (2, pytest.approx(0.9))
    assert all(0 <= one.x <= 1 for one in said)
