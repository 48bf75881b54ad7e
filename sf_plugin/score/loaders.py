"""The built-in page loaders."""

from __future__ import annotations

from sf_plugin.hookspecs import RegisterPageLoader, hookimpl
from sf_plugin.score.engraving import MUSIC21_SUFFIXES, VEROVIO_SUFFIXES, load_engraved
from sf_plugin.score.images import IMAGE_SUFFIXES, load_images
from sf_plugin.score.pdf import load_pdf


@hookimpl
def register_page_loaders(register: RegisterPageLoader) -> None:
    register((".pdf",), load_pdf, help="PDF files, engraved or scanned")
    register(IMAGE_SUFFIXES, load_images, help="page images in order")
    register(VEROVIO_SUFFIXES, load_engraved, help="MusicXML, MEI and Humdrum, by Verovio")
    register(MUSIC21_SUFFIXES, load_engraved, help="what music21 reads, by Verovio")
