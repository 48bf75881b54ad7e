"""Accidentals hold to the end of their measure, on their line and in their staff."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import page_of
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.score.layout import PageLayout, System
from sf_plugin.unet import pages
from sf_plugin.unet.pages import PageEncoder, measures
from sf_plugin.unet.staff_reader import (
    ALTERATIONS,
    SURE,
    UNSURE,
    Staves,
    surely,
    what_holds,
)
from sf_plugin.unet.weights import SHIPPED, load_weights

torch.set_num_threads(1)

FLAT, NATURAL, SHARP = 0, 1, 2
PLAIN = (-1, 0, 1)
"""What a head without a sign is read as under a flat, a natural, a sharp."""


@pytest.mark.parametrize(
    ("heads", "holds"),
    [
        ("c c c", [None, None, None]),
        ("#c c c", [None, SHARP, SHARP]),
        ("#c c | c", [None, SHARP, None]),
        ("#c d c", [None, None, SHARP]),
        ("bc c nc c #c c", [None, FLAT, FLAT, NATURAL, NATURAL, SHARP]),
        ("bc ?c c", [None, FLAT, FLAT]),
        ("?c c", [None, None]),
    ],
)
def test_a_sign_holds_on_its_line_to_the_end_of_its_measure(
    heads: str, holds: list[int | None]
) -> None:
    """In C major; "#", "b" and "n" are signs, "?" is hardly read."""
    line, said, under, measure = [], [], [], 0
    for head in heads.split():
        measure += head == "|"
        if head == "|":
            continue
        sign = {"#": 1, "b": -1, "n": 0}.get(head[0])
        unread = head[0] == "?"
        line.append((0, ord(head[-1]), measure))
        said.append(UNSURE if unread else sign or 0)
        under.append((UNSURE,) * 3 if unread else PLAIN if sign is None else (sign,) * 3)
    order = sorted(range(len(line)), key=lambda n: line[n][1:])
    found = what_holds(*([rows[n] for n in order] for rows in (line, [0] * len(line), said, under)))
    assert [found[order.index(n)] for n in range(len(line))] == holds


@pytest.mark.parametrize(
    ("key", "said", "holds"),
    [
        (1, [1, 1], [None, None]),  # the key's own sharp is no sign
        (1, [0, 1], [None, NATURAL]),
        (-1, [0, -1], [None, NATURAL]),
        (0, [2, 0], [None, SHARP]),  # a double sharp holds as a sharp: there is no more
    ],
)
def test_what_the_key_gives_is_no_accidental(
    key: int, said: list[int], holds: list[int | None]
) -> None:
    line = [(0, 5, 1)] * len(said)
    assert what_holds(line, [key] * len(said), said, [PLAIN] * len(said)) == holds


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 2), st.integers(-1, 1)),
        max_size=20,
    ),
    st.integers(-1, 1),
)
def test_what_holds_comes_from_a_sign_before_on_the_same_line(
    heads: list[tuple[int, int, int, int]], key: int
) -> None:
    heads.sort(key=lambda head: head[:3])
    said = [head[3] for head in heads]
    found = what_holds([head[:3] for head in heads], [key] * len(heads), said, [PLAIN] * len(heads))
    for n, at in enumerate(found):
        before = [head[3] for head in heads[:n] if head[:3] == heads[n][:3]]
        signs = [one for one in before if one != key]
        assert at == (signs[0] + 1 if signs else None)


def test_an_alteration_is_sure_from_a_probability_on() -> None:
    logits = torch.zeros(2, 3, len(ALTERATIONS))
    logits[0, 0, 3] = 9
    logits[1, 2, 0] = float(np.log(SURE / (1 - SURE) * 4)) + 0.01
    read = surely(logits)
    assert read.shape == (2, 3)
    assert (read[0, 0], read[1, 2]) == (1, -2)
    assert (read == UNSURE).sum() == 4


def test_columns_are_in_the_measures_of_their_system() -> None:
    page = page_of(2, 4)
    bare = PageLayout(1, (*page.systems, System(0.8, 0.9, 0.1, 0.9)))
    staves = Staves(
        torch.zeros(4, 2, 100), torch.tensor([0, 0, 1, 2]), torch.zeros(4, 2, dtype=torch.long)
    )
    found = measures(staves, bare)
    assert found.shape == (4, 100)
    assert torch.equal(found[0], found[1])
    for row, count in ((0, 2), (2, 4)):
        edges = np.linspace(0.1, 0.9, count + 1)[:-1] * 100
        number = [int((column + 0.5 > edges).sum()) for column in range(100)]
        assert (found[row] - found[row, 0]).tolist() == number
    assert len(set(found[3].tolist())) == 100, "no measure, nothing holds on"


SOURCE = r"""
\version "2.24.0"
upper = {
  fis'8 a' f' a' f' a' fis' g' | f' a' bes' a' bes' g' b' a' | cis''4 c'' c'' cis'' |
  c''8 g' es' g' es' g' e' g' | fis'4 cis'' bes' bes' | g'2 b' |
}
lower = { g,4 b, d b, | c e g e | a, cis e cis | c g c g | d fis g d | g,2 d | }
\new PianoStaff <<
  \new Staff { \key g \major \repeat unfold 4 \upper }
  \new Staff { \clef bass \key g \major \repeat unfold 4 \lower }
>>
"""


def test_engraved_accidentals_are_read_through_their_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lilypond = pytest.importorskip("lilypond").executable("lilypond")
    if shutil.which(str(lilypond)) is None:
        pytest.skip("LilyPond is not installed")
    from sf_plugin.dataset.engrave_lilypond import engrave_source

    (tmp_path / "piece").mkdir()
    (tmp_path / "piece" / "piece.ly").write_text(SOURCE)
    piece = engrave_source(tmp_path, "piece/piece.ly")
    encode = PageEncoder(load_weights(SHIPPED))

    def right() -> float:
        """Share of the notes that are read exactly, and nothing else there."""
        page = encode(piece.pages[0], 1, 1)
        assert page is not None
        read = [{int(p) + 21 for p in np.flatnonzero(row > 0.5)} for row in page.pitches]
        notes = piece.notes[piece.notes["page"] == 0]
        hits = []
        for system in np.unique(notes["system"]):
            mine = np.flatnonzero(page.system == system)
            printed = notes[notes["system"] == system]
            for x in np.unique(printed["x"].round(3)):
                pitches = printed["pitch"][np.abs(printed["x"] - x) < 0.004].tolist()
                hits.append(read[mine[np.argmin(np.abs(page.x[mine] - x))]] == set(pitches))
        return float(np.mean(hits))

    held = right()
    assert held >= 0.9
    monkeypatch.setattr(pages, "measures", lambda staves, page: None)
    assert right() < held - 0.05
