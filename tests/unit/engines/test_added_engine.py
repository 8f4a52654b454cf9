"""An engine of another package is planned, built, run, verified and profiled as ours are, with options of its own."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from harness.config import EngineOption, packages
from harness.config.declared import engine_config_type, engine_options
from harness.config.groups import schema
from harness.engines import get
from harness.engines.profiling import take_profile
from harness.measure.progress import Silent
from harness.measure.verify import compare
from harness.sweep.build import build_quartet
from harness.sweep.command_line import compose_jobs
from harness.sweep.main import help_text
from harness.sweep.plan import plan_quartet
from harness.sweep.refusals import check_engine_options
from harness.system.errors import CellError, UserError
from harness.techniques.arch.stages import NetworkOutputs
from harness.techniques.hw.fp16 import FP16

ENGINE = "node_by_node"
NET = ("model=harness_example.nets:example_net", "model.image_size=32", "model.num_classes=10", "batch_size=2")


def forget() -> None:
    for found in (packages.registered, engine_options, engine_config_type, schema):
        found.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def registered(repository, tmp_path_factory):
    """Put the package where this process and those it starts find it, with the entry point of its engine."""
    site = tmp_path_factory.mktemp("site")
    (site / "harness_example").symlink_to(repository / "tests" / "example_package" / "harness_example")
    notes = site / "harness_example-1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-example\nVersion: 1.0\n")
    (notes / "entry_points.txt").write_text(f"[harness.engines]\n{ENGINE} = harness_example.engine:ENGINE\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        forget()
        yield
    forget()


def planned(*overrides, engine=ENGINE):
    (job,) = compose_jobs([*NET, f"engine={engine}", "reference=engine", *overrides])
    return plan_quartet(job.config, engine, "cpu")


@pytest.fixture(scope="module")
def cells(cache):
    """Return (plan, cells) with a baseline in fp32 and a cell in fp16, each node computed twice."""
    plan = planned("hw=fp16", "engine.node_repeats=2")
    return plan, build_quartet(plan, cache, Silent())


def test_it_is_a_choice_and_its_option_is_shown_with_its_default():
    text = help_text([])
    assert ENGINE in next(line for line in text.splitlines() if line.startswith("engine: "))
    assert "engine.node_repeats=1 " in text


def test_its_option_reaches_what_it_builds(cells):
    _, built = cells
    assert {cell.artifacts[0].proof["node_repeats"] for cell in built.values()} == {2}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("engine.node_repeats=0",), "engine.node_repeats=0: must be at least 1"),
        (("hw=fusion",), "node_by_node fuses nothing"),
        (("engine.compute_capability=8.9",), "node_by_node builds for the machine it runs on"),
    ],
)
def test_what_it_can_not_do_is_refused_before_any_work(overrides, said):
    with pytest.raises(UserError, match=said):
        planned(*overrides)


def test_a_precision_that_it_lacks_is_refused_with_those_it_has(monkeypatch):
    able = get(ENGINE).capabilities
    monkeypatch.setattr(type(get(ENGINE)), "capabilities", type(able)(able.precisions[:1]))
    with pytest.raises(UserError, match=r"hw=\[fp16\]: engine node_by_node has no fp16; it has fp32\."):
        planned("hw=fp16")


def test_its_option_on_an_engine_without_it_is_refused_and_names_the_engine():
    others = [planned("hw=fp16", "engine.node_repeats=2", engine=name) for name in ("onnxruntime", ENGINE)]
    check_engine_options(others)
    with pytest.raises(UserError, match=r"node_repeats is for node_by_node, and this sweep runs on onnxruntime"):
        check_engine_options(others[:1])


def test_it_computes_what_the_network_computes_in_each_precision_and_says_where_the_time_goes(cells):
    _, built = cells
    assert built["hw"].artifacts[0].plan.precision == FP16
    for cell in built.values():
        (artifact,) = cell.artifacts
        with get(ENGINE).load(artifact, "cpu") as executable:
            found = []
            images = cell.expected.inputs["input"]
            for start in range(0, len(images), 2):
                batch = images[start : start + 2].astype(executable.input_specs[0].dtype)
                executable.write_inputs({"input": batch})
                executable.enqueue(len(batch))
                found += list(executable.outputs(len(batch))["logits"])
            compare(
                NetworkOutputs({"logits": np.stack(found)}, np.stack(found)), cell.expected, artifact.plan.arithmetic
            )
            profile = take_profile([executable], [artifact], [cell.batch_size], "cpu")
        assert profile.source == "node by node"
        assert profile.kernels >= artifact.plan.graph.nodes and 0 < profile.work_ms <= profile.batch_ms


def test_what_is_no_engine_and_an_engine_of_another_name_are_refused(monkeypatch):
    monkeypatch.setattr(packages, "load", lambda group, name: object())
    with pytest.raises(UserError, match=r"it is of type object, not a harness\.engines\.base\.Engine"):
        get(ENGINE)
    monkeypatch.undo()
    engine = get(ENGINE)
    monkeypatch.setattr(packages, "load", lambda group, name: engine)
    with pytest.raises(UserError, match="it calls itself 'node_by_node'"):
        get("eager")


def test_two_engines_that_declare_one_option_differently_are_refused_together(monkeypatch):
    monkeypatch.setattr(type(get(ENGINE)), "options", (EngineOption("providers", int, "how many", 1),))
    engine_options.cache_clear()
    with pytest.raises(UserError, match=rf"onnxruntime and {ENGINE} declare engine\.providers with different types"):
        engine_options()
    monkeypatch.undo()
    engine_options.cache_clear()


def test_an_engine_that_can_not_be_imported_is_refused_when_it_is_chosen_and_not_before(monkeypatch):
    monkeypatch.setitem(sys.modules, "harness_example.engine", None)
    engine_options.cache_clear()
    assert "node_repeats" not in engine_options()
    with pytest.raises(UserError, match="can't be imported"):
        get(ENGINE)
    monkeypatch.undo()
    engine_options.cache_clear()
    with pytest.raises(CellError):  # the contract's own answer of an engine without a profiler
        super(type(get(ENGINE)), get(ENGINE)).profile(None, None, "cpu", 1)
