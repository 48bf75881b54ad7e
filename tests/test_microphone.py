"""A microphone on a real JACK server: every sample arrives, and losses are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from jackd import SAMPLE_RATE, jack_server, needs_jackd, start, stop

from sf_plugin.audio.microphone import InputDevice, find_device
from sf_plugin.errors import AudioError

PLAYER = """
import sys, jack, numpy as np
samples = np.load(sys.argv[1])
client = jack.Client("Grand Piano")
port = client.outports.register("out_1")
state = {"at": 0}
@client.set_process_callback
def play(frames):
    buffer = port.get_array()
    buffer[:] = 0
    if port.number_of_connections:
        count = min(frames, len(samples) - state["at"])
        buffer[:count] = samples[state["at"] : state["at"] + count]
        state["at"] += count
with client:
    print("ready")
    sys.stdin.read()
"""

RECORDER = """
import json, logging, sys, time, numpy as np
logging.basicConfig(stream=sys.stdout, format="LOG %(message)s")
from sf_plugin.audio.microphone import Microphone
name, rate, seconds, stall, target = sys.argv[1:]
microphone = Microphone(name)
blocks, count = [], 0
with microphone:
    for block in microphone.blocks(int(rate)):
        if not blocks:
            print("recording")
            time.sleep(float(stall))
        blocks.append(block)
        count += len(block)
        if count >= float(seconds) * int(rate):
            microphone.close()
np.save(target, np.concatenate(blocks))
print("RESULT " + json.dumps([microphone.device.name, microphone.dropped_seconds]))
"""

DEVICES = """
import json
from sf_plugin.audio.microphone import list_devices
print(json.dumps([[d.name, d.host_api, d.channels, d.sample_rate] for d in list_devices()]))
"""

OPEN = """
import sys
from sf_plugin.audio.sources import open_source
from sf_plugin.errors import AudioError
try:
    open_source(sys.argv[1])
except AudioError as error:
    print(error)
"""


@pytest.fixture
def noise(tmp_path: Path) -> np.ndarray:
    samples = np.random.default_rng(5).uniform(-0.9, 0.9, 6 * SAMPLE_RATE).astype(np.float32)
    np.save(tmp_path / "noise.npy", samples)
    return samples


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    with jack_server(monkeypatch) as running:
        yield running


@pytest.fixture
def player(
    server: subprocess.Popen[bytes], noise: np.ndarray, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    process = start(PLAYER, str(tmp_path / "noise.npy"))
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    stop(process)


def finish(recorder: subprocess.Popen[str]) -> tuple[str, float, list[str]]:
    """Device, seconds dropped, lines logged."""
    out = recorder.communicate(timeout=60)[0].splitlines()
    results = [line.removeprefix("RESULT ") for line in out if line.startswith("RESULT ")]
    assert len(results) == 1, out
    name, dropped = json.loads(results[0])
    return name, dropped, [line for line in out if line.startswith("LOG ")]


@needs_jackd
def test_every_sample_arrives(
    player: subprocess.Popen[str], noise: np.ndarray, tmp_path: Path
) -> None:
    take = tmp_path / "take.npy"
    recorder = start(RECORDER, "PIANO", str(SAMPLE_RATE), "2", "0", str(take))
    name, dropped, logged = finish(recorder)
    assert name == "Grand Piano"
    heard = np.load(take)
    first = int(np.flatnonzero(heard)[0])
    offset = int(np.flatnonzero(noise == heard[first])[0])
    heard = heard[first:]
    np.testing.assert_array_equal(heard, noise[offset : offset + len(heard)])
    assert offset < SAMPLE_RATE and len(heard) > SAMPLE_RATE
    assert dropped == 0 and not logged


@needs_jackd
def test_another_rate_is_resampled(player: subprocess.Popen[str], tmp_path: Path) -> None:
    take = tmp_path / "take.npy"
    finish(start(RECORDER, "piano", "22050", "1", "0", str(take)))
    heard = np.load(take)
    assert 22050 <= len(heard) < 2 * 22050
    assert 0.2 < np.std(heard[-10000:]) < 0.5


@needs_jackd
def test_a_frozen_process_tells_what_it_lost(
    player: subprocess.Popen[str], noise: np.ndarray, tmp_path: Path
) -> None:
    take = tmp_path / "take.npy"
    recorder = start(RECORDER, "piano", str(SAMPLE_RATE), "2", "0", str(take))
    assert recorder.stdout is not None and recorder.stdout.readline() == "recording\n"
    time.sleep(0.5)
    os.kill(recorder.pid, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(recorder.pid, signal.SIGCONT)
    _, dropped, logged = finish(recorder)
    heard = np.load(take)
    first = int(np.flatnonzero(heard)[0])
    begin, end = (int(np.flatnonzero(noise == heard[at])[0]) for at in (first, -1000))
    np.testing.assert_array_equal(noise[end : end + 1000], heard[-1000:])
    lost = (end - begin - (len(heard) - 1000 - first)) / SAMPLE_RATE
    assert lost > 0.1
    assert dropped == pytest.approx(lost, rel=0.3)
    assert len(logged) == 1 and "audio lost" in logged[0]


@needs_jackd
def test_a_listener_that_is_late_loses_nothing_that_fits_the_buffer(
    player: subprocess.Popen[str], noise: np.ndarray, tmp_path: Path
) -> None:
    take = tmp_path / "take.npy"
    recorder = start(RECORDER, "piano", str(SAMPLE_RATE), "2", "1.0", str(take))
    _, dropped, logged = finish(recorder)
    heard = np.load(take)
    first = int(np.flatnonzero(heard)[0])
    offset = int(np.flatnonzero(noise == heard[first])[0])
    np.testing.assert_array_equal(heard[first:], noise[offset : offset + len(heard) - first])
    assert dropped == 0 and not logged


@needs_jackd
def test_a_full_buffer_is_told_once(player: subprocess.Popen[str], tmp_path: Path) -> None:
    code = "import sf_plugin.audio.microphone as m\nm.BUFFER_SECONDS = 0.5\n" + RECORDER
    take = tmp_path / "take.npy"
    recorder = start(code, "piano", str(SAMPLE_RATE), "1.5", "1.5", str(take))
    _, dropped, logged = finish(recorder)
    assert dropped > 0.5
    assert len(logged) == 1 and "audio lost" in logged[0]


@needs_jackd
def test_a_server_that_dies_is_an_error(
    server: subprocess.Popen[bytes], player: subprocess.Popen[str], tmp_path: Path
) -> None:
    recorder = start(
        RECORDER, "piano", "22050", "60", "0", str(tmp_path / "take.npy"), stderr=subprocess.PIPE
    )
    assert recorder.stdout is not None and recorder.stdout.readline() == "recording\n"
    server.kill()
    _, err = recorder.communicate(timeout=60)
    assert "AudioError: microphone 'Grand Piano' stopped" in err


@needs_jackd
def test_devices_are_listed(player: subprocess.Popen[str]) -> None:
    process = start(DEVICES)
    devices = json.loads(process.communicate(timeout=30)[0])
    assert ["Grand Piano", "JACK Audio Connection Kit", 1, SAMPLE_RATE] in devices


@needs_jackd
def test_a_name_that_is_not_there_lists_what_is(player: subprocess.Popen[str]) -> None:
    said = start(OPEN, "mic:violin").communicate(timeout=30)[0]
    assert said.startswith("no microphone called 'violin': there are ") and "Grand Piano" in said


def test_no_portaudio(tmp_path: Path) -> None:
    code = "import sys, ctypes.util\nctypes.util.find_library = lambda name: None\n" + OPEN
    process = start(code, "mic:")
    assert "PortAudio is missing" in process.communicate(timeout=30)[0]


DEVICE_LIST = [
    InputDevice(0, "HDA Intel: ALC287", "ALSA", 2, 44100, False),
    InputDevice(3, "Scarlett 2i2 USB", "ALSA", 2, 48000, False),
    InputDevice(4, "Scarlett", "JACK", 2, 48000, True),
]


def test_devices_by_name_number_and_default() -> None:
    assert find_device(DEVICE_LIST, "hda").index == 0
    assert find_device(DEVICE_LIST, "2I2").index == 3
    assert find_device(DEVICE_LIST, "scarlett").index == 4
    assert find_device(DEVICE_LIST, 3).index == 3
    assert find_device(DEVICE_LIST, "0").index == 0
    assert find_device(DEVICE_LIST, None).index == 4
    assert find_device(DEVICE_LIST, "").index == 4
    for wanted in ("cello", 7, "7"):
        with pytest.raises(AudioError, match=r"no microphone called .*Scarlett 2i2"):
            find_device(DEVICE_LIST, wanted)
    with pytest.raises(AudioError, match="no audio input"):
        find_device([], None)
