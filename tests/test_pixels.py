from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_set import TINY, TINY_PAPER, draw_piece

from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.pixels import MASKED, PixelFollower, shrunk
from sf_plugin.unet.plugin import make_unet
from sf_plugin.unet.weights import save_weights


@pytest.fixture
def follower(tmp_path: Path) -> PixelFollower:
    torch.manual_seed(0)
    net = ScoreUNet(TINY_PAPER)
    torch.nn.init.normal_(net.mask.weight, std=3)
    save_weights(net, tmp_path / "paper.safetensors")
    return PixelFollower(tmp_path / "paper.safetensors")


@pytest.fixture
def score() -> Score:
    return Score("two pages", list(draw_piece().pages))


@pytest.fixture
def sound() -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(22050)
    return (0.1 * noise).astype(np.float32)


def test_the_place_is_where_the_mask_is_highest(
    follower: PixelFollower, score: Score, sound: np.ndarray
) -> None:
    follower.prepare(score)
    for start in range(0, len(sound), 4410):
        for said in follower.feed(sound[start : start + 4410])[-1:]:
            masks = [follower.mask(page) for page in (1, 2)]
            assert all(mask is not None and mask.shape == (91, 64) for mask in masks)
            mask = masks[said.page - 1]
            assert mask is not None
            highest = max(float(each.max()) for each in masks if each is not None)
            assert mask[int(said.y * 91), int(said.x * 64)] == pytest.approx(highest)
            assert said.confidence == pytest.approx(highest, abs=1e-4)
            assert said.state in ("tracking" if highest > MASKED else ("waiting", "unsure"))
    assert follower.mask(3) is None


def test_blocks_change_nothing_and_a_reset_forgets(
    follower: PixelFollower, score: Score, sound: np.ndarray
) -> None:
    follower.prepare(score)
    whole = follower.feed(sound)
    assert len(whole) == 20
    assert len({(said.x, said.y) for said in whole}) > 1
    follower.reset()
    assert follower.mask(1) is None
    again = [said for part in np.split(sound, [1000, 9000]) for said in follower.feed(part)]
    for one, other in zip(whole, again, strict=True):
        assert (one.time, one.page, one.x, one.y) == (other.time, other.page, other.x, other.y)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


def test_it_hears_as_in_training(follower: PixelFollower, score: Score, sound: np.ndarray) -> None:
    follower.prepare(score)
    follower.feed(sound)
    with torch.no_grad():
        follower.spectrogram.reset()
        frames = torch.from_numpy(follower.spectrogram.feed(sound))
        z, _ = follower.net.audio(frames[None])
        ink = 1 - torch.from_numpy(score.pages[1])[None, None].float() / 255
        cache = follower.net.page.encode(shrunk(ink, 64))
        wanted = torch.sigmoid(follower.net.page_logits(cache, z[0, -1:]))[0]
    np.testing.assert_allclose(follower.mask(2), wanted, atol=1e-4)


def test_without_a_layout_the_pages_are_blank(follower: PixelFollower, score: Score) -> None:
    layout = follower.prepare(score)
    assert [(page.page, page.systems) for page in layout.pages] == [(1, ()), (2, ())]
    known = Layout(layout.pages)
    assert follower.prepare(Score("known", score.pages, known)) is known


def test_a_score_is_needed(follower: PixelFollower, sound: np.ndarray) -> None:
    with pytest.raises(ScoreError, match="prepare"):
        follower.feed(sound)


@pytest.mark.parametrize(("config", "kind"), [(TINY, UNetFollower), (TINY_PAPER, PixelFollower)])
def test_weights_know_their_follower(tmp_path: Path, config: object, kind: type[Follower]) -> None:
    path = tmp_path / "some.safetensors"
    save_weights(ScoreUNet(config), path)  # type: ignore[arg-type]
    assert type(make_unet(path)) is kind
