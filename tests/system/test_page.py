"""The page as its server serves it, and as a real browser shows it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from xrdct_beamline.display.dashboard import serve
from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.errors import ConfigurationError

pytestmark = [pytest.mark.system, pytest.mark.slow]

RADIAL = np.linspace(1.0, 12.0, 200)
LMO = np.array([2.9857, 4.8765, 5.7188, 5.9734, 6.8985, 7.5183])
N_ROTATIONS, N_TRANSLATIONS = 12, 21


def publish_lines(store: SnapshotStore, n_done: int) -> None:
    """Publish what the live service would after a number of lines."""
    peaks = np.exp(-0.5 * ((RADIAL[:, None] - LMO) / 0.05) ** 2).sum(1).astype(np.float32)
    x = np.linspace(-1, 1, N_TRANSLATIONS)
    profile = np.clip(1 - x**2, 0, None)
    sinogram = np.full((N_ROTATIONS, N_TRANSLATIONS, RADIAL.size), np.nan, np.float32)
    sinogram[:n_done] = profile[:, None] * peaks
    disc = (x[:, None] ** 2 + x**2 < 0.5).astype(np.float32)
    seconds = np.arange(0.0, 60.0)
    store.publish(
        title="A disc <of> LMO",
        state_index=0,
        phase="scanning",
        lines_done=n_done,
        lines_planned=N_ROTATIONS,
        frames_done=n_done * N_TRANSLATIONS,
        frames_planned=N_ROTATIONS * N_TRANSLATIONS,
        lag_s=0.3,
        cell_time_s=seconds,
        cell_voltage=4.1 - 0.01 * seconds,
        cell_current=np.where(seconds > 40, 0.0, -0.5),
        pauses=[(40.0, None)],
        radial=RADIAL,
        pattern=peaks,
        pattern_sigma=0.1 * peaks,
        phase_ticks={"LiMn2O4": LMO},
        sinogram=sinogram,
        slice_=n_done * disc[:, :, None] * peaks,
        extent_mm=(-0.6, 0.6, -0.6, 0.6),
    )


@pytest.fixture
def store() -> SnapshotStore:
    return SnapshotStore()


@pytest.fixture
def page(store) -> Iterator[Any]:
    with serve(store) as server:
        yield server


def wait_for(condition: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.1)
    return value


def ask(page: Any, method: str, path: str, **headers: str) -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        body = "" if reply.status == http.HTTPStatus.SWITCHING_PROTOCOLS else reply.read().decode()
        return reply.status, body


def test_the_page_listens_on_loopback_alone_and_needs_nothing_from_elsewhere(page):
    assert urlsplit(page.url).hostname == "127.0.0.1"
    _, html = ask(page, "GET", "/")
    assert "<title>XRD-CT live</title>" in html
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']*""", html) == []
    assert [url for url in re.findall(r"https?://[^\s\"'<>\\]+", html) if page.url not in url] == []
    other = socket.gethostbyname(socket.gethostname())
    if not other.startswith("127."):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, page.port), timeout=2)


def test_the_page_takes_no_orders_and_no_foreign_origin(page):
    assert ask(page, "POST", "/")[0] == http.HTTPStatus.METHOD_NOT_ALLOWED
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    foreign, _ = ask(page, "GET", "/ws", **upgrade, Origin="http://elsewhere.example")
    own, _ = ask(page, "GET", "/ws", **upgrade, Origin=page.url.rstrip("/"))
    assert foreign == http.HTTPStatus.FORBIDDEN
    assert own != http.HTTPStatus.FORBIDDEN


def test_a_port_in_use_is_named_with_the_remedy(page, store):
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{page.port}: .*choose another port"):
        serve(store, page.port)


def test_stopping_frees_the_port_and_ends_the_thread(store):
    server = serve(store)
    assert ask(server, "GET", "/")[0] == http.HTTPStatus.OK
    server.stop()
    server.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "xrdct-page"]
    with serve(store, server.port) as again:
        assert again.url == server.url


def require(what: str | None, name: str) -> str:
    """Return where a program is; without it skip, or fail where everything is required."""
    if what is None:
        message = f"{name} is not installed; install Debian's chromium and chromium-driver"
        (pytest.fail if os.environ.get("XRDCT_REQUIRE_ALL") == "1" else pytest.skip)(message)
    return str(what)


@pytest.fixture
def open_browser(tmp_path) -> Iterator[Callable[[str], Any]]:
    """Yield a function that shows a URL in a browser of its own."""
    chromium = require(shutil.which("chromium"), "chromium")
    driver = require(shutil.which("chromedriver"), "chromedriver")
    from selenium import webdriver

    browsers: list[Any] = []

    def show(url: str) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--window-size=1400,1500", f"--user-data-dir={tmp_path / f'profile{len(browsers)}'}",
        ):  # fmt: skip
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        browsers.append(browser)
        browser.get(url)
        wait_for(lambda: browser.execute_script("return window.Bokeh && Bokeh.documents.length"))
        return browser

    yield show
    for browser in browsers:
        browser.quit()


def pixels(browser: Any, section: str) -> np.ndarray:
    from PIL import Image

    element = browser.find_element("css selector", f"section[aria-label={section}]")
    with Image.open(io.BytesIO(element.screenshot_as_png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def area(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Return how many pixels have a colour, give or take what compositing changes."""
    return int((np.abs(image - colour).max(axis=-1) <= 3).sum())


def header_text(browser: Any) -> str:
    return browser.execute_script(
        "return Bokeh.documents[0].roots().find(root => root.name == 'header').text"
    )


UNMEASURED, YELLOW = (213, 218, 225), (253, 231, 37)  # the page's grey; the top of the colour scale


@pytest.mark.browser
def test_a_browser_shows_the_data_as_they_come_and_stays_on_this_machine(page, store, open_browser):
    browser = open_browser(page.url)
    assert browser.title == "XRD-CT live"
    wait_for(lambda: area(pixels(browser, "Slice"), UNMEASURED) > 50_000)
    nothing = pixels(browser, "Pattern")

    publish_lines(store, 4)
    wait_for(lambda: "4 <small>/ 12" in header_text(browser))
    wait_for(lambda: area(pixels(browser, "Slice"), YELLOW) > 10_000)
    early = area(pixels(browser, "Sinogram"), UNMEASURED)
    drawn = pixels(browser, "Pattern")
    rows = min(len(drawn), len(nothing))  # the choices above the pattern have come meanwhile
    assert (drawn[:rows] != nothing[:rows]).any()
    assert area(pixels(browser, "Cell"), (221, 231, 243)) > 3_000  # the pause

    publish_lines(store, 8)
    wait_for(lambda: "8 <small>/ 12" in header_text(browser))
    # scrolled into view, a section may be caught before it is painted
    late = wait_for(
        lambda: 0.2 * early < (n := area(pixels(browser, "Sinogram"), UNMEASURED)) < 0.75 * early and n
    )
    assert early / late == pytest.approx(2.0, rel=0.1)  # 8 angles were missing, then 4

    hosts = {
        urlsplit(url).hostname
        for entry in browser.get_log("performance")
        for message in [json.loads(entry["message"])["message"]]
        for url in [message["params"].get("request", {}).get("url") or message["params"].get("url", "")]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
        and urlsplit(url).scheme in ("http", "https", "ws", "wss")
    }
    assert hosts == {"127.0.0.1"}
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


@pytest.mark.browser
def test_two_browsers_choose_their_channels_each_for_itself(page, store, open_browser):
    publish_lines(store, 12)
    first, second = open_browser(page.url), open_browser(page.url)
    buttons = "return Bokeh.documents[0].roots().find(root => root.name == 'choice').children[0]"
    assert first.execute_script(f"{buttons}.labels")[0] == "LMO 111 + 311 + 400"
    values = (
        "const image = Bokeh.documents[0].roots().find(root => root.name == 'slice')"
        ".renderers[0].data_source.data.image[0]; return Math.max(...image)"
    )
    before = wait_for(lambda: first.execute_script(values))
    first.execute_script(f"{buttons}.active = 1".replace("return ", ""))
    after = wait_for(lambda: (v := first.execute_script(values)) != before and v)
    assert after == pytest.approx(before / 3, rel=0.15)  # one of three equal reflections
    assert second.execute_script(values) == before

    publish_lines(store, 6)
    wait_for(lambda: second.execute_script(values) == pytest.approx(before / 2))
    wait_for(lambda: first.execute_script(values) == pytest.approx(after / 2))


def test_the_picture_script_writes_a_small_picture_of_a_page(page, store, tmp_path):
    import runpy

    require(shutil.which("chromium"), "chromium")
    require(shutil.which("chromedriver"), "chromedriver")
    script = Path(__file__).parents[2] / "docs" / "make_picture.py"
    publish_lines(store, 12)
    target = tmp_path / "picture.png"
    runpy.run_path(str(script))["main"](["--url", page.url, "--output", str(target)])
    assert target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_size <= 400_000
