"""The doctor: what can be built and run here, every no with its reason, and a self-test that can fail."""

from __future__ import annotations

import json

import pytest

from harness.commands.doctor import command as doctor
from harness.commands.doctor.command import diagnose
from harness.commands.doctor.self_test import SelfTest, self_test


def test_every_engine_is_diagnosed_and_every_no_has_a_reason():
    found = {one.engine: one for one in diagnose("cpu")}
    assert set(found) == {"eager", "onnxruntime", "inductor", "tensorrt", "tensorrt_rtx"}
    assert found["eager"].cannot_run is None
    assert found["onnxruntime"].cannot_run is None
    assert "GPU" in found["tensorrt_rtx"].cannot_run
    for one in found.values():
        for reason in (one.cannot_build, one.cannot_run):
            assert reason is None or (reason and "\n" not in reason)


@pytest.mark.slow
def test_an_engine_that_runs_passes_and_says_how(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = self_test("onnxruntime", "cpu")
    assert found.passed, found.error
    assert found.boundaries == ("wall",)
    assert found.build_s > 0
    assert 0 < found.max_relative_error < 2e-3
    assert found.images_per_s > 0


def test_an_engine_that_fails_says_why_and_the_status_is_1(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "self_test", lambda *_, **__: SelfTest("eager", "identity", False, 1.0, "broken [x]"))
    assert doctor.main(["--engine", "eager"]) == 1
    assert "FAILED after 1 s: broken [x]" in capsys.readouterr().out


def test_a_self_test_never_raises():
    found = self_test("onnxruntime", "cuda")  # there is no such provider here, or no GPU
    if found.passed:
        pytest.skip("onnxruntime runs on CUDA here")
    assert found.error
    assert "\n" not in found.error


def test_json_is_all_there_is_on_the_standard_output(capsys):
    assert doctor.main(["--no-test", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["device"] in ("cpu", "cuda")
    assert {one["engine"] for one in report["engines"]} >= {"eager", "tensorrt"}
    assert report["self_tests"] == []


@pytest.mark.parametrize("name", ["tensorrtx", "tensorrt"])
def test_an_engine_that_can_not_be_tested_is_one_line_and_status_2(name, capsys):
    if name == "tensorrt" and diagnose("cpu")[3].cannot_build is None:
        pytest.skip("tensorrt is installed here")
    assert doctor.main(["--engine", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"harness.doctor: {name}: ")
    assert len(error.splitlines()) == 1


def test_what_takes_minutes_is_tested_on_request_alone(monkeypatch, capsys):
    tested = []

    def passes(engine, device, build_only, thorough):
        tested.append((engine, thorough))
        return SelfTest(engine, "identity", True, 1.0)

    monkeypatch.setattr(doctor, "self_test", passes)
    assert doctor.main([]) == 0
    assert ("eager", False) in tested and "inductor" not in [engine for engine, _ in tested]
    assert "inductor: not tested, its builds take minutes: python -m harness.doctor --engine inductor" in (
        capsys.readouterr().out.replace("\n", " ")
    )
    tested.clear()
    assert doctor.main(["--engine", "inductor"]) == 0
    assert tested == [("inductor", True)]
