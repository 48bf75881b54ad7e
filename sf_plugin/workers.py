"""The same work here, in several processes, or on a Dask cluster, with the same results."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from sf_plugin.errors import ScoreFollowerError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""Items under way or waiting to be taken, for each worker."""


class WorkerError(ScoreFollowerError):
    """The workers cannot be reached, or one of them died."""


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    jobs: int = 1,
    scheduler: str | None = None,
) -> Iterator[Result]:
    """`function` of every item, in the order of `items`, whoever computes it.

    `function`, items and results must be picklable unless all is done here.  Only a few
    results at a time wait in memory.  Ctrl-C, or leaving the iterator, ends all workers.

    Args:
        function: of one item; raises as it would here.
        items: taken as they are needed.
        jobs: processes on this machine; 1 works in this one.
        scheduler: address of a Dask scheduler, "tcp://host:8786"; `jobs` is then ignored.

    Raises:
        WorkerError: the scheduler does not answer, or a process died.
    """
    if scheduler is not None:
        yield from _on_cluster(function, items, scheduler)
    elif jobs > 1:
        yield from _in_processes(function, items, jobs)
    else:
        yield from map(function, items)


def _in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[Result]:
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts_to_parent)
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > AHEAD * jobs:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process died, perhaps for want of memory: try fewer --jobs"
        ) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_cluster(
    function: Callable[[Item], Result], items: Iterable[Item], address: str
) -> Iterator[Result]:
    try:
        from distributed import Client
    except ImportError:
        raise WorkerError(
            "--scheduler needs Dask: pip install 'sf-plugin[cluster]', here and on the workers"
        ) from None
    try:
        client: Any = Client(address, timeout="5s", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkerError(
            f"{address}: no Dask scheduler answers ({error}): start one with 'dask scheduler'"
        ) from None
    with client:
        slots = sum(client.nthreads().values())
        if not slots:
            raise WorkerError(
                f"{address}: the scheduler has no workers: start some with 'dask worker {address}'"
            )
        under_way: deque[Any] = deque()
        try:
            for item in items:
                under_way.append(client.submit(function, item, pure=False))
                if len(under_way) > AHEAD * slots:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            client.cancel(list(under_way))
