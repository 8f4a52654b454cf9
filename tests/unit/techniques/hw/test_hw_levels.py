"""Hardware techniques: each turns its own level, stacks are the sum of their parts in one order."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations, permutations

import pytest

from harness.config import HarnessConfig
from harness.engines import get
from harness.system.errors import UserError
from harness.techniques import hw
from harness.techniques.hw.bf16 import BF16
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import off

STACKABLE = ("fp16", "dynamic_batching", "fusion")
UNCHANGED = asdict(off(8))


def levels(*techniques, **options) -> dict:
    config = HarnessConfig()
    for name in techniques:
        getattr(config.hw, name).enabled = True
    for name, value in options.items():
        technique, _, option = name.partition("__")
        setattr(getattr(config.hw, technique), option, value)
    return asdict(hw.apply_stack(off(8), config))


def changes(found: dict) -> dict:
    return {name: value for name, value in found.items() if value != UNCHANGED[name]}


@pytest.mark.parametrize(
    ("technique", "expected"),
    [
        ("fp16", {"precision": asdict(FP16)}),
        ("bf16", {"precision": asdict(BF16)}),
        ("fusion", {"fusion": "max", "cuda_graph": True}),
        ("dynamic_batching", {"batch": {"min_size": 1, "opt_size": 8, "max_size": 16}}),
        ("compiled", {"fusion": "default"}),
        ("identity", {"instance": "hw-identity"}),
    ],
)
def test_a_technique_changes_its_own_level_alone(technique, expected):
    assert changes(levels(technique)) == expected


@pytest.mark.parametrize("stack", [*combinations(STACKABLE, 2), STACKABLE])
def test_a_stack_changes_what_its_techniques_change_in_whatever_order_they_were_switched_on(stack):
    together = {name: value for technique in stack for name, value in changes(levels(technique)).items()}
    for order in permutations(stack):
        assert changes(levels(*order)) == together


def test_options_reach_the_levels():
    assert changes(levels("fp16", fp16__io="fp16")) == {"precision": asdict(FP16), "native_io": True}
    assert changes(levels("fusion", fusion__cuda_graph=False)) == {"fusion": "max"}


def test_two_half_precisions_are_refused():
    config = HarnessConfig()
    config.hw.fp16.enabled = config.hw.bf16.enabled = True
    with pytest.raises(UserError, match=r"hw=\[fp16,bf16\]: weights have one precision"):
        hw.check_stack(config, None)


def test_an_engine_without_a_precision_says_why_and_what_it_has():
    config = HarnessConfig()
    config.hw.bf16.enabled = True
    with pytest.raises(
        UserError, match=r"engine onnxruntime has no bf16 \(.*no bf16 kernel.*\); it has fp32, tf32, fp16"
    ):
        hw.check_stack(config, get("onnxruntime"))
    for name in ("eager", "inductor", "tensorrt", "tensorrt_rtx"):
        hw.check_stack(config, get(name))


def test_every_technique_of_the_config_has_a_file_and_the_other_way_round():
    assert set(hw.ORDER) == set(asdict(HarnessConfig().hw))
    assert all(hw.technique(name).name == name for name in hw.ORDER)


def test_only_options_of_techniques_that_are_on_are_recorded():
    config = HarnessConfig()
    assert hw.flat_options(config.hw) == {}
    config.hw.fusion.enabled = True
    config.hw.fp16.io = "fp16"
    assert hw.flat_options(config.hw) == {"hw.fusion.cuda_graph": True, "hw.fusion.dense_blocks": False}
