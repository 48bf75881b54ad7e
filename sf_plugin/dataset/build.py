"""Engrave many sources into a set of shards: resumable, and the same however many workers."""

from __future__ import annotations

import io
import random
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sf_plugin.dataset.engraving import Engraving, EngravingError
from sf_plugin.dataset.perform import MECHANICAL, perform
from sf_plugin.dataset.registry import LEFT_OUT, TRAIN, Registry
from sf_plugin.dataset.shards import Packed, ShardSet, ShardWriter, pack_engraving
from sf_plugin.dataset.sources import Source
from sf_plugin.followers import Progress, no_progress
from sf_plugin.workers import in_order


@dataclass(frozen=True)
class Task:
    """One engraving to make.

    Attributes:
        source: of what.
        vary: 0 is as the source says, any other number seeds its variety.
        files: the source's files for a machine that does not see them, as a zip.
    """

    source: Source
    vary: int
    files: bytes | None = None

    @property
    def name(self) -> str:
        return f"{self.source.piece.replace('/', '__')}--{self.vary}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: an engraving and its facts, or the reason why not."""

    name: str
    piece: str
    seconds: float
    packed: Packed | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Failure:
    """A source that did not engrave, or whose truth did not fit together."""

    piece: str
    vary: int
    reason: str


@dataclass
class Built:
    """A finished build."""

    shards: ShardSet
    failures: list[Failure]
    seconds: float
    worker_seconds: float


def engrave(source: Source, vary: int, tree: Path | None = None) -> Engraving:
    """One engraving of a source, whose files lie in `tree` if not where it says.

    Raises:
        EngravingError: it cannot be engraved, or its truth does not fit together.
    """
    tree = tree or source.tree
    if source.engraver == "lilypond":
        from sf_plugin.dataset.engrave_lilypond import engrave_source
        from sf_plugin.dataset.lilypond_variety import draw_variety

        seed = vary, zlib.crc32(source.piece.encode())
        variety = draw_variety(np.random.default_rng(seed)) if vary else None
        return engrave_source(tree, source.file, variety)
    from sf_plugin.dataset.engrave_verovio import engrave_file

    return engrave_file(
        tree / source.file, random.Random(f"{source.piece}/{vary}") if vary else None
    )


def run(task: Task, registry: Registry) -> Outcome:
    """Do a task; that a source cannot be engraved is an answer, not an error."""
    began = time.perf_counter()
    source = task.source
    answer = partial(Outcome, task.name, source.piece)
    try:
        with TemporaryDirectory(prefix="sf-source-") as scratch:
            if task.files is not None:
                with zipfile.ZipFile(io.BytesIO(task.files)) as archive:
                    archive.extractall(scratch)
            engraving = engrave(source, task.vary, Path(scratch) if task.files else None)
        use, why = registry.use_of(source.piece, source.licence, engraving.notes)
        facts = facts_of(task, engraving, use, why)
        packed = pack_engraving(engraving)
    except EngravingError as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # one source of a thousand must not end the build
        reason = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    else:
        return answer(time.perf_counter() - began, packed, facts)
    return answer(time.perf_counter() - began, reason=reason)


def facts_of(task: Task, engraving: Engraving, use: str, why: str) -> dict[str, Any]:
    """What the index says of an engraving; music_seconds is of a mechanical performance."""
    source = task.source
    played = perform(engraving, np.random.default_rng(0), MECHANICAL)
    return {
        "piece": source.piece,
        "title": source.title,
        "composer": source.composer,
        "licence": source.licence,
        "engraver": source.engraver,
        "vary": task.vary,
        "use": use,
        **({"why": why} if why else {}),
        "onsets": len(played.onsets),
        "music_seconds": round(float(played.onsets["time"][-1]), 1),
    }


def build(
    sources: Sequence[Source],
    out: Path,
    *,
    registry: Registry,
    varied: int = 1,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> Built:
    """Engrave every source as it is, and those for training `varied` times otherwise too.

    Goes on where an interrupted build into `out` stopped; the shards' bytes do not depend on
    that, nor on the number of workers.  Sources that failed are tried again.

    Raises:
        ScoreFollowerError: `out` cannot be written, or the workers fail.
    """
    began = time.monotonic()
    writer = ShardWriter(out)
    failures: list[Failure] = []
    worker_seconds = 0.0
    chosen = list(sources)
    for vary in range(varied + 1):
        what = "engraving" if vary == 0 else f"engraving otherwise, {vary} of {varied}"
        todo = [task for source in chosen if (task := Task(source, vary)).name not in writer]
        done = len(chosen) - len(todo)
        progress(what, done, len(chosen))
        work = partial(run, registry=registry)
        for outcome in in_order(work, _sent(todo, scheduler), jobs=jobs, scheduler=scheduler):
            worker_seconds += outcome.seconds
            if outcome.packed is None:
                failures.append(Failure(outcome.piece, vary, outcome.reason))
            else:
                writer.add_packed(outcome.name, outcome.packed, outcome.facts)
            done += 1
            progress(what, done, len(chosen))
        if vary < varied:
            uses = {entry.name: entry.use for entry in writer.entries}
            chosen = [s for s in chosen if uses.get(Task(s, vary).name) == TRAIN]
    return Built(writer.finish(), failures, time.monotonic() - began, worker_seconds)


def _sent(tasks: Sequence[Task], scheduler: str | None) -> Iterator[Task]:
    for task in tasks:
        yield replace(task, files=task.source.packed()) if scheduler else task


def counts(shards: ShardSet) -> dict[str, dict[str, float]]:
    """By use, and in all: pieces, engravings, pages, notes, onsets, hours of music."""
    uses = sorted({str(e.use) for e in shards.entries}, key=lambda use: (use in LEFT_OUT, use))
    out = {}
    for use in [*uses, "all"]:
        here = [e for e in shards.entries if use in ("all", e.use)]
        out[use] = {
            "pieces": len({e.piece for e in here}),
            "engravings": len(here),
            "pages": sum(e.pages for e in here),
            "notes": sum(e.notes for e in here),
            "onsets": sum(e.facts["onsets"] for e in here),
            "hours": round(sum(e.facts["music_seconds"] for e in here) / 3600, 2),
        }
    return out


def size(shards: ShardSet) -> int:
    """Bytes of all shards."""
    return sum((shards.path / name).stat().st_size for name in {e.shard for e in shards.entries})


def report(built: Built, seconds_of: dict[str, float]) -> dict[str, Any]:
    """A build in figures: counts, bytes, times of its steps, and what failed, why."""
    return {
        "version": 1,
        "counts": counts(built.shards),
        "shards": len({e.shard for e in built.shards.entries}),
        "bytes": size(built.shards),
        "seconds": {name: round(value, 1) for name, value in seconds_of.items()},
        "failures": [vars(failure) for failure in built.failures],
    }


def markdown(figures: dict[str, Any]) -> str:
    """The report for people."""
    head = ["use", "pieces", "engravings", "pages", "notes", "onsets", "hours"]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    lines += [
        [use, *(f"{row[name]:,}" for name in head[1:])] for use, row in figures["counts"].items()
    ]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    times = ", ".join(
        f"{name} {seconds / 60:.1f} min" for name, seconds in figures["seconds"].items()
    )
    plain = [f for f in figures["failures"] if f["vary"] == 0]
    text += (
        f"\n\n- {figures['bytes'] / 1e6:.1f} MB in {figures['shards']} shards\n- {times}\n"
        f"- {len(plain)} sources failed"
        f", {len(figures['failures']) - len(plain)} varied engravings failed\n"
    )
    if figures["failures"]:
        text += "\n| failed | vary | reason |\n| --- | ---: | --- |\n"
        for failure in figures["failures"]:
            reason = failure["reason"].replace("|", "\\|")
            text += f"| {failure['piece']} | {failure['vary']} | {reason} |\n"
    return text
