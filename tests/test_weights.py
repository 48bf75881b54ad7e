from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sf_plugin.audio.spectrogram import Band, SpectrogramConfig
from sf_plugin.errors import WeightsError
from sf_plugin.unet.config import CUNET, UNetConfig
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import VERSION, load_weights, save_weights

TINY = UNetConfig(
    channels=(2, 4, 4, 4, 4),
    groups=1,
    cells=8,
    audio_channels=8,
    audio_memory=4,
    spectrogram=SpectrogramConfig(bands=(Band(512, 60, 66, 24), Band(256, 70, 74))),
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_weights(ScoreUNet(TINY), path)
    return path


def rewrite(path: Path, **metadata: str | None) -> None:
    """The same tensors under other metadata; None leaves a field out."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        fields = {**file.metadata(), **metadata}
    save_file(tensors, path, {name: text for name, text in fields.items() if text is not None})


def complaint(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.__cause__ is None
    return message


def test_a_network_comes_back_with_its_configuration(weights: Path) -> None:
    torch.manual_seed(0)
    net, loaded = ScoreUNet(TINY), load_weights(weights)
    assert loaded.config == TINY
    assert not loaded.training
    state = loaded.state_dict()
    assert set(state) == set(net.state_dict())
    for name, value in net.state_dict().items():
        assert state[name].dtype == torch.float32
        torch.testing.assert_close(state[name], value.half().float(), rtol=0, atol=0)


def test_saving_what_was_loaded_changes_nothing(weights: Path, tmp_path: Path) -> None:
    first, again = load_weights(weights), tmp_path / "again.safetensors"
    save_weights(first, again)
    second = load_weights(again)
    assert second.config == first.config
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    assert sorted(path.name for path in tmp_path.iterdir()) == [again.name, weights.name]


def test_the_paper_setting_survives_saving(tmp_path: Path) -> None:
    path = tmp_path / "paper.safetensors"
    save_weights(ScoreUNet(CUNET), path)
    assert load_weights(path).config == CUNET


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such weights" in complaint(tmp_path / "none.safetensors")


def test_another_version(weights: Path) -> None:
    rewrite(weights, version=str(VERSION + 1))
    assert f"weights of version {VERSION + 1}, this program reads {VERSION}" in complaint(weights)
    rewrite(weights, version=None)
    assert "weights of version None" in complaint(weights)


def test_safetensors_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    assert "weights of version None" in complaint(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file(weights: Path, share: float) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data[: int(len(data) * share)])
    assert "not safetensors weights" in complaint(weights)


@pytest.mark.parametrize("data", [b"hello", b"\x00" * 64, b"\x89PNG\r\n\x1a\n" + b"\xff" * 200])
def test_a_file_of_another_kind(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(data)
    assert "not safetensors weights" in complaint(path)


def test_a_folder(tmp_path: Path) -> None:
    assert "not safetensors weights" in complaint(tmp_path)


class Bomb:
    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.fuse,)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    fuse = tmp_path / "exploded"
    plain, zipped = tmp_path / "plain.safetensors", tmp_path / "zipped.safetensors"
    plain.write_bytes(pickle.dumps(Bomb(fuse)))
    torch.save({"net": Bomb(fuse)}, zipped)
    for path in (plain, zipped):
        assert "not safetensors weights" in complaint(path)
    assert not fuse.exists()


CONFIGURATIONS = {
    "wider": replace(TINY, cells=16).to_dict(),
    "other audio": replace(TINY, audio="window", context=16).to_dict(),
    "published": CUNET.to_dict(),
    "an unknown field": {**TINY.to_dict(), "colour": "red"},
    "a missing field": {k: v for k, v in TINY.to_dict().items() if k != "strides"},
    "a block that is none": {**TINY.to_dict(), "film": "Z"},
    "channels that are no numbers": {**TINY.to_dict(), "channels": ["a"] * 5},
    "too few channels": {**TINY.to_dict(), "channels": [2, 4]},
    "groups that do not divide": {**TINY.to_dict(), "groups": 3},
    "a list": [1, 2],
    "nothing": None,
}


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_weights_that_do_not_fit_their_configuration(weights: Path, config: Any) -> None:
    rewrite(weights, config=json.dumps(config))
    assert "do not fit their configuration" in complaint(weights)


@pytest.mark.parametrize("text", [None, "", "{", "not json"])
def test_a_configuration_that_cannot_be_read(weights: Path, text: str | None) -> None:
    rewrite(weights, config=text)
    assert "do not fit their configuration" in complaint(weights)
