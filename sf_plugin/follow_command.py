"""`scorefollow follow`: listen to a performance and act on it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sf_plugin.arguments import (
    follower_argument,
    layout_arguments,
    make_sinks,
    names,
    order_argument,
    score_argument,
    score_of,
    sink_options,
    sound_arguments,
    source_of,
)
from sf_plugin.audio.source import Source
from sf_plugin.followers import Follower
from sf_plugin.page_turns import Lead, PageTurner, TurnSettings
from sf_plugin.plugins import registry
from sf_plugin.score.model import Score
from sf_plugin.score.places import Start
from sf_plugin.score.structure import parse_order
from sf_plugin.session import Session, Summary
from sf_plugin.sinks import Sink
from sf_plugin.terminal import FAILED, OK, Display, clock, command, errors, say


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "follow",
        _follow,
        "follow a performance and act on it",
        "Listen to a performance of SCORE, find the place on its pages, and tell the\n"
        "receivers: every position, page turns, jumps and changes of state.\n\n"
        "A file is followed as fast as the computer can; --realtime paces it like a\n"
        "performance, with the same results. Ctrl-C ends it; what was written is kept.\n\n"
        "Without any arguments, on a terminal, it asks for what it needs.",
        (
            "where was the pianist, frame by frame",
            "scorefollow follow sonata.pdf --audio take.wav --out positions.jsonl",
        ),
        ("pages as images, in order; live", "scorefollow follow page1.png page2.png --mic"),
        (
            "one piece in a book, from its second page",
            "scorefollow follow book.pdf --pages 37-45 --start 38 --mic",
        ),
        (
            "turn pages on a tablet, send OSC",
            "scorefollow follow sonata.pdf --mic 'USB' --turn ipad --osc 127.0.0.1:7000",
        ),
        (
            "the first repeat is taken, the second is not",
            "scorefollow follow minuet.pdf --mic --order 1-8,1-24",
        ),
        (
            "from any program that writes raw 16-bit samples",
            "ffmpeg -v error -i concert.mkv -f s16le -ac 1 -ar 44100 - |\n"
            "      scorefollow follow sonata.pdf --audio - --pcm-rate 44100",
        ),
    )
    score_argument(parser)
    sound_arguments(parser, "sound (one of these)", required=True)
    following_arguments(parser)


def following_arguments(parser: argparse.ArgumentParser) -> None:
    """The receivers, and how to follow."""
    receivers = parser.add_argument_group("receivers (any number, each may be repeated)")
    sink_options(receivers)
    receivers.add_argument(
        "--record",
        metavar="DIR",
        type=Path,
        help="keep the session in a new folder of DIR: sound, events, settings, warnings",
    )
    how = parser.add_argument_group("how to follow")
    layout_arguments(how)
    order_argument(how)
    how.add_argument(
        "--start",
        metavar="PAGE[:MEASURE]",
        help="the performance begins on this page, or in this measure of it, counted from 1 "
        "(default: most likely with the first note, else found by listening)",
    )
    how.add_argument(
        "--lead",
        metavar="TIME",
        type=_lead,
        default=TurnSettings().lead,
        help="turn a page this long before its last notes: 1.5s, or 2beats at the tempo "
        "then played (default %(default)s)",
    )
    how.add_argument(
        "--half-pages",
        action="store_true",
        help="while the lower half of a page is played, show the upper half of the next above "
        "it, and the rest when the music is there",
    )
    follower_argument(how, "which follower listens")
    how.add_argument(
        "--mapper",
        metavar="NAME",
        default="plain",
        help=f"from place to measure: {names(registry().mappers)} (default %(default)s)",
    )


def _lead(text: str) -> Lead:
    try:
        return Lead.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _follow(args: argparse.Namespace) -> int:
    from sf_plugin.api import make_follower

    score = score_of(args)
    score.order = parse_order(args.order)
    source = source_of(args)
    display = Display(source.live or args.realtime or args.audio == "-")
    sinks = [*make_sinks(args), ("status line", display)]
    with errors.status("starting"):
        follower = make_follower(args.follower)
    session = make_session(args, source, follower, score, sinks, display)
    try:
        with display.shown():
            session.run()
    except KeyboardInterrupt:
        say(in_words(session.summary))
        raise
    say(in_words(session.summary))
    return FAILED if session.summary.failed_sinks else OK


def make_session(
    args: argparse.Namespace,
    source: Source,
    follower: Follower,
    score: Score,
    sinks: Sequence[tuple[str, Sink]],
    display: Display,
) -> Session:
    """The session of `follow` and of `serve`, which is kept where that is wanted."""
    from sf_plugin.api import make_mapper

    turning = TurnSettings(lead=args.lead, half_pages=args.half_pages)
    new_session: Callable[..., Session] = Session
    if args.record is not None:
        from sf_plugin.recording import RecordedSession, Settings

        new_session = partial(RecordedSession, args.record, Settings.of(args, score))
    _tell_recording(source, sinks)
    return new_session(
        source,
        follower,
        make_mapper(args.mapper),
        score,
        sinks,
        start=None if args.start is None else Start.of(args.start),
        turner=lambda layout: PageTurner(layout, turning),
        realtime=args.realtime,
        progress=display.progress,
    )


def _tell_recording(source: Source, sinks: Sequence[tuple[str, Sink]]) -> None:
    """Receivers that let a recording be heard need to know which file is followed."""
    from sf_plugin.audio.files import FileSource

    for _, sink in sinks:
        if isinstance(source, FileSource) and hasattr(sink, "with_sound"):
            sink.with_sound(source.path)


def in_words(summary: Summary) -> str:
    """How a session went."""
    last = summary.last
    where = f", ended in measure {last.label or last.measure}" if last and last.measure else ""
    lost = f", {summary.dropped_seconds:.1f} s lost" if summary.dropped_seconds else ""
    turns = f"{summary.turns} page turn{'' if summary.turns == 1 else 's'}"
    return f"{clock(summary.seconds)} heard{lost}, {turns}{where}"
