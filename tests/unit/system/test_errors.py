"""What an error says in one line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError
from urllib3.exceptions import MaxRetryError, NewConnectionError

from harness.system.errors import UserError, first_line, of_the_system, root_cause
from harness.tracking.outbox import reason_of
from harness.tracking.store import as_user_error


@pytest.mark.parametrize(
    ("said", "line"), [("one\ntwo", "one"), ("\n  late", "late"), ("", "no message"), (" \n", "no message"),
     ("(raised as a result of autoflush)\nfull\nmore", "full"), ("(alone)", "(alone)"), ("(a) b\nc", "(a) b"),
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


def test_a_wrapped_error_of_a_database_is_told_as_that():
    """As MLflow reports a full disk: its own exception, SQLAlchemy's remark, then the reason."""
    full = DBAPIError.instance("INSERT", {}, sqlite3.OperationalError("database or disk is full"), sqlite3.Error)
    full.add_detail("raised as a result of Query-invoked autoflush; consider a session.no_autoflush block")
    try:
        raise MlflowException(full) from full
    except MlflowException as error:
        assert reason_of(error) == "OperationalError: database or disk is full"
        says = "can't open the tracking store x: OperationalError: database or disk is full"
        with pytest.raises(UserError, match=says), as_user_error("x", "open"):
            raise error


def test_a_wrapped_error_of_a_connection_is_told_as_that():
    refused = NewConnectionError(None, "Failed to establish a new connection: [Errno 111] Connection refused")
    failed = requests.ConnectionError(MaxRetryError(None, f"/api/{'x' * 300}", refused))
    wrapped = MlflowException(f"API request failed with exception {failed}")
    wrapped.__cause__ = failed
    assert "Connection refused" in reason_of(wrapped)


def test_an_error_that_wraps_none_of_the_system_is_itself():
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    assert of_the_system(error) is error
    ours = UserError("what to do")
    ours.__cause__ = OSError("why")
    assert of_the_system(ours) is ours
    error.__cause__ = error  # a circle has an end
    assert of_the_system(error) is error
