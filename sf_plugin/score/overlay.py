"""Pictures of pages with their layout drawn on them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, PageLayout, System
from sf_plugin.score.model import PageImage, Score
from sf_plugin.score.pdf import MUPDF_LOCK, mupdf

SCALE = 2
"""Pixels of the picture for one of the page: places are drawn finer than they are printed."""
POINTS = 595
"""Width of a page of the PDF: A4's."""

SYSTEM, MEASURE, REPEAT = (90, 150, 255), (0, 150, 90), (220, 0, 140)


def draw_layout(image: PageImage, page: PageLayout) -> Image.Image:
    """The page in paler ink: systems blue, measures green with labels, repeats magenta.

    Notes of known beat are ticks under the system.
    """
    picture = faded(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    width, height = picture.size
    for system in page.systems:
        left, right = system.left * width, system.right * width
        top, bottom = system.top * height, system.bottom * height
        draw.rectangle((left, top, right, bottom), fill=(*SYSTEM, 40))
        draw_measures(draw, system, width, height)
        for x in (x * width for m in system.measures for x, _ in m.onsets[:-1]):
            draw.line((x, bottom + 8, x, bottom + 20), (*MEASURE, 200), 2)
    return picture


def faded(image: PageImage) -> Image.Image:
    """The page, larger and in paler ink, so that marks stand out."""
    height, width = image.shape
    large = Image.fromarray(image).resize((width * SCALE, height * SCALE))
    pale = 255 - (255 - np.asarray(large, np.uint16)) * 3 // 5
    return Image.fromarray(pale.astype(np.uint8)).convert("RGB")


def draw_measures(draw: ImageDraw.ImageDraw, system: System, width: int, height: int) -> None:
    """Bar lines, labels, repeats and endings on a picture of `width` x `height`."""
    top, bottom = system.top * height, system.bottom * height
    lines = [
        (x * width, REPEAT if repeat else MEASURE)
        for m in system.measures
        for x, repeat in ((m.left, m.repeat_start), (m.right, m.repeat_end))
    ]
    for x, colour in sorted(lines, key=lambda line: line[1] == REPEAT):
        draw.line((x, top - 6, x, bottom + 6), (*colour, 200), 3)
    for measure in system.measures:
        label = measure.label or str(measure.number)
        if measure.volta:
            label += f"  [{measure.volta}]"
        where = (measure.left * width + 4, top - 26)
        draw.text(where, label, REPEAT if measure.volta else MEASURE, font_size=18)


def pictures(path: Path, score: Score, layout: Layout) -> Iterator[tuple[Path, bytes]]:
    """Files to write: one PDF, or a PNG a page (`page-1.png`, … where there are several).

    Raises:
        ScoreError: the name ends in neither.
    """
    kind = path.suffix.lower()
    if kind not in (".pdf", ".png"):
        raise ScoreError(f"{path}: a picture is a .png or .pdf file: choose another name")
    drawn = (_png(score.pages[page.page - 1], page) for page in layout.pages)
    if kind == ".pdf":
        yield path, _pdf(drawn)
        return
    for number, data in enumerate(drawn, 1):
        several = len(layout.pages) > 1
        yield path.with_name(f"{path.stem}-{number}.png") if several else path, data


def _png(image: PageImage, page: PageLayout) -> bytes:
    out = io.BytesIO()
    draw_layout(image, page).save(out, "PNG")
    return out.getvalue()


def _pdf(drawn: Iterator[bytes]) -> bytes:
    with MUPDF_LOCK:
        document = mupdf().open()
        for data in drawn:
            width, height = Image.open(io.BytesIO(data)).size
            sheet = document.new_page(width=POINTS, height=POINTS * height / width)
            sheet.insert_image(sheet.rect, stream=data)
        return bytes(document.tobytes(deflate=True))
