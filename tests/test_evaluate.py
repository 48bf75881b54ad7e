from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import Run, make_layout
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scale import hears_loudness, scale

from sf_plugin.cli import main
from sf_plugin.dataset.shards import ShardWriter
from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.conditions import CONDITIONS
from sf_plugin.evaluation.engraved import Recording, Setting, find_pieces, make_cases
from sf_plugin.evaluation.evaluate import evaluate
from sf_plugin.evaluation.following import Listen, Outcome, follow_cases, jumps_of
from sf_plugin.evaluation.html import Drawn, html, worst
from sf_plugin.evaluation.layouts import compare_layouts, match
from sf_plugin.evaluation.report import interval, make_report
from sf_plugin.evaluation.tables import markdown
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.model import Score
from sf_plugin.unet.config import DEFAULT
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import save_weights

QUICK = "timgm-grand"
"""The piano that loads in no time; commands in processes of their own use all three."""


def build_set(folder: Path, *names: str) -> Path:
    writer = ShardWriter(folder)
    for name in names:
        writer.add(name, scale(), {"piece": name.removesuffix("--0"), "use": "valid"})
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def engraved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with one piece of 16 onsets on two pages."""
    return build_set(tmp_path_factory.mktemp("engraved"), "scale--0")


@pytest.fixture(autouse=True)
def small_piano(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, condition in CONDITIONS.items():
        monkeypatch.setitem(CONDITIONS, name, replace(condition, instruments=(QUICK,)))


def setting(folder: Path, *conditions: str, per_page: bool = False, seed: int = 0) -> Setting:
    return Setting(conditions or ("clean",), per_page, seed, folder / "recordings")


def known(folder: Path, *conditions: str, per_page: bool = False, seed: int = 0) -> list[Case]:
    (piece,) = find_pieces(
        folder, ["valid"], ["*"], setting(folder, *conditions, per_page=per_page, seed=seed)
    )
    return piece()


@dataclass
class Witness(Follower):
    """Knows the truth of a case and tells it: `late` seconds late, `away` page widths off."""

    case: Case
    late: float = 0.0
    away: float = 0.0
    sample_rate = 22050

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        assert score.layout is None and score.symbols is None, "a user has neither"
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


@dataclass(frozen=True)
class Witnesses:
    late: float = 0.0
    away: float = 0.0

    def __call__(self) -> Listen:
        return lambda case: Witness(case, self.late, self.away)


def judge(cases: Sequence[Case], witnesses: Witnesses = Witnesses()) -> dict:  # type: ignore[type-arg]
    return make_report(list(follow_cases(cases, witnesses())), per_page=False, seed=0)


def pooled(report: dict, condition: str = "clean") -> dict[str, float]:  # type: ignore[type-arg]
    figures = report["conditions"][condition]["figures"]
    return {name: figure["pooled"] for name, figure in figures.items()}


# cases


def test_cases_are_what_a_user_has_and_what_is_printed(engraved: Path) -> None:
    (case,) = known(engraved)
    assert case.name == "scale--0, clean"
    assert case.truth.page.tolist() == [1] * 8 + [2] * 8
    assert case.truth.system.tolist() == [1] * 12 + [2] * 4
    assert case.truth.measure.tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert (np.diff(case.truth.time) > 0).all()
    first, second = known(engraved, per_page=True)
    assert first.name == "scale--0, page 1, clean"
    assert second.truth.page.tolist() == [1] * 8
    assert second.truth.measure.tolist() == [3] * 4 + [4] * 4
    assert second.truth.time[0] == pytest.approx(0.5)
    assert len(second.score.pages) == 1
    assert (second.score.pages[0] == case.score.pages[1]).all()
    assert second.symbols is not None and case.symbols is not None
    assert second.symbols.systems["page"].tolist() == [0, 0]
    assert second.symbols.notes["system"].max() == 1
    assert len(second.symbols.notes) == len(case.symbols.notes) / 2
    assert case.symbols.pages.size == 0


def test_conditions_share_performances_and_pages_where_they_are_the_same(engraved: Path) -> None:
    clean, room, strict, scan = known(engraved, "clean", "room", "mechanical", "scan")
    np.testing.assert_array_equal(clean.truth.time, room.truth.time)
    np.testing.assert_allclose(np.diff(strict.truth.time), np.diff(strict.truth.time)[0])
    assert clean.score is room.score is strict.score
    assert scan.score is not clean.score
    assert not np.array_equal(scan.score.pages[0], clean.score.pages[0])
    assert np.abs(scan.truth.x - clean.truth.x).max() < 0.2


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with two pieces."""
    return build_set(tmp_path_factory.mktemp("pair"), "other--0", "scale--0")


def of_pair(folder: Path, *conditions: str) -> list[Case]:
    (piece,) = find_pieces(folder, ["valid"], ["scale*"], setting(folder, *conditions))
    assert piece.other == "other--0"
    return piece()


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_every_condition_is_made_of_what_exists(pair: Path, name: str) -> None:
    (case,) = of_pair(pair, name)
    assert case.condition == name
    assert len(case.truth.time) >= 4 or name == "wrong"
    assert all(kind in ("jump", "pause", "printed") for _, kind in jumps_of(case))
    assert bool(case.asides) == (name in ("audience", "wrong", "interrupted"))


def test_a_piece_that_is_alone_has_no_wrong_one(engraved: Path) -> None:
    with pytest.raises(ScoreError, match=r"no second piece.*leave them out of --conditions"):
        known(engraved, "wrong")


def test_what_people_do_is_heard_and_part_of_what_the_recording_is_called(pair: Path) -> None:
    (case,) = of_pair(pair, "audience")
    assert isinstance(case.sound, Recording)
    talk, applause = case.asides
    sound = case.sound()
    assert len(sound) >= int(applause.end * case.sample_rate)
    music = slice(*(int(at * case.sample_rate) for at in (talk.begin, talk.end)))
    alone = replace(case.sound, crowd=())
    assert np.abs(sound[music]).mean() > 10 * np.abs(alone()[music]).mean()
    assert alone.file != case.sound.file


def test_nothing_played_of_the_piece_is_no_onset_but_is_told(pair: Path) -> None:
    cases = of_pair(pair, "wrong", "clean", "interrupted", "audience")
    outcomes = list(follow_cases(cases, Witnesses()()))
    report = make_report(outcomes, per_page=False, seed=0)
    json.dumps(report, allow_nan=False)
    wrong = report["conditions"]["wrong"]
    assert (wrong["onsets"], wrong["figures"], wrong["over_time"]) == (0, {}, [])
    assert wrong["calibration"]["error"] is None
    other = wrong["asides"]["other music"]
    assert other["tracking"]["share"] == 0.0, "the witness waits for the first onset"
    assert other["noticed"]["within_1s"] == {"share": 1.0, "of": 1, "interval": None}
    assert report["conditions"]["clean"]["asides"] == {}
    applause = report["conditions"]["audience"]["asides"]["applause"]
    assert applause["tracking"]["share"] == 1.0, "and does not know the end"
    assert applause["noticed"]["within_5s"]["share"] == 0.0
    assert applause["ended"]["share"] == 0.0
    assert {row["condition"] for row in report["by_piece"]} == {"clean", "interrupted", "audience"}
    page = html(report, [])
    for text in (markdown(report), page):
        assert "wrong: other music" in text and "audience: applause" in text
        assert "nan" not in text.lower()
    head, *rows = markdown(report).split("\n\n")[0].splitlines()
    assert head.startswith("| all onsets pooled")
    assert not any(row.startswith("| wrong") for row in rows)
    assert html(make_report(outcomes[:1], per_page=False, seed=0), [])
    assert worst([outcome for outcome in outcomes if outcome.condition == "wrong"]) == []


def test_jumps_lead_where_the_truth_says(engraved: Path) -> None:
    found = 0
    for seed in range(6):
        (case,) = known(engraved, "jumps", seed=seed)
        for at, kind in jumps_of(case):
            assert kind in ("jump", "pause")
            onset = np.searchsorted(case.truth.time, at - 1e-6)
            assert case.truth.time[onset] == pytest.approx(at, abs=0.05)
            place = case.truth.measure[onset - 1 : onset + 1]
            assert place[1] != place[0] + 1, "the music goes on elsewhere"
            found += 1
    assert found >= 6, "each performance jumps at least once"


def test_a_page_with_three_onsets_is_no_case(engraved: Path) -> None:
    piece = scale()
    few = piece.notes[(piece.notes["page"] == 0) | (piece.notes["onset"] >= 3.25)]
    short = replace(piece, notes=few)
    (case,) = make_cases("short", "short", short, setting(engraved, per_page=True))
    assert case.score.name == "short, page 1"


def test_the_seed_decides_everything_and_recordings_are_kept(
    engraved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = known(engraved, "room")
    (other,) = known(engraved, "room", seed=1)
    assert not np.array_equal(case.truth.time, other.truth.time)
    assert isinstance(case.sound, Recording) and isinstance(other.sound, Recording)
    here = replace(case.sound, cache=tmp_path / "a")
    there = replace(case.sound, cache=tmp_path / "b")
    heard = here()
    np.testing.assert_array_equal(heard, there())
    monkeypatch.setenv("PATH", "")
    np.testing.assert_array_equal(here(), heard)
    with pytest.raises(ScoreFollowerError, match="fluidsynth is not installed"):
        other.sound()
    kept = [file.name.rsplit("--", 1)[0] for file in (tmp_path / "a").iterdir()]
    assert kept == ["scale--0--room"]
    assert soundfile.info(here.file).subtype == "PCM_16"
    assert here.file.name == there.file.name != replace(here, acoustics="dry").file.name


def test_a_recording_that_cannot_be_kept_leaves_nothing(engraved: Path, tmp_path: Path) -> None:
    (case,) = known(engraved)
    assert isinstance(case.sound, Recording)
    (tmp_path / "file").write_text("")
    with pytest.raises(ScoreFollowerError, match="choose another --cache"):
        replace(case.sound, cache=tmp_path / "file")()
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_damaged_piece_is_named(tmp_path: Path) -> None:
    (shard,) = build_set(tmp_path, "broken--0").glob("shard-*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (piece,) = find_pieces(tmp_path, ["valid"], ["*"], setting(tmp_path))
    with pytest.raises(ScoreError, match="broken--0 is damaged"):
        piece()


def test_the_use_chooses_pieces(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    for vary, use in enumerate(("valid", "train")):
        writer.add(f"scale--{vary}", scale(), {"piece": "scale", "use": use})
    writer.finish()
    (piece,) = find_pieces(tmp_path, ["valid"], ["*"], setting(tmp_path))
    assert (piece.name, piece.piece) == ("scale--0", "scale")
    assert len(find_pieces(tmp_path, ["valid", "train"], ["*"], setting(tmp_path))) == 2
    (case,) = piece()
    assert case.piece == "scale"
    np.testing.assert_array_equal(case.score.pages[1], scale().pages[1])


# judging


@pytest.mark.parametrize("per_page", [False, True])
def test_who_tells_the_truth_is_right(engraved: Path, per_page: bool) -> None:
    report = judge(known(engraved, "clean", "room", per_page=per_page))
    for condition in ("clean", "room"):
        assert set(pooled(report, condition).values()) == {1.0}
        data = report["conditions"][condition]
        assert data["onsets"] == 16
        assert data["calibration"]["error"] == 0.0
        assert len(data["over_time"]) == 20
    assert (report["pieces"], report["pages"]) == (1, 2)
    assert report["documents"] == (2 if per_page else 1)
    assert report["layout"]["engraved"]["systems"] == {"f1": 1.0, "found": 3, "true": 3, "same": 3}
    assert report["layout"]["engraved"]["measures"] == {"f1": 1.0, "found": 4, "true": 4, "same": 4}


def test_who_is_late_is_told_how_late(engraved: Path) -> None:
    (case,) = known(engraved)
    step = float(np.median(np.diff(case.truth.time)))
    late = pooled(judge([case], Witnesses(late=0.9 * step)))
    assert late["within_0.05s"] == 0.0
    assert 0.8 < late["within_1s"] < 1.0, "the first onset has no answer yet"
    assert 0.5 < late["measure"] < 1.0


def test_who_is_in_the_wrong_measure_is_told_and_so_is_false_confidence(engraved: Path) -> None:
    away = judge(known(engraved), Witnesses(away=0.4))
    figures = pooled(away)
    assert figures["page"] == figures["system"] == 1.0
    assert figures["measure"] < 0.8
    calibration = away["conditions"]["clean"]["calibration"]
    assert calibration["error"] == pytest.approx(1 - figures["measure"], abs=1e-3)
    assert calibration["bins"][-1]["onsets"] == 16


def test_who_recovers_at_once_and_turns_pages_has_the_figures_to_show(engraved: Path) -> None:
    jumping = [case for seed in range(6) for case in known(engraved, "jumps", seed=seed)]
    data = judge(jumping)["conditions"]["jumps"]
    assert data["jumps"]["jump"]["within_1s"]["of"] + data["jumps"]["pause"]["within_1s"]["of"] > 0
    for kind in ("jump", "pause"):
        share = data["jumps"][kind]["within_1s"]
        assert share["share"] == 1.0 or share["of"] == 0
    assert data["turns"]["due"] >= 6
    assert data["turns"]["made"] >= data["turns"]["right"] > 0
    assert data["states"]["tracking"] > 0.5
    assert sum(data["states"].values()) == pytest.approx(1.0, abs=1e-3)


def test_a_truth_without_measures_is_judged_by_systems(engraved: Path) -> None:
    (case,) = known(engraved)
    truth = replace(case.truth, measure=np.zeros(16, np.int64), bars={})
    bare = Layout(
        tuple(
            replace(page, systems=tuple(replace(s, measures=()) for s in page.systems))
            for page in case.layout.pages
        )
    )
    report = judge([replace(case, truth=truth, layout=bare)])
    assert "measure" not in report["conditions"]["clean"]["figures"]
    assert report["conditions"]["clean"]["calibration"]["of"] == "system"
    assert list(report["layout"]["engraved"]) == ["systems"]


def test_scores_in_a_row_are_read_once(engraved: Path) -> None:
    outcomes = list(follow_cases(known(engraved, "clean", "room", "mechanical"), Witnesses()()))
    assert [outcome.reading is not None for outcome in outcomes] == [True, False, False]


def test_the_interval_is_over_pieces_not_onsets() -> None:
    right, count = np.array([10.0, 0.0]), np.array([10.0, 1000.0])
    assert interval(right, count, False, 0) == [0.0, 1.0]
    assert interval(right, count, True, 0) == [0.0, 1.0]
    even = interval(np.full(8, 5.0), np.full(8, 10.0), True, 0)
    assert even == [0.5, 0.5]
    assert interval(right[:1], count[:1], True, 0) is None


# layouts


def test_boxes_are_the_same_from_seven_tenths_and_once_only() -> None:
    true = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    found = np.array([[0.0, 1.0, 0.0, 0.71], [0.0, 1.0, 0.0, 0.9], [0.0, 1.0, 2.0, 2.69]])
    matches = match(found, true)
    assert (matches.found, matches.true, matches.same) == (3, 2, 1)
    assert matches.f1 == pytest.approx(0.4)
    assert match(found[:0], true).f1 == 0.0
    assert match(true, true).f1 == 1.0


def test_layouts_are_compared_page_by_page() -> None:
    true = make_layout(pages=2, systems=2, measures=4)
    swapped = Layout(tuple(PageLayout(3 - p.page, p.systems) for p in true.pages))
    assert compare_layouts(swapped, true)[1].f1 == 1.0
    merged = make_layout(pages=2, systems=2, measures=2)
    systems, measures = compare_layouts(merged, true)
    assert (systems.f1, measures.same, measures.found, measures.true) == (1.0, 0, 8, 16)
    missing = Layout(true.pages[:1])
    assert compare_layouts(missing, true)[0].f1 == pytest.approx(2 / 3)


# here, in processes, on the command line


def test_processes_and_a_dask_cluster_measure_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    build_set(tmp_path, *(f"copy{number}--0" for number in range(3)))
    monkeypatch.undo()
    tasks = find_pieces(tmp_path, ["valid"], ["*"], setting(tmp_path, "clean"))

    def measured(**where: Any) -> dict[str, Any]:
        results = evaluate(tasks, hears_loudness, **where)
        outcomes = [outcome for members in results for outcome in members]
        report = make_report(outcomes, per_page=False, seed=0)
        assert report.pop("speed")
        return report

    here = measured()
    assert 0 < pooled(here)["system"] < 1
    assert len({row["seconds"] for row in here["by_case"]}) == 3, "performances differ"
    assert [row["piece"] for row in here["by_case"]] == [task.piece for task in tasks]
    assert measured(jobs=2) == here
    assert measured(scheduler=cluster) == here


def test_the_command_writes_a_report_tables_and_pictures(
    scorefollow: Run, engraved: Path, tmp_path: Path
) -> None:
    words = ("evaluate", engraved, "--conditions", "mechanical", "--follower")
    files = ("--out", "report.json", "--html", "report.html", "--markdown")
    done = scorefollow(*words, "constant-tempo", *files)
    assert done.returncode == 0, done.stderr
    again = scorefollow(*words, "constant-tempo", "--out", "again.json")
    report, second = (
        json.loads((tmp_path / name).read_text()) for name in ("report.json", "again.json")
    )
    assert report.pop("speed") and second.pop("speed")
    assert report == second
    assert report["follower"] == "constant-tempo" and report["complete"]
    figures = report["conditions"]["mechanical"]["figures"]
    assert 0 < figures["page"]["pooled"] <= 1
    assert figures["page"]["pooled_interval"] is None, "one piece has no interval"
    lines = done.stdout.splitlines()
    assert lines[0].startswith("| all onsets pooled | within 0.05 s | ")
    assert lines[1].startswith("| --- | ---: | ")
    assert lines[2].startswith("| mechanical | ")
    assert "1 pieces, 2 pages, 16 onsets" in again.stdout
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 4 + 2, "four plots and the worst case on two pages"
    assert "http" not in page, "it needs nothing else"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.json",
        "report.html",
        "report.json",
    ]


def test_weights_that_see_no_staff_are_wrong_everywhere(
    scorefollow: Run, engraved: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(DEFAULT)
    torch.nn.init.constant_(net.maps.bias, -20.0)
    save_weights(net, tmp_path / "blind.safetensors")
    words = ("--weights", "blind.safetensors", "--conditions", "mechanical", "--out", "blind.json")
    done = scorefollow("evaluate", engraved, *words)
    assert done.returncode == 0, done.stderr
    assert "no staves found in 1 of 1 documents" in done.stdout
    report = json.loads((tmp_path / "blind.json").read_text())
    assert report["weights"] == "blind.safetensors" and len(report["sha256"]) == 64
    assert set(pooled(report, "mechanical").values()) == {0.0}
    assert report["layout"]["engraved"]["systems"] == {"f1": 0.0, "found": 0, "true": 3, "same": 0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("SET", "--pieces", "nothing*"), "no engraved pieces for valid like nothing*"),
        (("SET", "--use", "train"), "no engraved pieces for train like *"),
        (("SET", "--conditions", "clean,cellar"), "cellar is none of clean, room"),
        (("SET", "--weights", "missing.safetensors"), "missing.safetensors"),
        (("SET", "--follower", "constant-speed", "--weights", "x"), "takes none"),
        (("SET", "--follower", "nobody"), "there is no follower 'nobody'"),
        (("nowhere",), "nowhere: is not there"),
        (("msmd",), "msmd: name the one folder"),
        (("vienna", "SET"), "musicxml"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], engraved: Path, words: tuple[str, ...], said: str
) -> None:
    named = [str(engraved) if word == "SET" else word for word in words]
    assert main(["evaluate", *named]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_ctrl_c_tells_what_was_measured_and_keeps_the_recordings_whole(tmp_path: Path) -> None:
    build_set(tmp_path, *(f"copy{number}--0" for number in range(60)))
    words = ["evaluate", str(tmp_path), "--follower", "constant-speed", "--out", "report.json"]
    program = Path(sys.executable).parent / "scorefollow"
    process = subprocess.Popen(
        [str(program), *words, "--conditions", "mechanical"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    kept = tmp_path / "recordings"
    while process.poll() is None and len(list(kept.glob("*.flac"))) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "whole document; " in out and "pieces, " in out
    assert "interrupted" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "report.json").exists()
    assert all(len(soundfile.read(file)[0]) for file in kept.iterdir())
    assert {file.suffix for file in kept.iterdir()} == {".flac"}


# the page


def test_the_page_draws_the_worst_cases_first(engraved: Path) -> None:
    cases = known(engraved, "clean", "mechanical")
    good = list(follow_cases(cases[:1], Witnesses()()))
    bad = list(follow_cases(cases[1:], Witnesses(away=0.4)()))
    assert worst(good) == []
    assert worst([*good, *bad]) == [1]
    report = make_report([*good, *bad], per_page=False, seed=0)
    page = html(report, [Drawn(cases[1], bad[0])])
    assert f"<h3>{cases[1].name}</h3>" in page
    wrong = int((bad[0].answers.error > 0.5).sum())
    assert wrong > 0
    assert page.count('<circle class="wrong"') == wrong
    assert page.count('<circle class="truth"') == 16 - wrong
    assert page.count("data:image/png;base64,") == 2


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30), st.text(min_size=1, max_size=60))
@example("<?", "0")
def test_names_are_only_text_on_the_page(condition: str, piece: str) -> None:
    outcomes = [replace(one, condition=condition, piece=piece) for one in told()]
    report = make_report(outcomes, per_page=False, seed=0)
    page = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", html(report, []))
    inside = page.split("<body>")[1].split("</body>")[0]
    tags = set(re.findall(r"<\s*/?\s*([A-Za-z!?][^\s>/]*)", inside))
    known_tags = "h1 h2 ul li table tr th td div p span i svg path text title circle rect polyline"
    assert tags <= set(known_tags.split())


@functools.cache
def told() -> tuple[Outcome, ...]:
    """One outcome without any sound."""
    (case,) = make_cases("scale", "scale", scale(), Setting(("clean",), False, 0, Path("nowhere")))
    silent = replace(case, sound=Silence(case.truth.time[-1] + 1))
    return tuple(follow_cases([silent], Witnesses()()))


@dataclass(frozen=True)
class Silence:
    seconds: float

    def __call__(self) -> NDArray[np.float32]:
        return np.zeros(round(self.seconds * 22050), np.float32)
