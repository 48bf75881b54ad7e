"""Trills count as one note."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.tracking.trills import Trill

FPS = 40


def weights(strikes: list[tuple[float, int]], seconds: float = 2.0) -> list[float]:
    """How much each of these strikes (seconds, onset heard) counts, of five onsets."""
    trill, counted = Trill(), []
    for frame in range(round(seconds * FPS)):
        time = frame / FPS
        now = [onset for at, onset in strikes if abs(at - time) < 0.4 / FPS]
        belief = np.full(5, 0.01, np.float32)
        belief[now[0] if now else 0] = 0.96
        fresh = trill.fresh(belief, 1.0 if now else 0.0, time)
        if now:
            counted.append(fresh)
    return counted


def test_a_trill_counts_less_and_less_and_a_note_after_it_in_full() -> None:
    trill = [(0.25 + 0.075 * n, n % 2) for n in range(20)]
    *counted, last = weights([*trill, (0.25 + 0.075 * 20, 3)])
    assert counted[:3] == [1, 1, 1]
    assert max(counted[-4:]) < 0.2
    assert last > 0.7


def test_repeated_notes_at_a_usual_speed_count_in_full() -> None:
    assert weights([(0.25 * n, 2) for n in range(1, 8)]) == [1.0] * 7
    assert weights([(0.2 * n, n % 2) for n in range(1, 10)]) == [1.0] * 9


def test_a_quick_run_counts_in_full() -> None:
    assert min(weights([(0.1 * n, n % 5) for n in range(1, 20)])) > 0.9


def test_other_pages_in_between_are_no_trill() -> None:
    trill = Trill()
    for frame in range(40):
        belief = np.full(4 + frame % 2, 0.2, np.float32)
        assert trill.fresh(belief, 1.0, frame / FPS) == 1


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1e4), st.integers(0, 4)), min_size=1, max_size=50
    )
)
def test_it_is_a_share_whatever_comes(frames: list[tuple[float, float, int]]) -> None:
    trill = Trill()
    for struck, time, onset in frames:
        belief = np.full(5, 0.01, np.float32)
        belief[onset] = 0.96
        assert 0 <= trill.fresh(belief, struck, time) <= 1 + 1e-6
