"""The documentation as a web site: it builds, needs no network, and its tutorial works."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile
from test_osc import free_port

import sf_plugin
from sf_adapters import music21
from sf_adapters.midi import parse_turn
from sf_adapters.osc import OscSink
from sf_plugin import positions
from sf_plugin.demo import ASSETS
from sf_plugin.positions import PageTurn, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")

needs_mkdocs = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("material", "mkdocstrings_handlers")),
    reason="mkdocs is not installed: pip install -e '.[docs]'",
)

CHROMIUM = shutil.which("chromium")

SECONDS = 12
"""Of the demo's recording, for the tutorial."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Assets(HTMLParser):
    """What a page loads by itself."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.loads.append(known.get("src") or "")
        elif tag == "link" and known.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(known.get("href") or "")


@needs_mkdocs
def test_every_document_is_on_the_site(site: Path) -> None:
    for document in (ROOT / "docs").rglob("*.md"):
        page = site / document.relative_to(ROOT / "docs").with_suffix(".html")
        assert page.is_file(), page
    for page in ("changelog", "contributing", "notice", "reference/stand-protocol"):
        assert (site / f"{page}.html").is_file()


@needs_mkdocs
def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loads = Assets(page).loads
        assert loads
        assert not [url for url in loads if url.startswith(("http", "//"))], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@needs_mkdocs
def test_links_out_of_the_documents_lead_to_pages_or_are_text(site: Path) -> None:
    card = (site / "model-card.html").read_text(encoding="utf-8")
    assert 'href="notice.html"' in card
    for page in site.rglob("*.html"):
        assert not re.search(r'href="[^"]*\.(md|py)["#]', page.read_text(encoding="utf-8")), page


@needs_mkdocs
@pytest.mark.parametrize("words", [(), ("follow",), ("dataset", "build")], ids=" ".join)
def test_the_reference_has_what_help_prints(site: Path, words: tuple[str, ...]) -> None:
    program = Path(sys.executable).parent / "scorefollow"
    environment = {**os.environ, "COLUMNS": "88", "NO_COLOR": "1"}
    environment.pop("PYTHONPATH", None)
    said = subprocess.run(
        [program, *words, "--help"], capture_output=True, text=True, check=True, env=environment
    ).stdout

    class Text(HTMLParser):
        text = ""

        def handle_data(self, data: str) -> None:
            self.text += data

    page = Text()
    page.feed((site / "reference" / "commands.html").read_text(encoding="utf-8"))
    assert said.strip() in page.text


@needs_mkdocs
def test_the_reference_has_every_public_name(site: Path) -> None:
    reference = "".join(
        (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("python", "events", "hooks", "music21")
    )
    for name in sf_plugin.__all__:
        if name != "__version__":
            assert re.search(rf'id="sf_plugin\.([a-z_.]+\.)?{name}"|\.{name}</code>', reference), (
                name
            )
    for name in music21.__all__:
        assert f'id="sf_adapters.music21.{name}"' in reference, name


@needs_mkdocs
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_finds_its_way_without_a_network(site: Path, scheme: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_address[1]}"
    asked: list[str] = []
    errors: list[str] = []
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 844})
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"{home}/explanation/confidence.html")
            shown = page.locator("body").get_attribute("data-md-color-scheme")
            wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
            page.goto(f"{home}/index.html")
            page.set_viewport_size({"width": 1280, "height": 900})
            page.locator(".md-search__input").click()
            ready = page.locator(".md-search-result__meta", has_not_text="Initializing")
            ready.wait_for(state="attached", timeout=120_000)
            page.locator(".md-search__input").press_sequentially("forScore")
            found = page.locator(".md-search-result__link").first
            found.click(timeout=60_000)
            page.wait_for_url("**/how-to/page-turning.html**")
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    assert shown == ("slate" if scheme == "dark" else "default")
    assert not wide
    assert not errors
    assert all(url.startswith((home, "data:", "blob:")) for url in asked)


# what the pages tell


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the tutorial names."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "sonata.pdf").write_bytes((ASSETS / "score.pdf").read_bytes())
    samples, rate = soundfile.read(ASSETS / "take.ogg", frames=SECONDS * 48000)
    soundfile.write(folder / "take.ogg", samples[: SECONDS * rate], rate)
    return folder


@pytest.mark.parametrize(
    ("word", "leaves"),
    [("doctor", ()), ("layout", ("seen.pdf",)), ("follow", ("positions.jsonl", "report.html"))],
)
def test_the_tutorials_commands_do_what_it_says(
    desk: Path, word: str, leaves: tuple[str, ...]
) -> None:
    command = re.search(rf"^    scorefollow ({word}\b.*)$", TUTORIAL, re.M)
    assert command is not None
    program = Path(sys.executable).parent / "scorefollow"
    done = subprocess.run([program, *command[1].split()], cwd=desk, capture_output=True, text=True)
    if word == "doctor":  # it tells what is missing here
        assert done.returncode in (0, 1)
        assert "Python" in done.stdout
        return
    assert done.returncode == 0, done.stderr
    for name in leaves:
        assert (desk / name).stat().st_size > 1000
    if word == "follow":
        lines = (desk / "positions.jsonl").read_text().splitlines()
        told = [positions.event_from_json(line) for line in lines]
        assert {event.measure for event in told if isinstance(event, Position)} >= {1, 2, 3, 4}


def test_the_tutorials_program_follows(desk: Path) -> None:
    snippet = re.search(r"```python\n(.*?)```", TUTORIAL, re.S)
    assert snippet is not None
    done = subprocess.run(
        [sys.executable, "-c", snippet[1]], cwd=desk, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    measures = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert set(measures) >= {1, 2, 3, 4}
    assert re.fullmatch(r" *\d+\.\d\d s  page 1  measure \d+", done.stdout.splitlines()[0])


def test_every_field_of_the_json_lines_is_told() -> None:
    page = (ROOT / "docs" / "reference" / "json-lines.md").read_text(encoding="utf-8")
    for kind in (positions.Position, PageTurn, positions.Jump, positions.StateChange):
        section = page.split(f"## `{kind.type}`")[1].split("\n## ")[0]
        for field in dataclasses.fields(kind):
            assert re.search(rf'[`"]{field.name.rstrip("_")}["`]', section + page[:900]), field.name
    for example in re.findall(r"```json\n(.*?)\n```", page, re.S):
        assert json.loads(positions.event_from_json(example).to_json()) == json.loads(example)


def test_the_receivers_that_the_guides_name_can_be_made() -> None:
    guides = [TUTORIAL, *(page.read_text() for page in (ROOT / "docs" / "how-to").glob("*.md"))]
    text = "\n".join(guides)
    targets = re.findall(r"^ .*--osc (\S+)", text, re.M)
    ports = re.findall(r"^ .*(?:--turn|scorefollow turn) (\w[\w,=]*)", text, re.M)
    assert len(targets) > 3 and len(ports) > 5
    for target in targets:
        OscSink(target)
    for port in ports:
        parse_turn(port)


@pytest.mark.skipif(not shutil.which("pd"), reason="puredata is not installed")
def test_the_patch_for_pure_data_hears_pages_and_measures(tmp_path: Path) -> None:
    port = free_port()
    patch = (ROOT / "docs" / "how-to" / "scorefollow.pd").read_text(encoding="utf-8")
    (tmp_path / "patch.pd").write_text(patch.replace("-b 9000", f"-b {port}"))
    switches = ("-nogui", "-nosound", "-nomidi", "-stderr", "-noprefs")
    with (
        (tmp_path / "said").open("wb") as out,
        subprocess.Popen(["pd", *switches, str(tmp_path / "patch.pd")], stderr=out) as pd,
        OscSink(f"127.0.0.1:{port}") as sink,
    ):
        try:
            sink.open(Score("a piece", []), Layout(()))
            for said in _until_heard(tmp_path / "said"):
                sink.emit(Position(1.0, 1, 0.5, 0.2, 1, 14, "14a", 1, 0.0, 92.0, 0.9, "tracking"))
                sink.emit(Position(2.0, 1, 0.6, 0.2, 1, 15, None, 1, 0.0, 92.0, 0.9, "tracking"))
                sink.emit(PageTurn(3.0, 2, 0.75))
                if {"measure: 14", "measure: 15", "page: 2"} <= set(said):
                    return
        finally:
            pd.kill()
    pytest.fail(f"Pure Data said {(tmp_path / 'said').read_text()!r}")


def _until_heard(file: Path) -> Iterator[list[str]]:
    """What was said so far, again and again for half a minute."""
    for _ in range(150):
        yield file.read_text(encoding="utf-8").splitlines()
        time.sleep(0.2)
