"""The report of a real sweep in a real browser: what a person sees, on a screen and on a phone, and what is fetched."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas
import pytest

import warm_starts
from harness.report.command import main as report
from harness.system.counts import limits

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(study, store_root, tmp_path_factory):
    """The page that `python -m harness.report study --html FILE` writes for the session's sweep."""
    assert study.returncode == 0, study.stdout + study.stderr
    path = tmp_path_factory.mktemp("page") / "page.html"
    command = [sys.executable, "-m", "harness.report", "study", "--uri", str(store_root), "--html", str(path)]
    done = warm_starts.run(command, timeout=120)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def rows(study, store_root):
    """What the store holds of it."""
    import harness

    return harness.load("study", str(store_root))


def seen(browser, selector: str) -> list[str]:
    """Return the texts of elements that are really on the page with a size."""
    from selenium.webdriver.common.by import By

    found = browser.find_elements(By.CSS_SELECTOR, selector)
    return [one.text.strip() for one in found if one.is_displayed() and one.size["height"] > 0 and one.text.strip()]


def factors(rows) -> list[str]:
    return [f"{row['interaction/factor']:.3f}" for _, row in rows.iterrows()]


def test_factors_intervals_and_verdicts_are_on_screen_in_the_heatmap(browser, screen, page, rows, picture):
    screen(1180)
    browser.get(page.as_uri())
    browser.save_screenshot(picture("report_light.png"))
    texts = seen(browser, "#figure-heatmap1 svg text")
    for _, row in rows.iterrows():
        assert f"{row['interaction/factor']:.3f}" in texts
        assert limits(row["interaction/low"], row["interaction/high"]) in texts
        assert row["verdict_holm"] in texts
        assert row["arch"] in texts and row["hw"] in texts  # the engine, which the gain contains, is on a line above
        assert f"{row['engine']} +" in texts
    assert seen(browser, "#figure-gains svg text") and seen(browser, "#figure-pareto svg text")


def test_the_page_fetches_nothing_but_itself_and_the_console_is_silent(browser, page, fetched, complaints):
    browser.get(page.as_uri())
    assert {address for address in fetched() if not address.startswith(("data:", "chrome"))} == {page.as_uri()}
    assert complaints() == []


def test_on_a_phone_nothing_sticks_out_and_figures_keep_a_readable_size(browser, screen, page, picture):
    screen(390, height=840)
    browser.get(page.as_uri())
    browser.save_screenshot(picture("report_phone.png"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('#figure-heatmap1 svg text')].map(e => e.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 8


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_a_wide_study_scrolls_in_its_own_places_and_the_page_does_not(browser, screen, tmp_path, width):
    committed = pandas.read_csv(REPOSITORY / "experiments/densenet121_tensorrt/tensorrt_eager/results.csv", dtype=str)
    many = [committed.assign(hw=f"hardware_{n}", run_id=committed["run_id"] + str(n)) for n in range(8)]
    (tmp_path / "study").mkdir()
    pandas.concat(many).to_csv(tmp_path / "study" / "results.csv", index=False)
    assert report([str(tmp_path / "study"), "--html", str(tmp_path / "page.html")]) == 0
    screen(width, height=840)
    browser.get((tmp_path / "page.html").as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    inside = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.getAttribute('aria-label'))"
    )
    assert any(name.startswith("Interaction factors: ") for name in inside)  # the heatmap of eight columns
    assert any(name.startswith("Cells of ") for name in inside)


def test_in_the_dark_the_ground_is_dark_and_the_figures_ink_is_light(browser, screen, page, picture):
    screen(1180, dark=True)
    browser.get(page.as_uri())
    browser.save_screenshot(picture("report_dark.png"))
    ground, ink = browser.execute_script(
        "const of = (e, name) => getComputedStyle(e)[name];"
        "return [of(document.body, 'backgroundColor'), of(document.querySelector('#figure-gains svg text'), 'fill')]"
    )
    assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 150 < 600 < sum(map(int, re.findall(r"\d+", ink)[:3]))


def test_what_is_folded_opens_by_keyboard_alone(browser, page, rows):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(page.as_uri())
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the results"
    assert seen(browser, "#matrix table") == []
    for _ in range(30):
        if browser.switch_to.active_element.tag_name == "summary":
            break
        browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    (table,) = seen(browser, "#matrix table")
    assert all(factor in table for factor in factors(rows))


def test_every_figure_has_words_for_who_cannot_see_it(browser, page, rows):
    browser.get(page.as_uri())
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => [svg.getAttribute('role'), "
        "svg.getAttribute('aria-labelledby').split(' ').map(id => document.getElementById(id).textContent).join(' ')])"
    )
    assert len(figures) >= 5
    assert all(role == "img" and len(words) > 40 for role, words in figures)
    assert any(all(factor in words for factor in factors(rows)) for _, words in figures)
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_mlflow_shows_the_page_inside_the_sweeps_own_run(
    browser, served, study, store_root, rows, picture, complaints, fetched
):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    from harness.tracking.load import find_sweep

    address = served(store_root)
    sweep = find_sweep("study", str(store_root))
    experiment = re.search(r"experiments/(\d+)", address).group(1)
    host = address.partition("/#")[0]
    browser.get(f"{host}/#/experiments/{experiment}/runs/{sweep.run_id}/artifacts/report.html")
    wait = WebDriverWait(browser, 60, ignored_exceptions=(Exception,))
    frame = wait.until(lambda page: page.find_element(By.CSS_SELECTOR, "iframe"))
    wait.until(lambda page: frame.size["height"] > 100)
    browser.switch_to.frame(frame)
    wait.until(lambda page: set(factors(rows)) <= set(seen(page, "#figure-heatmap1 svg text")))
    browser.switch_to.default_content()
    browser.save_screenshot(picture("mlflow_report.png"))
    elsewhere = {one for one in fetched() if one.startswith("http") and not one.startswith(host)}
    assert elsewhere == set()
    # MLflow's page asks who is logged in, and its server without users answers 404
    assert [one for one in complaints() if "/mlflow/users/current" not in one] == []
