from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tiny_network import RATE, TINY, random_network

from sf_plugin.dataset.programme import Aside
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import Score
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.smoothing import Hearing
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

FPS = 40
NOTES, MEASURES = 10, 5


@dataclass
class Piece:
    """Gives one case."""

    name: str
    case: Case

    def __call__(self) -> list[Case]:
        return [self.case]


def hearing(sharpness: float, seconds_a_note: float = 0.4, seed: int = 0) -> Heard:
    """A system of ten quarter notes, two a measure, heard over noise."""
    x = (np.arange(NOTES, dtype=np.float32) + 0.1) / NOTES
    edges = np.linspace(0, 1, MEASURES + 1)
    measures = tuple(Measure(i + 1, edges[i], edges[i + 1]) for i in range(MEASURES))
    page = PageLayout(1, (System(0.4, 0.6, 0.0, 1.0, measures),))
    document = DocumentOnsets(
        np.ones(NOTES, np.int32),
        np.zeros(NOTES, np.int64),
        x,
        np.full(NOTES, 0.5, np.float32),
        np.ones(NOTES, np.float32),
        np.arange(NOTES) % 2 == 0,
        np.arange(NOTES) // 2 + 1,
    )
    frames = round(NOTES * seconds_a_note * FPS)
    time = np.arange(frames) / FPS
    note = (time / seconds_a_note + 1e-6).astype(int)
    logits = np.random.default_rng(seed).normal(0, 1, (frames, NOTES))
    logits[np.arange(frames), note] += sharpness
    truth = Truth(
        np.arange(NOTES) * seconds_a_note,
        np.ones(NOTES, np.int64),
        np.ones(NOTES, np.int64),
        x.astype(float),
        np.arange(NOTES) // 2 + 1,
        {1: [0.5]},
        {(1, 1): [(m.left, m.number) for m in measures]},
    )
    struck = [0.9 if f == 0 or note[f] != note[max(0, f - 2)] else 0.1 for f in range(frames)]
    quiet = np.zeros(frames, bool)
    heard = Hearing(logits.astype(np.float32), time, quiet, np.array(struck, np.float32))
    return Heard(document, Layout((page,)), truth, heard, FPS)


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
    system = System(0.3, 0.6, 0.1, 0.9, (Measure(1, 0.1, 0.9),))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 90), np.uint8)
    layout = Layout((PageLayout(1, (system,)),))
    score = Score("one page", [image], layout)
    sound = rng.normal(0, 0.1, 6000).astype(np.float32)
    case = Case("noise", "noise", "clean", score, layout, hearing(0).truth, lambda: sound, RATE)
    follower = UNetFollower(weights)
    follower.prepare(score)
    wanted = follower.feed(sound)
    (heard,) = listen([Piece("noise", case)], weights)
    assert (heard.fps, heard.layout) == (TINY.spectrogram.fps, layout)
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
