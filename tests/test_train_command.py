from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_set import FRAMES, SMALL_CANVAS, TINY, TINY_PAPER, draw_piece, write_set, write_templates
from torch import Tensor

from sf_plugin.audio.spectrogram import PAPER
from sf_plugin.cli import main
from sf_plugin.dataset.registry import Registry
from sf_plugin.dataset.shards import ShardSet, ShardWriter
from sf_plugin.dataset.templates import Templates
from sf_plugin.errors import WeightsError
from sf_plugin.training import data, losses, train, validation
from sf_plugin.training.checkpoints import begin_with
from sf_plugin.training.curves import Curves
from sf_plugin.training.data import Sampler
from sf_plugin.training.parallel import Group
from sf_plugin.training.validation import Validation
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import load_weights, save_weights

Words = str | int | float | Path
Saved = dict[str, Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with the templates of both networks."""
    folder = tmp_path_factory.mktemp("set")
    write_set(folder)
    write_templates(folder / "templates.npz")
    write_templates(folder / "templates-cunet.npz", PAPER)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    monkeypatch.setattr(data, "FRAMES", FRAMES)
    monkeypatch.setattr(validation, "PAIRS", 2)
    monkeypatch.setattr(train, "HEARD_FIRST", 3)
    monkeypatch.setattr(train, "LINE", 2)
    monkeypatch.setitem(train.CONFIGS, "default", TINY)
    monkeypatch.setitem(train.CONFIGS, "cunet", TINY_PAPER)


def run(*words: Words) -> int:
    return main(["train", *map(str, words), "--threads", "1"])


def saved(folder: Path) -> Saved:
    state: Saved = torch.load(folder / "last.pt", weights_only=True)
    return state


def curves(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]


def tensors(state: object, name: str = "") -> dict[str, Tensor]:
    """All that is in nested dictionaries and lists."""
    if isinstance(state, Tensor):
        return {name: state}
    if isinstance(state, dict):
        parts = [tensors(value, f"{name}.{key}") for key, value in state.items()]
    elif isinstance(state, list):
        parts = [tensors(value, f"{name}.{key}") for key, value in enumerate(state)]
    else:
        return {}
    return {key: value for part in parts for key, value in part.items()}


def interrupting(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Press Ctrl-C after so many steps, once."""
    learn = train.Run.step

    def step(self: train.Run, *rest: Any) -> None:
        learn(self, *rest)
        if self.counts.step == steps:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train.Run, "step", step)


def test_a_run_that_was_stopped_ends_as_an_unbroken_one(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(tiny, whole, "--steps", 5, "--workers", 0) == 0
    with monkeypatch.context() as patch:
        interrupting(patch, 2)
        assert run(tiny, broken, "--steps", 5, "--workers", 1) == 130
    assert "stopped at step 3: the same command goes on" in capsys.readouterr().err
    assert saved(broken)["step"] == 3
    assert run(tiny, broken, "--steps", 5, "--workers", 1) == 0
    assert "resumed at step 3" in capsys.readouterr().err
    one, other = saved(whole), saved(broken)
    for name in ("step", "skipped", "best", "waited"):
        assert one[name] == other[name]
    kept = tensors(one)
    assert len(kept) > 4 * len(load_file(whole / "weights.safetensors"))
    for name, value in tensors(other).items():
        assert torch.equal(value, kept[name]), name
    best = load_file(whole / "weights.safetensors")
    for name, value in load_file(broken / "weights.safetensors").items():
        assert torch.equal(value, best[name]), name
    assert not list(broken.glob("*.partial"))


def test_a_finished_run_stays_as_it_is(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny, tmp_path, "--steps", 1, "--workers", 0) == 0
    before = (tmp_path / "last.pt").read_bytes()
    export = tmp_path / "mine.safetensors"
    assert run(tiny, tmp_path, "--steps", 1, "--workers", 0, "--export", export) == 0
    assert (tmp_path / "last.pt").read_bytes() == before
    assert export.read_bytes() == (tmp_path / "weights.safetensors").read_bytes()


def test_the_best_averaged_weights_are_kept(tiny: Path, tmp_path: Path) -> None:
    assert run(tiny, tmp_path, "--steps", 6, "--workers", 0, "--validate", 1e-6) == 0
    drawn = [line["valid_place"] for line in curves(tmp_path) if "valid_place" in line]
    assert len(drawn) == 6
    assert saved(tmp_path)["best"] == pytest.approx(min(drawn), abs=1e-4)
    lines = [line for line in curves(tmp_path) if "place" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    extra = Sampler(ShardSet(tiny), Templates(tiny / "templates.npz"), TINY.spectrogram,
                    use="extra", rooms=1.0)  # fmt: skip
    again = Validation.of(extra, 0, Group())
    kept = load_weights(tmp_path / "weights.safetensors")
    assert kept.config == TINY
    assert again.score(kept, Group())["place"] == pytest.approx(min(drawn), rel=0.02)


def test_patience_ends_a_run_that_gains_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--rate", 1e-30, "--patience", 2, "--validate", 1e-6)
    assert run(tiny, tmp_path, "--steps", 50, "--workers", 0, *words) == 0
    assert "no gain in 2 validations" in capsys.readouterr().err
    assert saved(tmp_path)["step"] == 3


def test_without_pieces_to_choose_by_the_last_weights_are_kept(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = ShardWriter(tmp_path / "set")
    writer.add("alone", draw_piece(), {"piece": "alone", "use": "train"})
    writer.finish()
    words = ("--templates", tiny / "templates.npz", "--steps", 2, "--workers", 0)
    assert run(tmp_path / "set", tmp_path / "run", *words) == 0
    assert "no pieces for the use 'extra'" in capsys.readouterr().err
    last = saved(tmp_path / "run")["average"]
    kept = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(kept[name], last[name].half()) for name in kept)


def test_training_goes_by_the_clock(tiny: Path, tmp_path: Path) -> None:
    assert run(tiny, tmp_path, "--minutes", 1e-6, "--workers", 0) == 0
    assert saved(tmp_path)["step"] == 1


def test_steps_that_are_not_finite_are_counted_and_left_out(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def spoilt(*words: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
        terms, scores = losses.losses(*words)
        seen.append(terms)
        if len(seen) == 2:
            terms["place"] = terms["place"] * float("nan")
        return terms, scores

    monkeypatch.setattr(train, "losses", spoilt)
    assert run(tiny, tmp_path, "--steps", 4, "--workers", 0) == 0
    state = saved(tmp_path)
    assert (state["step"], state["skipped"]) == (4, 1)
    assert "step 2: not finite: skipped (1 so far)" in capsys.readouterr().err
    assert all(value.isfinite().all() for value in tensors(state).values())
    assert all(line["place"] == line["place"] for line in curves(tmp_path) if "place" in line)


def test_the_published_network_is_trained(tiny: Path, tmp_path: Path) -> None:
    assert run(tiny, tmp_path, "--steps", 2, "--workers", 0, "--config", "cunet") == 0
    assert load_weights(tmp_path / "weights.safetensors").config == TINY_PAPER
    assert {"valid_place", "valid_right"} < set(curves(tmp_path)[-1])


def test_a_run_begins_with_other_weights(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    start = tmp_path / "start.safetensors"
    save_weights(ScoreUNet(TINY), start)
    whole = load_file(start)
    words = ("--steps", 1, "--rate", 1e-30, "--workers", 0, "--begin-with", start)
    assert run(tiny, tmp_path / "run", *words) == 0
    assert f"begins with {len(whole)} tensors" in capsys.readouterr().err
    name = "page.blocks.A.conv1.weight"
    assert torch.equal(saved(tmp_path / "run")["net"][name], whole[name].float())


def test_parts_that_are_frozen_stay_as_they_are(tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    start = tmp_path / "start.safetensors"
    save_weights(ScoreUNet(TINY), start)
    parts = ("page", "pitch_maps", "maps")
    words = ("--steps", 2, "--workers", 0, "--begin-with", start, "--freeze", *parts)
    assert run(tiny, tmp_path / "run", *words) == 0
    frozen = (*parts, "bars")
    before, state = load_file(start), saved(tmp_path / "run")
    for name, value in before.items():
        stays = name.split(".")[0] in frozen
        if stays or name == "strip.enter.weight":
            assert torch.equal(state["net"][name], value.float()) == stays, name
    learning = [n for n, _ in ScoreUNet(TINY).named_parameters() if n.split(".")[0] not in frozen]
    assert len(state["optimiser"]["param_groups"][0]["params"]) == len(learning)
    line = curves(tmp_path / "run")[0]
    assert "staves" in line
    assert not {"heads", "maps"} & set(line)
    with pytest.raises(SystemExit):
        run(tiny, tmp_path / "other", "--steps", 1, "--freeze", "heads")


def test_a_start_is_taken_over_where_it_fits(tmp_path: Path) -> None:
    torch.manual_seed(3)
    start = tmp_path / "start.safetensors"
    other = ScoreUNet(TINY)
    other.mask = torch.nn.Linear(2, 2)
    other.block_i.key = torch.nn.Linear(3, 3)
    save_weights(other, start)
    torch.manual_seed(4)
    net = ScoreUNet(TINY)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    known = len(before)
    assert begin_with(net, start) == known - 2
    after, given = net.state_dict(), load_file(start)
    for name in ("block_i.key.weight", "block_i.key.bias"):
        assert torch.equal(after[name], before[name])
    assert torch.equal(after["strip.enter.weight"], given["strip.enter.weight"].float())
    save_file({"nothing": torch.zeros(1)}, start)
    assert begin_with(net, start) == 0
    start.write_text("no weights")
    with pytest.raises(WeightsError, match="not safetensors"):
        begin_with(net, start)


def test_unfit_input_is_named(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*words: Words) -> str:
        assert run(*words, "--steps", 1, "--workers", 0) == 2
        return capsys.readouterr().err

    folder = tmp_path / "run"
    missing = tmp_path / "none.npz"
    assert f"templates {missing} --config cunet" in error(
        tiny, folder, "--templates", missing, "--config", "cunet"
    )
    assert "for other frames than these" in error(
        tiny, folder, "--templates", tiny / "templates.npz", "--config", "cunet"
    )
    assert "make it first" in error(tiny, folder, "--export", tmp_path / "no" / "a.safetensors")
    assert "named like nothing" in error(tiny, folder, "--pieces", "nothing*")
    assert "not safetensors" in error(tiny, folder, "--begin-with", tmp_path / "none.safetensors")
    (folder / "last.pt").write_bytes(b"damaged")
    assert "last.pt: is damaged or of another network" in error(tiny, folder)
    assert run(tiny, tmp_path / "paper", "--steps", 1, "--config", "cunet") == 0
    assert "of another network" in error(tiny, tmp_path / "paper")
    for words in (("--steps", 0), ("--minutes", -1), ("--steps", 1, "--minutes", 1)):
        with pytest.raises(SystemExit):
            run(tiny, folder, *words)


def test_held_out_pieces_are_not_trained_on(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = Registry.load().pieces[0]
    writer = ShardWriter(tmp_path / "set")
    writer.add("renamed", draw_piece(), {"piece": held.piece, "use": "train"})
    writer.finish()
    words = ("--templates", tiny / "templates.npz", "--steps", 1)
    assert run(tmp_path / "set", tmp_path / "run", *words) == 2
    assert "is held out" in capsys.readouterr().err


def test_notes_are_measured_for_either_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measure(path: Path, *, config: object, **how: object) -> None:
        path.write_bytes(b"")
        asked.append(config)

    monkeypatch.setattr("sf_plugin.dataset.templates.measure", measure)
    for words in ([], ["--config", "cunet"]):
        assert main(["dataset", "templates", str(tmp_path / "t.npz"), *words]) == 0
    assert asked == [TINY.spectrogram, PAPER]


def test_curves_go_on_where_the_run_does(tmp_path: Path) -> None:
    for start, steps in ((0, (50, 100, 150)), (100, (150, 200))):
        drawn = Curves(tmp_path, start)
        for step in steps:
            drawn.write(step, {"place": start + step / 3})
        drawn.close()
    assert [line["step"] for line in curves(tmp_path)] == [50, 100, 150, 200]
    assert curves(tmp_path)[2]["place"] == 150


def test_curves_are_shown_in_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = Curves(tmp_path, 0)
    drawn.write(50, {"place": 2.5})
    drawn.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("place")] == [(50, 2.5)]


# in processes of their own

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from tiny_set import FRAMES, SMALL_CANVAS, TINY
from sf_plugin.cli import main
from sf_plugin.training import checkpoints, data, train, validation
data.CANVAS, data.FRAMES, validation.PAIRS = SMALL_CANVAS, FRAMES, 2
train.HEARD_FIRST, train.LINE = 3, 1
train.CONFIGS["default"] = TINY
{more}
sys.exit(main(["train", *sys.argv[1:], "--threads", "1"]))
"""

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(more: str = "") -> Path:
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(tests=str(Path(__file__).parent), more=more))
        return path

    return write


KEEP_GRADIENTS = """
import torch
from sf_plugin.training.parallel import Group
average = Group.average_gradients
def keep(self, parameters):
    parameters = list(parameters)
    average(self, parameters)
    torch.save([p.grad for p in parameters], f"{run}/gradients-{{self.rank}}-of-{{self.size}}.pt")
Group.average_gradients = keep
"""


def test_two_processes_learn_as_one_from_both_samples(
    tiny: Path, tmp_path: Path, script: Script
) -> None:
    folder = tmp_path / "run"
    program = script(KEEP_GRADIENTS.format(run=folder))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--standalone", program, tiny, folder, "--steps", "1", "--workers", "0"]  # fmt: skip
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("step 1  ") == 2  # the line and the validation, told once
    each = [torch.load(folder / f"gradients-{rank}-of-2.pt") for rank in range(2)]
    torch.manual_seed(0)
    net = ScoreUNet(TINY)
    net.page.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sampler = Sampler(ShardSet(tiny), Templates(tiny / "templates.npz"), TINY.spectrogram)
    heard = torch.cat([sampler.pair(0, step)[0].frames.flatten(0, 1) for step in range(3)])
    net.audio.mean.copy_(heard.mean(0))
    net.audio.deviation.copy_(heard.std(0) + 0.05)
    for number in range(2):
        torch.manual_seed(train.seed_of(0, number))
        terms, _ = losses.losses(net, sampler.pair(0, number))
        loss = torch.stack([losses.WEIGHTS[name] * term for name, term in terms.items()]).sum()
        (loss / 2).backward()
    for one, other, (name, parameter) in zip(*each, net.named_parameters(), strict=True):
        if name.startswith("bars."):  # `train_bars` teaches them
            assert one is other is parameter.grad is None, name
            continue
        assert torch.equal(one, other), name
        assert parameter.grad is not None
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_control_c_keeps_the_run(tiny: Path, tmp_path: Path, script: Script) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, script(), tiny, folder, "--steps", "100000", "--workers", "1"]
    with subprocess.Popen(
        [*map(str, command)], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 2 "):
                os.killpg(process.pid, signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    assert "the same command goes on from there" in rest
    assert saved(folder)["step"] >= 2
    assert load_weights(folder / "weights.safetensors").config == TINY
