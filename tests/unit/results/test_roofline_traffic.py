"""Operations and bytes: by hand on small graphs, and the same work as PyTorch counts on real ones."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

from harness.engines.export import ExportRequest, export
from harness.results.roofline import ImageWork, StageWork, count, per_image
from harness.sweep.command_line import compose_jobs
from harness.techniques.arch.assembled import network
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32


def test_a_grouped_convolution_by_hand(written):
    node = make_node("Conv", ["input", "w", "b"], ["output"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2)
    found = count(written([node], {"w": (6, 2, 3, 3), "b": (6,)}, (4, 5, 5), (6, 5, 5)))
    assert found.flop == 2 * (6 * 5 * 5) * (2 * 3 * 3)
    assert found.activation_bytes == 4 * (4 * 25 + 6 * 25)
    assert found.weight_bytes == 4 * (6 * 2 * 9 + 6)


def test_a_strided_convolution_reads_all_and_writes_less(written):
    node = make_node("Conv", ["input", "w"], ["output"], kernel_shape=[1, 1], strides=[2, 2])
    found = count(written([node], {"w": (8, 4, 1, 1)}, (4, 6, 6), (8, 3, 3)))
    assert found == StageWork(flop=2 * 8 * 9 * 4, activation_bytes=4 * (4 * 36 + 8 * 9), weight_bytes=4 * 32)


@pytest.mark.parametrize(("transposed", "shape"), [(0, (10, 7)), (1, (7, 10))])
def test_a_classifier_by_hand_however_its_weights_lie(written, transposed, shape):
    node = make_node("Gemm", ["input", "w", "b"], ["output"], transB=transposed)
    found = count(written([node], {"w": shape, "b": (7,)}, (10,), (7,)))
    assert found == StageWork(flop=2 * 10 * 7, activation_bytes=4 * (10 + 7), weight_bytes=4 * (70 + 7))


def test_half_precision_halves_the_bytes_and_not_the_operations(written):
    nodes = [make_node("MatMul", ["input", "w"], ["output"])]
    full, half = (count(written(nodes, {"w": (10, 7)}, (3, 10), (3, 7), dtype)) for dtype in (np.float32, np.float16))
    assert full == StageWork(flop=2 * 3 * 7 * 10, activation_bytes=4 * (30 + 21), weight_bytes=4 * 70)
    assert half == StageWork(full.flop, full.activation_bytes // 2, full.weight_bytes // 2)


def eight_bits(name):
    """Return the two nodes after which `name`, in eight bits, is called `name_q`."""
    return [make_node("QuantizeLinear", [name, "scale"], [f"{name}_8"]),
            make_node("DequantizeLinear", [f"{name}_8", "scale"], [f"{name}_q"])]  # fmt: skip


def test_between_quantising_nodes_a_tensor_has_a_byte_an_element_and_a_relu_is_fused(written):
    weights = {"w": (10, 7), "v": (7, 5), "scale": ()}
    nodes = [
        *eight_bits("input"), *eight_bits("w"), make_node("MatMul", ["input_q", "w_q"], ["m"]),
        make_node("Relu", ["m"], ["r"]), *eight_bits("r"), make_node("MatMul", ["r_q", "v"], ["output"]),
    ]  # fmt: skip
    found = count(written(nodes, weights, (3, 10), (3, 5)))
    assert found.flop == 2 * 3 * (10 * 7 + 7 * 5)
    assert found.activation_bytes == (30 + 21) + (21 + 4 * 15)
    assert found.weight_bytes == 70 + 4 * 35


def test_a_sum_is_fused_too_and_what_is_also_kept_in_float_is_written_so(written):
    weights = {"w": (10, 10), "v": (10, 5), "scale": ()}
    nodes = [
        *eight_bits("input"), *eight_bits("w"), make_node("MatMul", ["input_q", "w_q"], ["m"]),
        make_node("Add", ["m", "input"], ["a"]), *eight_bits("a"), make_node("MatMul", ["a_q", "v"], ["output"]),
    ]  # fmt: skip
    assert count(written(nodes, weights, (3, 10), (3, 5))).activation_bytes == (30 + 30) + (30 + 4 * 15)
    kept = [*nodes[:-1], make_node("MatMul", ["a_q", "v"], ["p"]), make_node("MatMul", ["m", "v"], ["n"]),
            make_node("Add", ["p", "n"], ["output"])]  # fmt: skip
    assert count(written(kept, weights, (3, 10), (3, 5))).activation_bytes == (
        (30 + 4 * 30) + (30 + 4 * 15) + (4 * 30 + 4 * 15)
    )


def test_a_product_of_two_activations_reads_both_for_every_image(written):
    nodes = [make_node("Transpose", ["input"], ["t"], perm=[0, 2, 1]), make_node("MatMul", ["input", "t"], ["output"])]
    found = count(written(nodes, {}, (3, 10), (3, 3)))
    assert found == StageWork(flop=2 * 9 * 10, activation_bytes=4 * (30 + 30 + 9), weight_bytes=0)


def test_a_transposed_weight_is_still_a_weight(written):
    nodes = [make_node("Transpose", ["w"], ["t"], perm=[1, 0]), make_node("MatMul", ["input", "t"], ["output"])]
    found = count(written(nodes, {"w": (7, 10)}, (10,), (7,)))
    assert found == StageWork(flop=2 * 70, activation_bytes=4 * 17, weight_bytes=4 * 70)


def test_what_lies_between_weighted_operations_counts_nothing(written):
    nodes = [
        make_node("Relu", ["input"], ["r"]),
        make_node("Concat", ["r", "input"], ["c"], axis=1),
        make_node("AveragePool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make_node("Conv", ["p", "w"], ["output"], kernel_shape=[1, 1]),
    ]
    found = count(written(nodes, {"w": (5, 8, 1, 1)}, (4, 6, 6), (5, 3, 3)))
    assert found == StageWork(flop=2 * 5 * 9 * 8, activation_bytes=4 * (8 * 9 + 5 * 9), weight_bytes=4 * 40)


def test_a_graph_of_unknown_shapes_is_no_count_but_a_reason(written):
    node = make_node("Conv", ["input", "w"], ["output"], name="stem", kernel_shape=[1, 1])
    with pytest.raises(ValueError, match=r"Conv 'stem': the shape of 'input' is not known"):
        count(written([node], {"w": (8, 4, 1, 1)}, (4, "height", 6), (8, "height", 6)))


def test_weights_are_shared_by_a_batch_and_activations_are_not():
    stage = StageWork(flop=100, activation_bytes=30, weight_bytes=80)
    assert per_image([(stage, 1.0)], 1) == ImageWork(100, 110)
    assert per_image([(stage, 1.0)], 8) == ImageWork(100, 40)


def test_a_second_stage_counts_for_who_reaches_it_and_its_weights_once_a_batch():
    first, second = StageWork(100, 30, 80), StageWork(40, 20, 160)
    assert per_image([(first, 1.0), (second, 0.25)], 4) == ImageWork(110, 30 + 20 + 5 + 40)
    assert per_image([(first, 1.0), (second, 0.0)], 4) == ImageWork(100, 50)  # nobody stays: it is not run


@pytest.mark.parametrize("arch", ["none", "early_exit", "[grouped,low_rank]"])
def test_the_graph_has_the_work_that_pytorch_counts(configured, cache, arch):
    config = configured(f"arch={arch}")
    net = network(config.model, config.arch)
    for stage, cost in zip(net.stages, net.accounting.stages, strict=True):
        request = ExportRequest(stage.inputs.specs, stage.output_names)
        found = count(export(stage.module, net.fingerprint, request, cache)[0].path)
        assert found.flop == pytest.approx(2e9 * cost.gmacs, rel=1e-12)


@pytest.mark.minutes  # two exports at full size
def test_densenet121_moves_43_7_mb_an_image_in_half_precision(cache):
    """What the traffic of the unmodified network was estimated at before there was a count: about 43 MB."""
    (job,) = compose_jobs(["model=densenet121"])
    net = network(job.config.model, job.config.arch)
    (whole,) = net.stages
    outer = (*whole.inputs.names, *whole.output_names)
    full, half = (
        count(
            export(
                whole.module,
                net.fingerprint,
                ExportRequest(whole.inputs.specs, whole.output_names, precision, keep),
                cache,
            )[0].path
        )
        for precision, keep in ((FP32, ()), (FP16, outer))
    )
    assert full.flop == half.flop == 2 * 2_834_161_664 == pytest.approx(2e9 * net.accounting.gmacs, rel=1e-12)
    assert (full.activation_bytes, half.activation_bytes) == (87_464_864, 43_732_432)
    # 7,978,856 parameters but the normalisations' 83,648 and the classifier's 1,000 biases, zero if untrained: dropped
    assert (full.weight_bytes, half.weight_bytes) == (31_576_832, 15_788_416)
