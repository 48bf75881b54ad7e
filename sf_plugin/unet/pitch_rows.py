"""One row of the ear for every pitch: the same weights for all, looking at its harmonics.

After Wei et al., "HPPNet: Modeling the Harmonic Structure and Pitch Invariance in
Piano Transcription" (ISMIR 2022): what is learned of one pitch holds for all.  Here
everything is causal, and every row has a memory that is also told what the whole ear
makes of the moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sf_plugin.audio.spectrogram import SpectrogramConfig
from sf_plugin.unet.staff_reader import PITCHES

HEARD = ("sounding", "beginning", "last", "second last", "third last")
"""What is said of every pitch: it sounds now, it begins now, it began at the
last onset, at the one before, at the one before that."""
LOWEST = 21  # MIDI
HARMONICS = (-12, -1, 0, 1, 12, 19, 24, 28, 31, 34)
"""Semitones from a pitch to the filters its row looks at: the octave below, its
neighbours, and the partials."""
OTHERS = (-24, -19, -12, -1, 0, 1, 12, 19, 24)
"""Semitones from a pitch to the rows that may explain what it sees."""
TAPS = 3  # frames that a convolution over time sees
LOOKS = 3  # tensors that looking remembers

State = list[Tensor]


def offsets(first: int, count: int, steps: tuple[int, ...]) -> Tensor:
    """(88, steps) index of what lies `steps` semitones beside every pitch; `count` where nothing.

    Of a row of `count` things, one a semitone, whose first is at MIDI number `first`.
    """
    index = torch.arange(PITCHES)[:, None] + LOWEST - first + torch.tensor(steps)
    return torch.where((index >= 0) & (index < count), index, count)


class OverTime(nn.Module):
    """A causal dilated convolution over the time of (batch, time, 88, channels)."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.linear = nn.Linear(TAPS * inputs, outputs)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        count, reach = x.shape[1], (TAPS - 1) * self.dilation
        if past is None:
            past = x.new_zeros(len(x), reach, *x.shape[2:])
        seen = torch.cat([past, x], 1)
        taps = [seen[:, k * self.dilation : k * self.dilation + count] for k in range(TAPS)]
        return self.linear(torch.cat(taps, 3)), seen[:, count:]


class PitchRows(nn.Module):
    """Rows of features, then what is said of every pitch."""

    def __init__(self, spectrogram: SpectrogramConfig, channels: int, told: int) -> None:
        """`told` is the width of what the whole ear makes of a moment."""
        super().__init__()
        index, begin = [], 0
        for band in spectrogram.bands:
            count = len(band.centres())
            places = offsets(round(band.lowest), count, HARMONICS)
            index.append(torch.where(places < count, places + begin, spectrogram.bins))
            begin += count
        self.filters: Tensor
        self.register_buffer("filters", torch.cat(index, 1), persistent=False)
        self.enter = OverTime(self.filters.shape[1], channels, 1)
        self.pitch = nn.Parameter(torch.zeros(PITCHES, channels))
        self.explain = nn.Linear(len(OTHERS) * channels, channels)
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(3)])
        self.over_time = nn.ModuleList([OverTime(channels, channels, d) for d in (2, 4)])
        self.tell = nn.Linear(channels, 2)
        self.moment = nn.Linear(told, channels)
        self.memory = nn.GRU(2 * channels, channels, batch_first=True)
        self.say = nn.Linear(2 * channels, len(HEARD))

    def look(self, frames: Tensor, past: State | None) -> tuple[Tensor, State]:
        """(batch, time, bins) to (batch, time, 88, channels) rows, and what to remember."""
        kept: State = []
        before: Iterator[Tensor | None] = iter(past) if past else repeat(None)
        seen = F.pad(frames, (0, 1))[..., self.filters]
        x, rest = self.enter(seen, next(before))
        kept.append(rest)
        x = x + self.pitch
        far = OTHERS[-1]
        around = F.pad(F.elu(self.norms[0](x)), (0, 0, far, far))
        others = [around[:, :, far + step : far + step + PITCHES] for step in OTHERS]
        x = x + self.explain(torch.cat(others, 3))
        for norm, layer in zip(self.norms[1:], self.over_time, strict=True):
            y, rest = layer(F.elu(norm(x)), next(before))
            kept.append(rest)
            x = x + y
        return F.elu(x), kept

    def remember(self, rows: Tensor, told: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows and (batch, time, told) to (batch, time, 5, 88) logits, and the memory."""
        batch, _, pitches, _ = rows.shape
        moment = self.moment(told)[:, :, None].expand(-1, -1, pitches, -1)
        x = torch.cat([rows, moment], 3).transpose(1, 2).flatten(0, 1)
        y, memory = self.memory(x, memory)
        y = y.unflatten(0, (batch, pitches)).transpose(1, 2)
        return self.say(torch.cat([rows, y], 3)).transpose(2, 3), memory


class Norm:
    """A layer norm of a few numbers, without the cost of calling it as a layer."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.LayerNorm)
        self._shape, self._eps = list(layer.normalized_shape), layer.eps
        self._weight, self._bias = layer.weight, layer.bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class RowStream:
    """`PitchRows` a frame at a time: what they make of the whole, without calling their layers.

    The weights are laid out once, those of the moment and of the memory as one product, and
    what the rows remember stays in place.
    """

    def __init__(self, rows: PitchRows) -> None:
        self._filters = rows.filters.flatten()
        self._enter = rows.enter.linear.weight.T.contiguous()
        self._base = rows.pitch + rows.enter.linear.bias
        self._explain = rows.explain.weight.T.contiguous(), rows.explain.bias
        self._norms = [Norm(norm) for norm in rows.norms]
        self._layers = []
        for layer in rows.over_time:
            assert isinstance(layer, OverTime)
            weight, bias = layer.linear.weight.T.contiguous(), layer.linear.bias
            self._layers.append((weight, bias, layer.dilation))
        self._tell = rows.tell.weight.T.contiguous(), rows.tell.bias
        self._say = rows.say.weight.T.contiguous(), rows.say.bias
        (self.channels,) = rows.tell.weight.shape[1:]
        self._lay_out_memory(rows)
        self.reset()

    def _lay_out_memory(self, rows: PitchRows) -> None:
        """One product of rows and memory for both gates, and for what is new of each."""
        n = self.channels
        seen, kept, seen_bias, kept_bias = rows.memory.all_weights[0]
        gates = torch.cat([seen[: 2 * n, :n], kept[: 2 * n]], 1)
        new = torch.cat([seen[2 * n :, :n], torch.zeros(n, n)], 1)
        old = torch.cat([torch.zeros(n, n), kept[2 * n :]], 1)
        self._memory = torch.cat([gates, new, old]).T.contiguous()
        self._moment = torch.cat(
            [seen[:, n:] @ rows.moment.weight, torch.zeros(n, rows.moment.in_features)]
        )
        told = seen[:, n:] @ rows.moment.bias + seen_bias
        told[: 2 * n] += kept_bias[: 2 * n]
        self._moment_bias = torch.cat([told, kept_bias[2 * n :]])

    def reset(self) -> None:
        """Forget what was heard."""
        n, far = self.channels, OTHERS[-1]
        width = len(self._enter) // TAPS
        self._frame = torch.zeros(int(self._filters.max()) + 1)
        self._seen = torch.zeros(PITCHES, TAPS * width)
        self._around = torch.zeros(PITCHES + 2 * far, n)
        self._here = self._around[far : far + PITCHES]
        self._others = [self._around[far + step : far + step + PITCHES] for step in OTHERS]
        self._past = [torch.zeros(2 * d + 1, PITCHES, n) for _, _, d in self._layers]
        self._count = 0
        self._joint = torch.zeros(PITCHES, 2 * n)
        self._rows, self._kept = self._joint[:, :n], self._joint[:, n:]

    def look(self, frame: Tensor) -> Tensor:
        """(bins,) to the (2 * 88,) logits of what is told of every pitch at first sight."""
        seen = self._seen
        width = seen.shape[1] // TAPS
        seen[:, :-width] = seen[:, width:].clone()
        self._frame[:-1] = frame
        seen[:, -width:] = self._frame.index_select(0, self._filters).view(PITCHES, width)
        x = torch.addmm(self._base, seen, self._enter)
        self._here.copy_(F.elu_(self._norms[0](x)))
        weight, bias = self._explain
        x += torch.addmm(bias, torch.cat(self._others, 1), weight)
        for past, norm, (weight, bias, far) in zip(
            self._past, self._norms[1:], self._layers, strict=True
        ):
            reach = len(past)
            now = self._count % reach
            past[now] = F.elu_(norm(x))
            taps = torch.cat([past[now - 2 * far], past[now - far], past[now]], 1)
            x += torch.addmm(bias, taps, weight)
        self._count += 1
        self._rows.copy_(F.elu_(x))
        weight, bias = self._tell
        return torch.addmm(bias, self._rows, weight).flatten()

    def remember(self, told: Tensor) -> Tensor:
        """(told,) to the (5 * 88,) logits of `HEARD`, with what was last looked at."""
        moment = torch.addmv(self._moment_bias, self._moment, told)
        gates, new, old = torch.addmm(moment, self._joint, self._memory).split(
            [2 * self.channels, self.channels, self.channels], 1
        )
        take, keep = torch.sigmoid(gates).chunk(2, 1)
        new = torch.addcmul(new, take, old).tanh_()
        self._kept.copy_(torch.lerp(new, self._kept, keep))
        weight, bias = self._say
        return torch.addmm(bias, self._joint, weight).T.flatten()
