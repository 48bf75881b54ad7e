"""How well the averaged network places what it has never heard, always in a room.

The samples are of pieces that are neither trained nor reported on, and the same each time.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from sf_plugin.training.data import PageSample, Sampler
from sf_plugin.training.losses import losses
from sf_plugin.training.parallel import Group
from sf_plugin.unet.network import ScoreUNet

PAIRS = 24  # of pages
SEED = 2020


@dataclass(frozen=True)
class Validation:
    """This process's share of the pairs, and how a network does on all."""

    pairs: list[tuple[PageSample, PageSample]]

    @classmethod
    def of(cls, sampler: Sampler, workers: int, group: Group) -> Validation:
        """`sampler` is of the use to validate on, with a room for every performance."""
        share = group.rank, group.size
        with closing(sampler.pairs(SEED, 0, workers, share)) as pairs:
            return cls(list(islice(pairs, -(-PAIRS // group.size))))

    @torch.no_grad()
    def score(self, net: ScoreUNet, group: Group) -> dict[str, float]:
        """Means over the pairs: the loss of the place, and the share right."""
        torch.manual_seed(SEED)
        rows = []
        for pair in self.pairs:
            sample = tuple(page.to(group.device) for page in pair)
            terms, shares = losses(net, sample, pair[0].frames.shape[1])
            rows.append((float(terms["place"]), shares["right"]))
        place, right = np.mean(rows, 0).tolist()
        return group.means({"place": place, "right": right})
