"""Draw the truth of a page on the page, to see that it is true."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.truth_layout import measures_of_engraving

SCALE = 2
"""Pixels of the picture for one of the page: places are drawn finer than they are printed."""

STAFF, MEASURE, REPEAT, SIGN = (90, 150, 255), (0, 150, 90), (220, 0, 140), (150, 90, 0)
FRESH, TIED, GRACE = (225, 40, 30), (240, 160, 0), (130, 60, 220)


def draw_truth(engraving: Engraving, page: int) -> Image.Image:
    """The page (from 0) with everything that is known of it.

    Note heads are dots (red; orange where a tie goes on; violet for grace notes), staves
    blue bands, measures green lines with their numbers, repeats and endings magenta, clefs,
    keys, times and marks brown.
    """
    height, width = engraving.pages.shape[1] * SCALE, engraving.pages.shape[2] * SCALE
    page_image = Image.fromarray(engraving.pages[page]).resize((width, height))
    # paler ink, so that the marks stand out
    pale = 255 - (255 - np.asarray(page_image, np.uint16)) * 3 // 5
    picture = Image.fromarray(pale.astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(picture, "RGBA")
    here = np.flatnonzero(engraving.systems["page"] == page)

    for staff in engraving.staves[np.isin(engraving.staves["system"], here)]:
        system = engraving.systems[staff["system"]]
        box = (system["left"] * width, staff["top"] * height,
               system["right"] * width, staff["bottom"] * height)  # fmt: skip
        draw.rectangle([float(v) for v in box], fill=(*STAFF, 40))
    for index, placed in zip(
        here, measures_of_engraving(engraving).pages[page].systems, strict=True
    ):
        top, bottom = placed.top * height, placed.bottom * height
        lines = [
            (x * width, REPEAT if repeat else MEASURE)
            for m in placed.measures
            for x, repeat in ((m.left, m.repeat_start), (m.right, m.repeat_end))
        ]
        for x, colour in sorted(lines, key=lambda line: line[1] == REPEAT):
            draw.line((x, top - 6, x, bottom + 6), (*colour, 200), 3)
        for measure in placed.measures:
            label = measure.label or str(measure.number)
            if measure.volta:
                label += f"  [{measure.volta}]"
            where = (measure.left * width + 4, top - 26)
            draw.text(where, label, REPEAT if measure.volta else MEASURE, font_size=18)
        for sign in engraving.signs[engraving.signs["system"] == index]:
            at = (float(sign["x"]) * width, float(sign["y"]) * height)
            draw.text(at, f"{sign['value']}", SIGN, font_size=15, anchor="mm")
    for note in engraving.notes[engraving.notes["page"] == page]:
        x, y = float(note["x"]) * width, float(note["y"]) * height
        colour = TIED if note["tied"] else GRACE if note["grace"] < 0 else FRESH
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), (*colour, 230))
    return picture
