"""Rules that are tried one after the other, and told together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sf_plugin.errors import ScoreFollowerError


class Broken(AssertionError):
    """What a plug-in must do and does not, a rule a line."""


class _Seen(Exception):
    """What was seen instead of what a rule asks for."""


class Rules:
    """Collects the rules that a plug-in breaks.

    Args:
        what: is judged, such as "the sink 'bell'".
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.broken: list[str] = []
        self._first: Exception | None = None

    @contextmanager
    def rule(self, text: str) -> Iterator[None]:
        """`text` says what must be done; whatever is raised inside breaks it."""
        try:
            yield
        except _Seen as seen:
            self.broken.append(f"{text}: {seen}")
        except Exception as error:
            self.broken.append(f"{text}: it raised {type(error).__name__}: {error}")
            self._first = self._first or error

    def end(self) -> None:
        """Go on only where every rule held.

        Raises:
            Broken: one or more did not.
        """
        __tracebackhide__ = True
        if self.broken:
            count = f"{len(self.broken)} rule{'' if len(self.broken) == 1 else 's'}"
            lines = "".join(f"\n  - {line}" for line in self.broken)
            raise Broken(f"{self.what} breaks {count}:{lines}") from self._first


def need(holds: object, seen: str) -> None:
    """Break the rule that is being tried, unless `holds`; `seen` says what was seen instead."""
    if not holds:
        raise _Seen(seen)


def is_one_line(error: ScoreFollowerError) -> None:
    """The message of an error is one line that says something."""
    text = str(error)
    need(text.strip() and "\n" not in text.strip(), f"its message was {text!r}")
