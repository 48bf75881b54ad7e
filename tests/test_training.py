from __future__ import annotations

import pickle
import sys
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.audio.spectrogram import PAPER, Spectrogram, SpectrogramConfig
from sf_plugin.dataset.engraving import BAR, NOTE, STAFF, SYSTEM, Engraving
from sf_plugin.dataset.paper import PAPERS, Warp
from sf_plugin.dataset.perform import MECHANICAL, perform
from sf_plugin.dataset.perform import NOTE as PLAYED
from sf_plugin.dataset.registry import HeldOutError, Registry
from sf_plugin.dataset.shards import ShardSet, ShardWriter
from sf_plugin.dataset.templates import KNOTS, VELOCITIES, VERSION, Templates
from sf_plugin.errors import ScoreError
from sf_plugin.training import data, train
from sf_plugin.training.data import (
    Grid,
    PageSample,
    Sampler,
    compress,
    note_rolls,
    place_targets,
)
from sf_plugin.training.losses import WEIGHTS, losses
from sf_plugin.training.train import learning_rate
from sf_plugin.unet.config import UNetConfig
from sf_plugin.unet.network import ScoreUNet, SystemRows
from sf_plugin.unet.weights import load_weights

torch.set_num_threads(1)

TINY = UNetConfig(channels=(4, 8, 8, 8, 8), groups=1, cells=16, audio_channels=16, audio_memory=8)
BINS = TINY.spectrogram.bins
SMALL_CANVAS = (192, 128)
FRAMES = 120
HEIGHT, WIDTH = 160, 112
NOTES_A_SYSTEM = 10


def draw_piece(seed: int = 0, pages: int = 2) -> Engraving:
    """Two systems a page with a note every sixteenth of the width, drawn as black boxes."""
    rng = np.random.default_rng(seed)
    images = np.full((pages, HEIGHT, WIDTH), 255, np.uint8)
    notes = np.zeros(2 * pages * NOTES_A_SYSTEM, NOTE)
    systems = np.zeros(2 * pages, SYSTEM)
    staves = np.zeros(2 * pages, STAFF)
    bars = np.zeros(2 * pages, BAR)
    for i in range(2 * pages):
        page, top = i // 2, 0.2 + 0.4 * (i % 2)
        systems[i] = (page, 0, 1, top, top + 0.1, 0.1, 0.9)
        staves[i] = (i, top, top + 0.1)
        bars[i] = (i, 0.88, (i + 1) * NOTES_A_SYSTEM / 4, i + 2, "|")
        for line in range(5):
            images[page, round((top + 0.025 * line) * HEIGHT), 11:101] = 0
        for k in range(NOTES_A_SYSTEM):
            note = notes[i * NOTES_A_SYSTEM + k]
            pitch = int(rng.integers(60, 80))
            x, y = 0.15 + 0.075 * k, top + 0.1 - 0.1 * (pitch - 60) / 20
            note["page"], note["system"], note["x"], note["y"] = page, i, x, y
            note["onset"], note["length"] = (i * NOTES_A_SYSTEM + k) / 4, 0.25
            note["pitch"], note["tempo"] = pitch, 60
            row, column = round(y * HEIGHT), round(x * WIDTH)
            images[page, row - 2 : row + 2, column - 2 : column + 3] = 0
    return Engraving(images, notes, systems, staves, bars)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A piano whose notes are one bin each, decaying."""
    path = tmp_path_factory.mktemp("templates") / "templates.npz"
    levels = np.zeros((len(VELOCITIES), 88, len(KNOTS), BINS), np.uint8)
    for pitch in range(88):
        levels[:, pitch, KNOTS >= 0, pitch * BINS // 88] = (190 - KNOTS[KNOTS >= 0]).astype(int)
    tables: dict[str, np.ndarray] = {
        "version": np.array(VERSION),
        "levels tiny": levels,
        "releases tiny": np.full(88, 20, np.float32),
    }
    np.savez(path, **tables)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    writer = ShardWriter(tmp_path_factory.mktemp("set"))
    writer.add("tiny", draw_piece(), {"piece": "tiny", "use": "train"})
    writer.add("held", draw_piece(1, 1), {"piece": "held", "use": "valid"})
    return writer.finish()


@pytest.fixture
def sampler(shards: ShardSet, templates: Path, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    monkeypatch.setattr(data, "FRAMES", FRAMES)
    return Sampler(shards, Templates(templates), SpectrogramConfig(), performances=2)


def learn(sampler: Sampler, steps: int) -> tuple[dict[str, float], list[float]]:
    """Terms before, and the loss on the same pages and frames step by step."""
    torch.manual_seed(0)
    net = ScoreUNet(TINY)
    pair = next(sampler.pairs(0))
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    first: dict[str, float] = {}
    curve = []
    for _ in range(steps):
        torch.manual_seed(1)
        terms, scores = losses(net, pair, 40)
        first = first or {name: float(term.detach()) for name, term in terms.items()}
        assert 0 <= scores["right_cell"] <= scores["near"] <= 1
        loss = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    return first, curve


def test_a_few_steps_lower_the_loss_and_are_reproducible(sampler: Sampler) -> None:
    first, curve = learn(sampler, 6)
    assert set(first) == set(WEIGHTS)
    assert np.isfinite(list(first.values())).all()
    cells = next(sampler.pairs(0))[0].cells * 2
    assert first["place"] == pytest.approx(np.log(cells), rel=0.4)
    assert curve[-1] < 0.95 * curve[0]
    assert learn(sampler, 6) == (first, curve)


def test_every_weight_learns(sampler: Sampler) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(TINY)
    terms, _ = losses(net, next(sampler.pairs(0)), 40)
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_several_performances_of_a_page_count_like_one_each(sampler: Sampler) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(TINY).eval()
    both = sampler.pair(4, 0)[0]
    parts = []
    for number in range(2):
        mine = both.target_frames[:, 0] == number
        frames = both.target_frames[mine] * torch.tensor([0, 1])
        one = slice(number, number + 1)
        parts.append(replace(
            both, frames=both.frames[one], active=both.active[one], onset=both.onset[one],
            target_frames=frames, target_places=both.target_places[mine],
        ))  # fmt: skip
    with torch.no_grad():
        whole, *single = (losses(net, (s,), FRAMES)[0] for s in (both, *parts))
    counts = [len(part.target_frames) for part in parts]
    mean = sum(n * s["place"] for n, s in zip(counts, single, strict=True)) / sum(counts)
    torch.testing.assert_close(whole["place"], mean, rtol=1e-4, atol=1e-5)
    audio = sum(s["audio"] for s in single) / 2
    torch.testing.assert_close(whole["audio"], audio, rtol=1e-4, atol=1e-5)


def test_training_resumes_where_it_stopped(
    shards: ShardSet, templates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    monkeypatch.setattr(data, "FRAMES", FRAMES)
    monkeypatch.setitem(train.CONFIGS, "default", TINY)
    run = tmp_path / "run"

    def steps(count: int) -> dict[str, object]:
        words = ["train", shards.path, templates, run, "--steps", count, "--threads", 1]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        train.main()
        saved: dict[str, object] = torch.load(run / "last.pt", weights_only=True)
        return saved

    first = steps(2)
    assert first["step"] == 2
    assert "resumed" not in capsys.readouterr().out
    second = steps(3)
    assert second["step"] == 3
    assert "resumed at step 2" in capsys.readouterr().out
    assert load_weights(run / "weights.safetensors").config == TINY
    assert not list(run.glob("*.partial"))


def test_the_learning_rate_warms_up_and_falls() -> None:
    assert learning_rate(0, 0, 1.0) == pytest.approx(1 / 150)
    assert learning_rate(149, 0, 1.0) == pytest.approx(1)
    assert learning_rate(1000, 0.5, 1.0) == pytest.approx(0.51)
    assert learning_rate(1000, 1, 1.0) == pytest.approx(0.02)
    assert learning_rate(1000, 7, 1.0) == pytest.approx(0.02)
    falling = [learning_rate(1000, done, 1.0) for done in np.linspace(0, 1, 20)]
    assert all(one > two for one, two in pairwise(falling))


def same(one: object, other: object) -> bool:
    """Whether two pairs of samples are equal to the last bit."""
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)
    return all(
        torch.equal(value, vars(b)[name]) if isinstance(value, torch.Tensor) else value == b.systems
        for a, b in zip(one, other, strict=True)
        for name, value in vars(a).items()
    )


def test_samples_fit_together(sampler: Sampler) -> None:
    rows, columns = SMALL_CANVAS[0] // 4, SMALL_CANVAS[1] // 4
    for sample in sampler.pair(7, 0):
        assert sample.image.shape == SMALL_CANVAS
        assert sample.ink.shape == (1, 1, *SMALL_CANVAS)
        assert 0 <= float(sample.ink.min()) < float(sample.ink.max()) <= 1
        assert sample.frames.shape == (2, FRAMES, BINS)
        assert torch.isfinite(sample.frames).all()
        assert not torch.equal(sample.frames[0], sample.frames[1])
        assert sample.maps.shape == (3, rows, columns)
        assert len(sample.systems) == 2
        assert set(sample.target_frames[:, 0].tolist()) == {0, 1}
        assert int(sample.target_frames[:, 1].max()) < FRAMES
        every = sample.target_cells(torch.arange(len(sample.target_frames)))
        assert every.shape == (len(sample.target_frames), sample.cells)
        torch.testing.assert_close(every.sum(1), torch.ones(len(every)), atol=1e-3, rtol=0)
        assert sample.heads.shape == (2 * NOTES_A_SYSTEM, 3)
        assert sample.cell_heads.shape == (2 * NOTES_A_SYSTEM, 2)
        assert int(sample.cell_heads[:, 0].max()) < sample.cells
        assert sample.active.shape == sample.onset.shape == (2, FRAMES, 88)
        assert (sample.onset <= sample.active | sample.active.roll(1, 1)).all()


def test_samples_depend_on_seed_and_step_alone(sampler: Sampler) -> None:
    here = [sampler.pair(7, step) for step in range(8)]
    assert not same(here[0], here[1])
    assert not same(here[0], sampler.pair(8, 0))
    assert same(pickle.loads(pickle.dumps(sampler)).pair(7, 3), here[3])
    for start, workers in ((0, 0), (3, 1), (1, 2)):
        with closing(sampler.pairs(7, start, workers)) as stream:
            for step in range(start, start + 5):
                assert same(next(stream), here[step]), (step, workers)


def test_every_page_comes_first_once_an_epoch(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ShardWriter(tmp_path)
    for name, pages in (("a", 3), ("b", 1), ("c", 2)):
        writer.add(name, draw_piece(pages=pages), {"use": "train"})
    sampler = Sampler(writer.finish(), Templates(templates), SpectrogramConfig())
    asked: list[tuple[str, int]] = []

    def sample(name: str, page: int, rng: np.random.Generator) -> tuple[str, int]:
        asked.append((name, page))
        return name, page

    monkeypatch.setattr(sampler, "sample", sample)
    for step in range(12):
        sampler.pair(1, step)
    firsts, others = asked[::2], asked[1::2]
    assert sorted(firsts[:6]) == sorted(firsts[6:]) == sampler.pages
    assert firsts[:6] != firsts[6:]
    neighbours = [
        f[0] == o[0] and abs(f[1] - o[1]) in (1, 2) for f, o in zip(firsts, others, strict=True)
    ]
    assert 3 <= sum(neighbours) < 12


def test_heads_lie_in_their_systems_on_the_canvas(sampler: Sampler) -> None:
    for sample in sampler.pair(3, 0):
        for row, column, pitch in sample.heads.tolist():
            assert any(s.top <= row < s.bottom for s in sample.systems)
            assert any(s.left <= column < s.right for s in sample.systems)
            assert 60 <= pitch + 21 < 80
        inside = sample.maps[0]
        assert 0.05 < float(inside.float().mean()) < 0.3
        assert not (sample.maps[2] & ~inside).any()


@pytest.mark.parametrize("paper", ["engraved", "bad scan", "photo"])
def test_maps_and_heads_lie_on_the_ink(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch, paper: str
) -> None:
    """A page whose systems are solid black is dark where the maps say, and white elsewhere."""
    piece = draw_piece(pages=1)
    piece.pages = np.full((1, 1200, 848), 255, np.uint8)
    for s in piece.systems:
        box = np.round([s["top"] * 1200, s["bottom"] * 1200, s["left"] * 848, s["right"] * 848])
        top, bottom, left, right = box.astype(int)
        piece.pages[0, top:bottom, left:right] = 0
    writer = ShardWriter(tmp_path)
    writer.add("black", piece, {"use": "train"})
    sampler = Sampler(writer.finish(), Templates(templates), SpectrogramConfig())
    monkeypatch.setattr(data, "draw_paper", lambda rng: PAPERS[paper])
    for step in range(3):
        sample = sampler.pair(1, step)[0]
        dark = sample.ink[0, 0].reshape(304, 4, 216, 4).mean((1, 3))
        inside, staff, bars = sample.maps
        assert torch.equal(inside, staff)
        inner = -torch.nn.functional.max_pool2d(-inside[None].float(), 3, 1, 1)[0] > 0
        outer = torch.nn.functional.max_pool2d(inside[None].float(), 5, 1, 2)[0] > 0
        near = torch.nn.functional.max_pool2d(outer[None].float(), 9, 1, 4)[0] > 0
        ring = near & ~outer
        assert float(dark[inner].quantile(0.05)) > float(dark[ring].quantile(0.95))
        assert not (bars & ~inside).any()


def test_a_set_without_such_pieces_is_named(shards: ShardSet, templates: Path) -> None:
    instruments, config = Templates(templates), SpectrogramConfig()
    with pytest.raises(ScoreError, match=r"'test'.*see its index"):
        Sampler(shards, instruments, config, use="test")
    with pytest.raises(ScoreError, match="named like other"):
        Sampler(shards, instruments, config, names=["other*"])
    assert Sampler(shards, instruments, config, use="valid").pages == [("held", 0)]
    assert Sampler(shards, instruments, config).pages == [("tiny", 0), ("tiny", 1)]


def test_a_page_with_too_little_on_it_is_replaced(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    piece = draw_piece(pages=2)
    piece.notes = piece.notes[: 2 * NOTES_A_SYSTEM + 2]
    writer = ShardWriter(tmp_path)
    writer.add("short", piece, {"use": "train"})
    sampler = Sampler(writer.finish(), Templates(templates), SpectrogramConfig())
    for step in range(2):
        for sample in sampler.pair(0, step):
            assert len(sample.heads) == 2 * NOTES_A_SYSTEM
    piece.notes = piece.notes[:3]
    writer = ShardWriter(tmp_path / "empty")
    writer.add("empty", piece, {"use": "train"})
    empty = Sampler(writer.finish(), Templates(templates), SpectrogramConfig())
    with pytest.raises(ScoreError, match="hardly a page"):
        empty.pair(0, 0)


def test_held_out_pieces_are_not_trained_on(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Registry.load().pieces[0]
    writer = ShardWriter(tmp_path / "set")
    writer.add("renamed", draw_piece(), {"piece": held.piece, "use": "train"})
    writer.finish()
    words = ["train", tmp_path / "set", templates, tmp_path / "run", "--steps", 1]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with pytest.raises(HeldOutError, match="is held out"):
        train.main()


def test_note_rolls_mark_what_sounds_and_what_begins() -> None:
    played = np.zeros(3, PLAYED)
    played["onset"], played["duration"] = [0.5, 1.0, 7.0], [0.25, 9.0, 1.0]
    played["pitch"] = [60, 108, 21]
    active, onset = note_rolls(played, 30, 20)
    assert np.flatnonzero(active[:, 60 - 21]).tolist() == [10, 11, 12, 13, 14]
    assert np.flatnonzero(onset[:, 60 - 21]).tolist() == [10, 11]
    assert np.flatnonzero(active[:, 87]).tolist() == list(range(20, 30))
    assert active.sum() == 15


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 2), st.integers(60, 64)), max_size=12),
    st.integers(1, 60),
)
def test_note_rolls_are_what_a_loop_over_notes_gives(
    rows: list[tuple[float, float, int]], count: int
) -> None:
    played = np.zeros(len(rows), PLAYED)
    for i, row in enumerate(rows):
        played[i]["onset"], played[i]["duration"], played[i]["pitch"] = row
    sounds, begins = np.zeros((count, 88), bool), np.zeros((count, 88), bool)
    for note in played:
        begin = round(float(note["onset"]) * 20)
        end = max(begin + 1, round(float(note["onset"] + note["duration"]) * 20))
        sounds[begin:end, note["pitch"] - 21] = True
        begins[begin : begin + 2, note["pitch"] - 21] = True
    active, onset = note_rolls(played, count, 20)
    assert np.array_equal(active, sounds)
    assert np.array_equal(onset, begins)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([SpectrogramConfig(), PAPER]))
def test_compression_is_the_spectrograms_own(seed: int, config: SpectrogramConfig) -> None:
    rng = np.random.default_rng(seed)
    power = rng.gamma(0.3, 1, (300, config.bins)) * 10 ** rng.uniform(-8, 1, (300, 1))
    power = power.astype(np.float32)
    np.testing.assert_allclose(
        compress(power, config), Spectrogram(config).compress(power), rtol=2e-5, atol=1e-6
    )


def test_targets_stand_where_the_last_onset_stands() -> None:
    piece = draw_piece()
    performance = perform(piece, np.random.default_rng(0), MECHANICAL)
    grid = Grid(Warp((HEIGHT, WIDTH), (320, 224), (0, 0, WIDTH, HEIGHT), (8, 16, 200, 300)), 80, 56)
    times = np.arange(0, 12, 0.05) + 0.025
    chosen, system, column = place_targets(performance, piece, 1, times, grid)
    assert times[chosen].min() == pytest.approx(0.5 + 20 * 0.25 + 0.025)
    for frame, its_system, its_column in zip(chosen, system, column, strict=True):
        note = piece.notes[min(int((times[frame] - 0.5) / 0.25), 39)]
        assert its_system == note["system"]
        assert its_column == pytest.approx((8 + float(note["x"]) * 200) / 4, abs=1e-3)


def test_target_cells_are_a_hump_on_the_right_system() -> None:
    systems = [SystemRows(6, 14, 3, 26), SystemRows(22, 30, 2, 27)]
    none = torch.zeros(0)
    places = torch.tensor([[0, 10.5], [1, 10.5], [1, 2.2]])
    sample = PageSample(
        none, systems, none, none, none, none, none, none, torch.zeros(3, 2), places
    )
    cells = sample.target_cells(torch.tensor([2, 0, 1]))
    assert cells.shape == (3, 23 + 25)
    assert cells.argmax(1).tolist() == [23, 7, 23 + 8]
    torch.testing.assert_close(cells.sum(1), torch.ones(3))
    assert cells[1, 23:].sum() == 0
    assert cells[2, :23].sum() == 0
    assert float(cells[1, 7] / cells[1, 8]) == pytest.approx(np.exp(0.5 / data.SPREAD**2), rel=1e-4)
