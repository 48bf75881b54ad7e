from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_set import SMALL_CANVAS, draw_piece

from sf_plugin.dataset.engraving import BAR, VOLTA, Engraving
from sf_plugin.dataset.paper import PAPERS
from sf_plugin.dataset.shards import ShardSet, ShardWriter
from sf_plugin.training import train_bars
from sf_plugin.training.loader import CachedSet
from sf_plugin.training.train_bars import (
    Examples,
    MarkedPage,
    confusion,
    cut,
    make_examples,
    marked_page,
    table,
    train,
)
from sf_plugin.unet.bar_reader import AT_BAR, BARS, ENDINGS, BarReader, Glance

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_bars, "CANVAS", SMALL_CANVAS)


def signed_piece() -> Engraving:
    """One page: a repeat with a first ending over two measures, then a second one."""
    piece = draw_piece(pages=1)
    glyphs = [
        (0, 0.3, 0.5, 2, "|"), (0, 0.5, 1.0, 3, "|"), (0, 0.88, 2.5, 4, ":|."),
        (1, 0.5, 3.5, 5, ".|:-|"), (1, 0.88, 5.0, 6, "|."),
    ]  # fmt: skip
    piece.bars = np.array(glyphs, BAR)
    piece.voltas = np.array([(0, 0.5, 2.0, "1"), (0, 2.5, 3.0, "2")], VOLTA)
    return piece


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    writer = ShardWriter(tmp_path_factory.mktemp("set"))
    writer.add("signed", signed_piece(), {"piece": "signed", "use": "train"})
    writer.add("plain", draw_piece(1, 1), {"piece": "plain", "use": "train"})
    writer.add("other", draw_piece(2, 1), {"piece": "other", "use": "extra"})
    return writer.finish()


def engraved(shards: ShardSet, name: str) -> MarkedPage:
    kept = CachedSet(shards)
    image, rng = kept.page(name, 0), np.random.default_rng(0)
    page = marked_page(kept.tables(name), image, 0, PAPERS["engraved"], rng)
    assert page is not None
    return page


def test_what_stands_on_a_page_is_known(shards: ShardSet) -> None:
    page = engraved(shards, "signed")
    there = page.bars.shown > 0
    assert page.bars.system[there].tolist() == [0, 0, 0, 1, 1]
    assert [BARS[i] for i in page.bars.shown[there]] == ["plain", "plain", "end", "start", "final"]
    assert (np.diff(page.bars.x[there][:3]) > 0).all()
    apart = np.abs(page.bars.x[~there][:, None] - page.bars.x[there])
    same = page.bars.system[~there][:, None] == page.bars.system[there]
    assert len(apart) and apart[same].min() > 5
    assert page.endings.system.tolist() == [0, 0, 0, 1, 1]
    assert [ENDINGS[i] for i in page.endings.shown] == ["none", "1", "on", "2", "none"]


def test_windows_are_cut_at_what_stands_there(shards: ShardSet) -> None:
    page = engraved(shards, "signed")
    rng = np.random.default_rng(0)
    windows = cut(page, page.bars, Glance(AT_BAR, len(BARS)), False, rng)
    assert windows.windows.shape == (len(page.bars.x), 1, *AT_BAR.shape)
    assert windows.windows.dtype == torch.uint8
    assert windows.windows.flatten(1).amax(1).min() > 100  # staff lines at least
    assert windows.shown.tolist() == page.bars.shown.tolist()


def test_pages_with_signs_are_half_of_the_examples(shards: ShardSet) -> None:
    bars, endings = make_examples(shards, 4, 0)
    again, _ = make_examples(shards, 4, 0)
    torch.testing.assert_close(bars.windows, again.windows)
    # two windows at each sign of a page that comes twice for its endings, once for its repeats
    assert int((bars.shown == BARS.index("start")).sum()) >= 4
    assert int((endings.shown == ENDINGS.index("2")).sum()) >= 4
    assert int((bars.shown == BARS.index("plain")).sum()) >= 8


def dotted(count: int, seed: int) -> Examples:
    """Bar lines with dots on their left or right, a little off."""
    rng = np.random.default_rng(seed)
    height, width = AT_BAR.shape
    windows = rng.integers(0, 60, (count, 1, height, width)).astype(np.uint8)
    side = rng.integers(0, 2, count)
    for window, right in zip(windows[:, 0], side, strict=True):
        x = width // 2 + int(rng.integers(-3, 4))
        window[8:28, x : x + 2] = 255
        dot = x + (5 if right else -5)
        window[14:16, dot : dot + 2] = window[20:22, dot : dot + 2] = 255
    shown = np.where(side, BARS.index("start"), BARS.index("end"))
    return Examples(torch.from_numpy(windows), torch.from_numpy(shown))


def test_dots_left_and_right_of_a_bar_line_are_learnt_apart() -> None:
    torch.manual_seed(0)
    glance = Glance(AT_BAR, len(BARS))
    assert train(glance, dotted(600, 0), 60, 0) > 0.9
    fresh = dotted(100, 1)
    with torch.inference_mode():
        found = glance(fresh.windows.float() / 255).argmax(1)
    assert float((found == fresh.shown).float().mean()) > 0.9


def test_a_table_has_precision_and_recall() -> None:
    counts = np.array([[8, 2, 0], [0, 6, 0], [0, 0, 0]])
    assert table(counts, ("a", "b", "c")) == "a 1.000/0.800 of 10, b 0.750/1.000 of 6"


def test_every_true_bar_line_is_counted_once(shards: ShardSet) -> None:
    torch.manual_seed(0)
    bars, endings = confusion(BarReader().eval(), shards, "train", PAPERS["engraved"])
    assert bars[1:].sum(1).tolist() == [4, 0, 1, 1, 1, 0]  # plain, …, final, start, end
    assert endings.sum() == 5 + 2


def test_the_recipe_makes_weights(
    shards: ShardSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = tmp_path / "weights.safetensors"
    save_file({"ear": torch.ones(2), "bars.old": torch.ones(1)}, whole, {"version": "3"})
    monkeypatch.setattr(train_bars, "PAPERS", {"engraved": PAPERS["engraved"]})
    out = tmp_path / "bars.safetensors"
    words = [shards.path, out, "--into", whole, "--pages", 3, "--steps", 3]
    monkeypatch.setattr(sys, "argv", ["train_bars", *map(str, words)])
    train_bars.main()
    said = capsys.readouterr().out
    assert "windows at bar lines" in said and "engraved: " in said
    alone, inside = load_file(out), load_file(whole)
    BarReader().load_state_dict(alone)
    assert set(inside) == {"ear"} | {f"bars.{name}" for name in alone}
    for name, value in alone.items():
        torch.testing.assert_close(inside[f"bars.{name}"], value)
