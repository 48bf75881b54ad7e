from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sf_plugin

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_public_name_is_there() -> None:
    for name in sf_plugin.__all__:
        assert getattr(sf_plugin, name) is not None
    assert set(sf_plugin.__all__) <= set(dir(sf_plugin))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sf_plugin.nonsense  # noqa: B018


def test_importing_is_light() -> None:
    heavy = "{'torch', 'music21', 'verovio', 'pymupdf', 'sounddevice', 'numpy'}"
    code = f"import sys, sf_plugin; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_asking_for_help_does_not_load_torch() -> None:
    code = (
        "import sys\nfrom sf_plugin.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_all_packages_are_listed() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    folders = {"sf_plugin": ROOT / "sf_plugin", "sf_adapters": ROOT / "adapters"}
    there = {
        ".".join([name, *init.parent.relative_to(folder).parts])
        for name, folder in folders.items()
        for init in folder.rglob("__init__.py")
    }
    assert listed == there


def test_pins_satisfy_what_is_asked_for() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    for text in wanted:
        requirement = Requirement(text)
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), text


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "docs"])
def test_make_targets_set_themselves_up_first(target: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "-B", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "scripts/setup.sh" in done.stdout.splitlines()[0]


def test_the_shell_scripts_parse() -> None:
    for script in [*Path(ROOT, "scripts").glob("*.sh"), ROOT / ".ci" / "run"]:
        subprocess.run(["bash", "-n", str(script)], check=True)
