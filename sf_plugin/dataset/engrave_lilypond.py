"""Engrave LilyPond sources into page images with exact truth.

Every note head, bar line and staff carries its facts as a link in the PDF
(`truth.ily`), so the truth is read from the very page that is rendered.

    python -m sf_plugin.dataset.engrave_lilypond SOURCES.tar.xz OUT --jobs 2
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf

from sf_plugin.dataset.engraving import PAGE_WIDTH, Engraving, EngravingError

TRUTH = Path(__file__).with_name("truth.ily")


def _lilypond(script: str) -> str:
    import lilypond

    return str(lilypond.executable(script))


def run_lilypond(source: Path, staff_size: float | None = None, timeout: float = 120) -> Path:
    """Engrave `source` beside itself, with truth links; returns the PDF's path."""
    if not re.search(r"\\version", source.read_text(errors="replace")):
        raise EngravingError("the source names no LilyPond version")
    subprocess.run(
        [_lilypond("convert-ly"), "-e", source.name],
        cwd=source.parent,
        capture_output=True,
        timeout=timeout,
    )
    settings = source.parent / "sf-settings.ily"
    size = f"#(set-global-staff-size {staff_size})\n" if staff_size else ""
    settings.write_text(size + TRUTH.read_text())
    command = [
        _lilypond("lilypond"),
        "-dno-point-and-click",
        f"-dinclude-settings={settings.name}",
        "-o",
        "sf-engraved",
        source.name,
    ]
    done = subprocess.run(
        command,
        cwd=source.parent,
        capture_output=True,
        timeout=timeout,
        text=True,
        errors="replace",
    )
    pdf = source.parent / "sf-engraved.pdf"
    if not pdf.exists():
        others = sorted(source.parent.glob("sf-engraved*.pdf"))
        if not others:
            errors = [line for line in done.stderr.splitlines() if "rror" in line]
            raise EngravingError(errors[0].strip()[:200] if errors else "LilyPond wrote no PDF")
        pdf = others[0]
    return pdf


def _facts(page: pymupdf.Page) -> Iterator[tuple[str, list[str], pymupdf.Rect]]:
    for link in page.get_links():
        uri = link.get("uri") or link.get("file") or ""
        if uri.startswith("sf://"):
            kind, _, values = uri[5:].partition("/")
            yield kind, values.split(";"), link["from"]


def read_truth(pdf: Path, page_width: int = PAGE_WIDTH) -> Engraving:
    """Render a PDF engraved with truth links and collect its facts."""
    pages: list[np.ndarray] = []
    notes: list[tuple[Any, ...]] = []
    systems: list[tuple[Any, ...]] = []
    staves: list[tuple[Any, ...]] = []
    bars: list[tuple[Any, ...]] = []
    with pymupdf.open(pdf) as document:
        for page in document:
            facts = list(_facts(page))
            by_system: dict[tuple[int, str], list[pymupdf.Rect]] = {}
            for kind, values, box in facts:
                if kind == "staff" and box.width > 40:
                    by_system.setdefault((int(values[0]), values[1]), []).append(box)
            if not by_system:
                continue
            number = len(pages)
            scale = page_width / page.rect.width
            pixels = page.get_pixmap(
                matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csGRAY, annots=False
            )
            image = np.frombuffer(pixels.samples, np.uint8).reshape(pixels.h, pixels.stride)
            pages.append(image[:, : pixels.w])
            width, height = page.rect.width, page.rect.height
            order = sorted(by_system.items(), key=lambda item: min(b.y0 for b in item[1]))
            first = len(systems)
            edges = []
            for (score, _), boxes in order:
                boxes.sort(key=lambda b: b.y0)
                top, bottom = boxes[0].y0, boxes[-1].y1
                edges.append((top, bottom))
                for box in boxes:
                    staves.append((len(systems), box.y0 / height, box.y1 / height))
                systems.append(
                    (
                        number,
                        score - 1,
                        len(boxes),
                        top / height,
                        bottom / height,
                        min(b.x0 for b in boxes) / width,
                        max(b.x1 for b in boxes) / width,
                    )
                )

            def nearest(y: float, edges: list = edges, first: int = first) -> int:
                return first + min(
                    range(len(edges)),
                    key=lambda i: max(edges[i][0] - y, y - edges[i][1]),
                )

            for kind, values, box in facts:
                x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
                if kind == "note":
                    block, onset, grace, pitch, length, tied, tempo = values
                    notes.append(
                        (
                            number,
                            nearest(y),
                            x / width,
                            y / height,
                            int(block) - 1,
                            float(Fraction(onset)),
                            float(Fraction(grace)),
                            round(float(pitch)) + 60,
                            float(Fraction(length)),
                            tied == "1",
                            float(Fraction(tempo)),
                            -1,
                            0,
                            0,
                        )
                    )
                elif kind == "bar" and values[3]:
                    bars.append(
                        (
                            nearest(y),
                            x / width,
                            float(Fraction(values[1])),
                            int(values[2]),
                            values[3],
                        )
                    )
    return Engraving.of_rows(pages, notes, systems, staves, bars)


def engrave(sources: Path, piece: str, staff_size: float | None = None) -> Engraving:
    """Engrave one piece of an unpacked source tree in a scratch copy of its folder."""
    source = sources / piece
    with tempfile.TemporaryDirectory(prefix="sf-engrave-") as scratch:
        folder = Path(scratch) / "piece"
        # some sources include files from beside or above their own folder
        top = source.parent.parent if len(Path(piece).parts) > 3 else source.parent
        shutil.copytree(top, folder)
        return read_truth(run_lilypond(folder / source.relative_to(top), staff_size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sources", type=Path, help="archive with manifest.json, or its folder")
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--split", action="append", help="train, valid or none; repeatable")
    parser.add_argument("--vary", type=int, default=0, help="seed of the engraving's variety")
    args = parser.parse_args()
    if args.sources.is_dir():
        tree = args.sources
    else:
        tree = Path(tempfile.mkdtemp(prefix="sf-sources-"))
        with tarfile.open(args.sources) as archive:
            archive.extractall(tree, filter="data")
    pieces = json.loads((tree / "manifest.json").read_text())
    args.out.mkdir(parents=True, exist_ok=True)

    def one(piece: dict) -> str | None:
        split = piece["msmd_split"] or "none"
        if args.split and split not in args.split:
            return None
        name = piece["path"].removesuffix(".ly").replace("/", "__")
        path = args.out / f"{split}--{name}--{args.vary}.npz"
        if path.exists():
            return None
        rng = random.Random(f"{name}/{args.vary}")
        size = rng.uniform(15.5, 23) if args.vary else None
        try:
            engrave(tree, piece["path"], size).save(path)
        except (EngravingError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            return f"{piece['path']}\t{error}"
        return None

    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(one, piece) for piece in pieces]
        failures = 0
        with (args.out / f"failures-{args.vary}.txt").open("w") as log:
            for done, job in enumerate(as_completed(jobs), 1):
                if failure := job.result():
                    failures += 1
                    log.write(failure + "\n")
                    log.flush()
                print(f"\r{done}/{len(jobs)} pieces, {failures} failed", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
