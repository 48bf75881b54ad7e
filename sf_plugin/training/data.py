"""Training samples: one page with what is on it, and performances of what it says."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_plugin.audio.spectrogram import Floats, SpectrogramConfig
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper import Paper, draw_paper, spoil
from sf_plugin.dataset.perform import STYLES, Style, perform, score_onsets, sounding
from sf_plugin.dataset.registry import TRAIN
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.templates import ROOMS, augment
from sf_plugin.errors import ScoreError
from sf_plugin.training.loader import CACHE_BYTES, CachedSet, stream
from sf_plugin.training.page_truth import (
    Course,
    Grid,
    StaffTruth,
    page_maps,
    shaken,
    staff_truth,
)
from sf_plugin.unet.network import PITCHES, SystemRows
from sf_plugin.unet.pages import system_rows
from sf_plugin.unet.staff_reader import CELL_PIXELS

FRAMES = 480  # that one step hears
CANVAS = (1216, 864)  # pixels every training page is placed on: one shape runs fastest
FEWEST = 16  # frames with a target that make a performance worth hearing
TRIES = 4
JUMPS = 0.25  # of the performances go elsewhere on the page
LENGTHS = (-4.0, 4.0)  # powers of two of a quarter note that an onset lasts

Array = NDArray[np.float64]


@dataclass
class PageSample:
    """One page and performances of stretches of it; grid units are block H's cells."""

    image: Tensor  # (height, width) uint8, paper 255
    systems: list[SystemRows]
    heads: Tensor  # (heads, 3) row, column, pitch index
    head_onsets: Tensor  # (heads,) the onset a head begins at, as in onset_cells; -1 tied
    cell_heads: Tensor  # (heads, 2) cell of the strip, pitch index
    maps: Tensor  # (3, rows, columns) bool
    staves: StaffTruth
    onset_cells: Tensor  # (onsets,) cells of the strip where notes begin, in order of time
    onset_pitches: Tensor  # (onsets, 88) bool, what begins there
    onset_lengths: Tensor  # (onsets,) until the next, in quarter notes, as powers of two
    frames: Tensor  # (performances, frames, bins)
    heard: Tensor  # (performances, frames, 5, 88) bool, as network.HEARD
    target_frames: Tensor  # (targets, 2) performance, frame
    target_onsets: Tensor  # (targets,) the last onset, as in onset_cells

    @property
    def ink(self) -> Tensor:
        """(1, 1, height, width), ink 1."""
        return 1 - self.image[None, None].float() / 255

    @property
    def cells(self) -> int:
        """Of the page's strip."""
        return sum(s.right - s.left for s in self.systems)

    def to(self, device: torch.device) -> PageSample:
        """The same on another device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor | StaffTruth)
        }
        return replace(self, **moved)


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


def draw_take(
    piece: Engraving, on_page: np.ndarray, seconds: float, rng: np.random.Generator
) -> Take:
    """A stretch of the page, sometimes broken off to go on elsewhere on it."""
    take = Take.of(piece, draw_style(rng), page_stretch(on_page, rng), rng)
    if rng.random() < JUMPS:
        count = int(np.searchsorted(take.times, rng.uniform(0.2, 0.7) * seconds))
        count = min(max(count, 2), len(take.times))
        begun = Take(take.notes, take.times[:count], take.groups[:count])
        target = int(rng.choice(on_page[: max(1, len(on_page) - 3)]))
        other = Take.of(piece, draw_style(rng), slice(target, int(on_page[-1]) + 2), rng)
        pause = rng.uniform(0.5, 2.0) if rng.random() < 0.5 else rng.uniform(0.15, 0.6)
        take = begun.then(other, pause)
    return take


def note_rolls(
    notes: np.ndarray, count: int, fps: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(frames, 88) which pitches sound, and which begin at or up to two frames before."""
    begin = np.round(notes["onset"] * fps).astype(int)
    end = np.maximum(begin + 1, np.round((notes["onset"] + notes["duration"]) * fps).astype(int))
    pitch = notes["pitch"].astype(int) - 21

    def covered(first: np.ndarray, last: np.ndarray) -> NDArray[np.bool_]:
        edges = np.zeros((count + 1, PITCHES), np.int32)
        np.add.at(edges, (np.clip(first, 0, count), pitch), 1)
        np.add.at(edges, (np.clip(last, 0, count), pitch), -1)
        return np.cumsum(edges[:count], 0) > 0

    return covered(begin, end), covered(begin, begin + 3)


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


@dataclass(frozen=True)
class Groups:
    """The onset groups of an engraving, as `score_onsets` numbers them.

    Attributes:
        heads: the first note head of each.
        of_note: (notes,) the group of every note head; -1 where it continues a tie.
        pitches: (groups, 88) bool.
        lengths: (groups,) until the next, in quarter notes, as powers of two.
    """

    heads: np.ndarray
    of_note: NDArray[np.intp]
    pitches: NDArray[np.bool_]
    lengths: NDArray[np.float32]

    @classmethod
    def of(cls, notes: np.ndarray) -> Groups:
        heads, group = score_onsets(notes)
        fresh = group >= 0
        pitches = np.zeros((len(heads), PITCHES), bool)
        pitches[group[fresh], np.clip(notes["pitch"][fresh] - 21, 0, PITCHES - 1)] = True
        moment = heads["onset"] + heads["grace"]
        lengths = np.diff(moment, append=0.0)
        last = np.append(np.diff(heads["score"]) != 0, True)
        lengths[last] = heads["length"][last]
        powers = np.log2(np.maximum(4 * lengths, 2.0 ** LENGTHS[0]))
        return cls(heads, group, pitches, np.minimum(powers, LENGTHS[1]).astype(np.float32))


@dataclass(frozen=True)
class Take:
    """A performance of some onset groups: what sounds, and the (onsets,) group of each time."""

    notes: np.ndarray
    times: Array
    groups: NDArray[np.intp]

    @classmethod
    def of(cls, piece: Engraving, style: Style, only: slice, rng: np.random.Generator) -> Take:
        performance = perform(piece, rng, style, only)
        groups = np.arange(only.start, only.start + len(performance.onsets))
        return cls(sounding(performance), performance.onsets["time"], groups)

    def then(self, other: Take, pause: float) -> Take:
        """This one up to its last onset, then the other after `pause` seconds."""
        gap = self.times[-1] + pause - other.times[0]
        notes = other.notes.copy()
        notes["onset"] += gap
        kept = self.notes[self.notes["onset"] < self.times[-1] + pause - 0.02]
        return Take(
            np.concatenate([kept, notes]),
            np.append(self.times, other.times + gap),
            np.append(self.groups, other.groups),
        )

    def last_onsets(self, times: np.ndarray) -> NDArray[np.intp]:
        """The number of the last onset at each of `times`, -1 before the first."""
        return np.searchsorted(self.times, times, side="right") - 1

    def last_pitches(self, index: NDArray[np.intp], groups: Groups) -> NDArray[np.bool_]:
        """(frames, 3, 88) pitches of the onset `index`, of the one before and before that."""
        table = np.concatenate([np.zeros((3, PITCHES), bool), groups.pitches[self.groups]])
        return np.stack([table[np.maximum(index + 3 - back, 0)] for back in range(3)], 1)


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
        rooms: float = ROOMS,
        paper: Paper | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """`performances` of each page, a share `rooms` of them in a room.

        `names` are patterns of engravings' names; `paper` is what all are printed on.

        Raises:
            ScoreError: the set has no such engraving.
        """
        self.sound, self.config = sound, config
        self.performances, self.rooms, self.paper = performances, rooms, paper
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
        groups = Groups.of(piece.notes)
        on_page = np.flatnonzero(groups.heads["page"] == page)
        here = np.flatnonzero(piece.systems["page"] == page)
        if len(on_page) < 4 or not len(here):
            return None
        paper = self.paper or draw_paper(rng)
        image, warp = spoil(self._set.page(name, page), rng, paper, canvas=self.canvas)
        grid = Grid(warp, self.canvas[0] // CELL_PIXELS, self.canvas[1] // CELL_PIXELS)
        boxes = piece.systems[here]
        course = Course.of(boxes, boxes["left"], boxes["right"], grid)
        systems = system_rows(shaken(course, grid, rng), grid.rows, grid.columns)
        left, right = np.array([[s.left, s.right] for s in systems]).T
        starts = np.cumsum(right - left) - (right - left)

        def to_cells(system: np.ndarray, column: Array) -> NDArray[np.int64]:
            """Columns of the systems `here` to cells of the strip."""
            inside = np.clip(column.astype(int) - left[system], 0, (right - left)[system] - 1)
            return np.asarray(starts[system] + inside, np.int64)

        heads = groups.heads[on_page]
        around = piece.systems[heads["system"]]
        column, _ = grid.cells(heads["x"], (around["top"] + around["bottom"]) / 2)
        system = heads["system"] - here[0]
        seen = (column > left[system]) & (column < right[system])
        onset_cells = to_cells(system, column)

        takes = []
        for _ in range(self.performances):
            one = self._hear(piece, groups, on_page, seen, rng)
            if one is None:
                return None
            takes.append(one)
        frames, heard, chosen, targets = zip(*takes, strict=True)

        printed = piece.notes["page"] == page
        notes, group = piece.notes[printed], groups.of_note[printed]
        begun = np.minimum(np.searchsorted(on_page, group), len(on_page) - 1)
        pitch = np.clip(notes["pitch"] - 21, 0, PITCHES - 1)
        column, row = grid.cells(notes["x"], notes["y"])
        cell = to_cells(notes["system"] - here[0], column)
        row = np.clip(row, 0, grid.rows - 1).astype(int)
        column = np.clip(column, 0, grid.columns - 1).astype(int)
        number = np.repeat(np.arange(len(chosen)), [len(c) for c in chosen])
        return PageSample(
            image=torch.from_numpy(image),
            systems=systems,
            heads=torch.from_numpy(np.stack([row, column, pitch], 1).astype(np.int64)),
            head_onsets=torch.from_numpy(np.where(on_page[begun] == group, begun, -1)),
            cell_heads=torch.from_numpy(np.stack([cell, pitch], 1).astype(np.int64)),
            maps=torch.from_numpy(page_maps(piece, here, course, grid)),
            staves=staff_truth(piece, here, notes, grid, rng),
            onset_cells=torch.from_numpy(onset_cells),
            onset_pitches=torch.from_numpy(groups.pitches[on_page]),
            onset_lengths=torch.from_numpy(groups.lengths[on_page]),
            frames=torch.from_numpy(np.stack(frames)),
            heard=torch.from_numpy(np.stack(heard)),
            target_frames=torch.from_numpy(np.stack([number, np.concatenate(chosen)], 1)),
            target_onsets=torch.from_numpy(np.concatenate(targets)),
        )

    def _hear(
        self,
        piece: Engraving,
        groups: Groups,
        on_page: np.ndarray,
        seen: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Frames, what is heard in them, the frames with a target, and the targets.

        A target is a place in `on_page`; those not `seen` are none.
        """
        fps = self.config.fps
        times = (np.arange(self.count) + 0.5) / fps
        for _ in range(TRIES):
            take = draw_take(piece, on_page, self.count / fps, rng)
            index = take.last_onsets(times)
            group = take.groups[np.maximum(index, 0)]
            place = np.minimum(np.searchsorted(on_page, group), len(on_page) - 1)
            wanted = (index >= 0) & (on_page[place] == group) & seen[place]
            chosen = np.flatnonzero(wanted & (times < take.times[-1] + 0.5))
            if len(chosen) >= FEWEST:
                break
        else:
            return None
        power = self.sound.synthesise(take.notes, self.count, rng)
        power = augment(power, rng, self.config, self.rooms)
        rolls = np.stack(note_rolls(take.notes, self.count, fps), 1)
        heard = np.concatenate([rolls, take.last_pitches(index, groups)], 1)
        return compress(power, self.config), heard, chosen, place[chosen]

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
        self, seed: int, start: int = 0, workers: int = 0, share: tuple[int, int] = (0, 1)
    ) -> Generator[tuple[PageSample, PageSample], None, None]:
        """Pairs from step `start` on, the same for any number of workers.

        `share` (n, of) takes pair n of every `of` that make a step.
        """
        return stream(_Pairs(self, seed, *share), start, workers)

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
    number: int
    of: int

    def __call__(self, step: int) -> tuple[PageSample, PageSample]:
        return self.sampler.pair(self.seed, step * self.of + self.number)
