"""Several processes train one network, as torchrun starts them; one process is the usual case."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn

from sf_plugin.terminal import say


@dataclass(frozen=True)
class Group:
    """This process, number `rank` of `size`, and the device that it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes and tells."""
        return self.rank == 0

    def tell(self, text: str) -> None:
        """Once for all."""
        if self.leads:
            say(text)

    def mean(self, values: Tensor) -> Tensor:
        """Over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
            values /= self.size
        return values

    def means(self, figures: dict[str, float]) -> dict[str, float]:
        """Of figures that every process has under the same names."""
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device)
        return dict(zip(figures, self.mean(values).tolist(), strict=True))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """As if one process had taken the mean of all losses."""
        if self.size > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            mean = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = mean.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def agree(self, net: nn.Module) -> None:
        """All begin with the first one's network."""
        if self.size > 1:
            for tensor in net.state_dict().values():
                distributed.broadcast(tensor, 0)


@contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun's variables name; on GPUs where there are some."""
    rank, size, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if size == 1:
        yield Group(device=device)
        return
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Group(rank, size, device)
    finally:
        distributed.destroy_process_group()
