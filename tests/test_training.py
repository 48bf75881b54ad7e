from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_plugin.audio.spectrogram import Spectrogram, SpectrogramConfig
from sf_plugin.dataset import split
from sf_plugin.dataset.engraving import BAR, NOTE, STAFF, SYSTEM, Engraving
from sf_plugin.dataset.perform import MECHANICAL, perform
from sf_plugin.dataset.perform import NOTE as PLAYED
from sf_plugin.dataset.templates import FRAMES, PHASES, VELOCITIES, Templates, augment
from sf_plugin.training import data, train
from sf_plugin.training.data import (
    CANVAS,
    Placement,
    Sampler,
    note_rolls,
    place_targets,
    spoil_page,
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
def templates_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A piano whose notes are one bin each, decaying."""
    path = tmp_path_factory.mktemp("templates") / "templates.npz"
    level = np.zeros((len(VELOCITIES), PHASES, 88, FRAMES, BINS), np.uint8)
    for pitch in range(88):
        level[:, :, pitch, :, pitch * BINS // 88] = 190 - np.arange(FRAMES)
    np.savez(path, tiny=level)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pieces")
    draw_piece().save(made / "train--tiny--0.npz")
    return made


@pytest.fixture
def sampler(folder: Path, templates_file: Path, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    return Sampler(folder, Templates(templates_file), SpectrogramConfig())


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
    first, curve = learn(sampler, 8)
    assert set(first) == set(WEIGHTS)
    assert np.isfinite(list(first.values())).all()
    cells = next(sampler.pairs(0))[0].cells * 2
    assert first["place"] == pytest.approx(np.log(cells), rel=0.4)
    assert curve[-1] < 0.95 * curve[0]
    assert learn(sampler, 8) == (first, curve)


def test_every_weight_learns(sampler: Sampler) -> None:
    torch.manual_seed(0)
    net = ScoreUNet(TINY)
    terms, _ = losses(net, next(sampler.pairs(0)), 40)
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_training_resumes_where_it_stopped(
    folder: Path, templates_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(data, "CANVAS", SMALL_CANVAS)
    monkeypatch.setitem(train.CONFIGS, "default", TINY)
    run = tmp_path / "run"

    def steps(count: int) -> dict[str, object]:
        words = ["train", folder, templates_file, run, "--steps", count, "--threads", 1]
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


def test_samples_are_reproducible_and_fit_together(sampler: Sampler) -> None:
    one, other = next(sampler.pairs(7)), next(sampler.pairs(7))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.frames, b.frames)
        assert torch.equal(a.target_cells, b.target_cells)
    assert not torch.equal(one[0].frames, next(sampler.pairs(8))[0].frames)
    for sample in one:
        rows, columns = SMALL_CANVAS[0] // 4, SMALL_CANVAS[1] // 4
        assert sample.image.shape == (1, 1, *SMALL_CANVAS)
        assert 0 <= float(sample.image.min()) <= float(sample.image.max()) <= 1
        assert sample.frames.shape == (data.FRAMES, BINS)
        assert torch.isfinite(sample.frames).all()
        assert sample.maps.shape == (3, rows, columns)
        assert len(sample.systems) == 2
        assert sample.target_cells.shape == (len(sample.target_frames), sample.cells)
        torch.testing.assert_close(
            sample.target_cells.sum(1), torch.ones(len(sample.target_frames)), atol=1e-3, rtol=0
        )
        assert sample.heads.shape == (2 * NOTES_A_SYSTEM, 3)
        assert sample.cell_heads.shape == (2 * NOTES_A_SYSTEM, 2)
        assert int(sample.cell_heads[:, 0].max()) < sample.cells
        assert sample.active.shape == sample.onset.shape == (data.FRAMES, 88)
        assert (sample.onset <= sample.active + sample.active.roll(1, 0)).all()


def test_heads_lie_in_their_systems_on_the_canvas(sampler: Sampler) -> None:
    for sample in next(sampler.pairs(3)):
        for row, column, pitch in sample.heads.tolist():
            assert any(s.top <= row < s.bottom for s in sample.systems)
            assert any(s.left <= column < s.right for s in sample.systems)
            assert 60 <= pitch + 21 < 80
        inside = sample.maps[0].bool()
        assert 0.05 < float(inside.float().mean()) < 0.3
        assert (sample.maps[2].bool() <= inside).all()


def test_a_folder_without_pieces_is_named(tmp_path: Path, templates_file: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no engraved pieces"):
        Sampler(tmp_path, Templates(templates_file), SpectrogramConfig())


def test_spoilt_pages_stay_where_their_placement_says() -> None:
    image = np.full((400, 300), 255, np.uint8)
    image[100:106, 60:66] = 0
    image[300:306, 240:246] = 0
    for seed in range(12):
        ink, placement = spoil_page(image, np.random.default_rng(seed))
        assert ink.shape == CANVAS
        assert ink.dtype == np.float32
        assert 0 <= placement.left <= CANVAS[1] - placement.width
        assert 0 <= placement.top <= CANVAS[0] - placement.height
        for row, column in ((103, 63), (303, 243)):
            x = float(placement.columns(np.array(column / 300))) * 4
            y = float(placement.rows(np.array(row / 400))) * 4
            around = ink[round(y) - 15 : round(y) + 16, round(x) - 15 : round(x) + 16]
            dark = np.argwhere(around > 0.8 * around.max()).mean(0) - 15
            assert np.abs(dark).max() < 2, seed


def test_note_rolls_mark_what_sounds_and_what_begins() -> None:
    played = np.zeros(2, PLAYED)
    played["onset"], played["duration"], played["pitch"] = [0.5, 1.0], [0.25, 9.0], [60, 108]
    performance = perform(draw_piece(), np.random.default_rng(0), MECHANICAL)
    performance.notes = played
    active, onset = note_rolls(performance, 30, 20)
    assert np.flatnonzero(active[:, 60 - 21]).tolist() == [10, 11, 12, 13, 14]
    assert np.flatnonzero(onset[:, 60 - 21]).tolist() == [10, 11]
    assert np.flatnonzero(active[:, 87]).tolist() == list(range(20, 30))
    assert active.sum() == 15


def test_targets_stand_where_the_last_onset_stands() -> None:
    piece = draw_piece()
    performance = perform(piece, np.random.default_rng(0), MECHANICAL)
    systems = [SystemRows(6, 14, 3, 26), SystemRows(22, 30, 2, 27)]
    placement = Placement(0, 0, WIDTH, HEIGHT)
    times = np.arange(0, 12, 0.05) + 0.025
    chosen, target = place_targets(performance, 1, 2, systems, times, placement)
    assert times[chosen].min() == pytest.approx(0.5 + 20 * 0.25 + 0.025)
    for frame, cells in zip(chosen, target, strict=True):
        note = piece.notes[min(int((times[frame] - 0.5) / 0.25), 39)]
        system = int(note["system"]) - 2
        first = systems[0].right - systems[0].left if system else 0
        cell = first + float(note["x"]) * WIDTH / 4 - systems[system].left
        assert abs(int(cells.argmax()) + 0.5 - cell) <= 0.51
        assert cells.sum() == pytest.approx(1, abs=0.01)


def one_note(onset: float, pitch: int, duration: float = 1.0, velocity: int = 60) -> np.ndarray:
    note = np.zeros(1, PLAYED)
    note["onset"], note["pitch"] = onset, pitch
    note["duration"], note["velocity"] = duration, velocity
    return note


def test_synthesised_notes_begin_on_their_frame_and_add_up(templates_file: Path) -> None:
    templates = Templates(templates_file)

    def power(notes: np.ndarray) -> np.ndarray:
        return templates.synthesise(notes, 60, np.random.default_rng(0))

    low, high = one_note(1.0, 48), one_note(1.5, 84)
    first, second = power(low), power(high)
    assert first.shape == (60, BINS)
    loud = first.sum(1) > 1e-3 * first.sum(1).max()
    assert loud.argmax() == 20
    assert not loud[45:].any()
    np.testing.assert_allclose(power(np.concatenate([low, high])), first + second, rtol=1e-5)
    louder = power(one_note(1.0, 48, velocity=75))
    assert louder[20].max() / first[20].max() == pytest.approx((75 / 60) ** 4, rel=1e-3)


def test_augmented_power_stays_power(templates_file: Path) -> None:
    power = Templates(templates_file).synthesise(one_note(0.5, 60), 100, np.random.default_rng(0))
    for seed in range(20):
        spoilt = augment(power, np.random.default_rng(seed))
        assert spoilt.shape == power.shape
        assert spoilt.dtype == np.float32
        assert np.isfinite(spoilt).all()
        assert (spoilt >= 0).all()
        features = Spectrogram(SpectrogramConfig()).compress(spoilt)
        quiet, loud = features[:8].mean(), features[10:14, (60 - 21) * BINS // 88].mean()
        assert loud > quiet, seed


def melody(seed: int, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 60 + np.cumsum(rng.integers(-4, 5, count)) % 24


def save_notes(path: Path, pitches: np.ndarray, length: float = 0.25) -> None:
    notes = np.zeros(len(pitches), NOTE)
    notes["pitch"], notes["length"] = pitches, length
    notes["onset"] = np.arange(len(pitches)) * length
    image = np.zeros((1, 4, 4), np.uint8)
    Engraving(image, notes, np.zeros(1, SYSTEM), np.zeros(1, STAFF), np.zeros(1, BAR)).save(path)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("split")
    held, ours = melody(1), melody(2)
    pieces = {
        "valid--held": (held, 0.25),
        "train--edition": (held, 0.125),
        "train--transposed": (held + 5, 0.25),
        "train--longer": (np.concatenate([melody(3), held[:30], melody(4)]), 0.25),
        "train--other": (melody(5), 0.25),
        "train--other2": (melody(6), 0.25),
        "train--paid": (melody(7), 0.25),
        "train--unlicensed": (melody(8), 0.25),
        "none--a-first": (ours, 0.25),
        "none--b-second": (melody(9), 0.25),
        "none--c-demo-piece": (melody(10), 0.25),
        "train--of-ours": (ours - 3, 0.5),
        "train--of-demo": (melody(10) + 1, 0.25),
    }
    manifest = []
    for name, (pitches, length) in pieces.items():
        save_notes(folder / f"{name}--0.npz", pitches, length)
        licence = {"paid": "All rights reserved", "unlicensed": None}.get(
            name.split("--")[1], "Public Domain"
        )
        manifest.append({"path": f"{name.split('--')[1]}.ly", "license": licence})
    return split.choose(folder, manifest, "demo")


def test_another_edition_or_transposition_of_a_held_out_piece_is_left_out(
    chosen: dict[str, list[str]],
) -> None:
    assert chosen["valid"] == ["valid--held--0"]
    for name in ("edition", "transposed", "longer"):
        assert f"train--{name}--0" in chosen["same"]


def test_our_own_held_out_pieces_are_kept_out_of_training_too(chosen: dict[str, list[str]]) -> None:
    assert set(chosen["extra"]) == {"none--a-first--0", "none--c-demo-piece--0"}
    assert {"train--of-ours--0", "train--of-demo--0"} <= set(chosen["same"])


def test_only_free_pieces_are_trained_on(chosen: dict[str, list[str]]) -> None:
    assert chosen["licence"] == ["train--paid--0", "train--unlicensed--0"]
    assert sorted(chosen["train"]) == [
        "none--b-second--0", "train--other--0", "train--other2--0",
    ]  # fmt: skip


def test_every_piece_has_one_use(chosen: dict[str, list[str]]) -> None:
    stems = [stem for stems in chosen.values() for stem in stems]
    assert len(stems) == len(set(stems)) == 13


def test_the_choice_is_written_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_notes(tmp_path / "train--a--0.npz", melody(1))
    manifest, out = tmp_path / "manifest.json", tmp_path / "split.json"
    manifest.write_text(json.dumps([{"path": "a.ly", "license": "Creative Commons BY"}]))
    monkeypatch.setattr(sys, "argv", ["split", str(tmp_path), str(manifest), str(out)])
    split.main()
    assert json.loads(out.read_text())["train"] == ["train--a--0"]


def test_a_fingerprint_knows_the_melody_not_its_pitch_rhythm_or_accompaniment() -> None:
    notes = np.zeros(40, NOTE)
    notes["pitch"], notes["onset"] = melody(1, 40), np.arange(40) / 4
    base = split.fingerprint(notes)
    assert len(base) >= 20
    other = notes.copy()
    other["pitch"] += 7
    other["onset"] *= 3
    assert split.fingerprint(other) == base
    below = notes.copy()
    below["pitch"] = 40
    both = np.concatenate([notes, below])[np.argsort(np.tile(np.arange(40), 2), kind="stable")]
    assert split.fingerprint(both) == base
    tied = np.insert(notes, 5, notes[4])
    tied["tied"][5], tied["pitch"][5] = True, 100
    assert split.fingerprint(tied) == base
    assert split.overlap(base, split.fingerprint(notes[:20])) == 1
    assert split.overlap(base, set()) == 0
    assert split.fingerprint(notes[:0]) == set()
