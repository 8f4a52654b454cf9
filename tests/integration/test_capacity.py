"""`python -m harness.capacity` as a person uses it: what is printed, what is written, which status."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from called import called
from harness.commands.capacity import fleet_check as check
from harness.commands.capacity.command import main


def batch_ms(size):
    return 4.0 + 0.5 * size


def cell(at_slo_per_s, size, static=False):
    noise = random.Random(0)
    service = {str(n): [batch_ms(n) * noise.uniform(0.98, 1.02) for _ in range(50)] for n in range(1, size + 1)}
    points = [(0.5, 20.0, True), (0.9, 40.0, True), (1.1, 400.0, False)]
    return {
        "at_slo_per_s": at_slo_per_s, "low_per_s": at_slo_per_s * 0.97, "high_per_s": at_slo_per_s * 1.03,
        "points": [
            {"rate_per_s": share * at_slo_per_s, "completed_per_s": share * at_slo_per_s, "latency_ms": latency,
             "valid": valid, "reason": ""} for share, latency, valid in points
        ],
        "service_ms": service,
        "policy": {"max_batch_size": size, "max_queue_delay_us": 0, "static": static},
    }  # fmt: skip


@pytest.fixture
def asked(tmp_path, plain_environment, monkeypatch):
    """Return a function: asked("--demand", "5") -> the finished command on a study of two cells.

    Called in this process, where fewer requests are simulated, or `apart`: as a person starts it.
    """
    monkeypatch.setattr(check, "REQUESTS", check.REQUESTS // 5)
    study = tmp_path / "serving.json"
    cells = {"baseline": cell(600, 4, static=True), "hw": cell(1240, 16)}
    study.write_text(json.dumps({"slo_ms": 50.0, "percentile": 99.0, "cells": cells}))

    def run(*arguments, study=study, apart=False):
        environment = {**plain_environment, "COLUMNS": "120"}
        if not apart:
            return called(main, [str(study), *arguments], tmp_path, environment)
        command = [sys.executable, "-m", "harness.capacity", str(study), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def test_a_plan_for_millions_is_printed_and_written_with_its_check(asked, tmp_path):
    done = asked("--demand", "2e6", "--price-per-hour", "2.5", "--json", "plan.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2,000,000 images/s within p99 <= 50 ms" in done.stdout
    written = json.loads((tmp_path / "plan.json").read_text())
    assert list(written["plans"]) == list(written["checks"]) == ["baseline", "hw"]
    plan, check = written["plans"]["hw"], written["checks"]["hw"]
    assert plan["gpus"] == -(-2_000_000 // (1240 * 0.8))
    assert plan["cost"]["per_hour"] == plan["gpus"] * 2.5
    assert f"{plan['gpus']:,}" in done.stdout
    assert f"{check['difference']:+.1%} images/s" in done.stdout
    assert check["latency_ms"] < 50
    assert check["busy_share"] < 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "serving.json"]


def test_a_network_that_takes_no_images_is_planned_in_samples(asked, tmp_path):
    tokens = tmp_path / "images.json"
    cells = {"baseline": cell(1250, 8)}
    tokens.write_text(json.dumps({"slo_ms": 50.0, "percentile": 99.0, "sample": "sample", "cells": cells}))
    (tmp_path / "images.csv").write_text("arrival_s\n" + "\n".join(str(second / 50) for second in range(5000)))
    done = asked("--trace", "images.csv", "--price-per-hour", "2", "--json", "plan.json", study=tokens)
    assert done.returncode == 0, done.stderr
    assert "trace images.csv: 5,000 samples in" in done.stdout
    assert "samples/s a GPU" in done.stdout
    assert "cost a million samples" in done.stdout
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert (plan["sample"], plan["demand"][:29]) == ("sample", "trace images.csv: 5,000 sampl")
    assert "images" not in done.stdout.replace("images.json", "").replace("images.csv", "")


def test_a_day_and_a_trace_are_planned_hour_by_hour(asked, tmp_path):
    (tmp_path / "day.csv").write_text("hour,rate_per_s\n0,100\n8,90000\n20,3000\n")
    day = asked("--profile", "day.csv", "--price-per-hour", "2", "--no-simulate", "--slo-ms", "30")
    assert day.returncode == 0, day.stderr
    assert "GPUs autoscaled by the hour" in day.stdout
    assert "at 30 ms interpolated between measured rates" in day.stdout
    assert "simulat" not in day.stdout
    noise = random.Random(1)
    (tmp_path / "trace.csv").write_text("arrival_s\n" + "\n".join(str(noise.uniform(0, 90)) for _ in range(90_000)))
    trace = asked("--trace", "trace.csv", "--split", "round_robin", "--candidate", "hw")
    assert trace.returncode == 0, trace.stderr
    assert "trace trace.csv: 90,000 images" in trace.stdout
    assert "in turns" in trace.stdout


def test_a_disagreement_is_a_warning_and_no_error(asked, tmp_path):
    slower = tmp_path / "slower.json"
    slower.write_text(json.dumps({"slo_ms": 50.0, "percentile": 99.0, "cells": {"baseline": cell(1250, 8)}}))
    done = asked("--demand", "1000", study=slower)
    assert done.returncode == 0
    assert "WARNING: baseline: measurement and simulation disagree by -" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "one of the arguments --demand --profile --trace is required"),
        (("--demand", "0"), "'0' is not a number above 0"),
        (("--demand", "5", "--profile", "day.csv"), "not allowed with argument"),
        (("--demand", "5", "--headroom", "1"), "'1' is not a number from 0 to below 1"),
        (("--demand", "5", "--slo-ms", "500"), "Its valid points cover 20 to 40 ms"),
        (("--demand", "5", "--candidate", "arch"), "no cell 'arch' was measured under load; there are: baseline, hw"),
        (("--profile", "none.csv"), "can't read none.csv"),
        (("--demand", "5", "--json", "none/plan.json"), "--json none/plan.json"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(asked, tmp_path, arguments, told):
    done = asked(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("harness.capacity: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["serving.json"]


def test_an_answer_and_a_mistake_are_told_by_the_status_of_the_process(asked):
    answer = asked("--demand", "2e6", "--no-simulate", apart=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "2,000,000 images/s within p99 <= 50 ms" in answer.stdout
    assert asked("--demand", "0", apart=True).returncode == 2


def test_a_broken_study_and_a_missing_store_are_one_line_and_status_2(asked, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"slo_ms": 50}')
    for study, told in ((broken, "cells is missing (found: slo_ms)"), ("demo", "nothing measured yet")):
        done = asked("--demand", "5", study=study)
        assert done.returncode == 2
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
