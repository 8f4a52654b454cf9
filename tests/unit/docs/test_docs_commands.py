"""Commands on the pages are real: each composes or parses, and what is cheap is run and prints what stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from blocks import agrees, commands, consoles

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]
ALL = commands(REPOSITORY)


def of(*start):
    return [one for one in ALL if one.words[: len(start)] == start]


def test_the_pages_are_looked_through():
    assert len(of("python", "-m", "harness")) > 30
    assert {one.page for one in ALL} >= {"README.md", "docs/tutorial.md", "docs/fleet.md", "docs/extending.md"}


@pytest.fixture
def a_module_of_the_users(tmp_path, monkeypatch):
    """`model=my_module:my_net` is looked for where one stands, the pages' own examples in their folder."""
    monkeypatch.syspath_prepend(REPOSITORY / "examples")
    (tmp_path / "my_module.py").write_text("def my_net():\n    raise AssertionError('composed, not built')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def compose(words):
    from harness.sweep.command_line import compose_jobs

    overrides = [word for word in words if word not in ("-m", "--multirun")]
    assert compose_jobs(overrides)


LARGE = {"experiment=coursework", "experiment=densenet121_gpu"}  # many jobs, which take long to compose
MEASURING = [
    pytest.param(one, marks=[pytest.mark.minutes] if LARGE & set(one.words) else [], id=str(one))
    for one in of("python", "-m", "harness")
]


@pytest.mark.parametrize("command", MEASURING)
def test_a_measuring_command_composes(command, a_module_of_the_users):
    flags = {"--help", "--version"} & set(command.words)
    if not flags:
        compose(command.words[3:])


@pytest.mark.parametrize("command", of("python", "-m", "harness.train"), ids=str)
def test_a_training_command_composes(command):
    from harness.commands.train.command import _parser

    if "--help" not in command.words:
        compose(_parser().parse_args(command.words[3:]).overrides)


def parser_of(module):
    from importlib import import_module

    name = module.removeprefix("harness.")
    place = {"report": "report.command", "ui": "commands.ui"}.get(name, f"commands.{name}.command")
    return import_module(f"harness.{place}")._parser()


OTHERS = [
    one for name in ("report", "capacity", "ui", "doctor", "export") for one in of("python", "-m", f"harness.{name}")
]


@pytest.mark.parametrize("command", OTHERS, ids=str)
def test_another_command_parses(command):
    words = [word.strip("[]") for word in command.words[3:]]  # [SWEEP]: may be left out
    named = command.words[2] != "harness.capacity" or len(words) > 0  # a bare name of the command, in a sentence
    if named and "--help" not in words:
        parser_of(command.words[2]).parse_args(words)


def test_every_command_has_one_of_these_forms():
    known = {
        "harness",
        "harness.train",
        "harness.report",
        "harness.capacity",
        "harness.ui",
        "harness.doctor",
        "harness.export",
        "harness.NAME",
    }
    modules = {one.words[2] for one in ALL if one.words[:2] == ("python", "-m") and one.words[2].startswith("harness")}
    assert modules - known == set()


def test_every_make_target_exists():
    there = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {(one.page, one.words[1]) for one in of("make") if len(one.words) > 1 and "=" not in one.words[1]}
    assert {pair for pair in named if pair[1] not in there} == set()
    assert len(named) > 5


def test_every_script_exists():
    scripts = {(one.page, one.words[1]) for one in of("python") if len(one.words) > 1 and one.words[1].endswith(".py")}
    written = {"loader.py"}  # by an export, into its folder
    assert {pair for pair in scripts if pair[1] not in written and not (REPOSITORY / pair[1]).is_file()} == set()
    assert scripts


def test_every_extra_exists():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "\n".join(" ".join(one.words) for one in of("pip"))
    named = set(re.findall(r"interaction-harness\[(\w[\w-]*)\]", text))
    assert named and named <= set(extras)


@pytest.mark.parametrize("block", consoles(REPOSITORY), ids=lambda block: str(block[0]))
def test_a_console_block_prints_what_it_shows(block, plain_environment):
    """Only commands that read: `echo $?` asks for the status of the one before."""
    import os

    status = None
    environment = {**plain_environment, "COLUMNS": "140", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for one in block:
        if one.command == "echo $?":
            assert one.printed.strip() == str(status)
            continue
        words = one.command.split()
        assert words[:2] == ["python", "-m"] and words[2].startswith("harness"), "only our own commands are run"
        done = subprocess.run(
            ["bash", "-c", f"{one.command} 2>&1"], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        status = done.returncode
        assert agrees(one.printed, done.stdout), f"{one.command} printed\n{done.stdout}\nnot\n{one.printed}"


def test_what_differs_does_not_agree():
    assert agrees("a\n...\nb\n", "a\n1\n2\nb  \n")
    assert not agrees("a\n...\nb\n", "a\nc\n")
    assert not agrees("a\n", "a\nb\n")
