from __future__ import annotations

from pathlib import Path

from public_interface import lines

STORED = Path(__file__).parent / "data" / "public-interface.txt"


def test_what_others_rely_on_is_as_it_was() -> None:
    """Where this fails on purpose, see docs/stability.md, and store it anew:

    python tests/public_interface.py > tests/data/public-interface.txt
    """
    assert list(lines()) == STORED.read_text(encoding="utf-8").splitlines()
