from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import make_layout
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scale import Loudness, scale

from sf_plugin.dataset.shards import ShardWriter
from sf_plugin.evaluation.conditions import CONDITIONS
from sf_plugin.evaluation.engraved import EngravedPiece, Setting, find_pieces
from sf_plugin.evaluation.gallery import (
    FAILURES,
    ROADS,
    Road,
    Tile,
    draw_roads,
    failure_tile,
    find_failures,
    jpeg,
    main,
    parts,
    score_position,
    sheet,
    tick,
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pieces of two pages, played on the piano that loads in no time."""
    for name, condition in CONDITIONS.items():
        monkeypatch.setitem(CONDITIONS, name, replace(condition, instruments=("timgm-grand",)))
    writer = ShardWriter(tmp_path / "set")
    for piece in ("one", "two"):
        writer.add(f"{piece}--0", scale(), {"piece": piece, "use": "valid"})
    writer.finish()
    return tmp_path / "set"


def pieces(data: Path) -> list[EngravedPiece]:
    return find_pieces(data, ["valid"], ["*"], Setting(ROADS, False, 0, data / "recordings"))


def test_layouts_and_roads_are_drawn(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "pictures"
    main([str(data), str(out), "--only", "layouts", "roads"])
    names = ["layouts.jpg", "roads.svg"]
    assert capsys.readouterr().out.splitlines() == [str(out / name) for name in names]
    with Image.open(out / "layouts.jpg") as picture:
        assert picture.format == "JPEG" and picture.width > 2 * 420
        red, _, blue = np.asarray(picture.convert("RGB"), int).reshape(-1, 3).T
        assert (blue - red > 20).sum() > 1000, "no system is drawn"
    root = ElementTree.fromstring((out / "roads.svg").read_text())
    titles = [text.text or "" for text in root.iter(f"{SVG}text") if text.get("class") == "title"]
    drawn = [title.split(": ")[0] for title in titles]
    assert drawn == [name for name in ROADS if name in drawn] and "interrupted" in drawn
    plots = root.findall(f"{SVG}g")
    assert len(plots) == len(titles)
    for plot in plots:
        (played,) = [path for path in plot.findall(f"{SVG}path") if path.get("class") == "played"]
        assert len(re.findall("[ML]", played.get("d") or "")) >= 16
    assert len(plots[drawn.index("interrupted")].findall(f"{SVG}rect")) == 1


def test_the_worst_case_of_each_condition_is_drawn(data: Path) -> None:
    found = find_failures(pieces(data)[:1], lambda case: Loudness(case))
    assert sorted(one.case.condition for one in found) == sorted(FAILURES)
    tile = failure_tile(found[0])
    assert tile.caption[0].startswith(f"{found[0].case.condition}: one, page ")
    wrong = int((found[0].outcome.answers.error > 0.5).sum())
    assert tile.caption[1].startswith(f"wrong: {wrong / len(found[0].case.truth.time):.0%} of ")
    red, green, blue = np.asarray(tile.picture, int).reshape(-1, 3).T
    assert ((red - green > 100) & (red - blue > 100)).any()


def test_a_damaged_set_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shard,) = data.glob("*.zip")
    blob = bytearray(shard.read_bytes())
    blob[len(blob) // 3] ^= 255
    shard.write_bytes(bytes(blob))
    with pytest.raises(SystemExit) as left:
        main([str(data), str(data / "out"), "--only", "layouts"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r".*is damaged \(wrong checksum\): copy or build the shard again\n", said)
    assert not (data / "out").exists()


@pytest.mark.parametrize("use", ["train", "valid"])
def test_no_set_and_no_pieces_are_told(
    data: Path, use: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = data if use == "train" else data / "nowhere"
    with pytest.raises(SystemExit) as left:
        main([str(where), str(data / "out"), "--use", use])
    assert left.value.code == 2
    assert "scorefollow dataset build" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_told(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "file").write_text("")
    with pytest.raises(SystemExit) as left:
        main([str(data), str(data / "file"), "--only", "layouts"])
    assert left.value.code == 2
    assert "choose another OUT" in capsys.readouterr().err


def test_score_positions_go_on_from_system_to_system() -> None:
    layout = make_layout(2)
    at = [
        score_position(layout, page, x, y)
        for page in (1, 2)
        for y in (0.2, 0.6)
        for x in (0.1, 0.2, 0.9)
    ]
    expected = [start + part for start in (1, 5, 9, 13) for part in (0, 0.5, 4)]
    assert at == pytest.approx(expected)
    assert np.isnan(score_position(layout, 3, 0.5, 0.5))


def test_roads_break_where_the_player_goes_elsewhere() -> None:
    played = np.array([[0, 1], [1, 2], [2, 3], [3, 1], [4, 2], [5, 9], [6, 9]], float)
    said = np.array([[0.5, 1.0], [1.5, np.nan]])
    road = Road("a <b>", 7, 10, played, said, np.array([True, False]), np.zeros((0, 2)))
    assert [part[:, 0].tolist() for part in parts(road)] == [[0, 1, 2], [3, 4], [5, 6]]
    root = ElementTree.fromstring(draw_roads([road]))
    (plot,) = root.findall(f"{SVG}g")
    paths = {path.get("class"): path.get("d") or "" for path in plot.findall(f"{SVG}path")}
    assert [paths[kind].count("M") for kind in ("played", "said", "unsure")] == [3, 1, 0]


@given(st.floats(1, 5000))
def test_ticks_are_few_and_round(most: float) -> None:
    assert most / tick(most) <= 7
    assert str(tick(most)).rstrip("0") in ("1", "2", "5")


def test_a_sheet_has_room_for_all() -> None:
    tiles = [Tile(Image.new("RGB", (100, 50 + 10 * i), (0, 0, 200)), ("a", "b")) for i in range(3)]
    whole = sheet(tiles, 2)
    assert (np.asarray(whole) == (0, 0, 200)).all(2).sum() == 100 * (50 + 60 + 70)
    with Image.open(io.BytesIO(jpeg(whole))) as picture:
        assert picture.size == whole.size
