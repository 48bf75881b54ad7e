"""What a user says of a long document: which pages to follow, and where to begin."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.model import Score


@dataclass(frozen=True, slots=True)
class Start:
    """Where a performance begins: a page, and one of its measures, both from 1."""

    page: int
    measure: int = 1

    @classmethod
    def of(cls, said: Start | int | str) -> Start:
        """A page, or text such as "37" or "37:5", the fifth measure of page 37.

        Raises:
            ScoreError: it says no page.
        """
        if isinstance(said, Start):
            return said
        match = re.fullmatch(r"\s*([1-9]\d{0,4})(?:\s*:\s*([1-9]\d{0,3}))?\s*", str(said))
        if match is None:
            raise ScoreError(
                f"'{said}' is no start: say a page, such as 37, or a page and one of its "
                "measures, such as 37:5"
            )
        return cls(int(match[1]), int(match[2] or 1))

    def place(self, layout: Layout) -> tuple[float, float]:
        """x and y of the measure's left end, fractions of the page.

        Raises:
            ScoreError: the page has no such measure or was not read.
        """
        page = next((page for page in layout.pages if page.page == self.page), None)
        if page is None:
            raise ScoreError(
                f"cannot start on page {self.page}: the score has {len(layout.pages)} pages"
            )
        lefts = [
            (measure.left, (system.top + system.bottom) / 2)
            for system in page.systems
            for measure in system.measures
        ]
        if self.measure > len(lefts):
            found = f"{len(lefts)} measures were" if lefts else "no music was"
            raise ScoreError(
                f"cannot start in measure {self.measure} of page {self.page}: {found} found "
                "there: choose another place ('scorefollow layout' tells what was found)"
            )
        return lefts[self.measure - 1]


def choose_pages(score: Score, said: str) -> Score:
    """The score with only some pages to be followed; pages keep their numbers.

    `said` is such as "37-45", "37" or "37-", which is up to the last.

    Raises:
        ScoreError: it says no pages of the score.
    """
    match = re.fullmatch(r"\s*([1-9]\d{0,4})\s*(?:(-)\s*([1-9]\d{0,4})?)?\s*", said)
    if match is None:
        raise ScoreError(
            f"'{said}' are no pages: say the first and the last to follow, such as 37-45"
        )
    first = int(match[1])
    last = int(match[3]) if match[3] else len(score.pages) if match[2] else first
    if not first <= last <= len(score.pages):
        raise ScoreError(
            f"{score.name}: has {len(score.pages)} pages, so there are no pages {said.strip()}: "
            "say the first and the last to follow, such as 1-2"
        )
    chosen = range(first - 1, last)
    layout = score.layout
    if layout is not None:
        layout = Layout(
            tuple(
                page if page.page - 1 in chosen else PageLayout(page.page) for page in layout.pages
            )
        )
    return replace(score, chosen=chosen, layout=layout)
