"""Train a network: one loop, read top to bottom.

    scorefollow train DATA RUN --minutes 90

or, in two processes, each with its share of the samples and the mean of all gradients,

    torchrun --nproc-per-node 2 -m sf_plugin.training.train DATA RUN --minutes 90
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch

from sf_plugin.dataset.registry import EXTRA, Registry
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.templates import Templates
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Progress, no_progress
from sf_plugin.training.checkpoints import Counts, Learner, TrainingError, begin_with
from sf_plugin.training.curves import Curves
from sf_plugin.training.data import PageSample, Sampler
from sf_plugin.training.losses import WEIGHTS, losses
from sf_plugin.training.parallel import Group, joined
from sf_plugin.training.validation import Validation
from sf_plugin.unet.config import CONFIGS
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import save_weights

LINE = 50  # steps a line of the curves
CHECKPOINT = 250  # steps
HEARD_FIRST = 60  # samples that tell how loud each bin is

TEMPLATES = {"default": "templates.npz", "cunet": "templates-cunet.npz"}


def learning_rate(step: int, done: float, peak: float, warm_up: int = 150) -> float:
    """Linear warm-up over steps, then a cosine to one fiftieth as `done` goes from 0 to 1."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return peak * min(1.0, (step + 1) / warm_up) * cosine


def how_far(counts: Counts, args: argparse.Namespace) -> float:
    """Share of the training done, by time where `--minutes` is given, else by steps."""
    if args.minutes is not None:
        return float(counts.spent / 60 / args.minutes)
    return float(counts.step / args.steps)


def seed_of(seed: int, number: int) -> int:
    """Of all that is drawn for sample `number` of a run."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, or SIGTERM came; the second time it acts as ever."""
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_templates(args: argparse.Namespace) -> Templates:
    """The notes to make sound of, as the network to be trained hears."""
    path = args.templates or args.data / TEMPLATES[args.config]
    if not path.exists():
        raise TrainingError(
            f"{path}: is not there: measure it: "
            f"scorefollow dataset templates {path} --config {args.config}"
        )
    return Templates(path, CONFIGS[args.config].spectrogram)


def make_learner(args: argparse.Namespace, sampler: Sampler, group: Group) -> Learner:
    """Where the run in its folder is, or a new one."""
    torch.manual_seed(args.seed)
    net = ScoreUNet(CONFIGS[args.config])
    checkpoint = args.folder / "last.pt"
    if not checkpoint.exists():
        if args.begin_with:
            count = begin_with(net, args.begin_with)
            group.tell(f"begins with {count} tensors of {args.begin_with}")
        with closing(sampler.pairs(args.seed, 0, args.workers)) as pairs:
            heard = [first.frames.flatten(0, 1) for first, _ in islice(pairs, HEARD_FIRST)]
        frames = torch.cat(heard)
        net.audio.mean.copy_(frames.mean(0))
        net.audio.deviation.copy_(frames.std(0) + 0.05)
    for part in args.freeze:
        getattr(net, part).requires_grad_(False)
    if net.config.readout == "strip":
        net.bars.requires_grad_(False)  # `train_bars` teaches it
    net.to(group.device)
    net.page.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    group.agree(net)
    learner = Learner(net, args.rate)
    if checkpoint.exists():
        learner.load(checkpoint)
        group.tell(f"resumed at step {learner.counts.step}")
    return learner


def make_validation(
    args: argparse.Namespace, shards: ShardSet, sound: Templates, group: Group
) -> Validation | None:
    """Of the set's pieces for choosing; None where it has none."""
    try:
        sampler = Sampler(shards, sound, sound.config, use=EXTRA, rooms=1.0)
    except ScoreError:
        group.tell(f"{args.data}: has no pieces for the use 'extra': the last weights are kept")
        return None
    return Validation.of(sampler, args.workers, group)


class Run:
    """A training as its folder keeps it."""

    def __init__(
        self,
        args: argparse.Namespace,
        learner: Learner,
        validation: Validation | None,
        group: Group,
    ) -> None:
        self.args, self.learner, self.validation, self.group = args, learner, validation, group
        self.counts = learner.counts
        self.weights, self.checkpoint = args.folder / "weights.safetensors", args.folder / "last.pt"
        self.curves = Curves(args.folder, self.counts.step) if group.leads else None
        self.began = self.line_began = time.monotonic()
        self.spent_before = self.counts.spent
        self.rows: list[dict[str, float]] = []
        self.stopped = self.due = False
        self.finished = how_far(self.counts, args) >= 1

    def step(self, pair: tuple[PageSample, ...], stopping: bool) -> None:
        """Learn from one pair; `stopping` of any process stops all."""
        counts, group, net = self.counts, self.group, self.learner.net
        torch.manual_seed(seed_of(self.args.seed, counts.step * group.size + group.rank))
        terms, scores = losses(net, tuple(page.to(group.device) for page in pair))
        self.learner.optimiser.zero_grad()
        torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum().backward()
        group.average_gradients(net.parameters())
        done = how_far(counts, self.args)
        finite = self.learner.update(learning_rate(counts.step, done, self.args.rate))
        spent = self.spent_before + time.monotonic() - self.began
        row = group.means(
            {"spent": spent, "stop": float(stopping)}
            | scores
            | {name: float(term.detach()) for name, term in terms.items()}
        )
        period = 60 * self.args.validate
        self.due = row["spent"] // period > counts.spent // period
        counts.spent = row.pop("spent")
        self.stopped = row.pop("stop") > 0
        self.finished = how_far(counts, self.args) >= 1
        if finite:
            self.rows.append(row)
        else:
            group.tell(f"step {counts.step}: not finite: skipped ({counts.skipped} so far)")

    def draw_line(self) -> None:
        """The means since the last line."""
        names = self.rows[0] if self.rows else {}
        figures = {name: float(np.mean([row[name] for row in self.rows])) for name in names}
        figures["seconds"] = (time.monotonic() - self.line_began) / LINE
        self._note(figures)
        self.rows, self.line_began = [], time.monotonic()

    def validate(self) -> None:
        """Keep the averaged weights if they are the best so far."""
        if self.validation is None:
            return
        counts = self.counts
        figures = self.validation.score(self.learner.average, self.group)
        counts.waited += 1
        if figures["place"] < (math.inf if counts.best is None else counts.best):
            counts.best, counts.waited = figures["place"], 0
            if self.group.leads:
                save_weights(self.learner.average, self.weights)
        self._note({f"valid_{name}": value for name, value in figures.items()})
        if self.args.patience is not None and counts.waited >= self.args.patience:
            self.group.tell(f"no gain in {counts.waited} validations: enough")
            self.finished = True

    def keep(self) -> None:
        """Where the run is; and its weights, where nothing chooses them."""
        if self.group.leads:
            self.learner.save(self.checkpoint)
            if self.counts.best is None:
                save_weights(self.learner.average, self.weights)

    def close(self) -> None:
        """Of the curves."""
        if self.curves is not None:
            self.curves.close()

    def _note(self, figures: dict[str, float]) -> None:
        words = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        self.group.tell(f"step {self.counts.step}  {words}")
        if self.curves is not None:
            self.curves.write(self.counts.step, figures)


def train(args: argparse.Namespace, progress: Progress = no_progress) -> bool:
    """Train as `scorefollow train` says; False if it was asked to stop before the end.

    Raises:
        ScoreFollowerError: the set, the templates, the start or the checkpoint is unfit.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    with joined() as group:
        show = progress if group.leads else no_progress
        shards, sound = ShardSet(args.data), read_templates(args)
        sampler = Sampler(shards, sound, sound.config, args.performances, args.pieces)
        Registry.load().check_training(
            (entry.piece, shards.load(entry.name, images=False).notes) for entry in sampler.entries
        )
        group.tell(f"{len(sampler.entries)} engravings, {len(sampler.pages)} pages")
        learner = make_learner(args, sampler, group)
        counts = learner.counts
        run = Run(args, learner, make_validation(args, shards, sound, group), group)
        share = group.rank, group.size
        with (
            asked_to_stop() as stopping,
            closing(run),
            closing(sampler.pairs(args.seed, counts.step, args.workers, share)) as pairs,
        ):
            while not (run.finished or run.stopped):
                run.step(next(pairs), stopping())
                if args.minutes is None:
                    show("steps", counts.step, args.steps)
                else:
                    show("minutes", int(counts.spent / 60), math.ceil(args.minutes))
                if counts.step % LINE == 0:
                    run.draw_line()
                if run.due or run.finished:
                    run.validate()
                if run.due or run.finished or run.stopped or counts.step % CHECKPOINT == 0:
                    run.keep()
        if args.export and group.leads:
            partial = args.export.with_name(args.export.name + ".partial")
            shutil.copyfile(run.weights, partial).replace(args.export)
        if run.finished:
            group.tell(f"{args.export or run.weights}: the averaged weights of {counts.step} steps")
        else:
            group.tell(f"stopped at step {counts.step}: the same command goes on from there")
    return run.finished


if __name__ == "__main__":
    from sf_plugin.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
