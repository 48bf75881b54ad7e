"""What a viewer may ask for, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sf_plugin.controls import Controls
from sf_plugin.errors import ScoreError

_NUMBERS: dict[str, tuple[str, ...]] = {
    "goto": ("measure",),
    "point": ("page", "x", "y"),
    "show": ("page",),
}
_PLAIN: dict[str, Callable[[Controls], None]] = {
    "next": Controls.next_page,
    "previous": Controls.previous_page,
    "reset": Controls.reset,
    "pause": Controls.pause,
    "resume": Controls.resume,
    "stop": Controls.stop,
    "start": Controls.resume,
}
_FRACTIONS = ("x", "y")

MOST = 1_000_000
"""The largest number that a wish may hold."""


def parse_wish(text: str | bytes) -> dict[str, Any]:
    """A wish as `obey` takes it.

    Raises:
        ScoreError: it is none, or has more or other fields than it needs.
    """
    try:
        wish = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ScoreError('not JSON: write {"do": "next"}') from None
    do = wish.get("do") if isinstance(wish, dict) else None
    if not isinstance(do, str) or do not in {*_NUMBERS, *_PLAIN}:
        raise ScoreError(f"'do' is none of {', '.join([*_NUMBERS, *_PLAIN])}")
    names = _NUMBERS.get(do, ())
    if set(wish) != {"do", *names}:
        raise ScoreError(f"'{do}' needs {' and '.join(names) or 'nothing else'}, and only that")
    for name in names:
        value = wish[name]
        kinds = (int, float) if name in _FRACTIONS else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= MOST:
            raise ScoreError(f"'{name}' is no number of a {do}")
    return wish


def obey(wish: dict[str, Any], controls: Controls) -> None:
    """Ask it of the session.

    Raises:
        ScoreError: there is no such page, measure or place.
    """
    match wish["do"]:
        case "goto":
            controls.goto(wish["measure"])
        case "point":
            controls.point(wish["page"], wish["x"], wish["y"])
        case "show":
            controls.show(wish["page"])
        case do:
            _PLAIN[do](controls)


def _no_number(name: str) -> float:
    raise ValueError(name)
