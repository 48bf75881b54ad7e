"""Train the reader of repeat signs and endings, a part of the network that learns by itself.

    python -m sf_plugin.training.train_bars SET bars.safetensors --into WEIGHTS

Windows are cut out of pages of the use "train", spoilt as in all training, at bar
lines that are a few pixels off; then two small networks learn what they show.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper import PAPERS, Paper, draw_paper, spoil
from sf_plugin.dataset.registry import TRAIN
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.truth_layout import (
    PRINTED,
    SAME_BAR,
    printed_glyph,
    printed_measures,
)
from sf_plugin.training.data import CANVAS
from sf_plugin.training.loader import CachedSet
from sf_plugin.training.page_truth import Grid, staff_truth
from sf_plugin.unet.bar_reader import APART, BARS, ENDINGS, BarReader, Edges, Glance, Spots, outer
from sf_plugin.unet.staff_reader import CELL_PIXELS, Staves

GLYPHS = {
    "|": "plain", "||": "double", "|.": "final", ".|:": "start",
    ":|.": "end", ":|": "end", ":..:": "both", ":|.|:": "both", ":|.:": "both", ":.|.:": "both",
}  # fmt: skip
"""What a bar line's glyph is called here; others are left out."""
OFF = 1.2
"""Staff spaces that a bar line is found beside its place, at most."""
BEFORE_NOTE = 2.0
"""Staff spaces before the first note where an ending begins or goes on at a system's start."""
ORDINARY = 12
"""Plain bar lines and places without one that a page gives, and as many without an ending."""
BATCH = 64
HELD_OUT = 0.05
"""Of the windows, to see how well the networks do."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Marks:
    """What stands, or does not, at places of a page: (marks,) as `Edges` has them.

    Attributes:
        system: on the page, from 0.
        x: pixel column half-way down the system.
        shown: index into `BARS` or `ENDINGS`.
    """

    system: NDArray[np.int64]
    x: NDArray[np.float32]
    shown: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, float, int]]) -> Marks:
        """From (system, x, shown)."""
        system, x, shown = np.array(rows, float).reshape(-1, 3).T
        return cls(system.astype(np.int64), x.astype(np.float32), shown.astype(np.int64))

    @property
    def edges(self) -> Edges:
        """Each as an edge of its own."""
        count = len(self.x)
        return Edges(self.x, self.system, np.arange(count), np.ones(count, bool))

    def thinned(self, ordinary: Sequence[int], rng: np.random.Generator) -> Marks:
        """At most `ORDINARY` of each kind in `ordinary`, and all others."""
        kept = ~np.isin(self.shown, ordinary)
        for kind in ordinary:
            kept[rng.permutation(np.flatnonzero(self.shown == kind))[:ORDINARY]] = True
        return Marks(self.system[kept], self.x[kept], self.shown[kept])


@dataclass(frozen=True)
class MarkedPage:
    """A spoilt page: (1, 1, height, width) ink, its staves, and what stands on it."""

    ink: Tensor
    staves: Staves
    bars: Marks
    endings: Marks


def marked_page(
    piece: Engraving, image: NDArray[np.uint8], page: int, paper: Paper, rng: np.random.Generator
) -> MarkedPage | None:
    """Page `page` (from 0) of a piece on a paper; None where there is no staff."""
    here = np.flatnonzero(piece.systems["page"] == page)
    if not np.isin(piece.staves["system"], here).any():
        return None
    spoilt, warp = spoil(image, rng, paper, canvas=CANVAS)
    grid = Grid(warp, CANVAS[0] // CELL_PIXELS, CANVAS[1] // CELL_PIXELS)
    notes = piece.notes[piece.notes["page"] == page]
    staves = staff_truth(piece, here, notes, grid, rng).staves
    bars: list[tuple[int, float, int]] = []
    endings: list[tuple[int, float, int]] = []
    for number, system in enumerate(here.tolist()):
        lines = staves.lines[staves.system == number]
        if not len(lines):
            continue
        space = float((lines[:, 1] - lines[:, 0]).mean()) / 4
        box = piece.systems[system]

        def pixels(x: float | NDArray[np.floating], box: np.void = box) -> Floats:
            """Fractions of the page's width to columns of the image, half-way down the system."""
            x = np.atleast_1d(x)
            middle = np.full(len(x), (box["top"] + box["bottom"]) / 2)
            return grid.cells(x, middle)[0] * CELL_PIXELS

        of_system = notes[notes["system"] == system]
        left, right = pixels(np.array([box["left"], box["right"]]))
        first = pixels(of_system["x"]).min() if len(of_system) else right
        for at, shown in _bars(piece, system, pixels):
            bars.append((number, at, shown))
        known = pixels(piece.bars["x"][piece.bars["system"] == system])
        for at in _elsewhere(known, left, first, right, APART * space, rng):
            bars.append((number, at, BARS.index("none")))
        start = first - BEFORE_NOTE * space
        endings += [(number, *mark) for mark in _endings(piece, system, pixels, start)]
    return MarkedPage(
        1 - torch.from_numpy(spoilt).float()[None, None] / 255,
        staves,
        Marks.of(bars),
        Marks.of(endings),
    )


def _bars(
    piece: Engraving, system: int, pixels: Callable[..., Floats]
) -> Iterator[tuple[float, int]]:
    """Columns of a system's bar lines, and what they are."""
    bars = piece.bars[piece.bars["system"] == system]
    bars = bars[np.argsort(bars["x"], kind="stable")]
    for group in np.split(bars, np.flatnonzero(np.diff(bars["x"]) > SAME_BAR) + 1):
        names = {GLYPHS.get(printed_glyph(glyph)) for glyph in group["glyph"]}
        if len(names) == 1 and (name := names.pop()):
            yield float(pixels(group["x"].mean())[0]), BARS.index(name)


def _elsewhere(
    bars: Floats, left: float, first: float, right: float, apart: float, rng: np.random.Generator
) -> list[float]:
    """Columns without a bar line: some before a system's first note, some behind it."""
    at = np.concatenate([rng.uniform(left, first, 3), rng.uniform(first, right, 3)])
    far = np.abs(at[:, None] - bars).min(1, initial=np.inf) > apart
    return at[far].tolist()


def _endings(
    piece: Engraving, system: int, pixels: Callable[..., Floats], start: float
) -> Iterator[tuple[float, int]]:
    """Columns of the left edges of a system's measures, and what stands above them.

    The first is where the bracket of an ending would begin, at column `start`.
    """
    measures = printed_measures(piece)
    for i in np.flatnonzero(measures["system"] == system).tolist():
        opens = i == 0 or measures["system"][i - 1] != system
        passes = str(measures["volta"][i])
        if passes and passes not in ENDINGS:
            continue
        same = i and measures["score"][i - 1] == measures["score"][i]
        shown = "on" if passes and same and measures["volta"][i - 1] == passes else passes
        at = start if opens else float(pixels(measures["left"][i])[0])
        yield at, ENDINGS.index(shown or "none")


@dataclass(frozen=True)
class Examples:
    """(examples, 1, height, width) uint8 windows, ink 255, and (examples,) what they show."""

    windows: Tensor
    shown: Tensor

    @classmethod
    def join(cls, parts: Sequence[Examples]) -> Examples:
        """All of them as one."""
        return cls(
            torch.cat([part.windows for part in parts]), torch.cat([part.shown for part in parts])
        )

    def __getitem__(self, rows: Tensor) -> Examples:
        return Examples(self.windows[rows], self.shown[rows])

    def __len__(self) -> int:
        return len(self.shown)


def cut(
    page: MarkedPage, marks: Marks, glance: Glance, top: bool, rng: np.random.Generator
) -> Examples:
    """A window at each mark, a little off, on its top staff or on any."""
    upper, lower = (edge.numpy() for edge in outer(page.staves))
    of_system = page.staves.system.numpy()
    first = np.array([upper[of_system == s][0] for s in marks.system], np.int64)
    last = first if top else np.array([lower[of_system == s][0] for s in marks.system], np.int64)
    staff = torch.from_numpy(rng.integers(first, last + 1))
    lines = page.staves.lines[staff]
    space = (lines[:, 1] - lines[:, 0]).mean(1) / 4
    off = torch.from_numpy(rng.uniform(-OFF, OFF, len(staff))) * space
    spots = Spots.on(page.staves, staff, torch.from_numpy(marks.x) + off)
    windows = glance.window.cut(page.ink, spots)
    return Examples((255 * windows).round().byte(), torch.from_numpy(marks.shown))


def make_examples(shards: ShardSet, pages: int, seed: int) -> tuple[Examples, Examples]:
    """Windows at bar lines and above them, of `pages` pages for training, each spoilt anew."""
    kept = CachedSet(shards)
    rng = np.random.default_rng(seed)
    reader = BarReader()
    bars, endings = [], []
    for name, number in _chosen(kept, pages, rng):
        piece = kept.tables(name)
        page = marked_page(piece, kept.page(name, number), number, draw_paper(rng), rng)
        if page is None:
            continue
        for _ in range(2):
            some = page.bars.thinned([BARS.index("none"), BARS.index("plain")], rng)
            bars.append(cut(page, some, reader.bar, False, rng))
            some = page.endings.thinned([ENDINGS.index("none")], rng)
            endings.append(cut(page, some, reader.ending, True, rng))
    return Examples.join(bars), Examples.join(endings)


def _chosen(shards: CachedSet, pages: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """(engraving, page): half of them with endings, a third with repeat signs only."""
    kinds: list[list[tuple[str, int]]] = [[], [], []]
    for entry in shards.shards.of_use(TRAIN):
        piece = shards.tables(entry.name)
        signed = [":" in glyph for glyph in piece.bars["glyph"].tolist()]
        repeats = piece.systems["page"][piece.bars["system"][signed]]
        printed = printed_measures(piece) if len(piece.voltas) else np.zeros(0, PRINTED)
        endings = printed["page"][printed["volta"] != ""]
        for page in range(entry.pages):
            kinds[0 if page in endings else 1 if page in repeats else 2].append((entry.name, page))
    shares = pages // 2, pages // 3, pages - pages // 2 - pages // 3
    chosen = []
    for kind, share in zip(kinds, shares, strict=True):
        if kind:
            rounds = [rng.permutation(len(kind)) for _ in range(-(-share // len(kind)))]
            chosen += [kind[i] for i in np.concatenate(rounds)[:share].tolist()]
    return sorted(chosen)


def train(glance: Glance, examples: Examples, steps: int, seed: int, rate: float = 2e-3) -> float:
    """Teach it what windows show; the share of held-out ones it is right about.

    Rare kinds weigh more, by the square root of their rarity.
    """
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    held = order[: int(HELD_OUT * len(order))]
    rows = order[len(held) :]
    classes = glance.show.out_features
    count = torch.bincount(examples.shown[rows], minlength=classes).clamp(min=1)
    weight = (len(rows) / classes / count).sqrt().float()
    optimiser = torch.optim.AdamW(glance.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    picks = torch.Generator().manual_seed(seed + 1)
    glance.train()
    for step in range(steps):
        batch = examples[rows[torch.randint(len(rows), (BATCH,), generator=picks)]]
        logits = glance(batch.windows.float() / 255)
        loss = F.cross_entropy(logits, batch.shown, weight, label_smoothing=0.02)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(glance.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}: loss {float(loss.detach()):.3f}", flush=True)
    glance.eval()
    with torch.inference_mode():
        right = [
            glance(part.windows.float() / 255).argmax(1) == part.shown
            for part in (examples[rows] for rows in held.split(BATCH))
        ]
    return float(torch.cat(right).float().mean()) if right else float("nan")


def confusion(
    reader: BarReader, shards: ShardSet, use: str, paper: Paper, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often what stands (row) is taken for what (column), of bar lines and of endings.

    All pages of a use, at true places.
    """
    kept = CachedSet(shards)
    bars = np.zeros((len(BARS), len(BARS)), np.int64)
    endings = np.zeros((len(ENDINGS), len(ENDINGS)), np.int64)
    for entry in shards.of_use(use):
        for number in range(entry.pages):
            rng = np.random.default_rng([seed, entry.offset, number])
            piece, image = kept.tables(entry.name), kept.page(entry.name, number)
            page = marked_page(piece, image, number, paper, rng)
            if page is None:
                continue
            with torch.inference_mode():
                found = reader(page.ink, page.staves, page.bars.edges)[0].argmax(1)
                above = reader(page.ink, page.staves, page.endings.edges)[1].argmax(1)
            np.add.at(bars, (page.bars.shown, found.numpy()), 1)
            np.add.at(endings, (page.endings.shown, above.numpy()), 1)
    return bars, endings


def table(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    """Precision, recall and number of each kind that there is."""
    cells = []
    for i, name in enumerate(names):
        true, found, same = counts[i].sum(), counts[:, i].sum(), counts[i, i]
        if true or found:
            precision, recall = same / max(found, 1), same / max(true, 1)
            cells.append(f"{name} {precision:.3f}/{recall:.3f} of {true}")
    return ", ".join(cells)


def put_into(weights: Path, reader: BarReader) -> None:
    """Put a trained reader into the weights of a whole network."""
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
        names = [name for name in file.keys() if not name.startswith("bars.")]  # noqa: SIM118
        tensors = {name: file.get_tensor(name) for name in names}
    tensors |= {f"bars.{name}": value.half() for name, value in reader.state_dict().items()}
    partial = weights.with_name(weights.name + ".partial")
    save_file(tensors, partial, metadata)
    partial.replace(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("set", type=Path, help="a built set")
    parser.add_argument("out", type=Path, help="safetensors file of the reader alone")
    parser.add_argument("--into", type=Path, metavar="WEIGHTS", help="weights to put it into too")
    parser.add_argument("--pages", type=int, default=1000, help="to cut windows from (%(default)s)")
    parser.add_argument("--steps", type=int, default=2500, help="of each part (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--try-on", default="extra", metavar="USE", help="pages to report on (%(default)s)"
    )
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    shards = ShardSet(args.set)
    bars, endings = make_examples(shards, args.pages, args.seed)
    print(f"{len(bars)} windows at bar lines, {len(endings)} above them", flush=True)
    reader = BarReader()
    print(f"bar lines: {train(reader.bar, bars, args.steps, args.seed):.4f} right")
    print(f"endings: {train(reader.ending, endings, args.steps, args.seed):.4f} right")
    save_file({name: value.half() for name, value in reader.state_dict().items()}, args.out)
    if args.into is not None:
        put_into(args.into, reader)
    print("precision/recall at true bar lines")
    for name, paper in PAPERS.items():
        for counts, kinds in zip(
            confusion(reader, shards, args.try_on, paper), (BARS, ENDINGS), strict=True
        ):
            print(f"{name}: {table(counts, kinds)}", flush=True)


if __name__ == "__main__":
    main()
