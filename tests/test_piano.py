"""The piano that MIDI is heard on: what sounds, when, and for how long."""

from __future__ import annotations

import random
from collections.abc import Iterable

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sf_plugin.audio.piano import KEYS, MOST_NOTES, Piano

RATE = 22050

Floats = NDArray[np.float32]


def on(note: int, velocity: int = 80, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def off(note: int, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=note, channel=channel)


def control(number: int, value: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", control=number, value=value, channel=channel)


def pedal(value: int, channel: int = 0) -> mido.Message:
    return control(64, value, channel)


def play(*messages: tuple[float, mido.Message], seconds: float = 2.0) -> Floats:
    piano = Piano(RATE)
    for at, message in messages:
        piano.hear(message, round(at * RATE))
    return piano.render(round(seconds * RATE))


def level(sound: Floats, at: float, seconds: float = 0.1) -> float:
    part = sound[round(at * RATE) : round((at + seconds) * RATE)]
    return float(np.sqrt(np.square(part).mean()))


@pytest.mark.parametrize("key", [33, 57, 69, 84, 100])
def test_a_key_has_its_pitch(key: int) -> None:
    sound = play((0, on(key)))[: RATE // 2]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound)))
    hertz = np.fft.rfftfreq(8 * len(sound), 1 / RATE)
    lowest = 440 * 2 ** ((key - 69) / 12)
    near = (hertz > lowest * 0.97) & (hertz < lowest * 1.03)
    assert 12 * abs(np.log2(hertz[near][spectrum[near].argmax()] / lowest)) < 0.1
    between = (hertz > lowest * 1.2) & (hertz < lowest * 1.8)
    assert spectrum[near].max() > 5 * spectrum[between].max()


def test_every_key_sounds_about_as_loud_and_dies_away() -> None:
    for key in KEYS:
        sound = play((0, on(key, 127)), seconds=7)
        assert 0.05 < level(sound, 0) < 0.15
        assert level(sound, 2) < 0.5 * level(sound, 0)
        assert not sound[-RATE // 2 :].any()


def test_a_note_begins_at_its_sample_and_at_once() -> None:
    sound = play((0.5, on(60)))
    assert not sound[: RATE // 2].any()
    assert level(sound, 0.5, 0.01) > 0.3 * level(sound, 0.52)


def test_velocity_is_loudness() -> None:
    levels = [level(play((0, on(60, velocity))), 0) for velocity in (1, 20, 60, 100, 127)]
    assert levels == sorted(levels) and levels[0] > 0
    assert 10 < levels[-1] / levels[1] < 100


def test_a_key_that_is_let_go_is_damped() -> None:
    held, short = play((0, on(60))), play((0, on(60)), (0.5, off(60)))
    np.testing.assert_array_equal(short[: RATE // 2], held[: RATE // 2])
    assert level(short, 0.7) < 0.1 * level(held, 0.7)
    assert not short[-RATE // 2 :].any()
    np.testing.assert_array_equal(short, play((0, on(60)), (0.5, on(60, 0))))


def test_the_pedal_holds_what_was_let_go() -> None:
    held = play((0, on(60)))
    notes = ((0, pedal(127)), (0, on(60)), (0.5, off(60)))
    np.testing.assert_array_equal(play(*notes), held)
    lifted = play(*notes, (1.0, pedal(63)))
    np.testing.assert_array_equal(lifted[:RATE], held[:RATE])
    assert not lifted[-RATE // 4 :].any()
    np.testing.assert_array_equal(lifted, play(*notes, (1.0, control(121))))
    pressed_again = play((0, pedal(127)), (0, on(60)), (0.5, pedal(0)))
    np.testing.assert_array_equal(pressed_again, held)
    elsewhere = play((0, pedal(127, channel=1)), (0, on(60)), (0.5, off(60)))
    np.testing.assert_array_equal(elsewhere, play((0, on(60)), (0.5, off(60))))


def test_a_key_struck_again_is_one_string() -> None:
    twice = play((0, on(60)), (0.5, on(60)), (1.0, off(60)), seconds=2)
    assert level(twice, 0.5) == pytest.approx(level(twice, 0), rel=0.3)
    assert not twice[-RATE // 4 :].any()


def test_messages_that_end_notes() -> None:
    notes = ((0.0, pedal(127)), (0.0, on(60)), (0.0, on(64, channel=3)))
    assert level(play(*notes, (0.5, control(123))), 1.5) > 0
    both_off = play(*notes, (0.5, control(120)), (0.5, control(120, channel=3)))
    assert not both_off[-RATE // 2 :].any()
    quiet = play(*notes[1:], (0.5, control(123)), (0.5, off(64, channel=3)))
    assert not quiet[-RATE // 2 :].any()


def test_release_lets_go_of_everything() -> None:
    piano = Piano(RATE)
    for message in (pedal(127), on(60), pedal(127, channel=9), on(30, channel=9)):
        piano.hear(message, 0)
    piano.render(RATE)
    piano.release(piano.now)
    assert piano.render(RATE).any()
    assert not piano.render(RATE).any()
    piano.hear(on(60), piano.now)
    piano.hear(off(60), piano.now)
    piano.render(RATE)
    assert not piano.render(RATE).any()


@pytest.mark.parametrize("notes", [200, 5 * MOST_NOTES])
def test_many_notes_at_once(notes: int) -> None:
    piano = Piano(RATE)
    for n in range(notes):
        piano.hear(on(KEYS[n % len(KEYS)], 1 + n % 127, channel=n // len(KEYS) % 16), 0)
    sound = piano.render(RATE)
    assert 0.1 < np.abs(sound).max() <= 1
    piano.release(piano.now)
    piano.render(RATE)
    assert not piano.render(RATE).any()


def test_keys_that_no_piano_has_are_silent() -> None:
    assert not play((0, on(20)), (0, on(109)), (1, off(20)), (1, off(109))).any()


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_rates(rate: int) -> None:
    piano = Piano(rate)
    piano.hear(on(69, 127), 0)
    sound = piano.render(rate)
    spectrum = np.abs(np.fft.rfft(sound))
    assert abs(int(spectrum[430:450].argmax()) + 430 - 440) <= 1
    assert 0.03 < np.sqrt(np.square(sound[: rate // 10]).mean()) < 0.15


def random_messages(seed: int, count: int) -> Iterable[mido.Message]:
    """Any channel message, common message or system exclusive, and bytes that are none."""
    chance = random.Random(seed)
    parser = mido.Parser()
    while count > 0:
        parser.feed_byte(chance.choice((0x80, 0x90, 0xB0, chance.randrange(256))))
        parser.feed(chance.randrange(128) for _ in range(chance.randrange(5)))
        for message in parser:
            count -= 1
            yield message


@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_is_sent_breaks_it(seed: int) -> None:
    chance = random.Random(seed)
    piano = Piano(RATE)
    for message in random_messages(seed, 2000):
        piano.hear(message, piano.now + chance.randrange(-50, 200))
        sound = piano.render(chance.choice((0, 1, 50, 220)))
        assert np.isfinite(sound).all() and np.abs(sound).max(initial=0) <= 1
    for channel in range(16):
        piano.hear(control(120, channel=channel), piano.now)
    piano.render(RATE)
    assert not piano.render(10 * RATE).any()


MESSAGES = st.one_of(
    st.builds(on, st.integers(55, 60), st.integers(0, 127), st.integers(0, 1)),
    st.builds(off, st.integers(55, 60), st.integers(0, 1)),
    st.builds(pedal, st.sampled_from([0, 127]), st.integers(0, 1)),
    st.builds(control, st.sampled_from([120, 121, 123]), st.just(0), st.integers(0, 1)),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4000), MESSAGES), max_size=40),
    st.lists(st.integers(1, 1500), min_size=1, max_size=8),
)
def test_how_it_is_cut_changes_nothing(
    messages: list[tuple[int, mido.Message]], sizes: list[int]
) -> None:
    messages.sort(key=lambda both: both[0])
    whole = Piano(RATE)
    for at, message in messages:
        whole.hear(message, at)
    cut, waiting, blocks = Piano(RATE), list(messages), []
    while cut.now < 20_000:
        size = min(sizes[len(blocks) % len(sizes)], 20_000 - cut.now)
        while waiting and waiting[0][0] < cut.now + size:
            at, message = waiting.pop(0)
            cut.hear(message, at)
        blocks.append(cut.render(size))
    np.testing.assert_array_equal(np.concatenate(blocks), whole.render(20_000))
