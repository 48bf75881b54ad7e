"""A score follower: from the page and the sound to the measure being played.

import sf_plugin

score = sf_plugin.load_score("sonata.pdf")
for position in sf_plugin.follow(score, "take.wav"):
    print(position.measure, position.confidence)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sf_plugin.alignment import Alignment as Alignment
    from sf_plugin.api import align as align
    from sf_plugin.api import follow as follow
    from sf_plugin.audio.keyboard import Keyboard as Keyboard
    from sf_plugin.audio.microphone import Microphone as Microphone
    from sf_plugin.audio.source import Source as Source
    from sf_plugin.controls import Controls as Controls
    from sf_plugin.errors import AudioError as AudioError
    from sf_plugin.errors import PluginError as PluginError
    from sf_plugin.errors import ScoreError as ScoreError
    from sf_plugin.errors import ScoreFollowerError as ScoreFollowerError
    from sf_plugin.errors import SinkError as SinkError
    from sf_plugin.errors import WeightsError as WeightsError
    from sf_plugin.followers import Follower as Follower
    from sf_plugin.hookspecs import hookimpl as hookimpl
    from sf_plugin.positions import Control as Control
    from sf_plugin.positions import Event as Event
    from sf_plugin.positions import Jump as Jump
    from sf_plugin.positions import PageTurn as PageTurn
    from sf_plugin.positions import Position as Position
    from sf_plugin.positions import StateChange as StateChange
    from sf_plugin.score.layout import Layout as Layout
    from sf_plugin.score.load import load_score as load_score
    from sf_plugin.score.model import Score as Score
    from sf_plugin.session import Session as Session
    from sf_plugin.sinks import Sink as Sink

__version__ = "0.1.0"

_HOMES = {
    "Alignment": "sf_plugin.alignment",
    "Keyboard": "sf_plugin.audio.keyboard",
    "Microphone": "sf_plugin.audio.microphone",
    "Source": "sf_plugin.audio.source",
    "align": "sf_plugin.api",
    "follow": "sf_plugin.api",
    "load_score": "sf_plugin.score.load",
    "Controls": "sf_plugin.controls",
    "AudioError": "sf_plugin.errors",
    "PluginError": "sf_plugin.errors",
    "ScoreError": "sf_plugin.errors",
    "ScoreFollowerError": "sf_plugin.errors",
    "SinkError": "sf_plugin.errors",
    "WeightsError": "sf_plugin.errors",
    "Follower": "sf_plugin.followers",
    "hookimpl": "sf_plugin.hookspecs",
    "Event": "sf_plugin.positions",
    "Control": "sf_plugin.positions",
    "Jump": "sf_plugin.positions",
    "PageTurn": "sf_plugin.positions",
    "Position": "sf_plugin.positions",
    "StateChange": "sf_plugin.positions",
    "Layout": "sf_plugin.score.layout",
    "Score": "sf_plugin.score.model",
    "Session": "sf_plugin.session",
    "Sink": "sf_plugin.sinks",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
