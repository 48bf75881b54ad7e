"""Try ways to turn pages without listening again, and see why turns were wrong.

    python -m sf_plugin.evaluation.turning SET --positions DIR --conditions repeats,jumps

Performances of several pages are followed once; their positions are kept in DIR and
turned by again in seconds.  After new weights, name another DIR.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.conditions import CONDITIONS
from sf_plugin.evaluation.engraved import Setting, find_pieces
from sf_plugin.evaluation.following import follow
from sf_plugin.evaluation.metrics import EARLY, Truth, Turns, judge_turns
from sf_plugin.followers import Follower
from sf_plugin.page_turns import Lead, PageTurner, TurnSettings
from sf_plugin.positions import Position, event_from_json
from sf_plugin.score.layout import Layout
from sf_plugin.unet.plugin import make_unet
from sf_plugin.unet.weights import SHIPPED


@dataclass(frozen=True)
class Followed:
    """What a follower said of a performance, and the pages it said it of."""

    case: Case
    layout: Layout
    positions: list[Position]

    @property
    def seconds(self) -> float:
        """Of sound."""
        return self.positions[-1].time if self.positions else 0.0


class Kept:
    """Follows cases once and keeps what was said in a folder.

    Args:
        folder: where; one for each follower.
        make: gives the follower, when there is anything to follow.
    """

    def __init__(self, folder: Path, make: Callable[[], Follower]) -> None:
        self.folder, self._make = folder, make
        self._follower: Follower | None = None
        self._on_stand: object = None
        self._layout = Layout(())

    def __call__(self, case: Case) -> Followed:
        """What was said of a case, now or before."""
        name = case.name.replace("/", "_")
        said = self.folder / f"{name}.jsonl"
        pages = self.folder / f"{name}.layout.json"
        if not said.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            positions = self._follow(case)
            pages.write_text(self._layout.to_json(), encoding="utf-8")
            part = said.with_suffix(".part")
            part.write_text("".join(p.to_json() + "\n" for p in positions), encoding="utf-8")
            part.replace(said)
        events = map(event_from_json, said.read_text(encoding="utf-8").splitlines())
        layout = Layout.from_json(pages.read_text(encoding="utf-8"))
        return Followed(case, layout, [e for e in events if isinstance(e, Position)])

    def _follow(self, case: Case) -> list[Position]:
        follower = self._follower = self._follower or self._make()
        if self._on_stand is not case.score:
            self._layout, self._on_stand = follower.prepare(case.score), case.score
        return follow(follower, self._layout, case.sound(), case.sample_rate)[0]


@dataclass(frozen=True)
class Judged:
    """The turns of a performance, and a line for each that was false, late or missing."""

    condition: str
    turns: Turns
    faults: tuple[str, ...]


def turn(followed: Followed, settings: TurnSettings) -> Judged:
    """Turn the pages by what was said."""
    turner = PageTurner(followed.layout, settings)
    made = [turn for turn in map(turner.hear, followed.positions) if turn is not None]
    truth = followed.case.truth
    turns = judge_turns(made, truth, followed.seconds)
    return Judged(followed.case.condition, turns, tuple(_faults(followed, turns)))


def _faults(followed: Followed, turns: Turns) -> Iterator[str]:
    name = followed.case.name
    for wrong in turns.wrong:
        why = why_false(wrong.time, followed.positions, followed.case.truth)
        yield f"{name}, to page {wrong.page} at {wrong.time:.1f} s: false: {why}"
    for due in turns.asked:
        if due.lead is None:
            yield f"{name}, to page {due.page} at {due.time:.1f} s: missing"


def why_false(time: float, positions: Sequence[Position], truth: Truth) -> str:
    """The likeliest reason why a turn at `time` was false."""
    told = np.searchsorted([p.time for p in positions], time, side="right")
    said = positions[max(int(told) - 1, 0)]
    here = max(int(np.searchsorted(truth.time, time, side="right")) - 1, 0)
    there = (truth.page[here], truth.system[here])
    if (said.page, truth.system_at(said.page, said.y)) != there:
        return "the follower was elsewhere"
    coming = slice(here + 1, int(np.searchsorted(truth.time, time + EARLY, side="right")))
    if coming.stop <= here + 1 or truth.time[here + 1] > time + EARLY / 2:
        return "the player stopped"
    on_this = (truth.page[coming] == there[0]) & (truth.system[coming] == there[1])
    return "too early" if on_this.all() else "the player went elsewhere"


def table(judged: Iterable[Judged]) -> list[str]:
    """A line for each condition and for all."""
    sums: dict[str, Turns] = {}
    for one in judged:
        for name in (one.condition, "all"):
            sums[name] = sums.get(name, Turns()) + one.turns
    return [_row(name, sums[name]) for name in sorted(sums, key=lambda name: name == "all")]


def _row(name: str, turns: Turns) -> str:
    cells = [f"{name:<12} {turns.seconds / 3600:5.2f} h"]
    cells += [f"{turns.due} due, {turns.right} right, {turns.made} made, {turns.false} false"]
    if turns.seconds:
        cells += [f"{3600 * turns.false / turns.seconds:.1f} false an hour"]
    cells += [f"{turns.too_late} of {sum(d.onward for d in turns.asked)} too late"]
    for what, onward in (("read on", True), ("elsewhere", False)):
        if leads := turns.leads(onward):
            low, middle, high = np.quantile(leads, (0.05, 0.5, 0.95))
            cells += [f"lead, {what}: {middle:.2f} s [{low:.2f}, {high:.2f}]"]
    return "; ".join(cells)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("set", type=Path, help="a built set")
    parser.add_argument("--positions", type=Path, required=True, help="folder to keep them in")
    parser.add_argument("--use", default="valid", help="which part of it (default %(default)s)")
    parser.add_argument("--pieces", nargs="+", default=["*"], help="name patterns")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="default: all")
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--lead", type=Lead.parse, default=Lead(), help="default %(default)s")
    parser.add_argument("--faults", action="store_true", help="name each that was not right")
    args = parser.parse_args(argv)
    folder = args.set if args.set.is_dir() else args.set.parent
    setting = Setting(tuple(args.conditions.split(",")), False, 0, folder / "recordings")
    kept = Kept(args.positions, lambda: make_unet(args.weights))
    judged = []
    for piece in find_pieces(args.set, args.use.split(","), args.pieces, setting):
        for case in piece():
            if len(case.score.pages) > 1:
                judged.append(turn(kept(case), TurnSettings(lead=args.lead)))
    if args.faults:
        faults = [fault for one in judged for fault in one.faults]
        print(*faults, sep="\n")
        for why, count in Counter(fault.rpartition(": ")[2] for fault in faults).most_common():
            print(f"{count} {why}")
    print(*table(judged), sep="\n")


if __name__ == "__main__":
    main()
