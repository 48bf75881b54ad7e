"""Choose training pieces: free licences only, and nothing that a held-out piece also says.

    python -m sf_plugin.dataset.split ENGRAVED MANIFEST.json OUT.txt

A piece is known by its runs of 12 melodic intervals, so another edition or a
transposed one of the same music is recognised.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from sf_plugin.dataset.engraving import Engraving

RUN = 12
FREE = ("public domain", "creative commons")
EXTRA_VALIDATION = 24
"""Pieces of no published split that are kept for validation, every ninth in name order."""


def fingerprint(notes: np.ndarray) -> set[tuple[int, ...]]:
    """Runs of intervals between the highest pitches of successive onsets."""
    fresh = notes[~notes["tied"]]
    if not len(fresh):
        return set()
    key = np.stack([fresh["score"], fresh["onset"], fresh["grace"]])
    new = np.ones(len(fresh), bool)
    new[1:] = (np.diff(key, axis=1) != 0).any(0)
    top = np.maximum.reduceat(fresh["pitch"], np.flatnonzero(new))
    steps = np.diff(top)
    return {tuple(steps[i : i + RUN].tolist()) for i in range(len(steps) - RUN + 1)}


def overlap(a: set[tuple[int, ...]], b: set[tuple[int, ...]]) -> float:
    """Share of the shorter piece's runs that the other has too."""
    return len(a & b) / max(1, min(len(a), len(b)))


def choose(folder: Path, manifest: list[dict], demo: str | None) -> dict[str, list[str]]:
    """File stems by use: train, valid (published), extra (ours), and what was left out why."""
    out: dict[str, list[str]] = {"train": [], "valid": [], "extra": [], "licence": [], "same": []}
    files = sorted(folder.glob("*--0.npz"))
    licence = {
        p["path"].removesuffix(".ly").replace("/", "__"): (p["license"] or "") for p in manifest
    }
    prints = {f: fingerprint(Engraving.load(f).notes) for f in files}
    held = [f for f in files if f.name.startswith("valid--")]
    out["valid"] = [f.stem for f in held]
    free = []
    for f in files:
        name = f.stem.split("--", 1)[1].removesuffix("--0")
        if f in held:
            continue
        if not licence[name].lower().startswith(FREE):
            out["licence"].append(f.stem)
        elif any(overlap(prints[f], prints[h]) > 0.2 for h in held):
            out["same"].append(f.stem)
        else:
            free.append(f)
    loose = [f for f in free if f.name.startswith("none--")]
    extra = loose[::9][:EXTRA_VALIDATION]
    extra += [f for f in loose if demo and demo in f.name and f not in extra]
    out["extra"] = [f.stem for f in extra]
    for f in free:
        if f in extra:
            continue
        same = any(overlap(prints[f], prints[h]) > 0.2 for h in extra)
        out["same" if same else "train"].append(f.stem)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("engraved", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--demo", help="part of the demo piece's name, kept out of training")
    args = parser.parse_args()
    chosen = choose(args.engraved, json.loads(args.manifest.read_text()), args.demo)
    args.out.write_text(json.dumps(chosen, indent=1))
    print({use: len(stems) for use, stems in chosen.items()})


if __name__ == "__main__":
    main()
