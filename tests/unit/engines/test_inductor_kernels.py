"""Inductor's kernels are told by the order of their calls, and none where that order is not what was written down."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.engines.eager.profiler import parts_by_order
from harness.engines.inductor.profiler import parts_of_kernels
from harness.engines.profiling import SPANNING, UNKNOWN

ORIGINS = [
    ("extern_kernels.convolution", ["features.conv0"]),
    ("triton_poi_fused_cat_relu_0", ["features.norm0", "features.denseblock1.denselayer1"]),
    ("triton_poi_fused_relu_1", ["features.denseblock1.denselayer1.norm1", "features.denseblock1"]),
    ("torch.ops.harness.dense_block.default", ["features.denseblock2"]),
    ("triton_per_fused_mean_2", []),
    ("extern_kernels.bias_addmm", ["classifier"]),
]


def events(*names):
    return [SimpleNamespace(id=number, name=name) for number, name in enumerate(names)]


def test_a_kernel_is_of_the_part_of_its_modules_and_spans_where_they_are_of_several():
    assert [part for _, part in parts_of_kernels(ORIGINS)] == [
        "stem", SPANNING, "dense block 1", "dense block 2", "dense block 2", "head",
    ]  # fmt: skip


def test_what_comes_before_any_module_is_of_no_known_part():
    assert parts_of_kernels([("triton_poi_fused_0", [])]) == [("triton_poi_fused_0", UNKNOWN)]


@pytest.mark.parametrize(
    "names",
    [
        ["aten::convolution", "aten::_convolution", "triton_poi_fused_cat_relu_0", "triton_poi_fused_relu_1",
         "harness::dense_block", "aten::empty", "triton_per_fused_mean_2", "aten::addmm"],
        ["Torch-Compiled Region: 0/0", "aten::convolution", "graph_0_triton_poi_fused_cat_relu_0",
         "graph_0_triton_poi_fused_relu_1", "harness::dense_block", "graph_0_triton_per_fused_mean_2", "aten::addmm"],
    ],
)  # fmt: skip
def test_each_kernel_finds_its_event_whatever_stands_between(names):
    found = parts_by_order(events(*names), parts_of_kernels(ORIGINS))
    assert list(found.values()) == [part for _, part in parts_of_kernels(ORIGINS)]
    assert names[max(found)] == "aten::addmm"


def test_one_kernel_that_is_missing_leaves_all_untold():
    assert parts_by_order(events("aten::convolution", "triton_poi_fused_relu_1"), parts_of_kernels(ORIGINS)) == {}


def test_a_kernel_whose_name_is_the_end_of_anothers_number_is_not_taken_for_it():
    kernels = [("triton_poi_fused_relu_1", "stem")]
    assert parts_by_order(events("triton_poi_fused_relu_11"), kernels) == {}
