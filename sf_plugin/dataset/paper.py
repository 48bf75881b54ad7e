"""From a crisp engraved page to what a scanner or a camera makes of a printed one.

In nature's order: ink and paper (`paper_ink`), how the page lies (`paper_geometry`,
resampled once), light, sensor. The labels move along with `Warp.points`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper_geometry import (
    NONE,
    Geometry,
    Grey,
    Range,
    Warp,
    draw_warp,
    drawn,
    render,
)
from sf_plugin.dataset.paper_ink import Ink, aged, blurred, grain, patches, stretched

__all__ = [
    "PAPERS", "Geometry", "Ink", "Light", "Paper", "Sensor", "Warp",
    "contact_sheet", "draw_paper", "moved", "spoil", "spoil_engraving",
]  # fmt: skip

SAMPLES = 9  # points along a staff line whose mean height stands for it


@dataclass(frozen=True)
class Light:
    """What the light on the picture is drawn from; each is a share of the light that is lost."""

    gradient: Range = NONE  # from the brightest to the darkest side
    shadow: Range = NONE  # under a hand, a head or a phone
    gutter: Range = NONE  # where the paper sinks into the spine
    vignette: Range = NONE  # in the corners


@dataclass(frozen=True)
class Sensor:
    """What the camera, the scanner and the file are drawn from."""

    focus: Range = NONE  # standard deviation of the blur in pixels, below 2
    motion: Range = NONE  # length of the smear in pixels
    streaks: Range = NONE  # strength of the stripes of a dirty scanner or drum
    noise: Range = NONE  # standard deviation
    loss: Range = NONE  # of resolution: 0.5 keeps every second pixel
    contrast: Range = NONE  # share of the contrast that is lost
    threshold: str = ""  # "fixed" or "adaptive" binarisation, or none
    steepness: Range = (4.0, 10.0)  # of the threshold; hundreds are truly black and white
    compression: Range = NONE  # 100 less the JPEG quality, 0 for none

    def __post_init__(self) -> None:
        if self.threshold not in ("", "fixed", "adaptive"):
            raise ValueError(f"threshold is fixed, adaptive or none, not {self.threshold!r}")


@dataclass(frozen=True)
class Paper:
    """A kind of page image; every page draws its own strengths from the ranges."""

    geometry: Geometry = field(default_factory=Geometry)
    ink: Ink = field(default_factory=Ink)
    light: Light = field(default_factory=Light)
    sensor: Sensor = field(default_factory=Sensor)


def _lit(image: Grey, warp: Warp, rng: np.random.Generator, light: Light) -> None:
    gradient, shadow = drawn(rng, light.gradient), drawn(rng, light.shadow)
    gutter, vignette = drawn(rng, light.gutter), drawn(rng, light.vignette)
    sunk = gutter if warp.bend is not None else 0.0
    if not (gradient or shadow or sunk or vignette):
        return
    page_x, _ = warp.mesh()
    rows, columns = page_x.shape
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    lamp = np.ones((rows, columns))
    if gradient:
        angle = rng.uniform(0, 2 * np.pi)
        lamp -= gradient * (np.cos(angle) * x + np.sin(angle) * y + 1.4) / 2.8
    if shadow:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.9)
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        edge = along - offset - rng.uniform(-0.4, 0.4) * across - rng.uniform(0, 0.6) * across**2
        lamp *= 1 - shadow / (1 + np.exp(-(edge / rng.uniform(0.03, 0.15)).clip(-30, 30)))
    if vignette:
        lamp *= 1 - vignette * (x**2 + y**2) / 2
    if warp.bend is not None and sunk:
        lamp *= 1 - sunk * warp.bend.steepness(page_x) / warp.bend.slope
    image *= stretched(lamp.clip(0.05, 1), image.shape)


def _smeared(image: Grey, length: float, rng: np.random.Generator) -> Grey:
    """Motion along a line, as the mean of whole-pixel shifts."""
    angle = rng.uniform(0, np.pi)
    steps = np.linspace(-0.5, 0.5, int(np.ceil(length)) + 1)
    shifts = {(round(s * length * np.sin(angle)), round(s * length * np.cos(angle))) for s in steps}
    reach = max(max(abs(a), abs(b)) for a, b in shifts)
    if reach == 0:
        return image
    padded = np.pad(image, reach, mode="edge")
    height, width = image.shape
    out = np.zeros_like(image)
    for down, across in sorted(shifts):
        out += padded[reach + down : reach + down + height, reach + across :][:, :width]
    out *= np.float32(1 / len(shifts))
    return out


def _binary(image: Grey, kind: str, steepness: float, rng: np.random.Generator) -> None:
    """A threshold, as steep as it looks once a fine black and white scan is reduced."""
    level = rng.uniform(0.75, 0.9)
    if kind == "adaptive":
        grey = Image.fromarray((image * 255).clip(0, 255).astype(np.uint8))
        near = np.asarray(grey.filter(ImageFilter.BoxBlur(14)), np.float32)
        near *= np.float32(level / 255)
        image -= near
    else:
        image -= np.float32(level * np.median(image[::7, ::7]))
    image *= np.float32(steepness)
    image += np.float32(0.5)


def _sensed(image: Grey, rng: np.random.Generator, sensor: Sensor) -> NDArray[np.uint8]:
    height, width = image.shape
    if (focus := drawn(rng, sensor.focus)) > 0.4:
        image = blurred(image, focus)
    if (motion := drawn(rng, sensor.motion)) > 0.5:
        image = _smeared(image, motion, rng)
    if streaks := drawn(rng, sensor.streaks):
        stripes = np.abs(rng.standard_normal(width)) * 0.03 + (rng.random(width) < 0.01)
        image -= (0.7 * streaks * stripes * rng.random(width)).astype(np.float32)
    size = None
    if loss := drawn(rng, sensor.loss):
        size = max(1, round(width * (1 - loss))), max(1, round(height * (1 - loss)))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)).copy()
    if noise := drawn(rng, sensor.noise):
        image += grain(rng, image.shape) * np.float32(noise)
    if sensor.threshold:
        _binary(image, sensor.threshold, drawn(rng, sensor.steepness), rng)
    elif contrast := drawn(rng, sensor.contrast):
        dark = contrast * rng.uniform(0.3, 1)
        image *= np.float32(1 - contrast)
        image += np.float32(dark)
    image = image * np.float32(255)
    np.clip(image, 0, 255, out=image)
    out = image.astype(np.uint8)
    if compression := round(drawn(rng, sensor.compression)):
        file = io.BytesIO()
        Image.fromarray(out).save(file, "JPEG", quality=max(5, 100 - compression))
        out = np.asarray(Image.open(file))
    if size is not None:
        bicubic = Image.Resampling.BICUBIC
        out = np.asarray(Image.fromarray(out).resize((width, height), bicubic))
    return out


def _table(rng: np.random.Generator) -> Grey:
    """A desk or a music stand: boards with some grain, light or dark."""
    base = rng.uniform(0.1, 0.7)
    length = rng.integers(3, 40)
    wood = patches(rng, (160, 120), 6) if length < 10 else stretched(
        rng.standard_normal((160, max(2, 120 // int(length)))), (160, 120)
    )  # fmt: skip
    return (base + 0.06 * wood + 0.05 * patches(rng, (160, 120), 50)).clip(0.02, 1)


def spoil(
    page: NDArray[np.uint8],
    rng: np.random.Generator,
    paper: Paper,
    canvas: tuple[int, int] | None = None,
    behind: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], Warp]:
    """One page, (height, width) uint8, as `paper` shows it, and where its points went.

    The image is as large as the page, or `canvas` (height, width) with the page scaled and
    placed at random on white. All ink stays in the image. `behind` is the page on the
    other side (a page like this one where it is not known).
    """
    warp = draw_warp(page, rng, paper.geometry, canvas)
    sheet = aged(page, page[::-1] if behind is None else behind, rng, paper.ink)
    background = _table(rng) if paper.geometry.background is None else paper.geometry.background
    image = render(sheet, warp, background)
    _lit(image, warp, rng, paper.light)
    seen = _sensed(image, rng, paper.sensor)
    if seen.shape == warp.picture:
        return seen, warp
    left, top, width, height = warp.place
    out = np.full(warp.picture, 255, np.uint8)
    out[top : top + height, left : left + width] = seen
    return out, warp


def _middles(
    warp: Warp, x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean places of lines (lines, points) after the warp."""
    new_x, new_y = warp.points(x, y)
    return new_x.mean(1), new_y.mean(1)


def moved(engraving: Engraving, warps: Mapping[int, Warp]) -> Engraving:
    """The tables with everything on the given pages (from 0) where its warp puts it.

    Heads and signs move as points. A system or a staff that is tilted or bent keeps an
    upright box: its top and bottom are the mean heights of its outer staff lines, its left
    and right the mean places of its ends, so that boxes stay apart and as tall as they
    were. A bar line moves with its middle. Pages are passed on as they are.
    """
    notes, systems, staves, bars, signs = (
        table.copy()
        for table in (
            engraving.notes, engraving.systems, engraving.staves, engraving.bars, engraving.signs
        )
    )  # fmt: skip
    t = np.linspace(0, 1, SAMPLES)
    old = engraving.systems
    for page, warp in warps.items():
        here = notes["page"] == page
        notes["x"][here], notes["y"][here] = warp.points(notes["x"][here], notes["y"][here])
        mine = np.flatnonzero(old["page"] == page)
        left, right, top, bottom = (
            old[side][mine, None] for side in ("left", "right", "top", "bottom")
        )
        across, down = left + t * (right - left), top + t * (bottom - top)
        for side, x, y in (("top", across, top), ("bottom", across, bottom)):
            systems[side][mine] = _middles(warp, *np.broadcast_arrays(x, y))[1]
        for side, x, y in (("left", left, down), ("right", right, down)):
            systems[side][mine] = _middles(warp, *np.broadcast_arrays(x, y))[0]
        rows = np.flatnonzero(np.isin(staves["system"], mine))
        its = old[staves["system"][rows]]
        across = its["left"][:, None] + t * (its["right"] - its["left"])[:, None]
        for side in ("top", "bottom"):
            y = np.broadcast_to(engraving.staves[side][rows, None], across.shape)
            staves[side][rows] = _middles(warp, across, y)[1]
        rows = np.flatnonzero(np.isin(bars["system"], mine))
        its = old[bars["system"][rows]]
        bars["x"][rows] = warp.points(bars["x"][rows], (its["top"] + its["bottom"]) / 2)[0]
        rows = np.flatnonzero(np.isin(signs["system"], mine))
        signs["x"][rows], signs["y"][rows] = warp.points(signs["x"][rows], signs["y"][rows])
    return replace(engraving, notes=notes, systems=systems, staves=staves, bars=bars, signs=signs)


def spoil_engraving(engraving: Engraving, rng: np.random.Generator, paper: Paper) -> Engraving:
    """All pages of a piece from one scanner or camera, each with its own draw, truth moved along.

    Systems and staves become what `moved` says of tilted ones.
    """
    pages, warps = [], {}
    count = len(engraving.pages)
    for number, page in enumerate(engraving.pages):
        other = number ^ 1
        behind = engraving.pages[other] if other < count else None
        image, warps[number] = spoil(page, rng, paper, behind=behind)
        pages.append(image)
    return replace(moved(engraving, warps), pages=np.stack(pages))


PAPERS: dict[str, Paper] = {
    "engraved": Paper(),
    "clean scan": Paper(
        Geometry(rotation=0.6, around=(-0.4, 0.01)),
        Ink(weight=(-0.25, 0.35), specks=(-20, 20), fibre=(-0.01, 0.02)),
        Light(),
        Sensor(
            focus=(0, 0.6), noise=(-0.01, 0.02), contrast=(-0.1, 0.12), compression=(-10, 30)
        ),
    ),
    "rehearsal copy": Paper(
        Geometry(rotation=1.5, around=(-0.5, 0.01)),
        Ink(weight=(-0.2, 0.6), pencil=(8, 60), specks=(0, 60), fibre=(0, 0.02)),
        Light(gradient=(-0.1, 0.15)),
        Sensor(focus=(0, 0.8), contrast=(-0.1, 0.25), compression=(-10, 50)),
    ),
    "bad scan": Paper(
        Geometry(rotation=3, slope=(-0.2, 0.5), around=(-0.5, 0.03), background=0.05),
        Ink(
            weight=(-0.5, 0.5), uneven=(0, 0.5), fade=(-0.1, 0.35), bleed=(-0.1, 0.12),
            specks=(0, 250), tone=(-0.05, 0.15), fibre=(0, 0.03),
        ),
        Light(gradient=(0, 0.3), gutter=(0.2, 0.7)),
        Sensor(
            focus=(0.3, 1), streaks=(-0.3, 0.5), noise=(0, 0.04), loss=(-0.2, 0.45),
            contrast=(0, 0.3), compression=(20, 80),
        ),
    ),
    "photocopy": Paper(
        Geometry(rotation=2, slope=(-0.3, 0.35), around=(-0.4, 0.03), background=0.1),
        Ink(
            weight=(-0.3, 0.8), uneven=(0, 0.9), pencil=(-15, 15), specks=(50, 500),
            fibre=(0, 0.05),
        ),
        Light(gradient=(-0.1, 0.2), gutter=(0.3, 0.8)),
        Sensor(
            focus=(0.3, 0.7), streaks=(0, 0.6), noise=(0, 0.06), threshold="fixed",
            steepness=(2.5, 8), compression=(-20, 40),
        ),
    ),
    "fax": Paper(
        Geometry(rotation=1.5, around=(-0.3, 0.01)),
        Ink(weight=(0, 0.6), uneven=(0, 0.6), specks=(20, 200)),
        Light(),
        Sensor(
            focus=(0.2, 0.6), streaks=(0, 0.8), noise=(0.02, 0.06), loss=(-0.1, 0.3),
            threshold="fixed", steepness=(200, 400),
        ),
    ),
    "photo": Paper(
        Geometry(
            rotation=3, perspective=0.035, slope=(-0.4, 0.45), barrel=0.03, around=(-0.4, 0.06),
            background=None,
        ),
        Ink(
            weight=(-0.2, 0.4), bleed=(-0.1, 0.06), pencil=(-20, 20), tone=(0, 0.15),
            fibre=(0, 0.02),
        ),
        Light(gradient=(0.05, 0.5), shadow=(-0.3, 0.5), gutter=(0.1, 0.5), vignette=(0, 0.3)),
        Sensor(
            focus=(0.2, 1.1), motion=(-2, 3), noise=(0, 0.035), contrast=(0, 0.3),
            compression=(20, 75),
        ),
    ),
    "photo made black and white": Paper(
        Geometry(
            rotation=2, perspective=0.02, slope=(-0.4, 0.4), barrel=0.02, around=(-0.6, 0.01),
            background=None,
        ),
        Ink(weight=(0, 0.5), pencil=(-20, 20), tone=(0, 0.15), fibre=(0, 0.02)),
        Light(gradient=(0.05, 0.5), shadow=(-0.3, 0.5), gutter=(0.1, 0.5), vignette=(0, 0.3)),
        Sensor(
            focus=(0.2, 0.7), noise=(0, 0.03), threshold="adaptive", steepness=(4, 15),
            compression=(0, 60),
        ),
    ),
    "old print": Paper(
        Geometry(rotation=1.5, slope=(-0.2, 0.4), around=(-0.5, 0.02), background=0.2),
        Ink(
            weight=(-0.6, 0.5), uneven=(0.3, 1.2), fade=(0, 0.4), bleed=(0, 0.18), pencil=(-20, 12),
            specks=(20, 300), tone=(0.05, 0.3), blotches=(0.02, 0.12), stains=(-2, 5),
            fibre=(0.01, 0.05),
        ),
        Light(gradient=(0, 0.2), gutter=(0.1, 0.6)),
        Sensor(focus=(0.2, 0.8), noise=(0, 0.03), contrast=(0, 0.2), compression=(0, 60)),
    ),
}  # fmt: skip
"""Kinds of page images by name, from what the engraver made to the worst that is still read."""

NEARLY_CLEAN = Paper(
    Geometry(around=(-0.5, 0.02)),
    Ink(weight=(-0.2, 0.3)),
    Light(),
    Sensor(focus=(-0.4, 0.5), noise=(-0.03, 0.015), contrast=(-0.1, 0.15), compression=(-30, 25)),
)


def draw_paper(rng: np.random.Generator) -> Paper:
    """For training: a third nearly clean, the rest with each part from a kind of its own choice."""
    if rng.random() < 1 / 3:
        return NEARLY_CLEAN if rng.random() < 0.7 else PAPERS["engraved"]
    kinds = list(PAPERS.values())
    if rng.random() < 0.4:
        return kinds[rng.integers(1, len(kinds))]
    geometry, ink, light, sensor = (kinds[i] for i in rng.integers(0, len(kinds), 4))
    return Paper(geometry.geometry, ink.ink, light.light, sensor.sensor)


def contact_sheet(page: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """All named papers side by side, each as the whole page and a part of it at full size."""
    tile, gap, label, columns = (300, 424), 12, 22, 3
    rows = -(-len(PAPERS) // columns)
    each = (label + tile[0] + gap, 2 * tile[1] // 2 + 212 + gap)
    sheet = Image.new("L", (columns * each[1] + gap, rows * each[0] + gap), 255)
    draw = ImageDraw.Draw(sheet)
    for i, (name, paper) in enumerate(PAPERS.items()):
        image, _ = spoil(page, rng, paper)
        left, top = gap + i % columns * each[1], gap + i // columns * each[0]
        draw.text((left, top + 4), name, fill=0)
        whole = Image.fromarray(image)
        y, x = image.shape[0] // 8, image.shape[1] // 16
        part = whole.crop((x, y, x + tile[1], y + tile[0]))
        whole.thumbnail((212, tile[0]), Image.Resampling.LANCZOS)
        sheet.paste(whole, (left, top + label))
        sheet.paste(part, (left + 212, top + label))
    return np.asarray(sheet)
