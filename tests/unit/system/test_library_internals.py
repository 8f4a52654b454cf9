"""Private names of libraries: each one that is used still exists, and none is used outside one file."""

from __future__ import annotations

import ast
import inspect
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker

import psutil
import pytest
import torch

from harness.system import library_internals

DOCUMENTED = {"os._exit", "getattr(answer, '_fields', None)"}  # underscored, and yet a part of Python's documentation
READERS = {"getattr", "hasattr", "setattr", "delattr"}


def is_private(name: str) -> bool:
    return any(word.startswith("_") and not word.startswith("__") for word in name.split("."))


def private_names(text: str) -> Iterator[str]:
    """Yield what a file uses of a library's private names: what it imports, and attributes that it doesn't define."""
    nodes = list(ast.walk(ast.parse(text)))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] != "harness":
            yield from (name for alias in node.names if is_private(name := f"{node.module}.{alias.name}"))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in defined:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in READERS and len(node.args) > 1:
            name = getattr(node.args[1], "value", "")
            if isinstance(name, str) and is_private(name) and name not in defined:
                yield ast.unparse(node)


def test_private_names_of_libraries_are_used_in_one_file_alone(repository):
    source = repository / "src" / "harness"
    files = [path for path in source.rglob("*.py") if path != source / "system" / "library_internals.py"]
    found = {str(path.relative_to(source)): set(private_names(path.read_text())) - DOCUMENTED for path in files}
    assert {path: names for path, names in found.items() if names} == {}
    assert len(files) > 100


@pytest.mark.parametrize(
    "text",
    [
        "from torch._inductor import metrics",
        "import torch._dynamo",
        "from torchvision.models.densenet import _DenseBlock",
        "pool._processes",
        "getattr(tracker, '_pid', None)",
        "class Ours:\n    def run(self):\n        return self.session._handle",
    ],
)
def test_the_search_finds_a_private_name_however_it_is_used(text):
    assert len(list(private_names(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from __future__ import annotations",
        "class Ours:\n    def __eq__(self, other):\n        return self._value == other._value",
        "def _ours(): ...\n_ours()",
        "value.__class__",
    ],
)
def test_the_search_leaves_our_own_names_alone(text):
    assert list(private_names(text)) == []


def test_the_processes_of_a_pool_are_killed_at_once():
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    asleep = pool.submit(time.sleep, 60)
    library_internals.kill_pool(pool)
    with pytest.raises(BrokenProcessPool):
        asleep.result(timeout=20)
    pool.shutdown()
    library_internals.kill_pool(pool)  # it has none any more


def test_the_resource_tracker_is_known_by_its_process():
    resource_tracker.ensure_running()
    process = psutil.Process(library_internals.resource_tracker_pid())
    deadline = time.monotonic() + 20
    while not (words := process.cmdline()) and time.monotonic() < deadline:  # not yet what it is to become
        time.sleep(0.05)
    assert "resource_tracker" in " ".join(words)


def test_the_classes_of_a_densenet_are_those_of_its_parts():
    from torchvision.models import DenseNet

    block, layer, transition = library_internals.densenet_parts()
    with torch.device("meta"):
        parts = list(DenseNet(8, (2, 3), 16).modules())
    assert [sum(isinstance(part, kind) for part in parts) for kind in (block, layer, transition)] == [2, 5, 1]


def test_the_text_of_a_scripted_module_tells_another_computation_apart():
    def text(module):
        return library_internals.script_module_text(torch.jit.trace(module, torch.zeros(1, 2)))

    assert text(torch.nn.ReLU()) != text(torch.nn.Tanh())


def test_a_data_set_has_a_fingerprint_of_its_content():
    datasets = pytest.importorskip("datasets")
    one, same, other = (datasets.Dataset.from_dict({"label": labels}) for labels in ([0, 1], [0, 1], [1, 0]))
    found = [library_internals.dataset_fingerprint(dataset) for dataset in (one, same, other)]
    assert all(found) and found[0] == found[1] != found[2]


@pytest.mark.parametrize(("mark", "compilations"), [(library_internals.mark_dynamic_if_possible, 1), (None, 2)])
def test_a_dimension_that_is_marked_dynamic_is_compiled_once_for_all_sizes(mark, compilations):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    run = torch.compile(lambda x: x + 1, backend=backend)
    for size in (3, 5):
        tensor = torch.zeros(size, 4)
        if mark:
            mark(tensor, 0)
        run(tensor)
    assert len(compiled) == compilations


def test_inductor_is_a_backend_that_takes_an_inner_compiler():
    import inspect

    compile_fx, compile_fx_inner = library_internals.inductor_compilers()
    arguments = inspect.signature(compile_fx).parameters
    assert {"inner_compile", "config_patches"} <= set(arguments)
    assert arguments["inner_compile"].default is compile_fx_inner


def test_what_compiles_ahead_of_time_takes_a_path_and_options():
    parameters = inspect.signature(library_internals.ahead_of_time_compiler()).parameters
    assert {"package_path", "inductor_configs"} <= set(parameters)


def test_the_graphs_that_inductor_compiled_anew_are_counted():
    from torch._dynamo.utils import counters

    before = library_internals.compiled_graphs()
    counters["inductor"]["fxgraph_cache_miss"] += 1
    assert library_internals.compiled_graphs() == before + 1


def test_the_kernels_that_inductor_generated_are_counted():
    assert library_internals.generated_kernels() >= 0


def test_a_module_that_is_held_twice_has_both_names_and_none_is_a_name_too():
    layer = torch.nn.Linear(2, 2, bias=False)
    holder = torch.nn.Sequential(layer, layer)
    assert library_internals.child_slots(holder) == [("0", layer), ("1", layer)]
    assert library_internals.registered_names(layer) == ["weight", "bias"]
    assert library_internals.registered_names(holder) == ["0", "1"]


def test_a_compiled_module_is_known_whichever_way_it_was_compiled():
    wrapped, in_place = torch.compile(torch.nn.ReLU()), torch.nn.ReLU()
    assert not library_internals.is_compiled(in_place)
    in_place.compile()
    assert library_internals.is_compiled(wrapped) and library_internals.is_compiled(in_place)


def test_a_dispatch_mode_sees_every_operator():
    seen = []

    class Watching(library_internals.dispatch_mode()):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watching():
        torch.zeros(2) + 1
    assert any("add" in name for name in seen)


def test_parameters_are_known_by_all_their_names_and_hooks_are_seen():
    layer = torch.nn.Linear(2, 2, bias=False)
    layer.tied = layer.weight
    slots = library_internals.parameter_slots(layer)
    assert [name for name, _ in slots] == ["weight", "bias", "tied"]
    assert slots[0][1] is slots[2][1] is layer.weight and slots[1][1] is None
    assert not library_internals.has_hooks(layer)
    before, after = torch.nn.ReLU(), torch.nn.ReLU()
    before.register_forward_pre_hook(lambda *_: None)
    after.register_forward_hook(lambda *_: None)
    assert library_internals.has_hooks(before) and library_internals.has_hooks(after)


def test_a_product_of_eight_bits_is_summed_in_32():
    left, right = (torch.randint(-128, 128, (32, 32), dtype=torch.int8) for _ in range(2))
    out = torch.empty(32, 32, dtype=torch.int32)
    library_internals.int8_product(left, right, out)
    assert torch.equal(out, left.int() @ right.int())
