from __future__ import annotations

import pickle
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_set import (
    BINS,
    FRAMES,
    NOTES_A_SYSTEM,
    SMALL_CANVAS,
    TINY,
    TINY_PAPER,
    draw_piece,
    write_set,
    write_templates,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sf_plugin.audio.spectrogram import PAPER, Spectrogram, SpectrogramConfig
from sf_plugin.dataset import templates as note_templates
from sf_plugin.dataset.engraving import NOTE, SIGN, STAFF, SYSTEM, Engraving
from sf_plugin.dataset.paper import PAPERS, Warp, spoil
from sf_plugin.dataset.perform import MECHANICAL
from sf_plugin.dataset.perform import NOTE as PLAYED
from sf_plugin.dataset.shards import ShardSet, ShardWriter
from sf_plugin.dataset.templates import Templates
from sf_plugin.errors import ScoreError
from sf_plugin.training import data
from sf_plugin.training.checkpoints import Learner
from sf_plugin.training.data import Groups, Sampler, Take, compress, note_rolls
from sf_plugin.training.losses import (
    MASK_MARGIN,
    MASK_WIDTH,
    NEAR,
    WEIGHTS,
    losses,
    match_onsets,
    onset_masks,
    staff_loss,
)
from sf_plugin.training.oracles import ORACLES, right
from sf_plugin.training.page_truth import Grid, StaffTruth, bottom_line, staff_truth
from sf_plugin.training.train import learning_rate
from sf_plugin.unet.config import UNetConfig
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.staff_reader import (
    ALTERATIONS,
    CELL_PIXELS,
    CLEFS,
    KEYS,
    LOWEST,
    STEPS,
    Reading,
    key_table,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_templates(tmp_path_factory.mktemp("templates") / "templates.npz")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_set(tmp_path_factory.mktemp("set"))


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
        assert 0 <= scores["right"] <= scores["near"] <= 1
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
    assert first["place"] == pytest.approx(np.log(4 * NOTES_A_SYSTEM), rel=0.4)
    assert curve[-1] < 0.95 * curve[0]
    assert learn(sampler, 6) == (first, curve)


def test_every_weight_learns(sampler: Sampler) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(TINY)
    terms, _ = losses(net, next(sampler.pairs(0)), 40)
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in net.named_parameters():
        if name.startswith("bars."):  # `train_bars` teaches them
            assert parameter.grad is None, name
            continue
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
            both, frames=both.frames[one], heard=both.heard[one],
            target_frames=frames, target_onsets=both.target_onsets[mine],
        ))  # fmt: skip
    with torch.no_grad():
        whole, *single = (losses(net, (s,), FRAMES)[0] for s in (both, *parts))
    counts = [len(part.target_frames) for part in parts]
    mean = sum(n * s["place"] for n, s in zip(counts, single, strict=True)) / sum(counts)
    torch.testing.assert_close(whole["place"], mean, rtol=1e-4, atol=1e-5)
    audio = sum(s["audio"] for s in single) / 2
    torch.testing.assert_close(whole["audio"], audio, rtol=1e-4, atol=1e-5)


@pytest.fixture
def paper_pair(
    tmp_path: Path, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> tuple[data.PageSample, ...]:
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    templates = write_templates(tmp_path / "templates.npz", PAPER)
    return Sampler(shards, Templates(templates, PAPER), PAPER, 2).pair(0, 0)


def test_the_published_network_learns(paper_pair: tuple[data.PageSample, ...]) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(TINY_PAPER)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    curve = []
    for _ in range(12):
        torch.manual_seed(1)
        terms, scores = losses(net, paper_pair)
        assert 0 <= scores["right"] <= scores["near"] <= 1
        optimiser.zero_grad()
        sum(terms.values(), torch.tensor(0.0)).backward()
        optimiser.step()
        curve.append(float(terms["place"].detach()))
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert curve[-1] < 0.95 * curve[0]


class OneDevice(TorchDispatchMode):
    """Fails where something that is not a single number comes from another device."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> object:
        values = tree_leaves((args, kwargs))
        kinds = {v.device.type for v in values if isinstance(v, torch.Tensor) and v.dim()}
        assert len(kinds) < 2 or "copy" in str(func), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [TINY, TINY_PAPER])
def test_losses_stay_on_the_samples_device(
    config: UNetConfig,
    sampler: Sampler,
    paper_pair: tuple[data.PageSample, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a device that holds no numbers; what must come to the CPU is made up."""
    device = torch.device("meta")
    pair = sampler.pair(0, 0) if config is TINY else paper_pair
    moved = tuple(sample.to(device) for sample in pair)
    net = ScoreUNet(config).to(device)
    rows = torch.zeros((20, 1), dtype=torch.long, device=device)
    for name, made_up in (
        ("cpu", lambda x: torch.zeros(x.shape)),
        ("tolist", lambda x: [0, FRAMES - 1]),
        ("unique", lambda x: x),
        ("nonzero", lambda x: rows),
        ("__int__", lambda x: 1),
    ):
        monkeypatch.setattr(torch.Tensor, name, made_up)
    monkeypatch.setattr(torch, "nonzero", lambda x, as_tuple: (rows[:, 0],) * 2)
    monkeypatch.setattr(torch, "autocast", lambda *how, **more: nullcontext())
    with OneDevice():
        terms, _ = losses(net, moved, 40)
    assert {term.device for term in terms.values()} == {device}


def test_masks_lie_around_the_heads(paper_pair: tuple[data.PageSample, ...]) -> None:
    sample = paper_pair[0]
    shape = (393, 278)
    masks = onset_masks(sample, torch.arange(len(sample.onset_cells)), shape)
    assert masks.shape == (len(sample.heads), *shape)
    grid = torch.tensor(sample.maps.shape[1:])
    for mask, (row, column, _) in zip(masks, sample.heads, strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert len(rows) in (2 * MASK_MARGIN, 2 * MASK_MARGIN + 1)
        assert len(columns) in (MASK_WIDTH, MASK_WIDTH + 1)
        at = (torch.stack([row, column]) + 0.5) / grid * torch.tensor(shape)
        assert float(rows.float().mean() + 0.5 - at[0]) == pytest.approx(0, abs=0.51)
        assert float(columns.float().mean() + 0.5 - at[1]) == pytest.approx(0, abs=0.51)


def test_the_learning_rate_warms_up_and_falls() -> None:
    assert learning_rate(0, 0, 1.0) == pytest.approx(1 / 150)
    assert learning_rate(149, 0, 1.0) == pytest.approx(1)
    assert learning_rate(1000, 0.5, 1.0) == pytest.approx(0.51)
    assert learning_rate(1000, 1, 1.0) == pytest.approx(0.02)
    assert learning_rate(1000, 7, 1.0) == pytest.approx(0.02)
    falling = [learning_rate(1000, done, 1.0) for done in np.linspace(0, 1, 20)]
    assert all(one > two for one, two in pairwise(falling))


def parts(sample: data.PageSample) -> dict[str, object]:
    """All that a sample holds, its staves' truth by its own parts."""
    return vars(sample) | vars(sample.staves) | {"staves": None}


def same(one: object, other: object) -> bool:
    """Whether two pairs of samples are equal to the last bit."""
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)
    return all(
        torch.equal(value, parts(b)[name])
        if isinstance(value, torch.Tensor)
        else value == parts(b)[name]
        for a, b in zip(one, other, strict=True)
        for name, value in parts(a).items()
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
        assert len(sample.target_onsets) == len(sample.target_frames)
        assert 0 <= int(sample.target_onsets.min()) <= int(sample.target_onsets.max())
        assert int(sample.target_onsets.max()) < len(sample.onset_cells)
        assert int((sample.onset_cells - sample.cell_heads[:, 0]).abs().max()) <= 1
        assert (sample.onset_pitches.sum(1) == 1).all()
        assert (sample.onset_lengths == 0).all()
        assert sample.heads.shape == (2 * NOTES_A_SYSTEM, 3)
        assert sample.cell_heads.shape == (2 * NOTES_A_SYSTEM, 2)
        assert sample.head_onsets.tolist() == list(range(2 * NOTES_A_SYSTEM))
        assert int(sample.cell_heads[:, 0].max()) < sample.cells
        assert sample.heard.shape == (2, FRAMES, 5, 88)
        performance, frame = sample.target_frames.T
        last = sample.heard[performance, frame, 2]
        assert torch.equal(last, sample.onset_pitches[sample.target_onsets])


def test_a_sample_goes_to_a_device_whole(sampler: Sampler) -> None:
    moved = sampler.pair(7, 0)[0].to(torch.device("meta"))
    tensors = [value for value in parts(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == len(parts(moved)) - 2
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_tied_head_begins_at_no_onset(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    piece = draw_piece(pages=1)
    piece.notes["tied"][3] = True
    writer = ShardWriter(tmp_path)
    writer.add("tied", piece, {"use": "train"})
    sample = Sampler(writer.finish(), Templates(templates), SpectrogramConfig()).pair(0, 0)[0]
    assert sample.head_onsets.tolist()[:6] == [0, 1, 2, -1, 3, 4]


def test_shares_of_a_step_are_dealt_in_turn(sampler: Sampler) -> None:
    for number in range(2):
        with closing(sampler.pairs(7, 1, share=(number, 2))) as stream:
            assert same(next(stream), sampler.pair(7, 2 + number))
            assert same(next(stream), sampler.pair(7, 4 + number))


def test_every_performance_can_be_put_in_a_room(
    shards: ShardSet, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[np.ndarray] = []

    def smeared(power: np.ndarray, *where: object) -> np.ndarray:
        heard.append(power)
        return power

    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    monkeypatch.setattr(note_templates, "smeared", smeared)
    for rooms, expected in ((0.0, 0), (1.0, 20)):
        sampler = Sampler(shards, Templates(templates), SpectrogramConfig(), 5, rooms=rooms)
        for step in range(2):
            sampler.pair(0, step)
        assert len(heard) == expected


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
def test_maps_and_heads_lie_on_the_ink(tmp_path: Path, templates: Path, paper: str) -> None:
    """A page whose systems are solid black is dark where the maps say, and white elsewhere."""
    piece = draw_piece(pages=1)
    piece.pages = np.full((1, 1200, 848), 255, np.uint8)
    for s in piece.systems:
        box = np.round([s["top"] * 1200, s["bottom"] * 1200, s["left"] * 848, s["right"] * 848])
        top, bottom, left, right = box.astype(int)
        piece.pages[0, top:bottom, left:right] = 0
    writer = ShardWriter(tmp_path)
    writer.add("black", piece, {"use": "train"})
    printed = PAPERS[paper]
    sampler = Sampler(writer.finish(), Templates(templates), SpectrogramConfig(), paper=printed)
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


def test_note_rolls_mark_what_sounds_and_what_begins() -> None:
    played = np.zeros(3, PLAYED)
    played["onset"], played["duration"] = [0.5, 1.0, 7.0], [0.25, 9.0, 1.0]
    played["pitch"] = [60, 108, 21]
    active, onset = note_rolls(played, 30, 20)
    assert np.flatnonzero(active[:, 60 - 21]).tolist() == [10, 11, 12, 13, 14]
    assert np.flatnonzero(onset[:, 60 - 21]).tolist() == [10, 11, 12]
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
        begins[begin : begin + 3, note["pitch"] - 21] = True
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


def test_onset_groups_know_their_pitches_and_how_long_they_last() -> None:
    notes = np.zeros(5, NOTE)
    notes["onset"] = [0, 0, 0.25, 0.25, 0.75]
    notes["pitch"] = [60, 64, 62, 65, 67]
    notes["length"] = [0.25, 1, 0.5, 0.5, 0.5]
    notes["tied"] = [False, False, False, True, False]
    groups = Groups.of(notes)
    assert [np.flatnonzero(row).tolist() for row in groups.pitches] == [[39, 43], [41], [46]]
    assert groups.lengths.tolist() == [0, 1, 1]


def test_a_take_that_breaks_off_goes_on_elsewhere() -> None:
    rng = np.random.default_rng(0)
    piece = draw_piece()
    first = Take.of(piece, MECHANICAL, slice(2, 6), rng)
    second = Take.of(piece, MECHANICAL, slice(20, 24), rng)
    both = first.then(second, 1.5)
    assert both.groups.tolist() == [2, 3, 4, 5, 20, 21, 22, 23]
    assert both.times[4] - both.times[3] == pytest.approx(1.5)
    assert np.diff(both.times[4:]).tolist() == pytest.approx(np.diff(second.times).tolist())
    assert np.allclose(np.sort(both.notes["onset"]), both.times)
    index = both.last_onsets(np.array([0.0, both.times[0] + 0.01, both.times[4] + 0.01]))
    assert index.tolist() == [-1, 0, 4]
    groups = Groups.of(piece.notes)
    last = both.last_pitches(index, groups)
    assert not last[0].any()
    assert not last[1, 1:].any()
    expected = [groups.pitches[group] for group in (20, 5, 4)]
    assert np.array_equal(last[2], expected)


@given(st.sets(st.integers(0, 60), min_size=1), st.lists(st.integers(0, 60), min_size=1))
def test_every_true_onset_is_read_at_or_near_its_cell(found: set[int], true: list[int]) -> None:
    true_cells = torch.tensor(sorted(true))
    at, place = match_onsets(torch.tensor(sorted(found)), true_cells)
    assert found <= set(at.tolist())
    assert (at.diff() > 0).all()
    away = (at[place] - true_cells).abs()
    assert int(away.max()) <= NEAR
    missed = [cell for cell in true if min(abs(cell - f) for f in found) > NEAR]
    assert set(at.tolist()) - found == set(missed)


# staves

FLAT = Grid(Warp((600, 400), (600, 400), (0, 0, 400, 600), (0, 0, 400, 600)), 150, 100)


def draw_staves(
    notes: list[tuple[int, int, int, int]], signs: list[tuple[int, int, str, str]]
) -> Engraving:
    """Two systems of two staves, treble and bass without signs of key, and more.

    Staves count through, from 0: notes are (staff, column, step, pitch), signs (staff, column,
    kind, value); the page is 100 columns wide.
    """
    systems, staves = np.zeros(2, SYSTEM), np.zeros(4, STAFF)
    rows: list[tuple[Any, ...]] = []
    for i in range(2):
        systems[i] = (0, 0, 2, 0.1 + 0.4 * i, 0.4 + 0.4 * i, 0.1, 0.9)
        for k, clef in enumerate(("treble", "bass")):
            top = 0.1 + 0.4 * i + 0.22 * k
            staves[2 * i + k] = (i, top, top + 0.08)
            rows.append((i, k, 0.105, top + 0.04, 0, "clef", clef))
    for staff, column, kind, value in signs:
        x = (column + 0.5) / 100
        rows.append((staff // 2, staff % 2, x, staves[staff]["top"] + 0.04, 0, kind, value))
    table = np.zeros(len(notes), NOTE)
    for row, (staff, column, step, pitch) in zip(table, notes, strict=True):
        row["system"], row["staff"], row["pitch"] = staff // 2, staff % 2, pitch
        row["x"] = (column + 0.5) / 100
        row["y"] = staves[staff]["bottom"] - 0.01 * step
    page = np.full((1, 600, 400), 255, np.uint8)
    return Engraving(page, table, systems, staves, np.zeros(0), signs=np.array(rows, SIGN))


def truth_of(piece: Engraving, grid: Grid = FLAT) -> StaffTruth:
    return staff_truth(piece, np.arange(2), piece.notes, grid, np.random.default_rng(0))


def told(truth: StaffTruth) -> list[tuple[int, int, int, int | None]]:
    """(staff, step, column, alteration) of every head."""
    alterations = [None if a < 0 else ALTERATIONS[a] for a in truth.alterations.tolist()]
    return [
        (staff, row + LOWEST, column, alteration)
        for (staff, row, column, _), alteration in zip(
            truth.heads.tolist(), alterations, strict=True
        )
    ]


def test_heads_stand_on_steps_with_what_alters_them() -> None:
    notes = [(0, 30, 0, 64), (0, 30, 3, 70), (1, 50, 10, 60), (2, 40, -2, 59), (3, 70, 8, 55)]
    truth = truth_of(draw_staves(notes, []))
    assert told(truth) == [
        (0, 0, 30, 0), (0, 3, 30, 1), (1, 10, 50, 0), (2, -2, 40, -1), (3, 8, 70, -2),
    ]  # fmt: skip
    assert truth.system.tolist() == [0, 0, 1, 1]
    assert truth.heads[:, 3].tolist() == [1] * 5
    assert (truth.clefs[:, :10] == -100).all()
    assert [CLEFS[c] for c in truth.clefs[:, 50]] == [30, 18, 30, 18]
    assert [KEYS[k] for k in truth.keys[:, 50]] == [0] * 4


def test_clefs_and_keys_hold_from_where_they_stand() -> None:
    signs = [(0, 13, "key", "-3"), (0, 50, "clef", "bass"), (0, 70, "key", "2")]
    notes = [(0, 40, 0, 64), (0, 60, 0, 43), (2, 60, 0, 64)]
    truth = truth_of(draw_staves(notes, signs))
    assert told(truth) == [(0, 0, 40, 0), (0, 0, 60, 0), (2, 0, 60, 0)]
    first = truth.clefs[0].tolist()
    assert [first.index(letter - CLEFS.start) for letter in (30, 18)] == [10, 50]
    assert [KEYS[k] for k in truth.keys[0, [20, 69, 70, 99]]] == [-3, -3, 2, 2]
    assert [KEYS[k] for k in truth.keys[2, [20, 99]]] == [0, 0]
    assert truth.start.tolist() == [[10, 36], [10, 36], [10, 56], [10, 56]]


def test_under_an_ottava_the_bottom_line_has_another_name() -> None:
    notes = [(0, 30, 8, 89), (0, 40, 8, 77), (1, 30, -4, 24)]
    truth = truth_of(draw_staves(notes, []))
    assert told(truth) == [(0, 8, 30, 0), (0, 8, 40, 0), (1, -4, 30, 0)]
    assert [CLEFS[c] for c in truth.clefs[0, [29, 30, 31, 40]]] == [30, 37, 30, 30]
    assert CLEFS[truth.clefs[1, 30]] == 11


def test_what_is_not_known_is_left_out() -> None:
    notes = [(0, 40, 0, 64), (0, 60, 0, 64), (1, 40, 0, 90), (1, 60, 25, 85), (0, 70, 0, 64)]
    piece = draw_staves(notes, [(0, 50, "clef", "percussion")])
    piece.notes["staff"][4] = -1
    truth = truth_of(piece)
    assert told(truth) == [(0, 0, 40, 0), (0, 0, 60, None), (1, 0, 40, None)]
    assert (truth.clefs[0, 50:] == -100).all()
    assert CLEFS[truth.clefs[0, 49]] == 30


def test_a_tied_head_stands_there_and_does_not_begin() -> None:
    piece = draw_staves([(0, 40, 0, 64), (0, 60, 0, 64)], [])
    piece.notes["tied"][1] = True
    assert truth_of(piece).heads[:, 3].tolist() == [1, 0]
    assert truth_of(piece).alterations.tolist() == [2, 2]


def test_bottom_lines_of_clefs() -> None:
    names = ("treble", "treble_8", "treble^8", "bass", "bass_8", "alto", "tenor", "soprano", "tab")
    assert [bottom_line(name) for name in names] == [30, 23, 37, 18, 11, 24, 22, 28, -1]


@pytest.mark.parametrize("paper", ["engraved", "bad scan", "photo"])
def test_lines_follow_the_page_where_it_is_bent(paper: str) -> None:
    """A quarter of a staff space off at most points: a detector is not exact either."""
    piece = draw_staves([(0, 40, 0, 64)], [])
    image, warp = spoil(piece.pages[0], np.random.default_rng(5), PAPERS[paper], canvas=(608, 432))
    truth = truth_of(piece, Grid(warp, 152, 108))
    off = []
    for lines, staff in zip(truth.lines.numpy(), piece.staves, strict=True):
        x = np.linspace(0.1, 0.9, 400)
        for line, edge in zip(lines, ("top", "bottom"), strict=True):
            u, v = warp.points(x, np.full_like(x, staff[edge]))
            centre = CELL_PIXELS * (np.arange(108) + 0.5)
            inside = (centre > u[0] * 432) & (centre < u[-1] * 432)
            off.append(line[inside] - np.interp(centre[inside], u * 432, v * 608))
    space = float(np.mean(truth.lines[:, 1].numpy() - truth.lines[:, 0].numpy())) / 4
    away = np.abs(np.concatenate(off)) / space
    assert image.shape == (608, 432)
    assert (away < 0.25).mean() > 0.97
    assert away.mean() > 0.01


def right_reading(truth: StaffTruth, level: float) -> Reading:
    """Logits of the truth, where it is known; nothing is said of the rest."""
    staves, columns = truth.clefs.shape
    begins = torch.full((staves, STEPS, columns), -level)
    alteration = torch.zeros(staves, len(ALTERATIONS), STEPS, columns)
    for (staff, row, column, begun), altered in zip(
        truth.heads.tolist(), truth.alterations.tolist(), strict=True
    ):
        begins[staff, row, column] = level if begun else -level
        if altered >= 0:
            alteration[staff, altered, row, column] = level
    clef, key = torch.zeros(staves, columns, len(CLEFS)), torch.zeros(staves, 2, 7)
    staff, column = torch.nonzero(truth.clefs >= 0, as_tuple=True)
    clef[staff, column, truth.clefs[staff, column]] = level
    for staff, (_, end) in enumerate(truth.start.tolist()):
        number = int(truth.keys[staff, end - 1])
        if number >= 0:
            key[staff] = level * (2 * key_table()[number] - 1)
    return Reading(begins, alteration, clef, key)


def test_the_staves_loss_falls_for_the_truth_alone() -> None:
    signs = [(0, 13, "key", "-3"), (0, 50, "clef", "percussion")]
    notes = [(0, 40, 0, 64), (0, 60, 0, 64), (1, 40, 0, 90), (2, 50, 4, 71)]
    piece = draw_staves(notes, signs)
    piece.notes["tied"][3] = True
    truth = truth_of(piece)
    truth.keys[3] = -100
    falling = [
        float(staff_loss(right_reading(truth, level), truth)) for level in (0.0, 2.0, 5.0, 25.0)
    ]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 1e-4
    for name, place, counts in (
        ("clef", (0, 40, 0), True),
        ("clef", (0, 70, 0), False),
        ("alteration", (0, 0, -LOWEST, 40), True),
        ("alteration", (0, 0, -LOWEST, 60), False),
        ("key", (0, 0, 3), True),
        ("key", (1, 1, 3), True),
        ("key", (3, 0, 0), False),
    ):
        reading = right_reading(truth, 25.0)
        getattr(reading, name)[place] = 100
        assert (float(staff_loss(reading, truth)) > 0.1) == counts, (name, place)
    reading = right_reading(truth, 25.0)
    beside, away = (0, 0 - LOWEST, 41), (0, 0 - LOWEST, 43)
    reading.begins[beside] = 25
    assert float(staff_loss(reading, truth)) < 1e-4
    reading.begins[away] = 25
    assert float(staff_loss(reading, truth)) > 1


def test_a_page_without_known_heads_has_a_finite_loss() -> None:
    piece = draw_staves([(0, 40, 0, 64)], [])
    piece.notes["staff"] = -1
    truth = truth_of(piece)
    assert len(truth.heads) == 0
    assert 0 < float(staff_loss(right_reading(truth, 1.0), truth)) < float("inf")


def test_a_page_encoder_that_is_frozen_stays_as_it_is(sampler: Sampler) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(TINY)
    frozen = (net.page, net.pitch_maps, net.maps, net.bars)
    for part in frozen:
        part.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    learner = Learner(net, 1e-2)
    terms, _ = losses(net, sampler.pair(0, 0), 40)
    assert set(WEIGHTS) - set(terms) == {"heads", "maps"}
    torch.stack(list(terms.values())).sum().backward()
    assert learner.update(1e-2)
    kept = {id(parameter) for part in frozen for parameter in part.parameters()}
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in kept), name
        same_as_before = torch.equal(parameter.detach(), before[name])
        assert same_as_before or id(parameter) not in kept, name
    assert not torch.equal(net.strip.enter.weight, before["strip.enter.weight"])
    assert not torch.equal(net.staff.squeeze.weight, before["staff.squeeze.weight"])


def test_who_is_told_all_is_more_often_right(sampler: Sampler) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(TINY).eval()
    block = net.block_i
    with torch.no_grad():
        for part in (block.query, block.prior, block.film):
            for parameter in part.parameters():
                parameter.zero_()
        block.weight.zero_()
        block.match.zero_()
        block.grams.copy_(torch.tensor([8.0, 4.0, 2.0]))
    shares = right(net, [sampler.pair(0, step) for step in range(3)])
    assert set(shares) == {*ORACLES, "pitches"}
    assert shares["both"] > 0.4 > 2 * shares["as it is"]
    assert all(0 <= share <= 1 for share in shares.values())
