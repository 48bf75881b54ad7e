"""What the follower says: estimates, positions and events.

Pages, systems, measures and passes count from 1.  `x` and `y` are fractions of
the page's width and height from the top left.  `time` is seconds of audio heard
when the thing was known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["show", "goto", "reset", "pause", "resume", "stop"]
State = Literal["waiting", "tracking", "unsure", "lost", "ended"]
STATES: tuple[State, ...] = ("waiting", "tracking", "unsure", "lost", "ended")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Where a follower believes the music is, before it is mapped to a measure."""

    time: float
    page: int
    x: float
    y: float
    confidence: float
    state: State


class Event:
    """Anything a sink receives; `to_dict` is its JSON line."""

    __slots__ = ()
    type: str = "event"
    time: float

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]
        if "pass_" in fields:
            fields = {("pass" if k == "pass_" else k): v for k, v in fields.items()}
        return {"type": self.type, **fields}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Position(Event):
    """One line per frame: the place on the page and in the music.

    `notes` are the ids of the notes that begin at the place or were the last to, where a
    symbolic score names them.
    """

    time: float
    page: int
    x: float
    y: float
    system: int | None
    measure: int | None
    label: str | None
    pass_: int
    beat: float | None
    tempo: float | None
    confidence: float
    state: State
    notes: tuple[str, ...] = ()

    type = "position"

    def to_dict(self) -> dict[str, Any]:
        """`notes` are told only where there are any."""
        told = Event.to_dict(self)
        return told if self.notes else {name: v for name, v in told.items() if name != "notes"}


@dataclass(frozen=True, slots=True)
class PageTurn(Event):
    """Show `page` now; `lead` is the expected time in seconds until its music begins.

    With `half`, only its upper half, above the lower half of the page before.
    """

    time: float
    page: int
    lead: float
    half: bool = False

    type = "page_turn"

    def to_dict(self) -> dict[str, Any]:
        """`half` is told only where it is true."""
        told = Event.to_dict(self)
        return told if self.half else {name: v for name, v in told.items() if name != "half"}


@dataclass(frozen=True, slots=True)
class Jump(Event):
    """The performer went to a place that does not follow."""

    time: float
    from_measure: int | None
    to_measure: int | None
    confidence: float

    type = "jump"


@dataclass(frozen=True, slots=True)
class StateChange(Event):
    """The follower's state became another."""

    time: float
    state: State
    previous: State

    type = "state"


@dataclass(frozen=True, slots=True)
class Control(Event):
    """A wish of the player that is heeded now.

    Attributes:
        action: "show" a page; "goto" the place where the music is; "reset", a new
            performance begins; "pause", silence is heard until "resume"; "stop".
        page, x, y: of "goto"; of "show" the page alone.
        measure: of "goto", where it was named by its number.
    """

    time: float
    action: Action
    page: int | None = None
    x: float | None = None
    y: float | None = None
    measure: int | None = None

    type = "control"

    def to_dict(self) -> dict[str, Any]:
        """Only what the action has is told."""
        return {name: v for name, v in Event.to_dict(self).items() if v is not None}


_TYPES = {kind.type: kind for kind in (Position, PageTurn, Jump, StateChange, Control)}


def event_from_json(line: str) -> Position | PageTurn | Jump | StateChange | Control:
    """Read one JSON line back.

    Raises:
        ValueError: the line is no event of this version.
    """
    data = json.loads(line)
    if not isinstance(data, dict) or data.get("type") not in _TYPES:
        raise ValueError(f"not an event: {line[:80]!r}")
    kind = _TYPES[data.pop("type")]
    if "pass" in data:
        data["pass_"] = data.pop("pass")
    if "notes" in data:
        data["notes"] = tuple(data["notes"])
    try:
        return kind(**data)
    except TypeError as error:
        raise ValueError(f"not a {kind.type} event: {error}") from None
