"""What a follower must do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sf_plugin.conformance.rules import Rules, is_one_line, need
from sf_plugin.conformance.samples import small_score, some_notes
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower, no_progress
from sf_plugin.positions import STATES, Estimate
from sf_plugin.score.layout import Layout
from sf_plugin.score.layout_files import checked, numbered
from sf_plugin.score.model import Score
from sf_plugin.score.places import choose_pages

Samples = NDArray[np.float32]

LATE_SECONDS = 0.25
"""After which sound an estimate may still be told."""

CLOSE = 1e-4
"""By which places and confidences may differ that are the same."""


def check_follower(
    make: Callable[[], Follower],
    score: Score | None = None,
    sound: Samples | None = None,
    *,
    what: str = "the follower",
) -> None:
    """Try a follower.

    Args:
        make: what is registered.
        score: to be followed; `small_score()` by default.  It needs a layout, and two
            pages for all rules to be tried.
        sound: (samples,) of it at the follower's rate; `some_notes` by default.

    Raises:
        Broken: it does not do what it must.
    """
    __tracebackhide__ = True
    score = small_score() if score is None else score
    rules = Rules(what)
    with rules.rule("the factory must need no arguments and give a sf_plugin.Follower"):
        follower = make()
        need(isinstance(follower, Follower), f"it gave a {type(follower).__name__}")
    rules.end()
    with rules.rule("`sample_rate` must say the Hz that `feed` expects, as a whole number"):
        need(isinstance(follower.sample_rate, int) and follower.sample_rate > 0, "it does not")
    with rules.rule("`prepare` must give the layout that is followed, the score's own if any"):
        layout = follower.prepare(score, no_progress)
        need(isinstance(layout, Layout), f"it gave a {type(layout).__name__}")
        need(score.layout in (None, layout), "it gave another than the score's")
    rules.end()
    with rules.rule("a layout must number pages, and measures in reading order, from 1"):
        _well_numbered(layout)

    sound = some_notes(follower.sample_rate) if sound is None else sound
    with rules.rule("`feed` must give estimates for the samples it hears"):
        follower.reset()
        whole = _hear(follower, sound)
        need(whole, f"it gave none in {len(sound) / follower.sample_rate:g} s")
    rules.end()
    _try_estimates(rules, follower, whole, sound, layout)
    _try_time(rules, follower, whole, sound)
    _try_calls(rules, follower, whole, sound, layout)
    _try_scores(rules, make, score, sound)
    rules.end()


def _try_estimates(
    rules: Rules, follower: Follower, whole: list[Estimate], sound: Samples, layout: Layout
) -> None:
    pages = {page.page for page in layout.pages}
    with rules.rule("an estimate must name a page of the layout, and x and y from 0 to 1"):
        for one in whole:
            need(one.page in pages, f"page {one.page}")
            need(0 <= one.x <= 1 and 0 <= one.y <= 1, f"x {one.x}, y {one.y}")
    with rules.rule(f"`state` must be one of {', '.join(STATES)}, `confidence` from 0 to 1"):
        for one in whole:
            need(one.state in STATES, f"state {one.state!r}")
            need(0 <= one.confidence <= 1, f"confidence {one.confidence}")
    with rules.rule("`time` must rise from estimate to estimate"):
        for before, after in pairwise(whole):
            need(math.isfinite(after.time) and before.time < after.time, _times(before, after))
    with rules.rule("silence must be followed as well as sound"):
        follower.reset()
        silence = np.zeros_like(sound)
        need(len(_hear(follower, silence)) == len(whole), "other estimates than of sound")


def _try_time(rules: Rules, follower: Follower, whole: list[Estimate], sound: Samples) -> None:
    rate = follower.sample_rate
    with rules.rule(
        "an estimate must be told when it is known: `time` is the seconds heard when it is told"
    ):
        follower.reset()
        heard = 0
        for block in _blocks(sound, max(1, rate // 50)):
            heard += len(block)
            for one in follower.feed(block):
                need(one.time <= heard / rate + 1e-6, f"time {one.time} of {heard / rate} s")
                late = heard / rate - one.time
                need(late <= LATE_SECONDS, f"time {one.time} was told at {heard / rate} s")
    with rules.rule("what is said must not depend on how the samples are cut into blocks"):
        edges = np.sort(np.random.default_rng(0).integers(0, len(sound), 60))
        _same_after_reset(follower, whole, np.split(sound, edges))
        _same_after_reset(follower, whole, list(_blocks(sound, 777)))
    with rules.rule("what was said must not depend on what comes later"):
        middle = len(sound) // 2
        other = np.concatenate([sound[:middle], sound[middle:][::-1] * -0.7])
        follower.reset()
        said = [one for one in _hear(follower, other) if one.time <= middle / rate]
        _same(said, whole[: len(said)])
    with rules.rule("`reset` must forget the performance and keep the score"):
        follower.reset()
        _hear(follower, sound[::-1][: len(sound) // 3])
        _same_after_reset(follower, whole, [sound])


def _try_calls(
    rules: Rules, follower: Follower, whole: list[Estimate], sound: Samples, layout: Layout
) -> None:
    with rules.rule("an empty block must be harmless and change nothing"):
        empty = np.zeros(0, np.float32)
        _same_after_reset(follower, whole, [empty, sound[:999], empty, sound[999:]])
    with rules.rule("`feed` must not write to the samples it is given"):
        locked = sound.copy()
        locked.setflags(write=False)
        _same_after_reset(follower, whole, [locked])
    with rules.rule("with `hurry` above 1 there must be an estimate of each frame as before"):
        follower.reset()
        follower.hurry = 4
        told = _hear(follower, *_blocks(sound, follower.sample_rate // 10))
        follower.hurry = 1
        need([one.time for one in told] == [one.time for one in whole], "other times")
    with rules.rule("`mask` must give (rows, columns) from 0 to 1, or None"):
        for page in layout.pages:
            mask = follower.mask(page.page)
            if mask is not None:
                need(mask.ndim == 2 and mask.min() >= 0 and mask.max() <= 1, "it did not")
    with rules.rule("`places` must give (page, x, y), x and y from 0 to 1"):
        for _, x, y in follower.places():
            need(0 <= x <= 1 and 0 <= y <= 1, f"x {x}, y {y}")
    with rules.rule("`align` must give estimates in order of time"):
        told = list(follower.align(_blocks(sound, 4096)))
        need(told and all(a.time < b.time for a, b in pairwise(told)), "it did not")
    with rules.rule("`goto` must be taken, or ignored, at any time"):
        follower.reset()
        follower.goto(*_somewhere(layout))
        _hear(follower, sound[: len(sound) // 3])
        follower.goto(*_somewhere(layout))
        _hear(follower, sound[len(sound) // 3 :])
    with rules.rule("`expect` must be taken, or ignored, after `reset`"):
        follower.reset()
        follower.expect(*_somewhere(layout))
        told = _hear(follower, sound)
        need([one.time for one in told] == [one.time for one in whole], "other times")


def _try_scores(rules: Rules, make: Callable[[], Follower], score: Score, sound: Samples) -> None:
    with rules.rule("`read` must give a Reading whose layout only grows, to that of `prepare`"):
        follower = make()
        with follower.read(score, no_progress, 1) as reading:
            first = reading.layout
            grown = reading.until(len(score.pages))
            _grows(first, grown)
            reading.more()
        reading.close()
    if len(score.pages) > 1:
        with rules.rule("only the pages `score.followed` may be followed"):
            follower = make()
            follower.prepare(choose_pages(score, "2"), no_progress)
            follower.reset()
            pages = {one.page for one in _hear(follower, sound)}
            need(pages <= {2}, f"of page 2 alone, it said pages {sorted(pages)}")
    with rules.rule("a score without a layout must be read, or refused with a ScoreError"):
        follower = make()
        try:
            layout = follower.prepare(replace(score, layout=None), no_progress)
        except ScoreError as error:
            is_one_line(error)
        else:
            _well_numbered(layout)


def _hear(follower: Follower, *blocks: Samples) -> list[Estimate]:
    return [one for block in blocks for one in follower.feed(block)]


def _blocks(sound: Samples, size: int) -> Iterable[Samples]:
    return (sound[start : start + size] for start in range(0, len(sound), size))


def _same_after_reset(follower: Follower, whole: list[Estimate], blocks: Sequence[Samples]) -> None:
    follower.reset()
    _same(_hear(follower, *blocks), whole)


def _same(found: Sequence[Estimate], wanted: Sequence[Estimate]) -> None:
    need(len(found) == len(wanted), f"{len(found)} estimates instead of {len(wanted)}")
    for a, b in zip(found, wanted, strict=True):
        near = np.allclose(
            (a.time, a.x, a.y, a.confidence), (b.time, b.x, b.y, b.confidence), rtol=0, atol=CLOSE
        )
        need(near and (a.page, a.state) == (b.page, b.state), f"{a} instead of {b}")


def _well_numbered(layout: Layout) -> None:
    try:
        checked(layout)
    except ScoreError as error:
        need(False, str(error))
    need(numbered(layout) == layout, "measures are not numbered 1, 2, 3 and so on")


def _grows(first: Layout, later: Layout) -> None:
    before = [m for page in first.pages for s in page.systems for m in s.measures]
    after = [m for page in later.pages for s in page.systems for m in s.measures]
    need(after[: len(before)] == before, "measures that were there have changed")


def _somewhere(layout: Layout) -> tuple[int, float, float]:
    page = next(page for page in reversed(layout.pages) if page.systems)
    system = page.systems[0]
    return page.page, system.left, (system.top + system.bottom) / 2


def _times(before: Estimate, after: Estimate) -> str:
    return f"{after.time} after {before.time}"
