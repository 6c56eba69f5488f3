"""Take the README's picture of the page with a real headless browser.

    python docs/make_picture.py                    run `xrdct demo` and shoot its second slice, half done
    python docs/make_picture.py --url URL          shoot a page that is already served

It needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

WIDTH, HEIGHT = 1400, 1290
MAX_BYTES = 400_000
PATIENCE_S = 300.0
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
HEADER = "return Bokeh.documents[0].roots().find(root => root.name == 'header').text"


@contextlib.contextmanager
def browser_at(url: str) -> Iterator[Any]:
    """Yield a browser that shows a page, once its figures stand."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in programs.values():
        sys.exit("the picture needs chromium and chromedriver; install Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = webdriver.ChromeService(programs["chromedriver"])
        browser = webdriver.Chrome(options=options, service=service)
        try:
            set_size(browser, HEIGHT)
            browser.get(url)
            wait_for(
                lambda: browser.execute_script("return window.Bokeh && Bokeh.documents.length > 0"), 30.0
            )
            yield browser
        finally:
            browser.quit()


def set_size(browser: Any, height: int) -> None:
    """Set the size of the page itself; a window's would include the browser's frame."""
    metrics = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait_for(condition: Callable[[], Any], timeout_s: float) -> Any:
    """Return what a condition returns as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"the page did not come so far within {timeout_s:g} s; is the experiment running?")
        time.sleep(0.2)
    return value


def is_half_done(header: str) -> bool:
    """Whether the head of the page tells of a second or later slice, at least half done."""
    done = re.search(r"([\d,]+) <small>/ ([\d,]+)</small>", header)
    slices = re.search(r"Slices done</span><b>([\d,]+)</b>", header)
    if not (done and slices):
        return False
    lines, planned, finished = (int(text.replace(",", "")) for text in (*done.groups(), slices.group(1)))
    return finished >= 1 and planned / 2 <= lines < planned


@contextlib.contextmanager
def running_demo() -> Iterator[str]:
    """Run the demo in a folder of its own, and yield the address of its page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        said = Path(folder) / "said.txt"
        command = [
            sys.executable,
            "-m",
            "xrdct_beamline.cli",
            "demo",
            "--headless",
            "--output",
            f"{folder}/demo",
        ]
        environment = {**os.environ, "TILED_PROFILES": f"{folder}/profiles"}
        with said.open("w") as file:
            demo = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            yield wait_for(lambda: page_address(demo, said), 120.0)
        finally:
            demo.send_signal(signal.SIGINT)  # as Ctrl-C, so that it ends what it started
            demo.wait(60.0)


def page_address(demo: subprocess.Popen[bytes], said: Path) -> str | None:
    """Return the address that the demo has named, if it has."""
    text = said.read_text()
    if demo.poll() is not None:
        sys.exit(f"the demo ended before its page could be shot; it said:\n{text}")
    found = re.search(r"http://127\.0\.0\.1:\d+/", text)
    return found and found.group()


def save(png: bytes, target: Path) -> None:
    """Write a picture, with fewer colours where it would be too large."""
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(target, optimize=True)
        if target.stat().st_size > MAX_BYTES:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {image.width} x {image.height} pixels, {target.stat().st_size / 1000:.0f} kB")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="page to shoot; without it the demo is run")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("picture.png"))
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(running_demo())
        browser = stack.enter_context(browser_at(url))
        if not options.url:
            wait_for(lambda: is_half_done(browser.execute_script(HEADER)), PATIENCE_S)
        set_size(browser, browser.execute_script("return document.querySelector('main').scrollHeight"))
        time.sleep(1.0)  # let the newest picture be painted
        save(browser.get_screenshot_as_png(), options.output)


if __name__ == "__main__":
    main()
