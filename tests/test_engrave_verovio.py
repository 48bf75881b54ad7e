from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from music21 import converter, corpus

from sf_plugin.dataset.engrave_verovio import (
    FONTS,
    PUBLISHED,
    choose_options,
    companions,
    engrave,
    held_out,
    join,
    pitch_of,
    read_mei,
    read_truth,
    sources,
    two_staves,
    walk,
)
from sf_plugin.dataset.engrave_verovio import main as command
from sf_plugin.dataset.engraving import BAR, NOTE, PAGE_WIDTH, STAFF, SYSTEM, Engraving
from sf_plugin.dataset.perform import MECHANICAL, perform
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.score.engraving import mei_text, new_toolkit


def path_of(work: str) -> Path:
    return Path(str(corpus.getWork(work)))


CHORALE = "bach/bwv66.6"


def engraved(work: str, font: str = "Leipzig", semitones: int = 0) -> Engraving:
    root = read_mei(path_of(work), semitones)
    if work.startswith("bach/bwv66"):
        two_staves(root, words=False)
    toolkit = new_toolkit({"font": font})
    toolkit.loadData(mei_text(root))
    return read_truth(toolkit, font)


@pytest.fixture(scope="module")
def chorale() -> Engraving:
    return engraved(CHORALE)


@pytest.fixture(scope="module")
def rag() -> Engraving:
    return engraved("joplin/maple_leaf_rag", "Bravura")


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


def read_by_music21(work: str) -> list[tuple[float, int, float, bool]]:
    """The same facts, from another reader of MusicXML."""
    found = []
    score: Any = converter.parse(path_of(work))
    for part in score.parts:
        for item in part.flatten().notes:
            if not item.duration.isGrace:
                for note in item.notes if item.isChord else [item]:
                    tied = note.tie is not None and note.tie.type in ("stop", "continue")
                    onset, length = float(item.offset) / 4, float(item.quarterLength) / 4
                    found.append((round(onset, 4), note.pitch.midi, round(length, 4), tied))
    return sorted(found)


def test_the_format_is_the_one_of_lilypond_pages(chorale: Engraving, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    chorale.save(path)
    again = Engraving.load(path)
    assert again.pages.dtype == np.uint8
    assert again.pages.shape[2] == PAGE_WIDTH
    types = (again.notes.dtype, again.systems.dtype, again.staves.dtype, again.bars.dtype)
    assert types == (NOTE, SYSTEM, STAFF, BAR)
    assert np.array_equal(again.notes, chorale.notes)


def test_heads_are_what_music21_reads(chorale: Engraving, rag: Engraving) -> None:
    assert heads(chorale.notes) == read_by_music21(CHORALE)
    assert heads(rag.notes) == read_by_music21("joplin/maple_leaf_rag")


@pytest.mark.parametrize("semitones", [-4, 3, 6])
def test_transposition_moves_every_pitch(chorale: Engraving, semitones: int) -> None:
    moved = engraved(CHORALE, semitones=semitones)
    assert heads(moved.notes) == [(o, p + semitones, d, t) for o, p, d, t in heads(chorale.notes)]


def test_heads_stand_on_ink(chorale: Engraving, rag: Engraving) -> None:
    for piece in (chorale, rag):
        height, width = piece.pages.shape[1:]
        for note in piece.notes[piece.notes["length"] < 0.5]:
            y, x = round(note["y"] * height), round(note["x"] * width)
            page = piece.pages[note["page"]]
            assert page[y - 1 : y + 2, x - 1 : x + 2].mean() < 60, note


def test_higher_on_the_staff_is_higher_in_pitch(chorale: Engraving) -> None:
    """Upper staff in treble, lower in bass clef: half a space is a step of the scale."""
    height = chorale.pages.shape[1]
    letters = np.array([0, 2, 4, 5, 7, 9, 11])
    for index in range(len(chorale.systems)):
        notes = chorale.notes[chorale.notes["system"] == index]
        upper, lower = np.sort(chorale.staves[chorale.staves["system"] == index], order="top")
        middle = (upper["bottom"] + lower["top"]) / 2
        for staff, bottom_line, mine in (
            (upper, 4 * 7 + 2, notes[notes["y"] < middle]),
            (lower, 2 * 7 + 4, notes[notes["y"] > middle]),
        ):
            space = (staff["bottom"] - staff["top"]) / 4
            steps = (staff["bottom"] - mine["y"]) / (space / 2)
            assert np.abs(steps - np.round(steps)).max() < 0.1, height
            step = np.round(steps).astype(int) + bottom_line
            natural = 12 * (step // 7 + 1) + letters[step % 7]
            assert np.abs(mine["pitch"] - natural).max() <= 1


def test_systems_staves_and_bars(chorale: Engraving) -> None:
    height, width = chorale.pages.shape[1:]
    assert (chorale.systems["staves"] == 2).all()
    assert len(chorale.staves) == 2 * len(chorale.systems)
    for index, system in enumerate(chorale.systems):
        ink = chorale.pages[system["page"]] < 200
        across = slice(round(system["left"] * width) + 2, round(system["right"] * width) - 2)
        for staff in chorale.staves[chorale.staves["system"] == index]:
            for row in np.linspace(staff["top"], staff["bottom"], 5) * height:
                line = ink[round(row) - 1 : round(row) + 2, across].any(axis=0)
                assert line.mean() > 0.98, "five staff lines"
        down = slice(round(system["top"] * height) + 1, round(system["bottom"] * height) - 1)
        for bar in chorale.bars[chorale.bars["system"] == index]:
            x = round(bar["x"] * width)
            assert ink[down, x - 4 : x + 5].any(axis=1).all(), "a bar line through both staves"
    assert list(chorale.bars["onset"]) == [*(0.25 + i for i in range(9)), 9.0]
    assert list(chorale.bars["measure"]) == list(range(1, 11))
    assert chorale.bars["glyph"][-1] == "|."


def test_a_curve_in_a_bar_lines_group_moves_no_bar_line() -> None:
    piece = engrave([path_of("bach/bwv846")], random.Random("bach__bwv846/0"))
    height, width = piece.pages.shape[1:]
    for bar in piece.bars:
        system = piece.systems[bar["system"]]
        down = slice(round(system["top"] * height) + 1, round(system["bottom"] * height) - 1)
        x = round(bar["x"] * width)
        ink = piece.pages[system["page"]][down, x - 4 : x + 5] < 200
        assert ink.any(axis=1).mean() > 0.95, bar


def test_repeats_are_in_printed_order_with_their_glyphs(rag: Engraving) -> None:
    assert {"|", ".|:", ":|."} <= set(rag.bars["glyph"])
    for index in range(len(rag.systems)):
        bars = rag.bars[rag.bars["system"] == index]
        assert (np.diff(np.sort(bars, order="x")["onset"]) >= 0).all()
    first = [rag.notes["onset"][rag.notes["system"] == i].min() for i in range(len(rag.systems))]
    assert first == sorted(first)
    root = read_mei(path_of("joplin/maple_leaf_rag"))
    ends = sum(measure.get("right") == "rptend" for measure in root.iter("measure"))
    assert sum(glyph.startswith(":") for glyph in rag.bars["glyph"]) == ends
    onsets = {float(bar["onset"]) for bar in rag.bars}
    assert len(onsets) == sum(1 for _ in root.iter("measure"))


def test_measures_can_be_read_from_it(chorale: Engraving) -> None:
    layout = measures_of_engraving(chorale)
    measures = [m for page in layout.pages for s in page.systems for m in s.measures]
    assert [m.label for m in measures] == [str(n) for n in range(10)]
    assert [m.onsets[-1][1] for m in measures] == [1.0, *[4.0] * 8, 3.0]


def test_joined_pieces_follow_each_other(chorale: Engraving) -> None:
    roots = [read_mei(path_of(CHORALE), shift, ids) for ids, shift in ((1, 0), (2, 2))]
    for root in roots:
        two_staves(root, words=False)
    join(*roots)
    toolkit = new_toolkit()
    toolkit.loadData(mei_text(roots[0]))
    both = read_truth(toolkit, "Leipzig")
    once = heads(chorale.notes)
    end = float(chorale.bars["onset"].max())
    assert heads(both.notes) == sorted(
        once + [(round(o + end, 4), p + 2, d, t) for o, p, d, t in once]
    )
    assert list(both.bars["onset"]) == [*chorale.bars["onset"], *(chorale.bars["onset"] + end)]
    assert list(both.bars["glyph"]) == [*chorale.bars["glyph"]] * 2


def test_two_voices_on_a_staff_respell_accidentals() -> None:
    """Read as a musician would: from signs earlier in the measure and the key."""
    root = read_mei(path_of(CHORALE), 1)
    two_staves(root, words=False)
    alters = {"s": 1, "f": -1, "n": 0, "x": 2, "ff": -2}
    signature = {"2f": "be", "3s": "fcg", "4s": "fcgd", "5f": "beadg", "2s": "fc"}
    sig = next(root.iter("keySig")).get("sig", "")
    key = dict.fromkeys(signature[sig], 1 if sig.endswith("s") else -1)
    letters = dict(zip("cdefgab", (0, 2, 4, 5, 7, 9, 11), strict=True))
    shown = 0
    for staff in root.iter("staff"):
        current: dict[tuple[str, str], int] = {}
        played = [p for layer in staff.iter("layer") for p in walk(layer)]
        for note in (p.note for p in sorted(played, key=lambda p: p.onset)):
            letter, octave = note.get("pname", ""), note.get("oct", "")
            if sign := note.get("accid"):
                current[letter, octave] = alters[sign]
                shown += 1
            alter = current.get((letter, octave), key.get(letter, 0))
            assert pitch_of(note) == 12 * (int(octave) + 1) + letters[letter] + alter
    assert shown > 5


def test_grace_notes_and_tuplets_have_their_time() -> None:
    layer = ElementTree.fromstring(
        '<layer><note dur="4" dots="1"/><note dur="16" grace="acc"/><note dur="8" grace="acc"/>'
        '<chord dur="8"><note/><note/></chord><tuplet num="3" numbase="2"><beam>'
        '<note dur="8"/><rest dur="8"/><note dur="8"/></beam></tuplet><note dur="breve"/></layer>'
    )
    played = [(float(p.onset * 24), float(p.grace * 16), float(p.length * 24)) for p in walk(layer)]
    assert played == [
        (0, 0, 9), (9, -2, 3), (9, -3, 1.5), (9, 0, 3), (9, 0, 3), (12, 0, 2), (16, 0, 2),
        (18, 0, 48),
    ]  # fmt: skip


def test_documents_vary_and_can_be_played() -> None:
    styles = [choose_options(random.Random(seed)) for seed in range(40)]
    assert {style["font"] for style in styles} == set(FONTS)
    spaces = []
    for seed in (1, 2):
        piece = engrave([path_of(CHORALE), path_of("bach/bwv269")], random.Random(seed))
        rng = np.random.default_rng(seed)
        performance = perform(piece, rng, MECHANICAL)
        assert len(performance.notes) == (~piece.notes["tied"]).sum()
        assert (np.diff(performance.onsets["time"]) > 0).all()
        assert (np.diff(performance.onsets["system"]) >= 0).all()
        staff = piece.staves[0]
        spaces.append((staff["bottom"] - staff["top"]) / 4 * piece.pages.shape[1])
    assert all(5.4 < space < 8.6 for space in spaces)
    assert abs(spaces[0] - spaces[1]) > 0.05


def test_no_piece_is_on_both_sides() -> None:
    names = [f"p{i:03}" for i in range(120)]
    aside = held_out(names)
    assert aside == held_out(names[::-1])
    assert len(aside) == 10


def test_documents_join_chorales_of_one_side_only() -> None:
    pieces = sources()
    aside = {pieces[name] for name in held_out(list(pieces))}
    joined = 0
    for name in pieces:
        if name in PUBLISHED:
            continue
        paths = companions(name, pieces, random.Random(name))
        joined += len(paths) > 1
        assert paths[0] == pieces[name]
        assert len({path in aside for path in paths}) == 1
        assert not {pieces[other] for other in PUBLISHED} & set(paths)
    assert joined > 100


def test_command_writes_files_and_a_list_of_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path), "--count", "2", "--jobs", "1"])
    command()
    files = sorted(tmp_path.glob("verovio--*--0.npz"))
    assert [f.name.split("--")[1] for f in files] == ["bach__bwv846", "cpebach__h186"]
    assert (tmp_path / "failures-verovio-0.txt").read_text() == ""
    assert capsys.readouterr().out == "2 documents, 0 failed\n"
    assert all(len(Engraving.load(f).notes) > 100 for f in files)
