from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pymupdf
import pytest
import soundfile
import zxingcpp
from conftest import ROOT, draw_pdf, make_layout
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Browser, Page, Playwright, TimeoutError, sync_playwright
from stand_peer import RunningStand, browsing, needs_browser, serving, viewing

from sf_adapters.stand.door import Address
from sf_adapters.stand.process import ServerProcess
from sf_plugin.controls import Controls
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.load import load_score
from sf_plugin.score.structure import measures_of

pytestmark = [needs_browser, pytest.mark.timeout(900)]

ASSETS = ROOT / "sf_plugin" / "demo_assets"
TABLET = {"width": 820, "height": 1180}
WIDE = {"width": 1180, "height": 820}
PHONE = {"width": 390, "height": 844}
MEASURE_61 = 108.5
"""Seconds into the take; in the lower half of the second page, 22 seconds before its end."""


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its name is what a page must not take for HTML."""
    folder = tmp_path_factory.mktemp("stand")
    return Path(shutil.copy(ASSETS / "score.pdf", folder / "Duo & <i>more.pdf"))


@pytest.fixture(scope="module")
def passage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the lower half of the second page to the third."""
    sound, rate = soundfile.read(ASSETS / "take.ogg", dtype="float32")
    begin = round((MEASURE_61 - 0.2) * rate)
    part = sound[begin : begin + 30 * rate]
    path = tmp_path_factory.mktemp("sound") / "passage.wav"
    soundfile.write(path, np.concatenate([np.zeros(rate, np.float32), part]), rate, "PCM_16")
    return path


@pytest.fixture(scope="module")
def stand(score: Path) -> Iterator[RunningStand]:
    with serving(score, "--half-pages") as running:
        yield running


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as one:
        yield one


@pytest.fixture(scope="module")
def browser(playwright: Playwright, passage: Path) -> Iterator[Browser]:
    """Its microphone plays the passage, over and over."""
    options = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={passage}",
        "--host-resolver-rules=MAP stand.test 127.0.0.1",
    )
    with browsing(playwright, *options) as one:
        yield one


@pytest.fixture
def view(browser: Browser, stand: RunningStand) -> Iterator[Page]:
    with viewing(browser, stand.url, viewport=TABLET) as page:
        until_followed(page)
        page.keyboard.press("Home")
        until(page, lambda: state(page)["shown"] == 1)
        yield page


def state(page: Page) -> dict[str, Any]:
    """What the server says."""
    return page.evaluate("() => fetch('/api/state').then((answer) => answer.json())")


def until(page: Page, holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, page.inner_text("#place")
        page.wait_for_timeout(50)


def click(page: Page, button: str) -> None:
    """As a hand does: the controls come when the pointer moves, and go after a while."""

    def clicked() -> bool:
        page.mouse.move(200, 300)
        page.mouse.move(210, 310)
        try:
            page.click(button, timeout=3000)
        except TimeoutError:
            return False
        return True

    until(page, clicked)


def until_followed(page: Page) -> None:
    """Until the pages are read and a session runs."""
    until(page, lambda: state(page)["running"], 180)
    until(page, lambda: all(sheet.systems for sheet in layout_of(page).pages), 180)


def shown(page: Page) -> list[str]:
    """The pages on the stand, from left to right, each with its half if it is one."""
    code = """sheets => sheets
        .sort((a, b) => a.offsetLeft - b.offsetLeft || a.dataset.page - b.dataset.page)
        .map((sheet) => sheet.dataset.page + sheet.dataset.half)"""
    return page.eval_on_selector_all(".sheet.shown", code)


def until_shown(page: Page, *pages: str) -> None:
    until(page, lambda: shown(page) == list(pages))


def layout_of(page: Page) -> Layout:
    text = page.evaluate("async () => (await (await fetch('/api/score')).json()).layout")
    return Layout.from_json(json.dumps(text))


def spot(page: Page, number: int, across: float = 0.5) -> tuple[float, float]:
    """Where a measure is in the window, on the page that is shown."""
    for sheet in layout_of(page).pages:
        for system in sheet.systems:
            for measure in system.measures:
                if measure.number == number:
                    box = page.locator(f".sheet[data-page='{sheet.page}']").bounding_box()
                    assert box is not None
                    x = measure.left + across * (measure.right - measure.left)
                    y = (system.top + system.bottom) / 2
                    return box["x"] + x * box["width"], box["y"] + y * box["height"]
    raise AssertionError(f"no measure {number}")


def swipe(page: Page, from_x: int, to_x: int, y: int = 560) -> None:
    """One finger over the glass."""
    session = page.context.new_cdp_session(page)
    steps = np.linspace(from_x, to_x, 6)
    for kind, xs in (("touchStart", steps[:1]), ("touchMove", steps[1:]), ("touchEnd", ())):
        for x in xs if len(xs) else (None,):
            points = [] if x is None else [{"x": float(x), "y": y}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.detach()


def test_a_microphone_in_the_browser_is_followed_and_pages_turn(
    browser: Browser, stand: RunningStand
) -> None:
    with (
        viewing(browser, stand.url, viewport=TABLET, permissions=["microphone"]) as player,
        viewing(browser, stand.url + "?view=audience", viewport=WIDE) as audience,
    ):
        until_followed(player)
        assert player.inner_text("#place") == "not listening yet"
        player.keyboard.press("ArrowRight")
        until_shown(player, "2")
        player.mouse.click(*spot(player, 61))
        until(player, lambda: "Going on from measure 61" in player.inner_text("#toast"))
        click(player, "#listen")
        until(player, lambda: player.inner_text("#listen") == "Listening")
        until_shown(player, "2lower", "3upper")
        until_shown(audience, "3left", "2right")
        until(player, lambda: re.fullmatch(r"measure \d+", player.inner_text("#place")))
        number = int(player.inner_text("#place").removeprefix("measure "))
        assert 61 <= number <= 88
        until(player, lambda: player.locator("[data-page='2'] .here.on").count() == 1)
        until(player, lambda: float(player.get_attribute("#level", "aria-valuenow") or -60) > -60)
        until(player, lambda: player.locator("body.awake").count() == 0)
        until_shown(player, "3")
        until_shown(audience, "3")
        until(audience, lambda: audience.locator("[data-page='3'] .here.on").count() == 1)
        click(player, "#listen")
        until(player, lambda: player.inner_text("#listen") == "Listen")


def test_one_microphone_at_a_time(browser: Browser, stand: RunningStand) -> None:
    with (
        viewing(browser, stand.url, viewport=TABLET, permissions=["microphone"]) as first,
        viewing(browser, stand.url, viewport=PHONE, permissions=["microphone"]) as second,
    ):
        click(first, "#listen")
        until(first, lambda: first.inner_text("#listen") == "Listening")
        until(first, lambda: first.inner_text("#place") != "may the microphone be used?")
        click(second, "#listen")
        until(second, lambda: "Another microphone is listening" in second.inner_text("#toast"))
        assert second.inner_text("#listen") == "Listen"
        click(first, "#listen")
        until(first, lambda: first.get_attribute("#listen", "aria-pressed") == "false")
        click(second, "#listen")
        until(
            second,
            lambda: second.inner_text("#place") not in ("no microphone", "not heard, trying again"),
        )
        click(second, "#listen")
        until(second, lambda: second.get_attribute("#listen", "aria-pressed") == "false")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--use-fake-device-for-media-stream", "The microphone was refused"),
        ("--mute-audio", "There is no microphone on this device"),
    ],
)
def test_a_microphone_that_cannot_be_had_is_told(
    playwright: Playwright, stand: RunningStand, option: str, told: str
) -> None:
    with browsing(playwright, option) as browser, viewing(browser, stand.url) as page:
        click(page, "#listen")
        until(page, lambda: told in page.inner_text("#toast"))
        assert page.inner_text("#listen") == "Listen"


def test_pages_turn_by_keys_buttons_and_edges(view: Page) -> None:
    for key, page in (
        ("ArrowRight", "2"),
        (" ", "3"),
        ("ArrowRight", "3"),
        ("PageUp", "2"),
        ("Shift+ ", "1"),
        ("ArrowLeft", "1"),
        ("End", "3"),
        ("Home", "1"),
    ):
        view.keyboard.press(key)
        until_shown(view, page)
        until(view, lambda page=page: state(view)["shown"] == int(page))
    click(view, "#next")
    until_shown(view, "2")
    click(view, "#previous")
    until_shown(view, "1")
    view.mouse.click(TABLET["width"] - 15, 500)
    until_shown(view, "2")
    view.mouse.click(15, 500)
    until_shown(view, "1")


def test_turning_quickly_does_not_flicker_back(view: Page) -> None:
    view.evaluate("""() => {
        window.turned = [];
        const note = () => window.turned.push(document.querySelector('.sheet.shown').dataset.page);
        for (const sheet of document.querySelectorAll('.sheet')) {
            new MutationObserver(note).observe(sheet, {attributeFilter: ['class']});
        }
    }""")
    view.keyboard.press("ArrowRight")
    view.keyboard.press("ArrowRight")
    until(view, lambda: state(view)["shown"] == 3)
    view.wait_for_timeout(1000)
    assert shown(view) == ["3"]
    seen = view.evaluate("window.turned")
    assert seen == sorted(seen)


def test_swipes_turn_pages(browser: Browser, stand: RunningStand) -> None:
    with viewing(browser, stand.url, viewport=PHONE, has_touch=True) as page:
        until_followed(page)
        page.keyboard.press("Home")
        until_shown(page, "1")
        swipe(page, 300, 120, 400)
        until_shown(page, "2")
        swipe(page, 120, 300, 400)
        until_shown(page, "1")


def test_a_turn_by_one_viewer_is_seen_by_the_other(
    browser: Browser, stand: RunningStand, view: Page
) -> None:
    with viewing(browser, stand.url, viewport=WIDE) as other:
        until_shown(other, "1", "2")
        view.keyboard.press("End")
        until_shown(other, "3")
        other.keyboard.press("ArrowLeft")
        until_shown(view, "1")
        until_shown(other, "1", "2")


@pytest.mark.parametrize(
    ("viewport", "scale", "pages"),
    [
        (PHONE, 3, ["1"]),
        (TABLET, 2, ["1"]),
        (WIDE, 1, ["1", "2"]),
        ({"width": 844, "height": 390}, 3, ["1"]),
        ({"width": 1920, "height": 1080}, 1, ["1", "2"]),
    ],
)
def test_pages_fit_the_screen_and_are_sharp(
    browser: Browser,
    stand: RunningStand,
    view: Page,
    viewport: dict[str, int],
    scale: int,
    pages: list[str],
) -> None:
    with viewing(browser, stand.url, viewport=viewport, device_scale_factor=scale) as page:
        until_shown(page, *pages)
        for sheet in page.locator(".sheet.shown").all():
            box = sheet.bounding_box()
            assert box is not None
            assert box["x"] >= -1 and box["x"] + box["width"] <= viewport["width"] + 1
            if viewport["height"] > 480:
                assert box["y"] >= -1 and box["y"] + box["height"] <= viewport["height"] + 1
            image = sheet.locator("img")
            wide = f"image => image.naturalWidth >= {box['width'] * scale}"
            until(page, lambda image=image, wide=wide: image.evaluate(wide))
            assert (
                image.evaluate("image => image.naturalWidth < 3 * image.clientWidth") or scale > 1
            )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_low_screen_scrolls_to_the_music(
    browser: Browser, stand: RunningStand, view: Page
) -> None:
    with viewing(browser, stand.url, viewport={"width": 844, "height": 390}) as page:
        assert page.evaluate("document.querySelector('#stage').scrollHeight > 800")


def test_a_turned_tablet_is_arranged_anew(view: Page) -> None:
    assert shown(view) == ["1"]
    view.set_viewport_size(WIDE)
    until_shown(view, "1", "2")
    view.keyboard.press("ArrowRight")
    until_shown(view, "3")
    view.set_viewport_size(TABLET)
    until_shown(view, "3")


def test_a_tapped_measure_is_gone_to(view: Page) -> None:
    heard: list[dict[str, Any]] = []
    view.on("websocket", lambda socket: socket.on("framereceived", lambda f: note(f)))

    def note(frame: str | bytes) -> None:
        message = json.loads(frame)
        if message["type"] == "control":
            heard.append(message)

    view.reload()
    until_followed(view)
    view.mouse.click(*spot(view, 14))
    until(view, lambda: any(m["action"] == "goto" and m["measure"] == 14 for m in heard))
    assert "Going on from measure 14" in view.inner_text("#toast")
    view.keyboard.press("g")
    view.keyboard.press("ControlOrMeta+a")
    view.keyboard.type("22")
    view.keyboard.press("Enter")
    until(view, lambda: any(m["action"] == "goto" and m["measure"] == 22 for m in heard))
    view.keyboard.press("g")
    view.keyboard.press("ControlOrMeta+a")
    view.keyboard.type("999")
    view.keyboard.press("Enter")
    until(view, lambda: "no measure 999" in view.inner_text("#toast"))
    view.keyboard.press("g")
    view.keyboard.press("Escape")
    assert not view.locator("#ask").is_visible()
    assert {m["measure"] for m in heard if m["action"] == "goto"} == {14, 22}


def test_pausing_and_going_on(view: Page) -> None:
    click(view, "#pause")
    until(view, lambda: state(view)["paused"])
    until(view, lambda: view.inner_text("#place") == "paused")
    assert view.get_attribute("#pause", "aria-label") == "Go on"
    view.keyboard.press("p")
    until(view, lambda: not state(view)["paused"])
    until(view, lambda: view.get_attribute("#pause", "aria-label") == "Pause")
    click(view, "#again")
    until(view, lambda: "Begins again" in view.inner_text("#toast"))


def test_dark_pages_follow_the_system_and_are_remembered(
    browser: Browser, stand: RunningStand
) -> None:
    with viewing(browser, stand.url, viewport=TABLET, color_scheme="dark") as page:
        until(page, lambda: brightness(page) < 70)
        page.keyboard.press("d")
        until(page, lambda: brightness(page) > 200)
        page.reload()
        page.wait_for_selector(".sheet.shown")
        until(page, lambda: brightness(page) > 200)
        click(page, "#dark")
        until(page, lambda: brightness(page) < 70)
        assert page.get_attribute("#dark", "aria-pressed") == "true"
    with viewing(browser, stand.url, viewport=TABLET, color_scheme="light") as page:
        until(page, lambda: brightness(page) > 200)


def brightness(page: Page) -> float:
    """Of the shown page, 0 to 255."""
    picture = pymupdf.Pixmap(page.screenshot())
    return float(np.frombuffer(picture.samples, np.uint8).mean())


def test_the_audience_sees_pages_and_nothing_else(
    browser: Browser, stand: RunningStand, view: Page
) -> None:
    with viewing(browser, stand.url + "?view=audience", viewport=WIDE) as page:
        assert not any(button.is_visible() for button in page.locator("button").all())
        page.mouse.click(600, 400)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("g")
        page.wait_for_timeout(500)
        assert shown(page) == ["1", "2"] and state(page)["shown"] == 1
        assert not page.locator("#toast").is_visible() and not page.locator("#ask").is_visible()
        view.keyboard.press("End")
        until_shown(page, "3")


def test_a_lost_server_is_told_and_found_again(browser: Browser, score: Path) -> None:
    with serving(score) as first, viewing(browser, first.url, viewport=TABLET) as page:
        until(page, lambda: page.inner_text("#place") != "")
        first.kill()
        until(page, lambda: "no connection, trying again" in page.inner_text("#place"))
        page.keyboard.press("ArrowRight")
        until_shown(page, "2")
        page.keyboard.press("p")
        until(page, lambda: "no connection to the follower" in page.inner_text("#toast"))
        with serving(score, port=first.port):
            until(page, lambda: "no connection" not in page.inner_text("#place"))
            page.keyboard.press("End")
            until_shown(page, "3")
            image = page.locator(".sheet.shown img")
            until(page, lambda: image.evaluate("image => image.naturalWidth > 0"))


def test_a_stand_that_falls_silent_is_told_and_found_again(browser: Browser, score: Path) -> None:
    """As where the network is away: no connection is closed."""
    with (
        serving(score) as stand,
        viewing(browser, stand.url, viewport=TABLET, permissions=["microphone"]) as page,
    ):
        until_followed(page)
        click(page, "#listen")
        until(page, lambda: page.inner_text("#listen") == "Listening")
        until(page, lambda: level(page) > -60)
        server = server_of(stand)
        os.kill(server, signal.SIGSTOP)
        try:
            until(page, lambda: "no connection" in page.inner_text("#place"))
        finally:
            os.kill(server, signal.SIGCONT)
        until(page, lambda: "no connection" not in page.inner_text("#place"))
        until(page, lambda: page.evaluate(LEVELS) > 3)
        assert page.inner_text("#listen") == "Listening"
        assert "Another microphone" not in page.inner_text("#toast")


LEVELS = """async () => {
    const seen = new Set();
    for (let n = 0; n < 20; n += 1) {
        seen.add((await (await fetch('/api/state')).json()).level.rms);
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return seen.size;
}"""
"""How many levels the server told in two seconds."""


def level(page: Page) -> float:
    return float(page.get_attribute("#level", "aria-valuenow") or -60)


def server_of(stand: RunningStand) -> int:
    """The process that browsers talk to."""
    children = psutil.Process(stand.process.pid).children()
    (server,) = [one for one in children if "sf_adapters.stand.process" in one.cmdline()]
    return server.pid


def test_pages_are_turned_by_hand_before_a_session_begins(browser: Browser, score: Path) -> None:
    server = ServerProcess(Address(port=0), load_score(score), (score,))
    server.start()
    with server, viewing(browser, server.url, viewport=TABLET) as page:
        until_shown(page, "1")
        page.keyboard.press("ArrowRight")
        until_shown(page, "2")
        page.wait_for_timeout(500)
        assert not page.locator("#toast").is_visible()


def test_elsewhere_the_token_lets_in_and_https_is_asked_for(browser: Browser, score: Path) -> None:
    with serving(score, "--host", "0.0.0.0") as stand:
        token = stand.url.partition("?")[2]
        there = f"http://stand.test:{stand.port}/"
        context = browser.new_context()
        try:
            page = context.new_page()
            answer = page.goto(there)
            assert answer is not None and answer.status == 401
        finally:
            context.close()
        with viewing(browser, f"{there}?{token}", viewport=PHONE) as page:
            until(page, lambda: page.inner_text("#place") != "no connection, trying again")
            until(page, lambda: page.locator("img").first.evaluate("i => i.naturalWidth > 0"))
            assert page.evaluate("fetch('/static/manifest.webmanifest').then((a) => a.ok)")
            assert not page.locator("#toast").is_visible()
            click(page, "#listen")
            until(page, lambda: "over HTTPS" in page.inner_text("#toast"))
        with viewing(browser, f"{there}?{token}", viewport=TABLET, has_touch=True) as page:
            until(page, lambda: "The screen may go dark" in page.inner_text("#toast"))
            click(page, "#invite")
            until(page, lambda: page.locator("#code").evaluate("i => i.naturalWidth > 0"))
            address = page.inner_text("#address")
            assert address.endswith(f":{stand.port}/?{token}") and stand.url == address
            seen = Image.open(io.BytesIO(page.locator("#code").screenshot()))
            assert zxingcpp.read_barcode(seen).text == address
            page.click("#invited")
            assert not page.locator("#invitation").is_visible()


def test_for_this_computer_alone_nobody_is_invited(view: Page) -> None:
    assert not view.locator("#invite").is_visible()


# correcting


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningStand, Path]]:
    """A stand of its own, and where its layout is kept."""
    folder = tmp_path_factory.mktemp("workshop")
    score = Path(shutil.copy(ASSETS / "score.pdf", folder / "sonatina.pdf"))
    with serving(score) as stand:
        yield stand, folder / "sonatina.layout.json"


@pytest.fixture
def kept(workshop: tuple[RunningStand, Path]) -> Path:
    return workshop[1]


@pytest.fixture
def desk(browser: Browser, workshop: tuple[RunningStand, Path]) -> Iterator[Page]:
    """A viewer who corrects the first page."""
    with viewing(browser, workshop[0].url, viewport=TABLET) as page:
        until_followed(page)
        page.keyboard.press("Home")
        until_shown(page, "1")
        click(page, "#correct")
        page.wait_for_selector(".draft .bar")
        yield page


def bar(page: Page, number: int) -> Any:
    """The bar line after a measure, with repeat signs or without."""
    name = re.compile(rf"^Bar line after measure {number}(,|$)")
    return page.get_by_role("button", name=name)


def press(page: Page, name: str) -> None:
    page.locator("#correction").get_by_role("button", name=name, exact=True).click()


def test_the_layout_is_corrected_by_hand_and_kept(desk: Page, kept: Path) -> None:
    before = measures_of(layout_of(desk))
    line = bar(desk, 2)
    box = line.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    desk.mouse.move(x, y)
    desk.mouse.down()
    desk.mouse.move(x + 15, y, steps=4)
    desk.mouse.move(x + 30, y, steps=4)
    desk.mouse.up()
    bar(desk, 6).click()
    press(desk, "Repeat ends")
    bar(desk, 6).focus()
    desk.keyboard.press("Enter")
    press(desk, "Repeat begins")
    bar(desk, 8).click()
    press(desk, "Delete")
    desk.mouse.click(*middle_of(desk, 12))
    press(desk, "Add a bar line")
    press(desk, "Save")
    until(desk, lambda: "Saved as sonatina.layout.json" in desk.inner_text("#toast"))
    after = measures_of(Layout.from_json(kept.read_text()))
    width = desk.locator(".sheet.shown").bounding_box()
    assert width is not None
    assert after[1].right == pytest.approx(before[1].right + 30 / width["width"], abs=0.004)
    assert after[2].left == after[1].right
    assert next(m.number for m in after if m.repeat_end) == 6
    assert after[6].repeat_start and not after[5].repeat_start
    assert (after[7].left, after[7].right) == pytest.approx(
        (before[7].left, before[8].right), abs=1e-4
    )
    assert len(after) == len(before)
    assert [m.number for m in after] == list(range(1, len(after) + 1))
    until(desk, lambda: state(desk)["running"])
    lefts = [m.left for m in after]
    until(desk, lambda: [m.left for m in measures_of(layout_of(desk))] == lefts, 180)


def middle_of(page: Page, number: int) -> tuple[float, float]:
    """Between two bar lines of the draft."""
    left = bar(page, number - 1).bounding_box()
    right = bar(page, number).bounding_box()
    assert left is not None and right is not None
    return (left["x"] + right["x"] + right["width"]) / 2, left["y"] + left["height"] / 2


def test_corrections_are_undone_by_keys_and_left_without_saving(desk: Page, kept: Path) -> None:
    before = kept.read_text() if kept.exists() else None
    count = desk.locator(".draft .bar").count()
    line = bar(desk, 3)
    line.click()
    place = line.bounding_box()
    desk.keyboard.press("ArrowRight")
    desk.keyboard.press("ArrowRight")
    moved = line.bounding_box()
    assert place is not None and moved is not None and moved["x"] > place["x"] + 2
    desk.keyboard.press("Delete")
    until(desk, lambda: desk.locator(".draft .bar").count() == count - 1)
    for _ in range(3):
        desk.keyboard.press("ControlOrMeta+z")
    until(desk, lambda: desk.locator(".draft .bar").count() == count)
    back = bar(desk, 3).bounding_box()
    assert back is not None and back["x"] == pytest.approx(place["x"], abs=0.5)
    assert desk.locator("#undo").is_disabled()
    bar(desk, 3).click()
    desk.keyboard.press("Delete")
    press(desk, "Leave")
    until(desk, lambda: "Leave again" in desk.inner_text("#toast"))
    press(desk, "Leave")
    desk.wait_for_selector("#bar")
    assert desk.locator(".draft").count() == 0
    assert (kept.read_text() if kept.exists() else None) == before
    assert desk.evaluate("document.activeElement.id") == "correct"


def test_systems_are_added_moved_and_deleted(desk: Page, kept: Path) -> None:
    systems = layout_of(desk).pages[0].systems
    box = desk.locator(".sheet.shown").bounding_box()
    assert box is not None
    top = desk.get_by_role("button", name="Upper edge of the system").first
    top.focus()
    for _ in range(3):
        desk.keyboard.press("ArrowUp")
    desk.mouse.click(*middle_of(desk, 6))
    press(desk, "Delete the system")
    desk.mouse.click(box["x"] + box["width"] / 2, box["y"] + 0.035 * box["height"])
    press(desk, "Add a system")
    press(desk, "Save")
    until(desk, lambda: "Saved as" in desk.inner_text("#toast"))
    after = Layout.from_json(kept.read_text()).pages[0].systems
    assert len(after) == len(systems)
    assert len(after[0].measures) == 1 and after[0].top < 0.035 < after[0].bottom
    assert after[1].top == pytest.approx(systems[0].top - 0.006, abs=2e-4)
    assert len(after[1].measures) == len(systems[0].measures)
    assert after[2].top == pytest.approx(systems[2].top, abs=1e-4)


def test_pages_that_are_read_while_others_are_corrected_are_kept_too(
    browser: Browser, tmp_path: Path
) -> None:
    path = draw_pdf(tmp_path / "book.pdf", make_layout(2))
    layout = make_layout(2)
    unread = Layout((layout.pages[0], PageLayout(2)))
    renewed: list[bool] = []
    score = load_score(path)
    server = ServerProcess(Address(port=0), score, (path,), renew=renewed.append)
    server.start()
    with server, viewing(browser, server.url + "#correct", viewport=TABLET) as page:
        page.wait_for_selector("#correction")
        server.begin(score, unread, Controls(2))
        for number in (2, 5):
            bar(page, number).click()
            press(page, "Delete")
        server.extend(layout)
        until(page, lambda: layout_of(page) == layout)
        page.click("#undo")
        page.click("#correct-next")
        until(page, lambda: page.locator("[data-page='2'] .draft .bar").count() == 10)
        press(page, "Save")
        until(page, lambda: "used now" in page.inner_text("#toast"))
        until(page, lambda: renewed == [True])
    kept = Layout.from_json((tmp_path / "book.layout.json").read_text())
    assert [len(measures_of(Layout((one,)))) for one in kept.pages] == [7, 8]


def test_signs_stay_at_their_end_of_a_measure(browser: Browser, tmp_path: Path) -> None:
    path = draw_pdf(tmp_path / "book.pdf", make_layout(1))
    layout = make_layout(1)
    (sheet,) = layout.pages
    system = sheet.systems[0]
    signed = replace(system.measures[1], signs=("segno", "fine"))
    system = replace(system, measures=(system.measures[0], signed, *system.measures[2:]))
    layout = Layout((replace(sheet, systems=(system, *sheet.systems[1:])),))
    score = load_score(path)
    server = ServerProcess(Address(port=0), score, (path,), renew=lambda reread: None)
    server.start()
    with server, viewing(browser, server.url, viewport=TABLET) as page:
        server.begin(score, layout, Controls(1))
        until(page, lambda: layout_of(page).pages)
        click(page, "#correct")
        bar(page, 2).wait_for()
        page.mouse.click(*middle_of(page, 2))
        press(page, "Add a bar line")
        press(page, "Save")
        until(page, lambda: "Saved as" in page.inner_text("#toast"))
        kept = Layout.from_json((tmp_path / "book.layout.json").read_text())
        assert [m.signs for m in measures_of(kept)][:4] == [(), ("segno",), ("fine",), ()]
        click(page, "#correct")
        bar(page, 2).click()
        press(page, "Delete")
        press(page, "Save")
        until(page, lambda: page.locator("#correction").is_hidden())
        kept = Layout.from_json((tmp_path / "book.layout.json").read_text())
        assert [m.signs for m in measures_of(kept)][:3] == [(), ("segno", "fine"), ()]


# for everybody


def test_everything_has_a_name_and_a_place(view: Page) -> None:
    assert view.get_attribute("html", "lang") == "en"
    assert view.title() == "Duo & <i>more" and view.inner_text("h1") == "Duo & <i>more"
    nameless = """() => [...document.querySelectorAll('button, input')]
        .filter((one) => !one.hidden && !one.closest('[hidden]'))
        .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim()
            || document.querySelector(`label[for="${one.id}"]`)))
        .map((one) => one.outerHTML)"""
    assert view.evaluate(nameless) == []
    assert view.evaluate("[...document.images].every((one) => /^Page |^The address/.test(one.alt))")
    assert view.locator("main").count() == 1 and view.locator("h1").count() == 1
    for role, name in (("region", "Controls"), ("main", "Pages")):
        assert view.get_by_role(role, name=name, exact=True).count() == 1
    assert view.get_by_role("meter", name="Level of the sound in decibels").count() == 1
    ids = view.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert view.evaluate("""[...document.querySelectorAll('button:not([hidden])')]
        .filter((one) => one.offsetParent)
        .every((one) => one.offsetWidth >= 40 && one.offsetHeight >= 40)""")


def test_the_keyboard_reaches_every_control(view: Page) -> None:
    wanted = view.evaluate("""[...document.querySelectorAll('#bar button')]
        .filter((one) => one.offsetParent).map((one) => one.id)""")
    reached = []
    for _ in range(len(wanted) + 3):
        view.keyboard.press("Tab")
        focused = view.evaluate("document.activeElement.id")
        if focused:
            reached.append(focused)
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert view.evaluate(outline) == "solid"
    assert [name for name in reached if name in wanted][: len(wanted)] == wanted
    view.focus("#next")
    view.keyboard.press(" ")
    until_shown(view, "2")


@pytest.mark.slow
def test_turns_are_told_to_screen_readers(view: Page) -> None:
    assert view.get_attribute("#say", "aria-live") == "polite"
    view.keyboard.press("End")
    until(view, lambda: view.inner_text("#say") == "Page 3")
    tree = view.locator("#stage").aria_snapshot()
    assert "Page 3 of 3" in tree and "Page 1 of 3" not in tree


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_enough(browser: Browser, stand: RunningStand, scheme: str) -> None:
    with viewing(browser, stand.url, viewport=TABLET, color_scheme=scheme) as page:
        pairs = page.evaluate("""() => {
            const style = getComputedStyle(document.documentElement);
            const colour = (name) => {
                const probe = document.createElement('i');
                probe.style.color = style.getPropertyValue(name);
                document.body.append(probe);
                const found = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number);
                probe.remove();
                return found.slice(0, 3);
            };
            return [['--ink', '--glass'], ['--soft', '--glass'], ['--on-accent', '--accent'],
                ['--accent', '--glass'], ['--ink', '--paper']].map((pair) => pair.map(colour));
        }""")
        for text, ground in pairs:
            assert contrast(text, ground) >= 4.5


def contrast(one: list[float], other: list[float]) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: list[float]) -> float:
        parts = np.array(colour) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_who_wants_no_motion_gets_none(browser: Browser, stand: RunningStand) -> None:
    with viewing(browser, stand.url, viewport=TABLET, reduced_motion="reduce") as page:
        for name in (".sheet.shown", "#bar", "#word"):
            style = page.locator(name).first.evaluate("e => getComputedStyle(e).transitionDuration")
            assert set(style.split(", ")) == {"0s"}


def test_nothing_is_fetched_from_elsewhere(browser: Browser, stand: RunningStand) -> None:
    context = browser.new_context(viewport=TABLET)
    try:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(stand.url)
        page.wait_for_selector(".sheet.shown")
        page.wait_for_load_state("networkidle")
        assert len(asked) > 8
        assert {address.split("/")[2] for address in asked} == {f"127.0.0.1:{stand.port}"}
        assert not context.cookies()
    finally:
        context.close()


def test_an_address_may_begin_with_correcting(
    browser: Browser, workshop: tuple[RunningStand, Path]
) -> None:
    with viewing(browser, workshop[0].url + "#correct", viewport=TABLET) as page:
        page.wait_for_selector(".draft .bar")
        assert not page.url.endswith("#correct")
