"""Fit the tracker's settings and its confidence to held-out pieces.

    python -m sf_plugin.training.fit_tracker SET --use extra --weights FILE

The network hears every recording once; then one setting after another is
changed as long as that helps, and the confidence is made to mean what it says.
Use pieces that are neither trained on nor reported on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.programme import Aside
from sf_plugin.evaluation.engraved import EngravedPiece, Setting, find_pieces
from sf_plugin.evaluation.metrics import ANSWER, Answers, Truth, answers
from sf_plugin.positions import Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.model import Score
from sf_plugin.score.structure import Roads, find_roads
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.smoothing import Hearing, frames_of
from sf_plugin.tracking.tracker import Tracker, TrackerConfig
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.weights import SHIPPED

CANDIDATES: dict[str, Sequence[object]] = {
    "trust": (0.0, 0.3, 0.5, 1.0, 2.0, 4.0),
    "accent": (0.0, 0.15, 0.25, 0.3, 0.45, 0.65, 0.9),
    "jump": (2e-4, 1e-3, 2e-3, 3e-3, 4e-3, 1e-2),
    "unheard": (0.0, 0.2, 0.4, 0.6),
    "change": (0.15, 0.4, 0.8),
    "tempi": (
        TrackerConfig.tempi,
        (0, 0.3, 0.38, 0.47, 0.58, 0.72, 0.9, 1.1, 1.4, 1.7, 2.1, 2.6, 3.2, 4.0, 5.0, 6.5),
        (0, 0.4, 0.7, 1.1, 1.8, 2.9, 4.7),
    ),
    "glance": (0.7, 1.0, 1.5, 2.0),
    "doubt": (1e-6, 1e-5, 1e-4),
    "pause_jump": (0.01, 0.05, 0.15),
}


EVERY = 1.0
"""Seconds between the moments of other music and noise that count like an onset each."""


@dataclass
class Heard:
    """A recording as the network hears it, `fps` times a second, and what is true of it.

    `asides` are when the piece is not played.
    """

    document: DocumentOnsets
    layout: Layout
    truth: Truth
    hearing: Hearing
    fps: float
    asides: tuple[Aside, ...] = ()


def listen(pieces: Sequence[EngravedPiece], weights: Path) -> list[Heard]:
    """Every case of every piece, its logits computed once."""
    follower = UNetFollower(weights)
    fps = follower.spectrogram.config.fps
    on_stand: Score | None = None
    out = []
    for piece in pieces:
        for case in piece():
            if case.score is not on_stand:
                on_stand, layout = case.score, follower.prepare(case.score)
            heard = follower.hear_whole([case.sound()])
            kept = replace(heard, logits=heard.logits[: len(heard.time)])
            out.append(Heard(follower.document, layout, case.truth, kept, fps, case.asides))
        print(piece.name, flush=True)
    return out


def follow(
    heard: Heard, config: TrackerConfig, roads: Roads | None = None
) -> tuple[list[Position], NDArray[np.float64]]:
    """Positions, and the (frames, 3) signs of confidence; `roads` if not those of the layout."""
    roads = find_roads(heard.layout) if roads is None else roads
    tracker = Tracker(heard.document, heard.fps, config, roads)
    mapper = PlainMapper()
    mapper.open(heard.layout)
    positions, signs = [], []
    for logits, time, quiet, struck in frames_of(heard.hearing, slice(None)):
        estimate = tracker.step(logits, time, quiet=quiet, struck=struck)
        positions.append(mapper.locate(estimate))
        signs.append(tracker.signs())
    return positions, np.array(signs)


def goodness(hearings: Sequence[Heard], config: TrackerConfig) -> tuple[float, Answers]:
    """What is made as large as possible: the mean of the pooled onset ratios and measures."""
    said = Answers.join([answers(follow(h, config)[0], h.truth) for h in hearings])
    return float(np.mean([*said.ratios(), said.right_measure.mean()])), said


def fit_settings(hearings: Sequence[Heard], config: TrackerConfig) -> TrackerConfig:
    """Change one setting after another as long as that helps."""
    best, said = goodness(hearings, config)
    print(f"{best:.4f} {[round(r, 3) for r in said.ratios()]} to begin with", flush=True)
    for name, values in CANDIDATES.items():
        for value in values:
            if value == getattr(config, name):
                continue
            trial = replace(config, **{name: value})  # type: ignore[arg-type]
            score, said = goodness(hearings, trial)
            print(f"{score:.4f} {[round(r, 3) for r in said.ratios()]} {name}={value}", flush=True)
            if score > best:
                best, config = score, trial
    return config


def logistic(features: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, k) features with a leading 1 to k weights of a logistic regression, lightly damped."""
    weights = np.zeros(features.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (right - p) - 1e-3 * weights
        curve = (features * (p * (1 - p))[:, None]).T @ features + 1e-3 * np.eye(len(weights))
        weights += np.linalg.solve(curve, slope)
    return weights


def fit_confidence(hearings: Sequence[Heard], config: TrackerConfig) -> TrackerConfig:
    """Make the confidence the share of onsets in the right measure; in an aside none is.

    Without asides there is nothing to tell other music from.
    """
    features, right, played = [], [], []
    for heard in hearings:
        positions, signs = follow(heard, config)
        said = answers(positions, heard.truth)
        known = np.array([p.time for p in positions])
        moments = [heard.truth.time + ANSWER] + [
            np.arange(aside.begin + config.agreement_seconds, aside.end, EVERY)
            for aside in heard.asides
        ]
        index = np.searchsorted(known, np.concatenate(moments), side="right") - 1
        features.append(np.column_stack([np.ones(len(index)), signs[np.maximum(index, 0)]]))
        right.append(np.pad(said.right_measure, (0, len(index) - len(said.error))))
        played.append(np.arange(len(index)) < len(said.error))
    x, y, here = (np.concatenate(parts) for parts in (features, right, played))
    calibration = logistic(x[here][:, [0, 1, 2]], y[here])
    config = replace(config, calibration=tuple(np.round(calibration, 3).tolist()))
    if here.all():
        return config
    told = y | ~here
    known = logistic(x[told][:, [0, 2, 3]], here[told])
    return replace(config, known=tuple(np.round(known, 3).tolist()))


def parser_of_pieces(about: str, conditions: str) -> argparse.ArgumentParser:
    """Of a set, some of its pieces, the conditions they are played in, and weights to hear them."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("set", type=Path, help="a built set")
    parser.add_argument("--use", default="extra", help="which part of it (default %(default)s)")
    parser.add_argument("--pieces", nargs="+", default=["*"], help="name patterns")
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--conditions", default=conditions, help="default %(default)s")
    return parser


def pieces_asked_for(args: argparse.Namespace) -> list[EngravedPiece]:
    """What such arguments name.

    Raises:
        ScoreError: there are none.
    """
    folder = args.set if args.set.is_dir() else args.set.parent
    setting = Setting(tuple(args.conditions.split(",")), False, 0, folder / "recordings")
    return find_pieces(args.set, args.use.split(","), args.pieces, setting)


def main() -> None:
    parser = parser_of_pieces(__doc__, "clean,room,wrong")
    parser.add_argument("--confidence-only", action="store_true")
    args = parser.parse_args()
    hearings = listen(pieces_asked_for(args), args.weights)
    config = TrackerConfig()
    if not args.confidence_only:
        config = fit_settings(hearings, config)
    config = fit_confidence(hearings, config)
    print(config)
    print(goodness(hearings, config)[1].summary())


if __name__ == "__main__":
    main()
