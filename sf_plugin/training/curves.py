"""A run's figures over its steps: lines of JSON, and for TensorBoard where that is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path


class Curves:
    """Appends to RUN/curves.jsonl and to event files in RUN; `step` is where the run goes on."""

    def __init__(self, run: Path, step: int) -> None:
        self._path = run / "curves.jsonl"
        if self._path.exists():
            lines = self._path.read_text().splitlines(keepends=True)
            self._path.write_text("".join(x for x in lines if json.loads(x)["step"] <= step))
        self._board = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run), purge_step=step + 1)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """One line; names with a slash are grouped by what is before it."""
        rounded = {name: round(value, 4) for name, value in figures.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step} | rounded) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def close(self) -> None:
        """Of the event files."""
        if self._board is not None:
            self._board.close()
