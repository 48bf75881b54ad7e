"""How well repeat signs, endings, da capo and the like are read off pages.

    python -m sf_plugin.evaluation.signs SET --use valid
    python -m sf_plugin.evaluation.signs SET --use valid --put-marks /usr/share/fonts

Layouts are detected, and a sign is found if a measure has it that is the true one.  The
second command puts marks on the pages first, as few pieces have any.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sf_plugin.dataset.mark_pages import families, find_fonts, put_marks_on
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
    "segno": lambda measure: "segno" in measure.signs,
    "coda": lambda measure: "coda" in measure.signs,
    "fine": lambda measure: "fine" in measure.signs,
    "da capo": lambda measure: "da capo" in measure.signs,
    "dal segno": lambda measure: "dal segno" in measure.signs,
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
    encoder: PageEncoder,
    shards: ShardSet,
    use: Sequence[str],
    paper: str,
    seed: int = 0,
    fonts: Sequence[Sequence[Path]] = (),
) -> tuple[dict[str, Matches], int]:
    """The signs of all pieces for a use on a paper, and how many pages they have.

    With `fonts`, marks in these are put on the pages first.
    """
    counts = dict.fromkeys(SIGNS, Matches())
    pages = 0
    for entry in shards.of_use(*use):
        engraving = shards.load(entry.name)
        if fonts:
            rng = np.random.default_rng((seed, zlib.crc32(entry.name.encode()), 3))
            engraving = put_marks_on(engraving, fonts, rng)
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
    parser.add_argument(
        "--put-marks", metavar="FOLDER", nargs="+", type=Path, default=[],
        help="put marks in fonts of these folders on the pages first",
    )  # fmt: skip
    args = parser.parse_args()
    encoder = PageEncoder(load_weights(args.weights))
    shards = ShardSet(args.set)
    fonts = families(find_fonts(args.put_marks)) if args.put_marks else []
    for paper in args.paper:
        counts, pages = read_signs(encoder, shards, args.use.split(","), paper, fonts=fonts)
        cells = [
            f"{name} {m.same} of {m.true}, {m.found - m.same} false" for name, m in counts.items()
        ]
        print(f"{paper}, {pages} pages: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
