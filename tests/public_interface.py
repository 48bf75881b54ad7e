"""What others rely on, a line a thing: names, hooks, JSON, OSC, MIDI and the command line.

python tests/public_interface.py > tests/data/public-interface.txt
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import sf_plugin
from sf_adapters.midi import APPS, KINDS
from sf_adapters.osc import PROFILES
from sf_adapters.osc_control import obey
from sf_plugin import conformance, hookspecs, plugins
from sf_plugin.audio.source import Source
from sf_plugin.conformance.samples import small_layout
from sf_plugin.conformance.sinks import EVENTS
from sf_plugin.controls import Controls, Level
from sf_plugin.followers import Reading
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.model import Pages

HOOKS = (
    "register_followers",
    "register_page_loaders",
    "register_sources",
    "register_sinks",
    "register_mappers",
)
BESIDE = (Source, Reading, Level, Estimate, Measure, System, PageLayout, MeasureMapper, Pages)
"""Classes that plug-ins meet and that have no public name of their own."""

PLAYERS = ("follow", "serve", "replay", "align", "layout", "turn")
FACTS = ("plugins", "new-plugin", "devices", "doctor")
"""Commands whose options stay."""

INNER = {"wish", "taken", "hear"}
"""What the session alone calls."""

WISHES = [
    ("/sf/page", [2]), ("/sf/goto", [3]), ("/sf/goto", ["1:5"]), ("/sf/point", [1, 0.5, 0.25]),
    ("/sf/next", []), ("/sf/previous", []), ("/sf/next", [1]), ("/sf/reset", []),
    ("/sf/pause", []), ("/sf/resume", []), ("/sf/stop", []),
]  # fmt: skip


def lines() -> Iterator[str]:
    """The whole interface, in order."""
    yield from _names()
    yield from _hooks()
    yield from _json()
    yield from _osc()
    yield from _midi()
    yield from _commands()


def _names() -> Iterator[str]:
    public = [(f"sf_plugin.{name}", getattr(sf_plugin, name)) for name in sorted(sf_plugin.__all__)]
    public += [(f"{one.__module__}.{one.__name__}", one) for one in BESIDE]
    public += [
        (f"sf_plugin.conformance.{name}", getattr(conformance, name))
        for name in conformance.__all__
    ]
    for name, thing in public:
        if inspect.isclass(thing):
            yield f"class {name}"
            if thing is Controls:
                yield f"  has {', '.join(n for n in vars(Controls(2)) if not n.startswith('_'))}"
            for member in _members(thing):
                yield f"  {member}"
        elif inspect.isfunction(thing):
            yield f"def {name}{_signature(thing)}"
        else:
            yield f"name {name}"


def _members(kind: type) -> Iterator[str]:
    if is_dataclass(kind):
        yield f"({', '.join(field.name for field in fields(kind))})"
    elif "__init__" in vars(kind) and not getattr(kind, "_is_protocol", False):
        yield f"__init__{_signature(vars(kind)['__init__'])}"
    annotated = [name for name in vars(kind).get("__annotations__", ()) if name not in vars(kind)]
    for name in [*annotated, *vars(kind)]:
        known = is_dataclass(kind) and name in kind.__dataclass_fields__
        if name.startswith("_") or name in INNER or known:
            continue
        member = vars(kind).get(name)
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        yield f"{name}{_signature(member)}" if inspect.isfunction(member) else name


def _signature(function: Any) -> str:
    """Names and defaults of the arguments."""
    bare = []
    for one in inspect.signature(function).parameters.values():
        default = _Named(one.default) if callable(one.default) else one.default
        if one.default is one.empty:
            default = one.empty
        if one.name not in ("self", "cls"):
            bare.append(one.replace(annotation=one.empty, default=default))
    return str(inspect.Signature(bare))


class _Named:
    """A function as it is written."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __repr__(self) -> str:
        return str(self.thing.__name__)


def _hooks() -> Iterator[str]:
    for hook in HOOKS:
        (taken,) = inspect.signature(getattr(hookspecs, hook)).parameters.values()
        protocol = getattr(hookspecs, str(taken.annotation))
        yield f"hook {hook}: {taken.name}{_signature(protocol.__call__)}"


def _json() -> Iterator[str]:
    seen: dict[str, dict[str, None]] = {}
    for event in EVENTS:
        told = event.to_dict()
        seen.setdefault(told["type"], {}).update(dict.fromkeys(told))
    for kind, keys in seen.items():
        yield f"json {kind}: {', '.join(keys)}"
    measure = Measure(1, 0.1, 0.9, "1", False, False, None, ((0.1, 0.0),), ("fine",), ((0.0, "n"),))
    system = System(0.1, 0.2, 0.1, 0.9, (measure,))
    kept = json.loads(Layout((PageLayout(1, (system,)),)).to_json())
    yield f"json layout: {', '.join(kept)}; version {kept['version']}"
    (page,) = kept["pages"]
    yield f"json layout page: {', '.join(page)}"
    yield f"json layout system: {', '.join(page['systems'][0])}"
    yield f"json layout measure: {', '.join(page['systems'][0]['measures'][0])}"


def _osc() -> Iterator[str]:
    for name, profile in PROFILES.items():
        seen = {}
        made = profile(_with_beats())
        for event in EVENTS:
            for address, tags, _ in made.messages(event):
                seen[f"osc {name}: {address} ,{tags}"] = None
        yield from seen
    for message in WISHES:
        controls = Controls(pages=2)
        controls.layout = small_layout()
        obey(controls, message)  # type: ignore[arg-type]
        (wish,) = controls.taken()
        address, arguments = message
        told = [f"{name} {value:.4g}" for name, value in list(wish.to_dict().items())[3:]]
        said = " ".join(map(str, [address, *arguments]))
        yield f"osc in: {said} -> {', '.join([wish.action, *told])}"


def _midi() -> Iterator[str]:
    profiles = {**KINDS, **{name: app.profile for name, app in APPS.items()}}
    for name, profile in profiles.items():
        turns = (profile.messages(1, 2), profile.messages(2, 1))
        forward, back = (" ".join(one.hex() for one in turn) for turn in turns)
        yield f"midi {name}: next {forward}; previous {back}"


def _with_beats() -> Layout:
    """Measures of four quarter notes."""
    return Layout(
        tuple(
            replace(
                page,
                systems=tuple(
                    replace(
                        system,
                        measures=tuple(
                            replace(one, onsets=((one.left, 0.0), (one.right, 4.0)))
                            for one in system.measures
                        ),
                    )
                    for system in page.systems
                ),
            )
            for page in small_layout().pages
        )
    )


def _commands() -> Iterator[str]:
    from sf_plugin import cli

    before, plugins.installed_candidates = plugins.installed_candidates, lambda: iter(())
    plugins.registry.cache_clear()
    try:
        yield from _options("scorefollow", cli._parser())
    finally:
        plugins.installed_candidates = before
        plugins.registry.cache_clear()


def _options(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name in (*PLAYERS, *FACTS):
                inner = action.choices[name]
                yield from _options(f"{command} {name}", inner)
        elif action.option_strings:
            wanted = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
            optional = f" [{wanted.strip()}]" if action.nargs == "?" else wanted
            yield f"{command} {action.option_strings[-1]}{optional}"
        else:
            yield f"{command} {action.metavar or action.dest}"


if __name__ == "__main__":
    print("\n".join(lines()))
