"""Names a measure only where the follower is sure of it: `--mapper my-plugin`."""

from __future__ import annotations

from dataclasses import replace

from sf_plugin import Layout, Position, hookimpl
from sf_plugin.hookspecs import RegisterMapper
from sf_plugin.positions import Estimate
from sf_plugin.score.measures import PlainMapper

SURE = 0.5


@hookimpl
def register_mappers(register: RegisterMapper) -> None:
    register("my-plugin", MyPlugin, help="no measure while the follower is not sure")


class MyPlugin:
    """What the mapper `plain` says, without the measure where the confidence is low."""

    def __init__(self) -> None:
        self.plain = PlainMapper()

    def open(self, layout: Layout) -> None:
        self.plain.open(layout)

    def extend(self, layout: Layout) -> None:
        self.plain.extend(layout)

    def locate(self, estimate: Estimate) -> Position:
        position = self.plain.locate(estimate)
        if estimate.confidence >= SURE:
            return position
        return replace(position, measure=None, label=None, beat=None, tempo=None, notes=())
