"""What the network is asked for: the place, and all that helps to find it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sf_plugin.training.data import PageSample
from sf_plugin.training.page_truth import StaffTruth
from sf_plugin.unet.network import Onsets, ScoreUNet
from sf_plugin.unet.pages import find_onsets, strip_places
from sf_plugin.unet.pixels import shrunk
from sf_plugin.unet.staff_reader import Reading, cut_out, key_table

WEIGHTS = {
    "place": 1.0,
    "heads": 0.3,
    "maps": 1.0,
    "strip": 0.3,
    "staves": 0.5,
    "onsets": 0.2,
    "lengths": 0.3,
    "audio": 0.1,
}
NEAR = 2  # cells that an onset may be found beside its place
STRETCH = 64  # frames of a performance that the published network hears in a step
MASKS = 8  # of these frames that it is asked for the place in
MASK_WIDTH = 10  # pixels, as published
MASK_MARGIN = 3  # pixels above the highest and below the lowest note head


def sparse_bce(logits: Tensor, target: Tensor, positive: float) -> Tensor:
    """Binary cross-entropy summed over classes, mean over positions."""
    weight = logits.new_tensor(positive)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return loss.sum(-1).mean()


def head_loss(logits: Tensor, sample: PageSample) -> Tensor:
    """Pitches at note heads against as many other places of the page's systems."""
    rows, columns, pitch = sample.heads.T
    _, height, width = logits.shape
    target = torch.zeros_like(logits, dtype=torch.bool)
    target[pitch, rows, columns] = True

    def drawn(low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,)).to(logits.device)

    near_rows = (rows + drawn(-2, 3, len(rows))).clamp(0, height - 1)
    near_columns = (columns + drawn(-3, 4, len(rows))).clamp(0, width - 1)
    far = 1500
    all_rows = torch.cat([rows, near_rows, drawn(0, height, far)])
    all_columns = torch.cat([columns, near_columns, drawn(0, width, far)])
    at = logits[:, all_rows, all_columns].T.float()
    return sparse_bce(at, target[:, all_rows, all_columns].T.float(), 4.0)


def staff_loss(reading: Reading, truth: StaffTruth) -> Tensor:
    """Heads, by the head, with alterations, clefs, and the letters that keys alter."""
    staff, row, column, begins = truth.heads.T
    target = torch.zeros_like(reading.begins)
    weight = torch.ones_like(reading.begins)
    for beside in (-1, 1):
        weight[staff, row, (column + beside).clamp(0, weight.shape[2] - 1)] = 0
    weight[staff, row, column] = torch.where(begins > 0, 5.0, 1.0)
    target[staff, row, column] = begins.float()
    heads = F.binary_cross_entropy_with_logits(
        reading.begins, target, weight, reduction="sum"
    ) / max(len(staff), 1)
    loss = heads
    for logits, wanted in (
        (reading.alteration[staff, :, row, column], truth.alterations),
        (reading.clef.flatten(0, 1), truth.clefs.flatten()),
    ):
        loss = loss + F.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum") / (
            wanted >= 0
        ).sum().clamp(min=1)
    key = truth.keys.gather(1, (truth.start[:, 1:] - 1).clamp(0, truth.keys.shape[1] - 1))[:, 0]
    wanted = key_table().to(key.device)[key.clamp(min=0)]
    letters = F.binary_cross_entropy_with_logits(reading.key, wanted, reduction="none")
    known = key >= 0
    return loss + (letters.sum((1, 2)) * known).sum() / known.sum().clamp(min=1)


def match_onsets(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The cells to read, and the (onsets,) place of every true one among them.

    Cells `found` on the page count; where none is near a true one, that is added, so
    that what was found wrongly stays as a place to be told from the right ones.
    """
    distance = (true[:, None] - found[None]).abs()
    least, nearest = distance.min(1)
    cells = torch.where(least <= NEAR, found[nearest], true)
    at = torch.cat([found, cells]).unique()
    return at, torch.searchsorted(at, cells)


def losses(
    net: ScoreUNet, pair: tuple[PageSample, ...], frames_per_performance: int = 240
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """One step's terms by name, and how often the likeliest onset is right or next to it.

    A page encoder that does not learn has no terms of its own.  Random choices are
    drawn on the CPU: they are the same on any device.
    """
    if net.config.readout == "pixels":
        return mask_losses(net, pair)
    device = pair[0].image.device
    learns = torch.is_grad_enabled() and next(net.page.parameters()).requires_grad
    terms: dict[str, list[Tensor]] = {name: [] for name in WEIGHTS}
    pages: list[Onsets] = []
    places: list[Tensor] = []
    count = 0
    for sample in pair:
        with torch.autocast(device.type, torch.bfloat16), torch.set_grad_enabled(learns):
            image = sample.ink.contiguous(memory_format=torch.channels_last)
            features = net.page.encode(image)["x"]
            pitch_maps, maps = net.pitch_maps(features), net.maps(features)
        if learns:
            terms["heads"].append(head_loss(pitch_maps[0], sample))
            weight = torch.tensor([1.0, 1.0, 3.0], device=device)[:, None, None]
            terms["maps"].append(
                F.binary_cross_entropy_with_logits(
                    maps[0].float(), sample.maps.float(), pos_weight=weight
                )
            )
        strip = net.strip(features.float(), pitch_maps.float(), sample.systems)
        roll = net.strip_pitches(strip)
        target = torch.zeros_like(roll)
        target[sample.cell_heads[:, 0], sample.cell_heads[:, 1]] = 1
        target[sample.onset_cells, -1] = 1
        terms["strip"].append(sparse_bce(roll, target, 4.0))
        likely = torch.sigmoid(roll[:, -1].detach()).cpu().numpy()
        found = torch.from_numpy(find_onsets(likely, sample.systems)).to(device)
        at, place = match_onsets(found, sample.onset_cells)
        system, column = strip_places(at, sample.systems)
        staves = sample.staves.staves
        with torch.autocast(device.type, torch.bfloat16):
            reading = net.staff(
                cut_out(sample.ink, staves.lines),
                staves.start,
                sample.staves.clefs,
                sample.staves.keys,
            )
        terms["staves"].append(staff_loss(reading, sample.staves))
        pitches = net.staff.pitches(reading, staves, system, column)
        terms["onsets"].append(
            F.binary_cross_entropy(
                pitches[place].clamp(1e-4, 1 - 1e-4), sample.onset_pitches.float(), reduction="none"
            )
            .sum(1)
            .mean()
        )
        onsets, lengths = net.read_onsets(strip, at, pitches)
        terms["lengths"].append(F.smooth_l1_loss(lengths[place], sample.onset_lengths, beta=0.25))
        pages.append(onsets)
        places.append(place + count)
        count += len(at)
    onsets = Onsets.join(pages)
    right = near = total = 0
    for sample, place in zip(pair, places, strict=True):
        z, _ = net.audio(sample.frames)
        terms["audio"].append(sparse_bce(net.heard_logits(z), sample.heard.flatten(2).float(), 3.0))
        enough = frames_per_performance * len(sample.frames)
        pick = torch.randperm(len(sample.target_frames))[:enough].to(device)
        performance, frame = sample.target_frames[pick].T
        logits, _ = net.place_logits(onsets, z[performance, frame])
        target = place[sample.target_onsets[pick]]
        terms["place"].append(F.cross_entropy(logits, target))
        with torch.no_grad():
            away = (logits.argmax(1) - target).abs()
            right += int((away == 0).sum())
            near += int((away <= 1).sum())
            total += len(pick)
    means = {name: torch.stack(values).mean() for name, values in terms.items() if values}
    return means, {"right": right / total, "near": near / total}


def onset_masks(sample: PageSample, onsets: Tensor, shape: tuple[int, int]) -> Tensor:
    """(masks, height, width) bool: boxes around the note heads that begin at each of `onsets`."""
    scale = torch.tensor(shape, device=onsets.device) / torch.tensor(
        sample.maps.shape[1:], device=onsets.device
    )
    row, column = ((sample.heads[:, :2] + 0.5) * scale).T
    mine = sample.head_onsets == onsets[:, None]
    far = sum(shape)
    top = torch.where(mine, row, far).amin(1) - MASK_MARGIN
    bottom = torch.where(mine, row, -far).amax(1) + MASK_MARGIN
    left = torch.where(mine, column, far).amin(1) - MASK_WIDTH / 2
    right = torch.where(mine, column, -far).amax(1) + MASK_WIDTH / 2
    rows, columns = (torch.arange(size, device=onsets.device) + 0.5 for size in shape)
    high = (rows >= top[:, None]) & (rows < bottom[:, None])
    wide = (columns >= left[:, None]) & (columns < right[:, None])
    return high[:, :, None] & wide[:, None]


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the Dice coefficient of every mask, and binary cross-entropy, summed."""
    mask, wanted = torch.sigmoid(logits), target.float()
    shared, both = (mask * wanted).sum((1, 2)), (mask + wanted).sum((1, 2))
    dice = 1 - (2 * shared + 1) / (both + 1)
    return dice.mean() + F.binary_cross_entropy_with_logits(logits, wanted)


def mask_losses(
    net: ScoreUNet, pair: tuple[PageSample, ...]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The published network's terms: each page alone, a stretch of one performance of it.

    Right is a mask whose highest pixel lies in the box, near one beside it.
    """
    terms: dict[str, list[Tensor]] = {"place": [], "audio": []}
    right = near = total = 0
    for sample in pair:
        device = sample.image.device
        chosen = int(torch.randint(len(sample.target_frames), ()))
        number, last = sample.target_frames[chosen].tolist()
        first = max(0, last + 1 - STRETCH)
        with torch.autocast(device.type, torch.bfloat16):
            z, _ = net.audio(sample.frames[number : number + 1, first : last + 1])
        z = z.float()
        heard = sample.heard[number : number + 1, first : last + 1].flatten(2).float()
        terms["audio"].append(sparse_bce(net.heard_logits(z), heard, 3.0))
        performance, frame = sample.target_frames.T
        inside = (performance == number) & (frame >= first) & (frame <= last)
        inside = inside.nonzero().squeeze(1)
        pick = inside[torch.randperm(len(inside))[:MASKS].to(device)]
        with torch.autocast(device.type, torch.bfloat16):
            cache = net.page.encode(shrunk(sample.ink, net.config.page_width))
            logits = net.page_logits(cache, z[0, frame[pick] - first]).float()
        _, height, width = logits.shape
        target = onset_masks(sample, sample.target_onsets[pick], (height, width))
        terms["place"].append(mask_loss(logits, target))
        with torch.no_grad():
            highest = logits.flatten(1).argmax(1, keepdim=True)
            beside = F.max_pool2d(target.float(), 2 * MASK_WIDTH + 1, 1, MASK_WIDTH)
            right += int(target.flatten(1).gather(1, highest).sum())
            near += int(beside.flatten(1).gather(1, highest).sum())
            total += len(pick)
    means = {name: torch.stack(values).mean() for name, values in terms.items() if values}
    return means, {"right": right / total, "near": near / total}
