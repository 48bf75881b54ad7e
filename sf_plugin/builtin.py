"""What the core itself offers through the hooks: the measure mapper."""

from __future__ import annotations

from sf_plugin.hookspecs import RegisterMapper, hookimpl
from sf_plugin.score.measures import PlainMapper


@hookimpl
def register_mappers(register: RegisterMapper) -> None:
    """`--mapper plain`."""
    register("plain", PlainMapper, help="the nearest system and its measure")
