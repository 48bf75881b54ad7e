"""What each part of the following is worth: the same recordings, followed without it.

    python -m sf_plugin.training.ablations SET --conditions room,jumps

Parts of the network are silenced, not trained without; every recording is heard once.
Choose pieces that are neither trained nor reported on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sf_plugin.evaluation.engraved import EngravedPiece
from sf_plugin.evaluation.metrics import Answers, answers
from sf_plugin.positions import Estimate, Position, State
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.structure import NO_ROADS
from sf_plugin.tracking.smoothing import Hearing, frames_of
from sf_plugin.tracking.tracker import STRUCK, TrackerConfig
from sf_plugin.training.fit_tracker import Heard, follow, parser_of_pieces, pieces_asked_for
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.network import ScoreUNet

SHIPS = TrackerConfig()


@dataclass(frozen=True)
class Ablation:
    """A follower that lacks something.

    Attributes:
        silent: parameters of block I that are zero.
        config: how the path may move; None where there is no path and every frame's
            likeliest onset is said.
        signs: whether repeats and the like are followed as printed.
        twins: whether onsets that read alike are heard alike.
        every: of so many frames one is heard.
    """

    silent: tuple[str, ...] = ()
    config: TrackerConfig | None = SHIPS
    signs: bool = True
    twins: bool = True
    every: int = 1


ABLATIONS = {
    "as it ships": Ablation(),
    "no path: the likeliest onset of every frame": Ablation(config=None),
    "no jumps": Ablation(config=replace(SHIPS, jump=0.0, pause_jump=0.0, search=0.0)),
    "no twins": Ablation(twins=False),
    "no signs": Ablation(signs=False),
    "no waiting for the next note": Ablation(config=replace(SHIPS, unheard=0.0)),
    "all frames alike": Ablation(config=replace(SHIPS, trust=4.0, accent=0.0)),
    "three tempi": Ablation(config=replace(SHIPS, tempi=(0, 1.0, 2.5))),
    "20 frames a second": Ablation(every=2),
    "no learned question": Ablation(silent=("query.weight", "query.bias")),
    "no FiLM": Ablation(silent=("weight",)),
    "no pitches heard now": Ablation(silent=("match",)),
    "no last three onsets": Ablation(silent=("grams",)),
}


@contextmanager
def silenced(net: ScoreUNet, names: Sequence[str]) -> Iterator[None]:
    """Parameters of block I zero for a while."""
    parameters = [net.block_i.get_parameter(name) for name in names]
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        try:
            for parameter in parameters:
                parameter.zero_()
            yield
        finally:
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def thinned(hearing: Hearing, every: int) -> Hearing:
    """One frame of every so many; struck where any of them was."""
    count = len(hearing.time) // every * every
    frames = slice(every - 1, count, every)
    struck = hearing.struck[:count].reshape(-1, every).max(1)
    logits = hearing.logits[:count][every - 1 :: every]
    return Hearing(logits, hearing.time[frames], hearing.quiet[frames], struck)


def likeliest(heard: Heard) -> list[Position]:
    """Every frame's likeliest onset, from the first note on."""
    mapper, document = PlainMapper(), heard.document
    mapper.open(heard.layout)
    positions, begun = [], False
    for logits, time, _, struck in frames_of(heard.hearing, slice(None)):
        begun |= struck >= STRUCK
        at = int(np.argmax(logits))
        page, x, y = int(document.page[at]), float(document.x[at]), float(document.y[at])
        state: State = "tracking" if begun else "waiting"
        positions.append(mapper.locate(Estimate(time, page, x, y, 1.0, state)))
    return positions


def followed(heard: Heard, ablation: Ablation) -> list[Position]:
    """What is said of a recording whose logits are those of `ablation`."""
    if ablation.every > 1:
        hearing = thinned(heard.hearing, ablation.every)
        heard = replace(heard, hearing=hearing, fps=heard.fps / ablation.every)
    if not ablation.twins:
        alone = np.arange(len(heard.document))
        heard = replace(heard, document=replace(heard.document, kind=alone))
    if ablation.config is None:
        return likeliest(heard)
    return follow(heard, ablation.config, None if ablation.signs else NO_ROADS)[0]


def ablate(
    pieces: Sequence[EngravedPiece], weights: Path, names: Sequence[str]
) -> dict[str, dict[str, Answers]]:
    """All answers by condition and name of `ABLATIONS`, pooled."""
    follower = UNetFollower(weights)
    fps = follower.spectrogram.config.fps
    said: dict[str, dict[str, list[Answers]]] = {}
    on_stand = None
    for piece in pieces:
        for case in piece():
            if case.score is not on_stand:
                on_stand, layout = case.score, follower.prepare(case.score)
            whole = follower.hear_whole([case.sound()])
            mine = said.setdefault(case.condition, {name: [] for name in names})
            for name in names:
                ablation = ABLATIONS[name]
                with silenced(follower.net, ablation.silent):
                    hearing = replace(whole, logits=whole.logits[: len(whole.time)])
                heard = Heard(follower.document, layout, case.truth, hearing, fps)
                mine[name].append(answers(followed(heard, ablation), case.truth))
        print(piece.name, flush=True)
    return {
        condition: {name: Answers.join(parts) for name, parts in mine.items()}
        for condition, mine in said.items()
    }


def table(said: dict[str, Answers]) -> str:
    """In Markdown, a row an ablation."""
    titles = ["", "within 0.05 s", "within 0.5 s", "within 1 s", "right system", "right measure"]
    lines = [" | ".join(titles), " | ".join(["---", *["---:"] * 5])]
    for name, given in said.items():
        figures = given.summary()
        row = [figures[key] for key in ("within_0.05s", "within_0.5s", "within_1s")]
        row += [figures["system"], figures["measure"]]
        lines.append(" | ".join([name, *(f"{figure:.3f}" for figure in row)]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = parser_of_pieces(__doc__, "room,repeats,jumps")
    parser.add_argument("--only", nargs="+", choices=ABLATIONS, default=list(ABLATIONS))
    args = parser.parse_args()
    pieces = pieces_asked_for(args)
    for condition, said in ablate(pieces, args.weights, args.only).items():
        onsets = len(next(iter(said.values())).error)
        print(f"\n{condition}: {len(pieces)} pieces, {onsets} onsets\n\n{table(said)}")


if __name__ == "__main__":
    main()
