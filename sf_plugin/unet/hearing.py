"""What the network says of a whole performance, computed when a stretch of it is asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sf_plugin.unet.network import Onsets, ScoreUNet

AT_ONCE = 32
"""Frames."""


class WholeLogits:
    """(frames, onsets) logits of the (frames, audio) vectors of a performance."""

    def __init__(self, net: ScoreUNet, onsets: Onsets, z: Tensor) -> None:
        self.net, self.onsets, self.z = net, onsets, z

    @torch.inference_mode()
    def __getitem__(self, frames: slice) -> NDArray[np.float32]:
        parts = self.z[frames].split(AT_ONCE)
        logits = [self.net.place_logits(self.onsets, z)[0] for z in parts]
        return np.asarray(torch.cat(logits).numpy(), np.float32)
