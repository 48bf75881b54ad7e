"""The calls that most scripts need."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.alignment import Alignment, make_alignment
from sf_plugin.audio.resampler import MonoResampler
from sf_plugin.audio.source import Source
from sf_plugin.audio.sources import open_source
from sf_plugin.errors import AudioError
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.plugins import registry
from sf_plugin.positions import Position
from sf_plugin.score.load import load_score
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.model import Score
from sf_plugin.score.places import Start, choose_pages
from sf_plugin.score.structure import parse_order
from sf_plugin.score.symbols import named
from sf_plugin.session import Session
from sf_plugin.sinks import Sink

FOLLOWER = "unet"
MAPPER = "plain"

ScorePath = str | os.PathLike[str]
Audio = str | os.PathLike[str] | Source | tuple[NDArray[Any], int]


def follow(
    score: Score | ScorePath | Sequence[ScorePath] | Any,
    audio: Audio,
    *,
    follower: str | Follower = FOLLOWER,
    order: str = "",
    pages: str = "",
    start: Start | int | str | None = None,
    sinks: Sequence[tuple[str, Sink]] = (),
    realtime: bool = False,
    progress: Progress = no_progress,
) -> Generator[Position, None, None]:
    """Follow a performance; one position a frame, as soon as it is known.

    Args:
        score: what `load_score` takes, or what it gave.
        audio: a file, what `--audio` takes, a source such as `Microphone()`, or
            (samples, rate): samples of shape (n,) or (n, channels), full scale 1.0
            where they are floats, and their rate in Hz.
        follower: the name of a follower or a follower of your own.
        order: the measures that will be played, as "1-8,1-8,9-24", if that is known.
        pages: those to follow, as "37-45"; all by default.  They keep their numbers.
        start: the page where the performance begins, or as "37:5" one of its measures;
            found by listening by default.
        sinks: (name, sink) pairs that receive all events.
        realtime: pace a file by its own clock.
        progress: called as (what, steps done, steps in all) during long work.

    Raises:
        ScoreFollowerError: the score or the audio cannot be followed, or a sink cannot
            be opened.
    """
    on_stand = _on_stand(score, order, pages)
    session = Session(
        open_audio(audio),
        make_follower(follower) if isinstance(follower, str) else follower,
        make_mapper(),
        on_stand,
        sinks,
        start=None if start is None else Start.of(start),
        realtime=realtime,
        progress=progress,
    )
    return _positions(session)


def _positions(session: Session) -> Generator[Position, None, None]:
    with closing(session.events()) as events:
        for event in events:
            if isinstance(event, Position):
                yield event


def align(
    score: Score | ScorePath | Sequence[ScorePath] | Any,
    audio: Audio,
    *,
    follower: str | Follower = FOLLOWER,
    order: str = "",
    pages: str = "",
    progress: Progress = no_progress,
) -> Alignment:
    """Hear a whole performance and say when each measure was played.

    Takes the arguments of `follow`.  What comes later helps to find a place, so this
    is better than following where it need not be live.

    Raises:
        ScoreFollowerError: the score or the audio cannot be followed, nothing is heard,
            or the score is not recognised in it.
    """
    on_stand = _on_stand(score, order, pages)
    with open_audio(audio) as source:
        listener = make_follower(follower) if isinstance(follower, str) else follower
        layout = named(listener.prepare(on_stand, progress), on_stand)
        estimates = list(listener.align(_told(source, listener.sample_rate, progress), progress))
    return make_alignment(
        estimates, layout, make_mapper(), on_stand.name, listener.lag, on_stand.order
    )


def _on_stand(source: Any, order: str, pages: str) -> Score:
    score = load_score(source)
    if order:
        score = replace(score, order=parse_order(order))
    return choose_pages(score, pages) if pages else score


def _told(source: Source, rate: int, progress: Progress) -> Iterator[NDArray[np.float32]]:
    """The blocks of a source, and how much of it has been heard."""
    total = round(source.seconds or 0)
    heard = 0
    for block in source.blocks(rate):
        yield block
        heard += len(block)
        progress("hearing", heard // rate, total)


def make_follower(name: str = FOLLOWER) -> Follower:
    """The follower registered under a name.

    Raises:
        PluginError: there is none.
        WeightsError: its weights are missing or damaged.
    """
    return registry().followers.choose(name)()


def make_mapper(name: str = MAPPER) -> MeasureMapper:
    """The mapper registered under a name.

    Raises:
        PluginError: there is none.
    """
    return registry().mappers.choose(name)()


def open_audio(audio: Audio) -> Source:
    """A source for what `follow` takes as audio.

    Raises:
        AudioError: it cannot be read.
    """
    if isinstance(audio, tuple):
        samples, rate = audio
        return Samples(samples, rate)
    if isinstance(audio, Source):
        return audio
    schemes = {scheme: offer.make for scheme, offer in registry().sources.items()}
    return open_source(audio if isinstance(audio, str) else Path(audio), schemes)


class Samples(Source):
    """Audio that is already in memory.

    Args:
        samples: (n,) or (n, channels); integers are scaled to full scale 1.0.
        rate: Hz.

    Raises:
        AudioError: they are no audio.
    """

    def __init__(self, samples: NDArray[Any], rate: int) -> None:
        samples = np.asarray(samples)
        if samples.ndim not in (1, 2) or not len(samples) or samples.dtype.kind not in "fi":
            raise AudioError(
                f"samples of shape {samples.shape} and type {samples.dtype} are no audio: give "
                "(n,) or (n, channels) floats or integers"
            )
        if not rate > 0:
            raise AudioError(f"a rate of {rate} Hz is no rate: give samples a second")
        if samples.dtype.kind == "i":
            samples = samples / float(-np.iinfo(samples.dtype).min)
        self._frames = samples.astype(np.float32).reshape(len(samples), -1)
        self._rate = int(rate)
        self._closed = False
        self.seconds = len(samples) / rate

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        resampler = MonoResampler(self._rate, sample_rate)
        for start in range(0, len(self._frames), self._rate):
            if self._closed:
                return
            yield resampler.feed(self._frames[start : start + self._rate])
        yield resampler.finish()

    def close(self) -> None:
        self._closed = True
