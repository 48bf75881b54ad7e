"""Whether a plug-in does what a session expects of it.

    import turn_log

    def test_it_keeps_the_contract(conformance, tmp_path):
        conformance(turn_log).sink("turn-log", str(tmp_path / "turns.tsv"))

`conformance` is a fixture of pytest, which has it wherever this package is installed; it is
`Plugin` with a folder to write to.  Each check tries every rule and raises one `Broken` with all
that do not hold.
"""

from __future__ import annotations

from sf_plugin.conformance.followers import check_follower
from sf_plugin.conformance.loaders import check_page_loader
from sf_plugin.conformance.mappers import check_mapper
from sf_plugin.conformance.plugin import Plugin
from sf_plugin.conformance.rules import Broken
from sf_plugin.conformance.samples import small_layout, small_score, some_notes
from sf_plugin.conformance.sinks import check_sink
from sf_plugin.conformance.sources import check_source

__all__ = [
    "Broken",
    "Plugin",
    "check_follower",
    "check_mapper",
    "check_page_loader",
    "check_sink",
    "check_source",
    "small_layout",
    "small_score",
    "some_notes",
]
