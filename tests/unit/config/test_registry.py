"""One registry: ours and other packages' are found alike, a name belongs to one of them, no installation is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import omegaconf
import pytest

from harness.config import packages
from harness.system.errors import UserError


class Entry(EntryPoint):
    """An entry point of a package that is called `other`."""

    dist = SimpleNamespace(name="other")


@pytest.fixture
def installed(monkeypatch):
    """Return a function: installed(("fp16", "other.fp16")) -> the names of hardware techniques with these installed."""

    def names(*entries):
        found = [Entry(name, value, packages.HW) for name, value in entries]
        monkeypatch.setattr(packages, "entry_points", lambda group: found if group == packages.HW else [])
        return packages.names(packages.HW)

    packages.registered.cache_clear()
    yield names
    packages.registered.cache_clear()


def test_all_of_ours_can_be_loaded_and_call_themselves_as_they_are_registered():
    assert all(isinstance(packages.load(packages.SCENARIOS, name), type) for name in packages.ours(packages.SCENARIOS))
    for group in (packages.ARCH, packages.HW, packages.ENGINES):
        assert {packages.load(group, name).name: name for name in packages.ours(group)} == {
            name: name for name in packages.ours(group)
        }


def test_those_of_other_packages_come_after_ours(installed):
    assert installed(("fp8", "other.fp8"))[-2:] == ("fusion", "fp8")
    assert packages.added(packages.HW) == ("fp8",)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("fp16", "other.fp16")], "package other registers 'fp16' as harness.techniques.hw, which is built in"),
        ([("fp8", "a.fp8"), ("fp8", "b.fp8")], "two packages register 'fp8' as harness.techniques.hw: a.fp8"),
        ([("f-p8", "other.fp8")], "registers 'f-p8' as harness.techniques.hw; a name is letters, digits and _"),
    ],
)
def test_a_name_that_is_registered_twice_or_is_not_a_name_is_refused_in_one_line(installed, entries, reason):
    with pytest.raises(UserError, match=r"^[^\n]*$") as refused:
        installed(*entries)
    assert reason in str(refused.value)


def test_what_can_not_be_imported_says_whose_it_is(installed):
    installed(("fp8", "no_such_package.fp8"))
    with pytest.raises(UserError, match=r"fp8 of package other .*can't be imported: ModuleNotFoundError"):
        packages.load(packages.HW, "fp8")


def test_a_source_tree_that_was_never_installed_has_all_of_ours(repository, tmp_path):
    """Without site-packages' metadata of harness: `-S` and a path of its own for what harness imports."""
    code = (
        "from importlib.metadata import entry_points\n"
        "from harness.config import packages\n"
        "assert not [entry for entry in entry_points() if entry.value.startswith('harness.')]\n"
        "print(*(name for group in (packages.ARCH, *packages.OURS) for name in packages.names(group)))\n"
    )
    bare = tmp_path / "libraries"
    bare.mkdir()
    site = Path(omegaconf.__file__).parents[1]
    for folder in ("omegaconf", "yaml", "antlr4"):
        (bare / folder).symlink_to(site / folder)
    environment = {"PYTHONPATH": f"{repository / 'src'}{os.pathsep}{bare}", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name for group in (packages.ARCH, *packages.OURS) for name in packages.ours(group)]
