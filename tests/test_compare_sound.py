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
    fps = config.fps
    power = Rendered(config).synthesise(notes, 3 * fps, np.random.default_rng(0))
    assert power.shape == (3 * fps, config.bins)
    loud = power.sum(1)
    assert loud[: round(0.45 * fps)].max() < 1e-3 * loud.max()
    assert loud[round(0.55 * fps) : round(0.7 * fps)].min() > 1e-2 * loud.max()
    assert loud[round(1.55 * fps)] > 10 * loud[round(1.4 * fps)]
    beyond = Rendered(config).synthesise(notes, round(1.25 * fps), np.random.default_rng(0))
    assert np.allclose(beyond[:fps], power[:fps], rtol=1e-3, atol=1e-9)


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
