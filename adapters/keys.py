"""Page turns as keys pressed in the focused window: `--keys [KEY][,prev=KEY]`.

KEY is pagedown (the default), right, down, space or another of `KEYS`; "previous" is its
opposite.  Keys are pressed through the XTEST extension of an X11 display.

Half turns are not pressed.  A turn over several pages presses as often.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import Event, PageTurn
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

KEYS = {
    "pagedown": "Next",
    "pageup": "Prior",
    "right": "Right",
    "left": "Left",
    "down": "Down",
    "up": "Up",
    "space": "space",
    "backspace": "BackSpace",
    "enter": "Return",
}
"""Names of X11 by ours."""

OPPOSITES = {"right": "left", "left": "right", "down": "up", "up": "down", "space": "backspace"}

OTHERWISE = "turn pages by MIDI (--turn)"


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--keys`."""
    register(
        "keys",
        KeySink,
        help="turn pages by pressing keys in the focused window (X11): pagedown, right, space and "
        "others; KEY,prev=KEY names the key for back",
        metavar="[KEY]",
    )


def parse_keys(spec: str) -> tuple[str, str]:
    """The keys for next and previous of `[KEY][,prev=KEY]`, names of `KEYS`.

    Raises:
        SinkError: it is written in another way.
    """
    key, comma, option = (part.strip() for part in spec.partition(","))
    key = key or "pagedown"
    previous = OPPOSITES.get(key, "pageup")
    if comma:
        name, _, previous = option.partition("=")
        if name != "prev":
            raise SinkError(f"keys {spec!r}: {option!r} is not prev=KEY")
    for one in (key, previous):
        if one not in KEYS:
            raise SinkError(f"keys {spec!r}: {one!r} is none of {', '.join(KEYS)}")
    if key == previous:
        raise SinkError(f"keys {spec!r}: next and previous are the same key")
    return key, previous


class KeySink(Sink):
    """Presses a key for each page that is turned.

    Args:
        spec: `[KEY][,prev=KEY]`.

    Raises:
        SinkError: it is written in another way.
    """

    def __init__(self, spec: str) -> None:
        self._next, self._previous = parse_keys(spec)
        self._display: Any = None
        self._codes: dict[str, int] = {}
        self._controls: Controls | None = None
        self._shown = 1

    def attach(self, controls: Controls) -> None:
        self._controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        self._shown = 1 if self._controls is None else self._controls.shown
        self._display = _open_display()
        self._codes = {key: _code(self._display, key) for key in (self._next, self._previous)}

    def emit(self, event: Event) -> None:
        if self._display is None or not isinstance(event, PageTurn) or event.half:
            return
        key = self._next if event.page > self._shown else self._previous
        try:
            _press(self._display, self._codes[key], abs(event.page - self._shown))
        except Exception as error:
            raise SinkError(f"the X11 display is gone: {error}") from None
        self._shown = event.page

    def close(self) -> None:
        display, self._display = self._display, None
        if display is not None:
            with suppress(Exception):
                display.close()


def _open_display() -> Any:
    """The display that DISPLAY names.

    Raises:
        SinkError: there is none, or it lets nobody press keys.
    """
    try:
        from Xlib.display import Display
        from Xlib.error import DisplayError
    except ImportError:
        raise SinkError("pressing keys needs python-xlib: pip install sf-plugin[keys]") from None
    if os.environ.get("WAYLAND_DISPLAY"):
        raise SinkError(
            f"keys cannot be pressed in a Wayland session: log in to an X11 session, or {OTHERWISE}"
        )
    name = os.environ.get("DISPLAY")
    if not name:
        raise SinkError(
            "keys are pressed through an X11 display, and DISPLAY names none: run this in an X11 "
            f"session on Linux, or {OTHERWISE}"
        )
    try:
        display = Display(name)
    except (DisplayError, OSError) as error:
        raise SinkError(
            f"X11 display {name!r} cannot be opened ({error}): set DISPLAY to yours, or {OTHERWISE}"
        ) from None
    if not display.has_extension("XTEST"):
        display.close()
        raise SinkError(f"X11 display {name!r} has no XTEST extension: {OTHERWISE}")
    return display


def _code(display: Any, key: str) -> int:
    from Xlib.XK import string_to_keysym

    code = int(display.keysym_to_keycode(string_to_keysym(KEYS[key])))
    if not code:
        raise SinkError(f"the keyboard of the X11 display has no {key}: choose another key")
    return code


def _press(display: Any, code: int, times: int) -> None:
    from Xlib import X
    from Xlib.ext import xtest

    for _ in range(times):
        xtest.fake_input(display, X.KeyPress, code)
        xtest.fake_input(display, X.KeyRelease, code)
    display.sync()
