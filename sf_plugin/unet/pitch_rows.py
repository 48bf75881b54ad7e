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
from sf_plugin.unet.streaming import TAPS, Norm, Taps, laid_out

HEARD = ("sounding", "beginning", "last", "second last", "third last")
"""What is said of every pitch: it sounds now, it begins now, it began at the
last onset, at the one before, at the one before that."""
LOWEST = 21  # MIDI
HARMONICS = (-12, -1, 0, 1, 12, 19, 24, 28, 31, 34)
"""Semitones from a pitch to the filters its row looks at: the octave below, its
neighbours, and the partials."""
OTHERS = (-24, -19, -12, -1, 0, 1, 12, 19, 24)
"""Semitones from a pitch to the rows that may explain what it sees."""
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


class RowStream:
    """`PitchRows` a frame at a time: what they make of the whole, without calling their layers.

    The weights are laid out once, those of the moment and of the memory as one product, and
    what the rows remember stays in place.
    """

    def __init__(self, rows: PitchRows) -> None:
        self._filters = rows.filters.flatten().int()
        self._enter = laid_out(rows.enter.linear.weight)
        self._base = (rows.pitch + rows.enter.linear.bias).detach()
        self._explain = laid_out(rows.explain.weight), rows.explain.bias.detach()
        self._norms = [Norm(norm) for norm in rows.norms]
        self._layers = []
        for layer in rows.over_time:
            assert isinstance(layer, OverTime)
            weight, bias = layer.linear.weight, layer.linear.bias
            self._layers.append((laid_out(weight), bias.detach(), layer.dilation))
        self._tell, self._say = (
            (layer.weight.detach(), layer.bias.detach()[:, None]) for layer in (rows.tell, rows.say)
        )
        (self.channels,) = rows.tell.weight.shape[1:]
        self._lay_out_memory(rows)
        self.reset()

    @torch.no_grad()
    def _lay_out_memory(self, rows: PitchRows) -> None:
        """One product of rows and memory for both gates, and for what is new of each."""
        n = self.channels
        seen, kept, seen_bias, kept_bias = rows.memory.all_weights[0]
        gates = torch.cat([seen[: 2 * n, :n], kept[: 2 * n]], 1)
        new = torch.cat([seen[2 * n :, :n], torch.zeros(n, n)], 1)
        old = torch.cat([torch.zeros(n, n), kept[2 * n :]], 1)
        self._memory = torch.cat([gates, new, old])
        self._moment = laid_out(rows.moment.weight), rows.moment.bias.detach()
        self._of_moment = laid_out(torch.cat([seen[:, n:], torch.zeros(n, n)]))
        gates_bias = seen_bias[: 2 * n] + kept_bias[: 2 * n]
        self._memory_bias = torch.cat([gates_bias, seen_bias[2 * n :], kept_bias[2 * n :]])

    def reset(self) -> None:
        """Forget what was heard."""
        n, far = self.channels, OTHERS[-1]
        width = len(self._enter) // TAPS
        self._frame = torch.zeros(int(self._filters.max()) + 1)
        self.frame = self._frame[:-1]
        """(bins,) of the present frame: to be written before `look`."""
        self._found = torch.zeros(len(self._filters))
        self._found_rows = self._found.view(PITCHES, width)
        self._seen = Taps(PITCHES, width)
        around = torch.zeros(PITCHES + 2 * far, n)
        self._here = around[far : far + PITCHES]
        self._others = [around[far + step : far + step + PITCHES] for step in OTHERS]
        self._around = torch.zeros(PITCHES, len(OTHERS) * n)
        self._past = [Taps(PITCHES, n, dilation) for *_, dilation in self._layers]
        # from here on a column for every pitch
        self._joint = torch.zeros(2 * n, PITCHES)
        self._rows, self._kept = self._joint[:n], self._joint[n:]
        self._rows_seen = self._rows.T
        self._told = torch.zeros(1, 4 * n)
        self._told_column = self._told.T
        self._gates = torch.zeros(4 * n, PITCHES)
        self._sigmoids = self._gates[: 2 * n]
        self._take, self._keep, self._new, self._old = self._gates.chunk(4)

    def look(self) -> Tensor:
        """The (2, 88) logits of what is told of every pitch at first sight of `frame`."""
        torch.index_select(self._frame, 0, self._filters, out=self._found)
        x = torch.addmm(self._base, self._seen.see(self._found_rows), self._enter)
        self._here.copy_(F.elu_(self._norms[0](x)))
        weight, bias = self._explain
        x += torch.addmm(bias, torch.cat(self._others, 1, out=self._around), weight)
        for past, norm, (weight, bias, _) in zip(
            self._past, self._norms[1:], self._layers, strict=True
        ):
            x += torch.addmm(bias, past.see(F.elu_(norm(x))), weight)
        self._rows_seen.copy_(F.elu_(x))
        weight, bias = self._tell
        return torch.addmm(bias, weight, self._rows)

    def remember(self, told: Tensor) -> Tensor:
        """(1, told) to the (5, 88) logits of `HEARD`, with what was last looked at."""
        weight, bias = self._moment
        moment = torch.addmm(bias, told, weight)
        torch.addmm(self._memory_bias, moment, self._of_moment, out=self._told)
        torch.addmm(self._told_column, self._memory, self._joint, out=self._gates)
        self._sigmoids.sigmoid_()
        self._new.addcmul_(self._take, self._old).tanh_()
        torch.lerp(self._new, self._kept, self._keep, out=self._kept)
        weight, bias = self._say
        return torch.addmm(bias, weight, self._joint)
