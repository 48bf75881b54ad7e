"""What this machine has, and how to get what it has not."""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import Literal

from sf_plugin.errors import ScoreFollowerError
from sf_plugin.plugins import registry

MIDI_ADVICE = (
    "start the ALSA sequencer (modprobe snd-seq), or start JACK and set "
    "MIDO_BACKEND=mido.backends.rtmidi/UNIX_JACK"
)

Status = Literal["ok", "missing", "optional"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        status: "ok"; "missing" where following cannot do without; "optional" else.
        found: what is there or what is wrong.
        advice: how to mend it; empty where all is well.
    """

    what: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """Something to listen to or to play to; `kind` is "microphone", "MIDI out" or "MIDI in"."""

    kind: str
    name: str
    details: str = ""


@dataclass(slots=True)
class Devices:
    """The devices, and a sentence about each kind there is none of."""

    devices: list[Device] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine() -> Iterator[Finding]:
    """Look at everything that following needs, the needed things first."""
    for look in (
        _python,
        _torch,
        _plugins,
        _weights,
        _ffmpeg,
        _portaudio,
        _sound_card,
        _midi,
    ):
        yield look()


def find_devices() -> Devices:
    """Every microphone and MIDI port."""
    found = Devices()
    try:
        found.devices += _microphones()
    except ScoreFollowerError as error:
        found.problems.append(str(error))
    else:
        if not found.devices:
            found.problems.append(
                "no microphone: the system shows no audio input: plug one in or start the audio "
                "server"
            )
    try:
        ports = _midi_ports()
    except Exception as error:
        found.problems.append(f"no MIDI: {_reason(error)}: {MIDI_ADVICE}")
    else:
        found.devices += ports
        if not ports:
            found.problems.append("no MIDI ports: connect a device or start a program that has one")
    return found


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} in {sys.prefix}")


def _torch() -> Finding:
    try:
        torch = importlib.import_module("torch")
        if float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) != 8.0:
            return Finding(
                "torch", "missing", "computes wrongly", "pip install --force-reinstall torch"
            )
    except Exception as error:
        return Finding("torch", "missing", _reason(error), "pip install torch")
    threads = torch.get_num_threads()
    return Finding("torch", "ok", f"{torch.__version__}, {threads} threads")


def _plugins() -> Finding:
    plugins = registry().plugins
    broken = [info.name for info in plugins if info.error]
    if broken:
        return Finding(
            "plug-ins",
            "optional",
            f"{len(broken)} of {len(plugins)} are disabled ({', '.join(broken)})",
            "'scorefollow plugins' says why",
        )
    return Finding("plug-ins", "ok", f"{len(plugins)} work")


def _weights() -> Finding:
    try:
        follower = registry().followers.choose("unet")()
    except Exception as error:
        return Finding(
            "weights", "missing", _reason(error), "pip install --force-reinstall sf-plugin"
        )
    return Finding(
        "weights", "ok", f"the image U-Net loads and listens at {follower.sample_rate} Hz"
    )


def _ffmpeg() -> Finding:
    program = shutil.which("ffmpeg")
    if program is None or shutil.which("ffprobe") is None:
        return Finding(
            "ffmpeg",
            "optional",
            "not there, so no M4A, video and other rare audio files",
            "Debian, Ubuntu: apt install ffmpeg; macOS: brew install ffmpeg",
        )
    done = subprocess.run([program, "-version"], capture_output=True, text=True, errors="replace")
    words = done.stdout.split()
    return Finding("ffmpeg", "ok", words[2] if len(words) > 2 else program)


def _portaudio() -> Finding:
    try:
        _microphones()
    except ScoreFollowerError as error:
        return Finding("PortAudio", "optional", str(error), "needed for microphones only")
    sounddevice = importlib.import_module("sounddevice")
    return Finding("PortAudio", "ok", sounddevice.get_portaudio_version()[1])


def _sound_card() -> Finding:
    try:
        microphones = _microphones()
    except ScoreFollowerError:
        microphones = []
    if not microphones:
        return Finding(
            "microphone",
            "optional",
            "the system shows no audio input",
            "plug one in or start the audio server; audio files need none",
        )
    return Finding("microphone", "ok", ", ".join(device.name for device in microphones))


def _midi() -> Finding:
    try:
        ports = _midi_ports()
    except Exception as error:
        return Finding(
            "MIDI",
            "optional",
            _reason(error),
            MIDI_ADVICE,
        )
    names = ", ".join(sorted({port.name for port in ports})) or "works, no ports now"
    return Finding("MIDI", "ok", f"python-rtmidi {metadata.version('python-rtmidi')}, {names}")


def _microphones() -> list[Device]:
    from sf_plugin.audio.microphone import list_devices

    return [
        Device(
            "microphone",
            device.name,
            f"{device.channels} channels, {device.sample_rate} Hz, {device.host_api}"
            + (", default" if device.default else ""),
        )
        for device in list_devices()
    ]


def _midi_ports() -> list[Device]:
    mido = importlib.import_module("mido")
    lists: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("MIDI out", mido.get_output_names),
        ("MIDI in", mido.get_input_names),
    )
    return [Device(kind, name) for kind, names in lists for name in names()]


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, ScoreFollowerError) else f"{type(error).__name__}: {text}"
