"""How well measures get the names of a symbolic score: `python -m sf_plugin.evaluation.naming SET`.

Each engraving of a built set is its own symbolic score: of its tables only the written
notes are given, not where they stand.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.truth_layout import measures_of_engraving, printed_measures
from sf_plugin.score.layout import Layout, Measure, System
from sf_plugin.score.layout_files import numbered
from sf_plugin.score.measures import beat_at, place_at
from sf_plugin.score.model import Score
from sf_plugin.score.symbols import Places, WrittenMeasure, name_measures, without_names
from sf_plugin.terminal import count, print_rows

SAME_BEAT = 0.25
"""Quarter notes within which a beat is right."""
DAMAGE = (0.0, 0.05, 0.1, 0.2)
"""Share of bar lines left out, and of measures parted by one that is none."""


def written_measures(engraving: Engraving) -> tuple[list[WrittenMeasure], list[int]]:
    """The measures as written, labelled by their index, and the index of every printed one.

    A measure that is broken across two lines is printed twice and written once.
    """
    rows = printed_measures(engraving)
    index = (np.cumsum(rows["before"] == 0) - 1).tolist()
    notes = engraving.notes[engraving.notes["grace"] == 0]
    written = []
    for i in range(index[-1] + 1):
        mine = rows[np.array(index) == i]
        start, end = float(mine["start"][0]), float(mine["end"][-1])
        inside = (notes["score"] == mine["score"][0]) & (notes["onset"] >= start - 1e-9)
        onsets = 4 * (notes["onset"][inside & (notes["onset"] < end - 1e-9)] - start)
        beats = np.unique(np.round(np.maximum(onsets, 0), 4)).tolist()
        written.append(
            WrittenMeasure(
                str(i),
                round(4 * (end - start), 4),
                tuple(beats) or (0.0,),
                tuple((beat, "") for beat in beats),
            )
        )
    return written, index


def damaged(layout: Layout, share: float, rng: np.random.Generator) -> Layout:
    """Measures with `share` of the bar lines left out, and as many added where none is."""

    def system(system: System) -> System:
        joined: list[Measure] = []
        for measure in system.measures:
            if joined and rng.random() < share:
                joined[-1] = replace(joined[-1], right=measure.right)
            else:
                joined.append(replace(measure, label=None, onsets=()))
        measures: list[Measure] = []
        for measure in joined:
            cuts = [rng.uniform(0.3, 0.7)] if rng.random() < share else []
            width = measure.right - measure.left
            edges = [measure.left, *(measure.left + cut * width for cut in cuts), measure.right]
            measures += [replace(measure, left=a, right=b) for a, b in pairwise(edges)]
        return replace(system, measures=tuple(measures))

    return numbered(
        Layout(
            tuple(
                replace(page, systems=tuple(system(one) for one in page.systems))
                for page in layout.pages
            )
        )
    )


@dataclass(frozen=True)
class Named:
    """How many true measures and beats there are, and how many are right."""

    measures: int = 0
    right: int = 0
    onsets: int = 0
    same_beat: int = 0

    def __add__(self, other: Named) -> Named:
        return Named(
            self.measures + other.measures,
            self.right + other.right,
            self.onsets + other.onsets,
            self.same_beat + other.same_beat,
        )


def compare(named: Layout, true: Layout, index: list[int]) -> Named:
    """Look every true measure's middle and onsets up in the named layout.

    `index` holds the right label of every true measure.
    """
    by_page = {page.page: page for page in named.pages}
    found = Named()
    for page, system, measure in _measures(true):
        y = (system.top + system.bottom) / 2
        right = str(index[measure.number - 1])

        def at(x: float, page: int = page, y: float = y) -> Measure | None:
            place = place_at(by_page.get(page), x, y)
            return place.measure if place is not None else None

        middle = at((measure.left + measure.right) / 2)
        same = 0
        for x, beat in measure.onsets[:-1]:
            there = at(x)
            if there is not None and there.label == right:
                told = beat_at(there, x)
                same += told is not None and abs(told - beat) <= SAME_BEAT
        hit = middle is not None and middle.label == right
        found += Named(1, int(hit), max(len(measure.onsets) - 1, 0), same)
    return found


def _measures(layout: Layout) -> Iterator[tuple[int, System, Measure]]:
    for page in layout.pages:
        for system in page.systems:
            for measure in system.measures:
                yield page.page, system, measure


def trials(
    engraving: Engraving, written: list[WrittenMeasure], seeds: int, detect: bool
) -> Iterator[tuple[str, Layout]]:
    """What was given, and the layout with the names that came of it."""
    true = measures_of_engraving(engraving)
    for share in DAMAGE:
        what = f"true bar lines, {share:.0%} left out and added" if share else "true bar lines"
        for seed in range(seeds if share else 1):
            bars = damaged(true, share, np.random.default_rng(seed))
            yield what, name_measures(bars, written)
    if detect:
        found, places = _read(engraving)
        yield "found bar lines", name_measures(found, written)
        yield "found bar lines and onsets", name_measures(found, written, places)
        yield "true bar lines, found onsets", name_measures(without_names(true), written, places)


def _read(engraving: Engraving) -> tuple[Layout, Places]:
    from sf_plugin.api import make_follower

    follower = make_follower()
    return follower.prepare(Score("engraving", list(engraving.pages))), follower.places()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sf_plugin.evaluation.naming",
        description="How well measures get the names of a symbolic score.",
    )
    parser.add_argument("set", metavar="SET", type=Path, help="a built set")
    parser.add_argument("--use", default="valid", help="which part (default %(default)s)")
    parser.add_argument(
        "--seeds", type=count, default=5, help="damages of each piece (default %(default)s)"
    )
    parser.add_argument("--detect", action="store_true", help="also as found in the images")
    args = parser.parse_args(argv)
    shards = ShardSet(args.set)
    totals: dict[str, Named] = {}
    for entry in shards.of_use(args.use):
        engraving = shards.load(entry.name, images=args.detect)
        written, index = written_measures(engraving)
        true = measures_of_engraving(engraving)
        for what, found in trials(engraving, written, args.seeds, args.detect):
            totals[what] = totals.get(what, Named()) + compare(found, true, index)
    rows = [
        (what, str(n.measures), f"{n.right / n.measures:.3f}", f"{n.same_beat / n.onsets:.3f}")
        for what, n in totals.items()
    ]
    print_rows(("given", "measures", "right measure", f"beat within {SAME_BEAT:g}"), rows)


if __name__ == "__main__":
    main()
