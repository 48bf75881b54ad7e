"""What pytest gets from this package: the fixture `conformance`.

Loaded by every run of pytest where the package is installed, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sf_plugin.conformance import Plugin


@pytest.fixture
def conformance(tmp_path: Path) -> Callable[[ModuleType], Plugin]:
    """`conformance(module)` is a plug-in to be tried by kind and name."""
    from sf_plugin.conformance import Plugin

    return lambda module: Plugin(module, tmp_path)
