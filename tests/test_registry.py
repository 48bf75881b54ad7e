from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.dataset.engraving import NOTE
from sf_plugin.dataset.registry import (
    HELD_OUT,
    HeldOut,
    HeldOutError,
    Registry,
    is_free,
    melody,
    overlap,
    runs,
)
from sf_plugin.errors import ScoreFollowerError


def tune(seed: int, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 60 + np.cumsum(rng.integers(-4, 5, count)) % 24


def notes_of(pitches: np.ndarray, length: float = 0.25) -> np.ndarray:
    notes = np.zeros(len(pitches), NOTE)
    notes["pitch"], notes["length"] = pitches, length
    notes["onset"] = np.arange(len(pitches)) * length
    return notes


def held(name: str, pitches: np.ndarray, use: str = "valid") -> HeldOut:
    return HeldOut(name, use, tuple(melody(notes_of(pitches))))


REGISTRY = Registry((held("a", tune(1)), held("b", tune(2), "extra"), held("short", tune(3, 9))))


def test_a_piece_held_out_by_name_has_its_use() -> None:
    assert REGISTRY.use_of("b", "Public Domain", notes_of(tune(9)))[0] == "extra"


@pytest.mark.parametrize(
    "pitches",
    [
        tune(1) + 5,
        tune(1)[10:50],
        np.concatenate([tune(4), tune(1)[:30], tune(5)]),
        tune(3, 9) - 12,
    ],
    ids=["transposed", "excerpt", "inside another piece", "short"],
)
@pytest.mark.parametrize("length", [0.25, 0.125])
def test_the_same_music_in_another_edition_is_left_out(pitches: np.ndarray, length: float) -> None:
    use, why = REGISTRY.use_of("other", "Public Domain", notes_of(pitches, length))
    assert use == "same"
    assert "held out" in why


def test_only_free_pieces_are_trained_on() -> None:
    fresh = notes_of(tune(7))
    assert REGISTRY.use_of("c", "Creative Commons Attribution 3.0", fresh) == ("train", "")
    assert REGISTRY.use_of("c", None, fresh) == ("licence", "licence: none stated")
    assert REGISTRY.use_of("c", "All rights reserved", fresh)[0] == "licence"
    assert not is_free("Creative Commons Attribution-NonCommercial 4.0")
    assert not is_free("CC BY-NC 4.0")


def test_training_refuses_a_held_out_piece_by_name_and_by_music() -> None:
    REGISTRY.check_training({"c": notes_of(tune(7)), "d": notes_of(tune(8))})
    with pytest.raises(HeldOutError, match=r"^a: is held out: take it out"):
        REGISTRY.check_training({"a": notes_of(tune(7))})
    with pytest.raises(HeldOutError, match="edition: is held out as b:"):
        REGISTRY.check_training([("c", notes_of(tune(7))), ("edition", notes_of(tune(2) + 3, 0.5))])


def test_a_melody_ignores_pitch_rhythm_ties_and_accompaniment() -> None:
    notes = notes_of(tune(1, 40))
    base = melody(notes)
    assert len(base) == 39
    assert melody(notes_of(tune(1, 40) + 7, 1.5)) == base
    below = notes.copy()
    below["pitch"] = 40
    both = np.concatenate([notes, below])[np.argsort(np.tile(np.arange(40), 2), kind="stable")]
    assert melody(both) == base
    tied = np.insert(notes, 5, notes[4])
    tied["tied"][5], tied["pitch"][5] = True, 100
    assert melody(tied) == base
    assert melody(notes[:0]) == []


@given(st.lists(st.integers(30, 90), max_size=40), st.integers(-6, 6))
def test_transposing_changes_nothing(pitches: list[int], steps: int) -> None:
    there = np.array(pitches, int)
    a, b = melody(notes_of(there)), melody(notes_of(there + steps))
    assert a == b
    assert overlap(runs(a), runs(b)) == (1 if len(pitches) > 1 else 0)


def test_a_registry_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "held.json"
    REGISTRY.save(file)
    assert {p.piece: p for p in Registry.load(file).pieces} == {p.piece: p for p in REGISTRY.pieces}
    more = REGISTRY.with_pieces([held("a", tune(6), "test")])
    assert [p.use for p in more.pieces if p.piece == "a"] == ["test"]
    assert len(more.pieces) == 3
    for text in (
        "",
        "[]",
        '{"pieces": [{"piece": "a"}]}',
        '{"pieces": [{"piece":1,"use":2,"melody":3}]}',
    ):
        file.write_text(text)
        with pytest.raises(ScoreFollowerError, match="is no registry"):
            Registry.load(file)
    with pytest.raises(ScoreFollowerError, match="is no registry"):
        Registry.load(tmp_path / "missing.json")


def test_the_shipped_registry_holds_out_the_published_validation_pieces() -> None:
    shipped = Registry.load(HELD_OUT)
    uses = [p.use for p in shipped.pieces]
    assert uses.count("valid") == 18
    assert any("ClementiM/O36/sonatina-1" in p.piece for p in shipped.pieces)
    assert all(p.melody for p in shipped.pieces)
