from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scale import scale

from sf_plugin.dataset.shards import ShardWriter
from sf_plugin.evaluation.projection_layout import projection_layout
from sf_plugin.evaluation.read_layouts import main
from sf_plugin.score.layout import PageLayout

WIDTH, HEIGHT = 400, 300


def drawn() -> np.ndarray:
    """A system of two staves with bar lines at 200 and at its ends, and one of one staff."""
    page = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for top in (40, 90, 200):
        page[top : top + 25 : 6, 40:360] = 60
        for x in (200, 359):
            page[top : top + 25, x] = 0
    page[40:115, [40, 200, 359]] = 0
    return page


def test_the_baseline_reads_clean_pages() -> None:
    one, two = projection_layout(drawn(), 1, 5).systems
    assert (one.top * HEIGHT, one.bottom * HEIGHT) == pytest.approx((40, 114))
    assert (two.top * HEIGHT, two.bottom * HEIGHT) == pytest.approx((200, 224))
    assert [m.number for s in (one, two) for m in s.measures] == [5, 6, 7, 8]
    assert one.measures[0].right * WIDTH == pytest.approx(200.5, abs=1)


def test_the_baseline_reads_blank_pages() -> None:
    assert projection_layout(np.full((50, 40), 255, np.uint8), 2, 1) == PageLayout(2)


def test_papers_and_readers_stand_in_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = ShardWriter(tmp_path)
    writer.add("scale--0", scale(), {"piece": "scale", "use": "valid"})
    writer.finish()
    main([str(tmp_path), "--papers", "engraved", "fax"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| engraved", "unet"], ["| engraved", "projection"], ["| fax", "unet"],
        ["| fax", "projection"],
    ]  # fmt: skip
