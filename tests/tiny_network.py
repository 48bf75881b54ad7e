"""A network that is small enough to run in every test."""

from __future__ import annotations

import torch

from sf_plugin.audio.spectrogram import Band, SpectrogramConfig
from sf_plugin.unet.config import UNetConfig
from sf_plugin.unet.network import ScoreUNet

RATE = 4000
TINY = UNetConfig(
    channels=(2, 4, 4, 4, 4),
    groups=1,
    cells=8,
    audio_channels=8,
    audio_memory=4,
    spectrogram=SpectrogramConfig(sample_rate=RATE, lookahead=128, bands=(Band(512, 50, 70),)),
)


def random_network(seed: int = 0) -> ScoreUNet:
    """It hears notes all the time, and says other things of every frame."""
    torch.manual_seed(seed)
    net = ScoreUNet(TINY)
    with torch.no_grad():
        net.heard_pitches.bias.zero_()
        net.audio.deviation.fill_(0.2)
        net.block_i.query.weight.mul_(30)
    return net
