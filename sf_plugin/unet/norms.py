"""Norms between convolutions that compute in half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def in_float(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm that learns in single precision: two to three times faster backwards.

    Forwards alone, half precision is ten times faster and sums in single all the same.
    """
    y: Tensor = norm(x.float()).to(x.dtype) if torch.is_grad_enabled() else norm(x)
    return y
