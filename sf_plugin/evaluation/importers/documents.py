"""Cases from tables of onsets, as whole documents or page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.engraved import LEAST_ONSETS, symbols, truth_of
from sf_plugin.evaluation.importers.sounds import Cut
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

PLACE = np.dtype([("time", "f8"), ("page", "i8"), ("system", "i8"), ("x", "f8")])
"""An onset in seconds, its page and its system within the page from 1, x in page widths."""


def true_places(places: np.ndarray, layout: Layout) -> Truth:
    """The truth of rows of PLACE, put in order of time."""
    places = places[np.argsort(places["time"], kind="stable")]
    return truth_of(places, places["page"], places["system"], layout)


def page_by_page(case: Case) -> Iterator[Case]:
    """Each stay on a page as a case of its own: the protocol of Henkel and Widmer 2021.

    Its sound is cut out from the page's first onset to that of the next page; the first
    one is heard from the start.  Stays of fewer than LEAST_ONSETS onsets are left out.
    """
    truth = case.truth
    edges = [0, *(np.flatnonzero(np.diff(truth.page)) + 1).tolist(), len(truth.time)]
    scores: dict[int, Score] = {}
    for stay, (first, last) in enumerate(pairwise(edges)):
        if last - first < LEAST_ONSETS:
            continue
        page = int(truth.page[first])
        begin = float(truth.time[first]) if first else 0.0
        end = float(truth.time[last]) if last < len(truth.time) else None
        visit = int((truth.page[edges[: stay + 1]] == page).sum())
        name = f"{case.name}, page {page}" + (f", visit {visit}" if visit > 1 else "")
        here = slice(first, last)
        count = last - first
        image = case.score.pages[page - 1]
        yield replace(
            case,
            name=name,
            score=scores.setdefault(page, Score(f"{case.score.name}, page {page}", [image])),
            layout=Layout((replace(case.layout.pages[page - 1], page=1),)),
            truth=Truth(
                truth.time[here] - begin,
                np.ones(count, np.int64),
                truth.system[here],
                truth.x[here],
                truth.measure[here],
                {1: truth.system_centres[page]},
                {(1, s): bars for (p, s), bars in truth.bars.items() if p == page},
            ),
            sound=Cut(case.sound, begin, end),
            happenings=tuple(
                replace(happening, time=happening.time - begin)
                for happening in case.happenings
                if begin <= happening.time and (end is None or happening.time < end)
            ),
            symbols=symbols(case.symbols, page - 1) if case.symbols is not None else None,
        )
