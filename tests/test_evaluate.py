from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Run, make_layout
from numpy.typing import NDArray

from sf_plugin.dataset.engrave_lilypond import read_truth, run_lilypond
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.errors import ScoreError
from sf_plugin.evaluation import evaluate
from sf_plugin.evaluation.evaluate import Case
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.model import Score
from sf_plugin.unet.config import DEFAULT
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import save_weights

PIECE = r"""
\version "2.24.0"
\paper { tagline = ##f }
\score {
  \new PianoStaff <<
    \new Staff { \tempo 4 = 132 c''4 d'' e'' f'' | g'' a'' b'' c''' | \pageBreak
                 c'''4 b'' a'' g'' | \break f'' e'' d'' c'' \bar "|." }
    \new Staff { \clef bass c2 g | e g | c g | g, c }
  >>
}
"""


@pytest.fixture(scope="module")
def engraved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one piece: two pages, three systems, four measures, 16 onsets."""
    folder = tmp_path_factory.mktemp("engraved")
    source = folder / "source" / "scale.ly"
    source.parent.mkdir()
    source.write_text(PIECE)
    read_truth(run_lilypond(source)).save(folder / "valid--scale--0.npz")
    return folder


@pytest.fixture(autouse=True)
def small_piano(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soundfont that loads in no time; commands in a process of their own use all three."""
    monkeypatch.setattr(evaluate, "SOUNDFONTS", {"timgm": evaluate.SOUNDFONTS["timgm"]})


class Witness(Follower):
    """Knows the truth and tells it: `late` seconds late and `away` of a page's width off."""

    sample_rate = 22050

    def __init__(self, known: list[Case], late: float = 0.0, away: float = 0.0) -> None:
        self.known = {case.score.name: case for case in known}
        self.late, self.away = late, away

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        assert score.layout is None, "a user has no layout to give"
        self.case = self.known[score.name]
        return self.case.layout

    def reset(self) -> None:
        self.heard = 0

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        self.heard += len(samples)
        now = self.heard / self.sample_rate
        truth = self.case.truth
        last = int(np.searchsorted(truth.time + self.late, now, side="right")) - 1
        if last < 0:
            yield Estimate(now, 1, 0.0, 0.0, 0.0, "waiting")
            return
        page = int(truth.page[last])
        y = truth.system_centres[page][int(truth.system[last]) - 1]
        x = float(truth.x[last]) + self.away
        yield Estimate(now, page, x, y, 1.0, "tracking")


def judge(engraved: Path, follower: Follower, **how: object) -> dict[str, object]:
    pieces = evaluate.find_pieces(engraved, ["valid--*"])
    return evaluate.evaluate(pieces, follower, engraved / "recordings", **how)  # type: ignore[arg-type]


def known(engraved: Path, per_page: bool = False) -> list[Case]:
    return list(evaluate.cases(engraved / "valid--scale--0.npz", per_page, 0))


def pooled(report: dict, condition: str = "clean") -> dict[str, float]:  # type: ignore[type-arg]
    figures = report["conditions"][condition]["figures"]
    return {name: figure["pooled"] for name, figure in figures.items()}


@pytest.mark.parametrize("per_page", [False, True])
def test_who_tells_the_truth_is_right(engraved: Path, per_page: bool) -> None:
    report = judge(engraved, Witness(known(engraved, per_page)), per_page=per_page)
    for condition in evaluate.CONDITIONS:
        assert set(pooled(report, condition).values()) == {1.0}
        assert report["conditions"][condition]["onsets"] == 16  # type: ignore[index]
        assert report["conditions"][condition]["calibration_error"] == 0.0  # type: ignore[index]
    assert (report["pieces"], report["pages"]) == (1, 2)
    assert report["documents"] == (2 if per_page else 1)
    assert report["layout"]["systems"] == {"f1": 1.0, "found": 3, "true": 3, "same": 3}  # type: ignore[index]
    assert report["layout"]["measures"] == {"f1": 1.0, "found": 4, "true": 4, "same": 4}  # type: ignore[index]


def test_who_is_late_is_told_how_late(engraved: Path) -> None:
    cases = known(engraved)
    step = float(np.median(np.diff(cases[0].truth.time)))
    late = pooled(judge(engraved, Witness(cases, late=0.9 * step), conditions=["clean"]))
    assert late["within_0.05s"] == 0.0
    assert 0.8 < late["within_1s"] < 1.0, "the first onset has no answer yet"
    assert 0.5 < late["measure"] < 1.0


def test_who_is_in_the_wrong_measure_is_told_and_so_is_false_confidence(engraved: Path) -> None:
    away = judge(engraved, Witness(known(engraved), away=0.4), conditions=["clean"])
    figures = pooled(away)
    assert figures["page"] == figures["system"] == 1.0
    assert figures["measure"] < 0.8
    error = away["conditions"]["clean"]["calibration_error"]  # type: ignore[index]
    assert error == pytest.approx(1 - figures["measure"], abs=1e-3)


def test_cases_are_what_a_user_has_and_what_is_printed(engraved: Path) -> None:
    (case,) = known(engraved)
    assert case.score.layout is None and case.score.symbols is None
    assert case.truth.page.tolist() == [1] * 8 + [2] * 8
    assert case.truth.system.tolist() == [1] * 12 + [2] * 4
    assert case.truth.measure.tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert (np.diff(case.truth.time) > 0).all()
    first, second = known(engraved, per_page=True)
    assert (first.page, second.page) == (1, 2)
    assert second.truth.page.tolist() == [1] * 8
    assert second.truth.measure.tolist() == [3] * 4 + [4] * 4
    assert second.truth.time[0] == pytest.approx(0.5)
    assert len(second.score.pages) == 1
    assert (second.score.pages[0] == case.score.pages[1]).all()
    assert len(second.notes) < len(case.notes)


def test_a_page_with_three_onsets_is_no_case(engraved: Path) -> None:
    piece = Engraving.load(engraved / "valid--scale--0.npz")
    few = piece.notes[(piece.notes["page"] == 0) | (piece.notes["onset"] >= 3.25)]
    layout = known(engraved)[0].layout
    short = replace(piece, notes=few)
    assert evaluate.make_case("short", short, layout, 0, 0) is not None
    assert evaluate.make_case("short", short, layout, 1, 0) is None


def test_the_seed_decides_everything_and_recordings_are_kept(
    engraved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = known(engraved)
    (other,) = evaluate.cases(engraved / "valid--scale--0.npz", False, 1)
    assert not np.array_equal(case.truth.time, other.truth.time)
    here = evaluate.recording(case, "room", tmp_path / "a")
    there = evaluate.recording(case, "room", tmp_path / "b")
    np.testing.assert_array_equal(here, there)
    monkeypatch.setenv("PATH", "")
    np.testing.assert_array_equal(evaluate.recording(case, "room", tmp_path / "a"), here)
    with pytest.raises(evaluate.ScoreFollowerError, match="fluidsynth is not installed"):
        evaluate.recording(other, "room", tmp_path / "a")
    kept = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert [name.rsplit("--", 1)[0] for name in kept] == [
        "valid--scale--0--clean",
        "valid--scale--0--room",
    ]
    dry = soundfile.read(tmp_path / "a" / kept[0], dtype="float32")[0]
    assert len(dry) == len(here)
    assert np.abs(dry - here).max() > 0.01, "a room changes the sound"


def test_the_command_writes_a_report_and_a_table(
    scorefollow: Run, engraved: Path, tmp_path: Path
) -> None:
    words = ("evaluate", engraved, "--follower", "constant-tempo", "--conditions", "clean")
    done = scorefollow(*words, "--pieces", "valid--*", "--out", "report.json", "--markdown")
    assert done.returncode == 0, done.stderr
    again = scorefollow(*words, "--out", "again.json")
    report, second = (
        json.loads((tmp_path / name).read_text()) for name in ("report.json", "again.json")
    )
    assert report.pop("speed") and second.pop("speed")
    assert report == second
    assert report["follower"] == "constant-tempo"
    figures = report["conditions"]["clean"]["figures"]
    assert 0 < figures["measure"]["pooled"] < 1
    assert figures["page"]["pooled_interval"] is None, "one piece has no interval"
    lines = done.stdout.splitlines()
    assert lines[0] == "| share of onsets | clean, pooled | clean, mean of pieces |"
    assert lines[1] == "| --- | ---: | ---: |"
    assert f"| right page | {figures['page']['pooled']:.3f} |" in done.stdout
    assert "1 pieces, 2 pages, 16 onsets" in again.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "report.json"]


def test_weights_that_see_no_staff_are_wrong_everywhere(
    scorefollow: Run, engraved: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(DEFAULT)
    torch.nn.init.constant_(net.maps.bias, -20.0)
    save_weights(net, tmp_path / "blind.safetensors")
    words = ("--weights", "blind.safetensors", "--conditions", "clean", "--out", "blind.json")
    done = scorefollow("evaluate", engraved, *words)
    assert done.returncode == 0, done.stderr
    assert "no staves found in 1 of 1 documents" in done.stdout
    report = json.loads((tmp_path / "blind.json").read_text())
    assert report["weights"] == "blind.safetensors" and len(report["sha256"]) == 64
    assert set(pooled(report).values()) == {0.0}
    assert report["layout"]["systems"] == {"f1": 0.0, "found": 0, "true": 3, "same": 0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pieces", "nothing*"), "no engraved pieces like nothing*"),
        (("--conditions", "clean,hall"), "hall is none of clean, room"),
        (("--weights", "missing.safetensors"), "missing.safetensors"),
        (("--follower", "constant-tempo", "--weights", "x"), "'constant-tempo' takes none"),
    ],
)
def test_bad_input_is_one_line(
    scorefollow: Run, engraved: Path, words: tuple[str, ...], said: str
) -> None:
    done = scorefollow("evaluate", engraved, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_no_piece_is_named(tmp_path: Path) -> None:
    (tmp_path / "valid--broken--0.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ScoreError, match=r"valid--broken--0\.npz: is no engraved piece"):
        list(evaluate.cases(tmp_path / "valid--broken--0.npz", False, 0))


def test_boxes_are_the_same_from_seven_tenths_and_once_only() -> None:
    true = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    found = np.array([[0.0, 1.0, 0.0, 0.71], [0.0, 1.0, 0.0, 0.9], [0.0, 1.0, 2.0, 2.69]])
    matches = evaluate.match(found, true)
    assert (matches.found, matches.true, matches.same) == (3, 2, 1)
    assert matches.f1 == pytest.approx(0.4)
    assert evaluate.match(found[:0], true).f1 == 0.0
    assert evaluate.match(true, true).f1 == 1.0


def test_layouts_are_compared_page_by_page() -> None:
    true = make_layout(pages=2, systems=2, measures=4)
    swapped = Layout(tuple(PageLayout(3 - p.page, p.systems) for p in true.pages))
    assert evaluate.compare_layouts(swapped, true)[1].f1 == 1.0
    merged = make_layout(pages=2, systems=2, measures=2)
    systems, measures = evaluate.compare_layouts(merged, true)
    assert (systems.f1, measures.same, measures.found, measures.true) == (1.0, 0, 8, 16)
    missing = Layout(true.pages[:1])
    assert evaluate.compare_layouts(missing, true)[0].f1 == pytest.approx(2 / 3)


def test_calibration_error_is_the_gap_between_word_and_deed() -> None:
    right = np.array([True] * 9 + [False])
    assert evaluate.calibration_error(np.full(10, 0.9), right) == pytest.approx(0.0)
    assert evaluate.calibration_error(np.full(10, 0.5), right) == pytest.approx(0.4)
    two = np.array([1.0] * 5 + [0.05] * 5)
    assert evaluate.calibration_error(two, np.array([True, False] * 5)) == pytest.approx(
        0.5 * (1 - 0.6) + 0.5 * (0.4 - 0.05)
    )


def test_the_interval_is_over_pieces_not_onsets() -> None:
    right, count = np.array([10.0, 0.0]), np.array([10.0, 1000.0])
    assert evaluate.interval(right, count, False, 0) == [0.0, 1.0]
    low, high = evaluate.interval(right, count, True, 0) or (0, 0)
    assert (low, high) == (0.0, 1.0)
    even = evaluate.interval(np.full(8, 5.0), np.full(8, 10.0), True, 0)
    assert even == [0.5, 0.5]
    assert evaluate.interval(right[:1], count[:1], True, 0) is None
