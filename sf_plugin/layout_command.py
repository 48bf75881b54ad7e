"""`scorefollow layout`: the systems and measures on the pages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sf_plugin import serve_command
from sf_plugin.arguments import follower_argument, layout_arguments, score_argument, score_of
from sf_plugin.score.layout import Layout
from sf_plugin.score.layout_exports import FORMATS, Sheets, format_of, page_names
from sf_plugin.score.layout_files import kept_beside
from sf_plugin.score.model import PAGE_WIDTH, Score
from sf_plugin.terminal import OK, Display, command, errors, say, write_anew, write_whole


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "layout",
        _layout,
        "find systems and measures on the pages",
        "Find the systems and measures of SCORE and write them as JSON: fractions of\n"
        "the page from the top left, measures numbered from 1. Kept beside the score, and\n"
        "corrected by hand where needed, this file is used by follow, align and layout.\n\n"
        "formats, by the file's suffix or by --format:\n"
        + "\n".join(f"  {name:<12} {one.suffix:<10} {one.help}" for name, one in FORMATS.items()),
        ("look at it", "scorefollow layout sonata.pdf --picture sonata-layout.pdf"),
        ("correct it by hand in a browser, and keep it", "scorefollow layout sonata.pdf --edit"),
        ("keep it as sonata.layout.json, to correct it", "scorefollow layout sonata.pdf --keep"),
        (
            "zones in the pixels of your images, for MEI",
            "scorefollow layout page1.png page2.png --out zones.mei --width 2480",
        ),
        (
            "with the measure numbers of a symbolic score",
            "scorefollow layout sonata.pdf --symbols sonata.musicxml --keep",
        ),
    )
    score_argument(parser)
    layout_arguments(parser)
    written = parser.add_argument_group("what to write (default: JSON on stdout)")
    written.add_argument("--out", metavar="FILE", type=Path, help="a file")
    written.add_argument(
        "--format",
        choices=FORMATS,
        help="of FILE or stdout (default: by the suffix of FILE; json on stdout)",
    )
    written.add_argument(
        "--keep",
        action="store_true",
        help="JSON beside the score, as sonata.layout.json; an older one gets a ~ at its end",
    )
    written.add_argument(
        "--edit",
        action="store_true",
        help="open the stand in a browser, to correct it there by hand and keep it; nothing else "
        "is written",
    )
    written.add_argument(
        "--picture",
        metavar="FILE",
        type=Path,
        help="the layout drawn on the pages: a .pdf, or a .png for every page",
    )
    written.add_argument(
        "--width",
        metavar="PIXELS",
        type=_pixels,
        default=PAGE_WIDTH,
        help="of a page, where places are written in pixels (default %(default)s)",
    )
    written.add_argument(
        "--canvas-base",
        metavar="URL",
        help="what pages are called: the URL of a IIIF canvas, with {page} for the number of the "
        "page or ending before it (default: the names of the files)",
    )
    follower_argument(parser, "which follower reads")


def _pixels(text: str) -> int:
    value = int(text)
    if not 100 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not in 100 to 100000 pixels")
    return value


def _layout(args: argparse.Namespace) -> int:
    from sf_plugin.api import make_follower
    from sf_plugin.score.overlay import pictures
    from sf_plugin.score.symbols import named

    if args.edit:
        return _edit(args)
    known = args.format is not None or args.out is None
    how = FORMATS[args.format or "json"] if known else format_of(args.out)
    score = score_of(args)
    with errors.status("starting"):
        follower = make_follower(args.follower)
    display = Display(live=False)
    with display.shown():
        layout = named(follower.prepare(score, display.progress), score)
    if args.out is not None or not (args.keep or args.picture):
        sheets = _sheets(score, layout, args, sized=how.in_pixels)
        if args.out is None:
            sys.stdout.write(how.write(sheets))
        else:
            write_whole(args.out, how.write(sheets))
    if args.picture is not None:
        for path, picture in pictures(args.picture, score, layout):
            write_whole(path, picture)
    if args.keep:
        _keep(kept_beside(args.score), layout)
    systems = [system for page in layout.pages for system in page.systems]
    measures = sum(len(system.measures) for system in systems)
    say(f"{len(layout.pages)} pages, {len(systems)} systems, {measures} measures")
    return OK


def _edit(args: argparse.Namespace) -> int:
    """`scorefollow serve --correct` with what was said of the layout."""
    words = ["serve", "--correct", "--port", "0", "--follower", args.follower]
    words += [] if args.layout is None else ["--layout", str(args.layout)]
    words += ["--ignore-layout"] if args.ignore_layout else []
    words += [] if args.symbols is None else ["--symbols", str(args.symbols)]
    words += [] if args.pages is None else ["--pages", args.pages]
    words += ["--debug"] if args.debug else []
    parser = argparse.ArgumentParser()
    serve_command.add_parser(parser.add_subparsers())
    served = parser.parse_args([*words, "--", *map(str, args.score)])
    return int(served.run(served))


def _sheets(score: Score, layout: Layout, args: argparse.Namespace, *, sized: bool) -> Sheets:
    """What is written of a layout; pages are looked at only where their sizes count."""
    shapes = [page.shape for page in score.pages] if sized else []
    sizes = tuple((args.width, round(args.width * h / w)) for h, w in shapes)
    names = page_names(args.score, len(score.pages), args.canvas_base)
    return Sheets(score.name, layout, sizes, names)


def _keep(path: Path, layout: Layout) -> None:
    write_anew(path, f"{layout.to_json()}\n".encode())
    say(f"kept as {path}: correct it there")
