"""How badly scanned pages of the demo are read: the table of `docs/how-to/scanning.md`.

python docs/figures/scanning.py
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher

import numpy as np
from PIL import Image

from sf_plugin.demo import ASSETS
from sf_plugin.errors import ScoreError
from sf_plugin.score.images import to_page
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Pages, Score
from sf_plugin.score.pdf import MUPDF_LOCK, mupdf
from sf_plugin.unet.follower import UNetFollower

DPI = 300

Scan = Callable[[Image.Image], Image.Image]


def sheets() -> list[Image.Image]:
    """The pages at 300 dots an inch."""
    with MUPDF_LOCK:
        document = mupdf().open(ASSETS / "score.pdf")
        images = [page.get_pixmap(dpi=DPI, colorspace="GRAY").tobytes("png") for page in document]
    return [Image.open(io.BytesIO(data)).convert("L") for data in images]


def ways() -> Iterator[tuple[str, Scan]]:
    yield "300 dpi, straight", lambda page: page
    for dpi in (150, 100, 75, 60):
        yield f"{dpi} dpi", lambda page, dpi=dpi: resized(page, dpi / DPI)
    for degrees in (0.5, 1.0, 2.0, 3.0, 5.0):
        yield f"turned by {degrees:g}°", lambda page, turn=degrees: turned(page, turn)
    for share in (0.25, 0.5, 1.0):
        yield (
            f"a margin of {share:.0%} of the width on every side",
            lambda p, s=share: bordered(p, s),
        )
    yield "cropped to the ink", cropped
    yield "pale: ink at half its blackness", lambda page: page.point(lambda v: 255 - (255 - v) // 2)
    yield "black and white at 300 dpi", lambda page: page.point(lambda v: 255 * (v > 128))
    yield (
        "black and white at 100 dpi",
        lambda page: resized(page, 100 / DPI).point(lambda v: 255 * (v > 128)),
    )
    yield "JPEG of quality 20, 150 dpi", lambda page: jpeg(resized(page, 150 / DPI), 20)


def resized(page: Image.Image, scale: float) -> Image.Image:
    size = (round(page.width * scale), round(page.height * scale))
    return page.resize(size, Image.Resampling.BOX)


def turned(page: Image.Image, degrees: float) -> Image.Image:
    return page.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=255)


def bordered(page: Image.Image, share: float) -> Image.Image:
    margin = round(page.width * share)
    wide = Image.new("L", (page.width + 2 * margin, page.height + 2 * margin), 255)
    wide.paste(page, (margin, margin))
    return wide


def cropped(page: Image.Image) -> Image.Image:
    dark = np.asarray(page) < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return page.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def jpeg(page: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    page.save(file, "JPEG", quality=quality)
    return Image.open(file)


def counts(layout: Layout) -> list[tuple[int, int]]:
    """(page, measures) of every system."""
    return [(page.page, len(system.measures)) for page in layout.pages for system in page.systems]


def main() -> None:
    follower, pages = UNetFollower(), sheets()
    known = Layout.from_json((ASSETS / "layout.json").read_text(encoding="utf-8"))
    true = counts(known)
    print("| | systems found | systems with all their measures |\n|---|---:|---:|")
    for what, scan in ways():
        images = [to_page(scan(page)) for page in pages]
        score = Score(what, Pages(len(images), lambda index, images=images: images[index]))
        try:
            found = counts(follower.prepare(score))
        except ScoreError:
            found = []
        same = SequenceMatcher(None, found, true, autojunk=False).get_matching_blocks()
        right = sum(block.size for block in same)
        print(f"| {what} | {len(found)} of {len(true)} | {right} |", flush=True)


if __name__ == "__main__":
    main()
