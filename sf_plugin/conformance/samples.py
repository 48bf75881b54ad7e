"""A score and sounds to try a plug-in with."""

from __future__ import annotations

from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import PAGE_WIDTH, PageImage, Pages, Score

PAGE_HEIGHT = 1200
SYSTEMS, MEASURES = 2, 4
"""On a page, and in a system."""


def small_layout(pages: int = 2) -> Layout:
    """Two systems of four equal measures a page."""
    numbers = count(1)
    edges = np.linspace(0.1, 0.9, MEASURES + 1).tolist()
    return Layout(
        tuple(
            PageLayout(
                page,
                tuple(
                    System(
                        top,
                        top + 0.1,
                        edges[0],
                        edges[-1],
                        tuple(
                            Measure(next(numbers), left, right) for left, right in pairwise(edges)
                        ),
                    )
                    for top in (0.2, 0.6)
                ),
            )
            for page in range(1, pages + 1)
        )
    )


def small_score(pages: int = 2) -> Score:
    """Pages with staves, bar lines and note heads where `small_layout` has measures."""
    layout = small_layout(pages)
    return Score("small score", Pages(pages, lambda index: _draw(layout.pages[index])), layout)


def _draw(page: PageLayout) -> PageImage:
    image = np.full((PAGE_HEIGHT, PAGE_WIDTH), 255, np.uint8)
    for system in page.systems:
        left, right = round(system.left * PAGE_WIDTH), round(system.right * PAGE_WIDTH)
        rows = np.linspace(system.top * PAGE_HEIGHT, system.bottom * PAGE_HEIGHT, 5).round()
        for row in rows.astype(int):
            image[row, left:right] = 0
        for measure in system.measures:
            column = round(measure.right * PAGE_WIDTH)
            image[int(rows[0]) : int(rows[-1]), column - 1 : column + 1] = 0
            middle = round((measure.left + measure.right) / 2 * PAGE_WIDTH)
            image[int(rows[2]) - 5 : int(rows[2]) + 5, middle - 6 : middle + 6] = 0
    return image


def some_notes(sample_rate: int, seconds: float = 6.0) -> NDArray[np.float32]:
    """(samples,) half a second of silence, then four notes a second."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate - 0.5
    step = np.floor(time * 4)
    pitch = 220 * 2 ** (step * 7 % 12 / 12)
    notes = 0.3 * np.sin(2 * np.pi * pitch * time) * np.exp(-12 * (time * 4 - step) / 4)
    return np.where(time < 0, 0, notes).astype(np.float32)
