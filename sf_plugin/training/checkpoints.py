"""What a run keeps, to go on from it, and what it begins with."""

from __future__ import annotations

import copy
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sf_plugin.errors import ScoreFollowerError, WeightsError
from sf_plugin.unet.network import ScoreUNet

KEEP = 0.998
"""Of the average, each step, once there were some."""


class TrainingError(ScoreFollowerError):
    """A run that cannot begin or go on."""


@dataclass
class Counts:
    """Where a run is.

    Attributes:
        spent: seconds.
        skipped: steps whose gradients were not finite.
        best: loss of the place at the best validation; None before the first.
        waited: validations since.
    """

    step: int = 0
    spent: float = 0.0
    skipped: int = 0
    best: float | None = None
    waited: int = 0


class Learner:
    """A network that learns, its running average, the optimiser, and how far they are.

    A step's random choices follow from its number, so this is all there is to keep.
    """

    def __init__(self, net: ScoreUNet, rate: float) -> None:
        self.net, self.average = net, copy.deepcopy(net)
        learning = [p for p in net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(learning, lr=rate, weight_decay=1e-2)
        self.counts = Counts()

    def update(self, rate: float) -> bool:
        """One step down the gradients, clipped, and the average's; False if they are not finite."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 2.0)
        finite = bool(torch.isfinite(norm))
        if finite:
            self.optimiser.step()
        self.counts.step += 1
        self.counts.skipped += not finite
        keep = min(KEEP, self.counts.step / (self.counts.step + 20))
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(new, 1 - keep)
        return finite

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            **asdict(self.counts),
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load(self, path: Path) -> None:
        """Go on from `path`.

        Raises:
            TrainingError: it is damaged, or of another network.
        """
        try:
            saved = torch.load(path, "cpu", weights_only=True)
            self.net.load_state_dict(saved.pop("net"))
            self.average.load_state_dict(saved.pop("average"))
            self.optimiser.load_state_dict(saved.pop("optimiser"))
            self.counts = Counts(**saved)
        except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, TypeError, ValueError):
            raise TrainingError(
                f"{path}: is damaged or of another network: choose another folder for the run, "
                "or remove it to begin again"
            ) from None


def begin_with(net: ScoreUNet, path: Path) -> int:
    """Take over every tensor of the weights that `net` has under its name and in its shape.

    Returns:
        How many.

    Raises:
        WeightsError: they cannot be read.
    """
    known = net.state_dict()
    try:
        with safe_open(path, "pt") as file:
            names = [n for n in file.keys() if n in known]  # noqa: SIM118
            tensors = {name: file.get_tensor(name).float() for name in names}
    except (SafetensorError, OSError) as error:
        reason = next(iter(str(error).splitlines()), "unreadable")
        raise WeightsError(f"{path}: not safetensors weights ({reason})") from None
    taken = {name: t for name, t in tensors.items() if t.shape == known[name].shape}
    net.load_state_dict(known | taken)
    return len(taken)
