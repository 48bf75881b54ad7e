"""What is missing on a machine, and the command that brings it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mido
import pytest
from conftest import Run

from sf_plugin.doctor import (
    System,
    _midi,
    ffmpeg_advice,
    fluidsynth_advice,
    midi_advice,
    portaudio_advice,
    system_of,
    this_system,
    torch_advice,
)

DEBIAN = {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
NO_RTMIDI = ModuleNotFoundError("No module named 'rtmidi'")
NO_SEQUENCER = SystemError("error creating ALSA sequencer client object")


@pytest.mark.parametrize(
    ("platform", "release", "family"),
    [
        ("linux", DEBIAN, "debian"),
        ("linux", {"ID": "ubuntu", "ID_LIKE": "debian"}, "debian"),
        ("linux", {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "debian"),
        ("linux", {"ID": "fedora"}, "fedora"),
        ("linux", {"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "fedora"),
        ("linux", {"ID": "arch"}, "arch"),
        ("linux", {"ID": "manjaro", "ID_LIKE": "arch"}, "arch"),
        ("linux", {"ID": "nixos"}, ""),
        ("linux", {}, ""),
        ("darwin", {}, "macos"),
        ("win32", {}, "windows"),
    ],
)
def test_a_system_is_known_by_its_release(
    platform: str, release: dict[str, str], family: str
) -> None:
    assert system_of(platform, release).family == family


def test_this_system_has_a_name() -> None:
    system = this_system()
    assert system.name
    assert system.python == sys.version_info[:2]


@pytest.mark.parametrize(
    ("family", "ffmpeg", "portaudio", "synth"),
    [
        (
            "debian",
            "sudo apt install ffmpeg",
            "sudo apt install libportaudio2",
            "sudo apt install fluidsynth fluid-soundfont-gm",
        ),
        (
            "fedora",
            "sudo dnf install ffmpeg-free",
            "sudo dnf install portaudio",
            "sudo dnf install fluidsynth fluid-soundfont-gm",
        ),
        (
            "arch",
            "sudo pacman -S ffmpeg",
            "sudo pacman -S portaudio",
            "sudo pacman -S fluidsynth soundfont-fluid",
        ),
        (
            "macos",
            "brew install ffmpeg",
            "pip install --force-reinstall sounddevice",
            "brew install fluid-synth, and name a soundfont",
        ),
        (
            "windows",
            "winget install Gyan.FFmpeg",
            "pip install --force-reinstall sounddevice",
            "choco install fluidsynth, and name a soundfont",
        ),
        ("", "install ffmpeg", "install the library PortAudio", "install fluidsynth"),
    ],
)
def test_each_system_has_its_commands(family: str, ffmpeg: str, portaudio: str, synth: str) -> None:
    system = System("some", family)
    assert ffmpeg_advice(system).startswith(ffmpeg)
    assert portaudio_advice(system) == portaudio
    assert fluidsynth_advice(system, program=False).startswith(synth)


def test_root_needs_no_sudo() -> None:
    assert ffmpeg_advice(system_of("linux", DEBIAN, root=True)) == "apt install ffmpeg"


def test_a_program_without_a_soundfont_is_not_installed_again() -> None:
    advice = fluidsynth_advice(System("macOS", "macos"), program=True)
    assert "brew" not in advice and "soundfont=FILE" in advice


def test_torch_is_taken_without_graphics_libraries_where_it_matters() -> None:
    assert "download.pytorch.org/whl/cpu" in torch_advice(System("Fedora", "fedora"))
    assert torch_advice(System("macOS", "macos")) == "pip install torch"


def test_midi_advice_is_about_what_failed() -> None:
    old, new = (System("some", "debian", python=version) for version in ((3, 12), (3, 13)))
    assert midi_advice(NO_RTMIDI, old) == "pip install python-rtmidi"
    compiled = midi_advice(NO_RTMIDI, new)
    assert "Python 3.12" in compiled and "libasound2-dev" in compiled
    assert "xcode-select" in midi_advice(NO_RTMIDI, System("macOS", "macos", python=(3, 14)))
    assert "compiler" in midi_advice(NO_RTMIDI, System("Windows", "windows", python=(3, 13)))
    assert "snd-seq" in midi_advice(NO_SEQUENCER, new)
    assert "snd-seq" not in midi_advice(NO_SEQUENCER, System("macOS", "macos"))


def test_the_advice_stands_below_the_table(scorefollow: Run) -> None:
    findings = json.loads(scorefollow("doctor", "--json").stdout)
    assert {"system", "fluidsynth"} <= {finding["what"] for finding in findings}
    done = scorefollow("doctor")
    lines = done.stdout.splitlines()
    for finding in findings:
        if finding["advice"]:
            assert f"{finding['what']}: {finding['advice']}" in lines
    assert not done.stderr


def test_missing_programs_are_told_with_their_command(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "scorefollow"
    done = subprocess.run(
        [program, "doctor", "--json"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    for what in ("ffmpeg", "fluidsynth"):
        assert findings[what]["status"] == "optional"
        assert what in findings[what]["advice"]
    assert done.returncode == 0


# without python-rtmidi


@pytest.fixture
def no_rtmidi(tmp_path: Path) -> Path:
    """A folder in front of the others, where python-rtmidi is as if not installed."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "rtmidi.py").write_text("raise ModuleNotFoundError(\"No module named 'rtmidi'\")\n")
    return site


def test_without_rtmidi_devices_and_doctor_say_how_to_get_it(
    scorefollow: Run, no_rtmidi: Path
) -> None:
    done = scorefollow("devices", "--json", site=no_rtmidi)
    assert done.returncode == 0 and not done.stderr
    (problem,) = (text for text in json.loads(done.stdout)["problems"] if "MIDI" in text)
    assert "rtmidi" in problem and "pip install python-rtmidi" in problem
    done = scorefollow("doctor", "--json", site=no_rtmidi)
    assert done.returncode == 0 and not done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert findings["MIDI"]["status"] == "optional"
    assert "pip install python-rtmidi" in findings["MIDI"]["advice"]
    assert findings["plug-ins"]["status"] == findings["weights"]["status"] == "ok"


def test_another_midi_back_end_is_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_ports.py").write_text("def get_devices(**options):\n    return []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = mido.backend.name
    mido.set_backend("no_ports")
    try:
        found = _midi(this_system()).found
    finally:
        mido.set_backend(before)
    assert found == "no_ports, works, no ports now"


@pytest.mark.parametrize(
    "words",
    [
        ("turn", "ipad", "--test"),
        ("turn", "pedal", "--learn"),
        ("follow", "PDF", "--audio", "WAV", "--turn", "ipad"),
        ("follow", "PDF", "--audio", "WAV", "--clock", "ipad"),
        ("follow", "PDF", "--audio", "WAV", "--midi-control", "ipad"),
        ("follow", "PDF", "--midi-in", "piano"),
    ],
    ids=" ".join,
)
def test_without_rtmidi_what_needs_midi_ends_with_one_line(
    scorefollow: Run, no_rtmidi: Path, pdf: Path, wav: Path, words: tuple[str, ...]
) -> None:
    files = {"PDF": pdf, "WAV": wav}
    named = [files.get(word, word) for word in words]
    follower = ("--follower", "constant-tempo") if words[0] == "follow" else ()
    done = scorefollow(*named, *follower, site=no_rtmidi)
    assert done.returncode == 2
    *warnings, line = done.stderr.splitlines()
    assert line.startswith("scorefollow: ")
    assert line.endswith("'scorefollow doctor' says how to get it")
    assert all(text.startswith("scorefollow: warning: ") for text in warnings)


def test_without_rtmidi_all_else_works(
    scorefollow: Run, no_rtmidi: Path, pdf: Path, wav: Path
) -> None:
    done = scorefollow("plugins", "--json", site=no_rtmidi)
    assert not [plugin for plugin in json.loads(done.stdout) if plugin["error"]]
    done = scorefollow(
        "follow", pdf, "--audio", wav, "--follower", "constant-tempo", "--out", "-", site=no_rtmidi
    )
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])
