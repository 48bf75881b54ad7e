"""Engrave LilyPond sources into page images with exact truth.

Every note head, bar line, staff, clef, key and mark carries its facts as a link in the PDF
(`truth.ily`), so the truth is read from the very page that is rendered.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sf_plugin.dataset.engraving import PAGE_WIDTH, Engraving, EngravingError
from sf_plugin.dataset.lilypond_sources import modernise, stage
from sf_plugin.dataset.lilypond_truth import read_truth
from sf_plugin.dataset.lilypond_variety import (
    LilyPondVariety,
    after_source,
    after_truth,
    before_source,
)

_HERE = Path(__file__).parent
_LOG = logging.getLogger(__name__)


def run_lilypond(
    source: Path, variety: LilyPondVariety | None = None, timeout: float = 180
) -> Path:
    """Engrave `source`, with truth links; returns a PDF beside it
    (the first, where the source has several books).

    The source and what it includes are modernised in place.

    Raises:
        EngravingError: LilyPond made no pages, or took more than `timeout` seconds.
    """
    modernise(source)
    return _run(source, variety or LilyPondVariety(), timeout)[0]


def engrave_source(
    tree: Path,
    piece: str,
    variety: LilyPondVariety | None = None,
    page_width: int = PAGE_WIDTH,
    timeout: float = 180,
) -> Engraving:
    """Engrave one piece of a tree of sources, in a scratch copy of its folder.

    A source that fails under a variety is tried with fewer changes, which is logged; `timeout`
    is in seconds for each try.

    Raises:
        EngravingError: the reason why there is no page, or why its facts are not to be trusted.
    """
    with tempfile.TemporaryDirectory(prefix="sf-engrave-") as scratch:
        *parts, main = stage(tree, piece, Path(scratch) / "piece")
        for part in parts:
            try:
                return _engrave(part, piece, variety, page_width, timeout)
            except EngravingError:
                continue
        return _engrave(main, piece, variety, page_width, timeout)


def _engrave(
    main: Path, piece: str, variety: LilyPondVariety | None, page_width: int, timeout: float
) -> Engraving:
    """Engrave a staged file, with fewer and fewer changes until it goes."""
    modernise(main)
    first: EngravingError | None = None
    for attempt in _attempts(variety or LilyPondVariety()):
        try:
            engraving = read_truth(_run(main, attempt, timeout), page_width)
        except EngravingError as error:
            first = first or error
            continue
        if first is not None:
            _LOG.warning("%s: engraved with fewer changes, as: %s", piece, first)
        return engraving
    assert first is not None
    raise first


def _attempts(variety: LilyPondVariety) -> Iterator[LilyPondVariety]:
    yield variety
    yield from variety.milder()


def _run(main: Path, variety: LilyPondVariety, timeout: float) -> list[Path]:
    import lilypond

    folder = Path(tempfile.mkdtemp(prefix="sf-pages-", dir=main.parent))
    settings, varied = folder / "settings.ily", main.with_name("sf-main.ly")
    plain = variety == LilyPondVariety()
    parts = [(_HERE / name).read_text(encoding="utf-8") for name in ("repairs.ily", "truth.ily")]
    if not plain:
        parts = [before_source(variety), *parts, after_truth(variety)]
    settings.write_text("\n".join(parts), encoding="utf-8")
    text = main.read_text(encoding="utf-8", errors="replace")
    varied.write_text(text if plain else f"{text}\n{after_source(variety)}", encoding="utf-8")
    command = [
        str(lilypond.executable("lilypond")),
        "-dno-point-and-click",
        f"-dinclude-settings={settings}",
        "-o",
        str(folder),
        varied.name,
    ]
    done = _call(command, main.parent, timeout)
    if done.returncode < 0:
        # LilyPond's garbage collector is at fault in some of its crashes
        done = _call(command, main.parent, timeout, {"GC_DONT_GC": "1"})
    pdfs = sorted(folder.glob("*.pdf"), key=lambda pdf: (len(pdf.name), pdf.name))
    if not pdfs:
        raise EngravingError(_reason(done))
    return pdfs


def _call(
    command: list[str], folder: Path, timeout: float, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise EngravingError(f"LilyPond took more than {timeout:g} s") from None


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """LilyPond's first error, without the folders of this machine."""
    if done.returncode < 0:
        return f"LilyPond was ended by signal {-done.returncode}"
    lines = done.stderr.splitlines()
    errors = [line.strip() for line in lines if "error:" in line.lower() or "ERROR" in line]
    if not errors:
        return "LilyPond wrote no PDF"
    return " ".join(word.rsplit("/", 1)[-1] for word in errors[0].split())[:200]
