"""Every extension point. A plug-in is a module with functions of these names.

    from sf_plugin import hookimpl

    @hookimpl
    def register_sinks(register):
        register("print", PrintSink, help="print events", metavar="FILE")

Each hook hands the plug-in a `register` function; nothing is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pluggy

from sf_plugin.audio.source import Source
from sf_plugin.followers import Follower
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

hookspec = pluggy.HookspecMarker("sf_plugin")
hookimpl = pluggy.HookimplMarker("sf_plugin")


class RegisterFollower(Protocol):
    def __call__(self, name: str, factory: Callable[[], Follower], *, help: str = "") -> None:
        """`factory()` makes a follower; chosen by `--follower NAME`."""


class RegisterPageLoader(Protocol):
    def __call__(
        self, suffixes: Sequence[str], loader: Callable[[Sequence[Path]], Score], *, help: str = ""
    ) -> None:
        """`loader(paths)` reads files whose names end with one of `suffixes` (".pdf")."""


class RegisterSource(Protocol):
    def __call__(self, scheme: str, factory: Callable[[str], Source], *, help: str = "") -> None:
        """`factory(rest)` opens `SCHEME:rest` given to `--audio`."""


class RegisterSink(Protocol):
    def __call__(
        self,
        name: str,
        factory: Callable[[str], Sink],
        *,
        help: str,
        metavar: str | None = None,
    ) -> None:
        """`factory(argument)` makes a sink; the command line gains `--NAME METAVAR`."""


class RegisterMapper(Protocol):
    def __call__(self, name: str, factory: Callable[[], MeasureMapper], *, help: str = "") -> None:
        """`factory()` makes a mapper; chosen by `--mapper NAME`."""


@hookspec
def register_followers(register: RegisterFollower) -> None:
    """Add follower back ends."""


@hookspec
def register_page_loaders(register: RegisterPageLoader) -> None:
    """Add file types that can be put on the stand."""


@hookspec
def register_sources(register: RegisterSource) -> None:
    """Add things to listen to."""


@hookspec
def register_sinks(register: RegisterSink) -> None:
    """Add receivers of events."""


@hookspec
def register_mappers(register: RegisterMapper) -> None:
    """Add ways from an estimate to a measure."""
