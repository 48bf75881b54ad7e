"""Reads the notes of every staff where they stand: step, clef, alteration, and so the pitch.

Each staff is cut out of the page and straightened, three pixels a step, so that a
row of the last convolution is a line or a space.  A note head's pitch is then
arithmetic: the step counted from the clef's note, and the alteration that the key
or an accidental gives it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sf_plugin.unet.norms import in_float

STEPS = 32
"""Lines and spaces that are read, ledger lines included."""
LOWEST = -12
"""The lowest of them; 0 is the bottom line, 8 the top line of five."""
STEP_PIXELS = 3
CELL_PIXELS = 4
"""Of the page, a column of block H's grid."""
CLEFS = range(11, 38)
"""What the bottom line may be called: 7 * octave + letter, C4 = 28; treble is 30, bass 18."""
ALTERATIONS = range(-2, 3)
KEYS = range(-7, 8)
"""Sharps less flats."""
LETTERS = (0, 2, 4, 5, 7, 9, 11)
"""Semitones of C, D, … above C."""
SHARPS = (3, 0, 4, 1, 5, 2, 6)
"""Letters in the order in which keys sharpen them; flats come the other way round."""
KEY_STEPS = range(-2, 11)
"""Where a key signature's accidentals may stand."""
HELD = ((0.0, 1.0), (0.0, 0.0), (1.0, 0.0))
"""A flat, a natural, a sharp, as the key's sharps and flats are given to the reader."""
SURE = 0.8
"""Probability from which an alteration that the key does not give is one that holds on."""
UNSURE = 9
OUT_OF_SIGHT = -20.0
"""Logit of what is not looked at."""
PITCHES = 88
"""MIDI 21 to 108."""


def natural(letter: int) -> int:
    """MIDI number of a letter counted as in `CLEFS`."""
    octave, place = divmod(letter, 7)
    return 12 * (octave + 1) + LETTERS[place]


def surely(alterations: Tensor) -> Tensor:
    """(..., alterations) logits to the (...) alteration that is surely read, or `UNSURE`."""
    likely, best = alterations.softmax(-1).max(-1)
    return torch.where(likely > SURE, best + ALTERATIONS.start, UNSURE)


def what_holds(
    line: Sequence[Sequence[int]],
    by_key: Sequence[int],
    said: Sequence[int],
    under: Sequence[Sequence[int]],
) -> list[int | None]:
    """For note heads in reading order the number in `HELD` of what holds; None is the key.

    Args:
        line: the staff, the step and the measure of each.
        by_key: the alteration that the key gives it.
        said: its own, read under the key: another is an accidental.
        under: the same, read under each of `HELD`.
    """
    holds: list[int | None] = []
    here: Sequence[int] = ()
    held: int | None = None
    for at, key, own, others in zip(line, by_key, said, under, strict=True):
        if at != here:
            here, held = at, None
        holds.append(held)
        own = own if held is None else others[held]
        before = key if held is None else held - 1
        if own not in (before, UNSURE):
            held = max(-1, min(own, 1)) + 1
    return holds


def _pitch_table() -> Tensor:
    """(steps, clefs, alterations) pitch index; 88 for what no piano has."""
    table = torch.tensor(
        [[[natural(LOWEST + r + c) + a - 21 for a in ALTERATIONS] for c in CLEFS]
         for r in range(STEPS)]
    )  # fmt: skip
    return torch.where((table < 0) | (table >= PITCHES), PITCHES, table)


def key_table() -> Tensor:
    """(keys, 2, 7) whether a key has a sharp, a flat, on each letter."""
    table = torch.zeros(len(KEYS), 2, 7)
    for number, key in enumerate(KEYS):
        for letter in SHARPS[: max(key, 0)]:
            table[number, 0, letter] = 1
        for letter in SHARPS[::-1][: max(-key, 0)]:
            table[number, 1, letter] = 1
    return table


@dataclass(frozen=True)
class Staves:
    """The staves of a page.

    Attributes:
        lines: (staves, 2, columns) pixel rows of the top and the bottom line over each
            column of block H's grid.
        system: (staves,) the system of each, from 0.
        start: (staves, 2) first and past-the-last column of what stands before the first
            onset: clef, key, metre.
    """

    lines: Tensor
    system: Tensor
    start: Tensor


def start_columns(left: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """(staves, 2) the columns from a staff's left to the accidentals of its first onset."""
    last = np.clip(first - 4, left + 4, left + 60)
    return np.stack([left, last], 1).astype(np.int64)


def cut_out(ink: Tensor, lines: Tensor) -> Tensor:
    """(1, 1, height, width) ink and (staves, 2, columns) lines to straight staves.

    Returns:
        (staves, 1, 96, 4 * columns), the lowest step first.
    """
    height, width = ink.shape[2:]
    count, _, columns = lines.shape
    along = torch.arange(CELL_PIXELS * columns, device=ink.device)
    # the second convolution's column c looks at pixel 4 c of this, which shall be a cell's centre
    x = (along + (CELL_PIXELS / 2)) / width * 2 - 1
    at = (along / CELL_PIXELS).clamp(max=columns - 1)
    low = at.floor().long()
    part = at - low
    high = (low + 1).clamp(max=columns - 1)
    top, bottom = (lines[:, :, low] * (1 - part) + lines[:, :, high] * part).unbind(1)
    row = torch.arange(STEPS * STEP_PIXELS, device=ink.device)
    step = LOWEST + (row - STEP_PIXELS // 2) / STEP_PIXELS
    y = bottom[:, None] + (top - bottom)[:, None] / 8 * step[:, None]
    grid = torch.stack([x.expand_as(y), y / height * 2 - 1], 3)
    return F.grid_sample(ink.expand(count, -1, -1, -1), grid, align_corners=False)


@dataclass(frozen=True)
class Reading:
    """What is read of staves, as logits.

    Attributes:
        begins: (staves, steps, columns) a note begins there.
        alteration: (staves, alterations, steps, columns) its alteration.
        clef: (staves, columns, clefs) what holds there.
        key: (staves, 2, 7) a sharp, a flat on each letter at the staff's start.
    """

    begins: Tensor
    alteration: Tensor
    clef: Tensor
    key: Tensor


class StaffReader(nn.Module):
    """Convolutions over the straightened staff, and memories along it for clef and key.

    One is an LSTM, whose forget gates begin nearly open; the other a mean of all
    columns so far, weighed by what they show.
    """

    GLANCES = 4

    def __init__(self, channels: int = 64, memory: int = 64) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(1, 16, 5, (1, 2), padding=2),
                nn.Conv2d(16, 48, 3, (STEP_PIXELS, 2), padding=(0, 1)),
                nn.Conv2d(48, channels, 3, padding=1),
                nn.Conv2d(channels, channels, 3, padding=1),
            ]
        )
        self.norms = nn.ModuleList([nn.GroupNorm(8, c) for c in (16, 48, channels, channels)])
        self.squeeze = nn.Linear(channels * STEPS, 96)
        self.memory = nn.LSTM(96, memory, batch_first=True, bidirectional=True)
        self.matters = nn.Linear(96, self.GLANCES)
        self.shows = nn.Linear(96, 32 * self.GLANCES)
        told = 2 * memory + 32 * self.GLANCES
        self.clef = nn.Linear(told, len(CLEFS))
        self.context = nn.Linear(told, channels)
        self.beside = nn.Conv2d(channels, channels, (1, 5), padding=(0, 4), dilation=(1, 2))
        self.glyph = nn.Conv2d(channels, 2, 1)
        self.by_key = nn.Conv2d(2, channels, 1)
        self.step = nn.Parameter(torch.randn(channels, STEPS, 1) * 0.1)
        self.note = nn.Conv2d(channels, 1 + len(ALTERATIONS), 1)
        assert self.note.bias is not None and self.glyph.bias is not None
        nn.init.constant_(self.note.bias[0], -4.0)
        nn.init.constant_(self.glyph.bias, -3.0)
        with torch.no_grad():  # remember for 2 to 200 columns, evenly in the logarithm
            for name, bias in self.memory.named_parameters():
                if name.startswith("bias_ih"):
                    bias[memory : 2 * memory] = torch.linspace(math.log(2), math.log(200), memory)
        self.table: Tensor
        self.register_buffer("table", _pitch_table(), persistent=False)
        self.keys: Tensor
        self.register_buffer("keys", key_table(), persistent=False)

    def forward(
        self,
        crops: Tensor,
        start: Tensor,
        clef: Tensor | None = None,
        key: Tensor | None = None,
        measure: Tensor | None = None,
    ) -> Reading:
        """(staves, 1, 96, 4 * columns) of `cut_out`, and `Staves.start`.

        In training the notes are read under the true clef and key: (staves, columns)
        indices, -100 where they are not known.  Accidentals hold to the end of their measure
        where `measure` says, in (staves, columns) numbers, which one each column is in.
        """
        # without training one staff after another, which then stays in the processor's cache
        at_once = 1 if crops.is_cpu and not torch.is_grad_enabled() else max(1, len(crops))
        seen = [self.look(some) for some in crops.split(at_once)]
        with torch.autocast(crops.device.type, enabled=False):
            columns = torch.cat([columns for _, columns in seen])
            told = torch.cat([self.memory(columns)[0], self.so_far(columns)], 2)
            clefs = self.clef(told)
            under = clefs.argmax(2)
            if clef is not None:
                under = torch.where(clef >= 0, clef, under)
            # (staves, steps, columns) letter of every line and space
            first = LOWEST + CLEFS.start
            row = torch.arange(first, first + STEPS, device=crops.device)
            letter = (under[:, None] + row[:, None]) % 7
            begun = max(start[:, 1].tolist(), default=0)
            glyphs = torch.cat([self.glyph(x[..., :begun]) for x, _ in seen])
            letters = self.key_letters(glyphs, start, letter)
            holds = self.key_of(letters)[:, None].expand(-1, letter.shape[2], -1)
            if key is not None:
                true = F.one_hot(key.clamp(min=0), len(KEYS)).float()
                holds = torch.where((key >= 0)[:, :, None], true, holds)
            # (staves, columns, 2, 7) to (staves, 2, steps, columns)
            altered = torch.einsum("sck,kal->sacl", holds, self.keys)
            altered = altered.gather(3, letter.transpose(1, 2)[:, None].expand(-1, 2, -1, -1))
            around = self.context(told).transpose(1, 2)[:, :, None]
            altered = altered.transpose(2, 3)
            notes = torch.cat(
                [
                    self.notes(x, *beside)
                    for (x, _), *beside in zip(
                        seen, around.split(at_once), altered.split(at_once), strict=True
                    )
                ]
            )
            if measure is not None:
                x = torch.cat([x for x, _ in seen]).add_(around).add_(self.step)
                self.hold_accidentals(notes, x, altered, measure)
            return Reading(notes[:, 0], notes[:, 1:], clefs, letters)

    def look(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Staves to (staves, channels, steps, columns) features, and to (staves, columns, 96)."""
        x = crops
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.elu_(in_float(norm, conv(x)))
        x = x + F.elu_(self.beside(x))
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            return x, F.elu(self.squeeze(x.permute(0, 3, 1, 2).flatten(2)))

    def notes(self, x: Tensor, around: Tensor, altered: Tensor) -> Tensor:
        """(staves, 1 + alterations, steps, columns) logits of a note, and of its alterations.

        Args:
            x: (staves, channels, steps, columns) of `look`.
            around: (staves, channels, 1, columns) what holds there.
            altered: (staves, 2, steps, columns) what the key alters.
        """
        x = self.by_key(altered).add_(around).add_(x).add_(self.step)
        notes: Tensor = self.note(F.elu_(x))
        return notes

    def hold_accidentals(self, notes: Tensor, x: Tensor, altered: Tensor, measure: Tensor) -> None:
        """Read heads again under the accidentals that stand before them in their measure.

        A head is asked what it is under a flat, a natural and a sharp, as if the key had it.

        Args:
            notes: (staves, 1 + alterations, steps, columns) logits, which change.
            x: (staves, channels, steps, columns) what they were made of, but for the key.
            altered: (staves, 2, steps, columns) what the key alters.
            measure: (staves, columns) number of each column's.
        """
        staff, row, column = torch.nonzero(notes[:, 0] > 0, as_tuple=True)
        weight, bias = self.note.weight[1:, :, 0, 0], self.note.bias
        assert bias is not None
        held = F.linear(x.new_tensor(HELD), self.by_key.weight[:, :, 0, 0], self.by_key.bias)
        seen = F.elu(x[staff, :, row, column][:, None] + held)
        under = F.linear(seen, weight, bias[1:])  # (heads, held, alterations)
        sharp, flat = altered[staff, :, row, column].T
        own = notes[staff, 1:, row, column]
        holds = what_holds(
            torch.stack([staff, row, measure[staff, column]], 1).tolist(),
            (sharp - flat).round().int().tolist(),
            surely(own).tolist(),
            surely(under).tolist(),
        )
        again = [n for n, at in enumerate(holds) if at is not None]
        at = torch.tensor([at for at in holds if at is not None], dtype=torch.long)
        notes[staff[again], 1:, row[again], column[again]] = under[again, at]

    def key_letters(self, glyphs: Tensor, start: Tensor, letter: Tensor) -> Tensor:
        """(staves, 2, 7) logits of a sharp, a flat on each letter before the first onset.

        Args:
            glyphs: (staves, 2, steps, columns) logits of a sharp and a flat.
            start: (staves, 2) the columns to look at.
            letter: (staves, steps, columns).
        """
        column = torch.arange(glyphs.shape[3], device=glyphs.device)
        seen = (column >= start[:, :1]) & (column < start[:, 1:])
        rows = slice(KEY_STEPS.start - LOWEST, KEY_STEPS.stop - LOWEST)
        best = glyphs[:, :, rows].masked_fill(~seen[:, None, None], OUT_OF_SIGHT).amax(3)
        last = (start[:, 1] - 1).clamp(0, glyphs.shape[3] - 1)
        own = letter[torch.arange(len(start), device=glyphs.device), rows, last]
        return torch.stack(
            [best.masked_fill((own != n)[:, None], OUT_OF_SIGHT).amax(2) for n in range(7)], 2
        )

    def key_of(self, letters: Tensor) -> Tensor:
        """(staves, 2, 7) logits of accidentals to (staves, keys) probabilities."""
        there, none = F.logsigmoid(letters).flatten(1), F.logsigmoid(-letters).flatten(1)
        keys = self.keys.flatten(1)
        return (there @ keys.T + none @ (1 - keys).T).softmax(1)

    def so_far(self, columns: Tensor) -> Tensor:
        """(staves, columns, 96) to (staves, columns, 128): means of what stands to the left."""
        weight = torch.exp(self.matters(columns).clamp(-8, 8))[:, :, :, None]
        shown = self.shows(columns).unflatten(2, (self.GLANCES, 32))
        mean: Tensor = (weight * shown).cumsum(1) / weight.cumsum(1)
        return mean.flatten(2)

    def pitches(self, reading: Reading, staves: Staves, system: Tensor, column: Tensor) -> Tensor:
        """(onsets, 88) how likely each pitch begins at (onsets,) systems and columns.

        A head counts in its column and beside it.
        """
        staff, onset = torch.nonzero(staves.system[:, None] == system[None], as_tuple=True)
        at = column[onset]
        last = reading.begins.shape[2] - 1
        near = torch.stack([(at - 1).clamp(min=0), at, (at + 1).clamp(max=last)], 1)
        row = torch.arange(STEPS, device=at.device)
        # (pairs, steps, 3) and the column of the likeliest
        begins, best = reading.begins[staff[:, None, None], row[:, None], near[:, None]].max(2)
        where = near.gather(1, best)
        alteration = reading.alteration[
            staff[:, None, None],
            torch.arange(len(ALTERATIONS), device=at.device),
            row[:, None],
            where[:, :, None],
        ].softmax(2)
        clef = reading.clef[staff, at].softmax(1)
        likely = torch.sigmoid(begins)[:, :, None, None] * clef[:, None, :, None]
        likely = likely * alteration[:, :, None]
        # 1 - the product of (1 - likely) over all ways to a pitch
        weight = -torch.log1p(-likely.clamp(max=1 - 1e-5)).flatten(1)
        total = weight.new_zeros(len(weight), PITCHES + 1)
        total = total.index_add(1, self.table.flatten(), weight)[:, :PITCHES]
        read = weight.new_zeros(len(column), PITCHES).index_add(0, onset, total)
        return 1 - torch.exp(-read)
