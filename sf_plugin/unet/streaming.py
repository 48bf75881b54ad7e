"""What a network that hears a frame at a time is made of.

A frame is so little work that calling layers, and making views of tensors, would cost more
than computing: here weights are laid out and views are made once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

TAPS = 3
"""Frames that a convolution over time sees."""


class Norm:
    """A layer norm of a few numbers."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.LayerNorm)
        self._shape, self._eps = list(layer.normalized_shape), layer.eps
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class Taps:
    """Side by side what a dilated convolution over time sees, beginning with nothing.

    Every frame is written twice, so that wherever it stands it has the two before it to its
    left.
    """

    def __init__(self, rows: int, width: int, dilation: int = 1, margin: int = 0) -> None:
        """`margin` rows of zeros lie above and below those that are seen."""
        span = TAPS * width
        seen = torch.zeros(dilation, rows + 2 * margin, 2 * span)
        self._slots, self.windows = [], []
        for frame in range(TAPS * dilation):
            place, own = divmod(frame, dilation)
            twice = seen[own, margin : margin + rows].view(rows, 2, span).transpose(0, 1)
            self._slots.append(twice[:, :, place * width : (place + 1) * width])
            first = (place + 1) * width
            self.windows.append(seen[own, :, first : first + span])
        self._now = -1

    def see(self, x: Tensor) -> Tensor:
        """The next frame's (rows, width) to (margin + rows + margin, 3 * width), oldest left."""
        self._now = (self._now + 1) % len(self._slots)
        self._slots[self._now].copy_(x)
        return self.windows[self._now]


class Product:
    """A linear layer for one (1, inputs) vector after another.

    What takes the time is to fetch the weights: they are kept in half precision where that
    loses nothing and torch has such products, whose sums are in single precision.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        weight, bias = weight.detach().contiguous(), bias.detach()
        exact = torch.equal(weight.half().float(), weight)
        able = torch.backends.quantized.engine in ("x86", "fbgemm")
        self._halves: Any = None
        self._kept: tuple[Tensor, Tensor] | None = (weight, bias)
        if exact and able and hasattr(torch.ops.quantized, "linear_prepack_fp16"):
            self._halves = torch.ops.quantized.linear_prepack_fp16(weight, bias)
            self._kept = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._kept is not None:
            return nn.functional.linear(x, *self._kept)
        y: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._halves)
        return y


def laid_out(weight: Tensor) -> Tensor:
    """(outputs, inputs) to (inputs, outputs), as products like it."""
    return weight.detach().T.contiguous()
