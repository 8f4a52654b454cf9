"""Names tell parts: parameters, exported nodes, what optimisers make of their names, and layers that TensorRT fused."""

from __future__ import annotations

import pytest

from harness.engines.profiling import SPANNING, UNKNOWN, order_of, part_of_names, part_of_parameter, parts_of_graph
from harness.engines.tensorrt.profiler import layers, nodes_of_layers


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("features.conv0.weight", "stem"),
        ("trunk.denseblock2.denselayer11.conv1.weight", "dense block 2"),
        ("features.transition3.norm.bias", "transition 3"),
        ("features.norm5.weight", "head"),
        ("classifier.0.weight", "head"),
        ("head.classifier.bias", "exit head"),
        ("encoder.layers.encoder_layer_11.mlp.0.weight", "encoder layer 11"),
        ("trunk.encoder_layer_3.ln_1.weight", "encoder layer 3"),
        ("heads.head.weight", "head"),
        ("layer3.0.conv1.weight", "layer3"),
        ("trunk.layer3.0.conv1.weight", "layer3"),
        ("conv1.", "stem"),
        ("trunk.bn1.weight", "stem"),
        ("layer1.0.bn1.weight", "layer1"),
        ("maxpool.", None),
        ("trunk.tokens.", "stem"),
        ("tail.pool.", None),
        ("fc.weight", "head"),
        ("blocks.3.attn.qkv.weight", "blocks"),
        ("conv_proj.", "stem"),
        ("trunk.tokens.class_token", "stem"),
        ("encoder.pos_embedding", "stem"),
        ("encoder.", None),
        ("encoder.layers.", None),
        ("encoder.ln.weight", "head"),
        ("tail.norm.bias", "head"),
        ("features.5.1.block.2.fc1.weight", "features 5"),
        ("trunk.features5.1.block.2.fc1.weight", "features 5"),
        ("val_123", None),
        ("features", None),
    ],
)
def test_a_parameters_name_tells_its_part(name, part):
    assert part_of_parameter(name) == part


def test_every_node_of_an_exported_network_has_a_part(prepared):
    import onnx

    _, cells = prepared("arch=grouped", "hw=fusion")
    path = cells["baseline"].artifacts[0].plan.graph.path
    found = parts_of_graph(path)
    nodes = onnx.load(path).graph.node
    assert all(node.name in found for node in nodes)
    parts = [found[node.name] for node in nodes]
    assert parts == sorted(parts, key=order_of)  # the exporter writes nodes in the network's order


def test_an_optimisers_decorations_do_not_hide_a_name():
    known = {"conv2d_2": "dense block 1"}
    for name in (
        "conv2d_2",
        "InsertedPrecisionFreeCast_conv2d_2",
        "conv2d_2_nchwc",
        "node_conv2d_2",
        "conv2d_2_nchwc#7",
    ):
        assert part_of_names([name], known) == "dense block 1", name


def test_tensorrts_fused_layers_are_of_the_part_of_all_their_nodes_or_span():
    known = {"node_conv_1": "stem", "node_relu_1": "stem", "node_conv_2": "dense block 1"}
    times = {
        "node_conv_1 + node_relu_1": 0.5,
        "node_relu_1 + node_conv_2": 0.25,
        "Reformatting CopyNode for Input 0": 0.1,
    }
    found = layers(times, known)
    assert [layer.part for layer in found] == ["stem", SPANNING, UNKNOWN]
    assert [layer.moves for layer in found] == [False, False, True]
    assert sum(layer.ms for layer in found) == pytest.approx(0.85)


def test_a_generated_kernel_of_tensorrt_is_attributed_by_what_the_inspector_says_of_it(tmp_path):
    """As TensorRT 10.6 built DenseNet121 in fp16: two thirds of its layers are such kernels or follow one."""
    inspector = tmp_path / "inspector.json"
    inspector.write_text(
        '{"Layers": [{"Name": "__myl_CasMaxCas_myl3_0", "LayerType": "kgen", "Metadata": "[ONNX Layer: node_relu_1]"},'
        ' {"Name": "node_Conv_1702 + node_relu_2", "Metadata": ""}, "node_of_an_older_format"], "Bindings": []}'
    )
    known = {"node_relu_1": "dense block 1", "node_Conv_1702": "dense block 1", "node_relu_2": "dense block 1"}
    times = {"__myl_CasMaxCas_myl3_0": 0.5, "node_Conv_1702 + node_relu_2": 0.25, "__myl_other": 0.125}
    found = {layer.name: layer.part for layer in layers(times, known, nodes_of_layers(inspector))}
    assert found["__myl_CasMaxCas_myl3_0"] == found["node_Conv_1702 + node_relu_2"] == "dense block 1"
    assert found["__myl_other"] == {layer.name: layer.part for layer in layers(times, known)}["__myl_CasMaxCas_myl3_0"]
    assert nodes_of_layers(tmp_path / "none.json") == {}
