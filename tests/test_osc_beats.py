"""Time tags of beats while the computer's clock is set."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from midi_peers import live
from test_accompaniment import played, score_of

from sf_adapters import osc_beats
from sf_adapters.osc import IMMEDIATELY, Message, OscSink

QUARTERS = [(0.5 + 0.5 * n, float(n)) for n in range(12)]


def test_a_clock_that_is_set_changes_the_tags_and_not_the_beats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = 0.0
    rows: list[tuple[float, float]] = []

    def now() -> float:
        return time.time() + step

    class Kept(OscSink):
        def _send(self, messages: list[Message], when: float = IMMEDIATELY) -> None:
            rows.extend((when - now(), args[0]) for name, _, args in messages if "beat" in name)

    def set_clock(seconds: float) -> None:
        nonlocal step
        step = seconds

    own = SimpleNamespace(time=now, monotonic=time.monotonic)
    monkeypatch.setattr(osc_beats, "time", own)
    timers = [threading.Timer(3.0, set_clock, [3600.0]), threading.Timer(4.5, set_clock, [-3600.0])]
    with Kept("127.0.0.1:9,beats") as sink:
        for timer in timers:
            timer.start()
        live(sink, played(QUARTERS, 6.5), score_of(3))
    for timer in timers:
        timer.join()
    ahead, beats = np.array(rows).T
    assert step == -3600.0 and len(beats) > 100
    assert np.count_nonzero(np.abs(ahead) > 60) <= len(timers)
    assert np.median(ahead) == pytest.approx(osc_beats.AHEAD, abs=0.02)
    assert np.all(np.diff(beats) >= 0) and np.diff(beats).max() < 2
