"""A system of ten notes as a network hears it, and an evaluation's piece of one case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tiny_network import RATE

from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import Score
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.smoothing import Hearing
from sf_plugin.training.fit_tracker import Heard

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
        np.arange(NOTES),
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


def noise(samples: int) -> Case:
    """A page of noise with one system, and noise that is played of it."""
    system = System(0.3, 0.6, 0.1, 0.9, (Measure(1, 0.1, 0.9),))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 90), np.uint8)
    layout = Layout((PageLayout(1, (system,)),))
    score = Score("one page", [image], layout)
    sound = rng.normal(0, 0.1, samples).astype(np.float32)
    return Case("noise", "noise", "clean", score, layout, hearing(0).truth, lambda: sound, RATE)
