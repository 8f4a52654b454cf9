"""A package from outside adds a model, techniques of both families and an engine by entry points alone."""

import os
import subprocess
import sys
import tomllib

import pandas
import pytest

import harness
import warm_starts

ON_ENGINE = ("engine=onnxruntime", "reference=engine")  # the built-in engine, whose workers start at once


@pytest.fixture(scope="module")
def installed(repository, plain_environment, tmp_path_factory):
    """Return an environment in which the example package is installed, as an installer would leave it."""
    package = repository / "tests" / "example_package"
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.mktemp("site")
    (site / "harness_example").symlink_to(package / "harness_example")
    notes = site / f"harness_example-{project['version']}.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (notes / "entry_points.txt").write_text("\n".join(lines) + "\n")
    path = os.pathsep.join([str(site), *filter(None, [plain_environment.get("PYTHONPATH")])])
    return {**plain_environment, "PYTHONPATH": path}


def run(environment, *arguments):
    return warm_starts.run([sys.executable, *arguments], env=environment, timeout=300)


def test_all_appear_in_help_with_their_options_and_without_torch(installed):
    code = """
import sys
from harness.sweep.main import main
status = main(["--help"])
assert "torch" not in sys.modules, "help imports torch"
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    groups = {line.split(":")[0]: line for line in done.stdout.splitlines() if ": " in line}
    assert "example_net" in groups["model"]
    assert "half_resolution" in groups["arch"]
    assert "\narch.half_resolution.factor=2 " in done.stdout
    assert "node_by_node" in groups["engine"] and "engine.node_repeats=1 " in done.stdout
    assert "default_fusion" in groups["hw"]
    assert "\nhw.default_fusion.cuda_graph=false" in done.stdout


def test_without_the_package_none_is_known(plain_environment):
    done = run(plain_environment, "-m", "harness", "model=example_net", "arch=pruned")
    assert done.returncode == 2
    assert "model 'example_net' is not known" in done.stderr


@pytest.fixture(scope="module")
def measured(installed, command, store_root):
    """Return a function that measures a quartet of the package's model and returns its row."""

    def sweep(name, *overrides):
        arguments, environment = command("model=example_net", "model.image_size=32", "model.num_classes=10",
                                         f"sweep_name={name}", *overrides)  # fmt: skip
        environment = {**environment, "PYTHONPATH": installed["PYTHONPATH"]}
        done = warm_starts.run(arguments, env=environment, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        (row,) = harness.load(name, str(store_root)).to_dict("records")
        return row

    return sweep


def test_a_quartet_of_the_packages_model_technique_and_engine_is_measured_and_explained(measured):
    row = measured(
        "others", "arch=half_resolution", "hw=fp16", "engine=node_by_node", "engine.node_repeats=2", "reference=engine",
        "protocol.why=true",
    )  # fmt: skip
    assert row["run_name"].startswith("half_resolution x fp16")
    assert row["engine"] == "node_by_node" and row["why"]


@pytest.mark.minutes
def test_a_network_in_three_stages_is_built_verified_measured_and_scored(measured):
    row = measured("three", "arch=two_exits", "hw=fusion", "data=digits", "batch_size=8")
    assert row["fidelity/cosine"] > 0.99
    assert row["fidelity/exit_flips"] == 0
    assert 0 < row["accuracy/exit_share"] < 1
    for cell in ("arch/", ""):
        heads = [f"{cell}accuracy/{name}_top1" for name in ("first_logits", "second_logits", "last_head")]
        assert all(pandas.isna(row.get(name)) for name in heads)  # its weights are random
        assert row[f"{cell}accuracy/agreement"] == 1
    assert row["arch.two_exits.share"] == "0.5"


@pytest.mark.minutes
def test_a_network_in_three_stages_serves(measured):
    row = measured(
        "three_under_load", "arch=two_exits", "hw=dynamic_batching", "scenario=offline", "batch_size=4", *ON_ENGINE,
        "scenario.min_duration_s=0.3", "scenario.max_duration_s=2", "scenario.min_queries=50", "scenario.repeats=1",
        "scenario.sample_count=16",
    )  # fmt: skip
    assert row["loadgen"] == "VALID"
    assert 0 < row["load/exit_rate"] < 1
    assert row["fidelity/served"] < 1e-3
    assert row["load/saturated_all_exit_per_s"] > 0


def test_a_quartet_of_the_packages_model_and_techniques_is_measured(installed, command):
    arguments, environment = command(
        "model=example_net", "model.image_size=32", "model.num_classes=10", "arch=half_resolution", "hw=default_fusion",
        "sweep_name=others", *ON_ENGINE,
    )  # fmt: skip
    environment = {**environment, "PYTHONPATH": installed["PYTHONPATH"]}
    done = warm_starts.run(arguments, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "half_resolution x default_fusion" in done.stdout


def test_its_options_ride_along_and_are_checked_before_any_work(installed):
    idle = run(installed, "-m", "harness", "arch=pruned", "arch.half_resolution.factor=4")
    assert idle.returncode == 2
    assert "half_resolution is on in no cell" in idle.stderr
    wrong = run(installed, "-m", "harness", "model=example_net", "arch=half_resolution",
                "arch.half_resolution.factor=1", "hw=fusion")  # fmt: skip
    assert wrong.returncode == 2
    assert "factor=1 is not a reduction" in wrong.stderr
    unable = run(installed, "-m", "harness", "model=example_net", "engine=eager", "hw=default_fusion")
    assert unable.returncode == 2
    assert "engine eager fuses nothing" in unable.stderr
