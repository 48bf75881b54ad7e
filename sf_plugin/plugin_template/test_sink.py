from pathlib import Path

import my_plugin

from sf_plugin import PageTurn, Score
from sf_plugin.score.layout import Layout


def test_it_keeps_the_contract(conformance, tmp_path: Path) -> None:
    conformance(my_plugin).sink(
        "my-plugin", str(tmp_path / "turns"), bad=str(tmp_path / "no" / "x")
    )


def test_a_page_turn_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "turns"
    with my_plugin.MyPlugin(str(file)) as sink:
        sink.open(Score("one page", []), Layout(()))
        sink.emit(PageTurn(time=12.5, page=2, lead=0.8))
    assert file.read_text() == "12.50\t2\n"
