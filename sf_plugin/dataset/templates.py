"""A fast synthesiser in the spectrogram domain.

Single notes of several pianos are rendered once and kept as filter-bank power;
a performance is their sum in power, so every training step hears a new piano,
room and level at the cost of a few milliseconds.

    python -m sf_plugin.dataset.templates OUT.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from sf_plugin.audio.spectrogram import Floats, Spectrogram, SpectrogramConfig
from sf_plugin.dataset.perform import NOTE
from sf_plugin.dataset.render import SOUNDFONTS, render

PITCHES = range(21, 109)
VELOCITIES = (30, 60, 95)
PHASES = 4  # onsets at quarters of a frame
FRAMES = 80
PIANOS = (
    ("fluid", 0),
    ("fluid", 1),
    ("timgm", 0),
    ("timgm", 1),
    ("musescore", 0),
    ("musescore", 1),
    ("musescore", 3),
    ("fluid", 6),
)
"""(soundfont, General MIDI program): grand, bright, honky-tonk, harpsichord."""


def measure_piano(soundfont: Path, program: int, config: SpectrogramConfig) -> np.ndarray:
    """(velocities, phases, pitches, frames, bins) float16 power of held notes."""
    rate, hop = config.sample_rate, config.sample_rate / config.fps
    seconds = FRAMES / config.fps
    gap = seconds + 1.5
    out = np.zeros((len(VELOCITIES), PHASES, len(PITCHES), FRAMES, config.bins), np.float32)
    for v, velocity in enumerate(VELOCITIES):
        notes = np.zeros(len(PITCHES), NOTE)
        notes["onset"] = 1 + np.arange(len(PITCHES)) * gap
        notes["duration"] = seconds
        notes["pitch"] = list(PITCHES)
        notes["velocity"] = velocity
        sound = render(notes, soundfont, program, rate, tail=2.0)
        for p in range(len(PITCHES)):
            for phase in range(PHASES):
                # the note begins phase / PHASES of a frame after frame 0
                start = int(float(notes["onset"][p]) * rate - phase * hop / PHASES)
                clip = sound[start : start + int((FRAMES + 2) * hop)]
                power = Spectrogram(config).power(clip)[:FRAMES]
                out[v, phase, p] = power
    return out


class Templates:
    """Pianos as note templates; `synthesise` plays a performance on one of them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as data:
            # stored as log10 power in steps of 0.05
            self.level = {name: data[name] for name in data.files}

    def synthesise(self, notes: np.ndarray, frames: int, rng: np.random.Generator) -> Floats:
        """(frames, bins) power of `notes` (onsets in seconds from frame 0's centre)."""
        table = self.level[rng.choice(list(self.level))]
        fps = 20
        release = rng.uniform(0.4, 2.0)  # powers of ten a frame once the damper falls
        out = np.zeros((frames + FRAMES + 20, table.shape[-1]), np.float32)
        tuning = rng.uniform(-0.25, 0.25)
        for note in notes:
            start, phase = divmod(round(float(note["onset"]) * fps * PHASES), PHASES)
            if start >= frames or start < -FRAMES:
                continue
            v = int(np.argmin([abs(int(note["velocity"]) - x) for x in VELOCITIES]))
            # amplitude goes with velocity squared
            gain = (int(note["velocity"]) / VELOCITIES[v]) ** 4
            held = max(1, round(float(note["duration"]) * fps))
            clip = table[v, phase, int(note["pitch"]) - 21]
            body = np.power(10.0, clip[: held + 8].astype(np.float32) * 0.05 - 10.0) * gain
            if len(body) > held:
                body[held:] *= (10 ** (-release * np.arange(1, len(body) - held + 1)))[:, None]
            if start < 0:
                body, start = body[-start:], 0
            out[start : start + len(body)] += body
        if tuning:
            away = np.roll(out, 1 if tuning > 0 else -1, axis=1)
            out = (1 - abs(tuning)) * out + abs(tuning) * away
        return out[:frames]


def augment(power: np.ndarray, rng: np.random.Generator) -> Floats:
    """Rooms, microphones, noise and level, in the power domain."""
    frames, bins = power.shape
    if rng.random() < 0.7:  # a room: exponential smear, high tones die sooner
        decay = np.exp(rng.uniform(np.log(0.15), np.log(2.5)))
        slope = np.linspace(1.2, rng.uniform(0.4, 1.0), bins)
        keep = 10 ** (-6.0 / (20 * decay * slope))
        wet = 10 ** (rng.uniform(-15, 1) / 10)
        state = np.zeros(bins, np.float32)
        echo = np.empty_like(power)
        for n in range(frames):
            echo[n] = state
            state = keep * (state + power[n])
        power = power + wet * (1 - keep) / keep * echo
    walk = np.cumsum(rng.standard_normal(bins)) * rng.uniform(0, 0.12)
    colour = 10 ** (np.clip(walk - walk.mean(), -1.2, 1.2))
    power = power * colour.astype(np.float32)
    flutter = rng.uniform(0.05, 0.35)
    power = power * np.exp(rng.standard_normal((frames, bins)) * flutter).astype(np.float32)
    peak = float(np.quantile(power.max(1), 0.95)) + 1e-9
    noise = peak * 10 ** (rng.uniform(-8, -2.5))
    tilt = 10 ** (np.linspace(0, rng.uniform(-2, 0.5), bins))
    power = power + noise * tilt * rng.gamma(2, 0.5, (frames, bins))
    return (power * 10 ** rng.uniform(-1.5, 1.0)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    config = SpectrogramConfig()
    tables: dict[str, Any] = {}
    for font, program in PIANOS:
        power = measure_piano(SOUNDFONTS[font], program, config)
        level = np.round((np.log10(power + 1e-10) + 10) * 20)
        tables[f"{font}-{program}"] = np.clip(level, 0, 255).astype(np.uint8)
        print(font, program, f"loudest {power.max():.3g}", flush=True)
    np.savez_compressed(args.out, **tables)


if __name__ == "__main__":
    main()
