"""When to turn the page: shortly before its last notes, once, and never while unsure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sf_plugin.positions import PageTurn, Position
from sf_plugin.score.layout import Layout, PageLayout, System


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """How eager the page turner is.

    Attributes:
        lead: seconds before the last notes of a page at which it is turned.
        confidence: below this, and in any state but "tracking", nothing is turned.
        agreement: seconds the position must keep saying that the end is near.
        onward: seconds on a later page after which a missed turn is made up for.
        back: seconds on an earlier page after which it is turned back to.
        memory: seconds over which the speed along a system is measured.
        rewind: share of the system's width by which the music must move back
            before the last system of a page that was turned counts as a stay.
    """

    lead: float = 1.0
    confidence: float = 0.6
    agreement: float = 0.1
    onward: float = 1.0
    back: float = 2.0
    memory: float = 3.0
    rewind: float = 0.25


@dataclass(slots=True)
class _State:
    shown: int = 1
    left_at: tuple[int, int | None, float] | None = None
    """Page, system and x from which the last turn ahead was made."""
    near_since: float | None = None
    elsewhere: int | None = None
    elsewhere_since: float = 0.0
    track: deque[tuple[float, float]] = field(default_factory=deque)
    track_system: tuple[int, int | None] | None = None
    speed: float | None = None


class PageTurner:
    """Hears every position of a performance and says when to show which page.

    The page shown at the start is page 1; a turn is always to another page than
    the one shown.
    """

    def __init__(self, layout: Layout, settings: TurnSettings | None = None) -> None:
        self.layout = layout
        self.settings = settings or TurnSettings()
        self._pages = {page.page: page for page in layout.pages if page.systems}
        self.reset()

    def reset(self) -> None:
        """Forget the performance; page 1 is shown."""
        self._state = _State()

    @property
    def shown(self) -> int:
        """The page that the player should see now, counted from 1."""
        return self._state.shown

    def hear(self, position: Position) -> PageTurn | None:
        """Take the next position, in order of time; a turn if it is due now."""
        state, settings = self._state, self.settings
        if position.state != "tracking" or position.confidence < settings.confidence:
            state.near_since = None
            state.elsewhere = None
            state.track.clear()
            return None
        self._measure_speed(position)
        turn = self._turn_ahead(position) or self._catch_up(position)
        if turn:
            state.shown = turn.page
            state.near_since = None
            state.elsewhere = None
        return turn

    def _turn_ahead(self, position: Position) -> PageTurn | None:
        state, settings = self._state, self.settings
        page = self._pages.get(position.page)
        following = next((number for number in sorted(self._pages) if number > position.page), None)
        if (
            page is None
            or following is None
            or position.page != state.shown
            or position.system != len(page.systems)
            or _repeats_before_the_end(page, position)
        ):
            state.near_since = None
            return None
        last = page.systems[-1]
        to_last_note = self._seconds_to(_last_onset(last), position.x)
        if to_last_note is None or to_last_note > settings.lead:
            state.near_since = None
            return None
        if state.near_since is None:
            state.near_since = position.time
        if position.time - state.near_since < settings.agreement:
            return None
        state.left_at = (position.page, position.system, position.x)
        lead = self._seconds_to(last.right, position.x) or 0.0
        return PageTurn(time=position.time, page=following, lead=round(lead, 3))

    def _catch_up(self, position: Position) -> PageTurn | None:
        state, settings = self._state, self.settings
        if position.page == state.shown:
            state.elsewhere = None
            state.left_at = None
            return None
        if self._still_finishing(position):
            state.elsewhere = None
            return None
        if state.elsewhere != position.page:
            state.elsewhere, state.elsewhere_since = position.page, position.time
        patience = settings.onward if position.page > state.shown else settings.back
        if position.time - state.elsewhere_since < patience:
            return None
        state.left_at = None
        return PageTurn(time=position.time, page=position.page, lead=0.0)

    def _still_finishing(self, position: Position) -> bool:
        """Whether the player is at the end of the page that was just turned."""
        if self._state.left_at is None:
            return False
        page, system, x = self._state.left_at
        if (position.page, position.system) != (page, system):
            return False
        last = self._pages[page].systems[-1]
        return position.x > x - self.settings.rewind * (last.right - last.left)

    def _measure_speed(self, position: Position) -> None:
        """Keep the page widths a second over the last seconds on one system."""
        state = self._state
        place = (position.page, position.system)
        if place != state.track_system or (state.track and position.x < state.track[-1][1] - 0.05):
            state.track.clear()
            state.track_system = place
        state.track.append((position.time, position.x))
        while state.track[0][0] < position.time - self.settings.memory:
            state.track.popleft()
        start, x = state.track[0]
        seconds = position.time - start
        if seconds >= self.settings.memory / 3:
            state.speed = max((position.x - x) / seconds, 0.0)

    def _seconds_to(self, x: float, here: float) -> float | None:
        """Seconds until the music reaches `x` on this system; None where it stands still."""
        if here >= x:
            return 0.0
        speed = self._state.speed
        return (x - here) / speed if speed else None


def _last_onset(system: System) -> float:
    """x of the system's last note where known, else of its end."""
    onsets = [x for measure in system.measures for x, _ in measure.onsets]
    return max(onsets, default=system.right)


def _repeats_before_the_end(page: PageLayout, position: Position) -> bool:
    """Whether the music goes back before it comes to the page's end."""
    return position.pass_ == 1 and any(
        measure.repeat_end
        for measure in page.systems[-1].measures
        if position.measure is None or measure.number >= position.measure
    )
