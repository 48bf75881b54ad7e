"""Makes the notebooks of the scripts in this folder.

python notebooks.py

A script is cut at its lines "# %%"; text is in the cells that say "[markdown]".
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
SCRIPTS = tuple(
    path
    for path in sorted(HERE.glob("*.py"))
    if path.read_text(encoding="utf-8").startswith("# %%")
)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(script: Path) -> nbformat.NotebookNode:
    """A script as a notebook without outputs."""
    cells = []
    parts = re.split(r"^# %%(.*)\n", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for number, (kind, text) in enumerate(zip(parts[1::2], parts[2::2], strict=True), 1):
        if "[markdown]" in kind:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
            cell = new_markdown_cell(text.strip("\n"))
        else:
            cell = new_code_cell(text.strip("\n"))
        cell["id"] = f"cell-{number}"
        cells.append(cell)
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def main() -> None:
    for script in SCRIPTS:
        nbformat.write(notebook(script), script.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
