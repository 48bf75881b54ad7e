"""Performances as sound: fluidsynth's pianos, and rooms to hear them in."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from sf_plugin.errors import ScoreFollowerError

SOUNDFONTS = {
    "fluid": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "timgm": Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
    "musescore": Path("/usr/share/sounds/sf3/MuseScore_General.sf3"),
}
"""Debian's packages fluid-soundfont-gm, timgm6mb-soundfont, musescore-general-soundfont."""


class RenderError(ScoreFollowerError):
    """fluidsynth or a soundfont is missing, or rendering failed."""


def midi_file(notes: np.ndarray, program: int = 0) -> mido.MidiFile:
    """Notes (onset and duration in seconds, pitch, velocity) as a MIDI file, 1 tick = 1 ms."""
    file = mido.MidiFile(ticks_per_beat=500)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.Message("program_change", program=program))
    events = [(round(n["onset"] * 1000), 1, int(n["pitch"]), int(n["velocity"])) for n in notes]
    events += [
        (round((n["onset"] + float(n["duration"])) * 1000), 0, int(n["pitch"]), 0) for n in notes
    ]
    now = 0
    sounding: dict[int, int] = {}
    for tick, on, pitch, velocity in sorted(events):
        if on:
            sounding[pitch] = sounding.get(pitch, 0) + 1
        else:
            sounding[pitch] = sounding.get(pitch, 1) - 1
            if sounding[pitch] > 0:
                continue  # the same key was struck again meanwhile
        kind = "note_on" if on else "note_off"
        track.append(mido.Message(kind, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    return file


def render(
    notes: np.ndarray,
    soundfont: Path,
    program: int = 0,
    sample_rate: int = 22050,
    gain: float = 0.6,
    tail: float = 1.0,
) -> NDArray[np.float32]:
    """(samples,) mono, dry, from time 0 to `tail` seconds after the last note.

    Raises:
        RenderError: fluidsynth or the soundfont is missing, or rendering failed.
    """
    if not shutil.which("fluidsynth"):
        raise RenderError("fluidsynth is not installed: apt-get install fluidsynth")
    if not soundfont.exists():
        raise RenderError(f"{soundfont}: no such soundfont; see docs/training.md for the packages")
    with tempfile.TemporaryDirectory() as scratch:
        midi, raw = Path(scratch) / "notes.mid", Path(scratch) / "sound.raw"
        midi_file(notes, program).save(str(midi))
        command = ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", str(gain)]
        command += ["-r", str(sample_rate), "-O", "float", "-T", "raw", "-F", str(raw)]
        done = subprocess.run([*command, str(soundfont), str(midi)], capture_output=True, text=True)
        if done.returncode or not raw.exists():
            raise RenderError(f"fluidsynth failed: {done.stderr.strip()[:200]}")
        stereo = np.fromfile(raw, np.float32).reshape(-1, 2)
    sound: NDArray[np.float32] = stereo.mean(1)
    end = int((float((notes["onset"] + notes["duration"]).max()) + tail) * sample_rate)
    if len(sound) < end:
        sound = np.pad(sound, (0, end - len(sound)))
    return sound[:end]


def room_response(
    rng: np.random.Generator,
    decay: float = 0.6,
    direct_to_reverberant: float = 3.0,
    sample_rate: int = 22050,
) -> NDArray[np.float32]:
    """A synthetic room's impulse response, direct sound first.

    Early reflections and exponentially decaying noise, darker as it decays;
    `decay` is the time to -60 dB in seconds, the ratio is in dB.
    """
    length = int(decay * sample_rate)
    time = np.arange(length) / sample_rate
    tail = rng.standard_normal(length) * 10 ** (-3 * time / decay)
    # one-pole low-pass whose strength grows: high tones die first
    dark = np.empty(length)
    state = 0.0
    strength = np.clip(0.1 + 0.75 * time / decay, 0, 0.9)
    for i in range(length):
        state = strength[i] * state + (1 - strength[i]) * tail[i]
        dark[i] = state
    gap = int(rng.uniform(0.004, 0.02) * sample_rate)
    dark[:gap] = 0
    early = np.zeros(length)
    for delay in rng.uniform(0.002, 0.06, 8):
        early[int(delay * sample_rate)] += rng.choice([-1, 1]) * np.exp(-delay * 30)
    reverberant = dark / np.sqrt((dark**2).sum() + 1e-12) + 0.6 * early / np.sqrt(
        (early**2).sum() + 1e-12
    )
    reverberant /= np.sqrt((reverberant**2).sum())
    response = reverberant * 10 ** (-direct_to_reverberant / 20)
    response[0] += 1.0
    return response.astype(np.float32)


def in_room(
    sound: NDArray[np.float32],
    response: NDArray[np.float32],
    rng: np.random.Generator,
    noise_db: float = -55.0,
) -> NDArray[np.float32]:
    """Convolve fully, cut to the sound's length (labels do not move), add room noise."""
    size = len(sound) + len(response) - 1
    fast = 1 << (size - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(sound, fast) * np.fft.rfft(response, fast), fast)[: len(sound)]
    noise = np.cumsum(rng.standard_normal(len(sound)))
    noise -= np.convolve(noise, np.ones(512) / 512, "same")  # brownish, no rumble
    noise *= 10 ** (noise_db / 20) / (noise.std() + 1e-12)
    out = wet + noise
    return (out / max(1.0, np.abs(out).max() / 0.99)).astype(np.float32)
