from __future__ import annotations

import numpy as np
import pytest

from sf_plugin.evaluation.metrics import Truth
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.tracking.document import DocumentCells
from sf_plugin.tracking.tracker import TrackerConfig
from sf_plugin.training.fit_tracker import (
    Hearing,
    fit_confidence,
    fit_settings,
    goodness,
    logistic,
)

FPS = 20
CELLS, SPACING = 80, 8
NOTES = CELLS // SPACING
MEASURES = 5


def hearing(sharpness: float, seconds_a_note: float = 0.4, seed: int = 0) -> Hearing:
    """A system of ten notes, two a measure, heard over noise."""
    x = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS
    edges = np.linspace(0, 1, MEASURES + 1)
    measures = tuple(Measure(i + 1, edges[i], edges[i + 1]) for i in range(MEASURES))
    page = PageLayout(1, (System(0.4, 0.6, 0.0, 1.0, measures),))
    onset = np.zeros(CELLS, np.float32)
    onset[::SPACING] = 0.9
    document = DocumentCells(
        np.ones(CELLS, np.int32),
        np.zeros(CELLS, np.int32),
        x,
        np.full(CELLS, 0.5, np.float32),
        onset,
        np.zeros(1, np.int64),
    )
    frames = round(NOTES * seconds_a_note * FPS)
    time = np.arange(frames) / FPS
    note = (time / seconds_a_note).astype(int)
    logits = np.random.default_rng(seed).normal(0, 1, (frames, CELLS))
    logits[np.arange(frames), note * SPACING] += sharpness
    struck = np.arange(NOTES) * seconds_a_note
    truth = Truth(
        struck,
        np.ones(NOTES, np.int64),
        np.ones(NOTES, np.int64),
        x[::SPACING].astype(float),
        np.arange(NOTES) // 2 + 1,
        {1: [0.5]},
        {(1, 1): [(m.left, m.number) for m in measures]},
    )
    quiet = [False] * frames
    return Hearing(
        document,
        Layout((page,)),
        truth,
        logits.astype(np.float16),
        time.tolist(),
        quiet,
        [True] * frames,
    )


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


def test_fitting_never_makes_it_worse_and_tells_how_sure_to_be() -> None:
    heard = [hearing(4, seed=1), hearing(4, 0.25, seed=2)]
    poor = TrackerConfig(hold=0.85, glance=0.3)
    fitted = fit_settings(heard, poor)
    assert goodness(heard, fitted)[0] >= goodness(heard, poor)[0]
    sure = fit_confidence(heard, fitted)
    assert sure.calibration != fitted.calibration
    _, said = goodness(heard, sure)
    assert said.confidence.mean() == pytest.approx(said.right_measure.mean(), abs=0.1)
