"""`scorefollow train`: weights from a set of engraved pieces."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sf_plugin.errors import ScoreFollowerError
from sf_plugin.terminal import Display, command, count

INTERRUPTED = 130


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "train",
        _train,
        "train a network to follow",
        "Learn from pages and performances made of the set DATA, as 'scorefollow dataset\n"
        "build' makes it. RUN is a folder: weights.safetensors, the averaged weights that did\n"
        "best on pieces never trained on, always heard in a room; last.pt, from which the same\n"
        "command goes on after Ctrl-C or a crash; curves.jsonl, and event files where\n"
        "TensorBoard is installed. A GPU is used where there is one.",
        (
            "an hour and a half",
            "scorefollow train data/set runs/mine --minutes 90",
        ),
        (
            "until three validations bring no gain, four performances a page",
            "scorefollow train data/set runs/mine --steps 100000 --patience 3 --performances 4",
        ),
        (
            "from the weights of another run",
            "scorefollow train data/set runs/next --begin-with runs/mine/weights.safetensors",
        ),
        (
            "on two GPUs, or in two processes without one",
            "torchrun --nproc-per-node 2 -m sf_plugin.training.train data/set runs/mine",
        ),
        (
            "the network of Henkel et al. 2020",
            "scorefollow dataset templates data/set/templates-cunet.npz --config cunet\n"
            "      scorefollow train data/set runs/paper --config cunet",
        ),
        ("then", "scorefollow evaluate data/set --weights runs/mine/weights.safetensors"),
    )
    parser.add_argument("data", metavar="DATA", type=Path, help="set of engraved pieces")
    parser.add_argument("folder", metavar="RUN", type=Path, help="folder for the run")
    what = parser.add_argument_group("what")
    what.add_argument(
        "--config",
        choices=("default", "cunet"),
        default="default",
        help="the network (default %(default)s); cunet is the published one",
    )
    what.add_argument(
        "--begin-with", metavar="WEIGHTS", type=Path, help="begin with these where they fit"
    )
    what.add_argument(
        "--freeze",
        metavar="PART",
        nargs="+",
        default=[],
        choices=("page", "pitch_maps", "maps", "strip", "strip_pitches", "staff", "audio"),
        help="parts of the network that stay as they are: page pitch_maps maps is the page "
        "encoder, most of a step's time",
    )
    what.add_argument(
        "--pieces",
        metavar="PATTERN",
        nargs="+",
        default=["*"],
        help="only those for training whose names are like one of these",
    )
    what.add_argument(
        "--performances",
        metavar="K",
        type=count,
        default=1,
        help="of each page a step (default %(default)s)",
    )
    what.add_argument(
        "--templates",
        metavar="FILE",
        type=Path,
        help="the instruments' notes (default: templates.npz in DATA, for cunet "
        "templates-cunet.npz)",
    )
    long = parser.add_argument_group("how long")
    either = long.add_mutually_exclusive_group()
    either.add_argument(
        "--steps",
        metavar="N",
        type=_at_least(1),
        default=12000,
        help="of two pages each (default %(default)s)",
    )
    either.add_argument(
        "--minutes", metavar="M", type=_positive, help="of training instead, by the clock"
    )
    long.add_argument(
        "--validate",
        metavar="MINUTES",
        type=_positive,
        default=10.0,
        help="between validations (default %(default)g)",
    )
    long.add_argument(
        "--patience",
        metavar="N",
        type=count,
        help="stop after so many validations without a gain (default: never)",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--rate",
        metavar="R",
        type=_positive,
        default=1.5e-3,
        help="highest learning rate (default %(default)g)",
    )
    how.add_argument(
        "--seed",
        metavar="N",
        type=_at_least(0),
        default=0,
        help="of everything (default %(default)s)",
    )
    how.add_argument(
        "--workers",
        metavar="N",
        type=_at_least(0),
        default=1,
        help="processes that make samples (default %(default)s)",
    )
    how.add_argument(
        "--threads", metavar="N", type=count, help="that compute (default: as torch chooses)"
    )
    how.add_argument("--export", metavar="FILE", type=Path, help="copy the weights here in the end")


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return whole


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def _train(args: argparse.Namespace) -> int:
    if args.export is not None and not args.export.parent.is_dir():
        raise ScoreFollowerError(f"{args.export.parent}: is no folder: make it first")
    from sf_plugin.training.train import train

    display = Display(live=False)
    with display.shown():
        finished = train(args, display.progress)
    return 0 if finished else INTERRUPTED
