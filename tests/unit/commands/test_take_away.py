"""Taking a cell away: which run is meant, what is refused before any work, and that nothing half-written stays."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from harness.commands.export import command
from harness.commands.export.command import main
from harness.commands.export.proof import prove, run_loader
from harness.engines.base import BuildPlan, Graph, TensorSpec
from harness.engines.loaders import loader_text
from harness.measure.verify import Expected
from harness.results.row import QuartetRecord
from harness.system.errors import CellError, UserError
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.techniques.arch.stages import ONE_STAGE, NetworkOutputs
from harness.tracking.load import find_quartet
from harness.tracking.runs import finish, log_quartet, start_quartet, start_sweep

CONFIG = "{model: {name: densenet_tiny}, arch: {grouped: {enabled: true}}, hw: {fusion: {enabled: true}}}\n"
STAGE = {"artifact_key": "k", "artifact_sha256": "s"}
CELLS = {"baseline": {"stages": [STAGE], "policy": None}, "combined": {"stages": [STAGE], "policy": None}}


@pytest.fixture
def stored(store, tmp_path):
    """Return a function that stores a quartet: stored("name", sweep, cells=...) -> its run id."""

    def write(name, sweep, cells=CELLS, status="FINISHED", config=CONFIG, **tags):
        run_id = start_quartet(store, sweep, name, {"engine": "onnxruntime"}, {"gpu": "none", **tags})
        files = {"interaction.json": json.dumps({"cells": cells}), "config.yaml": config}
        for file, text in files.items():
            (tmp_path / file).write_text(text)
        log_quartet(store, run_id, QuartetRecord(artifacts={file: tmp_path / file for file in files}))
        finish(store, run_id, status, None if status == "FINISHED" else "out of memory")
        return run_id

    return write


def test_a_quartet_is_found_by_id_beginning_name_or_its_sweep(store, stored):
    single, pair = start_sweep(store, "single", {}, {}), start_sweep(store, "pair", {}, {})
    first, second, third = stored("a x b b1", single), stored("c x d b1", pair), stored("c x d b2", pair)
    for text, found in ((first, first), (first[:6], first), ("a x b b1", first), ("single", first), (single, first),
                        ("c x d b2", third)):  # fmt: skip
        assert find_quartet(text, store.uri).run_id == found
    with pytest.raises(UserError, match=f"pair is several quartets: name one of .*{second[:8]}"):
        find_quartet("pair", store.uri)
    with pytest.raises(UserError, match=r"no quartet 'nope' in .*a x b b1"):
        find_quartet("nope", store.uri)


def test_of_several_runs_with_one_name_the_newest_is_meant(store, stored):
    sweep = start_sweep(store, "s", {}, {})
    stored("a x b b1", sweep)
    newest = stored("a x b b1", sweep)
    assert find_quartet("a x b b1", store.uri).run_id == newest


OLD = {"combined": {"stages": [{"graph_sha256": "g"}], "policy": None}}
REFUSED = {
    "another cell": ({}, ["r", "both", "out"], "invalid choice: 'both'"),
    "a cell that it lacks": ({}, ["r", "arch", "out"], "has no cell arch: it has baseline, combined"),
    "no such run": ({}, ["q", "combined", "out"], "no quartet 'q'"),
    "a folder that exists": ({}, ["r", "combined", "there"], "there exists"),
    "no place for it": ({}, ["r", "combined", "no/such/out"], "there is no folder"),
    "a failed run": ({"status": "FAILED"}, ["r", "combined", "out"], "is FAILED: out of memory"),
    "a row of before": ({"cells": OLD}, ["r", "combined", "out"], "measure it again"),
    "another chip": ({"gpu": "NVIDIA H200"}, ["r", "combined", "out"], "was measured on NVIDIA H200, and .* a CPU"),
    "a config of no version": ({"config": "model: {nome: x}\n"}, ["r", "combined", "out"], "can't be read by this"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_exported_is_refused_in_one_line_with_status_2(
    case, store, stored, tmp_path, capsys, monkeypatch
):
    values, arguments, says = REFUSED[case]
    stored("r", start_sweep(store, "s", {}, {}), **values)
    place = tmp_path / "work"
    (place / "there").mkdir(parents=True)
    monkeypatch.chdir(place)
    monkeypatch.setattr(command, "rebuilt", lambda *_: pytest.fail("work began"))
    assert main([*arguments, "--uri", store.uri]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("harness.export: ")
    assert re.search(says, said[0])
    assert [path.name for path in place.iterdir()] == ["there"]


def test_a_cell_that_is_not_the_measured_one_is_refused_and_leaves_nothing(
    store, stored, tmp_path, capsys, monkeypatch
):
    stored("r", start_sweep(store, "s", {}, {}))
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)

    def not_it(plan, recorded):
        raise UserError(command._what_differs(None, recorded))

    monkeypatch.setattr(command, "rebuilt", not_it)
    assert main(["r", "combined", "out", "--uri", store.uri]) == 2
    assert "is not what was measured (its key differs)" in capsys.readouterr().err
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("error", [CellError("the loader answers otherwise"), KeyboardInterrupt()])
def test_a_folder_that_is_not_proven_is_not_there(error, store, stored, tmp_path, monkeypatch, capsys):
    stored("r", start_sweep(store, "s", {}, {}))
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)

    def half(folder, *_):
        (folder / "loader.py").write_text("half")
        raise error

    monkeypatch.setattr(command, "rebuilt", lambda *_: None)
    monkeypatch.setattr(command, "_write", half)
    status = main(["r", "combined", "out", "--uri", store.uri])
    assert status == (1 if isinstance(error, CellError) else 130)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("decision", ["share", "threshold"])
@pytest.mark.parametrize("share", [0.0, 0.29, 0.5, 1.0])
def test_the_loader_routes_as_the_router_does(decision, share):
    rng = np.random.default_rng(3)
    scope = {"np": np}
    exec(ExitPolicy.loader, scope)
    for size in (1, 3, 50):
        logits = rng.normal(size=(size, 10)).astype(np.float32) * 3
        logits[0, 0] = np.nan
        policy = ExitPolicy(decision, share, threshold=0.5 + share / 2 if decision == "threshold" else None)
        fields = json.loads(
            json.dumps({"decision": policy.decision, "exit_share": share, "threshold": policy.threshold})
        )
        assert (scope["leaves"](fields, 0, logits) == policy.leaves(0, logits)).all()


@pytest.mark.parametrize("name", ["onnx", "tensorrt", "aot_inductor"])
def test_every_loader_is_python_that_defines_load(name):
    scope = compile(loader_text(name), name, "exec")
    assert "load" in scope.co_names


def loader_that_gives(folder, values):
    lines = f"import sys\nimport numpy as np\nnp.savez(sys.argv[2], logits=np.array({values}, np.float32))\n"
    (folder / "loader.py").write_text(lines)


def built_cell(monkeypatch, answers):
    """A cell of one stage whose worker answers `answers`."""
    spec = (TensorSpec("input", (-1, 2), "float32"),), (TensorSpec("logits", (-1, 2), "float32"),)
    plan = BuildPlan("eager", Graph(None, "", *spec, 1), None)
    artifact = SimpleNamespace(plan=plan)
    outputs = np.array(answers, np.float32)
    expected = Expected({"input": np.zeros((2, 2), np.float32)}, {"logits": outputs})
    found = NetworkOutputs({"logits": outputs}, outputs)
    monkeypatch.setattr("harness.commands.export.proof.answers_of", lambda *_: found)
    return SimpleNamespace(artifacts=(artifact,), expected=expected, router=ONE_STAGE)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], None),
        ([[1.0, 2.0], [3.0, 9.0]], "for 1 of 2 samples"),
        ([[1.0, 2.0], [3.0, float("nan")]], "for 1 of 2 samples"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
    ],
)
def test_a_loader_with_other_answers_is_not_the_cell(given, says, tmp_path, monkeypatch):
    cell = built_cell(monkeypatch, [[1.0, 2.0], [3.0, 4.0]])
    loader_that_gives(tmp_path, str(given).replace("nan", "np.nan"))
    if says is None:
        assert prove(tmp_path, cell, None) == 0
        assert {path.name for path in tmp_path.iterdir()} >= {"check_inputs.npz", "check_outputs.npz"}
    else:
        with pytest.raises(CellError, match=says):
            prove(tmp_path, cell, None)


def test_a_loader_that_needs_this_project_or_ends_otherwise_is_said(tmp_path):
    np.savez(tmp_path / "check_inputs.npz", input=np.zeros(1))
    for text, says in (("import harness", "harness"), ("raise SystemExit('no GPU')", "no GPU"), ("", "status 0")):
        (tmp_path / "loader.py").write_text(text)
        with pytest.raises(CellError, match=says):
            run_loader(tmp_path, ["logits"])
