"""What an error says in one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.system.errors import first_line, root_cause


@pytest.mark.parametrize(
    ("said", "line"), [("one\ntwo", "one"), ("\n  late", "late"), ("", "no message"), (" \n", "no message"),
     ("found:\n\n Eq(s, 1)\nmore", "found: Eq(s, 1)"), ("ends so:", "ends so:"),
     ("\x1b[96mstep\x1b[0m 1\x07\rx", "step 1x"), ("\x1b]8;;http://a\x1b\\a link\x1b]8;;\x07", "a link")]
)  # fmt: skip
def test_an_error_is_told_in_its_first_line_and_a_silent_one_as_silent(said, line):
    assert first_line(ValueError(said)) == line


@pytest.mark.parametrize("asked", [None, "FASTEST_FIRST"])
def test_cuda_counts_gpus_as_nvml_does_unless_it_is_told_otherwise(asked):
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_DEVICE_ORDER"}
    environment |= {} if asked is None else {"CUDA_DEVICE_ORDER": asked}
    code = "import harness, os; print(os.environ['CUDA_DEVICE_ORDER'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (asked or "PCI_BUS_ID")


def test_the_cause_of_an_error_is_the_one_it_was_raised_from_first():
    advice, wrapped, cause = RuntimeError("This is step 1/3"), ValueError("wrapped"), KeyError("cause")
    advice.__cause__, wrapped.__cause__ = wrapped, cause
    assert root_cause(advice) is cause
    cause.__cause__ = advice  # a circle has an end
    assert root_cause(advice) is cause
