"""When to turn the page: shortly before its last notes, once, and never while unsure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Self

from sf_plugin.errors import ScoreError
from sf_plugin.positions import PageTurn, Position
from sf_plugin.score.layout import Layout, PageLayout, System
from sf_plugin.score.measures import measure_starts
from sf_plugin.score.structure import find_roads

BEAT = 0.6
"""Seconds of a quarter note where the tempo is unknown."""

DOUBT, SURE = 0.5, 0.9
"""Confidence at which time at a place counts nothing, and from which it counts in full."""

LONGEST_LEAD = 30.0
"""Seconds or quarter notes."""

MIDDLE = 0.5
"""Where half pages are cut, as a fraction of the page's height."""


@dataclass(frozen=True, slots=True)
class Lead:
    """How long before the last notes of a page it is turned: seconds, or quarter notes."""

    amount: float = 1.0
    unit: Literal["s", "beats"] = "s"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "1.5s", "1.5" or "2beats".

        Raises:
            ValueError: it is written in another way, or too long.
        """
        found = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{0,6})?)\s*(s|beats?)?\s*", text, re.ASCII)
        if not found or float(found[1]) > LONGEST_LEAD:
            raise ValueError(
                f"{text!r}: write seconds or beats from 0 to {LONGEST_LEAD:g}: 1.5s, 2beats"
            )
        return cls(float(found[1]), "s" if found[2] in ("s", None) else "beats")

    def seconds(self, tempo: float | None) -> float:
        """In seconds, at a tempo in quarter notes a minute."""
        if self.unit == "s":
            return self.amount
        return self.amount * (60 / tempo if tempo else BEAT)

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """How eager the page turner is.

    Attributes:
        lead: how long before the last notes of a page it is turned; before its end, where
            the notes are not known.
        half_pages: while the lower half of a page is played, the upper half of the next
            is shown above it; the rest follows when the music is there.
        confidence: below this, and in any state but "tracking", nothing is turned.
        agreement: seconds the position must keep saying that the end is near.
        printed: seconds the music must be at a place that is not shown, where print leads:
            the next page after the end of this one, or back from a repeat sign.  Less
            certain seconds count less.
        passed_over: the same where a repeat could have been taken, and was not.
        rested: the same after a stand of `rest` seconds.
        elsewhere: the same anywhere else.
        rest: seconds.
        doubt: seconds of being unsure after which a stay begins anew.
        memory: seconds over which the speed along a system is measured, from one move to
            another.
        rewind: share of the system's width by which the music must move back
            before the last system of a page that was turned counts as a stay.
    """

    lead: Lead = Lead()
    half_pages: bool = False
    confidence: float = 0.6
    agreement: float = 0.1
    printed: float = 0.5
    passed_over: float = 0.2
    rested: float = 0.8
    elsewhere: float = 1.2
    rest: float = 0.5
    doubt: float = 1.0
    memory: float = 6.0
    rewind: float = 0.25


@dataclass(slots=True)
class _State:
    shown: int = 1
    half: bool = False
    """Whether the upper half of the page after `shown` stands above its lower half."""
    held: int | None = None
    """The page on which the music was when the player chose another."""
    left_at: Position | None = None
    """From where the last turn ahead was made."""
    near_since: float | None = None
    time: float = 0.0
    unsure: float = 0.0
    here: Position | None = None
    """The last sure position."""
    seen: Position | None = None
    """The first of the last sure place that is shown."""
    hidden: Position | None = None
    """The first of a stay at what is not shown."""
    hidden_for: float = 0.0
    track: deque[tuple[float, float]] = field(default_factory=deque)
    track_system: tuple[int, int | None] | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class _Point:
    """A place on the last system of a page; `beats` from the document's start, where known."""

    x: float
    beats: float | None


class PageTurner:
    """Hears every position of a performance and says when to show which page.

    A turn is always to something else than what is shown.

    Attributes:
        first: the page shown at the start.
    """

    def __init__(self, layout: Layout, settings: TurnSettings | None = None) -> None:
        self.settings = settings or TurnSettings()
        self.first = 1
        self.extend(layout)
        self.reset()

    def extend(self, layout: Layout) -> None:
        """More of the score was read: the same measures and later ones."""
        self.layout = layout
        self._pages = {page.page: page for page in layout.pages if page.systems}
        self._starts = measure_starts(layout)
        self._ends = {number: self._end_of(page) for number, page in self._pages.items()}
        self._roads = find_roads(layout).successors()

    def reset(self) -> None:
        """Forget the performance; the first page is shown."""
        self._state = _State(shown=self.first)

    @property
    def shown(self) -> int:
        """The page that is now shown, counted from 1; of half pages, the lower one."""
        return self._state.shown

    def show(self, page: int) -> PageTurn | None:
        """Obey the player, who wants to see `page`; a turn, unless it is shown.

        It stays at least until the music leaves the page on which it now is.

        Raises:
            ScoreError: there is no such page.
        """
        if all(page != known.page for known in self.layout.pages):
            raise ScoreError(
                f"there is no page {page} to show: the score has {len(self.layout.pages)} pages"
            )
        state = self._state
        state.held = state.here.page if state.here is not None else None
        state.left_at = None
        if page == state.shown and not state.half:
            return None
        return self._turned(PageTurn(time=state.time, page=page, lead=0.0))

    def beginning(self, page: int) -> tuple[float, float] | None:
        """x and y where the music of a page begins.

        None where it has none, and where the music is there or about to come there.
        """
        here = self._state.here
        if page not in self._pages or (here is not None and here.page == page):
            return None
        if here is not None and self._following(here.page) == page and self._is_last(here):
            return None
        system = self._pages[page].systems[0]
        return system.left, (system.top + system.bottom) / 2

    def hear(self, position: Position) -> PageTurn | None:
        """Take the next position, in order of time; a turn if it is due now."""
        state = self._state
        passed, state.time = position.time - state.time, position.time
        if position.state != "tracking" or position.confidence < self.settings.confidence:
            self._doubt(passed)
            return None
        state.unsure, state.here = 0.0, position
        self._measure_speed(position)
        if position.page == state.held != state.shown:
            return None
        state.held = None
        turn = self._turn_ahead(position) or self._catch_up(position, passed)
        return self._turned(turn) if turn else None

    def _turned(self, turn: PageTurn) -> PageTurn:
        state = self._state
        state.half = turn.half
        if not turn.half:
            state.shown = turn.page
        state.near_since = state.hidden = None
        return turn

    def _doubt(self, passed: float) -> None:
        state = self._state
        state.near_since = None
        state.track.clear()
        state.unsure += passed
        if state.unsure >= self.settings.doubt:
            state.hidden = None

    # ahead of the music

    def _turn_ahead(self, position: Position) -> PageTurn | None:
        """A turn to the next page when the end of the one shown is near."""
        state, settings = self._state, self.settings
        page = self._pages.get(position.page)
        following = self._following(position.page)
        if page is None or following is None or position.page != state.shown or state.half:
            state.near_since = None
            return None
        half = settings.half_pages and any(map(_is_low, page.systems))
        near = self._is_low(position) if half else self._near_the_end(page, position)
        if not near or self._goes_back(page.systems if half else page.systems[-1:], position):
            state.near_since = None
            return None
        if state.near_since is None:
            state.near_since = position.time
        if position.time - state.near_since < (settings.printed if half else settings.agreement):
            return None
        if not half:
            state.left_at = position
        lead = self._seconds_to(self._ends[page.page][1], page, position) or 0.0
        return PageTurn(time=position.time, page=following, lead=round(lead, 3), half=half)

    def _near_the_end(self, page: PageLayout, position: Position) -> bool:
        if not self._is_last(position):
            return False
        left = self._seconds_to(self._ends[page.page][0], page, position)
        lead = self.settings.lead.seconds(position.tempo) + self.settings.agreement
        return left is not None and left <= lead

    def _end_of(self, page: PageLayout) -> tuple[_Point, _Point]:
        """Where the page's last note stands, or its end where that is unknown, and its end."""
        last = page.systems[-1]
        known = [
            _Point(
                x, self._starts[measure.number] + beat if measure.number in self._starts else None
            )
            for measure in last.measures
            for x, beat in measure.onsets[:-1]
        ]
        final = last.measures[-1] if last.measures else None
        beats = None
        if final is not None and final.onsets and final.number in self._starts:
            beats = self._starts[final.number] + final.onsets[-1][1]
        end = _Point(last.right, beats)
        return (known[-1] if known else end), end

    def _seconds_to(self, point: _Point, page: PageLayout, position: Position) -> float | None:
        """Seconds until the music reaches a point of its page; None where it stands still."""
        start = self._starts.get(position.measure or 0)
        if point.beats is not None and start is not None and position.tempo:
            beats = point.beats - start - (position.beat or 0.0)
            return max(beats * 60 / position.tempo, 0.0)
        rows = page.systems[(position.system or 1) - 1 :]
        breaks = sum(row.right - below.left for row, below in pairwise(rows))
        distance = point.x - position.x + breaks
        if distance <= 0:
            return 0.0
        if not self._state.speed:
            return None
        measures = page.systems[-1].measures
        last = not measures or position.measure == measures[-1].number
        stood = position.time - self._state.track[-1][0] if last else 0.0
        return max(distance / self._state.speed - stood, 0.0)

    def _measure_speed(self, position: Position) -> None:
        """Keep the page widths a second between the last moves along one system."""
        state, memory = self._state, self.settings.memory
        place = (position.page, position.system)
        if place != state.track_system or (state.track and position.x < state.track[-1][1] - 0.05):
            state.track.clear()
            state.track_system = place
        if not state.track or position.x != state.track[-1][1]:
            state.track.append((position.time, position.x))
        while len(state.track) > 1 and state.track[0][0] < position.time - memory:
            state.track.popleft()
        (start, x), (stop, end) = state.track[0], state.track[-1]
        if stop - start >= memory / 6:
            state.speed = max((end - x) / (stop - start), 0.0)

    # after the music

    def _catch_up(self, position: Position, passed: float) -> PageTurn | None:
        """A turn to where the music has been for long enough, where that is not shown."""
        state = self._state
        if self._sees(position):
            state.hidden = None
            seen = state.seen
            if seen is None or (seen.page, seen.system, seen.x) != (
                position.page,
                position.system,
                position.x,
            ):
                state.seen = position
            return None
        if state.hidden is None or state.hidden.page != position.page:
            state.hidden, state.hidden_for = position, 0.0
        else:
            certain = (position.confidence - DOUBT) / (SURE - DOUBT)
            state.hidden_for += passed * min(max(certain, 0.0), 1.0)
        if state.hidden_for < self._patience(state.hidden) - 1e-9:
            return None
        state.left_at = None
        return PageTurn(time=position.time, page=position.page, lead=0.0)

    def _sees(self, position: Position) -> bool:
        """Whether the place is shown, or is the end of a page that was just turned."""
        state = self._state
        if position.page == state.shown:
            state.left_at = None
            return not state.half or self._is_low(position)
        left = state.left_at
        if left is None or (position.page, position.system) != (left.page, left.system):
            return False
        last = self._pages[left.page].systems[-1]
        return position.x > left.x - self.settings.rewind * (last.right - last.left)

    def _patience(self, come_to: Position) -> float:
        """Seconds for which the music must be at a hidden place."""
        seen, settings = self._state.seen, self.settings
        if seen is None:
            return settings.elsewhere
        if self._reads_on(seen, come_to):
            last = self._pages[seen.page].systems[-1:]
            return settings.passed_over if self._goes_back(last, seen) else settings.printed
        roads = self._roads.get(seen.measure or 0, ())
        if any(0 <= (come_to.measure or 0) - enter <= 1 for enter in roads):
            return settings.printed
        return settings.rested if come_to.time - seen.time >= settings.rest else settings.elsewhere

    def _reads_on(self, seen: Position, come_to: Position) -> bool:
        next_page = come_to.page == self._following(seen.page)
        return next_page and come_to.system == 1 and self._is_last(seen)

    def _following(self, page: int) -> int | None:
        """The next page with music."""
        return min((number for number in self._pages if number > page), default=None)

    def _goes_back(self, systems: Sequence[System], position: Position) -> bool:
        """Whether a repeat is yet to be taken on these systems."""
        return position.pass_ == 1 and any(
            enter <= measure.number
            for system in systems
            for measure in system.measures
            if position.measure is None or measure.number >= position.measure
            for enter in self._roads.get(measure.number, ())
        )

    def _is_last(self, position: Position) -> bool:
        """Whether the position is on the last system of its page."""
        page = self._pages.get(position.page)
        return page is not None and position.system == len(page.systems)

    def _is_low(self, position: Position) -> bool:
        """Whether the position is on a system in the lower half of its page."""
        page = self._pages.get(position.page)
        return (
            page is not None
            and position.system is not None
            and _is_low(page.systems[position.system - 1])
        )


def _is_low(system: System) -> bool:
    return system.top >= MIDDLE
