from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.audio.spectrogram import Spectrogram, SpectrogramConfig
from sf_plugin.dataset import templates as module
from sf_plugin.dataset.acoustics import Room, convolve, hall, home, room_response
from sf_plugin.dataset.closeness import both_ways, closeness
from sf_plugin.dataset.instruments import INSTRUMENTS
from sf_plugin.dataset.performance import NOTE, ONSET, PEDAL, Performance
from sf_plugin.dataset.templates import (
    KNOTS,
    PITCHES,
    RELEASES,
    VELOCITIES,
    Templates,
    TemplatesError,
    augment,
    detuned,
    measure,
    save_templates,
    smeared,
    velocity_shares,
)

CONFIG = SpectrogramConfig()
BINS = CONFIG.bins
FPS = CONFIG.fps
HANN = replace(CONFIG, bands=tuple(replace(band, fall=0) for band in CONFIG.bands))
PIANO = "timgm-grand"


def played(*rows: tuple[float, float, int, int]) -> np.ndarray:
    """(onset, duration, pitch, velocity) as notes."""
    notes = np.zeros(len(rows), NOTE)
    for note, row in zip(notes, rows, strict=True):
        note["onset"], note["duration"], note["pitch"], note["velocity"] = row
    return notes


def bin_of(pitch: int) -> int:
    return (pitch - 21) * BINS // 88


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """A piano whose keys are one bin each, 12 dB louder a velocity, falling 1 dB a frame."""
    levels = np.zeros((len(VELOCITIES), len(PITCHES), len(KNOTS), BINS), np.uint8)
    decay = np.where(KNOTS >= 0, 170 - 2 * KNOTS, 0).clip(0)
    for v in range(len(VELOCITIES)):
        for pitch in PITCHES:
            levels[v, pitch - 21, :, bin_of(pitch)] = np.where(decay, decay + 24 * v - 36, 0)
    path = tmp_path_factory.mktemp("templates") / "tiny.npz"
    save_templates(path, {"tiny": (levels, np.full(88, 30, np.float32))})
    return Templates(path)


def synthesised(templates: Templates, notes: np.ndarray, frames: int = 160) -> np.ndarray:
    return templates.synthesise(notes, frames, np.random.default_rng(0), vary=False)


# synthesis


@pytest.mark.parametrize("onset", [1.0, 1.02, 1.037])
def test_a_note_begins_when_it_is_struck_and_dies_when_it_is_damped(
    tiny: Templates, onset: float
) -> None:
    power = synthesised(tiny, played((onset, 1.0, 60, 76)))[:, bin_of(60)]
    assert power.shape == (160,)
    first = int(np.ceil(onset * FPS - 0.25))
    assert not power[:first].any()
    assert power[first:].argmax() <= 1
    inside = power[FPS + 2 : 2 * FPS - 1]
    np.testing.assert_allclose(10 * np.log10(inside[1:] / inside[:-1]), -1, atol=0.3)
    # both windows have heard the damper for half a second
    assert power[int(2.5 * FPS)] < 1e-4 * power[2 * FPS - 1]
    assert not power[int(3.5 * FPS) :].any()


@pytest.mark.parametrize("config", [CONFIG, HANN], ids=["short fall", "hann"])
@pytest.mark.parametrize("choice", [4, 8, 12])
def test_a_released_note_fades_as_every_window_hears_it(
    tmp_path: Path, config: SpectrogramConfig, choice: int
) -> None:
    levels = np.full((len(VELOCITIES), len(PITCHES), len(KNOTS), BINS), 170, np.uint8)
    save_templates(
        tmp_path / "organ.npz", {"organ": (levels, np.full(88, RELEASES[choice], np.float32))}
    )
    ours = synthesised(Templates(tmp_path / "organ.npz", config), played((-1.0, 2.0, 69, 76)), 100)
    time = np.arange(3 * config.sample_rate) / config.sample_rate
    amplitude = 10 ** (-RELEASES[choice] / 2 * np.maximum(time - 1, 0))
    tone = (0.5 * amplitude * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    heard = Spectrogram(config).power(tone)[:100]
    bands = config.bands
    for first, band in zip((0, len(bands[0].centres())), bands, strict=True):
        bin_ = first + round(69 - band.lowest)
        held = FPS - 4
        ratio = ours[held:, bin_] / ours[held, bin_], heard[held:, bin_] / heard[held, bin_]
        loud = ratio[1] > 1e-2
        assert loud.sum() >= 5
        np.testing.assert_allclose(10 * np.log10(ratio[0][loud] / ratio[1][loud]), 0, atol=2.5)


note_rows = st.lists(
    st.tuples(st.floats(-2, 5), st.floats(0.05, 3), st.integers(21, 108), st.integers(1, 127)),
    max_size=12,
)


@settings(max_examples=40)
@given(note_rows, note_rows)
def test_notes_add_up_in_power(
    tiny: Templates,
    some: list[tuple[float, float, int, int]],
    others: list[tuple[float, float, int, int]],
) -> None:
    parts = [synthesised(tiny, played(*rows)) for rows in (some, others)]
    both = synthesised(tiny, played(*some, *others))
    assert both.shape == (160, BINS)
    assert (both >= 0).all()
    np.testing.assert_allclose(both, parts[0] + parts[1], rtol=1e-4, atol=1e-9)


@given(st.lists(st.integers(1, 127), min_size=2, max_size=20).map(sorted))
def test_velocities_between_those_measured_are_interpolated_in_decibels(
    velocities: list[int],
) -> None:
    loudness = np.repeat(np.array([[-3.0], [-2.0], [-1.5], [0.0]]), len(velocities), 1)
    layers, shares = velocity_shares(np.array(velocities), loudness)
    power = sum(
        share * 10 ** loudness[layer, np.arange(len(layer))]
        for layer, share in zip(layers, shares, strict=True)
    )
    level = np.log10(power)
    assert (np.diff(level) >= -1e-9).all()
    for v, got in zip(velocities, level, strict=True):
        if VELOCITIES[0] <= v <= VELOCITIES[-1]:
            assert got == pytest.approx(np.interp(v, VELOCITIES, loudness[:, 0]))
        else:
            nearest = 0 if v < VELOCITIES[0] else -1
            expected = loudness[nearest, 0] + 4 * np.log10(v / VELOCITIES[nearest])
            assert got == pytest.approx(expected)


def test_the_same_seed_plays_the_same_and_another_does_not(tiny: Templates) -> None:
    notes = played((0.5, 1.0, 60, 76), (0.8, 1.0, 67, 60))
    one, again, other = (tiny.synthesise(notes, 60, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@given(st.floats(-0.5, 0.5))
def test_detuning_moves_power_by_a_part_of_a_bin(semitones: float) -> None:
    power = np.zeros((2, 9), np.float32)
    power[:, 4] = [1, 3]
    out = detuned(power, semitones)
    np.testing.assert_allclose(out.sum(1), [1, 3], rtol=1e-5)
    np.testing.assert_allclose((out * np.arange(9)).sum(1) / out.sum(1), 4 + semitones, rtol=1e-5)


def test_files_that_are_no_templates_are_named(tmp_path: Path) -> None:
    path = tmp_path / "templates.npz"
    with pytest.raises(TemplatesError, match=r"templates\.npz: cannot be read .*scorefollow data"):
        Templates(path)
    np.savez(path, tiny=np.zeros((3, 4, 88, 80, BINS), np.uint8))
    with pytest.raises(TemplatesError, match=r"templates\.npz: of another version"):
        Templates(path)
    levels = np.zeros((len(VELOCITIES), 88, len(KNOTS), 78), np.uint8)
    save_templates(path, {"tiny": (levels, np.full(88, 30, np.float32))})
    with pytest.raises(TemplatesError, match=r"templates\.npz: for other frames"):
        Templates(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TemplatesError, match=r"templates\.npz: cannot be read"):
        Templates(path)


# measured against rendered sound


def performance(seed: int) -> Performance:
    """Ten seconds on six keys, pedalled now and then."""
    rng = np.random.default_rng(seed)
    notes = np.zeros(50, NOTE)
    notes["onset"] = np.sort(rng.uniform(0.5, 9, 50))
    notes["duration"] = rng.uniform(0.1, 0.8, 50)
    notes["pitch"] = rng.integers(60, 66, 50)
    notes["velocity"] = rng.integers(40, 90, 50)
    pedals = np.array([(2.0, 127), (3.5, 0), (5.0, 127), (6.0, 0)], PEDAL)
    return Performance(notes, np.zeros(0, ONSET), pedals)


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not INSTRUMENTS[PIANO].soundfont.exists(),  # type: ignore[union-attr]
    reason="fluidsynth or its soundfont timgm6mb is not installed",
)
def test_synthesis_is_close_to_rendered_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PITCHES", range(60, 66))
    monkeypatch.setattr(module, "VELOCITIES", (45, 80))
    heard: list[tuple[int, int]] = []
    path = tmp_path / "templates.npz"
    measure(path, [PIANO], progress=lambda what, done, total: heard.append((done, total)))
    assert heard == [(0, 1), (1, 1)]
    power, rendered = both_ways(Templates(path), performance(0), PIANO, PIANO, 380)
    close = closeness(power, rendered)
    assert close.mean_db < 2.0
    assert close.most_db < 7.0
    assert close.features > 0.98
    assert close.flux > 0.95
    apart = 10 * np.log10(power.sum() / rendered.sum())
    assert abs(apart) < 1.0
    # a frame late would be noticed
    late = closeness(power[:-1], rendered[1:])
    assert late.flux < close.flux - 0.2
    assert late.mean_db > 1.5 * close.mean_db


def test_closeness_is_perfect_with_oneself_at_any_level(tiny: Templates) -> None:
    power = synthesised(tiny, played((0.5, 1.0, 60, 76), (1.0, 1.0, 67, 60))) + np.float32(1e-8)
    same = closeness(power * np.float32(10), power)
    assert same.mean_db == pytest.approx(0, abs=1e-4)
    assert same.features == pytest.approx(1, abs=1e-4)
    assert same.flux == pytest.approx(1, abs=1e-4)


# rooms and microphones


@given(st.integers(0, 10**6), st.integers(2, 60))
def test_a_smear_is_an_exponential_tail_of_the_right_power(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    room = (home if seed % 2 else hall)(rng)
    power = rng.random((frames, BINS)).astype(np.float32)
    hertz = np.concatenate([band.centres() for band in CONFIG.bands])
    keep = 10 ** (-6 / FPS / room.decays(hertz))
    state, echo = np.zeros(BINS), []
    for frame in power:
        state = (1 - keep) * frame + keep * state
        echo.append(state)
    late = 0.5 * np.array([np.zeros(BINS), *echo[:-1]]) + 0.5 * np.array(echo)
    wanted = power + 10 ** (-room.direct_to_reverberant / 10) * late
    np.testing.assert_allclose(smeared(power, room), wanted, rtol=1e-3)


def test_a_smear_is_what_the_room_does_to_sound() -> None:
    rng = np.random.default_rng(0)
    sound = np.zeros(6 * 22050, np.float32)
    for start in (1.0, 1.8, 2.2, 3.5):
        at = int(start * 22050)
        sound[at : at + 4410] = rng.standard_normal(4410) * np.hanning(4410)
    room = Room(volume=500, decay=1.2, distance=3)
    wet = convolve(sound, room_response(room, rng)).astype(np.float32)
    dry, heard = (Spectrogram().power(s) for s in (sound, wet))
    ours, plain = closeness(smeared(dry, room), heard), closeness(dry, heard)
    assert ours.mean_db < 0.5 * plain.mean_db
    assert ours.features > 0.9 > plain.features


def test_augmented_power_stays_power_and_music(tiny: Templates) -> None:
    notes = played((1.5, 1.0, 60, 100), (2.5, 1.0, 67, 100))
    power = tiny.synthesise(notes, 5 * FPS, np.random.default_rng(0), vary=False)
    kept = power.copy()
    rises = 0
    for seed in range(12):
        spoilt = augment(power, np.random.default_rng(seed))
        np.testing.assert_array_equal(spoilt, augment(power, np.random.default_rng(seed)))
        assert spoilt.shape == power.shape
        assert spoilt.dtype == np.float32
        assert np.isfinite(spoilt).all()
        assert (spoilt > 0).mean() > 0.99
        features = Spectrogram(CONFIG).compress(spoilt)
        rises += features[60:68, bin_of(60)].mean() > features[20:56, bin_of(60)].mean()
    assert rises == 12
    np.testing.assert_array_equal(power, kept)
