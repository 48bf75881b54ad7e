"""Page images in one zip file, in the order of their names: `scorefollow follow a.my-plugin`."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from sf_plugin import Score, ScoreError, hookimpl
from sf_plugin.hookspecs import RegisterPageLoader
from sf_plugin.score.model import PAGE_WIDTH, PageImage, Pages

SUFFIX = ".my-plugin"


@hookimpl
def register_page_loaders(register: RegisterPageLoader) -> None:
    register((SUFFIX,), load, help="page images in a zip file")


def load(paths: Sequence[Path]) -> Score:
    """The pages of one zip file; pixels are read when a page is asked for.

    Raises:
        ScoreError: it is damaged or holds no images.
    """
    if len(paths) > 1:
        raise ScoreError(f"{paths[1]}: only one {SUFFIX} file can be followed at a time")
    path = paths[0]
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if not name.endswith("/"))
    except (zipfile.BadZipFile, OSError) as error:
        raise ScoreError(f"{path}: is no zip file ({error}): make it again") from None
    if not names:
        raise ScoreError(f"{path}: holds no pages: put page images in")
    return Score(path.stem, Pages(len(names), lambda index: _page(path, names[index])))


def _page(path: Path, name: str) -> PageImage:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            image = Image.open(file).convert("L")
    except (zipfile.BadZipFile, OSError, UnidentifiedImageError) as error:
        raise ScoreError(f"{path}: {name} is no image ({error}): take it out") from None
    height = round(image.height * PAGE_WIDTH / image.width)
    return np.array(image.resize((PAGE_WIDTH, height)))
