"""A microphone on real sound servers: every sample arrives, losses are told, time stays right."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import until
from jackd import SAMPLE_RATE, jack_server, needs_jackd, start, start_ready, stop

from sf_plugin.audio.microphone import InputDevice, find_device, lasting_name
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

METRONOME = """
import sys, time, jack
client = jack.Client("Metronome")
port = client.outports.register("out_1")
last = [0]
@client.set_process_callback
def play(frames):
    buffer = port.get_array()
    buffer[:] = 1e-4
    now = time.time()
    if int(now / 0.5) != last[0]:
        last[0] = int(now / 0.5)
        at = max(0, int((now % 0.5) * client.samplerate))
        buffer[max(0, frames - at - 20):][:20] = 0.9
with client:
    print("ready")
    sys.stdin.read()
"""

LISTENER = """
import json, logging, sys, time, numpy as np
logging.basicConfig(stream=sys.stdout, format="LOG %(message)s")
from sf_plugin.audio.microphone import Microphone
name, seconds, target = sys.argv[1:]
microphone = Microphone(name)
blocks, began = [], 0.0
with microphone:
    for block in microphone.blocks(22050):
        if not blocks:
            print("recording")
            began = time.time()
        blocks.append(block)
        if time.time() > began + float(seconds):
            microphone.close()
np.save(target, np.concatenate(blocks))
print("RESULT " + json.dumps([time.time() - began, microphone.dropped_seconds]))
"""

INTERFACE = """
import sys, jack
client = jack.Client("Interface")
ports = [client.outports.register(f"out_{n}") for n in (1, 2, 3)]
@client.set_process_callback
def play(frames):
    for port, value in zip(ports, (0.25, 0.5, -0.125)):
        port.get_array()[:] = value
with client:
    print("ready")
    sys.stdin.read()
"""

CHANNEL = """
import sys
from sf_plugin.audio.microphone import Microphone
from sf_plugin.errors import AudioError
try:
    with Microphone(sys.argv[1], channel=int(sys.argv[2]) if sys.argv[2] else None) as microphone:
        for block in microphone.blocks(44100):
            if block[-1]:
                print(block[-1])
                break
except AudioError as error:
    print(error)
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
    process = start_ready(PLAYER, str(tmp_path / "noise.npy"))
    yield process
    stop(process)


class Clicks:
    """A metronome that clicks whenever the clock is at a whole half second, and its takes."""

    def __init__(self, take: Path) -> None:
        self.take = take
        self.play()

    def play(self) -> None:
        self.player = start_ready(METRONOME)

    def record(self, name: str, seconds: float) -> subprocess.Popen[str]:
        recorder = start(LISTENER, name, str(seconds), str(self.take))
        assert recorder.stdout is not None and recorder.stdout.readline() == "recording\n"
        return recorder

    def check(self, recorder: subprocess.Popen[str]) -> tuple[float, list[str]]:
        """Seconds dropped and lines logged, of a take whose time is right from end to end."""
        out = recorder.communicate(timeout=120)[0].splitlines()
        elapsed, dropped = json.loads(next(o[7:] for o in out if o.startswith("RESULT ")))
        heard = np.load(self.take)
        assert len(heard) / 22050 == pytest.approx(elapsed, abs=0.4)
        loud = np.flatnonzero(np.abs(heard) > 0.3) / 22050
        beats = loud[np.diff(loud, prepend=-1.0) > 0.1]
        phases = (beats - beats[0] + 0.25) % 0.5 - 0.25
        begin, end = (np.median(part) for part in (phases[:4], phases[-4:]))
        assert beats[-1] > len(heard) / 22050 - 1.5
        assert end == pytest.approx(begin, abs=0.1)
        return dropped, [line for line in out if line.startswith("LOG ")]


@pytest.fixture
def clicks(server: subprocess.Popen[bytes], tmp_path: Path) -> Iterator[Clicks]:
    clicks = Clicks(tmp_path / "take.npy")
    yield clicks
    stop(clicks.player)


def comings_and_goings(logged: list[str]) -> list[str]:
    """Without the losses that a busy machine has besides."""
    others = [line for line in logged if "audio lost" not in line]
    return [line.partition("'Metronome' ")[2].partition(":")[0] for line in others]


def children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
def test_a_frozen_listener_loses_nothing(
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
    offset = int(np.flatnonzero(noise == heard[first])[0])
    np.testing.assert_array_equal(heard[first:], noise[offset : offset + len(heard) - first])
    assert dropped == 0 and not logged


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
    code = "import sf_plugin.audio.live as m\nm.BUFFER_SECONDS = 0.5\n" + RECORDER
    take = tmp_path / "take.npy"
    recorder = start(code, "piano", str(SAMPLE_RATE), "1.5", "1.5", str(take))
    _, dropped, logged = finish(recorder)
    assert dropped > 0.5
    assert len(logged) == 1 and "audio lost" in logged[0]


@needs_jackd
def test_a_frozen_recorder_tells_what_it_lost(clicks: Clicks, tmp_path: Path) -> None:
    recorder = clicks.record("metronome", 9)
    time.sleep(3.1)
    (child,) = children(recorder.pid)
    os.kill(child, signal.SIGSTOP)
    time.sleep(1.37)
    os.kill(child, signal.SIGCONT)
    dropped, logged = clicks.check(recorder)
    assert 0.5 < dropped < 3
    assert len(logged) == 1 and "audio lost" in logged[0]


@needs_jackd
def test_a_recorder_that_dies_is_started_again(clicks: Clicks) -> None:
    recorder = clicks.record("metronome", 12)
    time.sleep(3.1)
    (child,) = children(recorder.pid)
    os.kill(child, signal.SIGKILL)
    dropped, logged = clicks.check(recorder)
    assert dropped > 0.5
    assert comings_and_goings(logged) == ["is gone", "is back"]


@needs_jackd
def test_a_device_that_goes_away_and_comes_back(clicks: Clicks) -> None:
    recorder = clicks.record("metronome", 22)
    time.sleep(3.1)
    clicks.player.kill()
    clicks.player.wait()
    time.sleep(8)
    clicks.play()
    dropped, logged = clicks.check(recorder)
    assert dropped > 0.5
    assert comings_and_goings(logged) == ["is gone", "is back"]


@needs_jackd
def test_a_server_that_dies_and_comes_back(server: subprocess.Popen[bytes], clicks: Clicks) -> None:
    recorder = clicks.record("metronome", 22)
    time.sleep(3.1)
    clicks.player.kill()
    server.kill()
    server.wait()
    clicks.player.wait()
    time.sleep(4)
    again = subprocess.Popen(server.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        subprocess.run(["jack_wait", "-w", "-t", "20"], stdout=subprocess.DEVNULL)
        clicks.play()
        dropped, logged = clicks.check(recorder)
    finally:
        again.terminate()
        again.wait(20)
    assert dropped > 3
    assert comings_and_goings(logged) == ["is gone", "is back"]


LATENESS = """
import sys, time
from sf_plugin.audio.microphone import Microphone
microphone = Microphone(sys.argv[1])
gaps, began = [], 0.0
with microphone:
    for block in microphone.blocks(22050):
        now = time.monotonic()
        began = began or now
        gaps.append(now - before if len(gaps) else 0.0)
        before = now
        if now > began + float(sys.argv[2]):
            microphone.close()
print(max(gaps))
"""


@needs_jackd
def test_sound_comes_on_while_it_is_checked_whether_a_silent_device_is_there(
    server: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "silence.npy", np.zeros(SAMPLE_RATE, np.float32))
    player = start_ready(PLAYER, str(tmp_path / "silence.npy"))
    slow = "import sys, time\nif any('\"list\": true' in word for word in sys.orig_argv):\n"
    (tmp_path / "sitecustomize.py").write_text(f"{slow}    time.sleep(5)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = start(LATENESS, "piano", "9").communicate(timeout=120)[0]
    stop(player)
    assert float(said) < 2.0


@needs_jackd
def test_ctrl_c_ends_the_recorder_too(player: subprocess.Popen[str], tmp_path: Path) -> None:
    recorder = start(RECORDER, "piano", "22050", "60", "0", str(tmp_path / "take.npy"))
    assert recorder.stdout is not None and recorder.stdout.readline() == "recording\n"
    (child,) = children(recorder.pid)
    os.kill(recorder.pid, signal.SIGINT)
    recorder.communicate(timeout=30)
    assert recorder.returncode != 0
    assert not is_running(child)


@needs_jackd
def test_the_recorder_does_not_outlive_its_listener(
    player: subprocess.Popen[str], tmp_path: Path
) -> None:
    recorder = start(RECORDER, "piano", "22050", "60", "0", str(tmp_path / "take.npy"))
    assert recorder.stdout is not None and recorder.stdout.readline() == "recording\n"
    (child,) = children(recorder.pid)
    recorder.kill()
    recorder.communicate(timeout=30)
    until(lambda: not is_running(child))


@needs_jackd
@pytest.mark.parametrize(
    ("channel", "value"), [("1", 0.25), ("2", 0.5), ("3", -0.125), ("", 0.375)]
)
def test_one_channel_or_the_first_two(
    server: subprocess.Popen[bytes], channel: str, value: float
) -> None:
    interface = start_ready(INTERFACE)
    said = start(CHANNEL, "interface", channel).communicate(timeout=60)[0]
    stop(interface)
    assert float(said) == value


@needs_jackd
def test_a_channel_that_is_not_there(player: subprocess.Popen[str]) -> None:
    said = start(CHANNEL, "piano", "2").communicate(timeout=30)[0]
    assert said == "microphone 'Grand Piano' has no channel 2: choose one of 1 to 1\n"


@needs_jackd
def test_a_rate_that_the_device_has_not(player: subprocess.Popen[str], tmp_path: Path) -> None:
    code = RECORDER.replace("Microphone(name)", "Microphone(name, rate=96000)")
    take = tmp_path / "take.npy"
    finish(start(code, "piano", "22050", "1", "0", str(take)))
    assert 0.2 < np.std(np.load(take)[-10000:]) < 0.5


def start_pulse(folder: Path) -> subprocess.Popen[bytes]:
    """A PulseAudio of our own, whose microphone hears what is played."""
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    command += ["-L", "module-native-protocol-unix"]
    command += ["-L", "module-null-sink sink_name=follow rate=44100 channels=1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = ["pactl", "set-default-source", "follow.monitor"]
    until(lambda: subprocess.run(made, capture_output=True).returncode == 0)
    return server


@pytest.fixture
def pulse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[subprocess.Popen[bytes]]]:
    if not all(map(shutil.which, ("pulseaudio", "pactl", "paplay"))):
        pytest.skip("pulseaudio and pulseaudio-utils are not installed")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("XDG_RUNTIME_DIR", "HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    servers = [start_pulse(home)]
    if not any(name == "pulse" for name, *_ in json.loads(start(DEVICES).communicate()[0])):
        servers[0].kill()
        pytest.skip("ALSA has no PulseAudio: install libasound2-plugins")
    yield servers
    for server in servers:
        server.kill()
        server.wait()


def test_pulseaudio_that_dies_and_comes_back(
    pulse: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 441 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE)
    soundfile.write(tmp_path / "tone.wav", tone, SAMPLE_RATE)
    recorder = start(LISTENER, "pulse", "22", str(tmp_path / "take.npy"))
    assert recorder.stdout is not None and recorder.stdout.readline() == "recording\n"
    play = ["paplay", str(tmp_path / "tone.wav")]
    subprocess.run(play, check=True, timeout=60)
    pulse[0].kill()
    pulse[0].wait()
    time.sleep(4)
    pulse.append(start_pulse(tmp_path / "home"))
    time.sleep(4)
    subprocess.run(play, check=True, timeout=60)
    out = recorder.communicate(timeout=60)[0].splitlines()
    elapsed, dropped = json.loads(next(o[7:] for o in out if o.startswith("RESULT ")))
    heard = np.load(tmp_path / "take.npy")
    assert len(heard) / 22050 == pytest.approx(elapsed, abs=0.4)
    loud = np.flatnonzero(np.abs(heard) > 0.1) / 22050
    pause = float(np.diff(loud).max())
    before, after = loud[loud < loud[0] + 4], loud[loud > loud[0] + 4]
    for part in (before, after):
        assert np.ptp(part) == pytest.approx(3, abs=0.3)
    assert pause > 7
    assert dropped > 3
    said = [line for line in out if "pulse" in line and "audio lost" not in line]
    assert ["is gone" in line for line in said] == [True, False], out


@needs_jackd
def test_devices_are_listed(player: subprocess.Popen[str]) -> None:
    process = start(DEVICES)
    devices = json.loads(process.communicate(timeout=30)[0])
    assert ["Grand Piano", "JACK Audio Connection Kit", 1, SAMPLE_RATE] in devices


@needs_jackd
def test_a_name_that_is_not_there_lists_what_is(player: subprocess.Popen[str]) -> None:
    said = start(OPEN, "mic:violin").communicate(timeout=30)[0]
    assert said.startswith("no microphone called 'violin': there are ") and "Grand Piano" in said


def test_no_portaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide = "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
    (tmp_path / "sitecustomize.py").write_text(hide)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "no microphone: PortAudio is missing" in start(OPEN, "mic:").communicate(timeout=30)[0]


DEVICE_LIST = [
    InputDevice(0, "HDA Intel: ALC287", "ALSA", 2, 44100, False),
    InputDevice(3, "Scarlett 2i2 USB", "ALSA", 2, 48000, False),
    InputDevice(4, "Scarlett", "JACK", 2, 48000, True),
]


def test_what_finds_a_device_again() -> None:
    card = InputDevice(0, "Scarlett 2i2 USB: Audio (hw:1,0)", "ALSA", 2, 48000, False)
    assert lasting_name(card, None) == lasting_name(card, 0) == "Scarlett 2i2 USB: Audio"
    assert lasting_name(card, "usb") == "usb"


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
