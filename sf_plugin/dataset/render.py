"""Performances as sound: dry, mono, exact in time."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from sf_plugin.audio.piano import Piano
from sf_plugin.dataset import salamander
from sf_plugin.dataset.instruments import Instrument, instrument_named, salamander_folder
from sf_plugin.dataset.midi import midi_file
from sf_plugin.errors import ScoreFollowerError

SAMPLER_RATE = 44100
"""fluidsynth's: the soundfonts' own rate, so that nothing folds back, and note onsets
fall on blocks of 1.5 ms."""

Channel = Literal["both", "left", "right"]


class RenderError(ScoreFollowerError):
    """fluidsynth or a soundfont is missing, or rendering failed."""


def render(
    notes: np.ndarray,
    instrument: str | Instrument,
    sample_rate: int = 22050,
    pedals: np.ndarray | None = None,
    *,
    tuning: NDArray[np.float64] | None = None,
    touch: float = 1.0,
    channel: Channel = "both",
    tail: float = 1.0,
    cache: Path | None = None,
) -> NDArray[np.float32]:
    """(samples,) dry mono sound from time 0 to `tail` seconds after the last note.

    A note's attack comes within a few milliseconds of its onset.

    Args:
        notes: rows with onset and duration (seconds, key down), pitch, velocity.
        instrument: one of INSTRUMENTS.
        pedals: rows of the sustain pedal: time (seconds) and value, 0 to 127.
        tuning: (128,) cents by which each key is off; see `out_of_tune`.
        touch: exponent of the velocity curve: below 1 a light action, above 1 a heavy one.
        channel: what of the stereo sound the microphone hears.
        cache: where the Salamander's notes are; the user's cache folder by default.

    Raises:
        RenderError: fluidsynth or the soundfont is missing, or rendering failed.
        InstrumentError: there is no such instrument, or its samples were not fetched.
    """
    if isinstance(instrument, str):
        instrument = instrument_named(instrument)
    if touch != 1:
        notes = notes.copy()
        notes["velocity"] = np.clip(np.round(127 * (notes["velocity"] / 127) ** touch), 1, 127)
    last = float((notes["onset"] + notes["duration"]).max(initial=0))
    samples = int((last + tail) * sample_rate)
    stereo: NDArray[np.floating]
    if instrument.name == "keyboard":
        stereo = _keyboard(notes, pedals, sample_rate, samples)[None]
    elif instrument.soundfont is None:
        cents = np.zeros(128) if tuning is None else tuning
        folder = salamander_folder(cache)
        ends = damped(notes, pedals)
        stereo = salamander.play(notes, ends, folder, sample_rate, samples, cents)
    else:
        stereo = _fluidsynth(notes, instrument.soundfont, instrument.program, pedals, tuning)
    sides = {"both": slice(None), "left": slice(0, 1), "right": slice(-1, None)}
    sound = stereo[sides[channel]].mean(0, dtype=np.float32)
    if instrument.soundfont is not None and sample_rate != SAMPLER_RATE:
        sound = soxr.resample(sound, SAMPLER_RATE, sample_rate)
    out = np.zeros(samples, np.float32)
    out[: len(sound)] = sound[:samples]
    return out


def damped(notes: np.ndarray, pedals: np.ndarray | None) -> NDArray[np.float64]:
    """(notes,) seconds when each note's damper falls: key up, pedal up, or struck again."""
    end = notes["onset"] + notes["duration"].astype(float)
    if pedals is not None and len(pedals):
        last = np.searchsorted(pedals["time"], end, side="right") - 1
        held = (last >= 0) & (pedals["value"][last] >= 64)
        # who never lifts the pedal hears the strings out
        lifts = np.append(pedals["time"][pedals["value"] < 64], end.max(initial=0) + 4)
        lifted = lifts[np.minimum(np.searchsorted(lifts[:-1], end), len(lifts) - 1)]
        end = np.where(held, np.maximum(lifted, end), end)
    order = np.lexsort((notes["onset"], notes["pitch"]))
    same = np.diff(notes["pitch"][order]) == 0
    before, after = order[:-1][same], order[1:][same]
    end[before] = np.minimum(end[before], notes["onset"][after])
    return end


def out_of_tune(
    rng: np.random.Generator, overall: float = 8.0, spread: float = 3.0
) -> NDArray[np.float64]:
    """(128,) cents: the whole instrument off by about `overall`, each key by about `spread`.

    Both are standard deviations.  A concert grand has a spread below 1, an old upright 10.
    """
    return rng.normal(0, overall) + rng.normal(0, spread, 128)


def _keyboard(
    notes: np.ndarray, pedals: np.ndarray | None, sample_rate: int, samples: int
) -> NDArray[np.float32]:
    """(samples,) as the events of a MIDI keyboard are heard."""
    piano, parts, seconds = Piano(sample_rate), [], 0.0
    for message in midi_file(notes, 0, pedals):
        seconds += message.time
        at = round(seconds * sample_rate)
        parts.append(piano.render(max(0, at - piano.now)))
        piano.hear(message, at)
    parts.append(piano.render(max(0, samples - piano.now)))
    return np.concatenate(parts)


def _fluidsynth(
    notes: np.ndarray,
    soundfont: Path,
    program: int,
    pedals: np.ndarray | None,
    tuning: NDArray[np.float64] | None,
    gain: float = 0.6,
) -> NDArray[np.float32]:
    """(2, samples) at SAMPLER_RATE."""
    if not shutil.which("fluidsynth"):
        raise RenderError("fluidsynth is not installed: apt-get install fluidsynth")
    if not soundfont.exists():
        raise RenderError(f"{soundfont}: no such soundfont; see docs/training.md for the packages")
    with tempfile.TemporaryDirectory() as scratch:
        midi, raw = Path(scratch) / "notes.mid", Path(scratch) / "sound.raw"
        midi_file(notes, program, pedals, tuning).save(str(midi))
        command = ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", str(gain)]
        command += ["-o", "synth.dynamic-sample-loading=1", "-o", "synth.polyphony=512"]
        command += ["-r", str(SAMPLER_RATE), "-O", "float", "-T", "raw", "-F", str(raw)]
        done = subprocess.run([*command, str(soundfont), str(midi)], capture_output=True, text=True)
        if done.returncode or not raw.exists():
            raise RenderError(f"fluidsynth failed: {done.stderr.strip()[:200]}")
        return np.fromfile(raw, np.float32).reshape(-1, 2).T
