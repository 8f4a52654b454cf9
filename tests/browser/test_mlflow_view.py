"""The shipped view in a real browser: what a person sees after `make ui`."""

import signal
import time
from pathlib import Path

import pytest

from harness.config import TrackingConfig
from harness.results.figures import draw_lines
from harness.results.headline import Headline
from harness.results.record import LINES, description_of
from harness.results.row import QuartetRecord
from harness.stats import Gains
from harness.tracking import finish, finish_sweep, install_views, log_quartet, open_store, start_quartet, start_sweep

pytestmark = [pytest.mark.browser, pytest.mark.minutes]

OURS = (
    "sweep",
    "arch",
    "hw",
    "verdict",
    "interaction/factor",
    "interaction/low",
    "interaction/high",
    "throughput/wall",
)
QUARTETS = [
    ("early_exit", "fp16", 1.0341, "amplifies", 412.5),
    ("grouped", "fusion", 0.8713, "conflicts", 305.25),
    ("grouped,low_rank", "fp16,fusion", 0.9991, "independent", 512.75),
]


@pytest.fixture(scope="module")
def root(new_store):
    """A store with one sweep of three quartets."""
    folder = new_store("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(TrackingConfig(root=str(folder)))
    assert install_views(store)
    sweep = start_sweep(store, "demo", {}, {})
    for arch, hw, factor, verdict, throughput in QUARTETS:
        params = {"arch": arch, "hw": hw, "batch_size": 8, "engine": "onnxruntime", "reference": "eager"}
        run_id = start_quartet(store, sweep, f"{arch} x {hw} b8", params, {})
        metrics = {
            "interaction/factor": factor,
            "interaction/low": factor - 0.02,
            "interaction/high": factor + 0.02,
            "throughput/wall": throughput,
            "latency_ms/p50": 8.25,
            "gain/arch": 1.5,
            "fidelity/cosine": 0.123456,
        }
        log_quartet(store, run_id, QuartetRecord(metrics=metrics, tags={"verdict": verdict}))
        finish(store, run_id, "FINISHED")
    finish_sweep(store, sweep)
    return folder


def sessions_on(port: int) -> list[int]:
    """Return the processes whose command line names the port."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(port) in words:
            found.append(int(entry.parent.name))
    return found


def texts(browser, selector: str) -> list[str]:
    """Return the texts as they stand on the screen, left to right (in the page's source their order differs)."""
    from selenium.webdriver.common.by import By

    elements = browser.find_elements(By.CSS_SELECTOR, selector)
    return [element.text.strip() for element in sorted(elements, key=lambda each: each.location["x"])]


def test_the_printed_address_opens_a_table_with_our_columns_and_values(browser, served, root, picture):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(served(root))
    wait = WebDriverWait(browser, 60, ignored_exceptions=(Exception,))
    try:
        wait.until(lambda page: "0.8713" in texts(page, ".ag-cell"))
        time.sleep(1.5)  # widths and order are applied after the rows
    finally:
        browser.save_screenshot(picture("mlflow_view.png"))

    headers = texts(browser, ".ag-header-cell")
    assert [name for name in headers if name in OURS] == list(OURS)
    assert "fidelity/cosine" not in headers
    cells = texts(browser, ".ag-cell")
    for arch, hw, factor, verdict, throughput in QUARTETS:
        assert {arch, hw, str(factor), verdict, str(throughput)} <= set(cells)
        assert any(f"{arch} x {hw} b8" in cell for cell in cells)
    assert cells.count("demo") == len(QUARTETS), "each row names its sweep, whose own run is not a row"


def test_a_quartets_page_begins_with_its_sentence_and_its_four_bars_unfolded(browser, served, root, picture, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(TrackingConfig(root=str(root)))
    headline = Headline(
        "grouped+low_rank", "onnxruntime + fp16 + fusion", Gains(1.2, 2.9, 3.6, 3.48), 0.99, 1.08, "independent"
    )
    draw_lines(headline, tmp_path / "lines.png")
    sweep = start_sweep(store, "pictured", {}, {})
    run_id = start_quartet(store, sweep, "grouped x fusion b8", {}, {})
    record = QuartetRecord(artifacts={LINES: tmp_path / "lines.png"}, description=description_of(headline))
    log_quartet(store, run_id, record)
    finish(store, run_id, "FINISHED")
    finish_sweep(store, sweep)
    address = served(root).partition("?")[0]
    browser.get(f"{address}/{run_id}?workflowType=machine_learning")
    wait = WebDriverWait(browser, 60, ignored_exceptions=(Exception,))
    try:
        wait.until(
            lambda page: page.execute_script("return document.querySelector('[data-testid*=note] img').complete")
        )
        shown = (
            "let img = document.querySelector('[data-testid*=note] img'); return [img.naturalWidth, img.clientWidth]"
        )
        assert browser.execute_script(shown) == [600, 600]
        assert headline.sentence in browser.find_element("tag name", "body").text
        assert not texts(browser, "[data-testid=show-comment-toggle]"), "MLflow folds what is over 100 pixels high"
    finally:
        browser.save_screenshot(picture("mlflow_run.png"))


def test_ctrl_c_ends_the_server_and_all_its_processes(root, serve, free_port):
    port = free_port()
    server = serve(root, "--port", str(port))
    assert "http" in server.stdout.readline()
    assert len(sessions_on(port)) >= 2
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "Traceback" not in errors
    assert sessions_on(port) == []
