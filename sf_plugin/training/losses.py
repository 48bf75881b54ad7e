"""What the network is asked for: the place, and all that helps to find it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sf_plugin.training.data import PageSample
from sf_plugin.unet.network import Cells, ScoreUNet

WEIGHTS = {"place": 1.0, "heads": 0.3, "maps": 1.0, "strip": 0.3, "audio": 0.2}


def sparse_bce(logits: Tensor, target: Tensor, positive: float) -> Tensor:
    """Binary cross-entropy summed over classes, mean over positions."""
    weight = torch.tensor(positive)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return loss.sum(-1).mean()


def head_loss(logits: Tensor, sample: PageSample) -> Tensor:
    """Pitches at note heads against as many other places of the page's systems."""
    rows, columns, pitch = sample.heads.T
    _, height, width = logits.shape
    target = torch.zeros(logits.shape, dtype=torch.bool)
    target[pitch, rows, columns] = True
    near_rows = (rows + torch.randint(-2, 3, rows.shape)).clamp(0, height - 1)
    near_columns = (columns + torch.randint(-3, 4, rows.shape)).clamp(0, width - 1)
    far = 1500
    all_rows = torch.cat([rows, near_rows, torch.randint(0, height, (far,))])
    all_columns = torch.cat([columns, near_columns, torch.randint(0, width, (far,))])
    at = logits[:, all_rows, all_columns].T.float()
    return sparse_bce(at, target[:, all_rows, all_columns].T.float(), 4.0)


def losses(
    net: ScoreUNet, pair: tuple[PageSample, ...], frames_per_performance: int = 160
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """One step's terms by name, and how often the likeliest cell is right."""
    terms: dict[str, list[Tensor]] = {name: [] for name in WEIGHTS}
    strips: list[Cells] = []
    for sample in pair:
        with torch.autocast("cpu", torch.bfloat16):
            image = sample.ink.contiguous(memory_format=torch.channels_last)
            features = net.page.encode(image)["x"]
            pitch_maps, maps = net.pitch_maps(features), net.maps(features)
        terms["heads"].append(head_loss(pitch_maps[0], sample))
        weight = torch.tensor([1.0, 1.0, 3.0])[:, None, None]
        terms["maps"].append(
            F.binary_cross_entropy_with_logits(
                maps[0].float(), sample.maps.float(), pos_weight=weight
            )
        )
        strip = net.strip(features.float(), pitch_maps.float(), sample.systems)
        roll = net.strip_pitches(strip)
        target = torch.zeros_like(roll)
        target[sample.cell_heads[:, 0], sample.cell_heads[:, 1]] = 1
        target[sample.cell_heads[:, 0], -1] = 1
        terms["strip"].append(sparse_bce(roll, target, 4.0))
        strips.append(net.read_strip(strip))
    cells = Cells.join(strips)
    right_cell = right_system = total = 0
    start = 0
    for sample in pair:
        z, _ = net.audio(sample.frames)
        heard = net.heard_pitches(z)
        rolls = torch.cat([sample.active, sample.onset], 2).float()
        terms["audio"].append(sparse_bce(heard, rolls, 3.0))
        enough = frames_per_performance * len(sample.frames)
        pick = torch.randperm(len(sample.target_frames))[:enough]
        performance, frame = sample.target_frames[pick].T
        logits, _ = net.place_logits(cells, z[performance, frame])
        target = torch.zeros_like(logits)
        target[:, start : start + sample.cells] = sample.target_cells(pick)
        start += sample.cells
        terms["place"].append(F.cross_entropy(logits, target))
        with torch.no_grad():
            guess, truth = logits.argmax(1), target.argmax(1)
            right_cell += int(((guess - truth).abs() <= 3).sum())
            right_system += int(((guess - truth).abs() <= 80).sum())
            total += len(pick)
    means = {name: torch.stack(values).mean() for name, values in terms.items()}
    return means, {"right_cell": right_cell / total, "near": right_system / total}
