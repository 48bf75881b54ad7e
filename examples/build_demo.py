"""Build the demo's score, performance and truth from its LilyPond source.

python examples/build_demo.py sonatina-1.ly sf_plugin/demo_assets

Needs the extra `train` (LilyPond), fluidsynth with Debian's fluid-soundfont-gm,
and ffmpeg.  Nothing is left to chance: the same tools make the same files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf
import soundfile
from numpy.typing import NDArray

from sf_plugin.dataset.acoustics import Acoustics, Room, heard_in
from sf_plugin.dataset.engrave_lilypond import run_lilypond
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.lilypond_truth import read_truth
from sf_plugin.dataset.perform import Performance, Style, perform, score_onsets
from sf_plugin.dataset.render import render
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import place_at

SAMPLE_RATE = 22050
SEED = 1797
METADATA = {
    "title": "Sonatina op. 36 no. 1",
    "author": "Muzio Clementi",
    "creator": "LilyPond",
    "creationDate": "D:20161130000000Z",
    "modDate": "D:20161130000000Z",
}
PAUSE = 2.0
"""Seconds from the last onset of a movement's end to the first of the next, and more."""

MOVEMENTS = (
    (156 / 4, Style(pedal=0.0)),  # Spiritoso, quarter = 156, dry
    (92 / 4, Style(pedal=1.0, tempo_drift=0.12)),  # Andante, quarter = 92, pedalled
    (160 / 8, Style(pedal=0.0)),  # Vivace, eighth = 160, dry
)
"""Tempo in whole notes a minute, as the source's MIDI blocks say, and how it is played."""


def engrave_plainly(source: Path, pdf: Path) -> Engraving:
    """Engrave with truth, and write the same pages without it to `pdf`."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / source.name
        shutil.copyfile(source, copy)
        engraved = run_lilypond(copy)
        truth = read_truth(engraved)
        with pymupdf.open(engraved) as document:
            for page in document:
                for link in page.get_links():
                    if str(link.get("uri") or link.get("file") or "").startswith("sf://"):
                        page.delete_link(link)
            document.set_metadata(METADATA)
            document.del_xml_metadata()
            document.xref_set_key(-1, "ID", "null")
            document.save(pdf, garbage=4, deflate=True, deflate_fonts=True, no_new_id=True)
    return truth


def play(engraving: Engraving, rng: np.random.Generator) -> Performance:
    """All movements, each at its own tempo, with a breath between them."""
    heads, _ = score_onsets(engraving.notes)
    notes, onsets, pedals, start = [], [], [], 0.0
    for movement, (tempo, style) in enumerate(MOVEMENTS):
        told = engraving.notes.copy()
        told["tempo"] = tempo
        mine = np.flatnonzero(heads["score"] == movement)
        part = perform(
            replace(engraving, notes=told), rng, style, slice(int(mine[0]), int(mine[-1]) + 1)
        )
        part.notes["onset"] += start
        part.onsets["time"] += start
        part.pedals["time"] += start
        start = float(part.onsets["time"][-1]) + PAUSE
        notes.append(part.notes)
        onsets.append(part.onsets)
        pedals.append(part.pedals)
    return Performance(*map(np.concatenate, (notes, onsets, pedals)))


def record(performance: Performance, rng: np.random.Generator) -> NDArray[np.float32]:
    """A sampled grand piano heard across a room, with the room's noise."""
    dry = render(performance.notes, "fluid-grand", SAMPLE_RATE, performance.pedals, tail=2.5)
    acoustics = Acoustics(Room(200, 0.7, 0.76), (("room tone", -45.0),), level=-6.0)
    return heard_in(dry, acoustics, rng, SAMPLE_RATE)


def encode(sound: NDArray[np.float32], path: Path) -> None:
    """Ogg Vorbis, the same bytes each time."""
    with tempfile.TemporaryDirectory() as scratch:
        wav = Path(scratch) / "take.wav"
        soundfile.write(wav, sound, SAMPLE_RATE, subtype="PCM_16")
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(wav), "-map_metadata", "-1"]
        command += ["-c:a", "libvorbis", "-q:a", "2", "-fflags", "+bitexact", "-flags:a"]
        subprocess.run([*command, "+bitexact", str(path)], check=True)


def truth_of(performance: Performance, layout: Layout) -> dict[str, object]:
    """What `truth.json` holds; its own first line says what that is."""
    onsets = []
    first = np.cumsum([0] + [len(page.systems) for page in layout.pages])
    for onset in performance.onsets:
        page = layout.pages[onset["page"]]
        row = int(onset["system"] - first[onset["page"]])
        system = page.systems[row]
        x, y = float(onset["x"]), (system.top + system.bottom) / 2
        place = place_at(page, x, y)
        assert place is not None and place.measure is not None and place.system == row + 1
        onsets.append(
            {
                "time": round(float(onset["time"]), 4),
                "page": page.page,
                "x": round(x, 5),
                "y": round(y, 5),
                "system": row + 1,
                "measure": place.measure.number,
                "movement": int(onset["score"]) + 1,
                "moment": round(4 * float(onset["moment"]), 4),
            }
        )
    return {
        "version": 1,
        "about": "One entry for all notes that begin together, in order of time: seconds from the "
        "start of take.ogg; page, system within the page and measure within the document, all "
        "from 1; x (leftmost note head) and y (middle of the system) as fractions of the page "
        "from the top left; moment in quarter notes from the start of the movement.",
        "onsets": onsets,
    }


def build(source: Path, out: Path) -> None:
    """Write all assets into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    engraving = engrave_plainly(source, out / "score.pdf")
    layout = measures_of_engraving(engraving)
    performance = play(engraving, rng)
    encode(record(performance, rng), out / "take.ogg")
    (out / "layout.json").write_text(layout.to_json() + "\n")
    truth = truth_of(performance, layout)
    onsets = truth["onsets"]
    assert isinstance(onsets, list)
    frame = json.dumps({**truth, "onsets": []}, indent=1)
    lines = ",\n".join("  " + json.dumps(onset, separators=(",", ":")) for onset in onsets)
    (out / "truth.json").write_text(frame.replace("[]", f"[\n{lines}\n ]") + "\n")
    copy = out / source.name
    if not copy.exists() or not copy.samefile(source):
        shutil.copyfile(source, copy)
    print(f"{len(engraving.pages)} pages, {len(onsets)} onsets, {onsets[-1]['time']:.0f} s")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="the LilyPond source")
    parser.add_argument("out", type=Path, help="folder to write into")
    args = parser.parse_args(argv)
    build(args.source, args.out)


if __name__ == "__main__":
    main()
