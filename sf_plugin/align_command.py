"""`scorefollow align`: when each measure of a recording was played."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from sf_plugin.alignment_formats import FORMATS, Origin, format_of
from sf_plugin.arguments import (
    follower_argument,
    layout_arguments,
    order_argument,
    score_argument,
    score_of,
)
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.score.structure import parse_order
from sf_plugin.terminal import OK, Display, clock, command, say, write_whole


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "align",
        _align,
        "say when each measure of a recording was played",
        "Hear a whole recording of SCORE and write when each measure was played, in the\n"
        "order played, repeats and jumps included. Since what comes later helps to find a\n"
        "place, this is better than following where it need not be live.\n\n"
        "formats, by the file's suffix or by --format:\n"
        + "\n".join(
            f"  {name:<17} {one.suffix or '':<10} {one.help}" for name, one in FORMATS.items()
        ),
        ("look at it", "scorefollow align sonata.pdf --audio take.wav"),
        (
            "as labels under the waveform in Audacity",
            "scorefollow align sonata.pdf --audio take.wav --out take.txt",
        ),
        (
            "every note's time, for Sonic Visualiser",
            "scorefollow align sonata.pdf --audio take.wav --out take.csv "
            "--format sonic-visualiser",
        ),
        (
            "as bars and beats under the recording, in a music program",
            "scorefollow align sonata.pdf --audio take.wav --out take.mid",
        ),
        (
            "with systems and measures corrected by hand",
            "scorefollow align sonata.pdf --audio take.wav --layout sonata.layout.json",
        ),
    )
    score_argument(parser)
    parser.add_argument("--audio", metavar="FILE", required=True, help="any audio or MIDI file")
    parser.add_argument(
        "--out", metavar="FILE", default="-", help="where to write ('-', the default: stdout)"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="what to write (default: by the suffix of FILE; csv on stdout)",
    )
    layout_arguments(parser)
    order_argument(parser)
    follower_argument(parser, "which follower listens")


def _align(args: argparse.Namespace) -> int:
    from sf_plugin.api import align

    out = None if args.out == "-" else Path(args.out)
    if out is not None and not out.parent.is_dir():
        raise ScoreFollowerError(f"{out}: there is no such folder: make it or choose another place")
    if out is not None and out.is_dir():
        raise ScoreFollowerError(f"{out}: is a folder: name a file in it")
    how = FORMATS[args.format or "csv"] if args.format or out is None else format_of(out)
    score = score_of(args)
    folder = Path() if out is None else out.parent
    audio = os.path.relpath(args.audio, folder) if Path(args.audio).is_file() else args.audio
    origin = Origin(score, tuple(args.score), args.symbols, audio)
    how.check(origin)
    score.order = parse_order(args.order)
    display = Display(live=False)
    with display.shown():
        found = align(score, args.audio, follower=args.follower, progress=display.progress)
    content = how.write(found, origin)
    if out is not None:
        write_whole(out, content)
    elif isinstance(content, bytes):
        sys.stdout.buffer.write(content)
    else:
        sys.stdout.write(content)
    jumps = sum(measure.jumped for measure in found.measures)
    count = len(found.measures)
    say(
        f"{clock(found.positions[-1].time)} heard, {count} measure{'' if count == 1 else 's'} "
        f"played, {jumps} jump{'' if jumps == 1 else 's'}"
    )
    return OK
