"""The stand's address as a QR code, for the camera of a tablet."""

from __future__ import annotations

import io

import segno

QUIET = 2
"""Modules of white around the code in a terminal."""


def picture(address: str) -> bytes:
    """An SVG file."""
    file = io.BytesIO()
    _code(address).save(file, kind="svg", scale=8, light="white", xmldecl=False)
    return file.getvalue()


def drawing(address: str) -> list[str]:
    """Lines of half blocks, to be shown black on white."""
    rows = [list(row) for row in _code(address).matrix_iter(border=QUIET)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    return [
        "".join(" ▄▀█"[2 * upper + lower] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    ]


def _code(address: str) -> segno.QRCode:
    return segno.make(address, micro=False, boost_error=False)
