from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heard_system import FPS, NOTES, Piece, hearing, noise
from tiny_network import TINY, random_network

from sf_plugin.dataset.programme import Aside
from sf_plugin.tracking.tracker import TrackerConfig
from sf_plugin.training.fit_tracker import (
    CANDIDATES,
    Heard,
    fit_confidence,
    fit_settings,
    follow,
    goodness,
    listen,
    logistic,
)
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.weights import save_weights


def test_logistic_finds_the_weights_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    features = np.column_stack([np.ones(20000), rng.normal(0, 1, (20000, 2))])
    weights = np.array([0.5, -1.0, 2.0])
    right = rng.random(20000) < 1 / (1 + np.exp(-features @ weights))
    assert logistic(features, right) == pytest.approx(weights, abs=0.1)


def test_clear_evidence_is_followed_and_noise_is_not() -> None:
    clear, _ = goodness([hearing(12)], TrackerConfig())
    noise, _ = goodness([hearing(0)], TrackerConfig())
    assert clear > 0.9
    assert noise < clear - 0.1


def test_every_candidate_is_a_setting_and_the_default_is_among_them() -> None:
    for name, values in CANDIDATES.items():
        assert getattr(TrackerConfig(), name) in values
        for value in values:
            assert goodness([hearing(6)], replace(TrackerConfig(), **{name: value}))[0] > 0


def test_a_recording_is_heard_as_the_follower_hears_it(tmp_path: Path) -> None:
    weights = tmp_path / "tiny.safetensors"
    save_weights(random_network(6), weights)
    case = noise(6000)
    follower = UNetFollower(weights)
    follower.prepare(case.score)
    wanted = follower.feed(case.sound())
    (heard,) = listen([Piece("noise", case)], weights)
    assert (heard.fps, heard.layout) == (TINY.spectrogram.fps, case.score.layout)
    positions, _ = follow(heard, TrackerConfig())
    assert [p.time for p in positions] == [e.time for e in wanted]
    assert len({e.x for e in wanted}) > 1
    same = [p.x == e.x and p.state == e.state for p, e in zip(positions, wanted, strict=True)]
    assert np.mean(same) > 0.95  # whole and frame by frame differ by rounding


def test_other_music_is_told_from_the_piece() -> None:
    heard = [hearing(10, seed=1), hearing(10, 0.25, seed=2)]
    plain = hearing(10, seed=3)
    seconds = len(plain.hearing.time) / FPS
    order = np.random.default_rng(0).permuted(np.tile(np.arange(NOTES), (NOTES, 1)), axis=1)[0]
    shuffled = plain.hearing.logits[:, order] * np.float32(0.6)
    nothing = {
        name: getattr(plain.truth, name)[:0] for name in ("time", "page", "system", "x", "measure")
    }
    other = replace(
        plain,
        hearing=replace(plain.hearing, logits=shuffled),
        truth=replace(plain.truth, **nothing),
        asides=(Aside("other music", 0.0, seconds),),
    )
    default = TrackerConfig()
    alone = fit_confidence(heard, default)
    assert alone.known == default.known, "there is nothing to tell it from"
    both = fit_confidence([*heard, other], default)
    assert both.known != default.known and both.calibration == alone.calibration

    def sure(of: Heard) -> float:
        return float(np.mean([p.confidence for p in follow(of, both)[0][2 * FPS :]]))

    assert sure(other) < 0.3 < 0.7 < min(map(sure, heard))


def test_fitting_never_makes_it_worse_and_tells_how_sure_to_be() -> None:
    heard = [hearing(4, seed=1), hearing(4, 0.25, seed=2)]
    poor = TrackerConfig(trust=0.3, glance=0.3, known=(30.0, 0.0, 0.0))
    fitted = fit_settings(heard, poor)
    assert goodness(heard, fitted)[0] >= goodness(heard, poor)[0]
    sure = fit_confidence(heard, fitted)
    assert sure.calibration != fitted.calibration
    _, said = goodness(heard, sure)
    assert said.confidence.mean() == pytest.approx(said.right_measure.mean(), abs=0.1)
