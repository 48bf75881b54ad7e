from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from sf_plugin.audio.spectrogram import SpectrogramConfig
from sf_plugin.dataset.perform import NOTE
from sf_plugin.training.compare_sound import Rendered, deaf
from sf_plugin.unet.weights import load_weights


@pytest.mark.skipif(not shutil.which("fluidsynth"), reason="fluidsynth is not installed")
def test_rendered_notes_sound_when_they_should() -> None:
    config = SpectrogramConfig()
    notes = np.zeros(2, NOTE)
    notes["onset"], notes["duration"] = [0.5, 1.5], 0.4
    notes["pitch"], notes["velocity"] = [60, 72], 80
    power = Rendered(config).synthesise(notes, 60, np.random.default_rng(0))
    assert power.shape == (60, config.bins)
    loud = power.sum(1)
    assert loud[:9].max() < 1e-3 * loud.max()
    assert loud[11:14].min() > 1e-2 * loud.max()
    assert loud[31] > 10 * loud[27]
    beyond = Rendered(config).synthesise(notes, 25, np.random.default_rng(0))
    assert np.allclose(beyond[:20], power[:20], rtol=1e-3, atol=1e-9)


def test_only_the_ear_is_new() -> None:
    shipped, net = load_weights(), deaf(seed=0)
    ear = {n for n, _ in net.named_parameters() if n.startswith(("audio.", "heard_pitches."))}
    old = dict(shipped.named_parameters())
    for name, value in net.named_parameters():
        assert value.requires_grad == (name in ear)
        assert name in ear or torch.equal(value, old[name])
    assert not all(torch.equal(dict(net.named_parameters())[n], old[n]) for n in ear)
    assert torch.equal(net.audio.mean, shipped.audio.mean)
    again = dict(deaf(seed=0).named_parameters())
    assert all(torch.equal(again[n], dict(net.named_parameters())[n]) for n in ear)
