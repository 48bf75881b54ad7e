"""What is said of a room and its microphone, of signals whose parts are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from jackd import SAMPLE_RATE, jack_server, needs_jackd, start_ready, stop
from numpy.typing import NDArray

from sf_plugin.audio.room import Room, find_hum, judge, measure

RATE = 48000
SECONDS = 5
TIME = np.arange(SECONDS * RATE) / RATE


def sine(frequency: float, amplitude: float) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * frequency * TIME)).astype(np.float32)


def noise(rms: float, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, rms, len(TIME)).astype(np.float32)


def room(quiet: NDArray[np.float32], playing: NDArray[np.float32]) -> Room:
    return judge(measure(quiet, RATE), measure(playing, RATE), find_hum(quiet, RATE))


def said(found: Room) -> str:
    return "; ".join(f"{advice.status}: {advice.what}" for advice in found.advice)


def test_levels_are_decibels_of_full_scale() -> None:
    take = measure(sine(440, 0.5) + np.float32(0.02), RATE)
    assert take.level == pytest.approx(-9.03, abs=0.01)
    assert take.peak == pytest.approx(-6.02, abs=0.01)
    assert take.offset == pytest.approx(0.02, abs=1e-4)
    assert take.clipped == 0
    assert take.seconds == SECONDS


def test_floor_and_loud_are_of_the_softest_and_loudest_parts() -> None:
    samples = noise(1e-3)
    samples[: len(samples) // 2] *= 100
    take = measure(samples, RATE)
    assert take.floor == pytest.approx(-60, abs=0.5)
    assert take.loud == pytest.approx(-20, abs=0.5)


def test_clipping_of_one_channel_is_seen() -> None:
    clean = sine(440, 0.1)
    clipped = np.clip(sine(440, 2.0), -1, 1)
    take = measure(np.stack([clean, clipped], axis=1), RATE)
    assert take.clipped == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("mains", [50, 60, 49.95, 60.03])
@pytest.mark.parametrize("level", [3e-2, 3e-4])
def test_hum_of_the_mains(mains: float, level: float) -> None:
    samples = noise(1e-4) + sine(mains, level) + sine(3 * mains, level / 2)
    hum = find_hum(samples, RATE)
    assert hum is not None
    assert hum.frequency == round(mains / 10) * 10
    expected = 10 * np.log10(level**2 * (1 + 1 / 4) / 2)
    assert hum.level == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_hum(seed: int) -> None:
    white = noise(1e-2, seed)
    brown = np.cumsum(white).astype(np.float32)
    for samples in (white, brown - brown.mean(), np.zeros(len(TIME), np.float32)):
        assert find_hum(samples, RATE) is None


def test_a_low_note_is_no_hum() -> None:
    assert find_hum(noise(1e-4) + sine(55, 0.1) + sine(110, 0.1) + sine(82.4, 0.1), RATE) is None


def test_a_good_room() -> None:
    found = room(noise(1e-4), noise(3e-2))
    assert said(found).startswith("ok: ")
    assert found.above_noise == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    ("quiet", "playing", "expected"),
    [
        (noise(1e-6), noise(1e-6), "bad: nothing is heard"),
        (np.zeros_like(noise(1)), np.zeros_like(noise(1)), "bad: nothing is heard"),
        (noise(1e-2), noise(1.5e-2), "bad: playing is only"),
        (noise(3e-3), noise(1.2e-2), "poor: playing is 12"),
        (noise(1e-5), noise(5e-4), "poor: playing is very soft"),
        (noise(1e-3), np.clip(noise(0.7), -1, 1), "bad: 1"),
        (noise(1e-2), noise(0.2), "poor: the room is noisy"),
        (sine(50, 1e-2), noise(0.2), "poor: the mains hum at 50 Hz"),
        (noise(1e-4) + np.float32(-0.03), noise(0.1), "poor: the signal is 3.0% off centre"),
    ],
)
def test_what_to_do(
    quiet: NDArray[np.float32], playing: NDArray[np.float32], expected: str
) -> None:
    assert expected in said(room(quiet, playing))


def test_the_worst_comes_first() -> None:
    found = room(noise(1e-2) + np.float32(0.05), np.clip(noise(2.0), -1, 1))
    assert [advice.status for advice in found.advice] == ["bad", "poor", "poor"]


HUMMING = """
import sys, jack, numpy as np
client = jack.Client("Humming Room")
port = client.outports.register("out_1")
noise = np.random.default_rng(1)
at = 0
@client.set_process_callback
def play(frames):
    global at
    time = (at + np.arange(frames)) / client.samplerate
    loud = 0.1 if time[0] > 7 else 0.0
    port.get_array()[:] = (
        noise.normal(0, 3e-4, frames)
        + 1e-2 * np.sin(2 * np.pi * 50 * time)
        + loud * np.sin(2 * np.pi * 440 * time)
    )
    if port.number_of_connections:
        at += frames
with client:
    print("ready")
    sys.stdin.read()
"""


@pytest.fixture
def humming(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    with jack_server(monkeypatch):
        process = start_ready(HUMMING)
        yield process
        stop(process)


@needs_jackd
def test_the_command_hears_a_room(humming: subprocess.Popen[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sf_plugin.cli", "doctor", "--mic", "humming", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert "be quiet for 5 s" in done.stderr and "now play" in done.stderr
    found = json.loads(done.stdout)
    assert found["microphone"]["name"] == "Humming Room"
    assert found["hum"]["frequency"] == 50
    assert found["hum"]["level"] == pytest.approx(-43, abs=1)
    assert found["playing"]["loud"] == pytest.approx(-23, abs=1)
    assert found["quiet"]["seconds"] == pytest.approx(5, abs=0.2)
    assert done.returncode == 0
    assert found["microphone"]["sample_rate"] == SAMPLE_RATE


def test_no_such_channel_without_a_microphone() -> None:
    command = [sys.executable, "-m", "sf_plugin.cli", "doctor", "--channel", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "add --mic" in done.stderr
