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
from pathlib import Path

import torch

from sf_plugin.audio.spectrogram import SpectrogramConfig
from sf_plugin.dataset.registry import Registry
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.templates import Templates
from sf_plugin.training.data import Sampler
from sf_plugin.training.losses import WEIGHTS, losses
from sf_plugin.unet.config import CONFIGS
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import save_weights


def learning_rate(step: int, done: float, peak: float, warm_up: int = 150) -> float:
    """Linear warm-up over steps, then a cosine to one fiftieth as `done` goes from 0 to 1."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return peak * min(1.0, (step + 1) / warm_up) * cosine


def how_far(step: int, spent: float, args: argparse.Namespace) -> float:
    """Share of the training done, by time where `--minutes` is given, else by steps."""
    return float(spent / 60 / args.minutes if args.minutes else step / args.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="set of engraved pieces")
    parser.add_argument("templates", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pieces", action="append", help="pattern of names, repeatable")
    parser.add_argument("--steps", type=int, default=12000, help="of two pages each")
    parser.add_argument("--performances", type=int, default=1, help="of each page")
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
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
    shards = ShardSet(args.data)
    sampler = Sampler(
        shards, Templates(args.templates), spectrogram, args.performances, args.pieces or ["*"]
    )
    Registry.load().check_training(
        (entry.piece, shards.load(entry.name, images=False).notes) for entry in sampler.entries
    )
    print(f"{len(sampler.entries)} engravings, {len(sampler.pages)} pages", flush=True)
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
        frames = torch.cat([pair[0].frames.flatten(0, 1) for pair in pairs])
        net.audio.mean.copy_(frames.mean(0))
        net.audio.deviation.copy_(frames.std(0) + 0.05)
        average = copy.deepcopy(net)
    samples = sampler.pairs(args.seed, step, args.workers)
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
