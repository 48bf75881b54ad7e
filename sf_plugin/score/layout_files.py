"""Layout files: where they are kept, and whether what stands in one can be true."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, Measure, PageLayout, System

SLACK = 0.01
"""Of the page: what measures may overlap or stand out of their system."""


def kept_beside(paths: Sequence[Path]) -> Path:
    """Where the layout of a score is kept: `sonata.pdf` has `sonata.layout.json` beside it."""
    return paths[0].with_name(paths[0].stem + ".layout.json")


def read_layout(path: Path, pages: int) -> Layout:
    """A layout from a file, its measures numbered anew in reading order.

    Args:
        path: what `scorefollow layout` wrote, corrected by hand or not.
        pages: how many the score has.

    Raises:
        ScoreError: the file cannot be read, or is not the layout of such a score.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ScoreError(f"{path}: cannot be read: {reason}: check the name") from None
    try:
        layout = Layout.from_json(text)
        if len(layout.pages) != pages:
            raise ScoreError(
                f"has {len(layout.pages)} pages, the score has {pages}: "
                "write it again with 'scorefollow layout'"
            )
        return numbered(checked(layout))
    except ScoreError as error:
        raise ScoreError(f"{path}: {error}") from None


def numbered(layout: Layout, first: int = 1) -> Layout:
    """The same with measures numbered from `first` in reading order."""
    number = first - 1
    pages = []
    for page in layout.pages:
        systems = []
        for system in page.systems:
            measures = [replace(m, number=n) for n, m in enumerate(system.measures, number + 1)]
            number += len(measures)
            systems.append(replace(system, measures=tuple(measures)))
        pages.append(replace(page, systems=tuple(systems)))
    return Layout(tuple(pages))


def checked(layout: Layout) -> Layout:
    """The same layout.

    Raises:
        ScoreError: a box is none, outside the page or its system, or out of order; the
            message names the page, the system and the measure, each from 1.
    """
    for number, page in enumerate(layout.pages, 1):
        for where, reason in _faults(page, number):
            raise ScoreError(f"{where}: {reason}: correct it there")
    return layout


def _faults(page: PageLayout, number: int) -> Iterator[tuple[str, str]]:
    """What is wrong on a page, the first thing first."""
    here = f"page {number}"
    if page.page != number or isinstance(page.page, bool):
        yield here, f"'page' is {page.page!r}: pages count from 1, in order"
    for index, system in enumerate(page.systems, 1):
        place = f"{here}, system {index}"
        for low, high in (("top", "bottom"), ("left", "right")):
            yield from ((place, reason) for reason in _edge_faults(system, low, high))
        yield from _measure_faults(system, place)
    for index, (above, below) in enumerate(pairwise(page.systems), 2):
        if _middle(below) <= _middle(above):
            yield f"{here}, system {index}", "stands above the one before: order them downwards"


def _middle(system: System) -> float:
    return (system.top + system.bottom) / 2


def _measure_faults(system: System, place: str) -> Iterator[tuple[str, str]]:
    end = system.left
    for index, measure in enumerate(system.measures, 1):
        where = f"{place}, measure {index}"
        yield from ((where, reason) for reason in _edge_faults(measure, "left", "right"))
        yield from ((where, reason) for reason in _field_faults(measure))
        if measure.left < end - SLACK:
            what = "the measure before ends" if index > 1 else "the system begins"
            yield where, f"begins at {measure.left:g}, before {what} at {end:g}"
        end = measure.right
        if end > system.right + SLACK:
            yield where, f"ends at {end:g}, after the system at {system.right:g}"


def _edge_faults(box: System | Measure, low: str, high: str) -> Iterator[str]:
    edges = {name: getattr(box, name) for name in (low, high)}
    for name, value in edges.items():
        if not _is_number(value) or not 0 <= value <= 1:
            yield f"'{name}' is {value!r:.40}, not a fraction of the page from 0 to 1"
    if edges[low] >= edges[high]:
        yield f"'{low}' is {edges[low]:g}, not less than '{high}', {edges[high]:g}"


def _field_faults(measure: Measure) -> Iterator[str]:
    for name in ("label", "volta"):
        value = getattr(measure, name)
        if value is not None and not (isinstance(value, str) and value.isprintable()):
            yield f"'{name}' is {value!r:.40}, neither text nor null"
    for name in ("repeat_start", "repeat_end"):
        value = getattr(measure, name)
        if not isinstance(value, bool):
            yield f"'{name}' is {value!r:.40}, neither true nor false"
    texts = (*measure.signs, *(name for _, name in measure.notes))
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        yield "a sign or the id of a note is no text"
    numbers = [number for pair in measure.onsets for number in pair]
    numbers += [beat for beat, _ in measure.notes]
    if not all(map(math.isfinite, numbers)):
        yield "an onset is no number"
    for (x0, beat0), (x1, beat1) in pairwise(measure.onsets):
        if x1 <= x0 or beat1 <= beat0:
            yield f"onsets do not rise at x {x1:g}, beat {beat1:g}"
    if any(not measure.left - SLACK <= x <= measure.right + SLACK for x, _ in measure.onsets):
        yield "an onset stands outside it"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
