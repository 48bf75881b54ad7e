from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_layout
from numpy.typing import NDArray

from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.evaluation.turning import Followed, Kept, table, turn, why_false
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.page_turns import TurnSettings
from sf_plugin.positions import Estimate, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

LAYOUT = make_layout(2)
SECONDS = 16
RATE = 8000
MIDDLES = [(system.top + system.bottom) / 2 for system in LAYOUT.pages[0].systems]

TRUTH = Truth(
    time=np.arange(float(SECONDS)),
    page=np.repeat([1, 2], 8),
    system=np.tile(np.repeat([1, 2], 4), 2),
    x=np.tile([0.1, 0.3, 0.5, 0.7], 4),
    measure=np.arange(1, SECONDS + 1),
    system_centres={1: MIDDLES, 2: MIDDLES},
    bars={},
)
"""A measure a second on two systems of two pages."""


def silence() -> NDArray[np.float32]:
    return np.zeros(SECONDS * RATE, np.float32)


CASE = Case("A, clean", "A", "clean", Score("A", []), LAYOUT, TRUTH, silence, RATE)


class Knowing(Follower):
    """Knows the truth, 20 times a second."""

    sample_rate = RATE

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        return LAYOUT

    def reset(self) -> None:
        self._heard = 0

    def feed(self, samples: NDArray[np.float32]) -> list[Estimate]:
        step = RATE // 20
        first, self._heard = self._heard // step, self._heard + len(samples)
        return [place((n + 1) / 20) for n in range(first, self._heard // step)]


def place(time: float) -> Estimate:
    at = min(int(time), SECONDS - 1)
    x = float(TRUTH.x[at]) + 0.2 * (time - at)
    y = MIDDLES[int(TRUTH.system[at]) - 1]
    return Estimate(time, int(TRUTH.page[at]), x, y, 0.95, "tracking")


def never() -> Any:
    raise AssertionError("followed twice")


def test_positions_are_kept_and_turned_by_again(tmp_path: Path) -> None:
    said = Kept(tmp_path, Knowing)(CASE)
    assert Kept(tmp_path, never)(CASE) == said
    judged = turn(said, TurnSettings())
    assert (judged.turns.due, judged.turns.right, judged.turns.false) == (1, 1, 0)
    assert judged.turns.leads() == pytest.approx([1.0], abs=0.3)
    assert judged.faults == ()
    rows = table([judged, judged])
    assert [row.split()[0] for row in rows] == ["clean", "all"]
    assert "2 due, 2 right, 2 made, 0 false" in rows[-1]


def test_faults_are_named(tmp_path: Path) -> None:
    said = Kept(tmp_path, Knowing)(CASE)
    stays = replace(TRUTH, page=np.ones(SECONDS, np.int64))
    judged = turn(replace(said, case=replace(CASE, truth=stays)), TurnSettings())
    assert judged.turns.false == 1
    assert judged.faults[0].startswith("A, clean, to page 2 at ")
    silent = Followed(CASE, LAYOUT, [])
    assert turn(silent, TurnSettings()).faults == ("A, clean, to page 2 at 8.0 s: missing",)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"page": np.full(SECONDS, 2)}, "the follower was elsewhere"),
        ({"time": TRUTH.time + np.where(np.arange(SECONDS) > 6, 60.0, 0.0)}, "the player stopped"),
        ({"system": np.where(np.arange(SECONDS) > 6, 1, 2)}, "the player went elsewhere"),
        ({"system": np.full(SECONDS, 2), "page": np.ones(SECONDS, int)}, "too early"),
    ],
)
def test_why_a_turn_was_false(change: dict[str, Any], why: str) -> None:
    said = Position(6.5, 1, 0.5, MIDDLES[1], 2, 7, None, 1, None, None, 0.95, "tracking")
    assert why_false(6.5, [said], replace(TRUTH, **change)) == why
