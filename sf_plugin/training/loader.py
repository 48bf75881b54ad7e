"""Streams what workers make of a set, in order and whoever makes it; pages wait in memory.

A step's item is a function of its number alone, so the stream is the same for any number
of workers and goes on at any step without playing back what came before.
"""

from __future__ import annotations

import io
import itertools
import pickle
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.workers import WorkerError

Item = TypeVar("Item")

CACHE_BYTES = 256_000_000
ALIGN = 64  # bytes


class Recent:
    """Keeps what was used last, at most `limit` bytes of it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Item], size: Callable[[Item], int]) -> Item:
        """What is kept under `key`, or what `make` makes."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value = make()
        self._kept[key] = value, size(value)
        self.used += size(value)
        while self.used > self.limit:
            _, (_, freed) = self._kept.popitem(last=False)
            self.used -= freed
        return value

    def __reduce__(self) -> tuple[type[Recent], tuple[int]]:
        return Recent, (self.limit,)  # another process keeps its own


class CachedSet:
    """Pages and tables of a set, decoded once and kept while there is room.

    Each worker has its own room of `cache_bytes`.
    """

    def __init__(self, shards: ShardSet, cache_bytes: int = CACHE_BYTES) -> None:
        self.shards = shards
        self._recent = Recent(cache_bytes)

    def tables(self, name: str) -> Engraving:
        """An engraving whose pages have no size."""
        return self._recent.get(name, lambda: self.shards.load(name, images=False), _table_bytes)

    def page(self, name: str, page: int) -> NDArray[np.uint8]:
        """(height, width) of one page, from 0; not to be written to."""
        return self._recent.get(
            (name, page), lambda: self.shards.page(name, page), lambda image: image.nbytes
        )


def _table_bytes(engraving: Engraving) -> int:
    return sum(value.nbytes for value in vars(engraving).values())


class _Flattener(pickle.Pickler):
    """Takes the tensors out of what it pickles."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self.size = 0

    def persistent_id(self, value: object) -> tuple[int, torch.dtype, torch.Size] | None:
        if not isinstance(value, Tensor):
            return None
        offset = self.size
        self.tensors.append(value.contiguous())
        self.size += -(-value.nbytes // ALIGN) * ALIGN
        return offset, value.dtype, value.shape


class _Restorer(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, flat: Tensor) -> None:
        super().__init__(file)
        self.flat = flat

    def persistent_load(self, key: tuple[int, torch.dtype, torch.Size]) -> Tensor:
        offset, dtype, shape = key
        size = shape.numel() * dtype.itemsize
        return self.flat[offset : offset + size].view(dtype).reshape(shape)


def flatten(value: object) -> tuple[bytes, Tensor]:
    """Anything with tensors in it as a pickle and one tensor of bytes.

    A tensor between processes costs a shared file; one instead of many keeps far from the
    limit on open files.
    """
    file = io.BytesIO()
    flattener = _Flattener(file)
    flattener.dump(value)
    flat = torch.empty(flattener.size, dtype=torch.uint8)
    offset = 0
    for tensor in flattener.tensors:
        flat[offset : offset + tensor.nbytes] = tensor.reshape(-1).view(torch.uint8)
        offset += -(-tensor.nbytes // ALIGN) * ALIGN
    return file.getvalue(), flat


def restore(pickled: bytes, flat: Tensor) -> Any:
    """What `flatten` was given; its tensors are views of `flat`."""
    return _Restorer(io.BytesIO(pickled), flat).load()


class _Steps(Dataset[tuple[bytes, Tensor]], Generic[Item]):
    def __init__(self, make: Callable[[int], Item]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> tuple[bytes, Tensor]:
        try:
            return flatten(self.make(step))
        except ScoreFollowerError as error:
            return flatten(error)


def stream(
    make: Callable[[int], Item], start: int = 0, workers: int = 1, ahead: int = 3
) -> Generator[Item, None, None]:
    """`make(start)`, `make(start + 1)`, … without end; leaving the iterator ends the workers.

    Args:
        make: a function of the step alone; picklable where processes are not forked.
        start: the first step.
        workers: processes; 0 works in this one.
        ahead: items that each worker makes before they are asked for.

    Raises:
        ScoreFollowerError: `make` raised it.
        WorkerError: a worker died.
    """
    if not workers:
        yield from map(make, itertools.count(start))
        return
    loader = DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=itertools.count(start),
        num_workers=workers,
        prefetch_factor=ahead,
    )
    items = iter(loader)
    try:
        for pickled, flat in items:
            item = restore(pickled, flat)
            if isinstance(item, ScoreFollowerError):
                raise item
            yield item
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise WorkerError(
            "a worker process died, perhaps for want of memory: try fewer --workers"
        ) from None
    finally:
        del items, loader
