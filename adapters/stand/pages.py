"""Pictures of the pages, as sharp as a screen wants them.

They are drawn by a process of its own (`python -m sf_adapters.stand.pages FILE...`), so
that no page, however large or broken, keeps the follower waiting.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from sf_plugin.errors import ScoreError
from sf_plugin.score.engraving import (
    MUSIC21_SUFFIXES,
    VEROVIO_SUFFIXES,
    load_engraved,
    open_toolkit,
    read_text,
    to_musicxml,
)
from sf_plugin.score.images import IMAGE_SUFFIXES, to_page
from sf_plugin.score.model import PAGE_WIDTH, PageImage
from sf_plugin.score.pdf import MUPDF_LOCK, mupdf
from sf_plugin.score.svg import Drawing

WIDTHS = (480, 848, 1240, 1754, 2480, 3508)
"""Pixels; A4 at 58 to 424 dots an inch."""

MOST_KEPT = 64_000_000
"""Bytes of pictures in memory."""

NICENESS = 5
"""The follower goes first."""

_SUFFIXES = (".pdf", *IMAGE_SUFFIXES, *VEROVIO_SUFFIXES, *MUSIC21_SUFFIXES)
_LENGTH = struct.Struct(">Q")

Draw = Callable[[int, int], Image.Image]
"""Page from 0 and width in pixels to a grey picture, about so wide."""

Size = tuple[float, float]


class Pictures:
    """The pages of a score as PNG files; drawn from one thread at a time.

    Args:
        files: of types that `can_draw` knows.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._artist = _Artist(files)
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._sizes: list[tuple[int, int]] = []

    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each page, 848 wide.

        Raises:
            ScoreError: the files cannot be read.
        """
        if not self._sizes:
            answer = self._artist.ask("sizes")
            if answer is None:
                raise ScoreError("the pages cannot be drawn: were their files moved?")
            self._sizes = [_scaled(size) for size in json.loads(answer)]
        return self._sizes

    def kept(self, page: int, width: int) -> bytes | None:
        """What `png` gives, where it was drawn before; from any thread, without delay."""
        with self._lock:
            if (page, width) in self._kept:
                self._kept.move_to_end((page, width))
            return self._kept.get((page, width))

    def png(self, page: int, width: int) -> bytes:
        """Page `page`, from 1, about `width` pixels wide.

        Raises:
            ScoreError: the page cannot be drawn.
        """
        drawn = self.kept(page, width) or self._artist.ask(f"{page - 1} {width}")
        if drawn is None:
            raise ScoreError(f"page {page} cannot be drawn: was its file moved?")
        with self._lock:
            if (page, width) not in self._kept:
                self._kept[page, width] = drawn
                self._kept_bytes += len(drawn)
            while self._kept_bytes > MOST_KEPT and len(self._kept) > 1:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return drawn

    def close(self) -> None:
        """End the process that draws; closing twice is harmless."""
        self._artist.close()


class _Artist:
    """The other process; begun when it is first needed, and again when it died."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [str(path.resolve()) for path in files]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, question: str) -> bytes | None:
        """The answer, or None where there is none; see `main`."""
        with self._lock:
            if self._closed:
                return None
            if self._process is None or self._process.poll() is not None:
                self._process = _begin(self._files)
            asked, told = self._process.stdin, self._process.stdout
            assert asked is not None and told is not None
            try:
                asked.write(f"{question}\n".encode())
                asked.flush()
                head = told.read(_LENGTH.size)
                length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
                answer = told.read(length)
            except OSError:
                return None
            return answer if answer and len(answer) == length else None

    def close(self) -> None:
        self._closed = True
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()


def _begin(files: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "sf_adapters.stand.pages", *files]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def can_draw(files: Sequence[Path]) -> bool:
    """Whether pages can be drawn anew from these files."""
    return bool(files) and all(path.name.lower().endswith(_SUFFIXES) for path in files)


def save_pages(pages: Sequence[PageImage], folder: Path) -> list[Path]:
    """Pages that no file gives, as files."""
    paths = [folder / f"{number:04}.png" for number in range(1, len(pages) + 1)]
    for path, page in zip(paths, pages, strict=True):
        path.write_bytes(_png(Image.fromarray(page)))
    return paths


def key_of(files: Sequence[Path]) -> str:
    """A name for the pages in these files; another when a file changes."""
    facts: list[str | int] = []
    for path in files:
        with suppress(OSError):
            stat = path.stat()
            facts += [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _scaled(size: Size) -> tuple[int, int]:
    width, height = size
    return PAGE_WIDTH, max(1, round(height * PAGE_WIDTH / width))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=6)
    return file.getvalue()


# in the other process


def open_pages(paths: Sequence[Path]) -> tuple[list[Size], Draw]:
    """The sizes of the pages of a score, in any unit, and what draws them.

    Raises:
        ScoreError: the files cannot be read.
    """
    if paths[0].name.lower().endswith(".pdf"):
        return _open_pdf(paths)
    if paths[0].name.lower().endswith(IMAGE_SUFFIXES):
        return _open_images(paths)
    return _open_engraved(paths[0])


def _open_pdf(paths: Sequence[Path]) -> tuple[list[Size], Draw]:
    books = [mupdf().open(str(path), filetype="pdf") for path in paths]
    index = [(book, number) for book in books for number in range(book.page_count)]
    sizes = [(page.rect.width, page.rect.height) for page in (book[n] for book, n in index)]

    def draw(page: int, width: int) -> Image.Image:
        book, number = index[page]
        return _rendered(book[number], width)

    return sizes, draw


def _rendered(page: Any, width: int) -> Image.Image:
    module = mupdf()
    zoom = width / page.rect.width
    with MUPDF_LOCK:
        pixmap = page.get_pixmap(
            matrix=module.Matrix(zoom, zoom), colorspace=module.csGRAY, alpha=False
        )
        grey = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.stride)
        module.TOOLS.store_shrink(100)
    return Image.fromarray(grey[:, : pixmap.width])


def _open_images(paths: Sequence[Path]) -> tuple[list[Size], Draw]:
    index: list[tuple[Path, int]] = []
    sizes: list[Size] = []
    for path in paths:
        with Image.open(path) as image:
            for frame in range(getattr(image, "n_frames", 1) if image.format == "TIFF" else 1):
                image.seek(frame)
                index.append((path, frame))
                turned = image.getexif().get(0x0112, 1) >= 5
                sizes.append((image.height, image.width) if turned else image.size)

    def draw(page: int, width: int) -> Image.Image:
        path, frame = index[page]
        with Image.open(path) as image:
            image.seek(frame)
            return _shrunk(image, width)

    return sizes, draw


def _shrunk(image: Image.Image, width: int) -> Image.Image:
    """Upright and grey, no larger than it is."""
    if image.mode not in ("1", "L", "RGB", "CMYK", "YCbCr") or "transparency" in image.info:
        return Image.fromarray(to_page(image))
    grey = ImageOps.exif_transpose(image).convert("L")
    if grey.width <= width:
        return grey
    height = max(1, round(grey.height * width / grey.width))
    return grey.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _open_engraved(path: Path) -> tuple[list[Size], Draw]:
    if path.name.lower().endswith(VEROVIO_SUFFIXES):
        text = read_text(path)
    else:
        text = to_musicxml(load_engraved([path]).symbols)
    toolkit = open_toolkit(text)
    drawings = [Drawing(toolkit.renderToSVG(n + 1)) for n in range(toolkit.getPageCount())]
    sizes = [(drawing.width, drawing.height) for drawing in drawings]

    def draw(page: int, width: int) -> Image.Image:
        flat = drawings[page].flat().encode()
        return _rendered(mupdf().open(stream=flat, filetype="svg")[0], width)

    return sizes, draw


def main() -> None:
    """Answer the questions on standard input until it ends.

    Each is a line, "sizes" or "PAGE WIDTH"; each answer is its length in 8 bytes and so many
    bytes of JSON or PNG, none where it cannot be given.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        sizes, draw = open_pages([Path(name) for name in sys.argv[1:]])
    except Exception:
        sizes, draw = [], _nothing
    for line in sys.stdin:
        answer = b""
        with suppress(Exception):
            if line.strip() == "sizes":
                answer = json.dumps(sizes).encode() if sizes else b""
            else:
                page, width = map(int, line.split())
                answer = _png(draw(page, width))
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _nothing(page: int, width: int) -> Image.Image:
    raise ScoreError("the files cannot be read")


if __name__ == "__main__":
    main()
