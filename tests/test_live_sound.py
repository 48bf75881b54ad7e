"""Time, loudness and warnings of sound that is made now."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray

from sf_plugin.audio import live
from sf_plugin.audio.level import AutomaticGain, LevelWatch, decibels
from sf_plugin.audio.live import PushedSource, SoundBuffer, Timeline

RATE = 22050
BLOCK = 0.02


def run(
    line: Timeline, comings: Iterator[tuple[float, bool]] | list[tuple[float, bool]]
) -> list[tuple[float, float]]:
    """Blocks of `BLOCK` seconds that come at these times, and (came, silence before it)."""
    gaps = []
    for came, lost in comings:
        if line.surplus(came, BLOCK):
            gaps.append((came, -BLOCK))
            continue
        gap = line.gap(came, BLOCK, lost)
        line.place(gap + BLOCK)
        if gap:
            gaps.append((came, gap))
    return gaps


def steady(begin: float, seconds: float, drift: float = 0.0) -> list[tuple[float, bool]]:
    count = round(seconds / BLOCK)
    return [(begin + (n + 1) * BLOCK * (1 + drift), False) for n in range(count)]


@pytest.mark.parametrize("drift", [0.0, 2e-4, -2e-4])
def test_a_device_whose_clock_is_not_ours_loses_nothing(drift: float) -> None:
    line = Timeline(0.1)
    line.begin(100.0)
    assert run(line, steady(100.0, 7200, drift)) == []


def test_blocks_in_bursts_lose_nothing() -> None:
    chance = random.Random(3)
    comings, late = [], 0.0
    for came, _ in steady(0.0, 600):
        late = max(late, came + (0.4 if chance.random() < 0.005 else chance.choice((0, 0.05))))
        comings.append((late, False))
    line = Timeline(0.1)
    line.begin(0.0)
    assert run(line, comings) == []


def test_a_flagged_loss_is_filled_at_once() -> None:
    line = Timeline(0.1)
    line.begin(0.0)
    after = [(came, n == 0) for n, (came, _) in enumerate(steady(5.7, 5))]
    (gap,) = run(line, steady(0.0, 5) + after)
    assert gap == (pytest.approx(5.72), pytest.approx(0.7))


def test_a_loss_that_nobody_flags_is_filled_after_a_second() -> None:
    line = Timeline(0.1)
    line.begin(0.0)
    (gap,) = run(line, steady(0.0, 5) + steady(5.7, 5))
    assert gap[0] == pytest.approx(6.75, abs=0.05)
    assert gap[1] == pytest.approx(0.7)


def test_a_stall_after_which_all_comes_loses_nothing() -> None:
    line = Timeline(0.1)
    line.begin(0.0)
    stalled = [(max(came, 7.5), False) for came, _ in steady(5.0, 5)]
    assert run(line, steady(0.0, 5) + stalled) == []


def test_what_comes_faster_than_it_sounds_is_left_out() -> None:
    line = Timeline(0.5)
    line.begin(0.0)
    gaps = run(line, [(came / 2, False) for came, _ in steady(0.0, 20)])
    assert sum(-gap for _, gap in gaps) == pytest.approx(10, rel=0.2)


def test_small_losses_add_up() -> None:
    line = Timeline(0.1)
    line.begin(0.0)
    comings = [block for n in range(10) for block in steady(n * 2.06, 2)]
    gaps = run(line, comings)
    assert sum(gap for _, gap in gaps) == pytest.approx(9 * 0.06, abs=0.25)


def test_time_does_not_run_ahead_where_blocks_are_lost_again_and_again() -> None:
    chance = random.Random(4)
    line = Timeline(0.1)
    line.begin(0.0)
    due = before = heard = 0.0
    while due < 600:
        due += BLOCK
        lost = chance.random() < 0.01
        if lost:
            due += chance.choice((0, 1, 2)) * BLOCK
        before = max(before, due + chance.expovariate(1 / (0.015 if lost else 0.003)))
        heard += (more := line.gap(before, BLOCK, lost) + BLOCK)
        line.place(more)
    assert heard == pytest.approx(due, abs=0.5)


def test_a_long_sleep_is_not_made_up_for() -> None:
    line = Timeline(0.1)
    line.begin(0.0)
    run(line, steady(0.0, 5))
    assert line.missing(3605.0) == pytest.approx(live.MOST_SILENCE_SECONDS)
    assert line.skip() == pytest.approx(3600 - live.MOST_SILENCE_SECONDS)
    assert line.skip() == 0
    line.place(live.MOST_SILENCE_SECONDS)
    assert run(line, steady(3605.0, 5)) == []


def test_the_computer_sleeps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept = 0.0
    monkeypatch.setattr(live, "clock", lambda: time.monotonic() + slept)
    source = PushedSource(RATE)
    blocks = source.blocks(RATE)
    heard = len(next(blocks))
    slept = 20.0
    while heard < 15 * RATE:
        heard += len(next(blocks))
    source.close()
    assert caplog.messages == ["the computer was asleep for 20 s"]


def test_a_sender_that_stops_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.3)
    source = PushedSource(RATE)
    blocks = source.blocks(RATE)
    next(blocks)
    source.push(np.full(441, 0.5))
    heard, deadline = np.zeros(0, np.float32), time.monotonic() + 60
    while np.count_nonzero(heard) < 441 or heard[-RATE // 10 :].any():
        assert time.monotonic() < deadline
        heard = np.concatenate([heard, next(blocks)])
    assert source.dropped_seconds > 0
    source.close()


def test_a_buffer_that_nobody_reads_takes_nothing_in() -> None:
    buffer = SoundBuffer("nobody", 0.1)
    buffer.push(np.ones(441, np.float32), RATE)
    assert buffer.waiting_seconds == 0


def test_sound_that_was_long_on_its_way_waits_until_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.3)
    buffer = SoundBuffer("recorder", 0.1)
    buffer.absent = True
    heard = buffer.sound(RATE)
    next(heard)
    buffer.push(np.ones(RATE, np.float32), RATE, came=live.clock() - 1.5)
    assert buffer.waiting_seconds == pytest.approx(2.5, abs=0.5)
    while np.count_nonzero(next(heard)[0]) < RATE:
        pass
    assert buffer.waiting_seconds == pytest.approx(1.5, abs=0.5)
    next(heard)
    assert buffer.waiting_seconds == 0
    buffer.close()


# level


def noise(rms: float, seconds: float, seed: int = 1) -> NDArray[np.float32]:
    samples = np.random.default_rng(seed).normal(0, rms, round(seconds * RATE))
    return samples.astype(np.float32)


def warnings(samples: NDArray[np.float32], caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.WARNING)
    watch = LevelWatch("mic")
    for at in range(0, len(samples), 441):
        watch.hear(samples[at : at + 441], RATE)
    return [message.removeprefix("mic: ") for message in caplog.messages]


def test_good_sound_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    samples = np.concatenate([noise(1e-3, 20), noise(0.2, 60), noise(1e-3, 20)])
    assert warnings(np.clip(samples, -0.99, 0.99), caplog) == []


def test_clipping_is_told_once_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    loud = np.clip(noise(1.0, 8), -1, 1)
    said = warnings(np.concatenate([noise(0.1, 5), loud, noise(0.1, 15), loud]), caplog)
    assert len(said) == 2
    assert all(line.startswith("too loud, 3") for line in said)


def test_clipping_of_one_channel(caplog: pytest.LogCaptureFixture) -> None:
    stereo = np.stack([np.clip(noise(1.0, 3), -1, 1), noise(0.1, 3)], axis=1)
    assert len(warnings(stereo, caplog)) == 1


def test_one_full_sample_is_no_clipping(caplog: pytest.LogCaptureFixture) -> None:
    samples = noise(0.1, 20)
    samples[::RATE] = 1.0
    assert warnings(samples, caplog) == []


@pytest.mark.parametrize("rms", [0.0, 1e-4])
def test_nothing_at_the_start(rms: float, caplog: pytest.LogCaptureFixture) -> None:
    said = warnings(noise(rms, 60), caplog)
    assert said == ["nothing heard for 10 s: is it muted or turned down?"]


def test_muted_later(caplog: pytest.LogCaptureFixture) -> None:
    said = warnings(np.concatenate([noise(0.1, 20), noise(0, 40)]), caplog)
    assert said == ["nothing heard for 10 s: is it muted or turned down?"]


def test_a_rest_in_a_quiet_room_is_not_muted(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(np.concatenate([noise(0.1, 20), noise(1e-4, 40)]), caplog) == []


def test_very_soft(caplog: pytest.LogCaptureFixture) -> None:
    said = warnings(noise(5e-4, 60), caplog)
    assert len(said) == 1 and said[0].startswith("very soft, never above -5")


def gained(samples: NDArray[np.float32], cut: int = 441) -> NDArray[np.float32]:
    gain = AutomaticGain(RATE)
    return np.concatenate([gain.feed(samples[at : at + cut]) for at in range(0, len(samples), cut)])


def music(loudness: float, seconds: float) -> NDArray[np.float32]:
    """Notes that decay, in a room's noise 60 dB softer."""
    time_ = np.arange(round(seconds * RATE)) / RATE
    notes = np.exp(-6 * (time_ % 0.5)) * np.sin(2 * np.pi * 440 * time_)
    return (loudness * notes).astype(np.float32) + noise(loudness * 1e-3, seconds)


def test_loud_music_is_left_as_it_is() -> None:
    samples = np.concatenate([noise(1e-4, 5), music(0.5, 20), noise(1e-4, 5)])
    assert gained(samples) is not samples
    np.testing.assert_array_equal(gained(samples), samples)


@pytest.mark.parametrize("loudness", [0.1, 1e-2, 1e-3])
def test_soft_music_is_raised(loudness: float) -> None:
    samples = np.concatenate([noise(loudness * 1e-3, 3), music(loudness, 10)])
    out = gained(samples)
    hops = np.square(out[-80 * (RATE // 20) :]).reshape(80, -1).mean(axis=1)
    loudest = np.sqrt(hops.max())
    raised = decibels(float(loudest))
    assert raised == pytest.approx(AutomaticGain.TARGET_DB, abs=3) or (
        loudness == 1e-3 and raised == pytest.approx(-68 + AutomaticGain.MOST_DB, abs=6)
    )
    np.testing.assert_array_equal(out[: 2 * RATE], samples[: 2 * RATE])


@pytest.mark.parametrize("rms", [1e-4, 1e-3, 1e-2])
def test_noise_is_not_raised(rms: float) -> None:
    samples = noise(rms, 60)
    np.testing.assert_array_equal(gained(samples), samples)


def test_a_loud_chord_after_soft_music_does_not_clip() -> None:
    samples = np.concatenate([noise(1e-6, 2), music(3e-3, 20), music(0.9, 3)])
    out = gained(samples)
    assert np.abs(out).max() <= 1.0
    np.testing.assert_array_equal(out[-RATE:], samples[-RATE:])


def test_an_offset_is_no_sound() -> None:
    soft = np.concatenate([noise(1e-6, 3), music(1e-2, 10)])
    with_offset = gained(soft + np.float32(0.02))
    assert np.ptp(with_offset[-RATE:]) > 5 * np.ptp(soft[-RATE:])


def test_soft_music_is_followed_with_the_gain_and_not_without() -> None:
    command = [sys.executable, "examples/soft_sound.py", "--seconds", "25", "-40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    file, microphone = map(float, done.stdout.split()[-2:])
    assert file < 0.5
    assert microphone > 0.9
