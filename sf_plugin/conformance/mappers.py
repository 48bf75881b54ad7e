"""What a mapper must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile

from sf_plugin.conformance.rules import Rules, need
from sf_plugin.conformance.samples import small_layout
from sf_plugin.positions import STATES, Estimate, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.mapper import MeasureMapper

FRAME_SECONDS = 0.025
SYSTEM_SECONDS = 4.0


def check_mapper(
    make: Callable[[], MeasureMapper], layout: Layout | None = None, *, what: str = "the mapper"
) -> None:
    """Try a mapper.

    Args:
        make: what is registered.
        layout: to look places up in; `small_layout()` by default.

    Raises:
        Broken: it does not do what it must.
    """
    __tracebackhide__ = True
    layout = small_layout() if layout is None else layout
    estimates = list(_reading_on(layout))
    rules = Rules(what)
    with rules.rule("the factory must need no arguments"):
        mapper = make()
    rules.end()
    with rules.rule("`locate` must give a Position for each estimate"):
        mapper.open(layout)
        told = [mapper.locate(one) for one in estimates]
        for position in told:
            need(isinstance(position, Position), f"it gave a {type(position).__name__}")
    rules.end()
    with rules.rule("time, page, confidence and state must be those of the estimate"):
        for position, one in zip(told, estimates, strict=True):
            said = (position.time, position.page, position.confidence, position.state)
            need(said == (one.time, one.page, one.confidence, one.state), f"{said} of {one}")
    with rules.rule("system and measure must be None or of the page, `pass_` from 1"):
        for position in told:
            _is_there(position, layout)
    with rules.rule("`open` must begin a new performance"):
        mapper.open(layout)
        need([mapper.locate(one) for one in estimates] == told, "other positions than before")
    with rules.rule("`extend` must keep what is known of the performance"):
        mapper.open(Layout(layout.pages[:1]))
        on_first = list(takewhile(lambda one: one.page == layout.pages[0].page, estimates))
        for one in on_first:
            mapper.locate(one)
        mapper.extend(layout)
        later = [mapper.locate(one) for one in estimates[len(on_first) :]]
        need(later == told[len(on_first) :], "other positions than with all pages from the first")
    with rules.rule("a page without systems, or not in the layout, must be located without one"):
        mapper.open(Layout(()))
        for state in STATES:
            position = mapper.locate(Estimate(0.0, 7, 0.5, 0.5, 0.0, state))
            need(position.measure is None, f"it said measure {position.measure}")
    rules.end()


def _reading_on(layout: Layout) -> Iterator[Estimate]:
    """The music as printed, after a moment of waiting, then lost, then the first system again."""
    systems = [(page.page, system) for page in layout.pages for system in page.systems]
    page, system = systems[0]
    yield Estimate(FRAME_SECONDS, page, system.left, system.top, 0.0, "waiting")
    frames = round(SYSTEM_SECONDS / FRAME_SECONDS)
    number = 1
    for page, system in [*systems, systems[0]]:
        y = (system.top + system.bottom) / 2
        for frame in range(frames):
            number += 1
            x = system.left + frame / frames * (system.right - system.left)
            state = "lost" if frame == frames - 1 else "tracking"
            yield Estimate(number * FRAME_SECONDS, page, x, y, 0.9, state)  # type: ignore[arg-type]


def _is_there(position: Position, layout: Layout) -> None:
    page = next(page for page in layout.pages if page.page == position.page)
    need(position.pass_ >= 1, f"pass {position.pass_}")
    if position.system is not None:
        need(1 <= position.system <= len(page.systems), f"system {position.system}")
    numbers = [m.number for system in page.systems for m in system.measures]
    need(position.measure in (None, *numbers), f"measure {position.measure}")
