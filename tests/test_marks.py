from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf
import pytest
import soundfile
import torch
from conftest import Run, page_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_set import SMALL_CANVAS, draw_piece

from sf_plugin.api import open_audio
from sf_plugin.dataset.mark_pages import (
    draw_phrase,
    families,
    find_fonts,
    lilypond_fonts,
    put_marks_on,
    set_phrase,
)
from sf_plugin.dataset.shards import ShardSet, ShardWriter
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.demo import ASSETS, load_truth
from sf_plugin.errors import WeightsError
from sf_plugin.positions import Position, event_from_json
from sf_plugin.score.layout import Layout, Measure
from sf_plugin.score.load import load_score
from sf_plugin.score.structure import find_roads
from sf_plugin.training import train_marks
from sf_plugin.training.train_marks import UNKNOWN, make_pages, train
from sf_plugin.unet.mark_reader import (
    CELL,
    KINDS,
    MORE,
    NONE,
    SPACE,
    Mark,
    MarkReader,
    bands,
    find_marks,
    load_reader,
    measure_of,
    once,
    scaled,
    with_marks,
)
from sf_plugin.unet.staff_reader import CELL_PIXELS, Staves
from sf_plugin.unet.weights import save_halves

torch.set_num_threads(1)

HEIGHT, WIDTH = 240, 640
LAYOUT = Layout.from_json((ASSETS / "layout.json").read_text())
TRUTH = load_truth(ASSETS / "truth.json", LAYOUT)
FINE, END = 15, 38
"""Measures of the demo's first movement: the end of its first part, and its last."""
RATE = 22050


def staves_at(*tops: float, slope: float = 0.0) -> Staves:
    """Systems of one staff each, with these rows of the top line half-way across the page."""
    x = CELL_PIXELS * (torch.arange(WIDTH // CELL_PIXELS) + 0.5) - WIDTH / 2
    lines = [torch.stack([top + slope * x, top + 4 * SPACE + slope * x]) for top in tops]
    return Staves(torch.stack(lines), torch.arange(len(tops)), torch.zeros(len(tops), 2))


def shown(*words: tuple[str, int, int, int]) -> np.ndarray:
    """Probabilities of a page with words: kind, row, first and past-the-last column of cells."""
    likely = np.zeros((len(KINDS), HEIGHT // CELL[0], WIDTH // CELL[1]), np.float32)
    for kind, row, first, last in words:
        likely[KINDS.index(kind), row - 1 : row + 2, first:last] = 0.95
    likely[KINDS.index(NONE)] = 1 - likely.sum(0)
    return likely


def read(*words: tuple[str, int, int, int]) -> list[tuple[str, int, int]]:
    """Kind and edges, in cells, of what is found in the upper half of a page."""
    band = np.repeat([[0.0], [HEIGHT / 2]], WIDTH // CELL_PIXELS, 1).astype(np.float32)
    found = find_marks(shown(*words), band, HEIGHT, WIDTH)
    return [(m.kind, round(m.left / CELL[1]), round(m.right / CELL[1])) for m in found]


def test_words_side_by_side_are_one_mark() -> None:
    assert read(("da capo", 10, 20, 24), (MORE, 10, 25, 33)) == [("da capo", 20, 33)]
    assert read(("fine", 10, 20, 24), ("segno", 10, 30, 32)) == [
        ("fine", 20, 24),
        ("segno", 30, 32),
    ]


def test_what_is_small_doubtful_elsewhere_or_only_more_is_no_mark() -> None:
    assert read(("segno", 10, 20, 21)) == []
    assert read((MORE, 10, 20, 28)) == []
    assert read(("fine", 45, 20, 24)) == []
    doubtful = shown(("fine", 10, 20, 24)) * 0.7
    band = np.repeat([[0.0], [HEIGHT / 2]], WIDTH // CELL_PIXELS, 1).astype(np.float32)
    assert find_marks(doubtful, band, HEIGHT, WIDTH) == []


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS[1:-1]),
    row=st.integers(2, 27),
    first=st.integers(1, 60),
    wide=st.integers(2, 15),
)
def test_a_mark_is_found_where_it_stands(kind: str, row: int, first: int, wide: int) -> None:
    assert read((kind, row, first, first + wide)) == [(kind, first, first + wide)]


@settings(max_examples=30, deadline=None)
@given(slope=st.floats(-0.05, 0.05))
def test_bands_lie_beside_the_staves_and_part_the_page(slope: float) -> None:
    staves = staves_at(60, 150, slope=slope)
    found = list(bands(staves, page_of(2, 2), HEIGHT))
    assert [number for number, _ in found] == [0, 0, 1, 1]
    (above, between, below, last) = (band for _, band in found)
    lines = staves.lines.numpy()
    np.testing.assert_allclose(above[1], lines[0, 0])
    np.testing.assert_allclose(between[0], lines[0, 1])
    np.testing.assert_allclose(between[1], below[0])
    np.testing.assert_allclose(below[1], lines[1, 0])
    np.testing.assert_allclose(last[0], lines[1, 1])
    assert all((band[0] <= band[1]).all() for _, band in found)


@pytest.mark.parametrize(
    ("kind", "left", "right", "measure"),
    [
        ("da capo", 200, 318, 1),  # ends at the bar line
        ("da capo", 100, 316, 1),  # and is wider than its measure
        ("fine", 300, 340, 1),  # stands over the bar line
        ("fine", 206, 300, 1),  # ends a little before it
        ("fine", 332, 400, 2),
        ("da capo", 322, 400, 1),  # begins at the bar line
        ("dal segno", 570, 640, 3),  # goes on beyond the system
        ("segno", 308, 322, 2),  # a little before the bar line
        ("segno", 326, 340, 2),
        ("segno", 250, 264, 1),  # inside a measure
        ("coda", 20, 60, 0),  # before the system
    ],
)
def test_a_mark_belongs_to_the_measure_at_whose_edge_it_stands(
    kind: str, left: float, right: float, measure: int
) -> None:
    measures = page_of(4).systems[0].measures  # edges at 64, 192, 320, 448, 576
    assert measure_of(measures, Mark(kind, left, right, 1.0), WIDTH, SPACE) == measure


def test_words_in_front_of_a_repeat_sign_are_about_the_measure_that_it_ends() -> None:
    measures = list(page_of(4).systems[0].measures)
    mark = Mark("da capo", 314, 410, 1.0)  # from a little before the bar line at 320
    assert measure_of(measures, mark, WIDTH, SPACE) == 1
    measures[2] = replace(measures[2], repeat_end=True)
    assert measure_of(measures, mark, WIDTH, SPACE) == 2


def test_what_two_systems_see_is_one_mark() -> None:
    above, below = Mark("fine", 100, 140, 0.9), Mark("fine", 104, 144, 0.95)
    other = Mark("segno", 100, 140, 0.9)
    before = [(0, above), (0, other)]
    assert once(before, [(1, below)]) == [(1, below)]
    assert before == [(0, other)]
    before = [(0, below)]
    assert once(before, [(1, above), (1, other)]) == [(1, other)]
    assert before == [(0, below)]
    assert once([(1, above)], [(1, below)]) == [(1, below)]


def test_a_measure_has_its_marks_and_to_coda_leads_away_from_its_end() -> None:
    marks = [
        (0, Mark("to coda", 520, 576, 0.9)),
        (0, Mark("segno", 190, 200, 0.9)),
        (1, Mark("fine", 160, 190, 0.9)),
        (1, Mark("fine", 160, 190, 0.9)),
        (1, Mark("da capo", 140, 192, 0.9)),
        (1, Mark("to coda", 520, 576, 0.9)),
    ]
    page = with_marks(page_of(4, 4), marks, WIDTH, SPACE)
    signs = [measure.signs for system in page.systems for measure in system.measures]
    assert signs == [(), ("segno",), (), (), ("coda", "fine", "da capo"), (), (), ("coda",)]


@pytest.mark.parametrize("systems", [(), (0,), (2,), (0, 3)])
def test_a_page_with_little_on_it_is_read(systems: tuple[int, ...]) -> None:
    page = page_of(*systems)
    ink = torch.zeros(1, 1, HEIGHT, WIDTH)
    none = Staves(torch.zeros(0, 2, 160), torch.zeros(0), torch.zeros(0, 2))
    for staves in (staves_at(60, 150), none):
        assert load_reader().read(ink, staves, page) == page


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "marks.safetensors"
    with pytest.raises(WeightsError, match="reinstall"):
        load_reader(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not the weights"):
        load_reader(path)
    reader = MarkReader().eval()
    save_halves(reader, path)
    ink = torch.rand(1, 1, 64, 128)
    with torch.inference_mode():
        torch.testing.assert_close(load_reader(path)(ink), reader(ink), atol=0.02, rtol=0.02)


# pages to learn from


@pytest.fixture(scope="module")
def fonts() -> list[list[Path]]:
    return families(find_fonts(sorted({font.parent for font in lilypond_fonts()})))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    writer = ShardWriter(tmp_path_factory.mktemp("set"))
    writer.add("piece", draw_piece(pages=1), {"piece": "piece", "use": "train"})
    return writer.finish()


def test_a_phrase_is_as_wide_as_its_words(fonts: list[list[Path]]) -> None:
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        phrase = draw_phrase(rng)
        stamp = set_phrase(phrase, 7.0, fonts, rng)
        kinds |= {kind for kind, _, _ in stamp.parts}
        for kind, left, right in stamp.parts:
            assert 0 <= left < right <= stamp.ink.shape[1] + 1
            assert stamp.ink[:, int(left) : int(right) + 1].max() > 0.3, kind
    assert kinds == set(KINDS) - {NONE}


def test_marks_are_put_where_they_belong(fonts: list[list[Path]], shards: ShardSet) -> None:
    piece = shards.load("piece")
    marked = put_marks_on(piece, fonts, np.random.default_rng(1), marks=3)
    marks = marked.signs[marked.signs["kind"] == "mark"]
    assert len(marks) >= 2
    assert (marked.pages != piece.pages).any()
    told = [s for m in _measures(measures_of_engraving(marked)) for s in m.signs]
    assert set(told) == set(marks["value"])
    assert put_marks_on(piece, fonts, np.random.default_rng(1), marks=0).pages.tolist() == (
        piece.pages.tolist()
    )


def test_cells_know_what_stands_in_them_and_it_is_learnt(
    fonts: list[list[Path]], shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_marks, "CANVAS", SMALL_CANVAS)
    pages = make_pages(shards, fonts, count=6, seed=0, workers=0)
    assert len(pages) == 6
    for page in pages:
        rows, columns = page.shown.shape
        assert page.ink.shape == (rows * CELL[0], columns * CELL[1])
        cells = page.ink.reshape(rows, CELL[0], columns, CELL[1]).max((1, 3))
        marks = (page.shown > 0) & (page.shown < UNKNOWN)
        if marks.any():
            assert cells[marks].mean() > cells[page.shown == 0].mean()
    assert any((page.shown > 0).any() for page in pages)
    torch.manual_seed(0)
    reader = MarkReader()
    losses = train(reader, pages, steps=40, seed=0)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_ink_is_scaled_to_whole_cells() -> None:
    rng = np.random.default_rng(0)
    ink = scaled(rng.random((301, 407), np.float32), 7.5)
    assert ink.shape == (240, 328)


# pages as users have them


def printed(folder: Path) -> Path:
    """The demo's score with "Fine" after its first part and "D.C. al Fine" after its movement."""
    path = folder / "marked.pdf"
    systems = LAYOUT.pages[0].systems
    with pymupdf.open(ASSETS / "score.pdf") as document:
        page = document[0]
        width, height = page.rect.width, page.rect.height
        for text, number, system in (("Fine", FINE, 3), ("D.C. al Fine", END, 7)):
            right = next(m.right for m in systems[system].measures if m.number == number)
            wide = pymupdf.get_text_length(text, "tibi", 11)
            at = right * width - wide, systems[system].bottom * height + 13
            page.insert_text(at, text, fontsize=11, fontname="tibi")
        document.save(path)
    return path


def _measures(layout: Layout) -> list[Measure]:
    return [m for page in layout.pages for system in page.systems for m in system.measures]


def played(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The movement once without its repeats, then to the fine; times and numbers of the onsets."""
    sound = np.concatenate(list(open_audio(ASSETS / "take.ogg").blocks(RATE)))
    stop = int(np.searchsorted(TRUTH.measure, END, side="right"))
    fine = int(np.searchsorted(TRUTH.measure, FINE, side="right"))
    begin, end, last = (float(TRUTH.time[i]) - 0.01 for i in (0, stop, fine))
    parts = [round(t * RATE) for t in (begin, end, last)]
    again = sound[parts[0] : parts[2]]
    soundfile.write(path, np.concatenate([sound[: parts[1]], again]), RATE)
    return (
        np.concatenate([TRUTH.time[:stop], TRUTH.time[:fine] + (end - begin)]),
        np.concatenate([np.arange(stop), np.arange(fine)]),
    )


def test_a_da_capo_is_read_off_the_pages_and_followed(scorefollow: Run, tmp_path: Path) -> None:
    pages = load_score(printed(tmp_path)).pages
    pictures = [tmp_path / f"{number}.png" for number in (1, 2)]
    for picture, page in zip(pictures, pages, strict=False):
        Image.fromarray(page).save(picture)
    seen = scorefollow("layout", *pictures)
    assert seen.returncode == 0, seen.stderr
    layout = Layout.from_json(seen.stdout)
    signs = {m.number: m.signs for m in _measures(layout) if m.signs}
    assert signs.get(FINE) == ("fine",)
    assert [number for number, kinds in signs.items() if "da capo" in kinds] == [END]
    assert (END, 1) in {(road.leave, road.enter) for road in find_roads(layout).roads}
    times, onsets = played(tmp_path / "take.wav")
    done = scorefollow("follow", *pictures, "--audio", "take.wav", "--out", "told.jsonl")
    assert done.returncode == 0, done.stderr
    told = [event_from_json(line) for line in (tmp_path / "told.jsonl").open()]
    positions = [event for event in told if isinstance(event, Position)]
    known = np.array([p.time for p in positions])
    said = [positions[i] for i in np.searchsorted(known, times + 0.075, side="right") - 1]
    measures = np.array([TRUTH.measure_at(p.page, p.x, p.y) for p in said])
    assert np.mean(measures == TRUTH.measure[onsets]) > 0.9
    again = np.flatnonzero(onsets == 0)[1] + 8
    assert np.mean(np.array([p.pass_ for p in said])[again:] == 2) > 0.9
    assert not [line for line in (tmp_path / "told.jsonl").open() if '"jump"' in line]
