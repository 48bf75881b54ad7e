"""The pages with the music's place moving over them, as a video: `--video FILE.mp4[,HEIGHT]`.

Two pages stand side by side.  A page turn puts the page that was told in its place and
leaves the one before it, on which the music still is.  The measure is marked while the
place is known, faintly while it is unsure.  The sound is the recording's where a file is
followed; of live music the video is silent.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import Event, PageTurn, Position
from sf_plugin.score.layout import Layout, Measure, System
from sf_plugin.score.model import PageImage, Score
from sf_plugin.score.structure import measures_of
from sf_plugin.sinks import Sink

logger = logging.getLogger(__name__)

FPS = 25
HEIGHTS = range(240, 2161)
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
ENCODERS = {
    "libx264": ("-preset", "veryfast", "-crf", "22"),
    "libopenh264": ("-b:v", "3M"),
    "h264_videotoolbox": ("-b:v", "3M"),
    "mpeg4": ("-q:v", "4"),
}
"""Of ffmpeg, the first that it has; all but the last make H.264."""

DESK = (38, 40, 44)
MARK = (204, 224, 251)
FAINT = (226, 232, 240)
BAR = (24, 92, 190)
"""Red, green and blue of what is behind the pages, of a marked measure on white paper,
of one that is unsure, and of the bar at the place."""


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--video`."""
    register(
        "video",
        Video,
        help="write the pages with the moving place as a video, by ffmpeg; 1080 lines high, or "
        "HEIGHT; with the recording's sound where a file is followed",
        metavar="FILE.mp4[,HEIGHT]",
    )


def parse_target(target: str) -> tuple[Path, int]:
    """File and height in pixels of `FILE.mp4[,HEIGHT]`.

    Raises:
        SinkError: it is written in another way.
    """
    name, comma, height = target.rpartition(",")
    if not comma or Path(height).suffix:
        name, height = target, "1080"
    if not height.strip().isdecimal() or int(height) not in HEIGHTS:
        raise SinkError(
            f"--video {target}: '{height}' is no height: give {HEIGHTS[0]} to {HEIGHTS[-1]} pixels"
        )
    path = Path(name)
    if path.suffix.lower() not in CONTAINERS:
        raise SinkError(f"{path}: is no name of a video: end it in {', '.join(CONTAINERS)}")
    return path, int(height) // 2 * 2


def yuv(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Luma and chroma of a colour, as HD video has them (BT.709, limited range)."""
    r, g, b = (value / 255 for value in colour)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return (
        round(16 + 219 * y),
        round(128 + 224 * (b - y) / 1.8556),
        round(128 + 224 * (r - y) / 1.5748),
    )


Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Luma (height, width), and both chromas of half that size."""


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels of a picture from the top left; even, so that chroma has the same edges."""

    left: int
    top: int
    right: int
    bottom: int


class Picture:
    """A picture in yuv420p that is drawn on.

    Attributes:
        data: the bytes of a frame.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.data = np.empty(width * height * 3 // 2, np.uint8)
        edge, quarter = width * height, width * height // 4
        half = (height // 2, width // 2)
        self.planes: Planes = (
            self.data[:edge].reshape(height, width),
            self.data[edge : edge + quarter].reshape(half),
            self.data[edge + quarter :].reshape(half),
        )
        for plane, value in zip(self.planes, yuv(DESK), strict=True):
            plane[:] = value

    def put(self, image: PageImage, box: Box) -> None:
        """A page, to fill a box."""
        size = (box.right - box.left, box.bottom - box.top)
        page = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        luma, *chromas = self._inside(box)
        luma[:] = (page.astype(np.uint16) * 219 // 255 + 16).astype(np.uint8)
        for chroma in chromas:
            chroma[:] = 128

    def tint(self, box: Box, colour: tuple[int, int, int]) -> None:
        """White paper gets this colour; ink stays what it is."""
        luma, *chromas = self._inside(box)
        bright, *hues = yuv(colour)
        for chroma, hue in zip(chromas, hues, strict=True):
            paper = luma[::2, ::2].astype(np.int32) - 16
            chroma[:] = 128 + (hue - 128) * paper // 219
        luma[:] = (16 + (luma.astype(np.uint16) - 16) * (bright - 16) // 219).astype(np.uint8)

    def _inside(self, box: Box) -> Planes:
        luma, first, second = self.planes
        rows = slice(box.top // 2, box.bottom // 2)
        columns = slice(box.left // 2, box.right // 2)
        return (
            luma[box.top : box.bottom, box.left : box.right],
            first[rows, columns],
            second[rows, columns],
        )


def next_to(page: int, standing: tuple[int, ...], pages: int) -> tuple[int, ...]:
    """The pages that stand side by side when `page` is told: odd ones on the left.

    The page before stays where it stands already; otherwise the next comes beside.
    """
    if pages == 1:
        return (1,)
    other = page - 1 if page - 1 in standing or page == pages else page + 1
    return (page, other) if page % 2 else (other, page)


class Stand:
    """Pages side by side, and the place on them.

    Args:
        score: its pages are rendered when they are shown.
        height: pixels.
    """

    def __init__(self, score: Score, height: int) -> None:
        self._score = score
        self._width, self._height = height * 16 // 9 // 2 * 2, height
        self._pages: tuple[int, ...] = ()
        self._boxes: dict[int, Box] = {}
        self._paper = Picture(self._width, self._height)
        self._picture = Picture(self._width, self._height)
        self.size = (self._width, self._height)

    def turn(self, page: int) -> None:
        """Show a page."""
        pages = next_to(page, self._pages, len(self._score.pages))
        if pages == self._pages:
            return
        self._pages = pages
        self._paper = Picture(self._width, self._height)
        self._boxes = {}
        for column, number in enumerate(pages):
            image = self._score.pages[number - 1]
            self._boxes[number] = self._place(image, column, len(pages))
            self._paper.put(image, self._boxes[number])

    def draw(self, place: Position | None, system: System | None, measure: Measure | None) -> bytes:
        """A frame; without a place there is no mark."""
        self._picture.data[:] = self._paper.data
        if place is not None and place.page in self._boxes:
            page = self._boxes[place.page]
            top, bottom = place.y - 0.02, place.y + 0.02
            if system is not None:
                reach = 0.15 * (system.bottom - system.top)
                top, bottom = system.top - reach, system.bottom + reach
            if measure is not None:
                faint = place.state == "unsure"
                box = _within(page, measure.left, top, measure.right, bottom)
                self._picture.tint(box, FAINT if faint else MARK)
            if place.state == "tracking":
                half = 0.0014 * self._height / (page.right - page.left)
                self._picture.tint(_within(page, place.x - half, top, place.x + half, bottom), BAR)
        return self._picture.data.tobytes()

    def _place(self, image: PageImage, column: int, columns: int) -> Box:
        """As large as it can stand there."""
        margin = 0.02 * self._height
        room = (self._width - margin) / columns - margin, self._height - 2 * margin
        scale = min(room[0] / image.shape[1], room[1] / image.shape[0])
        width, height = scale * image.shape[1], scale * image.shape[0]
        middle = self._width / 2
        if columns == 2:
            middle += (width + margin) / 2 * (1 if column else -1)
        left, top = middle - width / 2, (self._height - height) / 2
        return Box(*(int(edge) // 2 * 2 for edge in (left, top, left + width, top + height)))


def _within(page: Box, left: float, top: float, right: float, bottom: float) -> Box:
    """A part of a page, given in fractions of it."""
    width, height = page.right - page.left, page.bottom - page.top
    x = [page.left + min(max(edge, 0.0), 1.0) * width for edge in (left, right)]
    y = [page.top + min(max(edge, 0.0), 1.0) * height for edge in (top, bottom)]
    edges = [round(edge / 2) * 2 for edge in (x[0], y[0], x[1], y[1])]
    return Box(edges[0], edges[1], max(edges[2], edges[0] + 2), max(edges[3], edges[1] + 2))


class Video(Sink):
    """Writes the video while the music goes on; it is whole when the session ends.

    The frames gather in `FILE.part`, which gets its name at the end; without any position
    there is no file.

    Args:
        target: `FILE.mp4[,HEIGHT]`.

    Raises:
        SinkError: the target is written in another way.
    """

    def __init__(self, target: str) -> None:
        self.path, self.height = parse_target(target)
        self._sound: Path | None = None
        self._part: Path | None = None
        self._stand: Stand | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._frames = 0
        self._frame: bytes | None = None
        self._drawn: tuple[object, ...] = ()
        self._measures: dict[int, Measure] = {}
        self._systems: dict[tuple[int, int], System] = {}

    def with_sound(self, path: Path) -> None:
        """Before `open`: the recording that is followed, to be heard with the pages."""
        self._sound = path

    def open(self, score: Score, layout: Layout) -> None:
        if self.path.is_dir():
            raise SinkError(f"{self.path}: is a folder: name a file in it")
        self._stand = Stand(score, self.height)
        self.extend(layout)
        encoder = choose_encoder()
        part = Path(f"{self.path.resolve()}.part")
        try:
            part.touch()
        except OSError as error:
            raise SinkError(
                f"{self.path}: cannot be written: {error.strerror}: choose another place"
            ) from None
        self._part = part
        if self._sound is None:
            logger.warning("%s will be silent: no recording is followed as a file", self.path.name)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._program = subprocess.Popen(
            self._command(encoder, part),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
        )
        with suppress(AttributeError, OSError):
            os.setpriority(os.PRIO_PROCESS, self._program.pid, 10)

    def _command(self, encoder: str, part: Path) -> list[str]:
        assert self._stand is not None
        width, height = self._stand.size
        words = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "rawvideo"]
        words += ["-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "pipe:0"]
        if self._sound is not None:
            words += ["-i", f"file:{self._sound}", "-map", "0:v:0", "-map", "1:a:0"]
            words += ["-c:a", "aac", "-b:a", "160k", "-shortest"]
        words += ["-c:v", encoder, *ENCODERS[encoder], "-pix_fmt", "yuv420p"]
        for what in ("colorspace", "color_primaries", "color_trc"):
            words += [f"-{what}", "bt709"]
        words += ["-movflags", "+faststart"] if self.path.suffix.lower() != ".mkv" else []
        return [*words, "-f", CONTAINERS[self.path.suffix.lower()], f"file:{part}"]

    def extend(self, layout: Layout) -> None:
        self._measures = {measure.number: measure for measure in measures_of(layout)}
        self._systems = {
            (page.page, index): system
            for page in layout.pages
            for index, system in enumerate(page.systems, 1)
        }

    def emit(self, event: Event) -> None:
        if self._stand is None or self._program is None:
            return
        match event:
            case PageTurn(half=False):
                self._stand.turn(event.page)
                self._drawn = ()
            case Position():
                if self._frame is None:
                    self._stand.turn(event.page)
                    self._frame = self._stand.draw(None, None, None)
                self._show_until(event.time)
                self._draw(event)

    def _draw(self, place: Position) -> None:
        """What the next frames show, if it is something else than the last did."""
        assert self._stand is not None
        known = place.state in ("tracking", "unsure")
        drawn = (known, place.page, place.x, place.y, place.state) if known else (known,)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        system = self._systems.get((place.page, place.system or 0))
        measure = self._measures.get(place.measure or 0)
        self._frame = self._stand.draw(place if known else None, system, measure)

    def _show_until(self, time: float) -> None:
        assert self._program is not None and self._program.stdin is not None
        try:
            while self._frame is not None and self._frames / FPS < time:
                self._program.stdin.write(self._frame)
                self._frames += 1
        except OSError:
            raise SinkError(self._failure()) from None

    def close(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        try:
            status = self._finish()
            if status == 0 and self._frames:
                part.replace(self.path)
            elif status and self._frames:
                raise SinkError(self._failure())
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)
            if self._said is not None:
                self._said.close()

    def _finish(self) -> int:
        program, self._program = self._program, None
        if program is None or program.stdin is None:
            return 0
        with suppress(OSError):
            program.stdin.close()
        return program.wait()

    def _failure(self) -> str:
        assert self._said is not None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{self.path}: ffmpeg failed ({lines[-1] if lines else 'no reason given'})"


def choose_encoder() -> str:
    """The first of `ENCODERS` that ffmpeg has.

    Raises:
        SinkError: there is no ffmpeg, or it has none of them.
    """
    try:
        listed = subprocess.run(
            ["ffmpeg", "-hide_banner", "-encoders"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        ).stdout.split()
    except OSError:
        raise SinkError(
            "--video needs the program ffmpeg: install it (Debian: apt install ffmpeg, "
            "macOS: brew install ffmpeg)"
        ) from None
    for name in ENCODERS:
        if name in listed:
            return name
    raise SinkError(
        f"--video: this ffmpeg has none of the encoders {', '.join(ENCODERS)}: install a full one"
    )
