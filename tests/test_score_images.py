from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sf_plugin.errors import ScoreError
from sf_plugin.score.images import load_images
from sf_plugin.score.model import PAGE_WIDTH


def page(number: int = 0, width: int = 1000, height: int = 1400) -> np.ndarray:
    """Five staff lines a system, and a block whose place tells the page."""
    image = np.full((height, width), 255, np.uint8)
    for system in range(4):
        for line in range(5):
            row = 100 + 300 * system + 20 * line
            image[row : row + 3, 50:-50] = 0
    image[210:250, 100 + 100 * number : 160 + 100 * number] = 0
    return image


def write(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def number_of(image: np.ndarray) -> int:
    columns = np.flatnonzero((image[182:208] < 80).all(axis=0)) * 1000 / PAGE_WIDTH
    return round((columns.mean() - 130) / 100)


def test_files_keep_their_order(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "z.png", Image.fromarray(page(0))),
        write(tmp_path / "a.jpg", Image.fromarray(page(1)), quality=90),
        write(tmp_path / "m.tif", Image.fromarray(page(2))),
    ]
    score = load_images(paths)
    assert [number_of(p) for p in score.pages] == [0, 1, 2]
    assert score.pages[0].shape == (round(1400 * PAGE_WIDTH / 1000), PAGE_WIDTH)
    assert score.pages[0].dtype == np.uint8


def test_tiff_of_several_pages(tmp_path: Path) -> None:
    first, *rest = (Image.fromarray(page(n)) for n in range(5))
    path = write(tmp_path / "book.tiff", first, save_all=True, append_images=rest)
    png = write(tmp_path / "last.png", Image.fromarray(page(6)))
    score = load_images([path, png])
    assert len(score.pages) == 6
    assert [number_of(p) for p in score.pages] == [0, 1, 2, 3, 4, 6]
    assert number_of(score.pages[2]) == 2


def test_a_long_tiff_of_different_pages_is_read_where_it_is_asked(tmp_path: Path) -> None:
    sizes = [(1000, 1400), (1400, 1000), (600, 840), (2000, 1400)]
    first, *rest = (Image.fromarray(page(n % 7)).resize(sizes[n % 4]) for n in range(60))
    path = write(tmp_path / "book.tif", first, save_all=True, append_images=rest)
    pages = load_images([path]).pages
    assert len(pages) == 60
    for n in (57, 2, 59, 0):
        width, height = sizes[n % 4]
        assert pages[n].shape == (round(height * PAGE_WIDTH / width), PAGE_WIDTH)
    assert number_of(pages[56]) == 56 % 7


def reference() -> np.ndarray:
    small = Image.fromarray(page(3)).resize((PAGE_WIDTH, 1187), Image.Resampling.LANCZOS)
    return np.asarray(small).astype(float)


def encoded(kind: str) -> Image.Image:
    grey = page(3)
    image = Image.fromarray(grey)
    if kind == "16 bit":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    if kind == "32 bit":
        return Image.fromarray(grey.astype(np.int32) * 257)
    if kind == "float":
        return Image.fromarray(grey.astype(np.float32) / 255)
    if kind == "palette":
        return image.convert("RGB").quantize(8)
    if kind == "alpha":
        clear = Image.new("RGBA", image.size, (0, 0, 0, 0))
        clear.putalpha(Image.fromarray(255 - grey))
        return clear
    if kind == "grey alpha":
        return Image.merge("LA", (Image.new("L", image.size, 0), Image.fromarray(255 - grey)))
    return image.convert({"1 bit": "1", "colour": "RGB", "cmyk": "CMYK"}[kind])


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("1 bit", "png"),
        ("1 bit", "tif"),
        ("16 bit", "png"),
        ("16 bit", "tif"),
        ("32 bit", "tif"),
        ("float", "tif"),
        ("palette", "png"),
        ("alpha", "png"),
        ("grey alpha", "png"),
        ("colour", "jpg"),
        ("cmyk", "tif"),
        ("cmyk", "jpg"),
    ],
)
def test_every_encoding_gives_the_same_page(tmp_path: Path, kind: str, suffix: str) -> None:
    image = load_images([write(tmp_path / f"page.{suffix}", encoded(kind))]).pages[0]
    assert np.abs(image - reference()).mean() < 3
    assert number_of(image) == 3


def test_fax_tiff_is_black_on_white(tmp_path: Path) -> None:
    path = write(tmp_path / "fax.tif", encoded("1 bit"), compression="group4")
    assert number_of(load_images([path]).pages[0]) == 3


def test_transparent_palette(tmp_path: Path) -> None:
    image = Image.fromarray((page(3) > 0).astype(np.uint8), mode=None).convert("P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    path = write(tmp_path / "clear.png", image, transparency=1)
    assert number_of(load_images([path]).pages[0]) == 3


@pytest.mark.parametrize(("tag", "turn"), [(3, 180), (6, 90), (8, 270)])
def test_exif_orientation(tmp_path: Path, tag: int, turn: int) -> None:
    sideways = Image.fromarray(page(2)).rotate(turn, expand=True)
    exif = Image.Exif()
    exif[0x0112] = tag
    path = write(tmp_path / "phone.jpg", sideways, exif=exif, quality=95)
    image = load_images([path]).pages[0]
    assert image.shape == (1187, PAGE_WIDTH)
    assert number_of(image) == 2


def test_downscaling_keeps_thin_lines(tmp_path: Path) -> None:
    large = np.full((4800, 3392), 255, np.uint8)
    large[10::43] = 0
    image = load_images([write(tmp_path / "scan.png", Image.fromarray(large))]).pages[0]
    assert image.shape == (1200, PAGE_WIDTH)
    ink = 255 - image[:, 400].astype(float)
    assert ink[50:-50].mean() == pytest.approx(255 / 43, rel=0.05)
    lines = [ink[round((row - 6) / 4) : round((row + 8) / 4)].max() for row in range(53, 4700, 43)]
    assert min(lines) > 25, "every line leaves a trace"


def test_small_images_grow(tmp_path: Path) -> None:
    path = write(tmp_path / "small.png", Image.fromarray(page()).resize((300, 420)))
    assert load_images([path]).pages[0].shape == (round(420 * PAGE_WIDTH / 300), PAGE_WIDTH)


def test_photo_on_a_dark_table_stays_as_it_is(tmp_path: Path) -> None:
    photo = np.full((1600, 1200), 25, np.uint8)
    photo[100:1500, 100:1100] = (page().astype(float) * 0.7 + 20).astype(np.uint8)
    image = load_images([write(tmp_path / "photo.jpg", Image.fromarray(photo))]).pages[0]
    assert image[:50].mean() < 40
    assert image[600, 300] > 150


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.6, 0.9])
def test_cut_off_file(tmp_path: Path, suffix: str, fraction: float) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (600, 400), np.uint8)
    path = write(tmp_path / f"cut.{suffix}", Image.fromarray(noise))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ScoreError, match=rf"cut\.{suffix}: "):
        load_images([path]).pages[0]


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff"])
def test_not_an_image(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "no.png"
    path.write_bytes(data)
    with pytest.raises(ScoreError, match=r"no\.png: "):
        load_images([path])


@pytest.mark.parametrize("side", [14000, 40000])
def test_decompression_bomb(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try:
        path.write_bytes(_blank_png(side))
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with pytest.raises(ScoreError, match=r"bomb\.png: .*scale it down"):
        load_images([path])


def _blank_png(side: int) -> bytes:
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 15) // 8 * side), 1)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_strip_is_no_page(tmp_path: Path) -> None:
    path = write(tmp_path / "strip.png", Image.new("L", (4, 3000)))
    with pytest.raises(ScoreError, match=r"strip\.png: .*crop"):
        load_images([path])
