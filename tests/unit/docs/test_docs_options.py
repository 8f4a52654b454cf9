"""The page of options is made from the sources: all are on it, with the default of a bare command, unit and meaning."""

from __future__ import annotations

import re

import options
import pytest
from omegaconf import OmegaConf

from harness.config import HarnessConfig
from harness.sweep.choices import group_choices
from harness.sweep.command_line import compose_first


@pytest.fixture(scope="module")
def page():
    return options.page()


@pytest.fixture(scope="module")
def rows(page):
    """Return name -> (default, unit, meaning) as the page's tables show them."""
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if re.match(r"\| `[\w.]+` \| `", line)]
    return {cell[0].strip(" `"): [text.strip(" `") for text in cell[1:]] for cell in cells if len(cell) == 4}


def leaves(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_every_option_of_the_schema_is_on_the_page(rows):
    schema = OmegaConf.to_container(OmegaConf.structured(HarnessConfig))
    assert {name for name, _ in leaves(schema)} - set(rows) == set()


def test_no_option_on_the_page_is_unknown_to_the_schema(rows):
    schema = OmegaConf.to_container(OmegaConf.structured(HarnessConfig))
    assert set(rows) - {name for name, _ in leaves(schema)} == set()


def test_defaults_are_those_of_a_bare_command(rows):
    composed = compose_first([])
    for name, (default, _, _) in rows.items():
        value = OmegaConf.select(composed, name)
        assert default == ("-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)), (
            name
        )


def test_every_option_says_what_it_means(rows):
    assert [name for name, (_, _, says) in rows.items() if not says] == []


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("protocol.budget_s", "s"),
        ("scenario.slo_ms", "ms"),
        ("hw.dynamic_batching.max_queue_delay_us", "µs"),
        ("engine.workspace_mb", "MiB"),
        ("scenario.rate_per_s", "1/s"),
        ("arch.pruned.target_gmacs", "GMACs"),
        ("model.image_size", "pixels"),
    ],
)
def test_the_unit_in_a_name_is_shown(rows, name, unit):
    assert rows[name][1] == unit


def test_every_group_and_choice_is_on_the_page(page):
    for group, names in group_choices().items():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{group}` |"))
        assert re.findall(r"`([^`]+)`", line)[1:] == names
