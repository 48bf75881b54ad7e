"""Run an evaluation here, in processes of its own, or on a Dask cluster, with the same figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sf_plugin.api import make_follower
from sf_plugin.evaluation.baselines import BASELINES
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.following import Listen, Outcome, follow_cases
from sf_plugin.followers import Follower
from sf_plugin.workers import in_order

Task = Callable[[], Sequence[Case]]
"""Gives cases that belong together: those of one piece; picklable."""


@dataclass(frozen=True)
class Contestant:
    """The follower to judge: a baseline, or one that is registered; made anew for each task.

    Attributes:
        name: as in `--follower`.
        weights: of the follower "unet"; None for those that it comes with.
    """

    name: str
    weights: Path | None = None

    def __call__(self) -> Listen:
        """What gives each case its follower."""
        if self.name in BASELINES:
            return BASELINES[self.name].listen()
        follower = self._registered()
        return lambda case: follower

    def _registered(self) -> Follower:
        if self.weights is None:
            return make_follower(self.name)
        from sf_plugin.unet.plugin import make_unet

        return make_unet(self.weights)


def run_task(task: Task, contestant: Callable[[], Listen], align: bool = False) -> list[Outcome]:
    """Follow the cases of a task, or align them."""
    return list(follow_cases(task(), contestant(), align=align))


def evaluate(
    tasks: Iterable[Task],
    contestant: Callable[[], Listen],
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    align: bool = False,
) -> Iterator[list[Outcome]]:
    """Follow everything; the outcomes of each task, in order.

    What is measured, but for the speed, does not depend on where it runs.

    Args:
        tasks: what to follow.
        contestant: makes what gives each case its follower; picklable.
        jobs: processes on this machine.
        scheduler: address of a Dask scheduler, whose workers see the same files.
        align: hear each case to its end before saying where it was.

    Raises:
        ScoreFollowerError: a piece, an instrument or the cache cannot be used, or no
            worker can be reached.
    """
    work = partial(run_task, contestant=contestant, align=align)
    return in_order(work, tasks, jobs=jobs, scheduler=scheduler)
