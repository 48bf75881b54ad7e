from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sf_plugin.dataset import engrave_lilypond as module
from sf_plugin.dataset.engrave_lilypond import engrave
from sf_plugin.dataset.engraving import Engraving, EngravingError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lilypond") is None, reason="lilypond is not installed (extra: train)"
)

SOURCE = r"""
\version "2.24.0"
#(set-default-paper-size "a5")
\header { tagline = ##f }
upper = {
  \tempo 4 = 120 \time 2/4
  \repeat volta 2 { c''4~ c''8 d''8 | \grace e''16 f''4 g''4 | } \break
  a''2 | b''4 c''4~ | \pageBreak
  <c'' e''>2 | c''2 \bar "|."
}
lower = {
  \clef bass
  \repeat volta 2 { c2 | \grace s16 d4 e4~ | }
  e2 | f2 |
  g2 | g2
}
\score {
  \new PianoStaff << \new Staff \upper \new Staff \lower >>
  \layout { indent = 0 }
}
"""

HEADS = [
    # page, system, onset, grace, pitch, length, tied
    (0, 0, 0.0, 0.0, 72, 0.25, False),
    (0, 0, 0.0, 0.0, 48, 0.5, False),
    (0, 0, 0.25, 0.0, 72, 0.125, True),
    (0, 0, 0.375, 0.0, 74, 0.125, False),
    (0, 0, 0.5, -0.0625, 76, 0.0625, False),
    (0, 0, 0.5, 0.0, 77, 0.25, False),
    (0, 0, 0.5, 0.0, 50, 0.25, False),
    (0, 0, 0.75, 0.0, 79, 0.25, False),
    (0, 0, 0.75, 0.0, 52, 0.25, False),
    (0, 1, 1.0, 0.0, 52, 0.5, True),
    (0, 1, 1.0, 0.0, 81, 0.5, False),
    (0, 1, 1.5, 0.0, 83, 0.25, False),
    (0, 1, 1.5, 0.0, 53, 0.5, False),
    (0, 1, 1.75, 0.0, 72, 0.25, False),
    (1, 2, 2.0, 0.0, 55, 0.5, False),
    (1, 2, 2.0, 0.0, 76, 0.5, False),
    (1, 2, 2.0, 0.0, 72, 0.5, True),
    (1, 2, 2.5, 0.0, 55, 0.5, False),
    (1, 2, 2.5, 0.0, 72, 0.5, False),
]

BARS = {
    # system, onset, measure that begins, glyph
    (0, 0.5, 2, "|"),
    (0, 1.0, 3, ":|."),
    (1, 1.5, 4, "|"),
    (1, 2.0, 5, "|"),
    (2, 2.5, 6, "|"),
    (2, 3.0, 7, "|."),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "piece.ly").write_text(SOURCE)
    return folder


@pytest.fixture(scope="module")
def piece(sources: Path) -> Engraving:
    return engrave(sources, "piece.ly")


def heads(piece: Engraving) -> list[tuple[object, ...]]:
    names = ("page", "system", "onset", "grace", "pitch", "length", "tied")
    return [tuple(note[name].item() for name in names) for note in piece.notes]


def test_every_head_has_its_place_pitch_onset_and_tie(piece: Engraving) -> None:
    assert sorted(heads(piece)) == sorted(HEADS)
    assert set(piece.notes["score"]) == {0}
    assert set(piece.notes["tempo"]) == {30.0}


def test_heads_are_in_order_of_time_graces_first(piece: Engraving) -> None:
    moments = [(note["onset"], note["grace"]) for note in piece.notes]
    assert moments == sorted(moments)


def test_heads_stand_on_their_staves_and_move_right_with_time(piece: Engraving) -> None:
    for index, system in enumerate(piece.systems):
        upper, lower = piece.staves[piece.staves["system"] == index]
        notes = piece.notes[piece.notes["system"] == index]
        treble = notes["pitch"] >= 60
        for staff, chosen in ((upper, treble), (lower, ~treble)):
            margin = (staff["bottom"] - staff["top"]) / 2
            assert (notes["y"][chosen] > staff["top"] - margin).all()
            assert (notes["y"][chosen] < staff["bottom"] + margin).all()
        assert (np.diff(notes["x"]) > -0.002).all()
        assert (notes["x"] > system["left"]).all()
        assert (notes["x"] < system["right"]).all()
        assert (upper["top"], lower["bottom"]) == (system["top"], system["bottom"])


def test_a_diatonic_step_is_half_a_staff_space(piece: Engraving) -> None:
    staff = piece.staves[0]
    step = (staff["bottom"] - staff["top"]) / 8
    y = {int(n["pitch"]): float(n["y"]) for n in piece.notes if n["system"] == 0}
    assert y[72] - y[74] == pytest.approx(step, rel=0.05)
    assert y[72] - y[79] == pytest.approx(4 * step, rel=0.05)
    assert y[48] - y[52] == pytest.approx(2 * step, rel=0.05)


def test_there_is_ink_where_the_truth_says_a_head_is(piece: Engraving) -> None:
    pages, height, width = piece.pages.shape
    assert (pages, width, piece.pages.dtype) == (2, module.PAGE_WIDTH, np.uint8)
    assert height == pytest.approx(width * 210 / 148, abs=2)
    filled = piece.notes[piece.notes["length"] <= 0.25]
    rows, columns = (filled["y"] * height).astype(int), (filled["x"] * width).astype(int)
    assert (piece.pages[filled["page"], rows, columns] < 100).all()
    assert (piece.pages[:, :5] == 255).all()


def test_systems_and_staves_are_in_reading_order(piece: Engraving) -> None:
    assert piece.systems["page"].tolist() == [0, 0, 1]
    assert piece.systems["staves"].tolist() == [2, 2, 2]
    assert piece.systems["top"][0] < piece.systems["bottom"][0] < piece.systems["top"][1]
    assert piece.staves["system"].tolist() == [0, 0, 1, 1, 2, 2]
    middle = round((float(piece.staves[0]["top"]) + float(piece.staves[0]["bottom"])) / 2 * 1204)
    left, right = (int(piece.systems[0][side] * 848) for side in ("left", "right"))
    assert (
        piece.pages[0, middle - 1 : middle + 2, left + 4 : right - 4].min(0) < 200
    ).mean() > 0.99


def test_bar_lines_and_repeats(piece: Engraving) -> None:
    found = {
        (int(b["system"]), float(b["onset"]), int(b["measure"]), str(b["glyph"]))
        for b in piece.bars
    }
    assert found == BARS
    for system in range(3):
        bars = piece.bars[piece.bars["system"] == system]
        notes = piece.notes[piece.notes["system"] == system]
        for bar in bars:
            before = notes["onset"] < bar["onset"]
            assert (notes["x"][before] < bar["x"]).all()
            assert (notes["x"][~before & (notes["grace"] == 0)] > bar["x"]).all()


def test_the_source_is_left_as_it_was(sources: Path, piece: Engraving) -> None:
    assert [path.name for path in sources.iterdir()] == ["piece.ly"]
    assert (sources / "piece.ly").read_text() == SOURCE


def test_an_engraving_survives_saving(piece: Engraving, tmp_path: Path) -> None:
    path = tmp_path / "none--piece.v2--0.npz"
    piece.save(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    loaded = Engraving.load(path)
    for name, table in vars(piece).items():
        np.testing.assert_array_equal(getattr(loaded, name), table)


def test_another_staff_size_moves_everything_but_the_music(sources: Path, piece: Engraving) -> None:
    small = engrave(sources, "piece.ly", staff_size=15)
    assert sorted(row[2:] for row in heads(small)) == sorted(row[2:] for row in heads(piece))
    ratio = np.diff(small.staves[["top", "bottom"]].tolist()) / np.diff(
        piece.staves[["top", "bottom"]].tolist()
    )
    assert ratio == pytest.approx(15 / 20, rel=0.02)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{ c'4 }", "names no LilyPond version"),
        ('\\version "2.24.0" \\markup "words only"', "no note heads"),
        ('\\version "2.24.0" { c\'4 ', "error"),
    ],
)
def test_what_cannot_be_engraved_says_why(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "odd.ly").write_text(source)
    with pytest.raises(EngravingError, match=reason):
        engrave(tmp_path, "odd.ly")


def test_a_folder_of_sources_is_engraved_and_failures_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    (tree / "good.ly").write_text("\\version \"2.24.0\" { c'4 d' e' f' }")
    (tree / "bad.ly").write_text("no version")
    pieces = [
        {"path": "good.ly", "msmd_split": None},
        {"path": "bad.ly", "msmd_split": "train"},
        {"path": "absent.ly", "msmd_split": "test"},
    ]
    (tree / "manifest.json").write_text(json.dumps(pieces))
    words = ["engrave", str(tree), str(out), "--split", "none", "--split", "train"]
    monkeypatch.setattr(sys, "argv", words)
    module.main()
    assert sorted(file.name for file in out.iterdir()) == ["failures-0.txt", "none--good--0.npz"]
    assert (out / "failures-0.txt").read_text().startswith("bad.ly\t")
    assert Engraving.load(out / "none--good--0.npz").notes["pitch"].tolist() == [60, 62, 64, 65]
