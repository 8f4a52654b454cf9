"""Build: let ONNX Runtime optimise the graph once, keep the optimised model, and prove what it did.

The saved model reloads with optimisation disabled and gives bit-identical results, so what is timed is
exactly what was inspected here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.base import Artifact, BuildPlan, load_graph, share_proof, share_shortfall
from harness.engines.onnxruntime.runtime import open_session, session_options
from harness.system.counts import counted
from harness.techniques.hw import int8
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32

if TYPE_CHECKING:
    import onnx

MODEL_FILE = "optimised.onnx"
# off: the least that ONNX Runtime accepts as a normal set-up; default: what a plain session does, which is ALL
LEVELS = {"off": "ORT_ENABLE_BASIC", "default": "ORT_ENABLE_ALL", "max": "ORT_ENABLE_ALL"}
# With fusion off, too, eight bits need the pass that makes eight-bit kernels of Q/DQ nodes, which is of the level above
# BASIC; what else that level merges is left out by name.
EIGHT_BIT_LEVEL = "ORT_ENABLE_EXTENDED"
OTHER_FUSIONS = [
    "ConvActivationFusion", "GemmActivationFusion", "MatMulActivationFusion", "MatMulScaleFusion",
    "MatmulTransposeFusion", "ConvAddActivationFusion", "GeluFusionL2", "FastGeluFusion", "QuickGeluFusion",
    "BiasGeluFusion", "BiasSoftmaxFusion", "LayerNormFusionL2", "SimplifiedLayerNormFusion", "SkipLayerNormFusion",
    "AttentionFusion", "EmbedLayerNormFusion", "GatherToSplitFusion", "GatherToSliceFusion", "PadFusion",
]  # fmt: skip
EIGHT_BITS = {
    "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
}  # fmt: skip
WEIGHTED = {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "NhwcConv"}


def build(plan: BuildPlan, workdir: Path, version: str) -> Artifact:
    """Write the optimised model into `workdir`; raise CellError where ONNX Runtime refuses the graph."""
    level = str(dict(plan.options).get("fusion_step") or LEVELS[plan.fusion])
    merges_nothing = plan.precision == int8.INT8_AFFINE and level == LEVELS["off"]
    level = EIGHT_BIT_LEVEL if merges_nothing else level
    source = _pinned(plan, workdir) if plan.batch.is_static else plan.graph.path
    provider = _optimise(plan, source, workdir / MODEL_FILE, level, OTHER_FUSIONS if merges_nothing else [])
    before = _operations(load_graph(source))
    if source != plan.graph.path:
        source.unlink()

    # weights at or above 1 KiB may be put beside the model by newer versions; one folder holds both
    model = load_graph(workdir / MODEL_FILE)
    proof = _proof(plan, model, level)
    degraded = _degraded(plan, proof, provider)
    if plan.fusion == "max" and _operations(model) == before:
        # seen on CUDA: what is left of the technique is the CUDA graph
        degraded.append(
            f"nothing fused: {level} left the graph of {counted(before.total(), 'node')} as it was on {provider}"
        )
    return Artifact(
        plan=plan,
        path=workdir,
        main_file=MODEL_FILE,
        engine_version=version,
        size_mb=sum(file.stat().st_size for file in workdir.iterdir()) / 1e6,
        proof=proof,
        degraded=tuple(degraded),
    )


def _optimise(plan: BuildPlan, source: Path, target: Path, level: str, without: Sequence[str]) -> str:
    """Write the graph as a session at this level optimises it, but for some passes; return its provider."""
    import onnxruntime as ort

    options = session_options(plan)
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(target)
    return str(open_session(source, options, plan, without=without).get_providers()[0])


def _proof(plan: BuildPlan, model: onnx.ModelProto, level: str) -> dict[str, Any]:
    """Return what the optimised graph shows of the requested levels."""
    nodes, counts = model.graph.node, _operations(model)
    half, weighted = _half_precision_ops(model)
    eight = _eight_bits(plan, counts, weighted) if plan.precision == int8.INT8_AFFINE else {}
    enough = bool(eight) and not share_shortfall(plan.precision, eight)
    return {
        "level": level,
        "nodes": len(nodes),
        "nodes_before": plan.graph.nodes,
        "batch_norms": counts["BatchNormalization"],  # those that could not be folded into a convolution
        "activations_in_convs": sum(any(given.name == "activation" for given in node.attribute) for node in nodes),
        "blocked_layout_convs": sum(node.domain == "com.microsoft.nchwc" and node.op_type == "Conv" for node in nodes),
        "reorders": counts["ReorderInput"] + counts["ReorderOutput"],  # what the blocked layout costs
        "casts": counts["Cast"],
        "fp16_ops": half,
        "weighted_ops": weighted,
        "precision_in_use": (plan.precision if enough else FP16 if weighted and half == weighted else FP32).name,
        "batch": "static" if plan.batch.is_static else "dynamic",
        **eight,
    }


def _eight_bits(plan: BuildPlan, counts: Counter[str], in_float: int) -> dict[str, Any]:
    """Return how many convolutions and products have eight-bit kernels, and why the others don't."""
    computed = sum(counts[kind] for kind in EIGHT_BITS)
    left = Counter(int8.placement(load_graph(plan.graph.path), min_channels=1).left.values())
    if (more := in_float - sum(count for reason, count in left.items() if reason != int8.NO_WEIGHTS)) > 0:
        left["quantised, but not merged into an eight-bit kernel"] = more
    return share_proof(plan.precision, computed, computed + in_float, left)


def _degraded(plan: BuildPlan, proof: Mapping[str, Any], provider: str) -> list[str]:
    """Return where the proof shows less than was requested."""
    found = []
    half, weighted = proof["fp16_ops"], proof["weighted_ops"]
    if plan.precision == FP16 and half < weighted:
        found.append(
            f"fp16 emulated: {weighted - half} of {weighted} weighted operations compute in fp32 behind "
            f"{proof['casts']} casts on {provider}"
        )
    if plan.precision == int8.INT8_AFFINE:
        found += share_shortfall(plan.precision, proof)
    if plan.fusion == "max" and proof["level"] != LEVELS["max"]:
        found.append(f"fusion at {proof['level']} instead of {LEVELS['max']}")
    return found


def _operations(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _pinned(plan: BuildPlan, workdir: Path) -> Path:
    """Pin the batch dimension of the one dynamic export; return the path of the static model."""
    import onnx
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    model = load_graph(plan.graph.path)
    for value in model.graph.input:
        batch = value.type.tensor_type.shape.dim[0].dim_param
        if batch:
            make_dim_param_fixed(model.graph, batch, plan.batch.opt_size)
    path = workdir / "pinned.onnx"
    onnx.save(model, path)
    return path


def _half_precision_ops(model: onnx.ModelProto) -> tuple[int, int]:
    """Return how many convolutions and matrix products have fp16 weights, and how many have weights.

    An fp16 weight that reaches its operation through a Cast counts as fp32: that is what is computed in. The products
    of an attention, of activations by activations, have none and follow the types of what is around them.
    """
    from onnx import TensorProto

    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    constant = set(types)
    for node in model.graph.node:  # in the order they run: what is made of weights alone is one
        if node.input and all(name in constant for name in node.input if name):
            constant.update(node.output)
    weighted = [n for n in model.graph.node if n.op_type in WEIGHTED and constant.intersection(n.input[:2])]
    half = sum(any(types.get(name) == TensorProto.FLOAT16 for name in node.input[:2]) for node in weighted)
    return half, len(weighted)
