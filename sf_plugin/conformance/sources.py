"""What a source must do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.source import Source
from sf_plugin.conformance.rules import Rules, is_one_line, need
from sf_plugin.errors import ScoreFollowerError

RATE, OTHER_RATE = 22050, 8000

LOUDEST = 4.0
"""Full scale is 1; resampled music may be a little above it."""

WAIT_SECONDS = 20.0
"""For a block, or for the end after `close`."""

LIVE_SECONDS = 1.0
"""Of a source that is live that are heard."""

LENGTH = 0.1
"""Seconds by which lengths may differ that are the same."""


def check_source(
    make: Callable[[], Source],
    bad: Callable[[], Source] | None = None,
    *,
    what: str = "the source",
) -> None:
    """Try a source.  One that is live is heard for a second, and must have sound all the time.

    Args:
        make: gives a new one each time, as the registered factory with its argument does.
        bad: gives one that cannot be heard, if there is such.

    Raises:
        Broken: it does not do what it must.
    """
    __tracebackhide__ = True
    rules = Rules(what)
    with rules.rule("the factory must take what follows SCHEME: and give a Source"):
        source = make()
        need(isinstance(source, Source), f"it gave a {type(source).__name__}")
    rules.end()
    live = source.live
    with rules.rule("`close` must be harmless, and a second time"):
        source.close()
        source.close()
    with rules.rule("`live` must be True or False, `seconds` a number or None"):
        need(isinstance(live, bool), f"live is {live!r}")
        need(source.seconds is None or source.seconds > 0, f"seconds is {source.seconds!r}")
    with rules.rule("`blocks` must give (n,) float32 samples, full scale 1.0"):
        with make() as source:
            sound = _hear(source, RATE, LIVE_SECONDS if live else None)
            _is_sound(sound)
            lost, waiting = source.dropped_seconds, source.waiting_seconds
        need(lost >= 0 and waiting >= 0, "`dropped_seconds` and `waiting_seconds` count from 0")
    rules.end()
    if not live:
        seconds = sum(map(len, sound)) / RATE
        with rules.rule("`blocks` must resample to the rate that is asked for"), make() as source:
            again = sum(map(len, _hear(source, OTHER_RATE, None))) / OTHER_RATE
            need(abs(again - seconds) < LENGTH, f"{again:.2f} s at one, {seconds:.2f} s at another")
        if source.seconds is not None:
            with rules.rule("`seconds` must be the length"):
                need(abs(source.seconds - seconds) < LENGTH, f"{source.seconds}, not {seconds:.2f}")
    with rules.rule("`blocks` must end soon after `close`, also called from another thread"):
        _ends(make())
    if bad is not None:
        with rules.rule("what cannot be heard must be refused with an AudioError"):
            _refused(bad)
    rules.end()


def _hear(source: Source, rate: int, seconds: float | None) -> list[NDArray[np.float32]]:
    """What comes in `seconds`, or up to the end; in a thread, so as not to wait for ever."""
    blocks: queue.SimpleQueue[NDArray[np.float32] | Exception | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for block in source.blocks(rate):
                blocks.put(block)
            blocks.put(None)
        except Exception as error:
            blocks.put(error)

    threading.Thread(target=work, daemon=True).start()
    heard: list[NDArray[np.float32]] = []
    while seconds is None or sum(map(len, heard)) < seconds * rate:
        try:
            block = blocks.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            need(False, f"nothing came for {WAIT_SECONDS:g} s")
        if isinstance(block, Exception):
            raise block
        if block is None:
            break
        heard.append(block)
    return heard


def _is_sound(blocks: list[NDArray[np.float32]]) -> None:
    need(sum(map(len, blocks)), "it gave no samples")
    for block in blocks:
        need(isinstance(block, np.ndarray), f"it gave a {type(block).__name__}")
        need(block.dtype == np.float32, f"they are {block.dtype}")
        need(block.ndim == 1, f"a block has shape {block.shape}: mix the channels to one")
        need(np.isfinite(block).all(), "some are no numbers")
        loudest = float(np.abs(block).max(initial=0.0))
        need(loudest <= LOUDEST, f"one is {loudest:g}: divide integers by their full scale")


def _ends(source: Source) -> None:
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        with source:
            for _ in source.blocks(RATE):
                began.set()
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    began.wait(WAIT_SECONDS)
    source.close()
    need(ended.wait(WAIT_SECONDS), f"it went on for {WAIT_SECONDS:g} s")


def _refused(bad: Callable[[], Source]) -> None:
    try:
        with bad() as source:
            _hear(source, RATE, LIVE_SECONDS)
    except ScoreFollowerError as error:
        is_one_line(error)
    else:
        need(False, "it was heard")
