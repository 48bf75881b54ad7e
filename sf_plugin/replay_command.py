"""`scorefollow replay`: a recorded session once more, as it was or otherwise."""

from __future__ import annotations

import argparse
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.arguments import make_sinks, sink_options
from sf_plugin.audio.resampler import MonoResampler
from sf_plugin.audio.source import Source
from sf_plugin.controls import Controls
from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.follow_command import in_words
from sf_plugin.followers import Follower, Reading
from sf_plugin.page_turns import Lead, PageTurner, TurnSettings
from sf_plugin.positions import Event
from sf_plugin.recording import File, Recall, open_recording
from sf_plugin.score.layout import Layout
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Score
from sf_plugin.score.places import Start, choose_pages
from sf_plugin.score.structure import parse_order
from sf_plugin.session import Session
from sf_plugin.sinks import Sink
from sf_plugin.terminal import FAILED, OK, Display, clock, command, say

log = logging.getLogger("sf_plugin")


class ReplayedSound(Source):
    """The sound of a recording, cut where something else happened.

    Attributes:
        time: where the block begins that was given last, seconds.
        controls: of the session; told what the player wished, with the same sample.
    """

    def __init__(self, recall: Recall) -> None:
        self.recall = recall
        self.seconds = recall.seconds
        self.time = 0.0
        self.controls: Controls | None = None
        self._closed = False

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        wishes = deque(self.recall.controls())
        times = [wish.time for wish in wishes]
        times += [time for time, _ in (*self.recall.pages_known(), *self.recall.hurries())]
        cuts = deque(sorted({round(time * sample_rate) for time in times} - {0}))
        at = 0
        for block in self._resampled(sample_rate):
            while len(block) and not self._closed:
                self.time = at / sample_rate
                while wishes and round(wishes[0].time * sample_rate) <= at:
                    wish = wishes.popleft()
                    if self.controls is not None:
                        self.controls.wish(wish)
                piece = block[: cuts[0] - at] if cuts else block
                block = block[len(piece) :]
                at += len(piece)
                if cuts and cuts[0] == at:
                    cuts.popleft()
                yield piece

    def _resampled(self, rate: int) -> Iterator[NDArray[np.float32]]:
        resampler = MonoResampler(self.recall.rate, rate)
        with closing(self.recall.sound()) as sound:
            yield from map(resampler.feed, sound)
        yield resampler.finish()

    def close(self) -> None:
        self._closed = True


class Replay(Session):
    """A session that hears a recording; takes what `Session` takes."""

    def __init__(self, recall: Recall, *rest: Any, **named: Any) -> None:
        self.recall = recall
        self.sound = ReplayedSound(recall)
        self._hurries = deque(recall.hurries())
        super().__init__(self.sound, *rest, **named)
        self.sound.controls = self.controls

    def _keep_up(self, waiting: float) -> None:
        """Frames are passed over where they were when it was recorded."""
        while self._hurries and self._hurries[0][0] <= self.sound.time:
            _, self.follower.hurry = self._hurries.popleft()

    def _read(self) -> Reading:
        """The pages are read as far as they were read when it was recorded."""
        if not self.recall.live:
            return super()._read()
        reading = self.follower.read(self.score, self.progress, self._through)
        return _ReadAgain(reading, self.sound)


class _ReadAgain(Reading):
    """A reading that goes on when it went on in the recording."""

    def __init__(self, reading: Reading, sound: ReplayedSound) -> None:
        super().__init__(reading.layout)
        self._reading = reading
        self._sound = sound
        self._due = deque(sound.recall.pages_known())

    def more(self) -> Layout | None:
        if not self._due or self._due[0][0] > self._sound.time:
            return None
        _, page = self._due.popleft()
        return self._reading.until(page)

    def close(self) -> None:
        self._reading.close()


class Comparison(Sink):
    """Holds events against the recorded ones, up to the first that is another.

    Attributes:
        told: events that were the same.
        first: the first that was another: its time, the recorded line and the new one.
    """

    def __init__(self, recall: Recall) -> None:
        self.recall = recall
        self.told = 0
        self.time = 0.0
        self.first: tuple[float, str | None, str | None] | None = None
        self._lines = recall.lines()

    def emit(self, event: Event) -> None:
        if self.first is not None:
            return
        line, recorded = event.to_json(), next(self._lines, None)
        if line == recorded:
            self.told += 1
            self.time = event.time
        elif recorded is not None or self.recall.whole:
            self.first = event.time, recorded, line

    def close(self) -> None:
        if self.first is None and self.recall.whole:
            recorded = next(self._lines, None)
            if recorded is not None:
                self.first = self.time, recorded, None

    @property
    def verdict(self) -> str:
        """In words; of the session when it has ended."""
        if self.first is not None:
            time, recorded, now = self.first
            return (
                f"the events differ from those recorded, from {clock(time)} on\n"
                f"  recorded: {recorded or 'nothing'}\n"
                f"  now:      {now or 'nothing'}"
            )
        if self.recall.whole:
            return f"all {self.told} events are the same as recorded"
        return f"all {self.told} events are the same as recorded, up to {clock(self.time)}"


def add_parser(commands: Any) -> None:
    """The command; receivers are the same as those of `scorefollow follow`."""
    parser = command(
        commands,
        "replay",
        _replay,
        "follow a recorded session again",
        "Follow what 'scorefollow follow --record' kept: the same sound on the same score\n"
        "with the same settings, and what the player wished at the same samples. Says\n"
        "whether every event is the same, bit for bit.",
        ("is it the same?", "scorefollow replay 'takes/2026-11-29T14-03-22 sonata' --check"),
        (
            "a page to look at, from the events that were told then",
            "scorefollow replay 'takes/2026-11-29T14-03-22 sonata' --report sonata.html",
        ),
        (
            "to a light desk, at the speed of the music",
            "scorefollow replay 'takes/2026-11-29T14-03-22 sonata' --realtime --osc 127.0.0.1:9000",
        ),
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a recorded session")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 where an event is another than recorded"
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help="follow nothing: write the recorded events as a report to look at in a browser",
    )
    parser.add_argument(
        "--score",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="the files of the score (default: where they were when it was recorded)",
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="of the follower unet (default: the shipped)"
    )
    parser.add_argument(
        "--realtime", action="store_true", help="at the speed of the music; the same results"
    )
    sink_options(parser.add_argument_group("receivers (any number, each may be repeated)"))


def _replay(args: argparse.Namespace) -> int:
    sinks = make_sinks(args)
    recall = open_recording(args.folder)
    score = _score(recall, args.score)
    if args.report is not None:
        if args.check or args.weights or args.realtime or sinks:
            raise ScoreFollowerError(
                "--report follows nothing: leave out --check, --weights, --realtime and receivers"
            )
        return _report(recall, score, args.report)
    _give_sound(recall, [sink for _, sink in sinks])
    settings = recall.settings
    comparison, display = Comparison(recall), Display(args.realtime)
    turning = TurnSettings(lead=Lead.parse(settings.lead), half_pages=settings.half_pages)
    from sf_plugin.api import make_mapper

    session = Replay(
        recall,
        _follower(settings.follower, settings.weights, args.weights),
        make_mapper(settings.mapper),
        score,
        [*sinks, ("comparison", comparison), ("status line", display)],
        start=None if settings.start is None else Start.of(settings.start),
        turner=lambda layout: PageTurner(layout, turning),
        realtime=args.realtime,
        progress=display.progress,
    )
    with display.shown():
        session.run()
    say(in_words(session.summary))
    say(comparison.verdict)
    if session.summary.failed_sinks:
        return FAILED
    return FAILED if args.check and comparison.first is not None else OK


def _follower(name: str, recorded: File | None, weights: Path | None) -> Follower:
    from sf_plugin.api import make_follower
    from sf_plugin.unet.plugin import make_unet

    if weights is not None:
        if name != "unet":
            raise ScoreFollowerError(f"--weights are for the follower unet, not {name}")
        return make_unet(weights)
    follower = make_follower(name)
    if recorded is not None and _changed(recorded, Path(recorded.path)):
        log.warning("the follower has other weights than when this was recorded")
    return follower


def _score(recall: Recall, given: Sequence[Path] | None) -> Score:
    """The score that was recorded, as it was.

    Raises:
        ScoreError: it is not there any more, or is another now.
    """
    settings = recall.settings
    for file in chain(() if given else settings.score, filter(None, [settings.symbols])):
        path = Path(file.path)
        if not path.exists():
            raise ScoreError(f"{path}: is not there any more: {_mend(file is settings.symbols)}")
        if _changed(file, path):
            raise ScoreError(
                f"{path}: has changed since it was recorded: {_mend(file is settings.symbols)}"
            )
    paths = [Path(file.path) for file in settings.score] if not given else list(given)
    if given and [File.of(path).sha256 for path in given] != [f.sha256 for f in settings.score]:
        log.warning("this is another score than was recorded: events may be others")
    score = load_score(
        paths,
        ignore_layout=True,
        symbols=None if settings.symbols is None else Path(settings.symbols.path),
    )
    if len(score.pages) != settings.pages:
        raise ScoreError(
            f"{paths[0]}: has {len(score.pages)} pages, the recorded score had {settings.pages}: "
            "name that one with --score"
        )
    if settings.layout is not None:
        score = replace(score, layout=settings.layout)
    if settings.chosen is not None:
        score = choose_pages(score, settings.chosen)
    return replace(score, order=parse_order(settings.order))


def _mend(symbols: bool) -> str:
    return "put it back" if symbols else "name the score with --score"


def _changed(file: File, path: Path) -> bool:
    return path.exists() and File.of(path).sha256 != file.sha256


def _give_sound(recall: Recall, sinks: Sequence[Sink]) -> None:
    """Receivers that let the sound be heard take it from the recording."""
    sound = recall.folder / "sound.flac"
    for sink in sinks:
        if recall.ended is not None and sound.exists() and hasattr(sink, "with_sound"):
            sink.with_sound(sound)


def _report(recall: Recall, score: Score, path: Path) -> int:
    from sf_adapters.report import Report

    with Report(str(path)) as report:
        _give_sound(recall, [report])
        report.open(score, recall.layout())
        for event in recall.events():
            report.emit(event)
    if not path.exists():
        raise ScoreFollowerError(f"{recall.folder}: no position was told: there is no report")
    return OK
