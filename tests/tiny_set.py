"""A set of engraved pieces, a piano and a network that are small enough to train in tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sf_plugin.audio.spectrogram import SpectrogramConfig
from sf_plugin.dataset.engraving import BAR, NOTE, SIGN, STAFF, SYSTEM, Engraving
from sf_plugin.dataset.shards import ShardSet, ShardWriter
from sf_plugin.dataset.templates import KNOTS, VELOCITIES, VERSION
from sf_plugin.unet.config import CUNET, UNetConfig

TINY = UNetConfig(channels=(4, 8, 8, 8, 8), groups=1, cells=16, audio_channels=16, audio_memory=8)
TINY_PAPER = replace(
    CUNET, page_width=64, channels=(2, 2, 2, 2, 2), audio_channels=8, audio_memory=8
)
BINS = TINY.spectrogram.bins
SMALL_CANVAS = (192, 128)
FRAMES = 120
HEIGHT, WIDTH = 160, 112
NOTES_A_SYSTEM = 10


def draw_piece(seed: int = 0, pages: int = 2) -> Engraving:
    """Two systems a page with a note every sixteenth of the width, drawn as black boxes."""
    rng = np.random.default_rng(seed)
    images = np.full((pages, HEIGHT, WIDTH), 255, np.uint8)
    notes = np.zeros(2 * pages * NOTES_A_SYSTEM, NOTE)
    systems = np.zeros(2 * pages, SYSTEM)
    staves = np.zeros(2 * pages, STAFF)
    bars = np.zeros(2 * pages, BAR)
    signs = np.zeros(2 * pages, SIGN)
    for i in range(2 * pages):
        page, top = i // 2, 0.2 + 0.4 * (i % 2)
        systems[i] = (page, 0, 1, top, top + 0.1, 0.1, 0.9)
        staves[i] = (i, top, top + 0.1)
        bars[i] = (i, 0.88, (i + 1) * NOTES_A_SYSTEM / 4, i + 2, "|")
        signs[i] = (i, 0, 0.12, top + 0.05, 0, "clef", "treble")
        for line in range(5):
            images[page, round((top + 0.025 * line) * HEIGHT), 11:101] = 0
        for k in range(NOTES_A_SYSTEM):
            note = notes[i * NOTES_A_SYSTEM + k]
            pitch = int(rng.integers(60, 80))
            x, y = 0.15 + 0.075 * k, top + 0.1 - 0.1 * (pitch - 60) / 20
            note["page"], note["system"], note["x"], note["y"] = page, i, x, y
            note["onset"], note["length"] = (i * NOTES_A_SYSTEM + k) / 4, 0.25
            note["pitch"], note["tempo"] = pitch, 60
            row, column = round(y * HEIGHT), round(x * WIDTH)
            images[page, row - 2 : row + 2, column - 2 : column + 3] = 0
    return Engraving(images, notes, systems, staves, bars, signs=signs)


def write_templates(path: Path, config: SpectrogramConfig = TINY.spectrogram) -> Path:
    """A piano whose notes are one bin each, decaying."""
    levels = np.zeros((len(VELOCITIES), 88, len(KNOTS), config.bins), np.uint8)
    for pitch in range(88):
        power = (190 - KNOTS[KNOTS >= 0]).astype(int)
        levels[:, pitch, KNOTS >= 0, pitch * config.bins // 88] = power
    tables: dict[str, np.ndarray] = {
        "version": np.array(VERSION),
        "levels tiny": levels,
        "releases tiny": np.full(88, 20, np.float32),
    }
    np.savez(path, **tables)  # type: ignore[arg-type]
    return path


def write_set(folder: Path) -> ShardSet:
    """A piece to train on, one to validate on, and one that is for neither."""
    writer = ShardWriter(folder)
    writer.add("tiny", draw_piece(), {"piece": "tiny", "use": "train"})
    writer.add("held", draw_piece(1, 1), {"piece": "held", "use": "valid"})
    writer.add("other", draw_piece(2, 1), {"piece": "other", "use": "extra"})
    return writer.finish()
