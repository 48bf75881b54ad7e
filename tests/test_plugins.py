from __future__ import annotations

import json
import logging
import types
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, add_distribution

from sf_plugin.errors import PluginError, ScoreError
from sf_plugin.hookspecs import hookimpl
from sf_plugin.plugins import PluginInfo, Registry, builtin_candidates, load_plugins
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink


def plugin(**hooks: Any) -> types.ModuleType:
    module = types.ModuleType("a_plugin")
    for name, hook in hooks.items():
        setattr(module, name, hookimpl(hook))
    return module


def load(**plugins: object) -> Registry:
    return load_plugins(
        (PluginInfo(name, f"{name}-dist", "2.1"), lambda found=found: found)
        for name, found in plugins.items()
    )


class Quiet(Sink):
    def __init__(self, argument: str) -> None:
        self.argument = argument


def quiet_as(name: str) -> types.ModuleType:
    def register_sinks(register) -> None:
        register(name, Quiet, help="hears and says nothing", metavar="WHAT")

    return plugin(register_sinks=register_sinks)


def test_every_built_in_works() -> None:
    registry = load_plugins(builtin_candidates())
    assert {info.name: info.error for info in registry.plugins if info.error} == {}
    assert {"out", "osc", "turn", "html"} <= set(registry.sinks)
    assert {".pdf", ".png", ".musicxml"} <= set(registry.page_loaders)
    assert {"file", "mic", "pcm"} <= set(registry.sources)
    assert "unet" in registry.followers
    assert "plain" in registry.mappers


def test_a_plugin_offers_by_name() -> None:
    registry = load(mine=quiet_as("quiet"))
    assert registry.plugins[0].registered == [("sink", "quiet")]
    sink = registry.sinks.choose("quiet")("x")
    assert isinstance(sink, Quiet)
    assert sink.argument == "x"
    assert registry.sinks["quiet"].metavar == "WHAT"


def test_an_unknown_name_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(PluginError, match=r"no sink 'loud': choose from quiet"):
        load(mine=quiet_as("quiet")).sinks.choose("loud")


def test_a_plugin_that_raises_in_a_hook_registers_nothing_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def register_sinks(register) -> None:
        register("half", Quiet, help="")
        raise ZeroDivisionError("on\npurpose")

    registry = load(
        broken=plugin(register_sinks=register_sinks, register_mappers=lambda register: None),
        good=quiet_as("quiet"),
    )
    assert set(registry.sinks) == {"quiet"}
    assert registry.plugins[0].error == "ZeroDivisionError: on purpose"
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert warnings == [
        "plug-in 'broken' of broken-dist 2.1 is disabled: ZeroDivisionError: on purpose"
    ]


def test_a_name_taken_twice_names_both_plugins_and_keeps_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = load(first=quiet_as("quiet"), second=quiet_as("quiet"))
    assert registry.sinks["quiet"].plugin == "first"
    assert registry.plugins[1].error is not None
    assert "sink 'quiet' is registered by both 'first' and 'second'" in caplog.text


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (plugin(register_robots=lambda register: None), "no hook 'register_robots'"),
        (plugin(register_sinks=lambda wrong: None), "wrong"),
        (plugin(register_sinks=lambda register: register("", Quiet, help="")), "needs a name"),
        (plugin(register_sinks=lambda register: register("x", None, help="")), "to call"),
        (types.ModuleType("empty"), "no functions marked with sf_plugin.hookimpl"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_disabled(found: object, reason: str) -> None:
    registry = load(odd=found, good=quiet_as("quiet"))
    assert reason in str(registry.plugins[0].error)
    assert registry.plugins[0].registered == []
    assert set(registry.sinks) == {"quiet"}


def test_scores_go_to_the_loader_of_their_longest_suffix() -> None:
    def register_page_loaders(register) -> None:
        register([".gz"], lambda paths: Score("plain", []))
        register([".XML.gz"], lambda paths: Score(f"music of {len(paths)}", []))

    registry = load(mine=plugin(register_page_loaders=register_page_loaders))
    assert registry.load_score([Path("a.xml.GZ"), Path("b.xml.gz")]).name == "music of 2"
    assert registry.load_score([Path("a.gz")]).name == "plain"
    with pytest.raises(ScoreError, match=r"a\.gz and b\.xml\.gz: files of different types"):
        registry.load_score([Path("a.gz"), Path("b.xml.gz")])
    with pytest.raises(ScoreError, match=r"a\.doc: no page loader"):
        registry.load_score([Path("a.doc")])
    with pytest.raises(ScoreError, match="no score given"):
        registry.load_score([])


SINK = """
from sf_plugin import Sink, hookimpl

class Shout(Sink):
    def __init__(self, argument):
        self.argument = argument

@hookimpl
def register_sinks(register):
    register("shout", Shout, help="shout at 100 % volume", metavar="WORD")
"""


def test_installed_plugins_are_found_and_broken_ones_reported_once(
    scorefollow: Run, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    add_distribution(site, "shouting", SINK, version="3.2")
    add_distribution(site, "collapsing", "import there_is_no_such_module")
    add_distribution(site, "quitting", "raise SystemExit(7)")
    done = scorefollow("plugins", "--json", site=site)
    assert done.returncode == 0
    found = {info["name"]: info for info in json.loads(done.stdout)}
    assert found["shouting"]["registered"] == [["sink", "shout"]]
    assert (found["shouting"]["distribution"], found["shouting"]["version"]) == ("shouting", "3.2")
    assert found["constant_tempo"]["registered"] == [["follower", "constant-tempo"]]
    assert "there_is_no_such_module" in found["collapsing"]["error"]
    assert "SystemExit" in found["quitting"]["error"]
    assert done.stderr.count("'collapsing'") == 1
    assert done.stderr.count("'quitting'") == 1

    table = scorefollow("plugins", site=site).stdout
    assert "shouting" in table
    assert "disabled: ModuleNotFoundError" in table
    assert "--shout WORD" in scorefollow("follow", "--help", site=site).stdout
