"""Train the reader of da capo, dal segno, segno, coda and fine, which learns by itself.

    python -m sf_plugin.training.train_marks SET marks.safetensors --fonts FOLDER ...

Marks in many fonts are put on pages of the use "train", spoilt as in all training; then a
small network learns what stands in every cell.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.mark_pages import (
    Placed,
    families,
    find_fonts,
    lilypond_fonts,
    put_marks,
)
from sf_plugin.dataset.paper import Paper, draw_paper, spoil
from sf_plugin.dataset.registry import TRAIN
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.training.data import CANVAS
from sf_plugin.training.loader import CachedSet, stream
from sf_plugin.unet.mark_reader import CELL, KINDS, MarkReader, scaled
from sf_plugin.unet.pages import bf16_is_fast
from sf_plugin.unet.weights import save_halves

PART = 16, 24
"""Rows and columns of cells in a part of a page."""
BATCH = 24
AT_MARK = 0.6
"""Share of parts that hold a mark; the others hold other ink."""
INKED = 90
"""Ink of a cell, of 255, from which it is not empty."""
RARE = 2.0
"""What a cell of a mark weighs."""
REPORT = 100
"""Steps after which the mean loss is told."""
MOST_OTHERS = 1500
"""Cells of a page that are kept for the other parts."""
STRENGTHS = 0.6, 1.25
"""Times a part's ink."""


@dataclass(frozen=True)
class MarkedPage:
    """A page as the reader sees it.

    Attributes:
        ink: (height, width) uint8, ink 255, levelled, a staff space `SPACE` pixels high.
        shown: (height / CELL[0], width / CELL[1]) index into `KINDS`, 255 where it is not known.
    """

    ink: NDArray[np.uint8]
    shown: NDArray[np.uint8]


UNKNOWN = 255
SIZES = 0.07
"""Standard deviation of the logarithm of a page's size, as staves are not measured exactly."""
KNOWN_MARKS = {"segno": 2.5, "coda": 2.5, "fine": 5.0}
"""Half the width, in staff spaces, of marks that the source has; of others 10."""


def marked_page(
    image: NDArray[np.uint8],
    piece: Engraving,
    page: int,
    placed: Sequence[Placed],
    paper: Paper,
    rng: np.random.Generator,
) -> MarkedPage:
    """A page on a paper, and what its cells show."""
    spoilt, warp = spoil(image, rng, paper, canvas=CANVAS)
    height, width = spoilt.shape
    here = np.flatnonzero(piece.systems["page"] == page)
    staves = piece.staves[np.isin(piece.staves["system"], here)]
    around = piece.systems[staves["system"]]
    x = np.linspace(around["left"], around["right"], 5)
    top, bottom = (warp.points(x, np.broadcast_to(staves[side], x.shape))[1]
                   for side in ("top", "bottom"))  # fmt: skip
    space = float(np.median(bottom - top)) / 4 * height * float(np.exp(rng.normal(0, SIZES)))
    ink = scaled(np.asarray(1 - spoilt / 255, np.float32), space)
    rows, columns = ink.shape[0] // CELL[0], ink.shape[1] // CELL[1]
    shown = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(shown)

    def fill(left: float, right: float, top: float, bottom: float, value: int) -> None:
        u, v = warp.points(
            np.array([left, right, right, left]), np.array([top, top, bottom, bottom])
        )
        draw.polygon(list(zip(u * columns - 0.5, v * rows - 0.5, strict=True)), fill=value)

    for mark in piece.signs[(piece.signs["kind"] == "mark") & np.isin(piece.signs["system"], here)]:
        wide = KNOWN_MARKS.get(str(mark["value"]), 10.0) * space / width
        tall = 2.0 * space / height
        fill(mark["x"] - wide, mark["x"] + wide, mark["y"] - tall, mark["y"] + tall, UNKNOWN)
    for one in placed:
        fill(one.left, one.right, one.top, one.bottom, KINDS.index(one.kind))
    return MarkedPage((255 * ink).round().astype(np.uint8), np.asarray(shown))


def make_page(
    kept: CachedSet,
    order: Sequence[tuple[str, int]],
    fonts: Sequence[Sequence[Path]],
    seed: int,
    number: int,
) -> MarkedPage | None:
    """The `number`th page to learn from; None where there is no staff on it."""
    name, page = order[number % len(order)]
    piece = kept.tables(name)
    here = np.flatnonzero(piece.systems["page"] == page)
    if not np.isin(piece.staves["system"], here).any():
        return None
    rng = np.random.default_rng([seed, number])
    image, placed = put_marks(kept.page(name, page), piece, page, fonts, rng)
    return marked_page(image, piece, page, placed, draw_paper(rng), rng)


def make_pages(
    shards: ShardSet, fonts: Sequence[Sequence[Path]], count: int, seed: int, workers: int
) -> list[MarkedPage]:
    """Pages for training in random order, each with marks and spoilt anew."""
    pages = [(entry.name, page) for entry in shards.of_use(TRAIN) for page in range(entry.pages)]
    order = [pages[i] for i in np.random.default_rng(seed).permutation(len(pages))]
    make = partial(make_page, CachedSet(shards), order, fonts, seed)
    made = []
    for number, page in enumerate(islice(stream(make, workers=workers), count), 1):
        made += [page] if page is not None else []
        if number % 50 == 0:
            print(f"{number} of {count} pages", flush=True)
    return made


class Parts:
    """Draws parts of pages, a share of them with a mark in sight."""

    def __init__(self, pages: Sequence[MarkedPage], rng: np.random.Generator) -> None:
        self.pages = pages
        self._marks, self._others = [], []
        for page in pages:
            rows, columns = page.shown.shape
            cells = page.ink.reshape(rows, CELL[0], columns, CELL[1]).max((1, 3))
            mark = (page.shown > 0) & (page.shown < UNKNOWN)
            self._marks.append(np.argwhere(mark).astype(np.int16))
            other = np.argwhere((cells >= INKED) & (page.shown == 0)).astype(np.int16)
            self._others.append(rng.permutation(other)[:MOST_OTHERS])

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(BATCH, 1, height, width) ink and (BATCH, rows, columns) what it shows."""
        inks, shown = zip(*(self._one(rng) for _ in range(BATCH)), strict=True)
        return torch.from_numpy(np.stack(inks))[:, None], torch.from_numpy(np.stack(shown))

    def _one(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        number = int(rng.integers(len(self.pages)))
        page, marks = self.pages[number], self._marks[number]
        cells = marks if len(marks) and rng.random() < AT_MARK else self._others[number]
        low = np.maximum(np.array(page.shown.shape) - PART, 0)
        at = rng.integers(0, low + 1)
        if len(cells):
            at = np.clip(cells[rng.integers(len(cells))] - rng.integers(0, PART), 0, low)
        (row, column), (rows, columns) = at.tolist(), PART
        shown = np.full(PART, UNKNOWN, np.int64)
        ink = np.zeros((rows * CELL[0], columns * CELL[1]), np.float32)
        part = page.shown[row : row + rows, column : column + columns]
        shown[: part.shape[0], : part.shape[1]] = part
        cut = page.ink[
            row * CELL[0] : (row + rows) * CELL[0], column * CELL[1] : (column + columns) * CELL[1]
        ]
        ink[: cut.shape[0], : cut.shape[1]] = cut * (rng.uniform(*STRENGTHS) / 255)
        return np.minimum(ink, 1), shown


def train(
    reader: MarkReader, pages: Sequence[MarkedPage], steps: int, seed: int, rate: float = 4e-3
) -> list[float]:
    """Teach it what cells show; the loss of every step."""
    rng, bf16 = np.random.default_rng(seed), bf16_is_fast()
    parts = Parts(pages, rng)
    optimiser = torch.optim.AdamW(reader.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    weight = torch.full((len(KINDS),), RARE)
    weight[0] = 1.0
    reader.train()
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    losses: list[float] = []
    for step in range(1, steps + 1):
        ink, shown = parts.draw(rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = reader(ink.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), shown, weight, ignore_index=UNKNOWN)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % REPORT == 0:
            print(f"step {step}: loss {np.mean(losses[-REPORT:]):.4f}", flush=True)
    reader.eval()
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("set", type=Path, help="a built set")
    parser.add_argument("out", type=Path, help="safetensors file of the reader")
    parser.add_argument(
        "--fonts", metavar="FOLDER", nargs="+", type=Path, default=[Path("/usr/share/fonts")],
        help="with font files, besides LilyPond's (default /usr/share/fonts)",
    )  # fmt: skip
    parser.add_argument("--pages", type=int, default=1200, help="to learn from (%(default)s)")
    parser.add_argument("--steps", type=int, default=8000, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="that make pages (%(default)s)")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    own = {font.parent for font in lilypond_fonts()}
    fonts = families(find_fonts([*sorted(own), *args.fonts]))
    pages = make_pages(ShardSet(args.set), fonts, args.pages, args.seed, args.workers)
    reader = MarkReader()
    train(reader, pages, args.steps, args.seed + 1)
    save_halves(reader, args.out)


if __name__ == "__main__":
    main()
