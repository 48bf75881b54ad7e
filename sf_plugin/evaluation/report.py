"""From outcomes to figures with intervals: the report as JSON has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.evaluation.following import Outcome, Reading
from sf_plugin.evaluation.layouts import Matches
from sf_plugin.evaluation.metrics import (
    THRESHOLDS,
    WITHIN,
    Answers,
    Heeded,
    Turns,
    calibration_error,
    reliability,
)
from sf_plugin.positions import STATES

RESAMPLES = 2000
"""Of the bootstrap over pieces."""

VERSION = 2

JUMP_KINDS = ("jump", "pause", "printed")


def figures(said: Answers, measured: bool = True) -> dict[str, NDArray[np.bool_]]:
    """What each onset got right, by name; no measures where the truth knows none."""
    right = {
        **{f"within_{limit:g}s": said.error <= limit + 1e-9 for limit in THRESHOLDS},
        "page": said.right_page,
        "system": said.right_system,
        "measure": said.right_measure,
    }
    return right if measured else {name: v for name, v in right.items() if name != "measure"}


def interval(
    right: NDArray[np.float64], count: NDArray[np.float64], pooled: bool, seed: int
) -> list[float] | None:
    """95 % bootstrap interval over pieces; None for fewer than two.

    Args:
        right: (pieces,) onsets that were right.
        count: (pieces,) onsets.
        pooled: of the share of all onsets, else of the mean of the pieces' shares.
        seed: of the resampling.
    """
    if len(right) < 2:
        return None
    chosen = np.random.default_rng(seed).integers(0, len(right), (RESAMPLES, len(right)))
    if pooled:
        shares = right[chosen].sum(1) / count[chosen].sum(1)
    else:
        shares = (right / count)[chosen].mean(1)
    return [round(float(edge), 4) for edge in np.quantile(shares, (0.025, 0.975))]


def make_report(
    outcomes: Sequence[Outcome], *, per_page: bool, seed: int, complete: bool = True
) -> dict[str, Any]:
    """The figures of an evaluation by name; shares are of onsets unless they say otherwise.

    All but its "speed" depends only on the cases, the follower and the seed.
    """
    by_condition: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_condition.setdefault(outcome.condition, []).append(outcome)
    readings = [outcome.reading for outcome in outcomes if outcome.reading is not None]
    by_paper: dict[str, list[Reading]] = {}
    for reading in readings:
        by_paper.setdefault(reading.paper, []).append(reading)
    return {
        "version": VERSION,
        "complete": complete,
        "protocol": "page given" if per_page else "whole document",
        "seed": seed,
        "pieces": len({outcome.piece for outcome in outcomes}),
        "documents": len(readings),
        "unreadable": sum(reading.unreadable for reading in readings),
        "pages": max((sum(r.pages for r in same) for same in by_paper.values()), default=0),
        "conditions": {name: _condition(members, seed) for name, members in by_condition.items()},
        "layout": {paper: _layout(same) for paper, same in by_paper.items()},
        "by_piece": [
            row for name, members in by_condition.items() for row in _by_piece(name, members)
        ],
        "by_case": [_case(outcome) for outcome in outcomes],
        "speed": _speed(outcomes),
    }


def _layout(readings: Sequence[Reading]) -> dict[str, dict[str, float]]:
    """How well systems and measures were found; what the truth does not know is left out."""
    boxes = {
        "systems": sum((reading.systems for reading in readings), Matches()),
        "measures": sum((reading.measures for reading in readings), Matches()),
    }
    return {
        name: {"f1": round(m.f1, 4), "found": m.found, "true": m.true, "same": m.same}
        for name, m in boxes.items()
        if m.true
    }


def _pieces(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    pieces: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        pieces.setdefault(outcome.piece, []).append(outcome)
    return pieces


def _condition(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    pieces = _pieces(outcomes)
    joined = [Answers.join([o.answers for o in members]) for members in pieces.values()]
    measured = all(outcome.measured for outcome in outcomes)
    everything = Answers.join(joined)
    right = everything.right_measure if measured else everything.right_system
    count = np.array([len(said.error) for said in joined], float)
    summary = {}
    for name in figures(everything, measured) if len(right) else ():
        each = np.array([figures(said)[name].sum() for said in joined], float)
        summary[name] = {
            "pooled": round(float(each.sum() / count.sum()), 4),
            "pooled_interval": interval(each, count, True, seed),
            "per_piece": round(float((each / count).mean()), 4),
            "per_piece_interval": interval(each, count, False, seed),
        }
    seconds = sum(outcome.seconds for outcome in outcomes)
    frames = np.sum([outcome.states() for outcome in outcomes], axis=0)
    bins = reliability(everything.confidence, right)
    return {
        "onsets": len(everything.error),
        "seconds": round(seconds, 3),
        "figures": summary,
        "calibration": {
            "of": "measure" if measured else "system",
            "error": round(calibration_error(everything.confidence, right), 4)
            if len(right)
            else None,
            "bins": [
                {"onsets": int(n), "confidence": round(c, 4), "right": round(r, 4)}
                for n, c, r in bins.tolist()
            ],
        },
        "jumps": _jumps(pieces, seed),
        "turns": _turns(pieces, seed),
        "states": {
            name: round(float(share), 4)
            for name, share in zip(STATES, frames / max(1, frames.sum()), strict=True)
        },
        "over_time": _over_time(outcomes) if len(right) else [],
        "asides": _asides(pieces, seed),
    }


def _share(
    pieces: dict[str, list[Outcome]],
    count: Callable[[Outcome], tuple[int, int]],
    seed: int,
) -> dict[str, Any]:
    """A share pooled over pieces that have anything to count, with its interval."""
    sums = np.array(
        [np.sum([count(o) for o in members], axis=0) for members in pieces.values()], float
    )
    sums = sums[sums[:, 1] > 0]
    total = int(sums[:, 1].sum())
    return {
        "share": round(float(sums[:, 0].sum() / total), 4) if total else None,
        "of": total,
        "interval": interval(sums[:, 0], sums[:, 1], True, seed),
    }


def _jumps(pieces: dict[str, list[Outcome]], seed: int) -> dict[str, Any]:
    """Share of jumps after which the right system was found in time, by kind and seconds."""

    def count(kind: str, limit: float) -> Callable[[Outcome], tuple[int, int]]:
        def of(outcome: Outcome) -> tuple[int, int]:
            found = [r.seconds <= limit for r in outcome.recoveries if r.kind == kind]
            return sum(found), len(found)

        return of

    return {
        kind: {f"within_{limit:g}s": _share(pieces, count(kind, limit), seed) for limit in WITHIN}
        for kind in JUMP_KINDS
    }


def _asides(pieces: dict[str, list[Outcome]], seed: int) -> dict[str, Any]:
    """How what is not the piece was taken, by kind: shares of its frames and of its stretches."""

    def share(kind: str, count: Callable[[Heeded], tuple[int, int]]) -> dict[str, Any]:
        def of(outcome: Outcome) -> tuple[int, int]:
            pairs = [count(heeded) for heeded in outcome.heeded if heeded.kind == kind]
            return sum(part for part, _ in pairs), sum(whole for _, whole in pairs)

        return _share(pieces, of, seed)

    def noticed(limit: float) -> Callable[[Heeded], tuple[int, int]]:
        return lambda heeded: (heeded.noticed <= limit, 1)

    every = [h for members in pieces.values() for o in members for h in o.heeded]
    return {
        kind: {
            "tracking": share(kind, lambda h: (h.tracking, h.frames)),
            "noticed": {f"within_{limit:g}s": share(kind, noticed(limit)) for limit in WITHIN},
            "turned": sum(h.turned for h in every if h.kind == kind),
            "ended": share(kind, lambda h: (h.last == "ended", 1)),
        }
        for kind in dict.fromkeys(h.kind for h in every)
    }


def _turns(pieces: dict[str, list[Outcome]], seed: int) -> dict[str, Any]:
    total = sum((o.turns for members in pieces.values() for o in members), Turns())
    return {
        "due": total.due,
        "onward": sum(due.onward for due in total.asked),
        "made": total.made,
        "right": total.right,
        "false": total.false,
        "too_late": total.too_late,
        "precision": _share(pieces, lambda o: (o.turns.made - o.turns.false, o.turns.made), seed),
        "recall": _share(pieces, lambda o: (o.turns.right, o.turns.due), seed),
        "hours": round(total.seconds / 3600, 4),
        "false_per_hour": round(3600 * total.false / total.seconds, 3) if total.seconds else None,
        "lead_seconds": _quantiles(total.leads(onward=True)),
        "behind_seconds": _quantiles([-lead for lead in total.leads(onward=False)]),
    }


def _quantiles(seconds: list[float]) -> dict[str, float | None]:
    return {
        name: round(float(np.quantile(seconds, share)), 3) if seconds else None
        for name, share in (("p5", 0.05), ("median", 0.5), ("p95", 0.95))
    }


def _over_time(outcomes: Sequence[Outcome], parts: int = 20) -> list[float]:
    """(parts,) share of onsets within 0.5 s, by twentieths of the onsets of each case."""
    right = np.zeros(parts)
    count = np.zeros(parts)
    for outcome in outcomes:
        near = outcome.answers.error <= 0.5 + 1e-9
        part = np.arange(len(near)) * parts // max(1, len(near))
        right += np.bincount(part, near, parts)
        count += np.bincount(part, minlength=parts)
    return [round(float(share), 4) for share in right / np.maximum(count, 1)]


def _by_piece(condition: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    rows = []
    for piece, members in _pieces(outcomes).items():
        said = Answers.join([o.answers for o in members])
        if not len(said.error):
            continue
        measured = all(o.measured for o in members)
        shares = {k: round(float(v.mean()), 4) for k, v in figures(said, measured).items()}
        rows.append({"piece": piece, "condition": condition, "onsets": len(said.error), **shares})
    return rows


def _case(outcome: Outcome) -> dict[str, Any]:
    shares = figures(outcome.answers, outcome.measured) if len(outcome.answers.error) else {}
    return {
        "case": outcome.case,
        "piece": outcome.piece,
        "condition": outcome.condition,
        "onsets": len(outcome.answers.error),
        "seconds": round(outcome.seconds, 3),
        **{name: round(float(share.mean()), 4) for name, share in shares.items()},
        "turns": {
            "due": outcome.turns.due,
            "made": outcome.turns.made,
            "right": outcome.turns.right,
            "false": outcome.turns.false,
        },
        "jumps": len(outcome.recoveries),
    }


def _speed(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    frames = 1000 * np.concatenate([outcome.frame_seconds for outcome in outcomes])
    heard = sum(outcome.seconds for outcome in outcomes if len(outcome.frame_seconds))
    readings = [outcome.reading for outcome in outcomes if outcome.reading is not None]
    pages = sum(reading.pages for reading in readings)
    return {
        "ms_per_frame": {
            name: round(float(np.quantile(frames, share)), 3) if len(frames) else None
            for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "real_time_factor": round(float(frames.sum()) / 1000 / heard, 4) if heard else None,
        "seconds_per_page": round(sum(r.seconds for r in readings) / max(1, pages), 3),
    }
