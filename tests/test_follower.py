from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_network import RATE, random_network

from sf_plugin.bench import ASSETS, demo_sound
from sf_plugin.errors import ScoreError, WeightsError
from sf_plugin.followers import Follower
from sf_plugin.positions import STATES, Estimate
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Pages, Score
from sf_plugin.score.places import choose_pages
from sf_plugin.tracking.twins import AROUND
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.plugin import make_unet, register_followers
from sf_plugin.unet.weights import save_weights

HOP = 100
HEIGHT, WIDTH = 121, 83


def save_network(path: Path, sees_systems: bool) -> Path:
    """A random network whose maps say that a page is one system, or that it holds none.

    Its logits are as high as a trained network's where the music fits.
    """
    net = random_network()
    with torch.no_grad():
        net.maps.weight.zero_()
        assert net.maps.bias is not None
        net.maps.bias.copy_(torch.tensor([10.0 if sees_systems else -10.0] * 2 + [-10.0]))
        net.block_i.prior.bias.fill_(7)
    save_weights(net, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("net") / "sees.safetensors", sees_systems=True)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("net") / "blind.safetensors", sees_systems=False)


def make_pages(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8) for _ in range(count)]


def page_layout(page: int, first: int, systems: int = 2) -> PageLayout:
    return PageLayout(
        page,
        tuple(
            System(0.1 + 0.4 * i, 0.3 + 0.4 * i, 0.1, 0.9, (Measure(first + i, 0.1, 0.9),))
            for i in range(systems)
        ),
    )


def make_book(
    pages: int, render: Callable[[int], np.ndarray] = lambda index: make_pages(index + 1)[index]
) -> Score:
    """A system a page, known beforehand."""
    layout = Layout(tuple(page_layout(n, n, systems=1) for n in range(1, pages + 1)))
    return Score("book", Pages(pages, render), layout)


@pytest.fixture(scope="module")
def score() -> Score:
    """Music on pages 1 and 3, nothing on page 2."""
    layout = Layout((page_layout(1, 1), PageLayout(2), page_layout(3, 3)))
    return Score("three pages", make_pages(3), layout)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """2.5 s of notes of 0.2 s."""
    time = np.arange(int(2.5 * RATE)) / RATE
    pitch = 220 * 2 ** ((np.floor(time / 0.2) * 5 % 12) / 12)
    return (0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-6 * (time % 0.2))).astype(np.float32)


@pytest.fixture(scope="module")
def follower(weights: Path, score: Score) -> UNetFollower:
    made = UNetFollower(weights)
    made.prepare(score)
    return made


def hear(follower: UNetFollower, *blocks: np.ndarray) -> list[Estimate]:
    return [estimate for block in blocks for estimate in follower.feed(block)]


def test_there_is_an_estimate_a_frame_in_order_of_time(
    follower: UNetFollower, sound: np.ndarray
) -> None:
    follower.reset()
    estimates = hear(follower, sound)
    assert follower.sample_rate == RATE
    assert [e.time for e in estimates] == pytest.approx(
        [(n * HOP + 128) / RATE for n in range(len(estimates))], abs=1e-4
    )
    assert len(estimates) == (len(sound) - 128) // HOP + 1
    assert len({(e.page, e.x, e.y) for e in estimates}) > 3
    assert len({e.confidence for e in estimates}) > 20
    for e in estimates:
        assert e.page in (1, 3)
        assert 0 <= e.x <= 1
        assert 0 <= e.y <= 1
        assert 0 <= e.confidence <= 1
        assert e.state in STATES


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, int(2.5 * RATE)), max_size=15))
def test_how_samples_are_cut_changes_nothing(
    follower: UNetFollower, sound: np.ndarray, edges: list[int]
) -> None:
    follower.reset()
    whole = hear(follower, sound)
    follower.reset()
    assert hear(follower, *np.split(sound, sorted(edges))) == whole


@pytest.mark.parametrize("size", [1, 64, 100, 4096])
def test_blocks_of_one_size_change_nothing(
    follower: UNetFollower, sound: np.ndarray, size: int
) -> None:
    sound = sound[: RATE if size == 1 else None]
    follower.reset()
    whole = hear(follower, sound)
    follower.reset()
    blocks = [sound[i : i + size] for i in range(0, len(sound), size)]
    assert hear(follower, *blocks) == whole


def test_the_past_does_not_depend_on_the_future(follower: UNetFollower, sound: np.ndarray) -> None:
    follower.reset()
    whole = hear(follower, sound)
    follower.reset()
    half = hear(follower, sound[: len(sound) // 2])
    assert half == whole[: len(half)]
    assert len(half) > 40


def test_reset_forgets_the_performance_and_keeps_the_score(
    weights: Path, score: Score, sound: np.ndarray
) -> None:
    follower = UNetFollower(weights)
    follower.prepare(score)
    first = hear(follower, sound)
    hear(follower, np.ones(777, np.float32))
    follower.goto(3, 0.5, 0.5)
    follower.reset()
    assert hear(follower, sound) == first


def test_another_follower_gives_the_same_answers(
    follower: UNetFollower, weights: Path, score: Score, sound: np.ndarray
) -> None:
    other = UNetFollower(weights)
    other.prepare(score)
    follower.reset()
    assert hear(other, sound) == hear(follower, sound)


def test_a_silent_beginning_is_waiting(follower: UNetFollower) -> None:
    follower.reset()
    assert {e.state for e in hear(follower, np.zeros(2 * RATE, np.float32))} == {"waiting"}


def test_the_scores_own_layout_is_used_and_given_back(weights: Path, score: Score) -> None:
    assert UNetFollower(weights).prepare(score) == score.layout


def test_a_page_without_music_keeps_page_numbers_right(
    follower: UNetFollower, sound: np.ndarray
) -> None:
    follower.reset()
    follower.goto(3, 0.5, 0.6)
    estimates = hear(follower, sound[: RATE // 4])
    assert estimates[0].page == 3
    assert set(follower.document.page.tolist()) == {1, 3}
    assert follower.mask(2) is None


def test_systems_found_in_the_images_number_measures_through_the_document(weights: Path) -> None:
    layout = UNetFollower(weights).prepare(Score("found", make_pages(3)))
    assert [page.page for page in layout.pages] == [1, 2, 3]
    assert [m.number for p in layout.pages for s in p.systems for m in s.measures] == [1, 2, 3]


def test_blank_pages_cannot_be_followed(blind: Path) -> None:
    white = np.full((HEIGHT, WIDTH), 255, np.uint8)
    with pytest.raises(ScoreError, match=r"^empty\.pdf: no staves found on any page"):
        UNetFollower(blind).prepare(Score("empty.pdf", [white, white]))


def test_blank_pages_of_a_known_layout_cannot_be_followed(weights: Path) -> None:
    layout = Layout((PageLayout(1), PageLayout(2)))
    with pytest.raises(ScoreError, match="no staves found"):
        UNetFollower(weights).prepare(Score("empty.pdf", make_pages(2), layout))


def test_nothing_is_heard_before_there_is_a_score(weights: Path) -> None:
    follower = UNetFollower(weights)
    with pytest.raises(ScoreError, match="prepare"):
        list(follower.feed(np.zeros(100, np.float32)))
    assert follower.mask(1) is None
    follower.goto(1, 0.5, 0.5)
    follower.reset()


def test_the_mask_is_the_belief_painted_from_onset_to_onset(
    follower: UNetFollower, sound: np.ndarray
) -> None:
    follower.reset()
    hear(follower, sound)
    assert follower.tracker is not None
    belief = follower.tracker.belief()
    belief /= belief.max()
    document = follower.document
    for page in (1, 3):
        mask, encoded = follower.mask(page), follower.pages[page - 1]
        assert mask is not None and encoded is not None
        rows, columns = mask.shape
        assert (rows, columns) == (-(-HEIGHT // 4), -(-WIDTH // 4))
        assert mask.dtype == np.float32
        wanted = np.zeros((2, columns), np.float32)
        mine = np.flatnonzero(document.page == page)
        for system, (onsets, box) in enumerate(zip(wanted, encoded.systems, strict=True)):
            here = mine[encoded.system == system]
            columns_of = np.floor(document.x[here] * columns).astype(int)
            for onset, first, last in zip(
                here, columns_of, [*columns_of[1:], box.right], strict=True
            ):
                onsets[first:last] = belief[onset]
            assert columns_of[0] >= box.left
            assert (onsets[columns_of[0] : box.right] > 0).all()
        middles = [int((box.top + box.bottom) / 2 * rows) for box in encoded.layout.systems]
        np.testing.assert_allclose(mask[middles], wanted, rtol=1e-5)
        between = int(0.4 * rows)
        assert not mask[[0, between, -1]].any()
    masks = [follower.mask(page) for page in (1, 3)]
    assert max(float(mask.max()) for mask in masks if mask is not None) == 1


@pytest.mark.parametrize("page", [-1, 0, 2, 4])
def test_there_is_no_mask_where_there_is_no_music(follower: UNetFollower, page: int) -> None:
    assert follower.mask(page) is None


def test_goto_is_heard(follower: UNetFollower, sound: np.ndarray) -> None:
    follower.reset()
    hear(follower, sound[:RATE])
    for page, y in ((3, 0.6), (1, 0.2), (3, 0.2)):
        follower.goto(page, 0.5, y)
        mask = follower.mask(page)
        assert mask is not None
        row, column = np.unravel_index(int(mask.argmax()), mask.shape)
        assert row / mask.shape[0] == pytest.approx(y, abs=0.15)
        assert column / mask.shape[1] == pytest.approx(0.5, abs=0.25)


def test_only_the_chosen_pages_are_read_and_they_keep_their_numbers(
    weights: Path, sound: np.ndarray
) -> None:
    read: list[int] = []
    book = make_book(9, lambda index: read.append(index) or make_pages(9)[index])
    follower = UNetFollower(weights)
    layout = follower.prepare(choose_pages(book, "4-6"))
    assert read == [3, 4, 5]
    assert [page.page for page in layout.pages] == list(range(1, 10))
    assert [page.page for page in layout.pages if page.systems] == [4, 5, 6]
    assert {e.page for e in hear(follower, sound)} <= {4, 5, 6}


def test_a_performance_is_expected_where_it_is_said_to_begin(
    weights: Path, score: Score, sound: np.ndarray
) -> None:
    follower = UNetFollower(weights)
    follower.prepare(score)
    follower.expect(3, 0.1, 0.6)
    for _ in range(2):
        waiting = hear(follower, np.zeros(RATE, np.float32))
        assert {(e.page, e.state) for e in waiting} == {(3, "waiting")}
        assert waiting[0].y == pytest.approx(0.6, abs=0.01)
        hear(follower, sound)
        follower.reset()
    follower.prepare(score)
    assert hear(follower, np.zeros(RATE, np.float32))[0].page == 1


def test_later_pages_are_read_while_following_goes_on(weights: Path, sound: np.ndarray) -> None:
    pages = make_pages(20)
    whole = UNetFollower(weights)
    whole.prepare(make_book(20))
    go_on = Event()
    later = make_book(20, lambda i: pages[i] if i < 3 or go_on.wait(60) else pages[0])
    follower = UNetFollower(weights)
    with follower.read(later) as reading:
        assert reading.layout == later.layout
        assert set(follower.document.page) == {1, 2, 3}
        assert reading.more() is None
        estimates = hear(follower, sound)
        assert {e.page for e in estimates} <= {1, 2, 3}
        go_on.set()
        while follower.document.page[-1] < 20:
            reading.more()
            after = hear(follower, sound[:HOP])
            assert all(e.time > estimates[-1].time for e in after)
            last = int(follower.document.page[-1])
            assert set(follower.document.page) == set(range(1, last + 1))
    assert set(follower.document.page) == set(range(1, 21))
    follower.reset()
    whole.reset()
    assert hear(follower, sound) == hear(whole, sound)


def test_following_may_end_before_all_pages_are_read(weights: Path) -> None:
    pages = make_pages(4)
    read: list[int] = []
    ended = Event()

    def render(index: int) -> np.ndarray:
        read.append(index)
        if index == 3:
            assert ended.wait(60)
        return pages[index % 4]

    follower = UNetFollower(weights)
    with follower.read(make_book(400, render)) as reading:
        ended.set()
    reading.close()
    assert len(read) < 400


def test_a_later_page_that_cannot_be_read_is_left_out_with_a_warning(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages = make_pages(6)

    def render(index: int) -> np.ndarray:
        if index == 4:
            raise ScoreError("book.pdf, page 5: cannot be rendered: export the PDF again")
        return pages[index]

    follower = UNetFollower(weights)
    with follower.read(make_book(6, render)) as reading:
        while follower.document.page[-1] < 6:
            reading.more()
    assert set(follower.document.page) == {1, 2, 3, 4, 6}
    assert "page 5 is left out: book.pdf, page 5: cannot be rendered" in caplog.text
    with pytest.raises(ScoreError, match="page 5"):
        follower.prepare(make_book(6, render))


def test_the_first_pages_with_music_are_read_before_following_begins(
    weights: Path, blind: Path
) -> None:
    layout = Layout((*(PageLayout(n) for n in range(1, 6)), page_layout(6, 1)))
    follower = UNetFollower(weights)
    with follower.read(Score("title pages", make_pages(6), layout)) as reading:
        assert reading.layout == layout
        assert set(follower.document.page) == {6}
    with pytest.raises(ScoreError, match="no staves found on any page"):
        UNetFollower(blind).read(Score("blank", make_pages(6)))


def test_a_page_far_away_can_be_gone_to(weights: Path, sound: np.ndarray) -> None:
    follower = UNetFollower(weights)
    follower.prepare(make_book(30))
    for page in (3, 28):
        follower.goto(page, 0.5, 0.5)
        assert hear(follower, sound[: 2 * HOP])[0].page == page
    assert len(follower.document) < len(follower.places())
    far, near = follower.mask(3), follower.mask(28)
    assert far is not None and not far.any()
    assert near is not None and near.max() == 1


def test_pages_of_different_sizes_are_one_score(weights: Path, sound: np.ndarray) -> None:
    pages = [page[: 121 - 40 * (n % 2)] for n, page in enumerate(make_pages(4))]
    follower = UNetFollower(weights)
    follower.prepare(make_book(4, pages.__getitem__))
    assert set(follower.document.page) == {1, 2, 3, 4}
    assert hear(follower, sound)
    masks = [follower.mask(page) for page in range(1, 5)]
    assert [mask.shape[0] for mask in masks if mask is not None] == [31, 21, 31, 21]


def test_a_long_book_is_named_before_it_is_read(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        UNetFollower(weights).prepare(Score("book", make_pages(2) * 200), stop)
    assert "book: 400 pages are read before following begins" in caplog.text
    assert "--pages FIRST-LAST" in caplog.text


def test_reading_pages_reports_progress(weights: Path, score: Score) -> None:
    said: list[tuple[str, int, int]] = []
    UNetFollower(weights).prepare(score, lambda *step: said.append(step))
    assert [step[1:] for step in said] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_another_score_replaces_the_first(weights: Path, score: Score, sound: np.ndarray) -> None:
    follower = UNetFollower(weights)
    follower.prepare(score)
    hear(follower, sound)
    follower.prepare(Score("one page", make_pages(1), Layout((page_layout(1, 1),))))
    estimates = hear(follower, sound)
    assert {e.page for e in estimates} == {1}
    assert estimates[0].time == pytest.approx(128 / RATE)


def test_memory_does_not_grow_while_listening(follower: UNetFollower, sound: np.ndarray) -> None:
    follower.reset()
    sizes = []
    for _ in range(8):
        hear(follower, sound)
        sizes.append(len(pickle.dumps((follower.tracker, follower.spectrogram, follower.ear))))
    assert max(sizes[4:]) < max(sizes[:4]) + 100


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights"):
        UNetFollower(tmp_path / "none.safetensors")


def test_the_plugin_registers_the_follower_by_name() -> None:
    registered: dict[str, Callable[[], Follower]] = {}

    def register(name: str, factory: Callable[[], Follower], *, help: str = "") -> None:
        registered[name] = factory

    register_followers(register)
    assert registered == {"unet": make_unet}


@pytest.fixture(scope="module")
def demo() -> tuple[UNetFollower, NDArray[np.float32], list[Estimate]]:
    """A follower of the demo's pages, how the demo begins, and what it says of that."""
    follower = UNetFollower()
    follower.prepare(load_score(ASSETS / "score.pdf", layout=ASSETS / "layout.json"))
    sound = demo_sound(40, follower.sample_rate)
    return follower, sound, follower.feed(sound)


@pytest.mark.parametrize("pace", [2, 4])
def test_the_place_is_kept_where_frames_are_passed_over(
    demo: tuple[UNetFollower, NDArray[np.float32], list[Estimate]],
    pace: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower, sound, every = demo
    follower.reset()
    monkeypatch.setattr(follower, "hurry", pace)
    listened = 0
    hear = follower.hear

    def count(frame: NDArray[np.float32]) -> Any:
        nonlocal listened
        listened += 1
        return hear(frame)

    monkeypatch.setattr(follower, "hear", count)
    some = follower.feed(sound)
    assert [e.time for e in some] == [e.time for e in every]
    assert listened == len(every) // pace
    width = 1.0
    apart = [
        abs(a.x - b.x) if (a.page, a.y) == (b.page, b.y) else width
        for a, b in zip(every, some, strict=True)
        if a.state == "tracking"
    ]
    assert np.mean(np.array(apart) < 0.05) > 0.9


def test_a_page_that_comes_again_is_known_by_its_notes(
    demo: tuple[UNetFollower, NDArray[np.float32], list[Estimate]],
) -> None:
    pages = load_score(ASSETS / "score.pdf").pages
    follower = UNetFollower()
    follower.prepare(Score("first, second, first", [pages[0], pages[1], pages[0]]))
    kind, page = follower.document.kind, follower.document.page
    first, second, again = (np.flatnonzero(page == number) for number in (1, 2, 3))
    inside = slice(AROUND, len(first) - AROUND)
    assert kind[again[inside]].tolist() == kind[first[inside]].tolist()
    assert not np.isin(kind[second], kind[first]).all()
    alone = demo[0].document.kind
    assert len(np.unique(alone)) > 0.8 * len(alone)
