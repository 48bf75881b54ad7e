from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import Run

from sf_plugin import bench
from sf_plugin.audio.spectrogram import Spectrogram
from sf_plugin.cli import main
from sf_plugin.unet.config import CUNET, DEFAULT, UNetConfig
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained: speed does not depend on what was learned."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_weights(ScoreUNet(DEFAULT), path)
    return path


def test_every_part_is_measured_and_written(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "STARTS", 1)
    file = tmp_path / "bench.json"
    words = ["bench", "--pages", "2", "--seconds", "1", "--weights", str(weights)]
    assert main([*words, "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    report = json.loads(file.read_text())
    parts = ["features", "audio encoder", "head", "tracker", "mapper", "everything"]
    assert list(report["per_50_ms"]) == parts
    for name in ("per_50_ms", "per_50_ms_as_published", "per_page"):
        for times in report[name].values():
            assert 0 < times["median"] <= times["p95"] <= times["p99"]
    steps = report["per_50_ms"]
    assert all(steps[part]["median"] < steps["everything"]["median"] for part in parts[:-1])
    assert report["machine"]["threads"] == 1
    assert report["pages"] == 2
    assert report["onsets"] > 0
    assert report["peak_mebibytes"] > 50
    assert report["seconds_to_ready"] > 0
    assert "times faster than as published" in shown
    assert all(part in shown for part in parts)


def test_a_document_of_any_length_repeats_the_demo() -> None:
    score = bench.document(5)
    assert len(score.pages) == 5
    assert score.layout is not None
    assert [page.page for page in score.layout.pages] == [1, 2, 3, 4, 5]
    demo = bench.document(1)
    again = len(bench.load_score(bench.ASSETS / "score.pdf").pages)
    assert (score.pages[again] == demo.pages[0]).all()


@pytest.mark.parametrize(("config", "frames"), [(DEFAULT, 2), (CUNET, 1)])
def test_each_block_of_sound_completes_as_many_frames(config: UNetConfig, frames: int) -> None:
    spectrogram = Spectrogram(config.spectrogram)
    sound = bench.demo_sound(2, 22050)
    assert len(sound) == 2 * 22050
    cut = bench.blocks(sound, 22050)
    assert sum(map(len, cut)) == len(sound)
    completed = [len(spectrogram.feed(block)) for block in cut]
    assert completed == [1, *[frames] * 39]


def test_the_steps_of_a_block_add_up_to_no_more_than_the_whole(weights: Path) -> None:
    follower = UNetFollower(weights)
    score = bench.document(1)
    follower.prepare(score)
    times = bench.per_block(follower, score, bench.demo_sound(1, follower.sample_rate))
    assert {len(values) for values in times.values()} == {20}
    *parts, whole = times.values()
    for steps, everything in zip(zip(*parts, strict=True), whole, strict=True):
        assert all(seconds > 0 for seconds in steps)
        assert sum(steps) < everything


def test_the_first_block_is_told_apart() -> None:
    spread = bench.spread([1.0, *[0.001 * i for i in range(1, 102)]])
    assert spread == {"first": 1000.0, "median": 51.0, "p95": 96.0, "p99": 100.0}


def test_weights_that_are_not_there_are_named(scorefollow: Run) -> None:
    done = scorefollow("bench", "--weights", "nowhere.safetensors")
    assert done.returncode == 2
    assert "nowhere.safetensors" in done.stderr
    assert len(done.stderr.splitlines()) == 1
