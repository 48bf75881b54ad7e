"""Block I a frame at a time: what `ScoreUNet.place_logits` gives, without calling its layers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sf_plugin.unet.network import Onsets, ScoreUNet
from sf_plugin.unet.pitch_rows import HEARD
from sf_plugin.unet.staff_reader import PITCHES
from sf_plugin.unet.streaming import Product

Floats = NDArray[np.float32]


class AskedOnsets:
    """Onsets as the head asks about them; `at_hand` copies them into the quickest order."""

    def __init__(self, onsets: Onsets, *, at_hand: bool = False) -> None:
        cells = onsets.key.shape[1] - PITCHES
        self.learned, self.read = onsets.key[:, :cells].T, onsets.key[:, cells:]
        if at_hand:
            self.learned, self.read = self.learned.contiguous(), self.read.contiguous()
        self.narrow, self.prior = onsets.narrow, onsets.prior
        self.conditioned = torch.zeros(self.narrow.shape)
        self.follows = [onsets.follows[back:, back - 1].numpy().copy() for back in (1, 2)]


class Head:
    """What is heard of every pitch in a frame, and how likely each onset is the last played.

    Sums of a few numbers are numpy's, in the memory of torch's products.
    """

    def __init__(self, net: ScoreUNet) -> None:
        block, self._told = net.block_i, net.audio.out
        heard, query, film = net.heard_pitches, block.query, block.film
        ones = torch.zeros_like(film.bias)
        ones[: block.NARROW] = 1  # a scale is one and what the audio adds
        self._say = Product(
            torch.cat([heard.weight, query.weight, film.weight]),
            torch.cat([heard.bias, query.bias, film.bias + ones]),
        )
        gain, self._onset, self._sustain = block.match.tolist()
        self._gains = np.array([gain, *block.grams.tolist()], np.float32)
        self._query_scale = block.scale
        self._weight = block.weight.detach().clone()
        parts = [len(heard.bias), len(query.bias), block.NARROW, block.NARROW]
        self._said = torch.zeros(1, sum(parts))
        self._logits, self._query, self._scale, self._shift = self._said.split(parts, 1)
        self._heard = self._logits.view(len(HEARD), PITCHES).numpy()
        wanted = torch.zeros(len(HEARD) - 2, PITCHES)
        self._wanted, self._wanted_columns = wanted.numpy(), wanted.T

    def hear(self, z: Tensor, onsets: AskedOnsets) -> tuple[Floats, Floats]:
        """(audio,) of a frame to (onsets,) logits.

        Also the (5, 88) probabilities of `HEARD`, which stand there until the next frame.
        """
        z = z[None]
        self._said.copy_(self._say(z[:, : self._told]))
        if z.shape[1] > self._told:
            self._logits.add_(z[:, self._told :])
        self._logits.sigmoid_()
        self._query.mul_(self._query_scale)
        now, before = self._heard[:2], self._heard[2:]
        wanted = np.concatenate([self._sustain * now[:1] + self._onset * now[1:], before])
        length = np.sqrt(np.einsum("ij,ij->i", wanted, wanted) + np.float32(0.1))
        wanted *= (self._gains / length)[:, None]
        self._wanted[:] = wanted[1:]
        self._wanted[0] += wanted[0]
        return self.ask(onsets), self._heard

    def ask(self, onsets: AskedOnsets) -> Floats:
        """(onsets,) logits of the frame that was heard last."""
        conditioned = torch.addcmul(self._shift, onsets.narrow, self._scale, out=onsets.conditioned)
        F.silu(conditioned, inplace=True)
        answers = torch.mm(onsets.read, self._wanted_columns).numpy()
        known = torch.addmm(onsets.prior, self._query, onsets.learned)[0]
        logits: Floats = known.addmv_(conditioned, self._weight).numpy()
        logits += answers[:, 0]
        for back, follows in enumerate(onsets.follows, 1):
            logits[back:] += answers[:-back, back] * follows
        return logits
