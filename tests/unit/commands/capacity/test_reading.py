"""A serving.json is taken as it is, or refused with the name of the key that is wrong."""

from __future__ import annotations

import json

import pytest

from harness.commands.capacity.curves import parse
from harness.system.errors import UserError


def test_what_was_measured_is_read_unchanged(serving):
    curves = parse(json.dumps(serving), "here")
    assert (curves.slo_ms, curves.quantile, curves.percentile_name) == (50, 0.99, "p99")
    assert list(curves.cells) == ["baseline", "arch", "hw", "combined"]
    for name, cell in curves.cells.items():
        written = serving["cells"][name]
        assert cell.at_slo_per_s == written["at_slo_per_s"]
        assert {str(size): list(samples) for size, samples in cell.service_ms.items()} == written["service_ms"]
        assert [point.latency_ms for point in cell.points] == [point["latency_ms"] for point in written["points"]]


def test_a_bare_baseline_and_a_cell_that_never_met_its_bound_are_fine(serving):
    serving["cells"] = {"baseline": {**serving["cells"]["baseline"], "at_slo_per_s": 0, "low_per_s": None}}
    curves = parse(json.dumps(serving), "here")
    assert curves.cells["baseline"].at_slo_per_s == 0


@pytest.mark.parametrize(
    "path",
    [
        "slo_ms", "percentile", "cells", "cells.hw.at_slo_per_s", "cells.hw.low_per_s", "cells.hw.points",
        "cells.hw.service_ms", "cells.hw.policy", "cells.hw.policy.max_batch_size",
        "cells.hw.policy.max_queue_delay_us", "cells.hw.policy.static",
    ],
)  # fmt: skip
def test_a_missing_key_is_named(serving, path):
    *parents, key = path.split(".")
    node = serving
    for parent in parents:
        node = node[parent]
    del node[key]
    with pytest.raises(UserError, match=f"^here: {path} is missing"):
        parse(json.dumps(serving), "here")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("at_slo_per_s", "fast", r"cells\.hw\.at_slo_per_s must be a number"),
        ("at_slo_per_s", 1e9, r"cells\.hw\.at_slo_per_s 1e\+09 is outside its own interval"),
        ("at_slo_per_s", float("nan"), r"cells\.hw\.at_slo_per_s must be a number"),
        ("points", {}, r"cells\.hw\.points must be a list"),
        ("points", [{"rate_per_s": 1}], r"cells\.hw\.points\[0\]\.valid is missing"),
        ("service_ms", {}, r"cells\.hw\.service_ms is empty"),
        ("service_ms", {"a": [1]}, r"cells\.hw\.service_ms 'a' is not a batch size"),
        ("service_ms", {"1": [1, -1]}, r"cells\.hw\.service_ms\.1 must hold positive"),
        ("policy", {"max_batch_size": 0, "max_queue_delay_us": 0, "static": True}, r"policy\.max_batch_size must be"),
        ("policy", {"max_batch_size": 64, "max_queue_delay_us": 0, "static": True}, "no samples of 64, the static"),
    ],
)
def test_a_wrong_value_is_named(serving, key, value, named):
    serving["cells"]["hw"][key] = value
    with pytest.raises(UserError, match=named) as raised:
        parse(json.dumps(serving), "here")
    assert "\n" not in str(raised.value)


def test_no_json_an_unknown_cell_and_a_percentile_of_100_are_refused(serving):
    with pytest.raises(UserError, match=r"^here: not JSON"):
        parse("{", "here")
    with pytest.raises(UserError, match=r"^here: the file must be an object, not list"):
        parse("[]", "here")
    serving["percentile"] = 100
    with pytest.raises(UserError, match="percentile 100 is not a percentile"):
        parse(json.dumps(serving), "here")
    serving["cells"]["fast"] = serving["cells"].pop("hw")
    with pytest.raises(UserError, match="cells holds fast; its cells are baseline"):
        parse(json.dumps(serving), "here")


def test_a_setting_of_the_batcher_that_is_not_simulated_is_kept_to_be_told(serving):
    serving["cells"]["hw"]["policy"] |= {"preferred_batch_sizes": [16, 8], "buckets": [8, 16, 32], "priorities": 2}
    serving["cells"]["arch"]["policy"] |= {"preferred_batch_sizes": [], "buckets": [], "priorities": 0}
    curves = parse(json.dumps(serving), "here")
    assert curves.cells["hw"].policy.preferred_batch_sizes == (8, 16)
    assert curves.cells["hw"].unmodelled == ("priorities",)
    assert curves.cells["arch"].unmodelled == ()
    serving["cells"]["hw"]["policy"]["preferred_batch_sizes"] = [64]
    with pytest.raises(UserError, match="preferred_batch_sizes must be whole numbers from 1 to 32"):
        parse(json.dumps(serving), "here")
