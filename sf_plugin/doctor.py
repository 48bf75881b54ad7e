"""What this machine has, and how to get what it has not."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from sf_plugin.audio.quiet import quiet_stderr
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.plugins import registry

FAMILIES = {
    "debian": "debian",
    "ubuntu": "debian",
    "fedora": "fedora",
    "rhel": "fedora",
    "centos": "fedora",
    "arch": "arch",
}
"""Distributions by the names in /etc/os-release, and what their packages are like."""

COMMANDS = {
    "PortAudio": {
        "debian": "apt install libportaudio2",
        "fedora": "dnf install portaudio",
        "arch": "pacman -S portaudio",
    },
    "ffmpeg": {
        "debian": "apt install ffmpeg",
        "fedora": "dnf install ffmpeg-free",
        "arch": "pacman -S ffmpeg",
        "macos": "brew install ffmpeg",
        "windows": "winget install Gyan.FFmpeg",
    },
    "fluidsynth": {
        "debian": "apt install fluidsynth fluid-soundfont-gm",
        "fedora": "dnf install fluidsynth fluid-soundfont-gm",
        "arch": "pacman -S fluidsynth soundfont-fluid",
        "macos": "brew install fluid-synth",
        "windows": "choco install fluidsynth",
    },
    "compiler": {
        "debian": "apt install g++ python3-dev libasound2-dev libjack-jackd2-dev",
        "fedora": "dnf install gcc-c++ python3-devel alsa-lib-devel "
        "pipewire-jack-audio-connection-kit-devel",
        "arch": "pacman -S base-devel alsa-lib jack2",
        "macos": "xcode-select --install",
    },
}
"""What brings each on each system; the compiler is for python-rtmidi."""

LAST_RTMIDI = (3, 12)
"""The last Python for which python-rtmidi comes compiled."""

Status = Literal["ok", "missing", "optional"]


@dataclass(frozen=True, slots=True)
class System:
    """The machine, as far as it decides how things are installed.

    Attributes:
        family: "debian", "fedora", "arch", "macos", "windows", or empty.
        python: major and minor version.
    """

    name: str
    family: str
    root: bool = False
    python: tuple[int, int] = (3, 11)

    def command(self, what: str) -> str:
        """The command that brings a key of `COMMANDS`; empty where we know none."""
        command = COMMANDS[what].get(self.family, "")
        linux = self.family in FAMILIES.values()
        return f"sudo {command}" if command and linux and not self.root else command


def system_of(
    platform_name: str,
    release: Mapping[str, str],
    root: bool = False,
    python: tuple[int, int] = (3, 11),
) -> System:
    """The system of a `sys.platform` and the fields of /etc/os-release."""
    if platform_name == "darwin":
        return System("macOS", "macos", root, python)
    if platform_name == "win32":
        return System("Windows", "windows", root, python)
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    family = next((FAMILIES[name] for name in names if name in FAMILIES), "")
    return System(release.get("PRETTY_NAME", platform_name), family, root, python)


def this_system() -> System:
    """The one we run on."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return system_of(sys.platform, release, root, (sys.version_info.major, sys.version_info.minor))


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
    system = this_system()
    for look in (
        _system,
        _python,
        _torch,
        _plugins,
        _weights,
        _ffmpeg,
        _portaudio,
        _microphone,
        _midi,
        _fluidsynth,
    ):
        yield look(system)


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
        ports = midi_ports()
    except Exception as error:
        found.problems.append(why_no_midi(error))
    else:
        found.devices += ports
        if not ports:
            found.problems.append("no MIDI ports: connect a device or start a program that has one")
    return found


def midi_ports() -> list[Device]:
    """Those to play to, then those to listen to.

    Raises:
        Exception: python-rtmidi is missing, or no MIDI system runs.
    """
    mido = importlib.import_module("mido")
    with quiet_stderr():
        lists = (("MIDI out", mido.get_output_names()), ("MIDI in", mido.get_input_names()))
    return [Device(kind, name) for kind, names in lists for name in names]


def why_no_midi(error: Exception) -> str:
    """What `midi_ports` raised, and what helps, on this machine."""
    return f"no MIDI: {_reason(error)}: {midi_advice(error, this_system())}"


# how to get things


def torch_advice(system: System) -> str:
    if system.family in ("macos", "windows"):
        return "pip install torch"
    return (
        "pip install torch --index-url https://download.pytorch.org/whl/cpu "
        "(without the index it brings 3 GB for graphics cards)"
    )


def ffmpeg_advice(system: System) -> str:
    return system.command("ffmpeg") or "install ffmpeg with ffprobe"


def portaudio_advice(system: System) -> str:
    if system.family in ("macos", "windows"):
        return "pip install --force-reinstall sounddevice"
    return system.command("PortAudio") or "install the library PortAudio"


def fluidsynth_advice(system: System, program: bool) -> str:
    """Of the program, or of a soundfont where that alone is missing."""
    command = system.command("fluidsynth") or "install fluidsynth and a General MIDI soundfont"
    if system.family not in ("macos", "windows"):
        return command
    font = "name a soundfont with --accompany FILE,soundfont=FILE"
    return font if program else f"{command}, and {font}"


def midi_advice(error: BaseException, system: System) -> str:
    """What helps where MIDI failed like this."""
    if not isinstance(error, ImportError):
        if system.family in ("macos", "windows"):
            return "restart the computer's MIDI"
        return (
            "start the ALSA sequencer (modprobe snd-seq), or start JACK and set "
            "MIDO_BACKEND=mido.backends.rtmidi/UNIX_JACK"
        )
    if system.python <= LAST_RTMIDI:
        return "pip install python-rtmidi"
    last = ".".join(map(str, LAST_RTMIDI))
    tools = system.command("compiler") or "install a C++ compiler"
    return (
        f"take Python {last}, for which python-rtmidi comes compiled; or compile it: {tools}, "
        "then pip install python-rtmidi"
    )


# looking


def _system(system: System) -> Finding:
    return Finding("system", "ok", f"{system.name}, {platform.machine()}")


def _python(_: System) -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} in {sys.prefix}")


def _torch(system: System) -> Finding:
    try:
        torch = importlib.import_module("torch")
        if float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) != 8.0:
            return Finding(
                "torch", "missing", "computes wrongly", "pip install --force-reinstall torch"
            )
    except Exception as error:
        return Finding("torch", "missing", _reason(error), torch_advice(system))
    threads = torch.get_num_threads()
    return Finding("torch", "ok", f"{torch.__version__}, {threads} threads")


def _plugins(_: System) -> Finding:
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


def _weights(_: System) -> Finding:
    try:
        follower = registry().followers.choose("unet")()
    except ImportError as error:
        return Finding("weights", "missing", _reason(error), "install torch first")
    except Exception as error:
        return Finding(
            "weights", "missing", _reason(error), "pip install --force-reinstall sf-plugin"
        )
    return Finding(
        "weights", "ok", f"the image U-Net loads and listens at {follower.sample_rate} Hz"
    )


def _ffmpeg(system: System) -> Finding:
    program = shutil.which("ffmpeg")
    if program is None or shutil.which("ffprobe") is None:
        return Finding(
            "ffmpeg",
            "optional",
            "not there, so no M4A, video and other rare audio files",
            ffmpeg_advice(system),
        )
    done = subprocess.run([program, "-version"], capture_output=True, text=True, errors="replace")
    words = done.stdout.split()
    return Finding("ffmpeg", "ok", words[2] if len(words) > 2 else program)


def _portaudio(system: System) -> Finding:
    try:
        _microphones()
    except ScoreFollowerError as error:
        found = f"{str(error).removeprefix('no microphone: ')}; without it no microphone is heard"
        return Finding("PortAudio", "optional", found, portaudio_advice(system))
    sounddevice = importlib.import_module("sounddevice")
    return Finding("PortAudio", "ok", sounddevice.get_portaudio_version()[1])


def _microphone(_: System) -> Finding:
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


def _midi(system: System) -> Finding:
    try:
        ports = midi_ports()
    except Exception as error:
        return Finding("MIDI", "optional", _reason(error), midi_advice(error, system))
    names = ", ".join(sorted({port.name for port in ports})) or "works, no ports now"
    name = importlib.import_module("mido").backend.name
    if name == "mido.backends.rtmidi":
        name = f"python-rtmidi {metadata.version('python-rtmidi')}"
    return Finding("MIDI", "ok", f"{name}, {names}")


def _fluidsynth(system: System) -> Finding:
    from sf_adapters.fluidsynth import PROGRAM, SOUNDFONTS

    program = shutil.which(PROGRAM)
    font = next((font for font in SOUNDFONTS if Path(font).is_file()), None)
    if program is not None and font is not None:
        return Finding("fluidsynth", "ok", f"{program}, {font}")
    lacking = "is not there" if program is None else "has no soundfont"
    return Finding(
        "fluidsynth",
        "optional",
        f"{lacking}, so --accompany needs a MIDI port to play to",
        fluidsynth_advice(system, program is not None),
    )


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


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, ScoreFollowerError) else f"{type(error).__name__}: {text}"
