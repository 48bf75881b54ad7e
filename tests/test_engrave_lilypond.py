from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.dataset import engrave_lilypond as module
from sf_plugin.dataset.engrave_lilypond import engrave_source
from sf_plugin.dataset.engraving import ARTICULATIONS, ORNAMENTS, Engraving, EngravingError
from sf_plugin.dataset.lilypond_sources import read_source, repair, stage, version_of
from sf_plugin.dataset.lilypond_truth import check
from sf_plugin.dataset.lilypond_variety import FONTS, PAPERS, LilyPondVariety, draw_variety

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
    return engrave_source(sources, "piece.ly")


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


def test_another_staff_size_moves_everything_but_the_music(sources: Path, piece: Engraving) -> None:
    small = engrave_source(sources, "piece.ly", LilyPondVariety(staff_size=15))
    assert sorted(row[2:] for row in heads(small)) == sorted(row[2:] for row in heads(piece))
    ratio = np.diff(small.staves[["top", "bottom"]].tolist()) / np.diff(
        piece.staves[["top", "bottom"]].tolist()
    )
    assert ratio == pytest.approx(15 / 20, rel=0.02)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("air = { c'4 }", "wrote no PDF"),
        ('\\version "2.24.0" \\markup "words only"', "no note heads"),
        ('\\version "2.24.0" { c\'4 ', "error"),
    ],
)
def test_what_cannot_be_engraved_says_why(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "odd.ly").write_text(source)
    with pytest.raises(EngravingError, match=reason):
        engrave_source(tmp_path, "odd.ly")


SIGNS = r"""
\version "2.24.0"
\header { tagline = ##f }
upper = \relative c'' {
  \key d \major \time 3/4
  c4-. d-> \bar ";" e\fermata |
  \repeat volta 2 { <c e g>2.\arpeggio | }
  \alternative { { d4\trill e\mordent f\prall | } { d4:32 e\turn f--_\markup "D.C. al Fine" | } }
  \mark \markup { \musicglyph "scripts.segno" }
  \clef alto \key c \major \time 4/4
  c1 | c2\fermata\staccato c2\startTrillSpan | d2\stopTrillSpan d2\segno |
  d1\repeatTie \mark \markup { \musicglyph "scripts.coda" } |
  \fine d1_\markup { \italic "D. S. al Coda" }
}
lower = {
  \clef "bass_8" \key d \major \time 3/4
  d2. d d d \key c \major d1 d d d d
}
\markup \score { { a'8 b' } \layout { } }
\score {
  \new PianoStaff << \new Staff \upper \new Staff \lower >>
  \layout { } \midi { }
}
\score { \new Staff { c'4 } \midi { } }
"""


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Engraving:
    folder = tmp_path_factory.mktemp("signs")
    (folder / "signs.ly").write_text(SIGNS)
    return engrave_source(folder, "signs.ly")


def scripts_at(piece: Engraving, onset: float) -> list[tuple[int, int, int]]:
    notes = piece.notes[piece.notes["onset"] == onset]
    return [tuple(map(int, note[["staff", "articulation", "ornament"]])) for note in notes]


def test_heads_know_their_staff_articulation_and_ornament(signs: Engraving) -> None:
    staccato, tenuto, accent, fermata, arpeggio = ARTICULATIONS.values()
    trill, mordent, prall, turn, tremolo = ORNAMENTS.values()
    assert sorted(scripts_at(signs, 0)) == [(0, staccato, 0), (1, 0, 0)]
    assert scripts_at(signs, 0.25) == [(0, accent, 0)]
    assert scripts_at(signs, 0.5) == [(0, fermata, 0)]
    assert sorted(scripts_at(signs, 0.75)) == [(0, arpeggio, 0)] * 3 + [(1, 0, 0)]
    assert sorted(scripts_at(signs, 1.5)) == [(0, 0, trill), (1, 0, 0)]
    assert scripts_at(signs, 1.75) == [(0, 0, mordent)]
    assert scripts_at(signs, 2.0) == [(0, 0, prall)]
    assert sorted(scripts_at(signs, 2.25)) == [(0, 0, tremolo), (1, 0, 0)]
    assert scripts_at(signs, 2.5) == [(0, 0, turn)]
    assert scripts_at(signs, 2.75) == [(0, tenuto, 0)]
    assert (0, fermata + staccato, 0) in scripts_at(signs, 4.0)
    assert scripts_at(signs, 4.5) == [(0, 0, trill)]
    assert set(signs.notes["staff"]) == {0, 1}


def test_a_dashed_bar_line_keeps_its_name(signs: Engraving) -> None:
    assert {float(bar["onset"]) for bar in signs.bars if bar["glyph"] == ";"} == {0.5}


def test_a_repeat_tie_ties(signs: Engraving) -> None:
    tied = signs.notes[signs.notes["tied"]]
    assert [(note["onset"], note["pitch"]) for note in tied] == [(6.0, 74)]


def test_voltas_tell_their_passes(signs: Engraving) -> None:
    assert signs.voltas.tolist() == [(0, 1.5, 2.25, "1"), (0, 2.25, 3.0, "2")]


def test_clefs_keys_and_times_have_place_and_onset(signs: Engraving) -> None:
    found = {
        (int(sign["staff"]), float(sign["onset"]), str(sign["kind"]), str(sign["value"]))
        for sign in signs.signs
        if sign["kind"] != "mark"
    }
    assert found >= {
        (0, 0.0, "clef", "treble"),
        (1, 0.0, "clef", "bass_8"),
        (0, 0.0, "key", "2"),
        (1, 0.0, "time", "3/4"),
        (0, 3.0, "clef", "alto"),
        (1, 3.0, "key", "0"),
        (0, 3.0, "time", "4/4"),
    }
    assert {value for _, _, kind, value in found if kind == "clef"} == {"treble", "bass_8", "alto"}
    for sign in signs.signs[signs.signs["staff"] >= 0]:
        staves = signs.staves[signs.staves["system"] == sign["system"]]
        staff = staves[sign["staff"]]
        assert staff["top"] < sign["y"] < staff["bottom"]


def test_marks_say_where_the_road_turns(signs: Engraving) -> None:
    marks = [
        (float(sign["onset"]), str(sign["value"]))
        for sign in signs.signs[signs.signs["kind"] == "mark"]
    ]
    assert sorted(marks) == [
        (2.75, "da capo"),
        (3.0, "segno"),
        (5.5, "segno"),
        (7.0, "coda"),
        (7.0, "dal segno"),
        (7.0, "fine"),
    ]


def test_examples_in_the_text_and_scores_for_midi_are_no_music(signs: Engraving) -> None:
    assert set(signs.notes["score"]) == {0}
    assert set(signs.systems["score"]) == {0}
    assert len(signs.notes[signs.notes["onset"] == 0]) == 2


def test_landscape_pages_are_turned_upright(tmp_path: Path) -> None:
    (tmp_path / "wide.ly").write_text(
        "\\version \"2.24.0\" #(set-default-paper-size \"a6\" 'landscape) { c'4 d' e' f' }"
    )
    wide = engrave_source(tmp_path, "wide.ly")
    assert wide.pages.shape[1] < wide.pages.shape[2]
    assert wide.notes["pitch"].tolist() == [60, 62, 64, 65]
    assert (np.diff(wide.notes["x"]) > 0).all()
    rows = (wide.notes["y"] * wide.pages.shape[1]).astype(int)
    columns = (wide.notes["x"] * wide.pages.shape[2]).astype(int)
    assert (wide.pages[0, rows, columns] < 100).all()


def test_books_and_papers_of_different_sizes_are_one_document(tmp_path: Path) -> None:
    (tmp_path / "books.ly").write_text(
        '\\version "2.24.0" #(set-default-paper-size "a6")\n'
        "\\book { \\score { { c'4 d' e' f' } } }\n"
        "\\book { \\paper { #(set-paper-size \"a7\") } \\score { { g'4 f' e' d' } } }\n"
    )
    books = engrave_source(tmp_path, "books.ly")
    assert len(books.pages) == 2
    assert books.notes["page"].tolist() == [0] * 4 + [1] * 4
    assert books.notes["score"].tolist() == [0] * 4 + [1] * 4
    rows = (books.notes["y"] * books.pages.shape[1]).astype(int)
    columns = (books.notes["x"] * books.pages.shape[2]).astype(int)
    assert (books.pages[books.notes["page"], rows, columns] < 100).all()


def test_notes_without_a_score_are_engraved_through_the_file_that_includes_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "Notes.ly").write_bytes("% für zwei\nair = { e'4 d' c'2 }".encode("latin-1"))
    (tmp_path / "all.ly").write_text(
        '\\version "2.18.2" \\include "notes.ly" \\score { \\air \\layout { } }'
    )
    assert engrave_source(tmp_path, "Notes.ly").notes["pitch"].tolist() == [64, 62, 60]
    (tmp_path / "manifest.json").write_text('[{"path": "all.ly"}, {"path": "Notes.ly"}]')
    with pytest.raises(EngravingError, match=r"only a part of all\.ly"):
        engrave_source(tmp_path, "Notes.ly")


def test_old_scheme_is_understood(tmp_path: Path) -> None:
    (tmp_path / "old.ly").write_text(
        '\\version "2.18.2" dim = \\markup "dim."\n'
        "#(override-auto-beam-setting '(end * * * *) 1 4)\n"
        "air = { \\new Voice \\override Stem #'length = #8 \\repeat volta 2 { c'4-\\dim } }\n"
        "\\score { \\applyMusic #unfold-repeats \\air \\layout { } }\n"
    )
    assert engrave_source(tmp_path, "old.ly").notes["onset"].tolist() == [0.0, 0.25]


def test_lilypond_is_ended_after_its_time(sources: Path) -> None:
    with pytest.raises(EngravingError, match=r"took more than 0\.01 s"):
        engrave_source(sources, "piece.ly", timeout=0.01)


def test_a_missing_piece_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngravingError, match=r"absent\.ly does not exist"):
        engrave_source(tmp_path, "absent.ly")


def test_facts_that_contradict_each_other_are_refused(piece: Engraving) -> None:
    check(piece)
    for table, name, change in (
        ("notes", "x", lambda x: 1 - x),
        ("notes", "y", lambda y: y + 1),
        ("bars", "onset", lambda onset: -onset),
        ("notes", "onset", lambda onset: -onset),
    ):
        changed = Engraving(**{key: np.array(value) for key, value in vars(piece).items()})
        getattr(changed, table)[name] = change(getattr(changed, table)[name])
        with pytest.raises(EngravingError, match="does not join"):
            check(changed)


def test_a_variety_changes_the_page_and_keeps_the_music(signs: Engraving, tmp_path: Path) -> None:
    (tmp_path / "signs.ly").write_text(SIGNS)
    variety = LilyPondVariety(
        paper="a4landscape",
        staff_size=16,
        margins=(10, 10, 15, 20),
        distance=10,
        density=1.3,
        indent=0,
        ragged_bottom=True,
        systems_per_page=4,
        font="DejaVu Sans",
        line_thickness=1.4,
        bar_numbers="every bar",
        titles=False,
        fingerings=False,
        dynamics=False,
        slurs=False,
        transposition=1,
    )
    varied = engrave_source(tmp_path, "signs.ly", variety)
    assert varied.pages.shape[1] < varied.pages.shape[2]
    names = ["onset", "grace", "length", "tied", "staff", "articulation", "ornament"]

    def music(piece: Engraving, semitones: int) -> list[tuple[object, ...]]:
        rows = zip(piece.notes["pitch"] + semitones, piece.notes[names], strict=True)
        return sorted((int(pitch), *row.tolist()) for pitch, row in rows)

    assert music(varied, 0) == music(signs, 1)
    assert varied.voltas.tolist() == signs.voltas.tolist()
    keys = {str(s["value"]) for s in varied.signs if s["kind"] == "key" and s["onset"] == 0}
    assert keys == {"-3"}  # D major to E flat, not to D sharp


def test_a_variety_that_breaks_a_source_gives_way(
    sources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = LilyPondVariety(paper="a4", margins=(148, 148, 10, 10), transposition=2)
    engraved = engrave_source(sources, "piece.ly", wild, timeout=20)
    assert sorted(row[2:] for row in heads(engraved)) == sorted(row[2:] for row in HEADS)
    assert "fewer changes" in caplog.text


@given(st.integers(0, 2**32 - 1))
def test_varieties_are_drawn_by_seed_and_stay_sensible(seed: int) -> None:
    variety = draw_variety(np.random.default_rng(seed))
    assert variety == draw_variety(np.random.default_rng(seed))
    assert variety.paper in PAPERS
    assert variety.font is None or variety.font in FONTS
    assert variety.staff_size is not None
    assert 15 <= variety.staff_size <= 28
    assert abs(variety.transposition) <= 6
    milder = list(variety.milder())
    assert milder[-1] == LilyPondVariety()
    assert variety not in milder
    assert len(set(milder)) == len(milder)


TOKENS = st.sampled_from(
    [
        "\\override",
        "\\new Voice",
        '\\context Staff = "up"',
        "Slur #'ratio = #1",
        "TextSpanner #'(bound-details left text) = ##f",
        "#(set-octavation 1)",
        "\\bigger",
        "\\set",
        "{",
        "}",
        "c'4",
        "#1\\tuplet 3/2",
    ]
)


@given(st.lists(TOKENS, max_size=12).map(" ".join))
def test_repairing_twice_is_repairing_once(text: str) -> None:
    assert repair(repair(text)) == repair(text)


@given(st.text(max_size=30))
def test_sources_are_read_in_either_encoding(text: str) -> None:
    text = text.encode("latin-1", "ignore").decode("latin-1").replace("\r", "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ly"
        path.write_bytes(text.encode("utf-8"))
        assert read_source(path) == text.removeprefix("\ufeff")
        path.write_bytes(("é" + text).encode("latin-1") + b"\xff")
        assert read_source(path) == "é" + text + "ÿ"


def test_versions_in_comments_do_not_count() -> None:
    assert version_of('% \\version "2.2.0"\n\\version "2.24"') == (2, 24, 0)
    assert version_of('%{ \\version "2.2.0" %}') is None


def test_a_source_is_staged_alone_when_it_has_a_score(sources: Path, tmp_path: Path) -> None:
    staged = stage(sources, "piece.ly", tmp_path / "copy")
    assert staged == [(tmp_path / "copy" / "piece.ly").resolve()]
