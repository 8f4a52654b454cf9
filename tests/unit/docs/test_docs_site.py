"""The site builds strictly: no broken link or anchor, no page that nobody finds, nothing fetched from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hook import studies, unnamed

pytestmark = pytest.mark.slow


def build(repository, folder, *more):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(repository / "src")}
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder), *more],
        cwd=repository, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(repository, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.minutes  # a build of the whole site
def test_made_pages_are_there(site):
    assert "protocol.budget_s" in (site / "reference/options.html").read_text()
    assert "--fail-on" in (site / "reference/commands.html").read_text()
    assert "half_width" in (site / "reference/python.html").read_text()


@pytest.mark.minutes  # a build of the whole site
def test_studies_are_pages_with_their_figures(site):
    assert (site / "experiments/densenet121_h100/factors.svg").is_file()
    assert (site / "experiments/utilisation/cpu/busy.svg").is_file()
    assert '<img alt="Busy share' in (site / "experiments/utilisation/index.html").read_text()
    assert 'href="experiments/soak/index.html"' in (site / "reliability.html").read_text()


@pytest.mark.minutes  # a build of the whole site
def test_no_page_fetches_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"', page.read_text())
        fetched += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(https?:[^"]+)"', page.read_text())
        assert fetched == [], page.name


@pytest.mark.minutes  # a build of the whole site
def test_a_broken_link_is_an_error(repository, tmp_path):
    page = repository / "docs" / "explanation" / "boundaries.md"
    told = (repository / "mkdocs.yml").read_text()
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "index.md").write_text(page.read_text().partition("##")[0] + "\n[gone](../nowhere.md)\n")
    config = re.sub(r"^nav:.*", "", told, flags=re.DOTALL | re.MULTILINE).replace(
        "docs/make", f"{repository}/docs/make"
    )
    (tmp_path / "mkdocs.yml").write_text(config.replace("paths: [src]", f"paths: [{repository}/src]"))
    done = build(repository, tmp_path / "site", "-f", str(tmp_path / "mkdocs.yml"))
    assert done.returncode != 0
    assert "nowhere" in done.stderr


def test_every_link_of_a_page_that_is_read_as_a_source_leads_somewhere(repository):
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md"), *repository.glob("experiments/*/*.md")]
    assert len(pages) > 40
    for page in pages:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
        targets = re.findall(r"\]\(([^)#\s]+)", text)
        inside = [target for target in targets if not re.match(r"[a-z]+:", target)]
        assert [target for target in inside if not (page.parent / target).exists()] == [], page


def test_a_study_that_the_navigation_does_not_name_has_an_entry(repository):
    pages = studies(repository)
    named = set(pages.values()) - {"experiments/soak/index.md"}
    assert unnamed(pages, named) == [{"Soak: a sweep killed at random moments": "experiments/soak/index.md"}]
