"""How well systems and measures are found, without any following.

python -m sf_plugin.evaluation.read_layouts DATA --papers engraved "bad scan"
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper import PAPERS, spoil_engraving
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.evaluation.layouts import Matches, compare_layouts
from sf_plugin.evaluation.projection_layout import projection_layout
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.layout_detection import detect_page
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.pages import bf16_is_fast, page_maps
from sf_plugin.unet.weights import SHIPPED, load_weights

Page = NDArray[np.uint8]
Reader = Callable[[Page, int], PageLayout]
"""Finds the layout of a page, told its number."""


def readers(net: ScoreUNet) -> dict[str, Reader]:
    """Ours, and a plain baseline."""
    bf16 = bf16_is_fast()

    def ours(image: Page, number: int) -> PageLayout:
        ink = np.asarray(1 - image.astype(np.float32) / 255, np.float32)
        return detect_page(ink, page_maps(net, image, bf16), number, 1)

    return {"unet": ours, "projection": lambda image, number: projection_layout(image, number, 1)}


def print_on(paper: str, name: str, piece: Engraving) -> Engraving:
    """The piece on a paper of `PAPERS` as `scorefollow evaluate` draws it with its seed 0."""
    if paper == "engraved":
        return piece
    seed = (0, zlib.crc32(name.encode()), 2)
    return spoil_engraving(piece, np.random.default_rng(seed), PAPERS[paper])


def read_papers(
    source: Path, use: list[str], papers: list[str], finders: dict[str, Reader]
) -> Iterator[tuple[str, str, Matches, Matches]]:
    """Paper, reader, systems and measures, pooled over the pieces of a data set."""
    shards = ShardSet(source)
    for paper in papers:
        found = {name: (Matches(), Matches()) for name in finders}
        for entry in shards.of_use(*use):
            piece = print_on(paper, entry.name, shards.load(entry.name))
            true = measures_of_engraving(piece)
            for name, read in finders.items():
                pages = tuple(read(image, i) for i, image in enumerate(piece.pages, 1))
                systems, measures = compare_layouts(Layout(pages), true)
                found[name] = found[name][0] + systems, found[name][1] + measures
        for name, (systems, measures) in found.items():
            yield paper, name, systems, measures


def main(words: list[str] | None = None) -> None:
    """Prints a table as it grows."""
    parser = argparse.ArgumentParser(description="Find systems and measures on built pages.")
    parser.add_argument("data", metavar="DATA", type=Path, help="a built data set")
    parser.add_argument(
        "--papers", metavar="NAME", nargs="+", choices=tuple(PAPERS), default=list(PAPERS),
        help=f"kinds of page images (default: all of {', '.join(PAPERS)})",
    )  # fmt: skip
    parser.add_argument("--use", default="valid", help="of the pieces (default %(default)s)")
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="of the network")
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    finders = readers(load_weights(args.weights))
    print("| paper | reader | systems F1 | measures F1 |\n| --- | --- | ---: | ---: |")
    for paper, name, systems, measures in read_papers(
        args.data, args.use.split(","), args.papers, finders
    ):
        print(f"| {paper} | {name} | {systems.f1:.3f} | {measures.f1:.3f} |", flush=True)


if __name__ == "__main__":
    main()
