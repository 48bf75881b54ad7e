"""What a page loader must do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sf_plugin.conformance.rules import Rules, is_one_line, need
from sf_plugin.errors import ScoreError
from sf_plugin.score.layout_files import checked, numbered
from sf_plugin.score.model import PAGE_WIDTH, Score

Loader = Callable[[Sequence[Path]], Score]

NOISE_BYTES = 4096


def check_page_loader(
    loader: Loader, paths: Sequence[Path], folder: Path, *, what: str = "the page loader"
) -> None:
    """Try a page loader.

    Args:
        loader: what is registered.
        paths: the files of a score that it reads.
        folder: where damaged copies of the first of them may be written.

    Raises:
        Broken: it does not do what it must.
    """
    __tracebackhide__ = True
    rules = Rules(what)
    with rules.rule("a loader must take the paths of one document and give a sf_plugin.Score"):
        score = loader(paths)
        need(isinstance(score, Score), f"it gave a {type(score).__name__}")
    rules.end()
    with rules.rule("`Score.name` must say what to call it"):
        need(score.name.strip(), f"it is {score.name!r}")
    with rules.rule(f"a page must be (height, {PAGE_WIDTH}) grey levels, uint8"):
        need(len(score.pages), "there is no page")
        for page in score.pages:
            _is_page(page)
    with rules.rule("a page must be the same each time it is asked for"):
        need(np.array_equal(score.pages[0], score.pages[0]), "it is not")
    with rules.rule("a page that is not there must raise an IndexError"):
        try:
            score.pages[len(score.pages)]
        except IndexError:
            pass
        else:
            need(False, "there was one")
    if score.layout is not None:
        with rules.rule("a layout must number pages, and measures in reading order, from 1"):
            need(len(score.layout.pages) == len(score.pages), "it has other pages than the score")
            need(numbered(checked(score.layout)) == score.layout, "measures are not 1, 2, 3 ...")
    whole = paths[0].read_bytes()
    noise = np.random.default_rng(0).bytes(NOISE_BYTES)
    damaged = {"empty": b"", "half": whole[: len(whole) // 2], "noise": noise}
    for how, content in damaged.items():
        path = folder / f"{how}{''.join(paths[0].suffixes)}"
        path.write_bytes(content)
        with rules.rule(
            f"a file that is {how} must be refused with a ScoreError that names it, or be read"
        ):
            _refused_or_read(loader, path, may_be_read=how != "empty")
    rules.end()


def _is_page(page: np.ndarray) -> None:
    need(isinstance(page, np.ndarray), f"it gave a {type(page).__name__}")
    need(page.dtype == np.uint8, f"it is {page.dtype}")
    need(page.ndim == 2 and page.shape[1] == PAGE_WIDTH, f"it has shape {page.shape}")


def _refused_or_read(loader: Loader, path: Path, *, may_be_read: bool) -> None:
    try:
        score = loader([path])
        pages = list(score.pages)
    except ScoreError as error:
        is_one_line(error)
        need(path.name in str(error), f"its message was {str(error)!r}")
        return
    need(may_be_read and pages, "it was read")
    for page in pages:
        _is_page(page)
