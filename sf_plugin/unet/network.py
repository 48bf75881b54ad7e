"""The image U-Net: blocks A to I, FiLM where the audio speaks, a cache per page.

After Henkel, Kelz and Widmer, "Learning to Read and Follow Music in Complete
Score Sheet Images" (ISMIR 2020).  Blocks before the first conditioned one see
only the page and are computed once; the rest is computed per frame.

With the "strip" readout the page is read down to block H; the systems found on
it are collapsed to one row of cells in reading order and the onsets are found
on it.  The pitches at each are read off the straightened staves.  Block I,
conditioned on the audio, says how likely each onset is the last that was
played.  Painted back into the systems' boxes that is the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sf_plugin.unet.audio_encoder import audio_encoder
from sf_plugin.unet.bar_reader import BarReader
from sf_plugin.unet.config import BLOCKS, UNetConfig
from sf_plugin.unet.norms import in_float
from sf_plugin.unet.pitch_rows import HEARD
from sf_plugin.unet.staff_reader import PITCHES, StaffReader

MAP_NAMES = ("systems", "staves", "bars")
RARE = -4.0
"""Logit that training begins with of what is seldom true."""


class FiLM(nn.Module):
    """Scales and shifts channels by the audio (Perez et al. 2018)."""

    def __init__(self, audio: int, channels: int) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(audio, 2 * channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        scale, shift = self.scale_shift(z)[:, :, None, None].chunk(2, 1)
        return x * (1 + scale) + shift


class Block(nn.Module):
    """Two 3 x 3 convolutions with GroupNorm and ELU; FiLM after the second norm."""

    def __init__(
        self, inputs: int, outputs: int, stride: tuple[int, int], film: int, groups: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.norm1 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.film = FiLM(film, outputs) if film else None

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        x = F.elu_(in_float(self.norm1, self.conv1(x)))
        x = in_float(self.norm2, self.conv2(x))
        if self.film is not None:
            assert z is not None
            x = self.film(x, z)
        return F.elu_(x)


class RowMemory(nn.Module):
    """A bidirectional LSTM along every row: clef and key reach the notes after them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(batch * height, width, channels)
        with torch.autocast(x.device.type, enabled=False):
            y, _ = self.lstm(rows.float())
        y = y.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return x + y.to(x.dtype)


class PageUNet(nn.Module):
    """Blocks A to I (A to H for the strip readout) over the page."""

    def __init__(self, config: UNetConfig, audio: int) -> None:
        super().__init__()
        self.config = config
        self.names = BLOCKS if config.readout == "pixels" else BLOCKS[:-1]
        a, b, c, d, e = config.channels
        outputs = dict(zip(BLOCKS, (a, b, c, d, e, d, c, b, a), strict=True))
        self.strides = dict(zip(BLOCKS, config.strides, strict=False))
        self.blocks = nn.ModuleDict()
        self.lift = nn.ModuleDict()
        before = 1
        for name in self.names:
            stride = self.strides.get(name, (1, 1))
            if name > "E":
                self.lift[name] = nn.Conv2d(before, outputs[name], 1)
                before = outputs[name]
            film = audio if name in config.film else 0
            self.blocks[name] = Block(
                before, outputs[name], (1, 1) if config.pool else stride, film, config.groups
            )
            before = outputs[name]
        self.row_memory = RowMemory(e) if config.row_memory else None
        self.first_conditioned = min(
            (i for i, name in enumerate(self.names) if name in config.film),
            default=len(self.names),
        )
        self.out = outputs[self.names[-1]]

    def _run(self, done: dict[str, Tensor], names: Sequence[str], z: Tensor | None) -> Tensor:
        x = done["x"]
        for name in names:
            if name > "E":
                skip = done[chr(2 * ord("E") - ord(name))]
                x = F.interpolate(self.lift[name](x), size=skip.shape[-2:], mode="nearest")
                x = x + skip
            if self.config.pool and name in self.strides:
                x = F.max_pool2d(x, self.strides[name])
            x = self.blocks[name](x, z)
            if name == "E" and self.row_memory is not None:
                x = self.row_memory(x)
            done[name] = x
        return x

    def encode(self, page: Tensor) -> dict[str, Tensor]:
        """(batch, 1, height, width), paper 0 and ink 1, to what the rest of the blocks need."""
        done = {"x": page}
        x = self._run(done, self.names[: self.first_conditioned], None)
        later = self.names[self.first_conditioned :]
        needed = {chr(2 * ord("E") - ord(name)) for name in later if name > "E"}
        return {"x": x} | {name: done[name] for name in needed if name in done}

    def decode(self, cache: dict[str, Tensor], z: Tensor) -> Tensor:
        """The conditioned blocks for (frames, audio) vectors: (frames, channels, height, width)."""
        done = {k: v.expand(len(z), -1, -1, -1) for k, v in cache.items()}
        return self._run(done, self.names[self.first_conditioned :], z)


@dataclass(frozen=True)
class SystemRows:
    """A system's place on block H's grid: rows top..bottom (with margins), columns left..right."""

    top: int
    bottom: int
    left: int
    right: int


class Along(nn.Module):
    """A dilated convolution along the strip as one matrix product.

    Strips differ in length, and a convolution library would compile itself anew
    for each.
    """

    TAPS = 5

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.linear = nn.Linear(self.TAPS * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        count, reach = len(x), self.dilation * (self.TAPS // 2)
        padded = F.pad(x, (0, 0, reach, reach))
        taps = [padded[k * self.dilation : k * self.dilation + count] for k in range(self.TAPS)]
        y: Tensor = self.linear(torch.cat(taps, 1))
        return y


class Strip(nn.Module):
    """Collapses systems into one row of cells and reads along it, once per page."""

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(inputs, 64, 1)
        self.enter = nn.Linear(64 * 2 + PITCHES, cells)
        self.norms = nn.ModuleList([nn.LayerNorm(cells) for _ in range(4)])
        self.along = nn.ModuleList([Along(cells, 2**i) for i in range(4)])

    def forward(
        self, features: Tensor, pitch_maps: Tensor, systems: Sequence[SystemRows]
    ) -> Tensor:
        """(1, channels, h, w) features and (1, 88, h, w) logits to (cells, channels)."""
        # channels last: rows of a box are quickest folded where their numbers lie in a row
        looked = F.elu_(self.look(features))[0].permute(1, 2, 0)
        pitches = pitch_maps[0].permute(1, 2, 0)
        columns = []
        for s in systems:
            box = (slice(s.top, s.bottom), slice(s.left, s.right))
            likely = torch.sigmoid(pitches[box].amax(0).float())
            columns.append(torch.cat([looked[box].amax(0), looked[box].mean(0), likely], 1))
        x = self.enter(torch.cat(columns).float())
        for norm, layer in zip(self.norms, self.along, strict=True):
            x = x + layer(F.elu(norm(x)))
        return x


class OnsetReader(nn.Module):
    """What stands at every onset: its cells, its pitches, and the onsets around it."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.enter = nn.Linear(3 * cells + PITCHES, cells)
        self.norms = nn.ModuleList([nn.LayerNorm(cells) for _ in range(3)])
        self.along = nn.ModuleList([Along(cells, 2**i) for i in range(3)])
        self.length = nn.Linear(cells, 1)

    def forward(self, strip: Tensor, at: Tensor, pitches: Tensor) -> Tensor:
        """(cells, channels) of a page, (onsets,) cells, (onsets, 88) to (onsets, channels)."""
        last = len(strip) - 1
        near = torch.stack([(at - 1).clamp(min=0), at, (at + 1).clamp(max=last)], 1)
        x = strip[at] + self.enter(torch.cat([F.elu(strip[near]).flatten(1), pitches], 1))
        for norm, layer in zip(self.norms, self.along, strict=True):
            x = x + layer(F.elu(norm(x)))
        return F.elu(x)


@dataclass(frozen=True)
class Onsets:
    """What block I keeps of the onsets, in order.

    Attributes:
        key: (onsets, channels + 88) what a frame's questions are compared with: a
            learned key, then the pitches read here.
        follows: (onsets, 2) 1 where one, where two onsets come before on the page, else 0.
        narrow: (onsets, narrow channels) what the audio conditions.
        prior: (onsets,) logit of any place.
    """

    key: Tensor
    follows: Tensor
    narrow: Tensor
    prior: Tensor

    @classmethod
    def join(cls, pages: Sequence[Onsets]) -> Onsets:
        """Onsets of several pages as one, in order."""
        names = [field.name for field in fields(cls)]
        return cls(*(torch.cat([getattr(page, name) for page in pages]) for name in names))

    def part(self, onsets: slice) -> Onsets:
        """Those of some pages."""
        return Onsets(*(getattr(self, field.name)[onsets] for field in fields(self)))


def unit(x: Tensor) -> Tensor:
    """Rows of non-negative numbers to about unit length; rows of almost nothing stay small."""
    return x / (x.square().sum(-1, keepdim=True) + 0.1).sqrt()


class StripBlock(nn.Module):
    """Block I on the strip's onsets: FiLM by the audio, then one logit an onset.

    Besides the conditioned features it compares directly: a learned query with
    the onsets' keys, and the pitches heard, now and at the last three onsets, with
    the pitches read there and at the two onsets before.
    """

    NARROW = 32

    def __init__(self, cells: int, audio: int) -> None:
        super().__init__()
        self.scale = cells**-0.5
        self.key = nn.Linear(cells, cells)
        self.narrow = nn.Linear(cells, self.NARROW)
        self.prior = nn.Linear(cells, 1)
        self.match = nn.Parameter(torch.tensor([8.0, 4.0, 2.0]))  # gain, onset, sustain
        self.grams = nn.Parameter(torch.tensor([4.0, 2.0, 2.0]))  # gains of the last three onsets
        self.query = nn.Linear(audio, cells)
        self.film = nn.Linear(audio, 2 * self.NARROW)
        self.weight = nn.Parameter(torch.randn(self.NARROW) * self.NARROW**-0.5)

    def prepare(self, x: Tensor, pitches: Tensor) -> Onsets:
        """(onsets, channels) and (onsets, 88) probabilities, once per page."""
        key = torch.cat([self.key(x), unit(pitches)], 1)
        number = torch.arange(len(x), device=x.device)
        follows = torch.stack([number >= 1, number >= 2], 1).to(key.dtype)
        return Onsets(key, follows, self.narrow(x), self.prior(x).squeeze(1))

    def forward(self, onsets: Onsets, z: Tensor, heard: Tensor) -> Tensor:
        """(frames, audio) and (frames, 5, 88) probabilities to (frames, onsets) logits."""
        gain, onset, sustain = self.match
        wanted = self.grams[:, None] * unit(heard[:, 2:])
        wanted[:, 0] += gain * unit(sustain * heard[:, 0] + onset * heard[:, 1])
        query = F.pad((self.query(z) * self.scale)[:, None], (0, 0, 0, 2))
        answers = torch.cat([query, wanted], 2) @ onsets.key.T
        scale, shift = self.film(z).chunk(2, 1)
        conditioned = F.silu(torch.addcmul(shift[:, None], onsets.narrow, 1 + scale[:, None]))
        logits = answers[:, 0] + conditioned @ self.weight + onsets.prior
        for back in (1, 2):
            answer = answers[:, back, :-back] * onsets.follows[back:, back - 1]
            logits[:, back:] += answer
        return logits


class ScoreUNet(nn.Module):
    """The whole network; `config` decides between the published setting and ours."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = audio_encoder(config)
        self.page = PageUNet(config, self.audio.out)
        self.heard_pitches = nn.Linear(self.audio.out, len(HEARD) * PITCHES)
        nn.init.constant_(self.heard_pitches.bias, RARE)
        if config.readout == "pixels":
            self.mask = nn.Conv2d(self.page.out, 1, 1)
            assert self.mask.bias is not None
            nn.init.constant_(self.mask.bias, RARE)
        else:
            self.pitch_maps = nn.Conv2d(self.page.out, PITCHES, 1)
            self.maps = nn.Conv2d(self.page.out, len(MAP_NAMES), 1)
            self.strip = Strip(self.page.out, config.cells)
            self.strip_pitches = nn.Linear(config.cells, PITCHES + 1)
            self.staff = StaffReader()
            self.bars = BarReader()
            self.onsets = OnsetReader(config.cells)
            self.block_i = StripBlock(config.cells, self.audio.out)
            assert self.pitch_maps.bias is not None
            nn.init.constant_(self.pitch_maps.bias, RARE)

    @property
    def grid(self) -> tuple[int, int]:
        """Page pixels a cell of block H's grid: (vertical, horizontal)."""
        (va, ha), (vb, hb) = self.config.strides[:2]
        return va * vb, ha * hb

    def read_onsets(self, strip: Tensor, at: Tensor, pitches: Tensor) -> tuple[Onsets, Tensor]:
        """What block I keeps of a page's onsets.

        Args:
            strip: (cells, channels).
            at: (onsets,) cells.
            pitches: (onsets, 88) how likely each begins there.

        Returns:
            Also (onsets,) how many quarter notes pass until the next, as powers of two.
        """
        x = self.onsets(strip, at, pitches)
        return self.block_i.prepare(x, pitches), self.onsets.length(x).squeeze(1)

    def place_logits(self, onsets: Onsets, z: Tensor) -> tuple[Tensor, Tensor]:
        """Strip readout: (frames, audio) to (frames, onsets) logits.

        Also the (frames, 5, 88) probabilities of `HEARD`.
        """
        heard = self.hear(z)
        return self.block_i(onsets, z[:, : self.audio.out], heard), heard

    def heard_logits(self, z: Tensor) -> Tensor:
        """(..., audio) to (..., 5 * 88) logits of `HEARD`: of the whole ear, and of its rows."""
        told, facts = z[..., : self.audio.out], z[..., self.audio.out :]
        logits: Tensor = self.heard_pitches(told)
        return logits + facts if facts.shape[-1] else logits

    def hear(self, z: Tensor) -> Tensor:
        """(frames, audio) to the (frames, 5, 88) probabilities of `HEARD`."""
        return torch.sigmoid(self.heard_logits(z)).unflatten(1, (len(HEARD), PITCHES))

    def page_logits(self, cache: dict[str, Tensor], z: Tensor) -> Tensor:
        """Published readout: (frames, audio) to (frames, height, width) mask logits."""
        logits: Tensor = self.mask(self.page.decode(cache, z[:, : self.audio.out])).squeeze(1)
        return logits
