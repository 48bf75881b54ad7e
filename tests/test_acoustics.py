from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.dataset.acoustics import (
    ACOUSTICS,
    CODECS,
    NOISES,
    Acoustics,
    AcousticsError,
    Codec,
    Microphone,
    Room,
    coded,
    convolve,
    delay,
    hall,
    heard_in,
    home,
    loudness,
    room_response,
    through,
)

RATE = 22050

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")


def chords(seconds: float = 4.0, gap: float = 0.5) -> np.ndarray:
    """(samples,) struck chords, one every `gap` seconds from 0.25."""
    out = np.zeros(int(seconds * RATE), np.float32)
    time = np.arange(int(gap * RATE)) / RATE
    rng = np.random.default_rng(1)
    for start in np.arange(0.25, seconds - gap, gap):
        pitches = rng.integers(48, 84, 3)
        chord = sum(
            np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * k * time) / k**2
            for p in pitches
            for k in (1, 2, 3, 4)
        )
        at = int(start * RATE)
        out[at : at + len(time)] += (0.1 * chord * np.exp(-6 * time)).astype(np.float32)
    return out


def decay_time(response: np.ndarray, low: float, high: float) -> float:
    """Seconds to -60 dB from the slope between -5 and -25 dB (Schroeder's integration)."""
    size = 4 * len(response)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / RATE), 1) / np.sqrt(low * high))
    spectrum = np.fft.rfft(response[int(0.02 * RATE) :], size) * np.exp(-((octaves / 0.35) ** 2))
    energy = np.cumsum(np.square(np.fft.irfft(spectrum)[: len(response)])[::-1])[::-1]
    db = 10 * np.log10(energy / energy[0] + 1e-12)
    return float(3 * (np.argmax(db < -25) - np.argmax(db < -5)) / RATE)


# rooms


@given(st.integers(0, 10**6))
def test_rooms_have_the_direct_sound_first_and_the_energy_they_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    room = (home if seed % 2 else hall)(rng)
    rate = 4000
    response = room_response(room, rng, rate)
    assert np.isfinite(response).all()
    assert response[0] == 1
    reverberant = 10 * np.log10(np.square(response[1:]).sum())
    assert -reverberant == pytest.approx(room.direct_to_reverberant, abs=0.2)
    assert np.square(response[-len(response) // 20 :]).sum() < 1e-4 * np.square(response).sum()


def test_high_tones_die_as_much_sooner_as_the_room_says() -> None:
    room = Room(volume=300, decay=1.0, distance=3, bass=1.4, treble=0.4)
    response = room_response(room, np.random.default_rng(0), RATE)
    for low, high in ((90, 180), (700, 1400), (5600, 10000)):
        wanted = float(room.decays(np.array([np.sqrt(low * high)]))[0])
        assert decay_time(response, low, high) == pytest.approx(wanted, rel=0.25)


def test_the_far_microphone_hears_more_room() -> None:
    near, far = (Room(100, 0.5, distance).direct_to_reverberant for distance in (0.5, 2.0))
    assert near - far == pytest.approx(12.04, abs=0.01)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.integers(1, 30))
def test_convolving_is_convolving_in_full_and_cutting(values: list[float], size: int) -> None:
    sound = np.array(values, np.float32)
    response = np.random.default_rng(size).standard_normal(size)
    wanted = np.convolve(sound, response)[: len(sound)]
    np.testing.assert_allclose(convolve(sound, response), wanted, atol=1e-6)


# noise, microphones, codecs


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("db", [-30.0, -6.0])
def test_noise_is_as_loud_as_asked_and_seeded(name: str, db: float) -> None:
    sound = chords(12.0)
    acoustics = Acoustics(noises=((name, db),))
    one, again = (heard_in(sound, acoustics, np.random.default_rng(5)) for _ in range(2))
    other = heard_in(sound, acoustics, np.random.default_rng(6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    scale = float(one @ sound / (sound @ sound))
    noise = one - scale * sound
    apart = 20 * np.log10(max(loudness(noise, RATE), noise.std()) / (scale * loudness(sound, RATE)))
    assert apart == pytest.approx(db, abs=1.0)


def test_a_microphone_colours_as_its_curve_says_and_not_before_the_sound() -> None:
    microphone = Microphone(low=200, high=6000, resonances=((1500, 8, 0.3),), drive=-80)
    click = np.zeros(16384, np.float32)
    click[4000] = 0.5
    out = through(click, microphone, RATE)
    assert np.abs(out[:3999]).max() < 1e-3 * np.abs(out).max()
    assert abs(int(np.abs(out).argmax()) - 4000) <= 3
    hertz = np.fft.rfftfreq(len(click), 1 / RATE)
    inside = (hertz > 60) & (hertz < 9000)
    got = np.abs(np.fft.rfft(out))[inside] / 0.5
    apart = 20 * np.log10(got / microphone.magnitude(hertz[inside]))
    assert np.abs(apart).max() < 0.5


def test_gain_control_evens_out_and_drive_clips() -> None:
    time = np.arange(4 * RATE) / RATE
    sound = (np.where(time < 2, 0.5, 0.05) * np.sin(2 * np.pi * 440 * time)).astype(np.float32)

    def step(out: np.ndarray) -> float:
        return float(20 * np.log10(out[RATE : 2 * RATE].std() / out[3 * RATE :].std()))

    assert step(through(sound, Microphone(), RATE)) == pytest.approx(20, abs=0.5)
    assert step(through(sound, Microphone(automatic_gain=0.8), RATE)) < 13
    clipped = through(sound, Microphone(drive=12), RATE)[RATE : 2 * RATE]
    assert clipped.std() > 0.8 * np.abs(clipped).max()


@needs_ffmpeg
@pytest.mark.parametrize("name", CODECS)
def test_codecs_do_not_move_the_music(name: str) -> None:
    sound = chords()
    out = coded(sound, Codec(name, 32), RATE)
    assert len(out) == len(sound)
    assert abs(delay(sound, out, RATE)) <= 1
    assert 0.9 < np.corrcoef(sound, out)[0, 1] < 1 - 1e-7


@given(st.integers(-400, 400), st.integers(0, 1000))
def test_delays_are_found(samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound = rng.standard_normal(2000)
    before, after = sound[400:1600], sound[400 - samples : 1600 - samples]
    assert delay(before, after, 4000) == samples
    assert delay(np.zeros(100), after, 4000) == 0


def test_without_ffmpeg_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AcousticsError, match="apt-get install ffmpeg"):
        coded(chords(1.0), Codec("mp3", 32), RATE)


# all together


def onset_delay(before: np.ndarray, after: np.ndarray) -> float:
    """Seconds by which the rises of the envelope come later, by cross-correlation."""
    block = RATE // 500
    rises = []
    for sound in (before, after):
        whole = len(sound) // block * block
        level = np.log(np.square(sound[:whole]).reshape(-1, block).mean(1) + 1e-7)
        rises.append(np.maximum(np.diff(level), 0))
    return delay(rises[0], rises[1], 500, most=0.2) / 500


@pytest.mark.parametrize("name", ACOUSTICS)
def test_draws_are_seeded_finite_and_leave_onsets_where_they_are(name: str) -> None:
    if name == "phone" and shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg")
    sound = chords()
    for seed in range(2):
        rng = np.random.default_rng(seed)
        acoustics = ACOUSTICS[name](rng)
        assert acoustics == ACOUSTICS[name](np.random.default_rng(seed))
        heard = heard_in(sound, acoustics, rng, RATE)
        assert heard.shape == sound.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert 0 < np.abs(heard).max() <= 1
        if name == "noisy":  # talking has onsets of its own
            continue
        assert abs(onset_delay(sound, heard)) <= 0.006
    if name != "dry":
        assert ACOUSTICS[name](np.random.default_rng(0)) != ACOUSTICS[name](
            np.random.default_rng(1)
        )


def test_silence_stays_silence() -> None:
    silence = np.zeros(RATE, np.float32)
    for draw in (ACOUSTICS["room"], ACOUSTICS["noisy"]):
        rng = np.random.default_rng(0)
        assert not heard_in(silence, draw(rng), rng).any()
    assert len(heard_in(silence[:0], Acoustics(), np.random.default_rng(0))) == 0
