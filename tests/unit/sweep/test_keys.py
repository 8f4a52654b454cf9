"""What an edit of our own code makes anew, and what it does not: a wrong hit is a wrong number, a miss is an hour."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.config import arch_off, sources
from harness.engines import build
from harness.engines.base import BuildPlan, Graph
from harness.engines.build import artifact_key
from harness.engines.export import ExportRequest, export_key
from harness.networks.inputs import one_tensor
from harness.sweep import job
from harness.sweep.job import quartet_key
from harness.techniques.arch.assembled import network
from harness.techniques.arch.recipe import identity_of
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import BatchProfile

GRAPH = Graph(Path("model.onnx"), "5" * 64, (), (), 1)
EXPORTS, QUARTETS = {"export", "export grouped", "export fp16"}, {"quartet", "quartet under load", "quartet explained"}
EVERYTHING = EXPORTS | QUARTETS

# file -> the keys that an edit of it changes; the quartets are eager ones with grouped convolutions on ONNX Runtime
EDITS = {
    "report/table.py": set(),
    "report/figures/__init__.py": set(),
    "tracking/store.py": set(),
    "sweep/terminal.py": set(),
    "commands/ui.py": set(),
    "commands/doctor/command.py": set(),
    "commands/capacity/plan.py": set(),
    "sweep/resume.py": set(),
    "sweep/main.py": set(),
    "sweep/fleet.py": set(),
    "sweep/job.py": set(),
    "sweep/run.py": set(),
    "__init__.py": set(),  # the version
    "engines/export.py": EVERYTHING,
    "engines/base.py": {"artifact eager", "artifact onnxruntime", "artifact inductor", *QUARTETS},
    "techniques/hw/fp16.py": {"export fp16"},
    "system/cache.py": set(),
    "engines/onnxruntime/builder.py": {"artifact onnxruntime", *QUARTETS},
    "engines/onnxruntime/runtime.py": {"artifact onnxruntime", *QUARTETS},
    "engines/eager/runtime.py": {"artifact eager", "artifact inductor", *QUARTETS},
    "engines/inductor/dense_blocks.py": {"artifact inductor"},
    "engines/tensorrt/builder.py": set(),
    "techniques/arch/grouped.py": {"export grouped", *QUARTETS},
    "techniques/arch/low_rank.py": set(),
    "networks/inputs.py": QUARTETS,
    "measure/clocks.py": QUARTETS,
    "stats/interaction.py": QUARTETS,
    "results/accuracy.py": QUARTETS,
    "results/analyse.py": QUARTETS,
    "results/metrics.py": set(),  # what tables say of a metric
    "results/why.py": {"quartet explained"},
    "results/load_record.py": {"quartet under load"},
    "sweep/scenarios/under_load.py": {"quartet under load"},
    "sweep/scenarios/fixed.py": {"quartet", "quartet explained"},
    "sweep/scenarios/__init__.py": set(),
    "sweep/build.py": QUARTETS,
    "sweep/plan.py": QUARTETS,
    "results/record.py": QUARTETS,
    "serving/loadgen.py": {"quartet under load"},
    "serving/measure.py": {"quartet under load"},
    "engines/profiling.py": {"quartet explained"},
    "engines/eager/profiler.py": {"quartet explained"},
    "engines/onnxruntime/profiler.py": {"quartet explained"},
    "engines/inductor/profiler.py": set(),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of this package's sources, which tests may edit."""
    root = tmp_path_factory.mktemp("copy") / "harness"
    shutil.copytree(Path(harness.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="module")
def plans(planned):
    quiet = ("arch=grouped", "hw=fusion", "protocol.why=false")
    return {
        "quartet": planned(*quiet),
        "quartet under load": planned(*quiet, "scenario=offline"),
        "quartet explained": planned("arch=grouped", "hw=fusion", "protocol.why=true"),
    }


@pytest.fixture(scope="module")
def keys(copied, configured, plans):
    """Return a function: keys(path) -> all keys by name, of the copied sources as they are after an edit of `path`."""
    config = configured("arch=grouped")
    networks = {"export": network(config.model, arch_off()), "export grouped": network(config.model, config.arch)}

    def now(edited=""):
        sources._pinned.pop(str(copied / edited), None)
        build.engine_digest.cache_clear()
        job._room_digest.cache_clear()
        found = {}
        for name, net in networks.items():
            request = ExportRequest(one_tensor("input", (3, 64, 64)).specs, ("logits",))
            found[name] = export_key(net.module, identity_of(net.recipe, net.module).exact, request)
            if name == "export":
                half = replace(request, precision=FP16)
                found["export fp16"] = export_key(net.module, identity_of(net.recipe, net.module).exact, half)
        for engine in ("eager", "onnxruntime", "inductor"):
            found[f"artifact {engine}"] = artifact_key(BuildPlan(engine, GRAPH, BatchProfile(2, 2, 2)))
        return found | {name: quartet_key(plan, None) for name, plan in plans.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_package", copied)
        yield now
    build.engine_digest.cache_clear()
    job._room_digest.cache_clear()


@pytest.fixture(scope="module")
def before(keys):
    return keys()


@pytest.mark.parametrize("path", EDITS)
def test_an_edit_changes_the_keys_of_what_it_may_change_and_no_other(keys, before, copied, path):
    text = (copied / path).read_text()
    (copied / path).write_text(text + "\n# edited\n")
    after = keys(path)
    (copied / path).write_text(text)
    sources._pinned.pop(str(copied / path), None)
    assert {name for name in before if before[name] != after[name]} == EDITS[path]


def test_another_version_of_the_harness_changes_no_key(keys, before, monkeypatch):
    monkeypatch.setattr(harness, "__version__", "99.0")
    assert keys() == before


@pytest.mark.parametrize("changed", ["name", "driver"])
def test_another_gpu_or_driver_is_another_quartet(plans, changed):
    chip = {"name": "an L4", "driver": "580.1"}
    assert quartet_key(plans["quartet"], chip) != quartet_key(plans["quartet"], {**chip, changed: "another"})
