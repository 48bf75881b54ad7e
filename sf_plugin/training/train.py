"""Train the network: one loop, read top to bottom.

    python -m sf_plugin.training.train DATA TEMPLATES RUN --minutes 90

Checkpoints go to RUN/last.pt and training resumes from there; curves to
RUN/curves.jsonl.  `--export FILE` writes the averaged weights as safetensors.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from sf_plugin.audio.spectrogram import SpectrogramConfig
from sf_plugin.dataset.templates import Templates
from sf_plugin.training.data import PageSample, Sampler
from sf_plugin.training.losses import WEIGHTS, losses
from sf_plugin.unet.config import CONFIGS
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import save_weights


class Stream(IterableDataset[tuple[PageSample, PageSample]]):
    """Page pairs made in a process of their own while the network learns."""

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self.sampler, self.seed = sampler, seed

    def __iter__(self) -> Iterator[tuple[PageSample, PageSample]]:
        torch.set_num_threads(1)
        return self.sampler.pairs(self.seed)


def prefetch(sampler: Sampler, seed: int) -> Iterator[tuple[PageSample, PageSample]]:
    """Pairs without end, a few ahead."""
    return iter(DataLoader(Stream(sampler, seed), None, num_workers=1, prefetch_factor=4))


def learning_rate(step: int, done: float, peak: float, warm_up: int = 150) -> float:
    """Linear warm-up over steps, then a cosine to one fiftieth as `done` goes from 0 to 1."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return peak * min(1.0, (step + 1) / warm_up) * cosine


def how_far(step: int, spent: float, args: argparse.Namespace) -> float:
    """Share of the training done, by time where `--minutes` is given, else by steps."""
    return float(spent / 60 / args.minutes if args.minutes else step / args.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of engraved pieces")
    parser.add_argument("templates", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pieces", action="append", help="file pattern, repeatable")
    parser.add_argument("--steps", type=int, default=12000, help="of two pages each")
    parser.add_argument("--minutes", type=float, help="stop and schedule by time instead")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--export", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.run.mkdir(parents=True, exist_ok=True)

    spectrogram = SpectrogramConfig()
    patterns = tuple(args.pieces or ["train--*.npz"])
    sampler = Sampler(args.data, Templates(args.templates), spectrogram, patterns)
    print(f"{len(sampler.pieces)} pieces, {len(sampler.index)} pages", flush=True)
    net = ScoreUNet(CONFIGS["default"])
    net.page.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=1e-2)
    step, spent = 0, 0.0
    checkpoint = args.run / "last.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["net"])
        average = copy.deepcopy(net)
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
        print(f"resumed at step {step}", flush=True)
    else:
        pairs = itertools.islice(sampler.pairs(args.seed), 60)
        frames = torch.cat([pair[0].frames for pair in pairs])
        net.audio.mean.copy_(frames.mean(0))
        net.audio.deviation.copy_(frames.std(0) + 0.05)
        average = copy.deepcopy(net)
    samples = prefetch(sampler, args.seed + 1000 * step)
    sums: dict[str, float] = {}
    since, began = 0, time.time()
    while (done := how_far(step, spent, args)) < 1:
        before = time.time()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, done, args.rate)
        terms, scores = losses(net, next(samples))
        loss = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        if torch.isfinite(norm):
            optimiser.step()
        step += 1
        spent += time.time() - before
        last = how_far(step, spent, args) >= 1
        keep = min(0.998, step / (step + 20))
        with torch.no_grad():
            for mean, new in zip(average.parameters(), net.parameters(), strict=True):
                mean.lerp_(new, 1 - keep)
        figures = scores | {name: float(term.detach()) for name, term in terms.items()}
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value
        since += 1
        if step % 50 == 0:
            line = {"step": step} | {name: round(value / since, 4) for name, value in sums.items()}
            line["seconds"] = round((time.time() - began) / since, 3)
            print(json.dumps(line), flush=True)
            with (args.run / "curves.jsonl").open("a") as curves:
                curves.write(json.dumps(line) + "\n")
            sums, since, began = {}, 0, time.time()
        if step % 250 == 0 or last:
            state = {"net": net.state_dict(), "average": average.state_dict(),
                     "optimiser": optimiser.state_dict(), "step": step, "spent": spent}  # fmt: skip
            torch.save(state, checkpoint.with_suffix(".partial"))
            checkpoint.with_suffix(".partial").replace(checkpoint)
            save_weights(average, args.export or args.run / "weights.safetensors")


if __name__ == "__main__":
    main()
