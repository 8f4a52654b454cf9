"""The front of all commands: complaints of one line on the standard error, and their exit status."""

from __future__ import annotations

import importlib

import pytest

from harness.system.command import CommandParser, run_command
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
    ("module", "arguments"),
    [
        ("sweep.main", ["--frob"]),
        ("report.__main__", ["--frob"]),
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
