"""The page of metrics, params and tags is made from the declarations: all are on it, and no tag is invented."""

from __future__ import annotations

import re

import pytest
import results

from harness.results import metrics
from harness.results.metrics import declared
from harness.results.row import PARAMS, TAGS


@pytest.fixture(scope="module")
def page(repository):
    return results.page(repository / "src" / "harness")


def test_every_metric_param_and_tag_is_on_the_page(page):
    first_cells = set(re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE))
    assert {metric.name for metric in declared()} | set(PARAMS) | set(TAGS) <= first_cells


def test_a_metric_is_on_the_page_as_soon_as_it_is_declared(repository, monkeypatch):
    monkeypatch.setattr(metrics, "_DECLARED", dict(metrics._DECLARED))
    metrics.declare(metrics.Metric("gpu/occupancy", "share", "higher", "of the multiprocessors"))
    row = "| `gpu/occupancy` | share | higher | of the multiprocessors |"
    assert row in results.page(repository / "src/harness").splitlines()


def test_no_row_of_a_table_breaks_it(page):
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)


def test_no_tag_on_the_page_is_invented(repository):
    sources = "\n".join(path.read_text() for path in (repository / "src/harness").rglob("*.py"))
    assert {tag for tag in TAGS if sources.count(f'"{tag}"') < 2 and f"{tag.upper()}_TAG" not in sources} == set()
