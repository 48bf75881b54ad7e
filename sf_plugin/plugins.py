"""Finds plug-ins, asks each what it offers, and survives the broken ones.

The built-ins come first and through the same hooks; then the modules named by
entry points of the group "sf_plugin".  A plug-in that fails on import or in a
hook is logged once by name and disabled; everything else goes on.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy

from sf_plugin import hookspecs
from sf_plugin.audio.source import Source
from sf_plugin.errors import PluginError, ScoreError
from sf_plugin.followers import Follower
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

GROUP = "sf_plugin"
DISTRIBUTION = "sf-plugin"
BUILTINS = (
    "sf_plugin.score.loaders",
    "sf_plugin.builtin",
    "sf_plugin.audio.sources",
    "sf_plugin.unet.plugin",
    "sf_adapters.jsonl",
    "sf_adapters.osc",
    "sf_adapters.midi",
    "sf_adapters.clock",
    "sf_adapters.accompanist",
    "sf_adapters.midi_control",
    "sf_adapters.osc_control",
    "sf_adapters.keys",
    "sf_adapters.report",
    "sf_adapters.video",
    "sf_adapters.terminal_view",
    "sf_adapters.stand",
)

log = logging.getLogger("sf_plugin")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Offer(Generic[T]):
    """One thing a plug-in registered under a name."""

    name: str
    make: T
    help: str
    plugin: str
    metavar: str | None = None


class Shelf(dict[str, Offer[T]]):
    """Offers of one kind by name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def choose(self, name: str) -> T:
        """What is registered as `name`.

        Raises:
            PluginError: nothing is.
        """
        if name not in self:
            raise PluginError(
                f"there is no {self.kind} '{name}': choose from {', '.join(sorted(self)) or 'none'}"
                " ('scorefollow plugins' lists all)"
            )
        return self[name].make


@dataclass(slots=True)
class PluginInfo:
    """A plug-in, where it comes from, what it registered, and why it is disabled if it is."""

    name: str
    distribution: str
    version: str
    registered: list[tuple[str, str]] = field(default_factory=list)
    """(kind, name) pairs, such as ("sink", "osc")."""
    error: str | None = None


class Registry:
    """Everything the plug-ins offer, by kind and name."""

    def __init__(self) -> None:
        self.followers: Shelf[Callable[[], Follower]] = Shelf("follower")
        self.page_loaders: Shelf[Callable[[Sequence[Path]], Score]] = Shelf("page loader")
        self.sources: Shelf[Callable[[str], Source]] = Shelf("source")
        self.sinks: Shelf[Callable[[str], Sink]] = Shelf("sink")
        self.mappers: Shelf[Callable[[], MeasureMapper]] = Shelf("mapper")
        self.plugins: list[PluginInfo] = []

    def load_score(self, paths: Sequence[Path]) -> Score:
        """Read the files of one score, in order, with the loader for their type.

        Raises:
            ScoreError: no loader reads them, or the one that does cannot.
        """
        loaders = {}
        for path in paths:
            name = path.name.lower()
            known = [suffix for suffix in self.page_loaders if name.endswith(suffix)]
            if not known:
                raise ScoreError(
                    f"{path}: no page loader reads this file type: give one of "
                    f"{', '.join(sorted(self.page_loaders))}"
                )
            offer = self.page_loaders[max(known, key=len)]
            loaders[offer.make] = path
        if not loaders:
            raise ScoreError("no score given: name a PDF, page images or a MusicXML file")
        if len(loaders) > 1:
            raise ScoreError(
                f"{' and '.join(str(path) for path in loaders.values())}: files of different "
                "types are not one score: give files of one type"
            )
        return next(iter(loaders))(paths)

    def _shelves(self) -> tuple[Shelf[Any], ...]:
        return (self.followers, self.page_loaders, self.sources, self.sinks, self.mappers)

    def _take(self, info: PluginInfo, offers: Iterable[tuple[Shelf[Any], Offer[Any]]]) -> None:
        """Shelve all that one plug-in offers, or nothing.

        Raises:
            PluginError: another plug-in, or this one, has the name already.
        """
        offers = list(offers)
        seen: set[tuple[str, str]] = set()
        for shelf, offer in offers:
            key = (shelf.kind, offer.name)
            if offer.name in shelf or key in seen:
                holder = shelf[offer.name].plugin if offer.name in shelf else info.name
                raise PluginError(
                    f"{shelf.kind} '{offer.name}' is registered by both '{holder}' and "
                    f"'{info.name}': rename one or uninstall it"
                )
            seen.add(key)
        for shelf, offer in offers:
            shelf[offer.name] = offer
            info.registered.append((shelf.kind, offer.name))


class _Offers:
    """The `register` functions of one plug-in; keeps what it is handed until all went well."""

    def __init__(self, registry: Registry, plugin: str) -> None:
        self.registry = registry
        self.plugin = plugin
        self.kept: list[tuple[Shelf[Any], Offer[Any]]] = []

    def _keep(
        self, shelf: Shelf[Any], name: str, make: Any, help: str, metavar: str | None = None
    ) -> None:
        if not isinstance(name, str) or not name or not callable(make):
            raise PluginError(f"a {shelf.kind} needs a name and something to call, not {name!r}")
        self.kept.append((shelf, Offer(name, make, help, self.plugin, metavar)))

    def register_followers(self, name: str, factory: Any, *, help: str = "") -> None:
        self._keep(self.registry.followers, name, factory, help)

    def register_page_loaders(
        self, suffixes: Sequence[str], loader: Any, *, help: str = ""
    ) -> None:
        for suffix in suffixes:
            self._keep(self.registry.page_loaders, suffix.lower(), loader, help)

    def register_sources(self, scheme: str, factory: Any, *, help: str = "") -> None:
        self._keep(self.registry.sources, scheme, factory, help)

    def register_sinks(
        self, name: str, factory: Any, *, help: str, metavar: str | None = None
    ) -> None:
        self._keep(self.registry.sinks, name, factory, help, metavar)

    def register_mappers(self, name: str, factory: Any, *, help: str = "") -> None:
        self._keep(self.registry.mappers, name, factory, help)


Candidate = tuple[PluginInfo, Callable[[], object]]


def builtin_candidates() -> Iterator[Candidate]:
    """The plug-ins that come with the package."""
    try:
        version = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        version = "not installed"
    for name in BUILTINS:
        yield PluginInfo(name, DISTRIBUTION, version), partial(importlib.import_module, name)


def installed_candidates() -> Iterator[Candidate]:
    """The plug-ins of other distributions, in order of distribution and name."""
    found = [(entry.dist, entry) for entry in metadata.entry_points(group=GROUP)]
    for dist, entry in sorted(
        found, key=lambda pair: (pair[0].name if pair[0] else "", pair[1].name)
    ):
        name, version = (dist.name, dist.version) if dist else ("unknown", "unknown")
        yield PluginInfo(entry.name, name, version), entry.load


def load_plugins(candidates: Iterable[Candidate]) -> Registry:
    """Import each candidate and collect what it registers; the broken ones are left out."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    registry = Registry()
    for info, load in candidates:
        registry.plugins.append(info)
        try:
            _admit(manager, registry, info, load)
        except (Exception, SystemExit) as error:
            reason = str(error) or type(error).__name__
            if not isinstance(error, PluginError | pluggy.PluginValidationError):
                reason = f"{type(error).__name__}: {reason}"
            info.error = " ".join(reason.split())
            log.warning(
                "plug-in '%s' of %s %s is disabled: %s",
                info.name,
                info.distribution,
                info.version,
                info.error,
            )
            log.debug("traceback of plug-in '%s'", info.name, exc_info=True)
    return registry


def _admit(
    manager: pluggy.PluginManager,
    registry: Registry,
    info: PluginInfo,
    load: Callable[[], object],
) -> None:
    plugin = load()
    manager.register(plugin, name=f"{info.distribution}:{info.name}")
    try:
        callers = manager.get_hookcallers(plugin) or []
        for caller in callers:
            if not caller.has_spec():
                raise PluginError(f"there is no hook '{caller.name}'")
        if not callers:
            raise PluginError(
                f"{plugin!r} has no functions marked with sf_plugin.hookimpl: "
                "name the module in the entry point"
            )
        offers = _Offers(registry, info.name)
        others = [other for other in manager.get_plugins() if other is not plugin]
        for caller in callers:
            only_this = manager.subset_hook_caller(caller.name, others)
            only_this(register=getattr(offers, caller.name))
        registry._take(info, offers.kept)
    except BaseException:
        manager.unregister(plugin)
        raise


@cache
def registry() -> Registry:
    """All plug-ins of this installation, loaded when first asked for."""
    return load_plugins([*builtin_candidates(), *installed_candidates()])
