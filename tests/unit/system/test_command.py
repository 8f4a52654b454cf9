"""The front of all commands: complaints of one line on the standard error, and their exit status."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from harness.system.command import CommandParser, number, run_command, whole_number
from harness.system.counts import counted
from harness.system.errors import UserError


def ended_by(error):
    def command():
        raise error

    return command


def test_the_status_of_a_command_is_what_it_returns(capsys):
    assert [run_command("harness.x", lambda status=status: status) for status in (0, 1)] == [0, 1]
    assert capsys.readouterr() == ("", "")


def test_a_request_that_can_not_be_met_is_status_2_and_its_reason_without_secrets(capsys):
    error = UserError("no store at http://me:secret@host/")
    assert run_command("harness.x", ended_by(error)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("harness.x: no store at ") and "secret" not in printed.err


@pytest.mark.parametrize(("said", "printed"), [("interrupted.", "harness.x: interrupted.\n"), ("", "")])
def test_an_interrupted_command_is_status_130(capsys, said, printed):
    assert run_command("harness.x", ended_by(KeyboardInterrupt()), said) == 130
    assert capsys.readouterr().err == printed


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command("harness.x", lambda: 1 // 0)


def test_what_a_parser_can_not_read_is_a_user_error_that_says_where_the_help_is():
    parser = CommandParser("harness.x")
    with pytest.raises(UserError, match=r"^unrecognized arguments: --frob; see python -m harness\.x --help\.$"):
        parser.parse_args(["--frob"])
    with pytest.raises(UserError, match=r"; write key=value$"):
        CommandParser("harness.x", "write key=value").parse_args(["--frob"])


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "said"),
    [
        (number(0), "0.5", ["0", "-1", "x", "nan", "inf", ""], "is not a number above 0"),
        (number(0, 1, closed=True), "0", ["-0.1", "1", "x"], "is not a number from 0 to below 1"),
        (whole_number(1, 65535), "80", ["0", "65536", "1.5", "five"], "is not a whole number from 1 to 65535"),
    ],
)
def test_the_type_of_an_option_says_what_it_takes_and_not_what_it_is_called(kind, right, wrong, said):
    parser = CommandParser("harness.x")
    parser.add_argument("--limit", type=kind)
    assert parser.parse_args(["--limit", right]).limit == float(right)
    for text in wrong:
        with pytest.raises(UserError, match=f"^argument --limit: '{text}' {said}; see"):
            parser.parse_args([f"--limit={text}"])


@pytest.mark.parametrize(
    "module",
    ["report.command", "commands.ui", *(f"commands.{one}.command" for one in ("doctor", "train", "capacity"))],
)
def test_no_command_has_an_option_whose_type_argparse_would_have_to_name(module):
    parser = importlib.import_module(f"harness.{module}")._parser()
    for action in parser._actions:
        if action.type not in (None, Path):
            with pytest.raises(argparse.ArgumentTypeError):
                action.type("x")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("sweep.main", ["--frob"]),
        ("report.command", ["--max-p99-ms", "x"]),
        ("report.command", ["--max-p99-ms", "-1"]),
        ("commands.ui", ["--port", "99999"]),
        ("report.command", ["--frob"]),
        ("commands.ui", ["--port", "five"]),
        ("commands.doctor.command", ["--frob"]),
        ("commands.train.command", ["--frob"]),
        ("commands.capacity.command", ["study", "--demand", "-1"]),
    ],
)
def test_every_command_complains_in_one_line_with_status_2(module, arguments, capsys):
    assert importlib.import_module(f"harness.{module}").main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("harness") and len(printed.err.splitlines()) == 1
    assert "--help" in printed.err


def test_one_of_a_kind_is_not_a_plural():
    assert [counted(n, "restart") for n in (0, 1, 2)] == ["0 restarts", "1 restart", "2 restarts"]
    assert [counted(n, "class", "classes") for n in (1.0, 1000)] == ["1 class", "1000 classes"]


def test_a_reader_that_has_gone_is_no_error():
    code = """
import sys
from harness.system.command import run_command

def command():
    print("x" * 1_000_000)
    return 0

sys.exit(run_command("harness.x", command))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
