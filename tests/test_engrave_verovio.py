from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from music21 import converter, corpus
from music21.common import getCorpusFilePath

from sf_plugin.dataset.engrave_verovio import (
    KEYBOARD,
    apply_variety,
    corpus_sources,
    engrave_file,
    engrave_files,
    engrave_stream,
    read_mei,
)
from sf_plugin.dataset.engraving import (
    ARTICULATIONS,
    ORNAMENTS,
    PAGE_WIDTH,
    Engraving,
    EngravingError,
)
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.dataset.verovio_truth import check, read_truth
from sf_plugin.dataset.verovio_variety import (
    FONTS,
    PLAIN,
    TEXT_FONTS,
    VerovioVariety,
    draw_variety,
)
from sf_plugin.score.engraving import mei_text, new_toolkit, read_text

DATA = Path(__file__).parent / "data"
EVALUATED = Path(__file__).parents[1] / "docs" / "verovio-pieces.txt"


def path_of(work: str) -> Path:
    return Path(str(corpus.getWork(work)))


def in_style(path: Path, variety: VerovioVariety) -> Engraving:
    root = read_mei(read_text(path), variety.semitones)
    apply_variety(root, variety)
    toolkit = new_toolkit(variety.options)
    toolkit.loadData(mei_text(root))
    return read_truth(toolkit, variety.font, text_font=variety.text_font)


@pytest.fixture(scope="module")
def chorale() -> Engraving:
    return engrave_file(path_of("bach/bwv66.6"))


@pytest.fixture(scope="module")
def rag() -> Engraving:
    return in_style(path_of("joplin/maple_leaf_rag"), VerovioVariety({"font": "Bravura"}))


@pytest.fixture(scope="module")
def signs() -> Engraving:
    return engrave_file(DATA / "signs.musicxml")


@pytest.fixture(scope="module")
def movements() -> Engraving:
    return engrave_file(DATA / "movements.mei")


def heads(table: np.ndarray) -> list[tuple[float, int, float, bool]]:
    return sorted(
        (
            round(float(n["onset"]), 4),
            int(n["pitch"]),
            round(float(n["length"]), 4),
            bool(n["tied"]),
        )
        for n in table
        if not n["grace"]
    )


def read_by_music21(path: Path) -> list[tuple[float, int, float, bool]]:
    """The same facts, from another reader of MusicXML."""
    found = []
    score: Any = converter.parse(path)
    for part in score.parts:
        for item in part.flatten().notes:
            if not item.duration.isGrace:
                for note in item.notes if item.isChord else [item]:
                    tied = note.tie is not None and note.tie.type in ("stop", "continue")
                    onset, length = float(item.offset) / 4, float(item.quarterLength) / 4
                    found.append((round(onset, 4), note.pitch.midi, round(length, 4), tied))
    return sorted(found)


def values(piece: Engraving, kind: str, staff: int) -> list[tuple[float, str]]:
    chosen = piece.signs[(piece.signs["kind"] == kind) & (piece.signs["staff"] == staff)]
    return [(float(sign["onset"]), str(sign["value"])) for sign in chosen]


def test_heads_are_what_music21_reads(chorale: Engraving, rag: Engraving) -> None:
    assert heads(chorale.notes) == read_by_music21(path_of("bach/bwv66.6"))
    assert heads(rag.notes) == read_by_music21(path_of("joplin/maple_leaf_rag"))


def test_heads_stand_on_ink(chorale: Engraving, rag: Engraving) -> None:
    for piece in (chorale, rag):
        height, width = piece.pages.shape[1:]
        for note in piece.notes[piece.notes["length"] < 0.5]:
            y, x = round(note["y"] * height), round(note["x"] * width)
            page = piece.pages[note["page"]]
            assert page[y - 1 : y + 2, x - 1 : x + 2].mean() < 60, note


def test_higher_on_the_staff_is_higher_in_pitch(chorale: Engraving) -> None:
    """Soprano, alto, tenor in treble and bass clefs: half a space is a step of the scale."""
    letters = np.array([0, 2, 4, 5, 7, 9, 11])
    lines = {"treble": 4 * 7 + 2, "bass": 2 * 7 + 4, "treble_8": 3 * 7 + 2}
    for index in range(len(chorale.systems)):
        staves = chorale.staves[chorale.staves["system"] == index]
        clefs = chorale.signs[
            (chorale.signs["system"] == index) & (chorale.signs["kind"] == "clef")
        ]
        assert list(clefs["staff"]) == [0, 1, 2, 3]
        for row, (staff, clef) in enumerate(zip(staves, clefs, strict=True)):
            notes = chorale.notes[
                (chorale.notes["system"] == index) & (chorale.notes["staff"] == row)
            ]
            space = (staff["bottom"] - staff["top"]) / 4
            steps = (staff["bottom"] - notes["y"]) / (space / 2)
            assert np.abs(steps - np.round(steps)).max() < 0.1
            step = np.round(steps).astype(int) + lines[str(clef["value"])]
            natural = 12 * (step // 7 + 1) + letters[step % 7]
            assert np.abs(notes["pitch"] - natural).max() <= 1


def test_systems_and_bars_stand_on_ink(rag: Engraving) -> None:
    height, width = rag.pages.shape[1:]
    for index, system in enumerate(rag.systems):
        ink = rag.pages[system["page"]] < 200
        across = slice(round(system["left"] * width) + 2, round(system["right"] * width) - 2)
        for staff in rag.staves[rag.staves["system"] == index]:
            for edge in (staff["top"], staff["bottom"]):
                row = round(edge * height)
                assert ink[row - 1 : row + 2, across].any(axis=0).mean() > 0.95
        rows = slice(round(system["top"] * height) + 1, round(system["bottom"] * height) - 1)
        for bar in rag.bars[rag.bars["system"] == index]:
            column = round(bar["x"] * width)
            beside = ink[rows, max(column - 3, 0) : column + 4]
            assert beside.mean(axis=0).max() > 0.9, bar


def test_repeats_of_a_rag(rag: Engraving) -> None:
    glyphs = [str(glyph) for glyph in rag.bars["glyph"]]
    assert {"|", ".|:", ":|."} <= set(glyphs) <= {"|", ".|:", ":|.", ":|.|:", "|.", "||"}
    passes = [str(volta["passes"]) for volta in rag.voltas]
    assert passes[-2:] == ["1", "2"]
    assert (rag.voltas["end"] > rag.voltas["start"]).all()
    assert set(rag.voltas["start"]) <= set(rag.bars["onset"])


def test_a_transposing_instrument_and_an_octave_sign_sound_as_meant(signs: Engraving) -> None:
    clarinet = signs.notes[signs.notes["staff"] == 0]
    assert list(clarinet["pitch"]) == [84, 76, 74, 74, 72]
    assert list(clarinet["onset"]) == [0, 0.75, 1, 2, 3], "neither hidden nor cue notes"


def test_signs_on_heads(signs: Engraving) -> None:
    found = {
        (float(n["onset"]), int(n["pitch"])): (int(n["articulation"]), int(n["ornament"]))
        for n in signs.notes
        if n["articulation"] or n["ornament"]
    }
    spread, fermata = ARTICULATIONS["arpeggio"], ARTICULATIONS["fermata"]
    stressed = ARTICULATIONS["tenuto"] | ARTICULATIONS["accent"]
    assert found == {
        (0.0, 72): (spread, 0),
        (0.0, 76): (spread, 0),
        (0.5, 76): (0, ORNAMENTS["tremolo"]),
        (0.75, 76): (ARTICULATIONS["staccato"] | fermata, ORNAMENTS["trill"]),
        (1.5, 76): (stressed, ORNAMENTS["prall"]),
    }


def test_a_note_that_crosses_staves_stands_on_the_other(signs: Engraving) -> None:
    (crossing,) = signs.notes[(signs.notes["onset"] == 0.25) & (signs.notes["pitch"] == 52)]
    staff = signs.staves[2]
    assert crossing["staff"] == 2
    assert staff["top"] < crossing["y"] < staff["bottom"]


def test_grace_notes_come_before_their_note(signs: Engraving, movements: Engraving) -> None:
    (grace,) = signs.notes[signs.notes["grace"] != 0]
    assert (grace["onset"], grace["grace"], grace["pitch"]) == (0, -0.125, 74)
    after = movements.notes[movements.notes["grace"] != 0]
    assert [tuple(n) for n in after[["onset", "grace", "pitch"]]] == [
        (4, -0.1875, 62),
        (4, -0.0625, 64),
    ]


def test_clefs_keys_times_and_marks(signs: Engraving) -> None:
    assert values(signs, "clef", 0) == [(0, "treble")]
    assert values(signs, "clef", 2) == [(0, "bass"), (1.5, "treble_8")]
    assert values(signs, "key", 0) == [(0, "1"), (3, "-2")]
    assert values(signs, "key", 1) == [(0, "-1"), (3, "-2")]
    assert values(signs, "time", 1) == [(0, "4/4"), (3, "3/4")]
    assert values(signs, "mark", -1) == [(0, "segno"), (3.75, "dal segno")]


def test_bar_lines_and_brackets(signs: Engraving) -> None:
    assert [(float(b["onset"]), str(b["glyph"]), int(b["measure"])) for b in signs.bars] == [
        (1, ".|:", 2),
        (2, "|", 3),
        (3, ":|.", 4),
        (3.75, "|.", 5),
    ]
    assert [tuple(v) for v in signs.voltas] == [(0, 2, 3, "1,2"), (0, 3, 3.75, "3")]
    assert (signs.notes["tempo"] == 24).all()


def test_movements_start_again(movements: Engraving) -> None:
    assert list(movements.systems["score"]) == [0, 1]
    first, second = (movements.notes[movements.notes["score"] == score] for score in (0, 1))
    assert list(first["onset"]) == [2, 2.5, 3, 3.25, 4, 4], "after two measures of rest"
    assert list(first["pitch"]) == [71, 71, 58, 60, 62, 64], "an octave sign over the first two"
    assert list(first["tied"]) == [False, True, False, False, False, False]
    assert list(first["ornament"][2:4]) == [ORNAMENTS["tremolo"]] * 2
    assert (first["tempo"] == 0).all()
    assert np.allclose(second["onset"], [0, 1 / 4, 5 / 12, 7 / 12])
    assert list(second["tempo"]) == [15, 18.75, 18.75, 18.75]
    assert values(movements, "clef", 0) == [(0, "alto"), (0, "bass")]
    assert values(movements, "mark", -1) == [(4, "fine")]


def test_humdrum_with_a_pickup() -> None:
    piece = engrave_file(DATA / "pickup.krn")
    assert heads(piece.notes) == [
        (0, 50, 0.25, False),
        (0, 74, 0.25, False),
        (0.25, 55, 0.75, False),
        (0.25, 71, 0.25, False),
        (0.5, 73, 0.125, False),
        (0.625, 71, 0.125, False),
        (0.75, 67, 0.25, False),
    ]
    assert [str(glyph) for glyph in piece.bars["glyph"]] == ["|", ":|.", "|."]
    lengths = [
        m.onsets[-1][1]
        for page in measures_of_engraving(piece).pages
        for s in page.systems
        for m in s.measures
    ]
    assert lengths == [1, 3, 3]


def test_tunes_in_abc_are_movements(tmp_path: Path) -> None:
    tune = "X:{}\nT:Tune\nM:2/4\nL:1/4\nK:G\n|:G A|{}:|\n\n"
    path = tmp_path / "tunes.abc"
    path.write_text(tune.format(1, "B c") + tune.format(2, "F2"))
    piece = engrave_file(path)
    assert [(int(n["score"]), float(n["onset"]), int(n["pitch"])) for n in piece.notes] == [
        (0, 0, 67), (0, 0.25, 69), (0, 0.5, 71), (0, 0.75, 72),
        (1, 0, 67), (1, 0.25, 69), (1, 0.5, 66),
    ]  # fmt: skip


def test_a_stream_and_a_file_are_the_same(chorale: Engraving) -> None:
    piece = engrave_stream(converter.parse(path_of("bach/bwv66.6")))
    assert heads(piece.notes) == heads(chorale.notes)


def test_files_can_be_joined(chorale: Engraving) -> None:
    pieces = [path_of("bach/bwv66.6"), DATA / "signs.musicxml"]
    both = engrave_files(pieces, random.Random(3))
    once = chorale.notes
    assert set(both.systems["score"]) == {0, 1}
    first = both.notes[both.notes["score"] == 0]
    moved = np.unique(np.sort(first["pitch"]) - np.sort(once["pitch"]))
    assert len(moved) == 1
    assert np.array_equal(np.sort(first["onset"]), np.sort(once["onset"]))


@pytest.mark.parametrize("semitones", [-4, 6])
def test_transposition_moves_every_pitch(chorale: Engraving, semitones: int) -> None:
    moved = in_style(path_of("bach/bwv66.6"), VerovioVariety(semitones=semitones))
    assert heads(moved.notes) == [(o, p + semitones, d, t) for o, p, d, t in heads(chorale.notes)]


def test_styles_vary_and_keep_the_music(signs: Engraving) -> None:
    moved, sizes, spaces = set(), set(), []
    for seed in range(4):
        piece = engrave_file(DATA / "signs.musicxml", random.Random(seed))
        again = engrave_file(DATA / "signs.musicxml", random.Random(seed))
        assert np.array_equal(piece.pages, again.pages)
        assert np.array_equal(piece.notes, again.notes)
        order = ["onset", "grace", "staff", "pitch"]
        ours, theirs = np.sort(piece.notes, order=order), np.sort(signs.notes, order=order)
        (shift,) = np.unique(ours["pitch"] - theirs["pitch"])
        for name in ("onset", "grace", "length", "tied", "staff", "articulation", "ornament"):
            assert np.array_equal(ours[name], theirs[name]), name
        moved.add(int(shift))
        sizes.add(piece.pages.shape[1])
        staff = piece.staves[0]
        spaces.append(float((staff["bottom"] - staff["top"]) / 4 * piece.pages.shape[1]))
    assert len(moved) > 2 and len(sizes) > 1
    assert max(spaces) - min(spaces) > 0.5
    assert all(5 < space < 9 for space in spaces)


def test_pages_come_as_wide_as_asked(signs: Engraving) -> None:
    wide = engrave_file(DATA / "signs.musicxml", page_width=1000)
    assert signs.pages.shape[2] == PAGE_WIDTH
    assert wide.pages.shape[1:] == (round(1000 * 2970 / 2100), 1000)
    assert np.array_equal(wide.notes, signs.notes)


def test_what_a_style_leaves_out_is_not_printed(signs: Engraving) -> None:
    everything = frozenset({"label", "labelAbbr"})
    bare = in_style(
        DATA / "signs.musicxml", VerovioVariety(left_out=everything, measure_numbers=False)
    )
    assert bare.systems["left"][0] < signs.systems["left"][0] - 0.05
    assert heads(bare.notes) == heads(signs.notes)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**9))
def test_verovio_knows_every_option(seed: int) -> None:
    variety = draw_variety(random.Random(seed))
    assert variety == draw_variety(random.Random(seed))
    assert variety.font in FONTS and variety.text_font in TEXT_FONTS
    toolkit = new_toolkit()
    toolkit.setOptions(dict(variety.options))
    taken = toolkit.getOptions()
    for name, value in variety.options.items():
        assert taken[name] == pytest.approx(value), name


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 24), min_size=2, max_size=12), st.integers(-5, 6))
def test_any_melody_comes_back(steps: list[int], semitones: int) -> None:
    notes = "".join(
        f'<note dur="{2 ** (step % 4)}" pname="{"cdefgab"[step % 7]}" oct="{3 + step // 7}"/>'
        for step in steps
    )
    mei = (
        '<mei xmlns="http://www.music-encoding.org/ns/mei"><music><body><mdiv><score><scoreDef>'
        '<staffGrp><staffDef n="1" lines="5" clef.shape="G" clef.line="2"/></staffGrp></scoreDef>'
        f'<section><measure n="1"><staff n="1"><layer n="1">{notes}</layer></staff></measure>'
        "</section></score></mdiv></body></music></mei>"
    )
    toolkit = new_toolkit({"pageWidth": 4000})
    toolkit.loadData(mei_text(read_mei(mei, semitones)))
    piece = read_truth(toolkit, PLAIN.font)
    lengths = [1 / 2 ** (step % 4) for step in steps]
    scale = (0, 2, 4, 5, 7, 9, 11)
    assert list(piece.notes["length"]) == lengths
    assert np.allclose(piece.notes["onset"], np.cumsum([0, *lengths[:-1]]))
    assert list(piece.notes["pitch"]) == [
        12 * (4 + step // 7) + scale[step % 7] + semitones for step in steps
    ]
    assert (np.diff(piece.notes["x"]) > 0).all()


@pytest.mark.parametrize("table", ["notes", "bars"])
def test_a_page_that_contradicts_itself_is_refused(signs: Engraving, table: str) -> None:
    check(signs)
    rows = getattr(signs, table).copy()
    rows["x"] = 1 - rows["x"]
    broken = Engraving(**{**vars(signs), table: rows})
    with pytest.raises(EngravingError, match=r"order|beyond"):
        check(broken)


class Careless:
    """Verovio, but one head of the bass clef stands a line too high."""

    def __init__(self, toolkit: Any) -> None:
        self.toolkit = toolkit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.toolkit, name)

    def renderToSVG(self, page: int) -> str:
        svg = str(self.toolkit.renderToSVG(page))
        before, head, after = svg.rpartition("E0A4-")
        x, y = re.findall(r"translate\((\d+), (\d+)\)", after)[0]
        return before + head + after.replace(f"{x}, {y}", f"{x}, {int(y) - 180}", 1)


def test_a_head_away_from_its_pitch_is_refused() -> None:
    toolkit = new_toolkit({"mdivAll": True})
    toolkit.loadData(mei_text(read_mei(read_text(DATA / "movements.mei"))))
    assert len(read_truth(toolkit, PLAIN.font).notes) == 10
    with pytest.raises(EngravingError, match="does not belong"):
        read_truth(Careless(toolkit), PLAIN.font)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("cut.musicxml", "<score-partwise><part", "cut off"),
        ("page.xml", "<html/>", "neither MusicXML"),
        ("empty.mei", '<mei xmlns="http://www.music-encoding.org/ns/mei"/>', r"Verovio|no note"),
        ("no.krn", "nothing", "kern"),
    ],
)
def test_what_cannot_be_engraved_says_why(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EngravingError, match=reason):
        engrave_file(tmp_path / name)


def test_measure_repeats_are_refused() -> None:
    text = read_text(DATA / "movements.mei").replace('<multiRest num="2"/>', "<mRpt/>")
    toolkit = new_toolkit()
    toolkit.loadData(text)
    with pytest.raises(EngravingError, match="measure repeats"):
        read_truth(toolkit, PLAIN.font)


def test_the_corpus_holds_keyboard_works_and_chorales() -> None:
    pieces = corpus_sources()
    assert len(pieces) > 300
    assert all(path.is_file() for path in pieces.values())
    assert list(pieces)[: len(KEYBOARD)][0] == "bach__bwv846"
    assert len(set(pieces.values())) == len(pieces)


def test_the_corpus_holds_the_pieces_that_are_evaluated() -> None:
    files = [Path(getCorpusFilePath()) / line for line in EVALUATED.read_text().splitlines()]
    assert [file for file in files if not file.is_file()] == []
    assert len({file.with_suffix("") for file in files}) == len(files) == 20
