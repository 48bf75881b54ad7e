"""Training samples: one page with what is on it, and a performance of what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from sf_plugin.audio.spectrogram import Spectrogram, SpectrogramConfig
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.perform import Performance, Style, perform, score_onsets
from sf_plugin.dataset.templates import Templates, augment
from sf_plugin.score.layout import PageLayout, System
from sf_plugin.unet.network import PITCHES, SystemRows
from sf_plugin.unet.pages import system_rows

FRAMES = 400  # that one step hears
CANVAS = (1216, 864)  # pixels every training page is placed on: one shape runs fastest


@dataclass
class PageSample:
    """One page and one performance of a stretch of it; grid units are block H's cells."""

    image: Tensor  # (1, 1, height, width), ink 1
    systems: list[SystemRows]
    heads: Tensor  # (heads, 3) row, column, pitch index
    cell_heads: Tensor  # (heads, 2) cell of the strip, pitch index
    maps: Tensor  # (3, rows, columns)
    frames: Tensor  # (frames, bins)
    active: Tensor  # (frames, 88)
    onset: Tensor  # (frames, 88)
    target_frames: Tensor  # (targets,)
    target_cells: Tensor  # (targets, cells) probabilities

    @property
    def cells(self) -> int:
        return sum(s.right - s.left for s in self.systems)


@dataclass(frozen=True)
class Placement:
    """Where a resized page lies on the canvas, in pixels."""

    left: float
    top: float
    width: float
    height: float

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Fractions of the page's width to columns of block H's grid."""
        return (self.left + x * self.width) / 4

    def rows(self, y: np.ndarray) -> np.ndarray:
        """Fractions of the page's height to rows of block H's grid."""
        return (self.top + y * self.height) / 4


def spoil_page(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Placement]:
    """Resize, blur, thicken or thin, shade and speckle: (height, width) uint8 to ink on CANVAS."""
    picture = Image.fromarray(image)
    most = min(1.02, CANVAS[0] / picture.height, CANVAS[1] / picture.width)
    factor = rng.uniform(0.86 * most, most)
    size = (int(picture.width * factor), int(picture.height * factor))
    smooth = rng.random() < 0.7
    picture = picture.resize(
        size, Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    )
    kind = rng.random()
    if kind < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    ink = np.zeros(CANVAS, np.float32)
    left = int(rng.integers(0, CANVAS[1] - size[0] + 1))
    top = int(rng.integers(0, CANVAS[0] - size[1] + 1))
    ink[top : top + size[1], left : left + size[0]] = 1 - np.asarray(picture, np.float32) / 255
    if 0.15 < kind < 0.3:
        ink = ink ** np.float32(rng.uniform(0.5, 1.6))
    elif 0.3 < kind < 0.4:
        ink = (ink > rng.uniform(0.25, 0.6)).astype(np.float32)
    ink *= np.float32(rng.uniform(0.7, 1.0))
    if rng.random() < 0.3:
        ink += rng.standard_normal(CANVAS, np.float32) * np.float32(rng.uniform(0.01, 0.08))
    if rng.random() < 0.2:
        first, last = rng.uniform(0, 0.25, 2)
        shade = np.linspace(first, last, CANVAS[1], dtype=np.float32)
        ink += (1 - ink) * shade
    return np.clip(ink, 0, 1), Placement(left, top, *size)


def shaken(systems: np.ndarray, placement: Placement, rng: np.random.Generator) -> PageLayout:
    """Systems as a detector might give them: a few pixels off, in fractions of the canvas."""
    height, width = CANVAS
    tops, bottoms = (placement.rows(systems[side]) * 4 for side in ("top", "bottom"))
    lefts, rights = (placement.columns(systems[side]) * 4 for side in ("left", "right"))
    off = rng.uniform(-3, 3, (4, len(systems)))
    return PageLayout(
        1,
        tuple(
            System(
                float(tops[i] + off[0, i]) / height,
                float(bottoms[i] + off[1, i]) / height,
                float(lefts[i] + off[2, i]) / width,
                float(rights[i] + off[3, i]) / width,
            )
            for i in range(len(systems))
        ),
    )


def page_stretch(engraving: Engraving, page: int, rng: np.random.Generator) -> slice | None:
    """Onset groups to play for a page: some of before, then a stretch on the page."""
    heads, _ = score_onsets(engraving.notes)
    on_page = np.flatnonzero(heads["page"] == page)
    if len(on_page) < 4:
        return None
    start = int(rng.choice(on_page)) if rng.random() < 0.6 else int(on_page[0])
    start = min(start, int(on_page[-1]) - 3)
    return slice(max(0, start - int(rng.integers(0, 8))), int(on_page[-1]) + 2)


def note_rolls(performance: Performance, count: int, fps: int) -> tuple[np.ndarray, np.ndarray]:
    """(frames, 88) which pitches sound, and which begin at or one frame before."""
    active, onset = np.zeros((count, PITCHES), np.float32), np.zeros((count, PITCHES), np.float32)
    for note in performance.notes:
        begin = round(float(note["onset"]) * fps)
        end = max(begin + 1, round(float(note["onset"] + note["duration"]) * fps))
        if begin < count:
            active[begin:end, note["pitch"] - 21] = 1
            onset[begin : begin + 2, note["pitch"] - 21] = 1
    return active, onset


def place_targets(
    performance: Performance,
    page: int,
    first_system: int,
    systems: list[SystemRows],
    times: np.ndarray,
    placement: Placement,
    spread: float = 1.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames whose last onset is on the page, and (targets, cells) where that stands."""
    index = np.searchsorted(performance.onsets["time"], times, side="right") - 1
    good = (index >= 0) & (performance.onsets["page"][index] == page)
    chosen = np.flatnonzero(good)
    here = performance.onsets[index[chosen]]
    offsets = np.cumsum([0] + [s.right - s.left for s in systems])
    out = np.zeros((len(chosen), offsets[-1]), np.float32)
    for i, s in enumerate(systems):
        mine = np.flatnonzero(here["system"] == first_system + i)
        if len(mine):
            cells = np.arange(s.left, s.right) + 0.5
            away = (cells[None] - placement.columns(here["x"][mine, None])) / spread
            weight = np.exp(-0.5 * away**2)
            weight /= weight.sum(1, keepdims=True) + 1e-9
            out[mine, offsets[i] : offsets[i + 1]] = weight
    return chosen, out


class Sampler:
    """Endless page samples from engraved pieces, seeded."""

    def __init__(
        self,
        folder: Path,
        templates: Templates,
        config: SpectrogramConfig,
        patterns: tuple[str, ...] = ("train--*.npz",),
        limit: int | None = None,
    ) -> None:
        self.templates = templates
        self.config = config
        files = sorted({f for pattern in patterns for f in folder.glob(pattern)})[:limit]
        if not files:
            raise FileNotFoundError(f"no engraved pieces like {patterns} in {folder}")
        self.pieces = [Engraving.load(file) for file in files]
        self.index = [
            (i, page) for i, piece in enumerate(self.pieces) for page in range(len(piece.pages))
        ]

    def sample(self, piece: Engraving, page: int, rng: np.random.Generator) -> PageSample | None:
        """A spoilt page with a fresh performance, or None where the page holds too little."""
        stretch = page_stretch(piece, page, rng)
        if stretch is None:
            return None
        style = Style(
            tempo_drift=rng.uniform(0.02, 0.16), jitter=rng.uniform(0, 0.015),
            chord_spread=rng.uniform(0, 0.04), dynamics=rng.uniform(4, 18),
        )  # fmt: skip
        performance = perform(piece, rng, style, stretch)
        fps = self.config.fps
        power = augment(self.templates.synthesise(performance.notes, FRAMES, rng), rng)
        frames = Spectrogram(self.config).compress(power)
        active, onset = note_rolls(performance, FRAMES, fps)

        ink, placement = spoil_page(piece.pages[page], rng)
        rows, columns = CANVAS[0] // 4, CANVAS[1] // 4
        here = np.flatnonzero(piece.systems["page"] == page)
        placed = system_rows(shaken(piece.systems[here], placement, rng), rows, columns)
        times = (np.arange(FRAMES) + 0.5) / fps
        times = times[times < performance.onsets["time"][-1] + 0.5]
        chosen, target = place_targets(performance, page, int(here[0]), placed, times, placement)
        keep = target.sum(1) > 0.5
        chosen, target = chosen[keep], target[keep]
        if len(chosen) < 8:
            return None

        notes = piece.notes[piece.notes["page"] == page]
        pitch = np.clip(notes["pitch"] - 21, 0, PITCHES - 1)
        row = np.clip(placement.rows(notes["y"]), 0, rows - 1).astype(int)
        column = np.clip(placement.columns(notes["x"]), 0, columns - 1).astype(int)
        offsets = np.cumsum([0] + [s.right - s.left for s in placed])
        local = notes["system"] - here[0]
        cell = np.array([
            offsets[i] + np.clip(c - placed[i].left, 0, placed[i].right - placed[i].left - 1)
            for i, c in zip(local, column, strict=True)
        ])  # fmt: skip
        maps = np.zeros((3, rows, columns), np.float32)
        for i in here:
            s = piece.systems[i]
            sides = placement.columns(np.array([s["left"], s["right"]]))
            ends = placement.rows(np.array([s["top"], s["bottom"]]))
            across = slice(*np.round(sides).astype(int))
            down = slice(*np.round(ends).astype(int))
            maps[0, down, across] = 1
            for staff in piece.staves[piece.staves["system"] == i]:
                top, bottom = placement.rows(np.array([staff["top"], staff["bottom"]]))
                maps[1, round(top) : round(bottom), across] = 1
            for bar in piece.bars[piece.bars["system"] == i]:
                middle = int(np.clip(placement.columns(bar["x"]), 0, columns - 1))
                maps[2, down, middle] = 1
        return PageSample(
            torch.from_numpy(ink)[None, None],
            placed,
            torch.from_numpy(np.stack([row, column, pitch], 1).astype(np.int64)),
            torch.from_numpy(np.stack([cell, pitch], 1).astype(np.int64)),
            torch.from_numpy(maps),
            torch.from_numpy(frames),
            torch.from_numpy(active),
            torch.from_numpy(onset),
            torch.from_numpy(chosen),
            torch.from_numpy(target),
        )

    def pairs(self, seed: int) -> Iterator[tuple[PageSample, PageSample]]:
        """Two pages at a time, of the same piece where it has two: hard negatives."""
        rng = np.random.default_rng(seed)
        while True:
            for number in rng.permutation(len(self.index)):
                piece, page = self.index[number]
                other_piece, other_page = piece, page
                count = len(self.pieces[piece].pages)
                if count > 1 and rng.random() < 0.7:
                    other_page = int((page + rng.choice([-1, 1])) % count)
                else:
                    other_piece, other_page = self.index[rng.integers(len(self.index))]
                samples = [
                    self.sample(self.pieces[p], q, rng)
                    for p, q in ((piece, page), (other_piece, other_page))
                ]
                if samples[0] is not None and samples[1] is not None:
                    yield samples[0], samples[1]
