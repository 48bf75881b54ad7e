"""Pictures of a built set: pages as they were read, roads as they were followed, failures.

python -m sf_plugin.evaluation.gallery DATA OUT
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sf_plugin.dataset.paper import PAPERS
from sf_plugin.dataset.shards import Entry, ShardSet
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.engraved import EngravedPiece, Setting, find_pieces
from sf_plugin.evaluation.evaluate import Contestant
from sf_plugin.evaluation.following import Listen, Outcome, follow_cases, jumps_of
from sf_plugin.evaluation.html import WRONG, Drawn, strokes, worst
from sf_plugin.evaluation.layouts import compare_layouts
from sf_plugin.evaluation.plots import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH
from sf_plugin.evaluation.read_layouts import Reader, print_on, readers
from sf_plugin.positions import STATES
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import PageImage
from sf_plugin.score.overlay import SCALE, draw_layout, faded
from sf_plugin.unet.weights import SHIPPED, load_weights

PAGES = 10
"""Pages on the sheet of layouts: one on each paper, and one on a paper drawn by the seed."""

ROADS = ("repeats", "jumps", "practice", "interrupted")
FAILURES = ("scan", "photo", "hall", "jumps", "mistakes", "practice")
"""Conditions that are drawn."""

LAYOUT_WIDTH, FAILURE_WIDTH = 420, 600
"""Pixels of a page on the sheets."""

GAP, LINE, QUALITY = 12, 20, 78
TITLE = 28
"""Pixels above a road."""

EVERY = 8
"""Positions, 25 ms apart, of which one is a dot of a road."""

TRUTH, PATH, BAD = (20, 160, 80, 255), (40, 100, 215, 150), (220, 30, 30, 255)

DOTS = "h0m11 0h0m11 0h0"

STYLE = """
.ground{fill:#fff}
text{font:11px system-ui,sans-serif;fill:#5c5850}.title{font-size:13px;fill:#23211f}
path{fill:none}.grid{stroke:#dcd8d0}.aside{fill:#ece7dc}.played{stroke:#23211f;stroke-width:1}
.said{stroke:#2c66c4;stroke-width:3.2;stroke-linecap:round;stroke-opacity:.7}
.unsure{stroke:#d9730d;stroke-width:3.2;stroke-linecap:round}
@media (prefers-color-scheme:dark){.ground{fill:#201f1e}text{fill:#a19d94}.title{fill:#ebe8e1}
.grid{stroke:#3a3835}.aside{fill:#34302a}.played{stroke:#ebe8e1}.said{stroke:#6ea3f5}
.unsure{stroke:#f09a4a}}
"""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """A picture with the lines of its caption."""

    picture: Image.Image
    caption: tuple[str, ...]


def sheet(tiles: Sequence[Tile], columns: int) -> Image.Image:
    """Tiles in rows, each caption below its picture."""
    wide = max(tile.picture.width for tile in tiles) + GAP
    high = max(tile.picture.height + LINE * len(tile.caption) + GAP + GAP // 2 for tile in tiles)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    whole = Image.new("RGB", (columns * wide + GAP, rows * high + GAP), "white")
    draw = ImageDraw.Draw(whole)
    for i, tile in enumerate(tiles):
        left, top = GAP + i % columns * wide, GAP + i // columns * high
        whole.paste(tile.picture, (left, top))
        draw.rectangle(
            (left - 1, top - 1, left + tile.picture.width, top + tile.picture.height),
            outline=(190, 190, 190),
        )
        for row, line in enumerate(tile.caption):
            at = (left, top + tile.picture.height + 4 + LINE * row)
            draw.text(at, line, (30, 30, 30), font_size=15)
    return whole


def shrunk(image: PageImage, width: int) -> PageImage:
    """The page, `width` pixels wide."""
    size = width, round(image.shape[0] * width / image.shape[1])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def short(piece: str) -> str:
    """The composer and the last part of a piece's name."""
    first, *rest = piece.split("/")
    return f"{first}, {rest[-1]}" if rest else first


# layouts


def layout_tiles(
    shards: ShardSet, entries: Sequence[Entry], read: Reader, rng: np.random.Generator
) -> Iterator[Tile]:
    """A page of each of up to `PAGES` pieces, another paper each, with what was found on it."""
    by_piece = {entry.piece: entry for entry in entries}
    chosen = [list(by_piece.values())[i] for i in rng.permutation(len(by_piece))]
    papers = [*PAPERS, str(rng.choice(list(PAPERS)))][:PAGES]
    for entry, paper in zip(chosen, papers, strict=False):
        printed = print_on(paper, entry.name, shards.load(entry.name))
        page = int(rng.choice(np.unique(printed.systems["page"])))
        found = read(printed.pages[page], page + 1)
        true = measures_of_engraving(printed).pages[page]
        _, measures = compare_layouts(Layout((found,)), Layout((true,)))
        picture = draw_layout(shrunk(printed.pages[page], LAYOUT_WIDTH), found).reduce(SCALE)
        yield Tile(
            picture, (f"{short(entry.piece)}, page {page + 1}", f"{paper}: F1 {measures.f1:.2f}")
        )


# roads


@dataclass(frozen=True)
class Road:
    """What was played and what was said of it.

    Attributes:
        title: of the plot.
        seconds, measures: that the plot has room for.
        played: (onsets, 2) seconds and score position.
        said: (positions, 2) the same.
        sure: (positions,) whether the state was neither "unsure" nor "lost".
        asides: (asides, 2) from and to, in seconds, when something else was heard.
    """

    title: str
    seconds: float
    measures: int
    played: Floats
    said: Floats
    sure: NDArray[np.bool_]
    asides: Floats


def score_position(layout: Layout, page: int, x: float, y: float) -> float:
    """The number of the measure at a point, plus the share of it to the left of the point.

    NaN on a page without measures.
    """
    systems = [
        system
        for there in layout.pages
        if there.page == page
        for system in there.systems
        if system.measures
    ]
    if not systems:
        return float("nan")
    near = min(systems, key=lambda system: abs((system.top + system.bottom) / 2 - y))
    edges = [measure.left for measure in near.measures] + [near.measures[-1].right]
    return float(np.interp(x, edges, near.measures[0].number + np.arange(len(edges))))


def road_of(case: Case, outcome: Outcome) -> Road:
    """A case's performance and path over its true measures."""
    truth, layout = case.truth, case.layout
    track = outcome.track[outcome.track["state"] != STATES.index("waiting")][::EVERY]
    places = zip(truth.page.tolist(), truth.system.tolist(), truth.x.tolist(), strict=True)
    played = [
        score_position(layout, page, x, truth.system_centres[page][system - 1])
        for page, system, x in places
    ]
    said = [score_position(layout, int(p["page"]), float(p["x"]), float(p["y"])) for p in track]
    return Road(
        f"{case.condition}: {short(case.piece)}",
        outcome.seconds,
        sum(len(system.measures) for page in layout.pages for system in page.systems),
        np.column_stack([truth.time, played]),
        np.column_stack([track["time"], np.array(said, float)]),
        ~np.isin(track["state"], (STATES.index("unsure"), STATES.index("lost"))),
        np.array([(aside.begin, aside.end) for aside in case.asides]).reshape(-1, 2),
    )


def find_roads(pieces: Sequence[EngravedPiece], listen: Listen) -> Iterator[Road]:
    """One of each of `ROADS`, of the first piece that goes elsewhere; each begins one further."""
    for i, condition in enumerate(ROADS):
        for piece in [*pieces[i:], *pieces[:i]]:
            setting = replace(piece.setting, conditions=(condition,))
            (case,) = replace(piece, setting=setting)()
            if case.asides or jumps_of(case):
                (outcome,) = follow_cases([case], listen)
                yield road_of(case, outcome)
                break


def draw_roads(roads: Sequence[Road]) -> str:
    """Two plots a row, as an SVG that is light or dark as the reader's page is."""
    columns = min(2, len(roads))
    wide, high = columns * WIDTH, -(-len(roads) // 2) * HEIGHT + TITLE
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img">',
        "<title>Score position against time: played and said</title>",
        f'<style>{STYLE}</style><rect class="ground" width="{wide}" height="{high}"/>',
    ]
    for i, road in enumerate(roads):
        out.append(f'<g transform="translate({i % 2 * WIDTH} {i // 2 * HEIGHT})">')
        out += [*_plot(road), "</g>"]
    key = (
        ("played", "h22", "played"),
        ("said", DOTS, "said"),
        ("unsure", DOTS, "said while unsure or lost"),
    )
    y = high - 12
    for (kind, stroke, text), left in zip(key, (LEFT, LEFT + 90, LEFT + 170), strict=True):
        out.append(f'<path class="{kind}" d="M{left} {y - 4}{stroke}"/>')
        out.append(f'<text x="{left + 29}" y="{y}">{text}</text>')
    if any(len(road.asides) for road in roads):
        out.append(f'<rect class="aside" x="{LEFT + 350}" y="{y - 10}" width="22" height="12"/>')
        out.append(f'<text x="{LEFT + 379}" y="{y}">something else heard</text>')
    return "\n".join([*out, "</svg>\n"])


def _plot(road: Road) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM

    def x(seconds: float) -> float:
        return round(float(LEFT + (WIDTH - LEFT - RIGHT) * seconds / road.seconds), 1)

    def y(place: float) -> float:
        return round(float(bottom - (bottom - TITLE) * (place - 1) / road.measures), 1)

    def dots(points: Floats) -> str:
        known = points[~np.isnan(points[:, 1])]
        return "".join(f"M{x(time)} {y(place)}h0" for time, place in known)

    yield f'<text class="title" x="{LEFT}" y="18">{escape(road.title)}</text>'
    for start, end in road.asides:
        size = f'width="{x(end) - x(start):.1f}" height="{bottom - TITLE}"'
        yield f'<rect class="aside" x="{x(start)}" y="{TITLE}" {size}/>'
    for place in range(1, road.measures + 1, tick(road.measures)):
        yield f'<path class="grid" d="M{LEFT} {y(place)}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 5}" y="{y(place) + 4}" text-anchor="end">{place}</text>'
    for seconds in range(0, int(road.seconds) + 1, tick(road.seconds)):
        yield f'<text x="{x(seconds)}" y="{bottom + 15}" text-anchor="middle">{seconds}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">seconds</text>'
    turn = f'transform="translate(13 {(TITLE + bottom) / 2}) rotate(-90)"'
    yield f'<text {turn} text-anchor="middle">measure</text>'
    yield f'<path class="said" d="{dots(road.said[road.sure])}"/>'
    yield f'<path class="unsure" d="{dots(road.said[~road.sure])}"/>'
    line = "".join(
        "M" + "L".join(f"{x(time)} {y(place)}" for time, place in part) for part in parts(road)
    )
    yield f'<path class="played" d="{line}"/>'


def tick(most: float) -> int:
    """A round step that goes into `most` seven times at most."""
    return next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if most / s <= 7)


def parts(road: Road) -> list[Floats]:
    """What was played, broken where it goes back or leaps over more than a measure."""
    steps = np.diff(road.played[:, 1])
    return np.split(road.played, np.flatnonzero((steps < -1e-6) | (steps > 2)) + 1)


# failures


def find_failures(pieces: Sequence[EngravedPiece], listen: Listen) -> list[Drawn]:
    """The worst case of each of `FAILURES`; none of a condition in which nothing was wrong."""
    followed: dict[str, list[Drawn]] = {condition: [] for condition in FAILURES}
    for piece in pieces:
        cases = replace(piece, setting=replace(piece.setting, conditions=FAILURES))()
        for case, outcome in zip(cases, follow_cases(cases, listen), strict=True):
            followed[case.condition].append(Drawn(case, outcome))
    return [ones[i] for ones in followed.values() for i in worst([d.outcome for d in ones], 1)]


def failure_tile(one: Drawn) -> Tile:
    """The page with most onsets more than `WRONG` seconds off, truth and path drawn on it."""
    case, wrong = one.case, one.outcome.answers.error > WRONG
    page = int(np.bincount(case.truth.page[wrong]).argmax())
    there = int((wrong & (case.truth.page == page)).sum())
    return Tile(
        draw_failure(one, page, wrong),
        (
            f"{case.condition}: {short(case.piece)}, page {page} of {len(case.score.pages)}",
            f"wrong: {wrong.mean():.0%} of {len(wrong)} onsets; {there} on this page",
        ),
    )


def draw_failure(one: Drawn, page: int, wrong: NDArray[np.bool_]) -> Image.Image:
    """Page `page` (from 1): the path blue, onsets green, (onsets,) `wrong` ones red."""
    truth, track = one.case.truth, one.outcome.track
    picture = faded(shrunk(one.case.score.pages[page - 1], FAILURE_WIDTH))
    draw = ImageDraw.Draw(picture, "RGBA")
    width, height = picture.size
    for points, _ in strokes(track[track["page"] == page]):
        draw.line([(x * width, y * height) for x, y in points], PATH, 7)
    for bad, colour in ((False, TRUTH), (True, BAD)):
        for i in np.flatnonzero((truth.page == page) & (wrong == bad)).tolist():
            x = float(truth.x[i]) * width
            y = truth.system_centres[page][int(truth.system[i]) - 1] * height
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), colour)
    return picture.reduce(SCALE)


# the command


def make(args: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each picture that is asked for.

    Raises:
        ScoreFollowerError: the set, a piece of it or the weights cannot be used.
    """
    shards = ShardSet(args.data)
    folder = args.data if args.data.is_dir() else args.data.parent
    setting = Setting(ROADS, False, 0, folder / "recordings")
    found = find_pieces(args.data, [args.use], ["*"], setting)
    order = np.random.default_rng(args.seed).permutation(len(found))
    pieces = [found[i] for i in order]
    if "layouts" in args.only:
        read = readers(load_weights(args.weights))["unet"]
        rng = np.random.default_rng(args.seed)
        tiles = list(layout_tiles(shards, shards.of_use(args.use), read, rng))
        yield "layouts.jpg", jpeg(sheet(tiles, 5))
    if "roads" not in args.only and "failures" not in args.only:
        return
    listen = Contestant("unet", args.weights)()
    if "roads" in args.only:
        yield "roads.svg", draw_roads(list(find_roads(pieces, listen))).encode()
    if "failures" in args.only:
        tiles = [failure_tile(one) for one in find_failures(pieces[: args.pieces], listen)]
        if not tiles:
            raise ScoreError("no onset was wrong: follow more with --pieces, or another --seed")
        yield "failures.jpg", jpeg(sheet(tiles, 3))


def jpeg(picture: Image.Image) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def write(out: Path, files: Iterable[tuple[str, bytes]]) -> Iterator[Path]:
    """Write files into the folder `out`, which is made; each as it comes.

    Raises:
        ScoreFollowerError: one cannot be written.
    """
    for name, data in files:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
        except OSError as error:
            raise ScoreFollowerError(
                f"{out / name}: cannot be written ({error.strerror}): choose another OUT"
            ) from None
        yield out / name


def main(words: list[str] | None = None) -> None:
    """Writes the pictures and says so."""
    parser = argparse.ArgumentParser(
        prog="python -m sf_plugin.evaluation.gallery",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draw what was read and followed of a built set.\n\n"
        "  layouts.jpg   pages of ten pieces on all papers, with the systems and measures found\n"
        f"  roads.svg     score position against time: {', '.join(ROADS)}\n"
        f"  failures.jpg  the worst case of {', '.join(FAILURES)}",
        epilog="Pieces and pages are chosen by the seed, not by how they look. Recordings are "
        "kept in\nDATA/recordings, where 'scorefollow evaluate' keeps them too.\n\n"
        "  python -m sf_plugin.evaluation.gallery data/set docs/images\n"
        "  python -m sf_plugin.evaluation.gallery data/set out --only failures --pieces 18",
    )
    parser.add_argument("data", metavar="DATA", type=Path, help="a built data set")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder for the pictures")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=("layouts", "roads", "failures"),
        default=["layouts", "roads", "failures"],
        help="some of the pictures: layouts, roads, failures",
    )  # fmt: skip
    parser.add_argument("--use", default="valid", help="of the pieces (default %(default)s)")
    parser.add_argument(
        "--pieces", metavar="N", type=int, default=6,
        help="that are followed under each condition to find the worst (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default %(default)s)")
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="of the network")
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    try:
        for path in write(args.out, make(args)):
            print(path, flush=True)
    except ScoreFollowerError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
