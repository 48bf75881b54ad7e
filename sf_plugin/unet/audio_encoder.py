"""From spectrogram frames to one conditioning vector a frame; causal, with explicit state.

The vector's first `out` numbers condition the score; those after them are what the
encoder says of every pitch, as logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sf_plugin.unet.config import UNetConfig
from sf_plugin.unet.pitch_rows import HEARD, LOOKS, PitchRows, RowStream
from sf_plugin.unet.staff_reader import PITCHES
from sf_plugin.unet.streaming import Norm, Product, Taps, laid_out

State = list[Tensor]
"""What an encoder remembers between calls; start with None."""


class CausalConv(nn.Module):
    """A dilated convolution over time that looks only back; time is dimension 2."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int = 1, bins: int = 0, hop: int = 1
    ) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        if bins:  # (batch, channels, time, bins)
            self.conv: nn.Conv1d | nn.Conv2d = nn.Conv2d(
                inputs,
                outputs,
                (kernel, bins),
                stride=(1, hop),
                padding=(0, bins // 2),
                dilation=(dilation, 1),
            )
        else:  # (batch, channels, time)
            self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        if past is None:
            shape = list(x.shape)
            shape[2] = self.past
            past = x.new_zeros(shape)
        x = torch.cat([past, x], 2)
        return self.conv(x), x[:, :, x.shape[2] - self.past :]


class CausalEncoder(nn.Module):
    """Two convolutions over time and pitch, four dilated ones over time, an LSTM; pitch rows.

    About 1.6 s of hearing before the LSTM.  `forward` takes (batch, frames,
    bins) and the state, and gives (batch, frames, out + 5 * 88) and the new
    state; cutting the frames into calls changes nothing.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        bins, width = config.spectrogram.bins, config.audio_channels
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("deviation", torch.ones(bins))
        self.spectral = nn.ModuleList(
            [CausalConv(1, 16, 3, bins=5), CausalConv(16, 24, 3, bins=5, hop=2)]
        )
        self.project = nn.Linear(24 * ((bins + 1) // 2), width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4)])
        self.temporal = nn.ModuleList(
            [CausalConv(width, width, 3, dilation=2 ** (i + 1)) for i in range(4)]
        )
        self.memory = nn.LSTM(width, config.audio_memory, batch_first=True)
        self.out = config.audio_memory + width
        self.width = self.out + len(HEARD) * PITCHES
        self.rows = PitchRows(config.spectrogram, config.pitch_rows, self.out)
        self.hint = nn.Linear(2 * PITCHES, width)

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        past = iter(state[LOOKS:]) if state is not None else None

        def take() -> Tensor | None:
            return next(past) if past is not None else None

        x = (frames - self.mean) / self.deviation
        looked = state[:LOOKS] if state is not None else None
        rows, kept = self.rows.look(x, looked)
        hint = self.hint(torch.sigmoid(self.rows.tell(rows)).flatten(2))
        x = x.unsqueeze(1)
        for layer in self.spectral:
            x, rest = layer(x, take())
            kept.append(rest)
            x = F.elu(x)
        x = self.project(x.permute(0, 2, 1, 3).flatten(2)) + hint
        for norm, layer in zip(self.norms, self.temporal, strict=True):
            y, rest = layer(F.elu(norm(x)).transpose(1, 2), take())
            kept.append(rest)
            x = x + y.transpose(1, 2)
        hidden, cell = take(), take()
        start = (hidden, cell) if hidden is not None else None
        y, (hidden, cell) = self.memory(x, start)
        told = torch.cat([x, y], 2)
        facts, memory = self.rows.remember(rows, told, take())
        return torch.cat([told, facts.flatten(2)], 2), [*kept, hidden, cell, memory]


class WindowEncoder(nn.Module):
    """The published encoder: a convolutional stack over the last 40 frames, then an LSTM."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.context = config.context
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(config.spectrogram.bins))
        self.register_buffer("deviation", torch.ones(config.spectrogram.bins))

        def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
                nn.GroupNorm(1, outputs),
                nn.ELU(),
            )

        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 24), (24, 48), (48, 96), (96, 96)):
            layers += [conv(inputs, outputs), conv(outputs, outputs), nn.MaxPool2d(2)]
        self.stack = nn.Sequential(*layers, conv(96, 96, 1), nn.Flatten())
        with torch.no_grad():
            size = self.stack(torch.zeros(1, 1, config.context, config.spectrogram.bins)).shape[1]
        self.project = nn.Sequential(
            nn.Linear(size, config.audio_channels), nn.LayerNorm(config.audio_channels), nn.ELU()
        )
        self.memory = nn.LSTM(config.audio_channels, config.audio_memory, batch_first=True)
        self.out = self.width = config.audio_memory

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        batch, count, bins = frames.shape
        if state is None:
            past, start = frames.new_zeros(batch, self.context - 1, bins), None
        else:
            past, start = state[0], (state[1], state[2])
        heard = torch.cat([past, (frames - self.mean) / self.deviation], 1)
        windows = heard.unfold(1, self.context, 1).transpose(2, 3)
        encoded = self.project(self.stack(windows.reshape(-1, 1, self.context, bins)))
        y, (hidden, cell) = self.memory(encoded.reshape(batch, count, -1), start)
        return y, [heard[:, count:], hidden, cell]


def audio_encoder(config: UNetConfig) -> CausalEncoder | WindowEncoder:
    return CausalEncoder(config) if config.audio == "causal" else WindowEncoder(config)


class Stream:
    """An encoder that hears one frame at a time and remembers; what the whole would give."""

    def __init__(self, encoder: CausalEncoder | WindowEncoder) -> None:
        self.encoder = encoder
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._state: State | None = None

    def hear(self, frame: Tensor) -> Tensor:
        """(bins,) to what the encoder gives of it."""
        z, self._state = self.encoder(frame[None, None], self._state)
        return z[0, 0]


def convolutions(layers: nn.ModuleList) -> list[CausalConv]:
    """The layers as what they are."""
    return [layer for layer in layers if isinstance(layer, CausalConv)]


class CausalStream(Stream):
    """The causal encoder a frame at a time, without the cost of calling its layers.

    The weights are laid out once for products with one vector, and what the layers
    remember stays in place.
    """

    def __init__(self, encoder: CausalEncoder) -> None:
        self._pitches = RowStream(encoder.rows)
        self._mean, self._deviation = encoder.mean, encoder.deviation
        self._spectral = []
        for layer in convolutions(encoder.spectral):
            weight, bias = layer.conv.parameters()  # (outputs, inputs, taps, bins)
            seen = weight.permute(0, 3, 2, 1).flatten(1)
            self._spectral.append((laid_out(seen), bias.detach(), layer.conv.stride[1]))
        project = encoder.project.weight.unflatten(1, (len(bias), -1)).transpose(1, 2).flatten(1)
        hint = encoder.hint.weight.unflatten(1, (PITCHES, 2)).transpose(1, 2).flatten(1)
        self._project = Product(
            torch.cat([project, hint], 1), encoder.project.bias + encoder.hint.bias
        )
        self._temporal = []
        for norm, layer in zip(encoder.norms, convolutions(encoder.temporal), strict=True):
            weight, bias = layer.conv.parameters()
            product = Product(weight.transpose(1, 2).flatten(1), bias)
            self._temporal.append((Norm(norm), product, layer.conv.dilation[0]))
        from_input, from_hidden, bias, more_bias = encoder.memory.all_weights[0]
        take, forget, new, tell = torch.arange(len(bias)).chunk(4)
        order = torch.cat([take, forget, tell, new])  # sigmoids side by side
        gates = torch.cat([from_input, from_hidden], 1)[order]
        self._gates = Product(gates, (bias + more_bias)[order])
        super().__init__(encoder)

    def reset(self) -> None:
        encoder = self.encoder
        assert isinstance(encoder, CausalEncoder)
        self._pitches.reset()
        bins, channels = len(self._mean), 1
        self._frame = self._pitches.frame
        self._first = self._frame[:, None]
        self._seen = []
        for _, bias, hop in self._spectral:
            seen = Taps(bins, channels, margin=2)
            seen.windows = [window.unfold(0, 5, hop).transpose(1, 2) for window in seen.windows]
            bins, channels = len(seen.windows[0]), len(bias)
            self._seen.append((seen, torch.zeros(bins, channels)))
        self._looked = torch.zeros(1, bins * channels + 2 * PITCHES)
        self._seen[-1] = seen, self._looked[0, : bins * channels].view(bins, channels)
        self._hinted = self._looked[0, bins * channels :].view(2, PITCHES)
        width, kept = encoder.project.out_features, encoder.memory.hidden_size
        self._past = [Taps(1, width, dilation) for *_, dilation in self._temporal]
        self._told = torch.zeros(1, width + kept)
        self._now, self._hidden = self._told[:, :width], self._told[:, width:]
        self._open = torch.zeros(1, 4 * kept)
        self._sigmoids = self._open[:, : 3 * kept]
        self._take, self._forget, self._tell, self._new = self._open.chunk(4, 1)
        self._cell = torch.zeros(1, kept)
        self._told_row = self._told[0]

    def hear(self, frame: Tensor) -> Tensor:
        torch.sub(frame, self._mean, out=self._frame).div_(self._deviation)
        torch.sigmoid(self._pitches.look(), out=self._hinted)
        x = self._first
        for (seen, out), (weight, bias, _) in zip(self._seen, self._spectral, strict=True):
            x = F.elu_(torch.addmm(bias, seen.see(x).flatten(1), weight, out=out))
        x = self._project(self._looked)
        for past, (norm, product, _) in zip(self._past, self._temporal, strict=True):
            x += product(past.see(F.elu_(norm(x))))
        self._now.copy_(x)
        self._open.copy_(self._gates(self._told))
        self._sigmoids.sigmoid_()
        self._cell.mul_(self._forget).addcmul_(self._take, self._new.tanh_())
        torch.mul(self._tell, self._cell.tanh(), out=self._hidden)
        facts = self._pitches.remember(self._told)
        return torch.cat([self._told_row, facts.view(-1)])


def audio_stream(encoder: CausalEncoder | WindowEncoder) -> Stream:
    """The quickest way to hear frame by frame."""
    return CausalStream(encoder) if isinstance(encoder, CausalEncoder) else Stream(encoder)
