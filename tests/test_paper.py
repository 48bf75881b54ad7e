"""Spoilt pages: the labels go where the ink goes, and the ink stays to be read."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper import (
    NEARLY_CLEAN,
    PAPERS,
    Geometry,
    Ink,
    Light,
    Paper,
    Sensor,
    contact_sheet,
    draw_paper,
    moved,
    spoil,
    spoil_engraving,
)
from sf_plugin.dataset.paper_geometry import Bend, Lens, draw_warp, homography, ink_box

HEIGHT, WIDTH = 600, 424
CANVAS = (640, 448)
DOTS = [(x, y) for y in (90.0, 300.0, 510.0) for x in (60.0, 212.0, 364.0)]
RADIUS = 7

seeds = st.integers(0, 2**32 - 1)
canvases = st.sampled_from([None, CANVAS])


def sheet(dots: list[tuple[float, float]]) -> np.ndarray:
    """A ruled page with a border line, and discs where there is nothing else."""
    page = np.full((HEIGHT, WIDTH), 255, np.uint8)
    page[30:570:1, [20, 403]] = 0
    page[[30, 569], 20:404] = 0
    for top in (160, 380):
        page[top : top + 40 : 8, 30:394] = 60
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for x, y in dots:
        page[np.hypot(rows - y, columns - x) < RADIUS] = 0
    return page


WITH, WITHOUT = sheet(DOTS), sheet([])


def piece() -> Engraving:
    """Two pages of two systems of two staves, a head on every disc."""
    notes = [
        (page, 2 * page + int(y > 300), x / WIDTH, y / HEIGHT, 0, 9 * page + i, 0, 60, 1, False,
         0, 0, 0, 0)
        for page in (0, 1) for i, (x, y) in enumerate(DOTS)
    ]  # fmt: skip
    boxes = [(160, 196), (380, 416)]
    tops = [boxes[system % 2][0] for system in range(4)]
    systems = [
        (page, 0, 2, top / HEIGHT, bottom / HEIGHT, 30 / WIDTH, 394 / WIDTH)
        for page in (0, 1) for top, bottom in boxes
    ]  # fmt: skip
    staves = [
        (system, (tops[system] + shift) / HEIGHT, (tops[system] + shift + 14) / HEIGHT)
        for system in range(4) for shift in (0, 22)
    ]  # fmt: skip
    bars = [
        (system, x, 4 * system + i, 0, "|")
        for system in range(4)
        for i, x in enumerate((0.2, 0.5, 0.9))
    ]
    signs = [
        (system, 0, 0.1, boxes[system % 2][0] / HEIGHT, 0, "clef", "treble") for system in range(4)
    ]
    return Engraving.of_rows([WITH, WITH], notes, systems, staves, bars, (), signs)


def found_dots(paper: Paper, seed: int, canvas: tuple[int, int] | None) -> np.ndarray:
    """Distance in pixels of every disc from where the warp says, inf where it is gone."""
    image, warp = spoil(WITH, np.random.default_rng(seed), paper, canvas, WITHOUT)
    blank, _ = spoil(WITHOUT, np.random.default_rng(seed), paper, canvas, WITHOUT)
    ink = (blank.astype(float) - image).clip(0)
    x, y = np.array(DOTS).T
    x, y = warp.points(x / WIDTH, y / HEIGHT)
    away = []
    for u, v in zip(x * image.shape[1], y * image.shape[0], strict=True):
        left, top = int(u) - 14, int(v) - 14
        near = ink[max(top, 0) : top + 29, max(left, 0) : left + 29]
        near = np.where(near > 0.3 * near.max(), near, 0) if near.max() > 20 else near * 0
        if near.sum() == 0:
            away.append(np.inf)
            continue
        rows, columns = np.mgrid[: near.shape[0], : near.shape[1]] + 0.5
        at = (near * columns).sum() / near.sum(), (near * rows).sum() / near.sum()
        away.append(np.hypot(at[0] + max(left, 0) - u, at[1] + max(top, 0) - v))
    return np.array(away)


@pytest.mark.parametrize("name", PAPERS)
@settings(max_examples=10, deadline=None)
@given(seed=seeds, canvas=canvases)
def test_a_dot_lands_where_the_warp_says(
    name: str, seed: int, canvas: tuple[int, int] | None
) -> None:
    geometry_only = replace(PAPERS[name], ink=Ink(), light=Light(), sensor=Sensor())
    assert found_dots(geometry_only, seed, canvas).max() < 0.5
    assert np.median(found_dots(PAPERS[name], seed, canvas)) < 1


@settings(max_examples=40, deadline=None)
@given(seed=seeds, name=st.sampled_from(list(PAPERS)), canvas=canvases)
def test_points_and_origins_undo_each_other(
    seed: int, name: str, canvas: tuple[int, int] | None
) -> None:
    rng = np.random.default_rng(seed)
    warp = draw_warp(WITH, rng, PAPERS[name].geometry, canvas)
    x, y = rng.uniform(0, 1, (2, 5, 20))
    u, v = warp.points(x, y)
    assert u.shape == x.shape
    back = warp.origins(u, v)
    np.testing.assert_allclose(back, (x, y), atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, name=st.sampled_from(list(PAPERS)), canvas=canvases)
def test_all_ink_stays_in_the_picture(seed: int, name: str, canvas: tuple[int, int] | None) -> None:
    warp = draw_warp(WITH, np.random.default_rng(seed), PAPERS[name].geometry, canvas)
    left, top, right, bottom = ink_box(WITH)
    assert (left, top, right, bottom) == (20, 30, 404, 570)
    t = np.linspace(0, 1, 30)
    across, down = left + t * (right - left), top + t * (bottom - top)
    x = np.concatenate([across, across, 0 * t + left, 0 * t + right]) / WIDTH
    y = np.concatenate([0 * t + top, 0 * t + bottom, down, down]) / HEIGHT
    u, v = warp.points(x, y)
    column, row, width, height = warp.place
    u, v = u * warp.picture[1], v * warp.picture[0]
    assert u.min() > column and u.max() < column + width
    assert v.min() > row and v.max() < row + height


@settings(max_examples=50, deadline=None)
@given(
    slope=st.floats(0.01, 0.6), reach=st.floats(0.08, 0.25), spine=st.sampled_from([0, 1]),
    k=st.floats(-0.1, 0.1),
)  # fmt: skip
def test_no_page_folds_over_itself(slope: float, reach: float, spine: int, k: float) -> None:
    x = np.linspace(-50, 900, 300)
    bent, _ = Bend(slope, reach, spine, 848, 1199).forward(x, np.zeros_like(x))
    assert (np.diff(bent) > 0).all()
    seen, _ = Lens(k, 734, (424, 600)).forward(x, np.full_like(x, 600))
    assert (np.diff(seen) > 0).all()


def test_a_homography_takes_the_corners_where_they_belong() -> None:
    old = np.array([[0, 0], [8, 0], [8, 12], [0, 12]], float)
    new = old + np.array([[0.5, 0.1], [-0.2, 0.3], [0.4, -0.3], [0, 0.2]])
    matrix = homography(old, new)
    u, v, w = matrix @ np.column_stack([old, np.ones(4)]).T
    np.testing.assert_allclose(np.stack([u / w, v / w], 1), new, atol=1e-12)


@pytest.mark.parametrize("name", PAPERS)
def test_the_same_seed_gives_the_same_page(name: str) -> None:
    first, again, other = (
        spoil(WITH, np.random.default_rng(seed), PAPERS[name], CANVAS)[0] for seed in (1, 1, 2)
    )
    assert first.dtype == np.uint8 and first.shape == CANVAS
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_engraved_page_stays_as_it_is() -> None:
    image, warp = spoil(WITH, np.random.default_rng(0), PAPERS["engraved"])
    assert np.array_equal(image, WITH)
    x = np.array([0.0, 0.3, 1.0])
    np.testing.assert_allclose(warp.points(x, x), (x, x), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in PAPERS if name != "engraved"])
def test_a_spoilt_page_differs_and_leaves_the_callers_alone(name: str) -> None:
    before = WITH.copy()
    image, _ = spoil(WITH, np.random.default_rng(3), PAPERS[name])
    assert image.shape == WITH.shape
    assert np.mean(np.abs(image.astype(int) - WITH)) > 1
    assert np.array_equal(WITH, before)


def test_a_canvas_is_white_around_the_page() -> None:
    image, warp = spoil(WITH, np.random.default_rng(4), PAPERS["bad scan"], CANVAS)
    left, top, width, height = warp.place
    around = np.ones(CANVAS, bool)
    around[top : top + height, left : left + width] = False
    assert around.any() and (image[around] == 255).all()
    assert 0.85 * HEIGHT < height <= 1.02 * HEIGHT


def test_blank_and_landscape_pages_are_taken_too() -> None:
    for shape in ((HEIGHT, WIDTH), (300, 500)):
        for name, paper in PAPERS.items():
            blank = np.full(shape, 255, np.uint8)
            image, _ = spoil(blank, np.random.default_rng(5), paper, (640, 512))
            assert image.shape == (640, 512), name


@pytest.mark.parametrize(
    ("paper", "darker"),
    [
        (Paper(ink=Ink(weight=(0.9, 0.9))), True),
        (Paper(ink=Ink(weight=(-0.9, -0.9))), False),
        (Paper(ink=Ink(fade=(0.4, 0.4))), False),
        (Paper(ink=Ink(bleed=(0.2, 0.2))), True),
        (Paper(ink=Ink(pencil=(30, 30))), True),
        (Paper(ink=Ink(tone=(0.3, 0.3))), True),
        (Paper(ink=Ink(stains=(6, 6))), True),
        (Paper(light=Light(gradient=(0.5, 0.5))), True),
        (Paper(light=Light(shadow=(0.5, 0.5))), True),
        (Paper(light=Light(vignette=(0.5, 0.5))), True),
        (Paper(sensor=Sensor(streaks=(1, 1))), True),
    ],
)
def test_each_fault_changes_the_light_of_the_page_the_way_it_says(
    paper: Paper, darker: bool
) -> None:
    image, _ = spoil(WITH, np.random.default_rng(6), paper)
    change = image.mean() - WITH.mean()
    assert change < -0.2 if darker else change > 0.2


def test_the_gutter_is_darkest_at_the_spine() -> None:
    paper = Paper(Geometry(slope=(0.5, 0.5)), light=Light(gutter=(0.7, 0.7)))
    blank = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for seed in range(4):
        image, warp = spoil(blank, np.random.default_rng(seed), paper)
        assert warp.bend is not None
        spine, edge = image[:, 5].mean(), image[:, -6].mean()
        if warp.bend.spine:
            spine, edge = edge, spine
        assert spine < edge - 40


def test_a_threshold_leaves_black_and_white() -> None:
    for kind in ("fixed", "adaptive"):
        sensor = Sensor(threshold=kind, steepness=(300, 300))
        shaded = Paper(light=Light(gradient=(0.3, 0.3)), sensor=sensor)
        image, _ = spoil(WITH, np.random.default_rng(7), shaded)
        assert np.isin(image, (0, 255)).mean() > 0.97
        assert (image[WITH == 0] < 128).mean() > 0.95
    with pytest.raises(ValueError, match="threshold"):
        Sensor(threshold="clever")
    with pytest.raises(ValueError, match="fold"):
        Geometry(slope=(0, 0.9))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, name=st.sampled_from(list(PAPERS)))
def test_a_piece_moves_as_a_whole(seed: int, name: str) -> None:
    old = piece()
    new = spoil_engraving(old, np.random.default_rng(seed), PAPERS[name])
    assert new.pages.shape == old.pages.shape
    assert np.array_equal(old.notes, piece().notes)
    for key in ("onset", "pitch", "page", "system"):
        assert np.array_equal(new.notes[key], old.notes[key])
    for page in (0, 1):
        top, bottom = (new.systems[s][new.systems["page"] == page] for s in ("top", "bottom"))
        assert (top < bottom).all() and bottom[0] < top[1]
    assert (new.systems["left"] < new.systems["right"]).all()
    for i, system in enumerate(new.systems):
        staves = new.staves[new.staves["system"] == i]
        assert abs(staves["top"][0] - system["top"]) < 1e-3
        assert abs(staves["bottom"][1] - system["bottom"]) < 1e-3
        bars = new.bars["x"][new.bars["system"] == i]
        assert (np.diff(bars) > 0.1).all()
        assert system["left"] < bars[0] and bars[-1] < system["right"] + 0.01


def test_only_the_pages_asked_for_move() -> None:
    old = piece()
    _, warp = spoil(old.pages[1], np.random.default_rng(8), PAPERS["photo"])
    new = moved(old, {1: warp})
    for table in ("notes", "systems"):
        before, after = getattr(old, table), getattr(new, table)
        first = before["page"] == 0
        assert np.array_equal(after[first], before[first])
        assert not np.array_equal(after[~first], before[~first])
    for table in ("staves", "bars", "signs"):
        before, after = getattr(old, table), getattr(new, table)
        first = before["system"] < 2
        assert np.array_equal(after[first], before[first])
        assert not np.array_equal(after[~first], before[~first])
    here = old.notes["page"] == 1
    x, y = warp.points(old.notes["x"][here], old.notes["y"][here])
    np.testing.assert_allclose(new.notes["x"][here], x, rtol=1e-6)
    np.testing.assert_allclose(new.notes["y"][here], y, rtol=1e-6)


def test_papers_drawn_for_training_are_a_third_nearly_clean() -> None:
    papers = [draw_paper(np.random.default_rng(seed)) for seed in range(600)]
    clean = sum(paper in (NEARLY_CLEAN, PAPERS["engraved"]) for paper in papers)
    assert 0.28 < clean / len(papers) < 0.42
    for part in ("geometry", "ink", "light", "sensor"):
        drawn = {getattr(paper, part) for paper in papers}
        assert drawn >= {getattr(paper, part) for paper in PAPERS.values()}
    assert pickle.loads(pickle.dumps(papers[0])) == papers[0]


def test_the_contact_sheet_shows_every_paper() -> None:
    sheet = contact_sheet(WITH, np.random.default_rng(9))
    assert sheet.dtype == np.uint8 and sheet.ndim == 2
    rows = np.array_split(sheet, 3)
    tiles = [tile for row in rows for tile in np.array_split(row, 3, axis=1)]
    assert len(tiles) == len(PAPERS)
    assert all((tile < 128).mean() > 0.005 for tile in tiles)
