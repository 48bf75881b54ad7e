"""Pages of PDF files, rendered one at a time."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sf_plugin.errors import ScoreError
from sf_plugin.score.model import PAGE_WIDTH, PageImage, Pages, Score

log = logging.getLogger("sf_plugin")

MUPDF_LOCK = threading.RLock()
"""MuPDF must not be used by two threads at once."""

TALLEST = 8.0
"""Greatest height of a page in page widths."""

_LOST = (
    "non-page object",
    "cannot load content stream",
    "premature end of data",
    "corrupt object stream",
    "Length incorrect",
    "cannot find page",
)


@cache
def mupdf() -> Any:
    """The pymupdf module, kept from writing to stderr."""
    import pymupdf

    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    return pymupdf


def rasterise(page: Any) -> PageImage:
    """A pymupdf page as shown (rotation applied), (height, PAGE_WIDTH) grey.

    Raises:
        ScoreError: the page has no area or the shape of no page.
    """
    width, height = page.rect.width, page.rect.height
    if not (math.isfinite(height) and width > 0 and 0 < height <= TALLEST * width):
        raise ScoreError(f"a page of {width:g} x {height:g} points is no page of music: crop it")
    zoom = PAGE_WIDTH / width
    module = mupdf()
    rows = max(1, round(height * zoom))
    pixmap = page.get_pixmap(
        matrix=module.Matrix(zoom, zoom), colorspace=module.csGRAY, alpha=False
    )
    rendered = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.stride)
    image = np.full((rows, PAGE_WIDTH), 255, np.uint8)
    h, w = min(rows, pixmap.height), min(PAGE_WIDTH, pixmap.width)
    image[:h, :w] = rendered[:h, :w]
    module.TOOLS.store_shrink(100)
    return image


def load_pdf(paths: Sequence[Path]) -> Score:
    """One document of all pages of the files, in the order given.

    Raises:
        ScoreError: a file is no PDF, locked, empty, cut off or damaged.
    """
    books = [_Book(path) for path in paths]
    index = [(book, number) for book in books for number in range(book.count)]

    def render(page: int) -> PageImage:
        book, number = index[page]
        return book.render(number)

    return Score(name=paths[0].stem, pages=Pages(len(index), render))


class _Book:
    """One open PDF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise ScoreError(f"{path}: the file is empty (0 bytes): get it again")
        module = mupdf()
        with MUPDF_LOCK:
            try:
                self.document = module.open(str(path), filetype="pdf")
                if not self.document.is_pdf:
                    raise ValueError("another format")
                locked = self.document.needs_pass
                self.count = 0 if locked else self.document.page_count
            except Exception:
                raise ScoreError(
                    f"{path}: not a readable PDF, or cut off: get the file again"
                ) from None
            if locked:
                raise ScoreError(
                    f"{path}: locked with a password: remove it first, for example with "
                    "'qpdf --decrypt --password=PASSWORD locked.pdf open.pdf'"
                )
            if self.document.is_repaired:
                self._survey()
            elif self.count == 0:
                raise ScoreError(f"{path}: the PDF has no pages: export it again")

    def _survey(self) -> None:
        """Refuse a damaged file unless every page survived."""
        lost = [number + 1 for number in range(self.count) if not self._survives(number)]
        if lost or self.count == 0:
            what = f"page {lost[0]} of {self.count} is" if lost else "its pages are"
            raise ScoreError(
                f"{self.path}: the PDF is cut off or damaged, {what} lost: get the file again"
            )
        log.warning("%s: the PDF is damaged; all %d pages could be read", self.path, self.count)

    def _survives(self, number: int) -> bool:
        tools = mupdf().TOOLS
        tools.reset_mupdf_warnings()
        try:
            page = self.document[number]
            if self.document.xref_get_key(page.xref, "Type")[1] != "/Page":
                return False
            page.get_pixmap(matrix=mupdf().Matrix(0.1, 0.1))
        except Exception:
            return False
        warnings = tools.mupdf_warnings()
        return not any(sign in warnings for sign in _LOST)

    def render(self, number: int) -> PageImage:
        """Page `number`, from 0."""
        with MUPDF_LOCK:
            try:
                return rasterise(self.document[number])
            except ScoreError as error:
                raise ScoreError(f"{self.path}, page {number + 1}: {error}") from None
            except Exception as error:
                raise ScoreError(
                    f"{self.path}, page {number + 1}: cannot be rendered ({error}): "
                    "export the PDF again"
                ) from None
