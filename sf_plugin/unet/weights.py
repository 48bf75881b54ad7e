"""Weights as safetensors, with the configuration they belong to."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sf_plugin.errors import WeightsError
from sf_plugin.unet.config import UNetConfig
from sf_plugin.unet.network import ScoreUNet

VERSION = 3
SHIPPED = Path(__file__).with_name("default.safetensors")


def save_weights(net: ScoreUNet, path: Path) -> None:
    """Write half-precision weights beside `path`, then rename."""
    save_halves(net, path, {"version": str(VERSION), "config": json.dumps(net.config.to_dict())})


def save_halves(net: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """The same of any network; what it counts stays whole numbers."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
    }
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    partial.chmod(0o644)
    partial.replace(path)


def load_weights(path: Path = SHIPPED) -> ScoreUNet:
    """The network of `path`, ready to follow.

    Raises:
        WeightsError: the file is missing, damaged or of another version.
    """
    if not path.exists():
        raise WeightsError(
            f"{path}: no such weights; reinstall sf-plugin or train (docs/training.md)"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = next(iter(str(error).splitlines()), "unreadable")
        raise WeightsError(f"{path}: not safetensors weights ({reason})") from None
    if metadata.get("version") != str(VERSION):
        raise WeightsError(
            f"{path}: weights of version {metadata.get('version')}, this program reads {VERSION};"
            " reinstall sf-plugin or retrain"
        )
    try:
        net = ScoreUNet(UNetConfig.from_dict(json.loads(metadata["config"])))
        net.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise WeightsError(
            f"{path}: the weights do not fit their configuration; reinstall sf-plugin or retrain"
        ) from None
    net.eval()
    net.page.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net
