"""`--out`: lines as they come, a file only when it is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sf_adapters.jsonl import JsonLines, register_sinks
from sf_plugin.errors import AudioError, SinkError
from sf_plugin.positions import Jump, PageTurn, Position, StateChange, event_from_json
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

SCORE, LAYOUT = Score("a piece", []), Layout(())
EVENTS = (
    Position(12.35, 1, 0.4312, 0.2871, 2, 14, "14", 1, 2.5, 92.0, 0.93, "tracking"),
    Position(12.4, 1, 0.44, 0.2871, None, None, None, 1, None, None, 0.2, "unsure"),
    StateChange(12.4, "unsure", "tracking"),
    PageTurn(12.9, 2, 8.0, half=True),
    PageTurn(13.0, 2, 0.8),
    Jump(14.0, 14, 3, 0.7),
)
CONTRACT = (
    '{"type":"position","time":12.35,"page":1,"x":0.4312,"y":0.2871,"system":2,"measure":14,'
    '"label":"14","pass":1,"beat":2.5,"tempo":92.0,"confidence":0.93,"state":"tracking"}'
)


def test_lines_read_back_as_the_events(tmp_path: Path) -> None:
    path = tmp_path / "positions.jsonl"
    with JsonLines(str(path)) as sink:
        sink.open(SCORE, LAYOUT)
        for event in EVENTS:
            sink.emit(event)
    lines = path.read_text().splitlines()
    assert lines[0] == CONTRACT
    assert lines[3:5] == [
        '{"type":"page_turn","time":12.9,"page":2,"lead":8.0,"half":true}',
        '{"type":"page_turn","time":13.0,"page":2,"lead":0.8}',
    ]
    assert tuple(map(event_from_json, lines)) == EVENTS
    assert os.listdir(tmp_path) == ["positions.jsonl"]


def test_another_program_can_watch_the_lines_come(tmp_path: Path) -> None:
    path = tmp_path / "positions.jsonl"
    sink = JsonLines(str(path))
    sink.open(SCORE, LAYOUT)
    command = ["tail", "-n", "+1", "-f", f"{path}.part"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        for event in EVENTS:
            sink.emit(event)
            assert event_from_json(tail.stdout.readline()) == event
            assert not path.exists()
        tail.kill()
    sink.close()
    sink.close()
    assert path.exists()


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "positions.jsonl"
    path.write_text("old")
    sink = JsonLines(str(path))
    sink.open(SCORE, LAYOUT)
    sink.emit(EVENTS[0])
    assert path.read_text() == "old"
    sink.close()
    assert path.read_text() == CONTRACT + "\n"


def test_after_an_error_the_part_stays_and_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "positions.jsonl"
    with pytest.raises(AudioError), JsonLines(str(path)) as sink:
        sink.open(SCORE, LAYOUT)
        sink.emit(EVENTS[0])
        raise AudioError("the microphone is gone")
    assert os.listdir(tmp_path) == ["positions.jsonl.part"]


def test_an_error_before_the_first_event_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AudioError), JsonLines(str(tmp_path / "positions.jsonl")) as sink:
        sink.open(SCORE, LAYOUT)
        raise AudioError("the microphone is gone")
    assert os.listdir(tmp_path) == []


def test_stopping_by_hand_is_a_good_end(tmp_path: Path) -> None:
    path = tmp_path / "positions.jsonl"
    with pytest.raises(KeyboardInterrupt), JsonLines(str(path)) as sink:
        sink.open(SCORE, LAYOUT)
        sink.emit(EVENTS[0])
        raise KeyboardInterrupt
    assert path.read_text() == CONTRACT + "\n"


@pytest.mark.parametrize("name", ["", "missing/positions.jsonl", "n" * 300, "file/positions.jsonl"])
def test_places_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=str(tmp_path)), JsonLines(str(tmp_path / name)) as sink:
        sink.open(SCORE, LAYOUT)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk() -> None:
    sink = JsonLines("/dev/full")
    sink.open(SCORE, LAYOUT)
    with pytest.raises(SinkError, match="/dev/full: cannot be written: No space left"):
        sink.emit(EVENTS[0])


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    (tmp_path / "real.jsonl").write_text("old")
    with JsonLines(str(tmp_path / "link.jsonl")) as sink:
        sink.open(SCORE, LAYOUT)
        sink.emit(EVENTS[0])
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text() == CONTRACT + "\n"


WRITE_STDOUT = """
import sys
from sf_adapters.jsonl import JsonLines
from sf_plugin.errors import SinkError
from sf_plugin.positions import PageTurn
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
with JsonLines("-") as sink:
    sink.open(Score("a piece", []), Layout(()))
    try:
        for page in range(1, 100001):
            sink.emit(PageTurn(float(page), page, 0.5))
            if page == int(sys.argv[1]):
                break
    except SinkError as error:
        sys.exit(f"refused: {error}")
print("after")
"""


def test_standard_output_stays_open() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE_STDOUT, "3"], capture_output=True, text=True, check=True
    )
    *lines, last = done.stdout.splitlines()
    assert [event_from_json(line) for line in lines] == [
        PageTurn(t, int(t), 0.5) for t in (1, 2, 3)
    ]
    assert last == "after"


def test_a_reader_of_standard_output_that_leaves() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_STDOUT, "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == (
            "refused: standard output: cannot be written: Broken pipe\n"
        )


def test_it_registers_as_out() -> None:
    offered = {}
    register_sinks(lambda name, factory, *, help, metavar=None: offered.update({name: factory}))
    assert offered == {"out": JsonLines}
