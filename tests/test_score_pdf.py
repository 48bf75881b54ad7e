from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from sf_plugin.errors import ScoreError
from sf_plugin.score.model import PAGE_WIDTH
from sf_plugin.score.pdf import load_pdf


def book(pages: int = 5, width: float = 595, height: float = 842) -> pymupdf.Document:
    """Pages of staff lines; page n has a black block at a height that tells n."""
    document = pymupdf.open()
    for number in range(pages):
        page = document.new_page(width=width, height=height)
        for line in range(20):
            y = 60 + line * 30
            page.draw_line((40, y), (width - 40, y), width=0.5)
        page.draw_rect((50, 65 + 30 * (number % 20), 90, 85 + 30 * (number % 20)), fill=(0, 0, 0))
    return document


def save(path: Path, document: pymupdf.Document, **options: object) -> Path:
    document.save(path, **options)
    return path


def block_row(image: np.ndarray) -> float:
    """Middle of the black block in points of a page 595 wide."""
    rows = np.flatnonzero((image[:, 80:120] < 60).all(axis=1))
    return float(rows.mean()) * 595 / PAGE_WIDTH


def test_pages_come_in_order_at_working_width(tmp_path: Path) -> None:
    score = load_pdf([save(tmp_path / "a.pdf", book(3)), save(tmp_path / "b.pdf", book(2))])
    assert score.name == "a"
    assert score.layout is None
    assert len(score.pages) == 5
    for page, number in zip(score.pages, (0, 1, 2, 0, 1), strict=True):
        assert page.shape == (1200, PAGE_WIDTH)
        assert page.dtype == np.uint8
        assert block_row(page) == pytest.approx(75 + 30 * number, abs=1)
    staff = score.pages[0][:, 600]
    assert staff.max() == 255
    assert staff.min() < 200


@pytest.mark.parametrize(
    ("width", "height"), [(842, 595), (612, 792), (595.276, 841.89), (100.3, 333.7), (3000, 4000)]
)
def test_any_page_size_fills_the_working_width(tmp_path: Path, width: float, height: float) -> None:
    document = pymupdf.open()
    page = document.new_page(width=width, height=height)
    page.draw_rect(page.rect, fill=(0, 0, 0))
    image = load_pdf([save(tmp_path / "odd.pdf", document)]).pages[0]
    assert image.shape == (round(PAGE_WIDTH * height / width), PAGE_WIDTH)
    assert image[1:-1, 1:-1].max() == 0


def test_rotation_is_applied(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=400, height=600)
    page.draw_rect((0, 0, 100, 100), fill=(0, 0, 0))
    page.set_rotation(90)
    image = load_pdf([save(tmp_path / "turned.pdf", document)]).pages[0]
    assert image.shape == (round(PAGE_WIDTH * 400 / 600), PAGE_WIDTH)
    assert image[10:100, -100:-10].max() == 0
    assert image[10:100, 10:100].min() == 255


def test_absurd_strip_is_refused(tmp_path: Path) -> None:
    score = load_pdf([save(tmp_path / "strip.pdf", book(1, width=3, height=3000))])
    with pytest.raises(ScoreError, match=r"strip\.pdf, page 1: .*crop"):
        score.pages[0]


def test_encrypted_says_how_to_unlock(tmp_path: Path) -> None:
    path = save(
        tmp_path / "locked.pdf",
        book(1),
        encryption=pymupdf.PDF_ENCRYPT_AES_256,
        user_pw="secret",
        owner_pw="owner",
    )
    with pytest.raises(ScoreError, match=r"locked\.pdf: .*password.*qpdf --decrypt"):
        load_pdf([path])


def test_owner_password_alone_does_not_lock(tmp_path: Path) -> None:
    path = save(
        tmp_path / "owned.pdf", book(1), encryption=pymupdf.PDF_ENCRYPT_AES_256, owner_pw="owner"
    )
    assert len(load_pdf([path]).pages) == 1


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.pdf"
    path.touch()
    with pytest.raises(ScoreError, match=r"empty\.pdf: .*0 bytes"):
        load_pdf([path])


def test_no_pages(tmp_path: Path) -> None:
    objects = (
        b"1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n",
        b"2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n",
    )
    data, places = b"%PDF-1.4\n", []
    for text in objects:
        places.append(len(data))
        data += text
    start = len(data)
    data += b"xref\n0 3\n0000000000 65535 f \n"
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer\n<</Size 3/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start
    path = tmp_path / "none.pdf"
    path.write_bytes(data)
    with pytest.raises(ScoreError, match=r"none\.pdf: .*no pages"):
        load_pdf([path])


def test_blank_and_landscape_pages_stand_among_the_others(tmp_path: Path) -> None:
    document = book(2)
    document.new_page(0, width=595, height=842)
    document.new_page(2, width=842, height=595)
    pages = load_pdf([save(tmp_path / "mixed.pdf", document)]).pages
    assert [page.shape[0] for page in pages] == [1200, 1200, 599, 1200]
    assert [bool((page < 255).any()) for page in pages] == [False, True, False, True]


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", bytes(5000)])
def test_not_a_pdf(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "no.pdf"
    path.write_bytes(data)
    with pytest.raises(ScoreError, match=r"no\.pdf: .*again"):
        load_pdf([path])


def by_scanner(path: Path) -> Path:
    """Four pages of JPEG images, as scanners make them."""
    noise = np.random.default_rng(0)
    first, *rest = (
        Image.fromarray(noise.integers(100, 255, (420, 300), np.uint8)) for _ in range(4)
    )
    first.save(path, save_all=True, append_images=rest)
    return path


@pytest.mark.parametrize("fraction", [0.002, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("kind", ["plain", "deflated", "object streams", "scan"])
def test_truncated_is_refused_unless_every_page_survives(
    tmp_path: Path, kind: str, fraction: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.pdf"
    if kind == "scan":
        by_scanner(path)
    else:
        options = {
            "plain": {},
            "deflated": {"deflate": True},
            "object streams": {"deflate": True, "garbage": 3, "use_objstms": 1},
        }[kind]
        save(path, book(), **options)
    whole = [page.copy() for page in load_pdf([path]).pages]
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: int(len(data) * fraction)])
    try:
        score = load_pdf([path])
    except ScoreError as error:
        assert "cut.pdf" in str(error)
        assert "again" in str(error)
    else:
        assert fraction >= 0.7
        assert len(score.pages) == len(whole)
        assert all(np.array_equal(a, b) for a, b in zip(score.pages, whole, strict=True))
    assert "MuPDF" not in "".join(capfd.readouterr())


def test_lost_tail_keeps_a_readable_book_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "tail.pdf", book())
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"xref") - 8])
    score = load_pdf([path])
    assert block_row(score.pages[4]) == pytest.approx(75 + 120, abs=1)
    assert "tail.pdf: the PDF is damaged" in caplog.text


def test_memory_does_not_grow_with_the_book(tmp_path: Path) -> None:
    path = save(tmp_path / "long.pdf", book(400), deflate=True)
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from sf_plugin.score.pdf import load_pdf\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "pages = load_pdf([Path(sys.argv[1])]).pages\n"
        "pages[0], pages[1]\n"
        "before = peak()\n"
        "assert sum(page.shape[0] for page in pages) == 400 * 1200\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40, "megabytes for 398 pages of 1 MB each"
