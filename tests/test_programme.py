from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scale import scale

from sf_plugin.dataset.acoustics import CROWDS, Crowd, among, loudness
from sf_plugin.dataset.perform import FIRST_ONSET, STYLES, perform
from sf_plugin.dataset.performance import Performance
from sf_plugin.dataset.programme import PROGRAMMES, Aside, Programme, later

RATE = 22050


def play(style: str = "human", seed: int = 0) -> Performance:
    return perform(scale(), np.random.default_rng(seed), STYLES[style])


def _play(rng: np.random.Generator) -> Performance:
    return perform(scale(), rng, STYLES["human"])


def programme(name: str, style: str = "human", seed: int = 0) -> Programme:
    rng = np.random.default_rng((seed, 4))
    return PROGRAMMES[name](play(style, seed), lambda: _play(rng), rng)


def test_an_audience_is_before_and_after_the_music() -> None:
    plain, heard = play(), programme("audience")
    talk, applause = heard.asides
    assert [talk.kind, applause.kind] == ["talk", "applause"]
    onsets = heard.performance.onsets["time"]
    assert talk.begin == 0 and talk.end + 0.5 < onsets[0]
    notes = heard.performance.notes
    assert (notes["onset"] + notes["duration"]).max() < applause.begin
    assert applause.end - applause.begin >= 6
    np.testing.assert_allclose(np.diff(onsets), np.diff(plain.onsets["time"]))
    assert [Aside(c.kind, c.begin, c.end) for c in heard.crowd] == list(heard.asides)


def test_another_piece_has_no_truth_here() -> None:
    heard = programme("wrong piece")
    assert len(heard.performance.onsets) == 0
    wanted = _play(np.random.default_rng((0, 4)))
    np.testing.assert_array_equal(heard.performance.notes["onset"], wanted.notes["onset"])
    assert (heard.performance.notes["printed"] == -1).all()
    (aside,) = heard.asides
    assert (aside.kind, aside.begin) == ("other music", FIRST_ONSET)
    assert aside.end > heard.performance.notes["onset"].max()


def test_an_interruption_fills_the_silence_before_a_jump() -> None:
    kinds = set()
    for seed in range(8):
        plain, heard = play("interrupted", seed), programme("interruption", "interrupted", seed)
        np.testing.assert_array_equal(heard.performance.onsets, plain.onsets)
        (jump,) = (h for h in plain.happenings if h.kind == "jump")
        (aside,) = heard.asides
        kinds.add(aside.kind)
        assert 8 <= aside.end - aside.begin <= 11
        assert jump.time - jump.pause < aside.begin < aside.end < jump.time
        notes = heard.performance.notes
        added = notes[notes["printed"] < 0]
        assert len(added) == len(notes) - len(plain.notes)
        if aside.kind == "talk":
            assert [c.kind for c in heard.crowd] == ["talk"] and not len(added)
            continue
        assert not heard.crowd and len(added) > 4
        assert (added["onset"] >= aside.begin - 0.1).all()
        assert (added["onset"] + added["duration"] <= aside.end + 1e-3).all()
        held = heard.performance.pedals[heard.performance.pedals["time"] <= aside.end]
        assert held["value"][-1] < 64
    assert kinds == {"talk", "other music"}


def test_a_performance_without_a_long_silence_is_not_interrupted() -> None:
    heard = programme("interruption")
    assert not heard.asides and not heard.crowd
    np.testing.assert_array_equal(heard.performance.notes, play().notes)


@pytest.mark.parametrize(("name", "style"), [(n, "interrupted") for n in PROGRAMMES])
def test_the_seed_decides(name: str, style: str) -> None:
    one, same, other = (programme(name, style, seed) for seed in (3, 3, 4))
    assert (one.crowd, one.asides) == (same.crowd, same.asides)
    assert one.performance.notes.tobytes() == same.performance.notes.tobytes()
    assert one.performance.pedals.tobytes() == same.performance.pedals.tobytes()
    assert (one.asides, one.performance.notes.tobytes()) != (
        other.asides,
        other.performance.notes.tobytes(),
    )


def test_later_moves_everything_alike() -> None:
    plain = play("interrupted")
    moved = later(plain, 2.5)
    for table, time in (("notes", "onset"), ("onsets", "time"), ("measures", "time")):
        before, after = getattr(plain, table), getattr(moved, table)
        np.testing.assert_allclose(after[time], before[time] + 2.5)
    assert [h.time for h in moved.happenings] == [h.time + 2.5 for h in plain.happenings]
    assert astuple(moved.happenings[0])[1:] == astuple(plain.happenings[0])[1:]


@pytest.mark.parametrize("kind", list(CROWDS))
def test_people_are_heard_when_and_as_loud_as_asked(kind: str) -> None:
    rng = np.random.default_rng(0)
    music = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    heard = among(music, (Crowd(kind, 3.0, 8.0, -6.0),), rng, RATE)
    assert len(heard) == 8 * RATE
    np.testing.assert_array_equal(heard[: 2 * RATE], music)
    assert not heard[2 * RATE : 3 * RATE].any()
    level = loudness(heard[3 * RATE :], RATE) / loudness(music, RATE)
    assert 20 * np.log10(level) == pytest.approx(-6, abs=0.1)
    again = among(music, (Crowd(kind, 3.0, 8.0, -6.0),), np.random.default_rng(0), RATE)
    np.testing.assert_array_equal(again, heard)


def test_applause_is_broadband_and_swells_and_dies_away() -> None:
    sound = CROWDS["applause"](np.random.default_rng(1), 9 * RATE, RATE)
    second = np.sqrt(np.square(sound).reshape(9, RATE).mean(1))
    assert second[0] < second[2:5].mean() > second[8]
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    octaves = np.array([power[(hertz >= f) & (hertz < 2 * f)].mean() for f in (500, 1000, 2000)])
    assert octaves.min() > 0.1 * octaves.max()
    narrow = power[(hertz > 500) & (hertz < 4000)].reshape(-1)
    assert narrow.max() < 0.01 * narrow.sum(), "no single pitch"


def test_applause_shorter_than_a_clap_is_silence_or_noise_but_not_an_error() -> None:
    assert CROWDS["applause"](np.random.default_rng(1), 10, RATE).shape == (10,)
