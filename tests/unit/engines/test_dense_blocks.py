"""Dense blocks by our own kernels compute what the network's blocks compute (in Triton's interpreter, on the CPU)."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch
from torchvision.models.densenet import DenseNet

from harness.engines.inductor.dense_blocks import FusedDenseBlock, PooledTransition, apply, proof
from harness.sweep.plan import plan_quartet
from harness.system.errors import UserError
from harness.techniques.arch.options import GroupedOptions, LowRankOptions

pytest.importorskip("triton")


def dense_net(growth: int = 12) -> DenseNet:
    """A small DenseNet in fp16 whose statistics are not those of a fresh one."""
    torch.manual_seed(3)
    network = DenseNet(growth, (3, 2), 24, bn_size=4, num_classes=10).eval().requires_grad_(False)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.2)
    return network


# the interpreter must be chosen before Triton is imported: hence a process of its own
COMPARE = """
import sys, torch
sys.path.insert(0, {folder!r})
from test_dense_blocks import dense_net
from harness.engines.inductor.dense_blocks import apply
for growth in (12, 32):
    plain = dense_net(growth).half()
    fused = dense_net(growth).half()
    apply(fused)
    for height, width, batch in ((8, 8, 3), (5, 9, 2)):
        for index, part in enumerate((plain.features.denseblock1, plain.features.denseblock2)):
            ours = getattr(fused.features, f"denseblock{{index + 1}}")
            first = next(iter(part.children())).norm1.num_features
            x = torch.randn(batch, first, height, width, generator=torch.Generator().manual_seed(growth)).half()
            wanted = part.float()(x.float())
            part.half()
            print((ours(x).float() - wanted).abs().max().item() / wanted.abs().max().item())
"""


def test_a_fused_block_computes_what_the_block_computes(tmp_path):
    script = COMPARE.format(folder=os.path.dirname(__file__))
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    errors = [float(line) for line in done.stdout.split()]
    assert len(errors) == 8
    assert max(errors) < 3e-3


def test_a_transition_that_pools_first_computes_what_the_transition_computes():
    plain = dense_net().features.transition1
    for height, width in ((6, 6), (7, 5)):
        x = torch.randn(2, plain.norm.num_features, height, width)
        torch.testing.assert_close(PooledTransition(plain)(x), plain(x), rtol=1e-5, atol=1e-5)


def test_every_plain_block_is_taken_and_none_is_left():
    network = dense_net().half()
    apply(network)
    assert sum(isinstance(part, FusedDenseBlock) for part in network.modules()) == 2
    assert proof(network) == ({"fused_dense_blocks": 2}, ())


@pytest.mark.parametrize(
    ("technique", "options", "reason"),
    [
        ("grouped", GroupedOptions(groups=2), "denseblock1, denseblock2 without our kernels: .* have 2 groups"),
        ("low_rank", LowRankOptions(ratio=0.25), "denseblock1, denseblock2 without our kernels: .* are factorised"),
    ],
)
def test_a_block_that_the_kernels_do_not_compute_is_left_to_the_compiler_and_named(technique, options, reason):
    from harness.techniques.arch.stack import technique as lookup

    network = lookup(technique).apply(dense_net(), options).half()
    apply(network)
    fused, (line,) = proof(network)
    assert fused == {"fused_dense_blocks": 0}
    assert re.fullmatch(reason, line), line


@pytest.mark.parametrize(
    ("overrides", "engine", "device", "message"),
    [
        (("hw=fusion",), "inductor", "cuda", r"compute in fp16; use hw=\[fp16,fusion\]"),
        (("hw=[fp16,fusion]",), "onnxruntime", "cpu", "choose engine=inductor"),
        (("hw=[fp16,fusion]",), "inductor", "cpu", "run on a GPU"),
    ],
)
def test_our_kernels_are_refused_where_they_can_t_run(configured, overrides, engine, device, message):
    config = configured(*overrides, "hw.fusion.dense_blocks=true")
    with pytest.raises(UserError, match=message):
        plan_quartet(config, engine, device)


def test_our_kernels_are_asked_for_by_their_option_alone(configured):
    from harness.sweep.plan import _NO_GRAPH, build_plan

    def asked(*overrides):
        plan = plan_quartet(configured("hw=[fp16,fusion]", *overrides), "inductor", "cuda")
        return {cell.role: dict(build_plan(plan, cell, _NO_GRAPH).options).get("lowerings") for cell in plan.cells}

    assert asked() == {"baseline": None, "hw": None}
    assert asked("hw.fusion.dense_blocks=true") == {"baseline": None, "hw": "dense_blocks"}
