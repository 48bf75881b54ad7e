"""What is computed a frame, or a staff, at a time is what is computed of all at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sf_plugin.audio.spectrogram import Band, SpectrogramConfig
from sf_plugin.unet.config import UNetConfig
from sf_plugin.unet.follower import logsumexp
from sf_plugin.unet.head import AskedOnsets, Head
from sf_plugin.unet.network import Onsets, ScoreUNet
from sf_plugin.unet.staff_reader import PITCHES, StaffReader
from sf_plugin.unet.streaming import TAPS, Norm, Product, Taps, laid_out

torch.set_num_threads(1)

FEW_BINS = SpectrogramConfig(bands=(Band(512, 60, 75),))
SMALL = {
    "channels": (2, 4, 4, 6, 8),
    "groups": 1,
    "cells": 16,
    "audio_channels": 8,
    "audio_memory": 6,
    "spectrogram": FEW_BINS,
}
EARS = {
    "causal": UNetConfig(**SMALL),
    "window": UNetConfig(**SMALL, audio="window", context=16),
}


def network(config: UNetConfig, seed: int = 0) -> ScoreUNet:
    torch.manual_seed(seed)
    net = ScoreUNet(config).eval()
    with torch.no_grad():
        for parameter in (net.block_i.match, net.block_i.grams, net.heard_pitches.bias):
            parameter.add_(torch.randn_like(parameter))
    return net


def page(net: ScoreUNet, count: int) -> Onsets:
    cells = net.config.cells
    return net.block_i.prepare(torch.randn(count, cells), torch.rand(count, PITCHES))


@pytest.mark.parametrize("kind", EARS)
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.sampled_from([1, 2, 3, 7, 40]), min_size=1, max_size=4),
    at_hand=st.booleans(),
    shipped=st.booleans(),
)
def test_the_head_says_of_a_frame_what_the_network_says(
    kind: str, seed: int, counts: list[int], at_hand: bool, shipped: bool
) -> None:
    net = network(EARS[kind], seed)
    if shipped:
        net.load_state_dict({name: value.half() for name, value in net.state_dict().items()})
    with torch.inference_mode():
        pages = [page(net, count) for count in counts]
        whole = Onsets.join(pages)
        frames = torch.randn(3, net.audio.width)
        wanted, probabilities = net.place_logits(whole, frames)
        head, onsets = Head(net), AskedOnsets(whole, at_hand=at_hand)
        for n, z in enumerate(frames):
            logits, heard = head.hear(z, onsets)
            np.testing.assert_allclose(heard, probabilities[n], atol=1e-6, rtol=1e-4)
            np.testing.assert_allclose(logits, wanted[n], atol=3e-5, rtol=1e-4)
            some = slice(len(logits) // 2, len(logits))
            again = head.ask(AskedOnsets(whole.part(some)))
            np.testing.assert_allclose(again[2:], wanted[n, some][2:], atol=3e-5, rtol=1e-4)
            np.testing.assert_allclose(head.ask(onsets), logits, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_a_product_is_a_linear_layer_and_loses_nothing(
    seed: int, inputs: int, outputs: int, shipped: bool
) -> None:
    torch.manual_seed(seed)
    weight, bias, x = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(1, inputs)
    if shipped:
        weight = weight.half().float()
    wanted = F.linear(x, weight, bias)
    torch.testing.assert_close(Product(weight, bias)(x), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.addmm(bias, x, laid_out(weight)), wanted, atol=1e-5, rtol=1e-5)


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 2),
    st.integers(1, 40),
)
def test_taps_are_the_frames_a_dilation_apart(
    rows: int, width: int, dilation: int, margin: int, count: int
) -> None:
    frames = torch.rand(count, rows, width)
    taps = Taps(rows, width, dilation, margin)
    for n, frame in enumerate(frames):
        seen = taps.see(frame)
        for tap in range(TAPS):
            before = n - (TAPS - 1 - tap) * dilation
            wanted = torch.zeros(rows + 2 * margin, width)
            if before >= 0:
                wanted[margin : margin + rows] = frames[before]
            assert torch.equal(seen[:, tap * width : (tap + 1) * width], wanted)


def test_a_norm_is_the_layer() -> None:
    layer = torch.nn.LayerNorm(5)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.uniform_(-1, 1)
    x = torch.randn(7, 5)
    torch.testing.assert_close(Norm(layer)(x), layer(x))


def test_a_staff_is_read_alone_as_among_others() -> None:
    torch.manual_seed(0)
    reader = StaffReader(channels=8, memory=6).eval()
    crops = torch.rand(5, 1, 96, 4 * 30)
    start = torch.tensor([[2, 8], [0, 4], [5, 29], [1, 61], [3, 9]])
    together = reader(crops, start)  # as in training
    with torch.inference_mode():
        alone = reader(crops, start)
    for name in ("begins", "alteration", "clef", "key"):
        torch.testing.assert_close(
            getattr(alone, name), getattr(together, name).detach(), atol=1e-5, rtol=1e-4
        )


@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=9))
def test_the_logarithm_of_a_sum_of_exponentials(logits: list[float]) -> None:
    found = logsumexp(np.array(logits, np.float32))
    wanted = float(torch.tensor(logits, dtype=torch.float64).logsumexp(0))
    assert found == pytest.approx(wanted, abs=1e-4)
