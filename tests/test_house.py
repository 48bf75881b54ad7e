from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy of the files that git would commit."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    top = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "adapters/", "sf_plugin/")
    for name in filter(None, listed.split("\0")):
        if name.startswith(top) and (ROOT / name).is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    options = ("-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "-w", str(out), str(copy)], check=True
    )
    (built,) = out.glob("sf_plugin-*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_package_and_no_adapters_folder(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"sf_plugin", "sf_adapters"} <= tops
    assert all(top.startswith(("sf_plugin", "sf_adapters")) for top in tops)
    assert "sf_plugin/py.typed" in names
    for folder, package in (("sf_plugin", "sf_plugin"), ("adapters", "sf_adapters")):
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in names


def test_the_wheel_carries_data_and_licence(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    suffixes = {".safetensors", ".ily", ".json"}
    data = [path for path in (ROOT / "sf_plugin").rglob("*") if path.suffix in suffixes]
    data += [p for p in (ROOT / "sf_plugin" / "demo_assets").rglob("*") if p.is_file()]
    for path in data:
        assert path.relative_to(ROOT).as_posix() in names
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "scorefollow = sf_plugin.cli:main" in wheel.read(entry).decode()


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
