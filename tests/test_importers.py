"""The field's own sets, written here in the layouts in which they are published."""

from __future__ import annotations

import io
import logging
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.dataset.engrave_verovio import engrave_file
from sf_plugin.dataset.midi import midi_file
from sf_plugin.errors import AudioError, ScoreError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.importers import asap, msmd, vienna
from sf_plugin.evaluation.importers.midi import note_table, read_midi
from sf_plugin.evaluation.importers.npz import read_npz
from sf_plugin.evaluation.importers.sounds import SAMPLE_RATE

HEIGHT, WIDTH = 1181, 835
"""Of the published pages, in pixels."""


def cases(importer: ModuleType, folder: Path, **how: Any) -> Iterator[Case]:
    """Every case of every task."""
    for task in importer.tasks(folder, **how):
        yield from task()


def objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


# pickled objects


def npz_of_pickle(path: Path, pickled: bytes, shape: tuple[int, ...] = (1,)) -> Path:
    member = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("coords.npy", member.getvalue() + pickled)
    return path


plain = st.one_of(
    *(st.integers(-(2**40), 2**40), st.booleans(), st.text(max_size=5)),
    st.floats(allow_nan=False),
)
dicts = st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), plain, max_size=5)


@given(items=st.lists(dicts, max_size=4), protocol=st.sampled_from([0, 2, 3, 4]))
def test_plain_objects_come_back_whatever_the_pickle_protocol(
    tmp_path_factory: pytest.TempPathFactory, items: list[dict[Any, Any]], protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.npz"
    npz_of_pickle(path, pickle.dumps(objects(items), protocol), (len(items),))
    assert read_npz(path)["coords"].tolist() == items


def test_numpy_writes_what_is_read(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "sheets": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "coords": objects([{"note_x": np.float64(2.5), "system_idx": np.int64(3)}]),
        "synthesized": np.array(True),
        "named": np.asarray([{0: np.int32(1)}]),
        "mixed": np.array([[1.5, None], ["text", np.bool_(True)]], object),
    }
    np.savez_compressed(tmp_path / "a.npz", **values)
    found = read_npz(tmp_path / "a.npz")
    assert found["coords"][0] == {"note_x": 2.5, "system_idx": 3}
    assert type(found["coords"][0]["note_x"]) is float
    assert found["named"][0] == {0: 1} and found["synthesized"].item() is True
    assert found["mixed"].tolist() == [[1.5, None], ["text", True]]
    assert (found["sheets"] == values["sheets"]).all()


class Runs:
    """Unpickled, it calls a function."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call: tuple[Any, ...] = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("place", ["item", "value", "array"])
@pytest.mark.parametrize("function", [os.mkdir, eval, np.fromfile, getattr, np.dtype])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, place: str, function: Any) -> None:
    made = tmp_path / "made"
    arguments = {
        os.mkdir: (str(made),),
        eval: (f"__import__('os').mkdir({str(made)!r})",),
        np.fromfile: ("/etc/hostname",),
        getattr: (object, "__subclasses__"),
        np.dtype: ([("a", "O")],),
    }[function]
    evil = Runs(function, *arguments)
    whole = {"item": objects([evil]), "value": objects([{"x": evil}]), "array": evil}[place]
    path = npz_of_pickle(tmp_path / "evil.npz", pickle.dumps(whole, 3))
    with pytest.raises(ScoreError, match=r"evil\.npz: cannot be read"):
        read_npz(path)
    assert not made.exists()


def test_no_array_is_made_of_forged_pointers(tmp_path: Path) -> None:
    """The state of an object array may be bytes, which a careless reader takes for pointers."""
    forged = Runs(None)
    for dtype in (np.dtype("O"), np.dtype([("a", "f8")])):
        state = (1, (1,), dtype, False, b"\x41" * 8)
        make = np.zeros(0, object).__reduce__()[0]
        forged.call = (make, (np.ndarray, (0,), b"b"), state)
        path = npz_of_pickle(tmp_path / "forged.npz", pickle.dumps(forged, 2))
        try:
            found = read_npz(path)["coords"]
        except ScoreError:
            continue
        assert all(type(item) is int for item in found)


@settings(max_examples=60)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_file_is_an_error_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez(path, coords=objects([{"a": 1.5}, {"b": "c"}]), x=np.zeros(3))
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    try:
        assert isinstance(read_npz(path), dict)
    except ScoreError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


# MIDI


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5000),
            st.integers(1, 400),
            st.integers(21, 108),
            st.integers(1, 127),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda note: note[2],
    )
)
def test_midi_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "notes.mid"
    wanted = note_table([(o / 1000, d / 1000, p, v) for o, d, p, v in rows])
    midi_file(wanted).save(str(path))
    notes, pedals = read_midi(path)
    assert notes["pitch"].tolist() == wanted["pitch"].tolist()
    assert notes["velocity"].tolist() == wanted["velocity"].tolist()
    assert np.abs(notes["onset"] - wanted["onset"]).max() < 1e-6
    assert np.abs(notes["duration"] - wanted["duration"]).max() < 1e-5
    assert not len(pedals) and set(notes["printed"].tolist()) == {-1}


def test_a_file_that_is_no_midi_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    with pytest.raises(ScoreError, match=r"a\.mid: no such file"):
        read_midi(path)
    path.write_bytes(b"RIFF not MIDI")
    with pytest.raises(ScoreError, match=r"a\.mid: is no MIDI file"):
        read_midi(path)


# MSMD as CYOLO has it


def write_cyolo(folder: Path, name: str, seconds: float = 10.0, **changes: Any) -> None:
    """Two pages; two systems on the first and one on the second, not in their order."""
    arrays: dict[str, Any] = {
        "sheets": np.full((2, HEIGHT, WIDTH), 255, np.uint8),
        "systems": objects(
            [
                {"x": 420.0, "y": 700.0, "w": 700.0, "h": 100.0, "page_nr": 0},
                {"x": 420.0, "y": 300.0, "w": 700.0, "h": 100.0, "page_nr": 0},
                {"x": 400.0, "y": 200.0, "w": 600.0, "h": 120.0, "page_nr": 1},
            ]
        ),
        "bars": objects(
            [
                {"x": 245.0, "y": 300.0, "w": 350.0, "h": 100.0, "page_nr": 0},
                {"x": 400.0, "y": 205.0, "w": 600.0, "h": 120.0, "page_nr": 1},
                {"x": 595.0, "y": 702.0, "w": 350.0, "h": 100.0, "page_nr": 0},
                {"x": 595.0, "y": 301.0, "w": 350.0, "h": 100.0, "page_nr": 0},
                {"x": 245.0, "y": 699.0, "w": 350.0, "h": 100.0, "page_nr": 0},
            ]
        ),
        "coords": objects(
            [
                {"onset": onset, "note_x": x, "system_idx": s, "bar_idx": bar, "page_nr": page}
                for onset, x, s, bar, page in [
                    (0.5, 100.0, 1, 0, 0),
                    (0.52, 104.0, 1, 0, 0),  # the same frame
                    (1.0, 500.0, 1, 3, 0),
                    (1.5, -1.0, 1, 3, 0),  # on no page
                    (2.0, 120.0, 0, 4, 0),
                    (2.01, 700.0, 2, 1, 1),  # fewer than the other two
                    (2.02, 122.0, 0, 4, 0),
                    (3.0, 600.0, 0, 2, 0),
                    (4.0, 150.0, 2, 1, 1),
                    (5.0, 250.0, 2, 1, 1),
                    (6.0, 350.0, 2, 1, 1),
                    (7.0, 450.0, 2, 1, 1),
                ]
            ]
        ),
        "synthesized": np.array(True),
    }
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    ramp = np.arange(round(seconds * SAMPLE_RATE)) / (20 * SAMPLE_RATE)
    soundfile.write(folder / f"{name}.wav", ramp, SAMPLE_RATE, subtype="FLOAT")


def test_cyolo_document(tmp_path: Path) -> None:
    write_cyolo(tmp_path, "Anonymous__lanative_synth")
    (case,) = cases(msmd, tmp_path)
    assert (case.piece, case.condition) == ("Anonymous__lanative", "synthesised")
    assert [page.shape for page in case.score.pages] == [(1199, 848)] * 2
    truth = case.truth
    assert truth.time.tolist() == [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert truth.page.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert truth.system.tolist() == [1, 1, 2, 2, 1, 1, 1, 1]
    assert truth.measure.tolist() == [1, 2, 3, 4, 5, 5, 5, 5]
    x = np.array([102, 500, 121, 600, 150, 250, 350, 450]) / WIDTH
    assert truth.x == pytest.approx(x)
    first, second = case.layout.pages
    assert [s.top for s in first.systems] == pytest.approx([250 / HEIGHT, 650 / HEIGHT])
    assert second.systems[0].bottom == pytest.approx(260 / HEIGHT)
    assert (second.systems[0].left, second.systems[0].right) == pytest.approx(
        (100 / WIDTH, 700 / WIDTH)
    )
    assert len(case.sound()) == 10 * SAMPLE_RATE


def test_cyolo_page_by_page(tmp_path: Path) -> None:
    write_cyolo(tmp_path, "piece")
    first, second = cases(msmd, tmp_path, per_page=True)
    assert [first.name, second.name] == [f"piece, synthesised, page {n}" for n in (1, 2)]
    assert {first.piece, second.piece} == {"piece"}
    assert first.truth.time.tolist() == [0.5, 1.0, 2.0, 3.0]
    assert second.truth.time.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert second.truth.page.tolist() == [1] * 4 and second.truth.measure.tolist() == [5] * 4
    assert second.layout.pages[0].page == 1 and len(second.score.pages) == 1
    assert second.truth.measure_at(1, 0.5, 200 / HEIGHT) == 5
    assert len(first.sound()) == 4 * SAMPLE_RATE
    heard = second.sound()
    assert len(heard) == 6 * SAMPLE_RATE and heard[0] == pytest.approx(4 / 20, abs=1e-4)


def test_cyolo_returns_to_a_page(tmp_path: Path) -> None:
    coords = objects(
        [
            {"onset": float(i), "note_x": 100.0 + i, "system_idx": s, "page_nr": int(s == 2)}
            for i, s in enumerate([1] * 4 + [2] * 3 + [1] * 4 + [2] * 4)
        ]
    )
    write_cyolo(tmp_path, "piece", 20.0, coords=coords)
    names = [case.name.split(", ", 2)[2] for case in cases(msmd, tmp_path, per_page=True)]
    assert names == ["page 1", "page 1, visit 2", "page 2, visit 2"]  # three onsets are too few


def test_cyolo_without_bars_has_no_measures(tmp_path: Path) -> None:
    write_cyolo(tmp_path, "piece", bars=None, synthesized=np.array(False))
    (case,) = cases(msmd, tmp_path)
    assert case.condition == "recorded" and not case.truth.measure.any()
    assert not any(s.measures for page in case.layout.pages for s in page.systems)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_cyolo_truth_is_where_the_notes_were_put(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any number of pages, systems and bars, listed in any order."""
    folder = tmp_path_factory.mktemp("cyolo")
    counts = data.draw(st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=3))
    systems, bars, wanted, measure = [], [], [], 0
    for page, bar_counts in enumerate(counts):
        for row, count in enumerate(bar_counts):
            y = 200.0 + 300 * row
            systems.append({"x": 400.0, "y": y, "w": 600.0, "h": 90.0, "page_nr": page})
            for i in range(count):
                measure += 1
                w = 600 / count
                x = 100 + w * (i + 0.5)
                bars.append({"x": x, "y": y + 3, "w": w, "h": 90.0, "page_nr": page})
                wanted.append((page + 1, row + 1, x / WIDTH, measure, len(systems) - 1))
    order = data.draw(st.permutations(range(len(systems))))
    coords = [
        {"onset": 0.3 * i, "note_x": x * WIDTH, "system_idx": order.index(s), "page_nr": page - 1}
        for i, (page, _, x, _, s) in enumerate(wanted)
    ]
    write_cyolo(
        folder,
        "piece",
        sheets=np.full((len(counts), 1000, WIDTH), 255, np.uint8),
        systems=objects([systems[i] for i in order]),
        bars=objects(data.draw(st.permutations(bars))),
        coords=objects(data.draw(st.permutations(coords))),
    )
    if not wanted:
        with pytest.raises(ScoreError, match="no note on a page"):
            list(cases(msmd, folder))
        return
    (case,) = cases(msmd, folder)
    found = case.truth
    assert list(zip(found.page, found.system, found.measure, strict=True)) == [
        (page, system, number) for page, system, _, number, _ in wanted
    ]
    assert found.x == pytest.approx([x for _, _, x, _, _ in wanted])


def test_cyolo_errors(tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "no such folder"), (tmp_path, "holds neither")):
        with pytest.raises(ScoreError, match=words):
            msmd.check(folder)
    inside = tmp_path / "msmd" / "msmd_test"
    write_cyolo(inside, "piece")
    with pytest.raises(ScoreError, match=rf"name {inside}"):
        list(cases(msmd, tmp_path))
    (inside / "piece.wav").unlink()
    with pytest.raises(AudioError, match=r"piece\.wav: no such file"):
        list(cases(msmd, inside))
    write_cyolo(inside, "piece", coords=None)
    with pytest.raises(ScoreError, match=r"piece\.npz: has no 'coords'"):
        list(cases(msmd, inside))
    note = {"onset": 1.0, "note_x": 5.0, "system_idx": 7, "page_nr": 0}
    for broken in (note, {"onset": 1.0}, "text"):
        write_cyolo(inside, "piece", coords=objects([broken]))
        with pytest.raises(ScoreError, match=r"piece\.npz: its tables do not fit together"):
            list(cases(msmd, inside))


# MSMD as CUNet has it


def staff_page(*middles: int) -> np.ndarray:
    sheet = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for middle in middles:
        sheet[middle - 40 : middle + 41 : 20, 60:780] = 0
    return sheet


def write_cunet(
    folder: Path,
    name: str,
    coords: list[tuple[float, float, float]],
    named: dict[int, int],
    onsets: list[float],
    suffix: str = "_tempo_1000",
) -> None:
    for part in ("score", "performance"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        folder / "score" / f"{name}.npz",
        sheet=staff_page(300, 700),
        coords=np.array(coords, np.float32),
        coord2onset=np.asarray([named]),
    )
    notes = note_table([(onset, 0.25, 60 + i, 80) for i, onset in enumerate(onsets)])
    midi_file(notes).save(str(folder / "performance" / f"{name}{suffix}.mid"))


COORDS = [(300.0, 100.0, 90.0), (300.0, 400.0, 90.0), (700.0, 200.0, 110.0), (700.0, 210.0, 110.0)]
NAMED = {0: 0, 1: 1, 2: 2, 3: 3}
ONSETS = [0.0, 0.5, 1.0, 1.02]
"""The last two share a frame."""


def test_cunet_page(tmp_path: Path) -> None:
    write_cunet(tmp_path, "piece_page_0", COORDS, NAMED, ONSETS)
    (case,) = cases(msmd, tmp_path, per_page=True)
    assert (case.name, case.piece) == ("piece_page_0, rendered", "piece")
    assert case.truth.time.tolist() == [0.0, 0.5, 1.0]
    assert case.truth.system.tolist() == [1, 1, 2] and not case.truth.measure.any()
    assert case.truth.x == pytest.approx(np.array([100, 400, 200]) / WIDTH)
    first, second = case.layout.pages[0].systems
    edges = (255 / HEIGHT, 345 / HEIGHT, 60 / WIDTH, 780 / WIDTH)
    assert (first.top, first.bottom, first.left, first.right) == pytest.approx(edges)
    assert second.bottom == pytest.approx(755 / HEIGHT)
    sound = case.sound()
    assert sound.dtype == np.float32 and len(sound) > SAMPLE_RATE
    loud = np.abs(sound) > 0.01
    assert loud.any() and np.argmax(loud) < 0.05 * SAMPLE_RATE


def test_cunet_pages_make_a_document(tmp_path: Path) -> None:
    for page in (0, 1, 10, 2):
        write_cunet(tmp_path, f"piece_page_{page}", COORDS, NAMED, ONSETS)
    write_cunet(tmp_path, "other_page_0", COORDS, NAMED, ONSETS)
    other, case = cases(msmd, tmp_path)
    assert (other.piece, len(other.score.pages), len(case.score.pages)) == ("other", 1, 4)
    length = 1.02 + 0.25 + msmd.TAIL
    wanted = [time + page * length for page in range(4) for time in (0.0, 0.5, 1.0)]
    assert case.truth.time == pytest.approx(wanted, abs=1e-6)
    assert case.truth.page.tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert [page.page for page in case.layout.pages] == [1, 2, 3, 4]
    sound = case.sound()
    assert len(sound) == pytest.approx(4 * length * SAMPLE_RATE, abs=2)
    begin = round(length * SAMPLE_RATE)
    quiet, struck = sound[begin - 2205 : begin], sound[begin : begin + 2205]
    assert np.abs(struck).max() > 10 * np.abs(quiet).max()
    assert [c.piece for c in cases(msmd, tmp_path, pieces=["oth*"])] == ["other"]


def test_cunet_recordings(tmp_path: Path) -> None:
    write_cunet(tmp_path, "piece_page_0", COORDS, NAMED, ONSETS, suffix="")
    tone = np.full(3 * SAMPLE_RATE, 0.25, np.float32)
    performance = tmp_path / "performance"
    soundfile.write(performance / "piece_page_0_room.wav", tone, SAMPLE_RATE, subtype="FLOAT")
    rendered, room = cases(msmd, tmp_path)
    assert [rendered.condition, room.condition] == ["rendered", "room"]
    assert rendered.score is room.score
    assert room.truth.time.tolist() == [0.0, 0.5, 1.0] and (room.sound() == tone).all()


def test_cunet_errors(tmp_path: Path) -> None:
    write_cunet(tmp_path, "piece_page_0", COORDS, {9: 0}, ONSETS)
    with pytest.raises(ScoreError, match=r"piece_page_0\.npz: its tables do not fit together"):
        list(cases(msmd, tmp_path))
    write_cunet(tmp_path, "piece_page_0", COORDS, {0: 9}, ONSETS)
    with pytest.raises(ScoreError, match=r"piece_page_0\.npz: its tables do not fit together"):
        list(cases(msmd, tmp_path))
    (tmp_path / "performance" / "piece_page_0_tempo_1000.mid").unlink()
    with pytest.raises(ScoreError, match=r"piece_page_0_tempo_1000\.mid: no such file"):
        list(cases(msmd, tmp_path))
    np.savez(tmp_path / "score" / "piece_page_0.npz", sheet=np.zeros((2, 2)))
    with pytest.raises(ScoreError, match="has no 'coords'"):
        list(cases(msmd, tmp_path))


# match files


def write_score(path: Path, repeats: int = 1) -> None:
    """A pickup, a grace note, a tie, a repeat with two endings, and a chord."""

    def note(mark: str, step: str, length: int, *more: str) -> str:
        kind = {1: "eighth", 2: "quarter", 4: "half", 8: "whole"}[length]
        before = "".join(m for m in more if m in ("<chord/>", "<grace/>"))
        ties = "".join(f'<tie type="{m}"/>' for m in more if m in ("start", "stop"))
        tied = "".join(f'<tied type="{m}"/>' for m in more if m in ("start", "stop"))
        duration = "" if "<grace/>" in more else f"<duration>{length}</duration>"
        notations = f"<notations>{tied}</notations>" if tied else ""
        return (
            f'<note id="{mark}">{before}<pitch><step>{step}</step><octave>5</octave></pitch>'
            f"{duration}{ties}<voice>1</voice><type>{kind}</type>{notations}</note>"
        )

    def ending(number: int, kind: str, repeat: str = "") -> str:
        side = "left" if kind == "start" else "right"
        sign = f'<repeat direction="{repeat}"/>' if repeat else ""
        return (
            f'<barline location="{side}"><ending number="{number}" type="{kind}"/>{sign}</barline>'
        )

    attributes = (
        "<attributes><divisions>2</divisions><key><fifths>0</fifths></key>"
        "<time><beats>4</beats><beat-type>4</beat-type></time>"
        "<clef><sign>G</sign><line>2</line></clef></attributes>"
    )
    forward = '<barline location="left"><repeat direction="forward"/></barline>'
    body = "".join(note(f"m{i}", s, 2) for i, s in enumerate("CDEF"))
    measures = [
        attributes + note("p1", "G", 2),
        forward + note("a0", "B", 1, "<grace/>") + note("a1", "C", 4) + note("a2", "D", 4, "start"),
        note("b1", "D", 4, "stop") + note("b2", "E", 4),
        ending(1, "start") + note("c1", "F", 8) + ending(1, "stop", "backward"),
        ending(2, "start") + note("d1", "G", 8) + ending(2, "stop"),
        note("e1", "C", 8) + note("e2", "E", 8, "<chord/>"),
    ]
    for i in range(repeats - 1):
        measures.append(body.replace('id="m', f'id="r{i}m'))
    text = "".join(
        f'<measure number="{n}"{" implicit=" + chr(34) + "yes" + chr(34) if n == 0 else ""}>'
        f"{measure}</measure>"
        for n, measure in enumerate(measures)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="3.1"><part-list>'
        '<score-part id="P1"><part-name>Piano</part-name></score-part></part-list>'
        f'<part id="P1">{text}</part></score-partwise>'
    )


def write_match(path: Path, score: Path, wrong: bool = False) -> list[tuple[str, float]]:
    """The score with repeats taken, played a note every half second; all but chords by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import partitura

        part = partitura.load_musicxml(str(score), quiet=True)[0]
        part = partitura.score.unfold_part_maximal(part, update_ids=True)
        time, last, rows, alignment, said = 0.5, None, [], [], []
        for i, note in enumerate(part.notes_tied):
            grace = isinstance(note, partitura.score.GraceNote)
            if last is not None and (note.start.t, grace) != last:
                time += 0.5
            last = note.start.t, grace
            pitch = int(note.midi_pitch)
            rows.append(
                {"id": f"n{i}", "midi_pitch": pitch, "note_on": time, "note_off": time + 0.25}
                | {"velocity": 70, "track": 0, "channel": 1}
            )
            mark = f"x{note.id}" if wrong else note.id
            alignment.append({"label": "match", "score_id": note.id, "performance_id": f"n{i}"})
            said.append((mark, time))
        extra = {"id": "extra", "midi_pitch": 40, "note_on": 1.1, "note_off": 1.2}
        rows.append(extra | {"velocity": 30, "track": 0, "channel": 1})
        alignment.append({"label": "insertion", "performance_id": "extra"})
        path.parent.mkdir(parents=True, exist_ok=True)
        played = partitura.performance.PerformedPart(rows)
        partitura.save_match(alignment, played, part, str(path), version=(1, 0, 0))
    if wrong:
        text = path.read_text()
        path.write_text(text.replace("snote(", "snote(x"))
    return said


def write_vienna(folder: Path, repeats: int = 1) -> list[tuple[str, float]]:
    score = folder / "musicxml" / "Etude_op1.musicxml"
    write_score(score, repeats)
    return write_match(folder / "match" / "Etude_op1_p01.match", score)


PLAYED = [
    *((0, False), (0.25, True), (0.25, False), (0.75, False), (1.75, False), (2.25, False)),
    *((0.25, True), (0.25, False), (0.75, False), (1.75, False), (3.25, False), (4.25, False)),
]
"""Where what is played is printed, in whole notes from the start, and whether it is a grace."""

MEASURES = [1, 2, 2, 2, 3, 4, 2, 2, 2, 3, 5, 6]


def test_vienna_follows_the_print_through_a_repeat(tmp_path: Path) -> None:
    said = write_vienna(tmp_path)
    marks = [mark for mark, _ in said]
    assert marks[:2] == ["p1-1", "a0-1"] and "a1-2" in marks and "b1-1" not in marks
    (case,) = cases(vienna, tmp_path)
    assert (case.piece, case.condition) == ("Etude_op1", "rendered")
    truth = case.truth
    assert truth.time == pytest.approx(sorted({time for _, time in said}), abs=2e-3)
    assert truth.measure.tolist() == MEASURES
    heads = engrave_file(tmp_path / "musicxml" / "Etude_op1.musicxml", None).notes
    fresh = heads[~heads["tied"]]
    wanted = [
        float(fresh["x"][(fresh["onset"] == onset) & ((fresh["grace"] != 0) == grace)][0])
        for onset, grace in PLAYED
    ]
    assert truth.x.tolist() == wanted and len(set(wanted)) == 8
    assert set(truth.page.tolist()) == {1} and set(truth.system.tolist()) == {1}
    assert [(h.kind, h.left, h.measure) for h in case.happenings] == [
        ("repeat", 4, 2),
        ("volta", 3, 5),
    ]
    assert [h.time for h in case.happenings] == pytest.approx(
        [float(truth.time[6]), float(truth.time[10])]
    )
    assert case.symbols is not None and len(case.symbols.notes) == len(heads)


def test_vienna_takes_a_recording_from_anywhere(tmp_path: Path) -> None:
    write_vienna(tmp_path)
    (tmp_path / "audio" / "Etude").mkdir(parents=True)
    silence = np.zeros(SAMPLE_RATE, np.float32)
    soundfile.write(tmp_path / "audio" / "Etude" / "Etude_op1_p01.wav", silence, SAMPLE_RATE)
    (case,) = cases(vienna, tmp_path)
    assert case.condition == "recorded" and len(case.sound()) == SAMPLE_RATE


def test_pages_of_an_engraved_document(tmp_path: Path) -> None:
    write_vienna(tmp_path, repeats=90)
    (whole,) = cases(vienna, tmp_path)
    pages = list(cases(vienna, tmp_path, per_page=True))
    assert len(pages) == len(whole.score.pages) > 1
    assert sum(len(case.truth.time) for case in pages) == len(whole.truth.time)
    last = pages[-1]
    count = len(last.truth.time)
    assert last.truth.measure.tolist() == whole.truth.measure[-count:].tolist()
    assert last.truth.x.tolist() == whole.truth.x[-count:].tolist()
    assert last.truth.time == pytest.approx(whole.truth.time[-count:] - whole.truth.time[-count])
    assert last.symbols is not None and set(last.symbols.notes["page"].tolist()) == {0}


def write_asap(folder: Path) -> Path:
    piece = folder / "Bach" / "Fugue" / "bwv_1"
    write_score(piece / "xml_score.musicxml")
    for player in ("Lee01M", "Doubt02M"):
        write_match(piece / f"{player}.match", piece / "xml_score.musicxml")
    return piece


def test_asap_leaves_out_doubtful_alignments(tmp_path: Path) -> None:
    write_asap(tmp_path)
    assert [c.name for c in cases(asap, tmp_path)] == [
        f"Bach/Fugue/bwv_1, {player}" for player in ("Doubt02M", "Lee01M")
    ]
    rows = [("Lee01M", "1.0"), ("Doubt02M", "0.0")]
    table = "".join(f"Bach/Fugue/bwv_1/{player}.mid,{robust}\n" for player, robust in rows)
    (tmp_path / "metadata.csv").write_text("midi_performance,robust_note_alignment\n" + table)
    (case,) = cases(asap, tmp_path)
    assert case.name == "Bach/Fugue/bwv_1, Lee01M" and case.piece == "Bach/Fugue/bwv_1"
    assert case.truth.measure.tolist() == MEASURES
    assert not asap.tasks(tmp_path, pieces=["Chopin/*"])
    (tmp_path / "metadata.csv").write_text("title\nx\n")
    with pytest.raises(ScoreError, match=r"metadata\.csv: is not the table"):
        list(cases(asap, tmp_path))


def test_asap_leaves_out_what_does_not_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    piece = write_asap(tmp_path)
    write_match(piece / "Other03M.match", piece / "xml_score.musicxml", wrong=True)
    (piece / "Empty04M.match").write_text("info(matchFileVersion,1.0.0).\n")
    with caplog.at_level(logging.WARNING):
        assert len(list(cases(asap, tmp_path))) == 2
    text = caplog.text
    assert "Other03M.match: only 0% of its notes are found" in text and "Empty04M.match" in text
    (piece / "xml_score.musicxml").write_text("<score-partwise/>")
    assert not list(cases(asap, tmp_path))
    assert "xml_score.musicxml" in caplog.text


def test_sets_that_are_not_there(tmp_path: Path) -> None:
    for module in (asap, vienna):
        with pytest.raises(ScoreError, match="no such folder"):
            module.check(tmp_path / "none")
        with pytest.raises(ScoreError, match="holds no"):
            list(cases(module, tmp_path))
    write_score(tmp_path / "a" / "xml_score.musicxml")
    with pytest.raises(ScoreError, match="ASAP without note alignments"):
        asap.check(tmp_path)


def test_cases_and_tasks_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    write_cyolo(tmp_path / "cyolo", "piece")
    write_cunet(tmp_path / "cunet", "piece_page_0", COORDS, NAMED, ONSETS)
    write_vienna(tmp_path / "vienna")
    for module, name in ((msmd, "cyolo"), (msmd, "cunet"), (vienna, "vienna")):
        for task in module.tasks(tmp_path / name):
            made: list[Case] = pickle.loads(pickle.dumps(task))()
            (case,) = pickle.loads(pickle.dumps(made))
            assert len(case.truth.time) and case.name == made[0].name
