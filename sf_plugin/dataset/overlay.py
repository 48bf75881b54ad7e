"""Draw the truth of a page on the page, to see that it is true."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.score.overlay import draw_measures, faded

STAFF, SIGN = (90, 150, 255), (150, 90, 0)
FRESH, TIED, GRACE = (225, 40, 30), (240, 160, 0), (130, 60, 220)


def draw_truth(engraving: Engraving, page: int) -> Image.Image:
    """The page (from 0) with everything that is known of it.

    Note heads are dots (red; orange where a tie goes on; violet for grace notes), staves
    blue bands, measures green lines with their numbers, repeats and endings magenta, clefs,
    keys, times and marks brown.
    """
    picture = faded(engraving.pages[page])
    width, height = picture.size
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
        draw_measures(draw, placed, width, height)
        for sign in engraving.signs[engraving.signs["system"] == index]:
            at = (float(sign["x"]) * width, float(sign["y"]) * height)
            draw.text(at, f"{sign['value']}", SIGN, font_size=15, anchor="mm")
    for note in engraving.notes[engraving.notes["page"] == page]:
        x, y = float(note["x"]) * width, float(note["y"]) * height
        colour = TIED if note["tied"] else GRACE if note["grace"] < 0 else FRESH
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), (*colour, 230))
    return picture
