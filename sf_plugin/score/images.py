"""Pages from image files: PNG, JPEG, TIFF with any number of pages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sf_plugin.errors import ScoreError
from sf_plugin.score.model import PAGE_WIDTH, PageImage, Pages, Score

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_PIXELS = 180_000_000
"""Larger images are refused: a page of A3 at 600 dots an inch has 70 million pixels."""
TALLEST = 8.0
"""Greatest height of a page in page widths."""


def load_images(paths: Sequence[Path]) -> Score:
    """One document of all images, in the order given; a TIFF gives all its pages.

    Headers are read now, pixels when a page is asked for.

    Raises:
        ScoreError: a file is no image, damaged, or larger than any page.
    """
    index = []
    for path in paths:
        with _opened(path) as image:
            frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            for frame in range(frames):
                image.seek(frame)
                _check_size(path, image)
                index.append((path, frame))

    def render(page: int) -> PageImage:
        path, frame = index[page]
        with _opened(path) as image:
            image.seek(frame)
            _check_size(path, image)
            return to_page(image)

    return Score(name=paths[0].stem, pages=Pages(len(index), render))


def to_page(image: Image.Image) -> PageImage:
    """Any image, upright by its EXIF tag, as (height, PAGE_WIDTH) grey on white."""
    grey = _to_grey(ImageOps.exif_transpose(image))
    height = max(1, round(grey.height * PAGE_WIDTH / grey.width))
    if grey.size != (PAGE_WIDTH, height):
        shrinks = grey.width > PAGE_WIDTH
        kernel = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
        grey = grey.resize((PAGE_WIDTH, height), kernel, reducing_gap=3.0)
    return np.asarray(grey, np.uint8).copy()


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image).astype(np.float32)
        if image.mode == "F":
            levels *= 255.0 if levels.max(initial=0.0) <= 1.0 else 1.0
        elif image.mode != "I" or levels.max(initial=0.0) > 255:
            levels /= 257.0
        return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("L")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB").convert("L")


def _check_size(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ScoreError(
            f"{path}: {width} x {height} pixels are more than a page needs: "
            "scale it down to about 2500 pixels wide"
        )
    if max(width, height) > TALLEST * min(width, height):
        raise ScoreError(f"{path}: {width} x {height} pixels is not the shape of a page: crop it")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open image; whatever Pillow finds wrong with it is a ScoreError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                yield image
    except Image.DecompressionBombError:
        raise ScoreError(
            f"{path}: more pixels than a page needs: scale it down to about 2500 pixels wide"
        ) from None
    except UnidentifiedImageError:
        raise ScoreError(f"{path}: not a readable image: give a PNG, JPEG or TIFF file") from None
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError) as error:
        raise ScoreError(
            f"{path}: the image is damaged or cut off ({error}): get the file again"
        ) from None
