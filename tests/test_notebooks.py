"""The notebooks of the gallery are their scripts, and run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient import NotebookClient

GALLERY = Path(__file__).resolve().parent.parent / "examples" / "gallery"
NOTEBOOKS = sorted(GALLERY.glob("*.ipynb"))


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", GALLERY / "notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_has_its_notebook_as_it_is_now() -> None:
    made = maker()
    assert [path.stem for path in made.SCRIPTS] == [path.stem for path in NOTEBOOKS]
    for script, stored in zip(made.SCRIPTS, NOTEBOOKS, strict=True):
        again = nbformat.writes(made.notebook(script))
        assert stored.read_text(encoding="utf-8").rstrip("\n") == again.rstrip("\n"), (
            f"{stored.name} is older than {script.name}: python examples/gallery/notebooks.py"
        )


def execute(notebook: nbformat.NotebookNode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a kernel of this Python, in the gallery, files going to `folder`."""
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(GALLERY)}}
    ).execute()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(path, as_version=4)
    if path.stem == "chorale":
        show = 'alignment.stream.show("scorefollow")'
        notebook.cells.append(nbformat.v4.new_code_cell(show))
    execute(notebook, tmp_path, monkeypatch)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any(output.get("name") == "stdout" for output in outputs)
    if path.stem == "chorale":
        assert "<iframe srcdoc=" in outputs[-1]["data"]["text/html"]
    if path.stem == "rehearsals":
        assert any("image/png" in output.get("data", {}) for output in outputs)
