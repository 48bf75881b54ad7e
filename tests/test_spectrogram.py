from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.audio.spectrogram import PAPER, Band, Floats, Spectrogram, SpectrogramConfig

RATE = 22050
SMALL = SpectrogramConfig(
    sample_rate=4000,
    lookahead=128,
    bands=(Band(512, 50, 80, fall=64), Band(128, 60, 90, per_octave=6)),
)
"""Few samples a frame and two windows, so that many cuts cost little."""
HOP = SMALL.sample_rate // SMALL.fps


def music(seconds: float, rate: int, seed: int = 0) -> Floats:
    """Decaying tones over soft noise, silent at the beginning."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    sound = 0.001 * rng.standard_normal(len(time))
    for start in np.arange(0.3, seconds, 0.37):
        tone = np.sin(2 * np.pi * 440 * 2 ** (rng.integers(-18, 12) / 12) * (time - start))
        sound += np.where(time > start, 0.4 * tone * np.exp(-4 * np.abs(time - start)), 0)
    sound[: int(0.2 * rate)] = 0
    return sound.astype(np.float32)


def in_pieces(config: SpectrogramConfig, sound: Floats, edges: list[int]) -> Floats:
    spectrogram = Spectrogram(config)
    return np.concatenate([spectrogram.feed(piece) for piece in np.split(sound, edges)])


def tone(frequency: float, amplitude: float, seconds: float = 1.0, rate: int = RATE) -> Floats:
    time = np.arange(int(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 7, 80, 100, 101, 4000, 40000])
def test_frames_are_the_same_for_chunks_of_one_sample_to_ten_seconds(chunk: int) -> None:
    sound = music(10.0 if chunk > 1 else 2.0, SMALL.sample_rate)
    whole = Spectrogram(SMALL).feed(sound)
    cut = in_pieces(SMALL, sound, list(range(chunk, len(sound), chunk)))
    assert len(whole) == (len(sound) - SMALL.lookahead) // HOP + 1
    np.testing.assert_array_equal(cut, whole)


@pytest.mark.parametrize("config", [SpectrogramConfig(), PAPER], ids=["ours", "paper"])
@pytest.mark.parametrize("chunk", [441, 1024, 48000])
def test_frames_are_the_same_at_the_shipped_settings(config: SpectrogramConfig, chunk: int) -> None:
    sound = music(4.0, RATE)
    cut = in_pieces(config, sound, list(range(chunk, len(sound), chunk)))
    np.testing.assert_array_equal(cut, Spectrogram(config).feed(sound))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6000), st.lists(st.integers(0, 6000), max_size=12))
def test_frames_are_the_same_for_any_cut(length: int, edges: list[int]) -> None:
    sound = music(1.5, SMALL.sample_rate)[:length]
    cut = in_pieces(SMALL, sound, sorted(edges))
    np.testing.assert_array_equal(cut, Spectrogram(SMALL).feed(sound))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5999))
def test_later_samples_never_change_earlier_frames(heard: int) -> None:
    sound = music(1.5, SMALL.sample_rate)
    other = sound.copy()
    other[heard:] = 0.9
    before, after = Spectrogram(SMALL).feed(sound), Spectrogram(SMALL).feed(other)
    time = np.array([Spectrogram(SMALL).time(n) for n in range(len(before))])
    known = time <= heard / SMALL.sample_rate
    np.testing.assert_array_equal(before[known], after[known])
    late = time > heard / SMALL.sample_rate + 0.05
    assert (before[late] != after[late]).any(1).all()


def test_a_frame_is_known_as_soon_as_its_time_is_heard() -> None:
    for config in (SMALL, SpectrogramConfig(), PAPER):
        spectrogram = Spectrogram(config)
        assert spectrogram.time(0) == config.lookahead / config.sample_rate
        for frame in range(5):
            end = round(spectrogram.time(frame) * config.sample_rate)
            clock = Spectrogram(config)
            assert len(clock.feed(np.zeros(end - 1, np.float32))) == frame
            assert len(clock.feed(np.zeros(1, np.float32))) == 1


def test_time_does_not_drift_over_an_hour() -> None:
    spectrogram = Spectrogram(SpectrogramConfig())
    frame = 3600 * spectrogram.config.fps
    assert spectrogram.time(frame) == pytest.approx(3600 + 1024 / RATE, abs=1 / RATE)


def test_a_click_appears_in_the_frame_centred_on_it() -> None:
    config = PAPER
    click = np.zeros(RATE, np.float32)
    click[10 * RATE // 20] = 1
    assert int(Spectrogram(config).feed(click).sum(1).argmax()) == 10


def test_the_automatic_gain_takes_the_level_out() -> None:
    sound = tone(440, 0.5, 2.0) + tone(660, 0.1, 2.0)
    loud = Spectrogram().feed(sound)
    soft = Spectrogram().feed(sound / np.float32(32))
    np.testing.assert_allclose(soft, loud, rtol=1e-4, atol=1e-4)
    peaks = loud.max(1)
    assert peaks == pytest.approx(np.log1p(100.0), abs=1e-3)


def test_the_gain_forgets_a_loud_sound_in_its_half_life() -> None:
    config = SpectrogramConfig(level_half_life=1.0)
    spectrogram = Spectrogram(config)
    heard = spectrogram.compress(
        np.concatenate(
            [np.ones((1, config.bins)), np.full((2 * config.fps, config.bins), 1e-4)]
        ).astype(np.float32)
    )
    magnitude = np.expm1(heard[:, 0]) / config.gain
    assert magnitude[0] == pytest.approx(1.0)
    assert magnitude[config.fps] == pytest.approx(0.02, rel=1e-3)
    assert magnitude[2 * config.fps] == pytest.approx(0.04, rel=1e-3)


@given(st.integers(2, 4000), st.data())
def test_a_window_rises_then_falls_and_a_sine_peaks_at_one(
    window: int, data: st.DataObject
) -> None:
    fall = data.draw(st.integers(0, window))
    weights = Band(window, 60, 61, fall=fall).weights()
    assert len(weights) == window
    assert weights.sum() == pytest.approx(2)
    assert (weights >= 0).all()
    top = window - (fall or window // 2)
    assert (np.diff(weights[: top + 1]) >= 0).all()
    assert (np.diff(weights[top:]) <= 0).all()


@given(st.integers(1, 2000))
def test_a_window_without_a_fall_of_its_own_is_hanns(half: int) -> None:
    hann = np.hanning(2 * half + 1)[:-1]
    weights = Band(2 * half, 60, 61).weights()
    np.testing.assert_allclose(weights, hann / (hann.sum() / 2), atol=1e-12)
    np.testing.assert_allclose(weights[1:], weights[:0:-1], atol=1e-12)


def test_a_short_fall_hears_an_onset_earlier() -> None:
    sound = np.concatenate([np.zeros(RATE, np.float32), tone(880, 0.5)])

    def first_loud(fall: int) -> int:
        config = SpectrogramConfig(fps=1000, lookahead=0, bands=(Band(2048, 69, 93, fall=fall),))
        power = Spectrogram(config).power(sound).max(1)
        return int(np.argmax(power > 0.1 * power[-1]))

    falls = [first_loud(fall) for fall in (0, 512, 256, 128)]
    assert falls == sorted(falls, reverse=True)
    assert 1000 < falls[-1] < falls[0] - 15  # milliseconds


def test_without_the_gain_the_level_stays() -> None:
    sound = tone(440, 0.5)
    loud = Spectrogram(PAPER).feed(sound)
    soft = Spectrogram(PAPER).feed(sound / np.float32(8))
    np.testing.assert_allclose(np.expm1(loud[5]), 8 * np.expm1(soft[5]), rtol=1e-3, atol=1e-6)


def test_the_paper_setting_has_78_bins_a_semitone_apart_from_60_hz() -> None:
    assert PAPER.bins == 78
    assert (PAPER.fps, PAPER.sample_rate, PAPER.bands[0].window) == (20, 22050, 2048)
    centres = PAPER.bands[0].centres()
    assert len(centres) == 78
    assert centres[0] == pytest.approx(60.0, abs=0.1)
    np.testing.assert_allclose(centres[1:] / centres[:-1], 2 ** (1 / 12))


@pytest.mark.parametrize("midi", [50, 57, 69, 81, 88])
def test_a_tone_is_strongest_in_the_filter_of_its_pitch(midi: int) -> None:
    config = SpectrogramConfig()
    frame = Spectrogram(config).feed(tone(440 * 2 ** ((midi - 69) / 12), 0.3))[-1]
    low, high = config.bands
    bins = len(low.centres())
    assert int(frame[:bins].argmax()) == midi - low.lowest
    if midi > 60:
        assert int(frame[bins:].argmax()) == midi - high.lowest


@pytest.mark.parametrize("config", [SpectrogramConfig(), PAPER], ids=["ours", "paper"])
def test_silence_gives_zeros(config: SpectrogramConfig) -> None:
    frames = Spectrogram(config).feed(np.zeros(RATE + config.lookahead, np.float32))
    np.testing.assert_array_equal(frames, np.zeros((config.fps + 1, config.bins), np.float32))


def test_full_scale_and_clipped_sound_gives_finite_numbers() -> None:
    rng = np.random.default_rng(1)
    for sound in (np.ones(RATE), np.sign(rng.standard_normal(RATE)), np.full(RATE, 1e-30)):
        assert np.isfinite(Spectrogram().feed(sound.astype(np.float32))).all()


def test_no_samples_give_no_frames() -> None:
    frames = Spectrogram(SMALL).feed(np.zeros(0, np.float32))
    assert frames.shape == (0, SMALL.bins)
    assert frames.dtype == np.float32


def test_reset_starts_again_in_silence() -> None:
    sound = music(2.0, SMALL.sample_rate)
    spectrogram = Spectrogram(SMALL)
    first = spectrogram.feed(sound)
    spectrogram.feed(np.ones(333, np.float32))
    spectrogram.reset()
    np.testing.assert_array_equal(spectrogram.feed(sound), first)


def test_what_is_kept_does_not_grow() -> None:
    spectrogram = Spectrogram(SMALL)
    sizes = []
    for _ in range(200):
        spectrogram.feed(np.zeros(777, np.float32))
        sizes.append(len(pickle.dumps(spectrogram)))
    assert max(sizes[100:]) < max(sizes[:100]) + 100


def test_a_configuration_survives_its_dictionary() -> None:
    for config in (SMALL, PAPER, SpectrogramConfig()):
        assert SpectrogramConfig.from_dict(config.to_dict()) == config
