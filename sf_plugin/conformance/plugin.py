"""A plug-in as it is found by the program, to be tried by kind and name."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.conformance.followers import check_follower
from sf_plugin.conformance.loaders import check_page_loader
from sf_plugin.conformance.mappers import check_mapper
from sf_plugin.conformance.rules import Rules, need
from sf_plugin.conformance.sinks import check_sink
from sf_plugin.conformance.sources import check_source
from sf_plugin.plugins import PluginInfo, builtin_candidates, load_plugins
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score


class Plugin:
    """A module with hooks, registered beside the built-in plug-ins.

    Args:
        module: what the entry point names.
        folder: to write files to; a temporary one by default.

    Raises:
        Broken: it cannot be registered.
    """

    def __init__(self, module: ModuleType, folder: Path | None = None) -> None:
        __tracebackhide__ = True
        self.name = module.__name__
        self.folder = folder
        info = PluginInfo(self.name, self.name, "to be tried")
        self.registry = load_plugins([*builtin_candidates(), (info, lambda: module)])
        self.offers = info.registered
        rules = Rules(f"the plug-in {self.name!r}")
        with rules.rule("it must register something, under names that are free"):
            need(info.error is None, str(info.error))
            need(self.offers, "it registered nothing")
        rules.end()

    def follower(
        self, name: str, score: Score | None = None, sound: NDArray[np.float32] | None = None
    ) -> None:
        """As `check_follower`."""
        __tracebackhide__ = True
        make = self._of("follower", self.registry.followers, name)
        check_follower(make, score, sound, what=f"the follower {name!r}")

    def sink(self, name: str, argument: str = "", *, bad: str | None = None) -> None:
        """As `check_sink`; `argument` and `bad` are given to the factory."""
        __tracebackhide__ = True
        make = self._of("sink", self.registry.sinks, name)
        rules = Rules(f"the sink {name!r}")
        with rules.rule("its name becomes an option: small letters, digits and hyphens"):
            need(re.fullmatch("[a-z0-9][a-z0-9-]*", name), "it has others")
        rules.end()
        refused = None if bad is None else lambda: make(bad)
        check_sink(lambda: make(argument), refused, what=f"the sink {name!r}")

    def source(self, scheme: str, rest: str = "", *, bad: str | None = None) -> None:
        """As `check_source`; `rest` and `bad` are given to the factory."""
        __tracebackhide__ = True
        make = self._of("source", self.registry.sources, scheme)
        refused = None if bad is None else lambda: make(bad)
        check_source(lambda: make(rest), refused, what=f"the source {scheme!r}")

    def page_loader(self, suffix: str, *paths: Path) -> None:
        """As `check_page_loader`, with the loader for a suffix and files of a score."""
        __tracebackhide__ = True
        loader = self._of("page loader", self.registry.page_loaders, suffix)
        what = f"the page loader for {suffix!r}"
        if self.folder is not None:
            check_page_loader(loader, paths, self.folder, what=what)
            return
        with tempfile.TemporaryDirectory() as folder:
            check_page_loader(loader, paths, Path(folder), what=what)

    def mapper(self, name: str, layout: Layout | None = None) -> None:
        """As `check_mapper`."""
        __tracebackhide__ = True
        make = self._of("mapper", self.registry.mappers, name)
        check_mapper(make, layout, what=f"the mapper {name!r}")

    def _of(self, kind: str, shelf: Any, name: str) -> Any:
        __tracebackhide__ = True
        rules = Rules(f"the plug-in {self.name!r}")
        with rules.rule(f"it must register the {kind} {name!r}"):
            need((kind, name) in self.offers, f"it registered {self.offers}")
        rules.end()
        return shelf[name].make
