"""The scripts of the gallery and the snippets of docs/music21.md run, and say what was played."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "examples" / "gallery"


def run(script: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(GALLERY / script)],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


@pytest.mark.timeout(900)
def test_the_chorale(tmp_path: Path) -> None:
    text = run("chorale.py", tmp_path)
    assert re.search(r"measure  3  beat (3\.9|4\.0)\d  A4 F#4 C#4 F#3\n", text)
    tempos = numbers(r"s +([\d.]+) a minute", text)
    assert len(tempos) == 10 and all(85 < tempo < 105 for tempo in tempos[:9])
    assert tempos[9] < 80
    assert "True" in text.splitlines()
    assert len(list(tmp_path.glob("chorale-*/*.sfalign"))) == 1
    assert len(list(tmp_path.glob("chorale-*/*.html"))) == 1


@pytest.mark.timeout(900)
def test_the_sonata_from_a_scan(tmp_path: Path) -> None:
    text = run("sonata_scan.py", tmp_path)
    followed = re.findall(r"system +\d+ +measure +(\d+)", text)
    assert [*map(int, dict.fromkeys(followed))] == list(range(1, 13))
    tempos = numbers(r"s +([\d.]+) a minute", text)
    assert len(tempos) == 12
    for n, tempo in enumerate(tempos[1:-1], 2):
        assert tempo == pytest.approx(120 if n % 4 == 0 else 132, rel=0.05)


@pytest.mark.timeout(900)
def test_ten_rehearsals(tmp_path: Path) -> None:
    text = run("rehearsals.py", tmp_path)
    takes = numbers(r"take-\d+ +([\d.]+)", text)
    assert len(takes) == 10
    for number, tempo in enumerate(takes):
        assert tempo == pytest.approx(1.03 * (110 + 2 * number), rel=0.04)
    measures = numbers(r"measure \d +([\d.]+)", text)
    assert len(measures) == 4 and measures[2] == max(measures) > 1.04
    assert len(list(tmp_path.glob("rehearsals-*/*.sfalign"))) == 10
    assert len(list(tmp_path.glob("rehearsals-*/tempo.png"))) == 1


@pytest.mark.timeout(900)
def test_the_practice_log(tmp_path: Path) -> None:
    text = run("practice_log.py", tmp_path)
    assert re.findall(r"measures (\d+) to (\d+)", text) == [
        ("1", "6"),
        ("5", "6"),
        ("5", "6"),
        ("1", "8"),
    ]
    counts = [len(bar) for bar in re.findall(r"^measure +\d+ +(#*)", text, re.M)]
    assert counts == [2] * 4 + [4, 4, 1, 1] + [0] * 4


@pytest.mark.timeout(900)
def test_the_snippets_of_the_document(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "music21.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(snippets) == 5
    (tmp_path / "performing.py").write_bytes((GALLERY / "performing.py").read_bytes())
    script = tmp_path / "snippets.py"
    prepare = (
        "from pathlib import Path\n"
        "from music21 import corpus\n"
        "from performing import perform\n"
        "perform(corpus.parse('bwv66.6'), lambda offset: 96, Path('take.mid'))\n"
    )
    script.write_text(prepare + "".join(snippets), encoding="utf-8")
    told = run(script, tmp_path)
    assert "<music21.stream.Measure 9 offset=33.0>" in told
    assert "'soprano'" in told
    assert "True" in told.splitlines()
    assert "'Average_Tempo'" in told
    features = told.splitlines()[-1]
    assert float(features.split(", ")[1]) == pytest.approx(96, rel=0.03)
    for name in ("take.sfalign", "take.html", "as-played.mid"):
        assert (tmp_path / name).stat().st_size > 200
