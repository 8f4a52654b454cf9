"""What torch's profiler says, by a stand-in's events: work counts once, in the part that ran it, and none is lost."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from torchvision.models import VisionTransformer, mobilenet_v3_small, resnet18

from harness.engines.eager.profiler import _batches, _marked, profile_module
from harness.engines.profiling import UNKNOWN


def event(name, start, end, identity=0, parent=None, kernels=(), device=DeviceType.CPU):
    return SimpleNamespace(
        name=name,
        id=identity,
        device_type=device,
        time_range=SimpleNamespace(start=start, end=end),
        cpu_time_total=end - start,
        cpu_parent=parent,
        kernels=[SimpleNamespace(name=kernel, duration=duration) for kernel, duration in kernels],
    )


def test_a_kernel_that_cuda_numbers_like_an_operation_counts_once():
    twice = [("sm90_xmma", 40.0)]  # what the synchronisation is given because it bears the convolution's number
    events = [
        event("harness-batch", 0, 1000, 1),
        event("harness-part:stem", 10, 11, 2),
        event("aten::convolution", 20, 30, 3),
        event("aten::cudnn_convolution", 21, 29, 4, kernels=[("sm90_xmma", 40.0)]),
        event("cudaLaunchKernel", 22, 23, 4, kernels=twice),
        event("cuLaunchKernelEx", 24, 25, 4, kernels=twice),
        event("Activity Buffer Request", 26, 27, 4, kernels=twice),
        event("harness-part:head", 40, 41, 5),
        event("aten::addmm", 50, 60, 6, kernels=[("gemm", 10.0), ("Memcpy DtoD", 2.0)]),
        event("cudaDeviceSynchronize", 900, 990, 4, kernels=twice),
        event("sm90_xmma", 100, 140, 7, device=DeviceType.CUDA),
    ]
    ((layers, milliseconds),) = _batches(events, "cuda", ())
    assert [(one.name, one.part, one.ms) for one in layers] == [
        ("sm90_xmma", "stem", 0.04),
        ("gemm", "head", 0.01),
        ("Memcpy DtoD", "head", 0.002),
    ]
    assert milliseconds == 1.0


def test_kernels_of_a_compiled_network_belong_to_the_call_that_launched_them():
    batch = event("harness-batch", 0, 1000, 1)
    region = event("Torch-Compiled Region: 0/0", 5, 900, 2, batch)
    block = event("harness::dense_block", 20, 200, 3, region)
    events = [
        batch,
        region,
        event("triton_poi_fused_relu_0", 10, 12, 4, region, [("triton_poi_fused_relu_0", 5.0)]),
        block,
        event("aten::copy_", 30, 40, 5, block, [("elementwise", 7.0)]),
        event("aten::addmm", 300, 320, 6, region, [("gemm", 9.0)]),
    ]
    told = [
        ("triton_poi_fused_relu_0", "stem"),
        ("torch.ops.harness.dense_block.default", "dense block 1"),
        ("extern_kernels.addmm", "head"),
    ]
    ((layers, _),) = _batches(events, "cuda", told)
    assert [(one.name, one.part) for one in layers] == [
        ("triton_poi_fused_relu_0", "stem"),
        ("elementwise", "dense block 1"),
        ("gemm", "head"),
    ]


def test_what_compiled_code_calls_beside_its_kernels_on_a_cpu_is_work_of_no_known_part():
    batch = event("harness-batch", 0, 1000, 1)
    region = event("Torch-Compiled Region: 0/0", 10, 900, 2, batch)
    call = event("## Call CompiledFxGraph x ##", 20, 890, 3, region)
    convolution = event("aten::convolution", 30, 130, 4, call)
    events = [
        batch,
        region,
        event("AOTDispatcher Runtime Wrapper Prologue", 11, 15, 5, region),
        call,
        convolution,
        event("aten::_convolution", 31, 129, 6, convolution),
        event("aten::sort", 200, 260, 7, call),
        event("graph_0_cpp_fused_relu_0", 300, 400, 8, call),
        event("aten::to", 950, 960, 9, batch),
    ]
    kernels = [("extern_kernels.convolution", "stem"), ("cpp_fused_relu_0", "head")]
    ((layers, _),) = _batches(events, "cpu", kernels)
    assert [(one.name, one.part, one.ms) for one in layers] == [
        ("aten::convolution", "stem", 0.1),
        ("aten::sort", UNKNOWN, 0.06),
        ("graph_0_cpp_fused_relu_0", "head", 0.1),
        ("aten::to", UNKNOWN, 0.01),
    ]


def _parts(model, size):
    """Return the parts of an eager network's profile, in the order they ran."""
    images = torch.randn(1, 3, size, size)
    model.eval()
    with torch.inference_mode():
        return list(profile_module(lambda: model(images), model, (), "cpu", 1).parts_ms)


def test_every_part_of_an_eager_network_is_named_as_its_parameters_are():
    vit = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10)
    assert _parts(vit, 32) == ["stem", "encoder layer 0", "encoder layer 1", "head"]
    assert _parts(resnet18(num_classes=10), 32) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert _parts(mobilenet_v3_small(num_classes=10), 32)[:2] == ["features 0", "features 1"]


def test_work_after_a_part_within_a_part_is_of_the_outer_one_again():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier, self.last = nn.Linear(8, 8), nn.Softmax(dim=1)

        def forward(self, features):
            return self.last(self.classifier(features.sin()))

    whole, features = nn.Sequential(), torch.randn(1, 8)
    whole.body = Body()
    profiled = profile(activities=[ProfilerActivity.CPU])
    with torch.inference_mode(), _marked(whole), profiled as prof, record_function("harness-batch"):
        whole(features)
    ((layers, _),) = _batches(prof.events(), "cpu", ())
    assert [(one.name, one.part) for one in layers] == [
        ("aten::sin", "body"),
        ("aten::linear", "head"),
        ("aten::softmax", "body"),
    ]
