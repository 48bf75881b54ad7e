"""How well repeat signs and endings are read off pages whose layout is detected.

    python -m sf_plugin.evaluation.signs SET --use valid

A sign is found if a measure has it that is the true one.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sf_plugin.dataset.paper import PAPERS, spoil_engraving
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.evaluation.layouts import Boxes, Matches, match
from sf_plugin.score.layout import Layout, Measure, PageLayout
from sf_plugin.unet.pages import PageEncoder
from sf_plugin.unet.weights import SHIPPED, load_weights

SAME_MEASURE = 0.5
"""Least intersection over union of a measure with a sign and the true one."""

SIGNS: dict[str, Callable[[Measure], bool]] = {
    "repeat start": lambda measure: measure.repeat_start,
    "repeat end": lambda measure: measure.repeat_end,
    "ending 1": lambda measure: measure.volta == "1",
    "ending 2": lambda measure: measure.volta == "2",
}


def compare_signs(found: Layout, true: Layout) -> dict[str, Matches]:
    """Measures with each of `SIGNS`, those of the same place counting as the same."""
    by_page = {page.page: page for page in found.pages}
    counts = dict.fromkeys(SIGNS, Matches())
    for page in true.pages:
        mine = by_page.get(page.page, PageLayout(page.page))
        for name, has in SIGNS.items():
            counts[name] += match(_boxes(mine, has), _boxes(page, has), SAME_MEASURE)
    return counts


def _boxes(page: PageLayout, has: Callable[[Measure], bool]) -> Boxes:
    return np.array(
        [
            (system.top, system.bottom, measure.left, measure.right)
            for system in page.systems
            for measure in system.measures
            if has(measure)
        ],
        float,
    ).reshape(-1, 4)


def read_signs(
    encoder: PageEncoder, shards: ShardSet, use: Sequence[str], paper: str, seed: int = 0
) -> tuple[dict[str, Matches], int]:
    """The signs of all pieces for a use on a paper, and how many pages they have."""
    counts = dict.fromkeys(SIGNS, Matches())
    pages = 0
    for entry in shards.of_use(*use):
        engraving = shards.load(entry.name)
        if paper != "engraved":
            rng = np.random.default_rng((seed, zlib.crc32(entry.name.encode()), 2))
            engraving = spoil_engraving(engraving, rng, PAPERS[paper])
        read = [encoder(image, number, 1) for number, image in enumerate(engraving.pages, 1)]
        found = Layout(tuple(page.layout for page in read if page is not None))
        for name, matches in compare_signs(found, measures_of_engraving(engraving)).items():
            counts[name] += matches
        pages += len(read)
    return counts, pages


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("set", type=Path, help="a built set")
    parser.add_argument("--use", default="valid", help="which part of it (%(default)s)")
    parser.add_argument("--paper", nargs="+", choices=PAPERS, default=list(PAPERS))
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    args = parser.parse_args()
    encoder = PageEncoder(load_weights(args.weights))
    shards = ShardSet(args.set)
    for paper in args.paper:
        counts, pages = read_signs(encoder, shards, args.use.split(","), paper)
        cells = [
            f"{name} {m.same} of {m.true}, {(m.found - m.same) / max(pages, 1):.3f} false a page"
            for name, m in counts.items()
        ]
        print(f"{paper}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
