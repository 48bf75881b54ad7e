"""Training samples: one page with what is on it, and performances of what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_plugin.audio.spectrogram import Floats, SpectrogramConfig
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper import Warp, draw_paper, spoil
from sf_plugin.dataset.perform import STYLES, Performance, Style, perform, score_onsets, sounding
from sf_plugin.dataset.registry import TRAIN
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.templates import augment
from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import PageLayout, System
from sf_plugin.training.loader import CACHE_BYTES, CachedSet, stream
from sf_plugin.unet.network import PITCHES, SystemRows
from sf_plugin.unet.pages import system_rows

FRAMES = 400  # that one step hears
CANVAS = (1216, 864)  # pixels every training page is placed on: one shape runs fastest
CELL = 4  # pixels of a cell of block H's grid
SPREAD = 1.5  # cells, standard deviation of a target
ALONG = 9  # points that a staff line's course is known at
FEWEST = 8  # frames with a target that make a performance worth hearing
TRIES = 4

Array = NDArray[np.float64]


@dataclass
class PageSample:
    """One page and performances of stretches of it; grid units are block H's cells."""

    image: Tensor  # (height, width) uint8, paper 255
    systems: list[SystemRows]
    heads: Tensor  # (heads, 3) row, column, pitch index
    cell_heads: Tensor  # (heads, 2) cell of the strip, pitch index
    maps: Tensor  # (3, rows, columns) bool
    frames: Tensor  # (performances, frames, bins)
    active: Tensor  # (performances, frames, 88) bool
    onset: Tensor  # (performances, frames, 88) bool
    target_frames: Tensor  # (targets, 2) performance, frame
    target_places: Tensor  # (targets, 2) system on the page, column

    @property
    def ink(self) -> Tensor:
        """(1, 1, height, width), ink 1."""
        return 1 - self.image[None, None].float() / 255

    @property
    def cells(self) -> int:
        """Of the page's strip."""
        return sum(s.right - s.left for s in self.systems)

    def target_cells(self, pick: Tensor) -> Tensor:
        """(picked, cells) probabilities of the picked targets."""
        column = torch.cat([torch.arange(s.left, s.right) for s in self.systems]) + 0.5
        widths = torch.tensor([s.right - s.left for s in self.systems])
        system = torch.arange(len(self.systems)).repeat_interleave(widths)
        where, place = self.target_places[pick].T[:, :, None]
        weight = torch.exp(-0.5 * ((column - place) / SPREAD) ** 2) * (system == where)
        return weight / (weight.sum(1, keepdim=True) + 1e-9)


@dataclass(frozen=True)
class Grid:
    """Places on the page to cells of block H's grid over the canvas that it was put on."""

    warp: Warp
    rows: int
    columns: int

    def cells(self, x: np.ndarray, y: np.ndarray) -> tuple[Array, Array]:
        """Fractions of the page, any shape, to columns and rows."""
        x, y = self.warp.points(x, y)
        return np.asarray(x * self.columns, float), np.asarray(y * self.rows, float)


@dataclass(frozen=True)
class Course:
    """How the upper and the lower edges of boxes run: (boxes, ALONG) columns and rows."""

    top_x: Array
    top_y: Array
    bottom_x: Array
    bottom_y: Array

    @classmethod
    def of(cls, boxes: np.ndarray, left: np.ndarray, right: np.ndarray, grid: Grid) -> Course:
        """Of rows with "top" and "bottom", between `left` and `right`."""
        x = left[:, None] + np.linspace(0, 1, ALONG) * (right - left)[:, None]
        y = np.stack([boxes["top"], boxes["bottom"]])[:, :, None]
        columns, rows = grid.cells(*np.broadcast_arrays(x[None].astype(float), y))
        return cls(columns[0], rows[0], columns[1], rows[1])

    def fill(self, out: NDArray[np.bool_]) -> None:
        """Set what lies between the edges in a (rows, columns) map."""
        height, width = out.shape
        for top_x, top_y, bottom_x, bottom_y in zip(
            self.top_x, self.top_y, self.bottom_x, self.bottom_y, strict=True
        ):
            first = max(0, round((top_x[0] + bottom_x[0]) / 2))
            last = min(width, round((top_x[-1] + bottom_x[-1]) / 2))
            column = np.arange(first, last) + 0.5
            top = np.round(np.interp(column, top_x, top_y))
            bottom = np.round(np.interp(column, bottom_x, bottom_y))
            low, high = max(0, int(top_y.min()) - 1), min(height, int(bottom_y.max()) + 2)
            row = np.arange(low, high)[:, None]
            out[low:high, first:last] |= (row >= top) & (row < bottom)


def shaken(course: Course, grid: Grid, rng: np.random.Generator) -> PageLayout:
    """Systems as a detector might give them: upright boxes, a few pixels off.

    A tilted or bent system's box lies at the mean heights of its outer staff lines.
    """
    off = rng.uniform(-3 / CELL, 3 / CELL, (4, len(course.top_x)))
    tops = (course.top_y.mean(1) + off[0]) / grid.rows
    bottoms = (course.bottom_y.mean(1) + off[1]) / grid.rows
    lefts, rights = (
        ((course.top_x[:, end] + course.bottom_x[:, end]) / 2 + off[2 + i]) / grid.columns
        for i, end in enumerate((0, -1))
    )
    boxes = np.stack([tops, bottoms, lefts, rights], 1).tolist()
    return PageLayout(1, tuple(System(*box) for box in boxes))


def page_maps(piece: Engraving, here: np.ndarray, course: Course, grid: Grid) -> np.ndarray:
    """(3, rows, columns) bool: systems, staves and bar lines of the systems `here`."""
    maps = np.zeros((3, grid.rows, grid.columns), bool)
    course.fill(maps[0])
    systems = piece.systems
    staves = piece.staves[np.isin(piece.staves["system"], here)]
    if len(staves):
        around = systems[staves["system"]]
        Course.of(staves, around["left"], around["right"], grid).fill(maps[1])
    bars = piece.bars[np.isin(piece.bars["system"], here)]
    if len(bars):
        around = systems[bars["system"]]
        x, y = grid.cells(
            np.stack([bars["x"]] * 2, 1), np.stack([around["top"], around["bottom"]], 1)
        )
        along = np.linspace(0, 1, grid.rows)
        first, last = np.round(y).T[:, :, None]
        rows = np.minimum(np.round(first + along * (last - first)), last - 1)
        columns = x[:, :1] + along * np.diff(x)
        maps[
            2,
            np.clip(rows, 0, grid.rows - 1).astype(int),
            np.clip(columns, 0, grid.columns - 1).astype(int),
        ] = True
    return maps


def page_stretch(on_page: np.ndarray, rng: np.random.Generator) -> slice:
    """Onset groups to play for a page: some of before, then a stretch on the page.

    `on_page` are the numbers of the groups that stand on it, at least four.
    """
    start = int(rng.choice(on_page)) if rng.random() < 0.6 else int(on_page[0])
    start = min(start, int(on_page[-1]) - 3)
    return slice(max(0, start - int(rng.integers(0, 8))), int(on_page[-1]) + 2)


def draw_style(rng: np.random.Generator) -> Style:
    """Of every four performances one is a student's, with mistakes; all differ in freedom."""
    return replace(
        STYLES["student" if rng.random() < 0.25 else "human"],
        tempo_drift=rng.uniform(0.02, 0.16),
        jitter=rng.uniform(0, 0.015),
        chord_spread=rng.uniform(0, 0.04),
        dynamics=rng.uniform(4, 18),
    )


def note_rolls(
    notes: np.ndarray, count: int, fps: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(frames, 88) which pitches sound, and which begin at or one frame before."""
    begin = np.round(notes["onset"] * fps).astype(int)
    end = np.maximum(begin + 1, np.round((notes["onset"] + notes["duration"]) * fps).astype(int))
    pitch = notes["pitch"].astype(int) - 21

    def covered(first: np.ndarray, last: np.ndarray) -> NDArray[np.bool_]:
        edges = np.zeros((count + 1, PITCHES), np.int32)
        np.add.at(edges, (np.clip(first, 0, count), pitch), 1)
        np.add.at(edges, (np.clip(last, 0, count), pitch), -1)
        return np.cumsum(edges[:count], 0) > 0

    return covered(begin, end), covered(begin, begin + 2)


def compress(power: Floats, config: SpectrogramConfig) -> Floats:
    """(frames, bins) power to features, as a fresh `Spectrogram` compresses it."""
    magnitude = np.sqrt(power)
    if not config.level_half_life:
        return np.log1p(magnitude * np.float32(config.gain / config.level_floor))
    # the level that falls and is raised by peaks is a running maximum once the fall is undone
    fall = 0.5 ** (np.arange(1, len(power) + 1) / (config.fps * config.level_half_life))
    raised = np.maximum.accumulate(magnitude.max(1) / fall)
    level = np.maximum(np.maximum(raised, config.level_floor) * fall, config.level_floor)
    return np.log1p(magnitude * (config.gain / level).astype(np.float32)[:, None])


def place_targets(
    performance: Performance, piece: Engraving, page: int, times: np.ndarray, grid: Grid
) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Frames whose last onset is on the page, its system in the document, its column."""
    onsets = performance.onsets
    index = np.searchsorted(onsets["time"], times, side="right") - 1
    chosen = np.flatnonzero((index >= 0) & (onsets["page"][index] == page))
    here = onsets[index[chosen]]
    system = piece.systems[here["system"]]
    columns, _ = grid.cells(here["x"], (system["top"] + system["bottom"]) / 2)
    return chosen, here["system"].astype(np.intp), columns


class Synthesiser(Protocol):
    """Makes filter-bank power of notes, as `Templates` does."""

    def synthesise(self, notes: np.ndarray, frames: int, rng: np.random.Generator) -> Floats:
        """(frames, bins) power of `notes`, whose durations are as they sound."""


class Sampler:
    """Endless page samples from a set of engraved pieces, each step seeded by its number."""

    def __init__(
        self,
        shards: ShardSet,
        sound: Synthesiser,
        config: SpectrogramConfig,
        performances: int = 1,
        names: Sequence[str] = ("*",),
        use: str = TRAIN,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """`performances` of each page; `names` are patterns of engravings' names.

        Raises:
            ScoreError: the set has no such engraving.
        """
        self.sound, self.config, self.performances = sound, config, performances
        self.canvas, self.count = CANVAS, FRAMES
        self.entries = [
            entry
            for entry in shards.of_use(use)
            if any(fnmatchcase(entry.name, pattern) for pattern in names)
        ]
        if not self.entries:
            raise ScoreError(
                f"{shards.path}: has no engraving for {use!r} named like {', '.join(names)}: "
                "see its index"
            )
        self.pages = [(e.name, page) for e in self.entries for page in range(e.pages)]
        self._pages_of = {entry.name: entry.pages for entry in self.entries}
        self._set = CachedSet(shards, cache_bytes)
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def sample(self, name: str, page: int, rng: np.random.Generator) -> PageSample | None:
        """A spoilt page with fresh performances, or None where the page holds too little."""
        piece = self._set.tables(name)
        heads, _ = score_onsets(piece.notes)
        on_page = np.flatnonzero(heads["page"] == page)
        here = np.flatnonzero(piece.systems["page"] == page)
        if len(on_page) < 4 or not len(here):
            return None
        image, warp = spoil(self._set.page(name, page), rng, draw_paper(rng), canvas=self.canvas)
        grid = Grid(warp, self.canvas[0] // CELL, self.canvas[1] // CELL)
        boxes = piece.systems[here]
        course = Course.of(boxes, boxes["left"], boxes["right"], grid)
        systems = system_rows(shaken(course, grid, rng), grid.rows, grid.columns)
        left, right = np.array([[s.left, s.right] for s in systems]).T

        heard = []
        for _ in range(self.performances):
            one = self._hear(piece, page, on_page, grid, (int(here[0]), left, right), rng)
            if one is None:
                return None
            heard.append(one)
        frames, active, onset, chosen, places = zip(*heard, strict=True)

        notes = piece.notes[piece.notes["page"] == page]
        pitch = np.clip(notes["pitch"] - 21, 0, PITCHES - 1)
        column, row = grid.cells(notes["x"], notes["y"])
        row = np.clip(row, 0, grid.rows - 1).astype(int)
        column = np.clip(column, 0, grid.columns - 1).astype(int)
        local = notes["system"] - here[0]
        starts = np.cumsum(right - left) - (right - left)
        cell = starts[local] + np.clip(column - left[local], 0, (right - left)[local] - 1)
        number = np.repeat(np.arange(len(chosen)), [len(c) for c in chosen])
        return PageSample(
            torch.from_numpy(image),
            systems,
            torch.from_numpy(np.stack([row, column, pitch], 1).astype(np.int64)),
            torch.from_numpy(np.stack([cell, pitch], 1).astype(np.int64)),
            torch.from_numpy(page_maps(piece, here, course, grid)),
            torch.from_numpy(np.stack(frames)),
            torch.from_numpy(np.stack(active)),
            torch.from_numpy(np.stack(onset)),
            torch.from_numpy(np.stack([number, np.concatenate(chosen)], 1)),
            torch.from_numpy(np.concatenate(places).astype(np.float32)),
        )

    def _hear(
        self,
        piece: Engraving,
        page: int,
        on_page: np.ndarray,
        grid: Grid,
        systems: tuple[int, np.ndarray, np.ndarray],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Frames, active and beginning pitches, target frames and places of a performance."""
        first, left, right = systems
        fps = self.config.fps
        for _ in range(TRIES):
            performance = perform(piece, rng, draw_style(rng), page_stretch(on_page, rng))
            times = (np.arange(self.count) + 0.5) / fps
            times = times[times < performance.onsets["time"][-1] + 0.5]
            chosen, system, column = place_targets(performance, piece, page, times, grid)
            system = system - first
            keep = (column > left[system]) & (column < right[system])
            chosen, system, column = chosen[keep], system[keep], column[keep]
            if len(chosen) >= FEWEST:
                break
        else:
            return None
        notes = sounding(performance)
        power = augment(self.sound.synthesise(notes, self.count, rng), rng)
        active, onset = note_rolls(notes, self.count, fps)
        places = np.stack([system, column], 1)
        return compress(power, self.config), active, onset, chosen, places

    def pair(self, seed: int, step: int) -> tuple[PageSample, PageSample]:
        """Two pages, of the same piece where it has two: hard negatives.

        Every page comes first once in as many steps as there are pages.

        Raises:
            ScoreError: hardly a page holds enough notes, or a shard is damaged.
        """
        rng = np.random.default_rng([seed, step])
        epoch, place = divmod(step, len(self.pages))
        name, page = self.pages[self._shuffled(seed, epoch)[place]]
        first, (name, page) = self._good(name, page, rng)
        if self._pages_of[name] > 1 and rng.random() < 0.7:
            page = int((page + rng.choice([-1, 1])) % self._pages_of[name])
        else:
            name, page = self.pages[rng.integers(len(self.pages))]
        return first, self._good(name, page, rng)[0]

    def pairs(
        self, seed: int, start: int = 0, workers: int = 0
    ) -> Iterator[tuple[PageSample, PageSample]]:
        """Pairs from step `start` on, the same for any number of workers."""
        return stream(_Pairs(self, seed), start, workers)

    def _good(
        self, name: str, page: int, rng: np.random.Generator
    ) -> tuple[PageSample, tuple[str, int]]:
        """A sample of the page, or of another where that holds too little."""
        for _ in range(100):
            sample = self.sample(name, page, rng)
            if sample is not None:
                return sample, (name, page)
            name, page = self.pages[rng.integers(len(self.pages))]
        raise ScoreError(
            f"{self._set.shards.path}: hardly a page has {FEWEST} frames of music on it: "
            "choose other pieces"
        )

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != (seed, epoch):
            order = np.random.default_rng([seed, epoch, 1]).permutation(len(self.pages))
            self._order = (seed, epoch), order
        return self._order[1]


@dataclass(frozen=True)
class _Pairs:
    sampler: Sampler
    seed: int

    def __call__(self, step: int) -> tuple[PageSample, PageSample]:
        return self.sampler.pair(self.seed, step)
