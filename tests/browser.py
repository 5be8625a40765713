"""Headless Chromium for the tests of pages: its console, its requests to the network, and screenshots."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INSTALLED = shutil.which("chromium") and shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


class Browser:
    """A Chromium that shows one page at a time."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path | str, width: int = 1280, dark: bool = False, height: int = 900) -> None:
        """Show a file or a URL at one screen's size, light or dark. Earlier logs are dropped."""
        self.console()
        self.requests()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.get(page if isinstance(page, str) else page.resolve().as_uri())

    def console(self) -> list[str]:
        """Messages since the last call, errors and all others."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """URLs requested since the last call, without those whose data is in the page itself."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def choose_files(self, selector: str, *paths: Path) -> None:
        """As in the dialog of an <input type="file">."""
        self.driver.find_element("css selector", selector).send_keys("\n".join(map(str, paths)))

    def media(self, name: str) -> None:
        """Show the page as in print ("print"), or as on a screen ("")."""
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": name})

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def picture(self, path: Path, whole: bool = True) -> None:
        """Save the page, or the part of it on the screen, as PNG."""
        screenshot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(screenshot["data"]))


@contextmanager
def browsing() -> Iterator[Browser]:
    from selenium import webdriver  # imported here: machines that run the tests of CUDA need not have it

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            driver.get("about:blank")  # Chromium's start page sends many requests
            yield Browser(driver)
        finally:
            driver.quit()
