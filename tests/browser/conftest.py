"""A headless Chromium that keeps what its pages say and fetch, and a running `python -m harness.ui`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

WINDOW = "3100,900"  # MLflow's page only draws the columns that fit
CHROME = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    f"--disable-component-update --disable-sync --disable-dev-shm-usage --window-size={WINDOW}"
).split()


@pytest.fixture
def browser(tmp_path):
    """A fresh Chromium; skipped where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    binary = next(filter(None, map(shutil.which, CHROME)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def complaints(browser):
    """Return a function: complaints() -> what the console said that is an error, since the last call."""

    def errors() -> list[str]:
        return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]

    return errors


@pytest.fixture
def fetched(browser):
    """Return a function: fetched() -> the addresses that pages asked for, since the last call."""

    def addresses() -> list[str]:
        messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]

    return addresses


@pytest.fixture
def screen(browser):
    """Return a function: screen(390, dark=True) -> sets the width in pixels and the colour scheme."""

    def show(width: int, dark: bool = False, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    return show


@pytest.fixture
def picture(tmp_path):
    """Return a function: picture("name.png") -> where a screenshot goes; HARNESS_SCREENSHOTS keeps them."""
    return lambda name: str(Path(os.environ.get("HARNESS_SCREENSHOTS", tmp_path)) / name)


@pytest.fixture(scope="session")
def free_port():
    """Return a function: free_port() -> a port that nobody serves on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def serve():
    """Return a function: serve(root, "--port", "5005") -> the process of a `python -m harness.ui` of that store."""

    def start(root: Path, *arguments: str) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        command = [sys.executable, "-m", "harness.ui", "--root", str(root), "--no-browser", *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=root.parent
        )

    return start


@pytest.fixture(scope="session")
def served(serve, free_port):
    """Return a function: served(root) -> the printed address of a running `python -m harness.ui` on that store."""
    running: dict[Path, tuple[subprocess.Popen, str]] = {}

    def address(root: Path) -> str:
        if root not in running:
            server = serve(root, "--port", str(free_port()))
            line = server.stdout.readline()
            assert "http" in line, server.stderr.read()
            running[root] = server, re.search(r"http\S+", line).group()
        return running[root][1]

    yield address
    for server, _ in running.values():
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
