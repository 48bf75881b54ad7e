"""What a sink must do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sf_plugin.conformance.rules import Rules, is_one_line, need
from sf_plugin.conformance.samples import small_score
from sf_plugin.controls import Controls
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.lanes import CLOSE_SECONDS, Lane
from sf_plugin.positions import STATES, Control, Event, Jump, PageTurn, Position, StateChange
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

FRAMES_A_SECOND = 40
SECONDS = 10.0
"""Of positions that are told at once; they must be taken in this time."""

WAIT_SECONDS = 5.0
"""For threads to end."""

KNOWN = Position(
    0.0, 1, 0.4, 0.25, 1, 2, "2", 1, 1.5, 92.0, 0.93, "tracking", ("P1-m2-n1", "P1-m2-n2")
)
UNKNOWN = Position(0.0, 1, 0.0, 0.0, None, None, None, 1, None, None, 0.0, "waiting")

EVENTS: tuple[Event, ...] = (
    UNKNOWN,
    *(StateChange(0.1, state, "waiting") for state in STATES),
    KNOWN,
    PageTurn(0.3, 2, 0.8),
    PageTurn(0.3, 2, -0.2, half=True),
    Jump(0.4, 2, 7, 0.9),
    Jump(0.4, None, None, 0.5),
    Control(0.5, "show", page=2),
    Control(0.5, "goto", page=1, x=0.3, y=0.25, measure=2),
    Control(0.5, "goto", page=1, x=0.3, y=0.25),
    Control(0.6, "pause"),
    Control(0.7, "resume"),
    Control(0.8, "reset"),
    Control(0.9, "stop"),
)
"""Every kind, with all that is known and with all that may be unknown."""


def check_sink(
    make: Callable[[], Sink],
    bad: Callable[[], Sink] | None = None,
    *,
    score: Score | None = None,
    what: str = "the sink",
) -> None:
    """Try a sink.

    Args:
        make: gives a new one each time, as the registered factory with its argument does.
        bad: gives one whose receiver cannot be reached or written, if there is such.
        score: the one that is told of; `small_score()` by default.

    Raises:
        Broken: it does not do what it must.
    """
    __tracebackhide__ = True
    score = small_score() if score is None else score
    layout = Layout(()) if score.layout is None else score.layout
    rules = Rules(what)
    with rules.rule("the factory must take the option's argument and give a sf_plugin.Sink"):
        sink = make()
        need(isinstance(sink, Sink), f"it gave a {type(sink).__name__}")
    rules.end()
    with rules.rule("`close` must be harmless before `open`"):
        sink.close()
        sink.close()
    threads = set(threading.enumerate())
    with rules.rule("`open`, `extend`, `emit` and `close` must take what a session tells"):
        _whole_life(make(), score, layout)
    with rules.rule("`close` must be harmless a second time"):
        sink = make()
        sink.attach(_controls(score, layout))
        sink.open(score, layout)
        sink.close()
        sink.close()
    with rules.rule("`emit` must return quickly: give slow work to a thread of your own"):
        _in_time(make(), score, layout)
    with rules.rule("it must work in another thread than it was opened in, while music is live"):
        _in_a_lane(make(), score, layout)
    with rules.rule("it must close also when the session fails"):
        _through_failure(make(), score, layout)
    with rules.rule("`close` must end the threads it began"):
        _threads_end(threads)
    if bad is not None:
        with rules.rule("a receiver that cannot be used must be refused with a SinkError"):
            _refused(bad, score, layout)
    rules.end()


def _controls(score: Score, layout: Layout) -> Controls:
    controls = Controls(len(score.pages))
    controls.layout = layout
    return controls


def _whole_life(sink: Sink, score: Score, layout: Layout) -> None:
    with sink:
        sink.attach(_controls(score, layout))
        sink.open(score, Layout(layout.pages[:1]))
        sink.emit(KNOWN)
        sink.extend(layout)
        for event in EVENTS:
            sink.emit(event)


def _in_time(sink: Sink, score: Score, layout: Layout) -> None:
    with sink:
        sink.attach(_controls(score, layout))
        sink.open(score, layout)
        began = time.monotonic()
        for _ in range(round(SECONDS * FRAMES_A_SECOND)):
            sink.emit(KNOWN)
        took = time.monotonic() - began
    need(took < SECONDS, f"{SECONDS:g} s of positions took {took:.1f} s")


def _in_a_lane(sink: Sink, score: Score, layout: Layout) -> None:
    failed: list[str] = []
    with Lane("it", sink, failed, threaded=True) as lane:
        lane.open(score, Layout(layout.pages[:1]), _controls(score, layout))
        lane.extend(layout)
        for event in EVENTS:
            lane.emit(event)
    need(not failed, f"it raised, or did not close in {CLOSE_SECONDS:g} s (see the log)")


def _through_failure(sink: Sink, score: Score, layout: Layout) -> None:
    sink.attach(_controls(score, layout))
    sink.open(score, layout)
    sink.emit(KNOWN)
    error = RuntimeError("the session failed")
    hidden: object = sink.__exit__(RuntimeError, error, None)  # type: ignore[func-returns-value]
    need(not hidden, "`__exit__` must not hide the error")


def _threads_end(before: set[threading.Thread]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    left = [one for one in threading.enumerate() if one not in before]
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
    left = [one for one in left if one.is_alive()]
    need(not left, f"still there: {', '.join(one.name for one in left)}")


def _refused(bad: Callable[[], Sink], score: Score, layout: Layout) -> None:
    try:
        with bad() as sink:
            sink.attach(_controls(score, layout))
            sink.open(score, layout)
    except ScoreFollowerError as error:
        is_one_line(error)
    else:
        need(False, "it was opened")
