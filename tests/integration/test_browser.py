"""`semtrace serve` in a real Chromium: what a person sees and types there, and what another page may not do."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pyte
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from support import PATIENCE_S, Running, start_gunicorn, wait_until
from support.serving import Served, serving

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,700"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromium-driver are not installed"),
]

# The terminal is drawn on a canvas: what came for it is kept on its way.
KEEP = """
const Real = window.WebSocket;
window.kept = [];
window.WebSocket = class extends Real {
  constructor(...all) {
    super(...all);
    this.addEventListener("message", (event) => {
      if (typeof event.data !== "string") window.kept.push(new Uint8Array(event.data));
    });
  }
};
"""
TAKE = "const taken = window.kept.splice(0); return taken.map((each) => btoa(String.fromCharCode(...each)));"


class Browser:
    """One page, and the screen in it as pyte reads it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.screen = pyte.Screen(200, 60)
        self._stream = pyte.ByteStream(self.screen)

    def open(self, address: str) -> None:
        self.driver.get(address)

    def texts(self) -> list[str]:
        """The screen as it was, and after each message since: what is said in passing may be over already."""
        seen = ["\n".join(self.screen.display)]
        for each in self.driver.execute_script(TAKE):
            self._stream.feed(base64.b64decode(each))
            seen.append("\n".join(self.screen.display))
        return seen

    def sees(self, *parts: str) -> None:
        wait_until(
            lambda: any(all(part in text for part in parts) for text in self.texts()), what=f"{parts} in the page"
        )

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def requested(self) -> set[str]:
        """Every address that the page asked for since the last call."""
        entries = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        asked = ("Network.requestWillBeSent", "Network.webSocketCreated")
        return {
            each["params"].get("url") or each["params"]["request"]["url"] for each in entries if each["method"] in asked
        }

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def browser() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    with tempfile.TemporaryDirectory(prefix="semtrace-browser-", ignore_cleanup_errors=True) as profile:
        for switch in (*SWITCHES.split(), f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP})
            yield Browser(driver)
        finally:
            driver.quit()


@pytest.fixture(scope="module")
def gunicorn() -> Iterator[Running]:
    with start_gunicorn("seed:app", "-w", "2", "--preload") as server:
        server.wait_workers(2)
        yield server


@pytest.fixture
def served(gunicorn: Running) -> Iterator[Served]:
    with serving(gunicorn.pid) as one:
        yield one


def test_a_person_opens_the_address_types_resizes_and_leaves(browser: Browser, served: Served) -> None:
    browser.open(served.address)
    browser.sees("seed.lock", "○ free", "q quit")
    before = browser.driver.get_screenshot_as_png()
    browser.press(Keys.ENTER)  # without a click first
    browser.sees("Lock seed.lock", "mapped by")
    wait_until(lambda: browser.driver.get_screenshot_as_png() != before, PATIENCE_S, "another picture")
    browser.press(Keys.ESCAPE)
    browser.sees("q quit")  # a key right after Esc would be one with Alt
    browser.press(Keys.F1)
    browser.sees("Keys and signs")
    browser.press(Keys.ESCAPE)
    browser.sees("q quit")
    browser.press("t")
    browser.sees("Timeline of the workers")
    browser.press(Keys.ESCAPE)
    browser.sees("q quit")
    browser.driver.set_window_size(500, 400)
    browser.screen.reset()
    browser.sees("Locks  1")
    browser.press("q")
    ended = browser.driver.find_element("id", "ended")
    wait_until(ended.is_displayed, PATIENCE_S, "the end to be told")
    wait_until(lambda: served.views() == [], what="the view's process to end")
    browser.driver.find_element("id", "again").click()
    browser.sees("seed.lock")


def test_page_loads_only_from_the_server_and_reports_no_errors(browser: Browser, served: Served) -> None:
    browser.open(served.address)
    browser.sees("seed.lock")
    wait_until(
        lambda: browser.driver.execute_script("return document.fonts.check('15px \"Roboto Mono\"')"), what="font"
    )
    asked = {url for url in browser.requested() if not url.startswith(("data:", "chrome"))}
    assert f"{served.address}font.ttf" in asked
    assert f"ws://{served.host}/{served.token}/ws" in {url.partition("?")[0] for url in asked}
    assert {url for url in asked if not url.startswith((served.address, f"ws://{served.host}/"))} == set()
    assert browser.complaints() == []


def test_key_in_the_page_releases_only_if_allowed(browser: Browser, served: Served) -> None:
    browser.open(served.address)
    browser.sees("seed.lock")
    browser.press("R")
    browser.sees("this view changes nothing")


@contextlib.contextmanager
def elsewhere(text: str) -> Iterator[str]:
    """Another site of this machine, with that page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: object) -> None:
            """Nobody wants to know."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_foreign_page_that_knows_the_address_cannot_connect_or_embed(browser: Browser, served: Served) -> None:
    address = served.address.replace("http", "ws") + "ws?width=80&height=24"
    page = f"""<title>wait</title><script>
      const socket = new WebSocket("{address}");
      socket.onopen = () => {{ socket.send(JSON.stringify(["stdin", "q"])); document.title = "open"; }};
      socket.onerror = () => {{ document.title = "refused"; }};
      </script><iframe src="{served.address}"></iframe>"""
    with elsewhere(page) as other:
        browser.open(other)
        wait_until(lambda: browser.driver.title != "wait", PATIENCE_S, "an answer")
        assert browser.driver.title == "refused"
        wait_until(lambda: any("frame" in said for said in browser.complaints()), PATIENCE_S, "the frame to be refused")
        browser.driver.switch_to.frame(0)
        assert browser.driver.execute_script("return document.getElementById('terminal')") is None
    assert f"refused: it was asked for by a page from '{other.rstrip('/')}'" in served.log.read_text()
    assert served.views() == []
