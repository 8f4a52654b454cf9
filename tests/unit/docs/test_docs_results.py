"""The tables of metrics, params and tags: complete for what was ever logged, and nothing in them is invented."""

from __future__ import annotations

import re
from itertools import product

import pandas
import pytest

PREFIX = re.compile(r"^(baseline|arch|hw)/")
# columns that `harness.load` adds, and what experiments/collect.py does
OURS = {"run_id", "run_name", "status", "start_time", "sweep_name"}


def expanded(text):
    """ "a/{b,c}" -> a/b, a/c"""
    parts = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", text)]
    return ["".join(combination) for combination in product(*parts)]


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs/reference/results.md").read_text()


@pytest.fixture(scope="module")
def metrics(page):
    first_cells = re.findall(r"^\| (`.*?`) \|", page.partition("## Params")[0], re.MULTILINE)
    return {name for cell in first_cells for text in re.findall(r"`([^`]+)`", cell) for name in expanded(text)}


@pytest.fixture(scope="module")
def tags(page):
    first_cells = re.findall(r"^\| (`.*?`) \|", page.partition("## Tags")[2].partition("## Artifacts")[0], re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def params(page):
    return set(re.findall(r"`([\w.*+]+)`", page.partition("## Params")[2].partition("## Tags")[0]))


def unknown(columns, metrics, params, tags):
    """Return the columns of a sweep's table that no page names."""
    known = metrics | params | tags | OURS
    plain = {re.sub(r"^(metrics|params|tags)\.", "", name) for name in columns}
    return {
        name
        for name in plain
        if PREFIX.sub("", name) not in known and not re.match(r"(arch|hw|protocol|scenario)\.\w+", name)
    }


def test_every_column_of_the_committed_studies_is_named(repository, metrics, params, tags):
    tables = [
        table
        for table in (pandas.read_csv(path) for path in sorted(repository.glob("experiments/**/results.csv")))
        if "quartet_key" in table or "verdict" in table
    ]
    assert len(tables) >= 5
    assert {name for table in tables for name in unknown(table.columns, metrics, params, tags)} == set()


def test_every_column_of_a_sweep_is_named(study, store_root, metrics, params, tags):
    import harness

    assert study.returncode == 0, study.stderr
    assert unknown(harness.load("study", str(store_root)).columns, metrics, params, tags) == set()


def test_every_figure_under_load_is_named(metrics):
    from dataclasses import fields

    from harness.serving.queries import LoadFigures
    from harness.serving.serving_cell import EXITS

    names = {f"load/{field.name}" for field in fields(LoadFigures)}
    assert names | {f"load/saturated_{exits}_exit_per_s" for exits in EXITS} <= metrics


def test_every_metric_name_in_the_sources_is_named(repository, metrics):
    """Names written out, as "measure/blocks" or f"{prefix}model/gmacs"; those of the training's curves are its own."""
    rooms = "throughput|latency_ms|model|build|fidelity|accuracy|gpu|host|roofline|load|gain|interaction|measure|machine|why|coursework|data|early_exit"  # noqa: E501
    name = re.compile(rf'"(?:\{{prefix\w*(?:\(role\))?\}})?((?:{rooms})/[a-z0-9_]+)"')
    written = set()
    for path in (repository / "src/harness").rglob("*.py"):
        if not {"train", "engines"} & set(path.parts):
            written |= set(name.findall(path.read_text()))
    assert len(written) > 40
    assert written - metrics == set()


def test_no_metric_on_the_page_is_invented(repository, metrics):
    """The last part of each name occurs in the sources."""
    sources = "\n".join(path.read_text() for path in (repository / "src/harness").rglob("*.py"))
    parts = {part for name in metrics for part in re.split(r"[/]", name)}
    made = re.compile(r"_(low|high|factor|arch|hw|combined|expected)$|^p\d\d$|^saturated_")
    missing = {part for part in parts if part not in sources and not made.search(part)}
    assert missing == set()


def test_no_tag_on_the_page_is_invented(repository, tags):
    sources = "\n".join(path.read_text() for path in (repository / "src/harness").rglob("*.py"))
    assert {tag for tag in tags if f'"{tag}"' not in sources} == set()
