from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from sf_plugin.api import open_audio
from sf_plugin.demo import (
    ASSETS,
    how_it_turned,
    how_it_went,
    load_truth,
    places,
)
from sf_plugin.evaluation.metrics import Due, Turns, answers, judge_turns
from sf_plugin.positions import PageTurn, Position, event_from_json
from sf_plugin.score.layout import Layout
from sf_plugin.score.load import load_score
from sf_plugin.score.measures import place_at

LAYOUT = Layout.from_json((ASSETS / "layout.json").read_text())
TRUTH = load_truth(ASSETS / "truth.json", LAYOUT)
PLACES = places(TRUTH)


def path(
    late: float = 0.0, where: Callable[[float, int], int] = lambda time, i: i
) -> list[Position]:
    """At every frame the last onset that has begun, `late` seconds ago."""
    told = []
    for time in np.arange(0.0, TRUTH.time[-1] + 1, 0.05):
        index = int(np.searchsorted(TRUTH.time, time - late, side="right")) - 1
        _, page, x, y = PLACES[where(time, max(index, 0))]
        told.append(
            Position(time, int(page), x, y, None, None, None, 1, None, None, 0.9, "tracking")
        )
    return told


def test_the_assets_fit_together() -> None:
    score = load_score(ASSETS / "score.pdf")
    audio = open_audio(ASSETS / "take.ogg")
    assert audio.seconds is not None and 150 < audio.seconds < 215
    assert (np.diff(TRUTH.time) >= 0).all()
    assert TRUTH.time[0] > 0 and TRUTH.time[-1] < audio.seconds - 1
    assert len(score.pages) == len(LAYOUT.pages) == 3
    assert sorted(set(TRUTH.page)) == [1, 2, 3]
    measures = [m for page in LAYOUT.pages for system in page.systems for m in system.measures]
    assert [m.number for m in measures] == list(range(1, 38 + 26 + 70 + 1))
    played = set(TRUTH.measure.tolist())
    assert played == {m.number for m in measures}
    assert sum((ASSETS / name).stat().st_size for name in ("take.ogg", "score.pdf")) < 1_500_000


def test_the_true_boxes_lie_on_the_printed_page() -> None:
    pages = load_score(ASSETS / "score.pdf").pages
    for page in LAYOUT.pages:
        image = pages[page.page - 1]
        height, width = image.shape
        for system in page.systems:
            rows = slice(round(system.top * height) + 2, round(system.bottom * height) - 2)
            for measure in system.measures:
                column = round(measure.right * width)
                dark = image[rows, column - 3 : column + 4].min(1) < 128
                assert dark.mean() > 0.95, (page.page, measure.number)


def test_the_take_sounds_at_the_onsets() -> None:
    """The loudness rises more at the true onsets than elsewhere."""
    rate = 8000
    sound = np.concatenate(list(open_audio(ASSETS / "take.ogg").blocks(rate)))
    energy = np.add.reduceat(np.square(sound), np.arange(0, len(sound), rate // 50))
    rise = np.maximum(np.diff(np.log10(energy + 1e-6)), 0)
    frames = (TRUTH.time * 50).astype(int)
    at_onsets = np.max([rise[frames + shift] for shift in (-1, 0, 1)], 0).mean()
    elsewhere = np.max([rise[frames - 6 + shift] for shift in (-1, 0, 1)], 0).mean()
    assert at_onsets > 2 * elsewhere


def test_a_perfect_path_is_judged_perfect() -> None:
    outcome = answers(path(), TRUTH)
    for right in (outcome.right_measure, outcome.right_system, outcome.right_page):
        assert right.mean() > 0.995
    assert how_it_went(outcome)[2] == ("onsets on the right page", "100.0%")


def test_a_late_path_is_judged_by_how_late_it_is() -> None:
    outcome = answers(path(late=0.7), TRUTH)
    assert outcome.ratios()[2] < 0.4 and outcome.ratios()[3] > 0.85
    assert 0.3 < outcome.right_measure.mean() < 0.85


def test_a_path_that_stands_still_is_right_where_it_stands() -> None:
    outcome = answers(path(where=lambda time, i: 0), TRUTH)
    assert outcome.right_measure.mean() == pytest.approx(np.mean(TRUTH.measure == 1))
    assert outcome.right_page.mean() == pytest.approx(np.mean(TRUTH.page == 1))


def test_half_a_path_is_half_right() -> None:
    middle = TRUTH.time[len(TRUTH.time) // 2]
    outcome = answers(path(where=lambda time, i: i if time < middle else 0), TRUTH)
    assert outcome.right_measure.mean() == pytest.approx(0.5, abs=0.01)
    assert how_it_went(outcome)[0][1].endswith(f"% of {len(TRUTH.time)}")


def test_page_turns_are_judged_by_when_the_music_moves_on() -> None:
    second = float(TRUTH.time[np.argmax(TRUTH.page == 2)])
    third = float(TRUTH.time[np.argmax(TRUTH.page == 3)])
    turns = [
        PageTurn(20.0, 3, 1.0),
        PageTurn(second - 1.5, 2, 1.0),
        PageTurn(third + 5.0, 3, 0.0),
        PageTurn(third + 8.0, 2, 0.0),
    ]
    judged = judge_turns(turns, TRUTH)
    assert (judged.due, judged.made, judged.leads()) == (2, 4, [1.5])
    assert how_it_turned(judged) == "1 of 2: 1.5 s ahead; 2 wrong"
    both = (Due(2, second, True, 1.5), Due(3, third, True, -1.04))
    assert how_it_turned(Turns(both, 2)) == "2 of 2: 1.5 s ahead, 1.0 s late"


def test_the_demo_runs_through_the_command(scorefollow: Any, tmp_path: Path) -> None:
    """With the follower that only keeps time, which is not good enough."""
    done = scorefollow("demo", "--follower", "constant-tempo", "--out", "here/demo")
    assert done.returncode == 1, done.stderr
    assert "Less than 85% of the onsets are in the right measure." in done.stdout
    assert "onsets in the right measure" in done.stdout
    out = tmp_path / "here" / "demo"
    assert sorted(p.name for p in out.iterdir()) == ["demo.html", "positions.jsonl"]
    assert "Clementi" in (out / "demo.html").read_text(encoding="utf-8")
    events = [event_from_json(line) for line in (out / "positions.jsonl").open()]
    assert [e.page for e in events if isinstance(e, PageTurn)] == [2, 3]


@pytest.mark.skipif(
    not (ROOT / "sf_plugin" / "unet" / "default.safetensors").exists(),
    reason="there are no weights",
)
def test_the_demo_is_followed(scorefollow: Any, tmp_path: Path) -> None:
    done = scorefollow("demo")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert (tmp_path / "demo-out" / "demo.html").exists()
    assert "2 of 2" in done.stdout


def test_the_demo_says_where_it_cannot_write(scorefollow: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = scorefollow("demo", "--follower", "constant-tempo", "--out", "file")
    assert done.returncode == 2
    assert "file: cannot be made" in done.stderr


def build_demo() -> Any:
    spec = spec_from_file_location("build_demo", ROOT / "examples" / "build_demo.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["build_demo"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    not shutil.which("fluidsynth")
    or not shutil.which("ffmpeg")
    or not Path("/usr/share/sounds/sf2/FluidR3_GM.sf2").exists(),
    reason="fluidsynth, its soundfont or ffmpeg is not installed",
)
def test_the_assets_can_be_built_again(tmp_path: Path) -> None:
    pytest.importorskip("lilypond")
    build_demo().main([str(ASSETS / "sonatina-1.ly"), str(tmp_path)])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in ASSETS.iterdir())
    assert json.loads((tmp_path / "truth.json").read_text()) == json.loads(
        (ASSETS / "truth.json").read_text()
    )
    assert (tmp_path / "layout.json").read_text() == (ASSETS / "layout.json").read_text()
    new, old = (load_score(folder / "score.pdf").pages for folder in (tmp_path, ASSETS))
    assert all(np.array_equal(a, b) for a, b in zip(new, old, strict=True))
    again, shipped = (
        np.concatenate(list(open_audio(folder / "take.ogg").blocks(4000)))
        for folder in (tmp_path, ASSETS)
    )
    assert len(again) == len(shipped)
    assert np.corrcoef(again, shipped)[0, 1] > 0.95


def test_onsets_stand_in_their_measures() -> None:
    for (_, page, x, y), number in zip(PLACES, TRUTH.measure, strict=True):
        place = place_at(LAYOUT.pages[int(page) - 1], x, y)
        assert place is not None and place.measure is not None
        assert place.measure.number == number
