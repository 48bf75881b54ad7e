"""A take: one performance of an engraved piece, as files that anyone can use.

A folder holds what a user has (`page-1.png`, …, `performance.flac`), what was played
(`performance.mid`), and the truth: `truth.csv` (a row an onset), `layout.json` (systems
and measures), `happenings.json` (jumps, stops, mistakes).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from sf_plugin.dataset.acoustics import ACOUSTICS, Crowd, among, heard_in
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.instruments import TRAINING_INSTRUMENTS
from sf_plugin.dataset.paper import PAPERS, spoil_engraving
from sf_plugin.dataset.perform import STYLES, Performance, perform, to_midi, truth_table
from sf_plugin.dataset.render import render
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.errors import ScoreFollowerError

SAMPLE_RATE = 22050


@dataclass(frozen=True)
class Manner:
    """How a take is played, heard and printed, each by its module's name for it.

    Without an `instrument` the seed chooses one of those that training hears.
    """

    style: str = "human"
    instrument: str | None = None
    acoustics: str = "room"
    paper: str = "engraved"


def sound_of(
    notes: np.ndarray,
    pedals: np.ndarray,
    instrument: str,
    acoustics: str,
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    crowd: tuple[Crowd, ...] = (),
) -> NDArray[np.float32]:
    """(samples,) of a performance on an instrument, as heard, no louder than full scale.

    Raises:
        ScoreFollowerError: the instrument's samples or a program are missing.
    """
    dry = render(notes, instrument, sample_rate, pedals)
    dry = among(dry, crowd, rng, sample_rate) if crowd else dry
    sound = heard_in(dry, ACOUSTICS[acoustics](rng), rng, sample_rate)
    return sound / np.float32(max(1.0, float(np.abs(sound).max(initial=0)) / 0.99))


def write_take(
    folder: Path, name: str, engraving: Engraving, manner: Manner, seed: int = 0
) -> Performance:
    """Perform a piece and write the take to `folder`/`name`, whole or not at all.

    Raises:
        ScoreFollowerError: it cannot be rendered or written.
    """
    seeds = (seed, zlib.crc32(name.encode()))
    performance = perform(engraving, np.random.default_rng(seeds), STYLES[manner.style])
    if manner.paper != "engraved":
        rng = np.random.default_rng((*seeds, 2))
        engraving = spoil_engraving(engraving, rng, PAPERS[manner.paper])
    choice = np.random.default_rng((*seeds, 1)).choice(sorted(TRAINING_INSTRUMENTS))
    instrument = manner.instrument or str(choice)
    rng = np.random.default_rng((*seeds, 3))
    sound = sound_of(performance.notes, performance.pedals, instrument, manner.acoustics, rng)
    layout = measures_of_engraving(engraving)
    part = folder / f"{name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        for number, page in enumerate(engraving.pages, 1):
            Image.fromarray(page).save(part / f"page-{number}.png")
        soundfile.write(part / "performance.flac", sound, SAMPLE_RATE, subtype="PCM_16")
        to_midi(performance).save(str(part / "performance.mid"))
        with (part / "truth.csv").open("w", newline="", encoding="utf-8") as file:
            rows = truth_table(performance, engraving)
            writer = csv.writer(file)
            writer.writerow(rows.dtype.names or ())
            writer.writerows(rows.tolist())
        (part / "layout.json").write_text(layout.to_json() + "\n", encoding="utf-8")
        told = [asdict(happening) for happening in performance.happenings]
        (part / "happenings.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder / name, ignore_errors=True)
        part.replace(folder / name)
    except (OSError, soundfile.SoundFileError) as error:
        raise ScoreFollowerError(
            f"{folder / name}: cannot be written ({error}): choose another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return performance


@dataclass(frozen=True)
class Take:
    """Writes a take of the named engraving of a set; gives its length in seconds."""

    shards: Path
    out: Path
    manner: Manner
    seed: int

    def __call__(self, name: str) -> float:
        engraving = ShardSet(self.shards).load(name)
        performance = write_take(self.out, name, engraving, self.manner, self.seed)
        return float(performance.onsets["time"][-1])
