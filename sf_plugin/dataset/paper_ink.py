"""What time, printing and readers do to the ink and the paper of a page, before it is pictured.

Pages are (height, width) float32 reflectance, 0 black, 1 white, changed in place
unless a function returns another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate

from sf_plugin.dataset.paper_geometry import NONE, Grey, Range, drawn

GRAIN = 1 << 21
STRIP = 64  # rows at a time, so that intermediate results stay in the cache
GAIN = 2.5  # how sharply ink ends where it spreads or wears


@dataclass(frozen=True)
class Ink:
    """What the print and the paper are drawn from."""

    weight: tuple[float, float] = NONE  # -1 worn thin, 1 spread thick
    uneven: Range = NONE  # how far the weight wanders over the page
    fade: Range = NONE  # share of the ink's blackness that is gone
    bleed: Range = NONE  # blackness of the other side's ink
    pencil: Range = NONE  # marks on the page
    specks: Range = NONE  # on the page
    tone: Range = NONE  # share of the paper's whiteness that is gone
    blotches: Range = NONE  # how far the tone wanders
    stains: Range = NONE  # rings and spots on the page
    fibre: Range = NONE  # standard deviation of the paper's own texture


@lru_cache(maxsize=1)
def _grain() -> Grey:
    grain = np.random.default_rng(0).standard_normal(GRAIN, np.float32)
    grain.setflags(write=False)
    return grain


def grain(rng: np.random.Generator, shape: tuple[int, int]) -> Grey:
    """White noise of unit variance cut at random from a fixed store; not to be written to."""
    count = shape[0] * shape[1]
    if count > GRAIN // 2:
        return rng.standard_normal(shape, np.float32)
    start = int(rng.integers(GRAIN - count))
    return _grain()[start : start + count].reshape(shape)


def stretched(field: NDArray[np.floating], shape: tuple[int, int]) -> Grey:
    """A coarse picture enlarged to (height, width), its corners in the corners."""
    coarse = torch.tensor(field, dtype=torch.float32)[None, None]
    return interpolate(coarse, size=shape, mode="bilinear", align_corners=True)[0, 0].numpy()


def patches(rng: np.random.Generator, shape: tuple[int, int], size: float) -> Grey:
    """Smooth noise of about unit variance whose patches are `size` pixels wide."""
    knots = rng.standard_normal((int(shape[0] / size) + 3, int(shape[1] / size) + 3), np.float32)
    if size > 8:
        middling = int(shape[1] / 4) + 1, int(shape[0] / 4) + 1
        smooth = Image.fromarray(knots).resize(middling, Image.Resampling.BICUBIC)
        return stretched(np.asarray(smooth), shape)
    return stretched(knots, shape)


def blurred(page: Grey, sigma: float) -> Grey:
    """Gaussian blur with a kernel of three to seven pixels, for `sigma` below 2."""
    radius = 1 if sigma < 0.7 else 2 if sigma < 1.2 else 3
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps[0] + 2 * taps[1:].sum()
    height, width = page.shape
    padded = np.pad(page, radius, mode="edge")
    out = np.empty_like(page)
    for start in range(0, height, STRIP):
        end = min(start + STRIP, height)
        rows = padded[start : end + 2 * radius]
        down = rows[radius : radius + end - start] * taps[0]
        for i in range(1, radius + 1):
            both = rows[radius - i : radius - i + end - start] + rows[radius + i :][: end - start]
            both *= taps[i]
            down += both
        across = np.multiply(down[:, radius : radius + width], taps[0], out=out[start:end])
        for i in range(1, radius + 1):
            both = down[:, radius - i : radius - i + width] + down[:, radius + i :][:, :width]
            both *= taps[i]
            across += both
    return out


def _spread(page: Grey, weight: float, uneven: float, rng: np.random.Generator) -> Grey:
    """Ink thicker or thinner by blur and threshold; where it wanders, thin lines break."""
    out = blurred(page, 0.55)
    limit: Grey | np.float32 = np.float32(0.5 + 0.25 * weight)
    if uneven > 0:
        size = float(np.exp(rng.uniform(np.log(5), np.log(80))))
        wander = patches(rng, page.shape, size) * np.float32(0.2 * uneven)
        wander += limit
        limit = np.clip(wander, 0.2, 0.8, out=wander)
    out -= limit
    out *= np.float32(GAIN)
    out += np.float32(0.5)
    return np.clip(out, 0, 1, out=out)


def _fade(page: Grey, fade: float, rng: np.random.Generator) -> None:
    np.subtract(1, page, out=page)
    page *= stretched(np.clip(1 - fade * rng.uniform(0.4, 1.6, (4, 3)), 0.3, 1), page.shape)
    np.subtract(1, page, out=page)


def _bleed(
    page: Grey, behind: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> None:
    """The other side's ink, mirrored, soft and pale."""
    soft = Image.fromarray(behind[:, ::-1]).resize(
        (page.shape[1] // 2, page.shape[0] // 2), Image.Resampling.BOX
    )
    other = np.asarray(soft.resize(page.shape[::-1], Image.Resampling.BILINEAR), np.float32)
    other = np.roll(other, rng.integers(-20, 21, 2), (0, 1))
    other *= np.float32(strength / 255)
    other += np.float32(1 - strength)
    page *= other


def _curve(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """One thing that musicians write, as strokes (points, 2) in pixels around 0."""
    t = np.linspace(0, 1, 20)
    size = rng.uniform(9, 20)
    kind = rng.integers(6)
    if kind == 0:  # a ring around a note or a passage
        turn = 2 * np.pi * (rng.random() + t * rng.uniform(0.95, 1.15))
        swell = 1 + 0.15 * np.sin(turn * 0.7 + rng.uniform(0, 6)) + 0.1 * t
        across, down = size * rng.uniform(0.8, 3), size * rng.uniform(0.8, 1.6)
        return [np.stack([across * swell * np.cos(turn), down * swell * np.sin(turn)], 1)]
    if kind == 1:  # a slur, hairpin half or line
        length, rise = rng.uniform(30, 180), rng.uniform(-25, 25)
        return [np.stack([length * t, rise * 4 * t * (1 - t) + rng.uniform(-8, 8) * t], 1)]
    if kind == 2:  # a cross or a tick
        a, b = rng.uniform(-size, size, (2, 2, 2)) * 0.7
        return [a[0] + t[:, None] * (a[1] - a[0]), b[0] + t[:, None] * (b[1] - b[0])]
    if kind == 3:  # a hairpin
        length, mouth = rng.uniform(40, 120) * rng.choice([-1, 1]), rng.uniform(4, 9)
        return [np.stack([length * t, side * mouth * t], 1) for side in (-1, 1)]
    if kind == 4:  # a fingering
        knots = rng.uniform(-0.5, 0.5, (5, 2)) * [size, 1.6 * size]
        choose = np.array([1, 4, 6, 4, 1])
        power = np.arange(5)
        return [(choose * t[:, None] ** power * (1 - t[:, None]) ** (4 - power)) @ knots]
    letters = int(rng.integers(3, 9))  # a word, cursive
    t = np.linspace(0, 1, 14 * letters)
    tall = np.repeat(rng.choice([0.25, 0.3, 0.7], letters), 14) * size
    lean = np.repeat(rng.uniform(0.15, 0.4, letters), 14) * size
    turn = 2 * np.pi * letters * t
    return [np.stack([0.65 * size * letters * t + lean * np.sin(turn), tall * np.cos(turn)], 1)]


def _pencil(page: Grey, marks: int, rng: np.random.Generator) -> None:
    height, width = page.shape
    for _ in range(marks):
        strokes = _curve(rng)
        points = np.concatenate(strokes)
        low = points.min(0) - 4
        size = np.ceil(points.max(0) + 4 - low).astype(int)
        room = np.array([width, height]) - size
        if (room <= 0).any():
            continue
        left, top = (room * rng.uniform(0.03, 0.97, 2)).astype(int)
        sheet = Image.new("L", (int(size[0]) * 3, int(size[1]) * 3), 255)
        draw = ImageDraw.Draw(sheet)
        thick, grey = int(rng.integers(3, 8)), int(rng.integers(20, 150))
        for stroke in strokes:
            shaky = (stroke - low + rng.normal(0, 0.15, stroke.shape)) * 3
            draw.line([(x, y) for x, y in shaky.tolist()], fill=grey, width=thick)
        small = np.asarray(sheet.resize((int(size[0]), int(size[1])), Image.Resampling.BOX))
        spot = page[top : top + size[1], left : left + size[0]]
        graphite = (255 - small.astype(np.float32)) * np.float32(1 / 255)
        graphite *= 0.9 + 0.12 * grain(rng, graphite.shape)
        spot *= 1 - graphite.clip(0, 1)


def _specks(page: Grey, count: int, rng: np.random.Generator) -> None:
    """Dust, dark and now and then white, one to three pixels wide."""
    height, width = page.shape
    row, column = rng.integers(0, height, count), rng.integers(0, width, count)
    level = np.where(rng.random(count) < 0.7, rng.uniform(0, 0.6, count), 1).astype(np.float32)
    size = rng.choice(3, count, p=[0.65, 0.28, 0.07])
    for down in range(3):
        for across in range(3):
            mine = (size >= down) & (size >= across)
            at = (row[mine] + down).clip(0, height - 1), (column[mine] + across).clip(0, width - 1)
            page[at] = level[mine]


def _stains(field: NDArray[np.float64], count: int, rng: np.random.Generator) -> None:
    """Spots with a dark rim, multiplied into a coarse field of the page's tone."""
    height, width = field.shape
    rows, columns = np.mgrid[:height, :width]
    for _ in range(count):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        radius = rng.uniform(0.02, 0.16) * width
        angle = np.arctan2(rows - y, columns - x)
        wobble = 1 + 0.12 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.06 * np.sin(5 * angle)
        away = np.hypot(rows - y, columns - x) / (radius * wobble)
        inside, rim = rng.uniform(0, 0.2), rng.uniform(0.05, 0.3)
        edge = 1 / (1 + np.exp(((away - 1) * radius).clip(-30, 30)))
        ring = np.exp(-(((away - 1) * radius / 0.9) ** 2))
        field *= 1 - inside * edge - rim * ring


def _tone(page: Grey, ink: Ink, rng: np.random.Generator) -> None:
    tone, blotches = drawn(rng, ink.tone), drawn(rng, ink.blotches)
    stains = round(drawn(rng, ink.stains))
    if tone or blotches or stains:
        coarse = (page.shape[0] // 6, page.shape[1] // 6)
        field = np.full(coarse, 1 - tone)
        if blotches:
            field -= blotches * 0.5 * (patches(rng, coarse, 60) + 0.4 * patches(rng, coarse, 8))
            edge = np.minimum(
                *np.meshgrid(*[1 - np.abs(np.linspace(-1, 1, n)) for n in coarse[::-1]])
            )
            field -= 1.5 * blotches * np.exp(-edge / 0.08)
        _stains(field, stains, rng)
        page *= stretched(field.clip(0.2, 1), page.shape)
    fibre = drawn(rng, ink.fibre)
    if fibre:
        page += grain(rng, page.shape) * np.float32(fibre)


def aged(
    page: NDArray[np.uint8], behind: NDArray[np.uint8], rng: np.random.Generator, ink: Ink
) -> Grey:
    """The page as it lies there: print, then show-through, pencil, dust, paper."""
    out = page.astype(np.float32)
    out *= np.float32(1 / 255)
    weight, uneven = float(rng.uniform(*ink.weight)), drawn(rng, ink.uneven)
    if ink.weight != NONE or uneven:
        out = _spread(out, weight, uneven, rng)
    if fade := drawn(rng, ink.fade):
        _fade(out, fade, rng)
    if bleed := drawn(rng, ink.bleed):
        _bleed(out, behind, bleed, rng)
    _pencil(out, round(drawn(rng, ink.pencil)), rng)
    _specks(out, round(drawn(rng, ink.specks)), rng)
    _tone(out, ink, rng)
    return out
