"""What is handed out: a wheel with all that runs, an sdist that gives the same wheel, no study's results in either."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser

import pytest

import harness


def build(repository, folder, *what):
    """Build offline, with the locked backend; return the wheel and the sdist (None where it was not asked for)."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), *what, str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"), None)


@pytest.fixture(scope="module")
def handed_out(repository, tmp_path_factory):
    return build(repository, tmp_path_factory.mktemp("dist"))  # the sdist, and from that the wheel


@pytest.fixture(scope="module")
def wheel(handed_out):
    with zipfile.ZipFile(handed_out[0]) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def sdist(handed_out):
    with tarfile.open(handed_out[1]) as archive:
        return {member.name.partition("/")[2]: member.size for member in archive if member.isfile()}


def installed(repository):
    """Return what a wheel must install: the package, its page, its configs, the studies' presets."""
    source = repository / "src"
    package = {path.relative_to(source).as_posix() for path in (source / "harness").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    groups = [path for path in (repository / "conf").iterdir() if path.name != "experiment"]
    conf = [path for group in groups for path in ([group] if group.is_file() else group.rglob("*.yaml"))]
    conf += (repository / "conf" / "experiment").glob("*.yaml")
    return package | {f"harness/{path.relative_to(repository).as_posix()}" for path in conf}


@pytest.mark.minutes  # what is handed out is built
def test_the_wheel_holds_every_module_and_preset_and_nothing_else(repository, wheel):
    found = {name for name in wheel if ".dist-info/" not in name}
    assert "harness/conf/experiment/demo.yaml" in found
    assert found == installed(repository)


@pytest.mark.minutes  # what is handed out is built
def test_a_wheel_from_the_checkout_is_that_from_the_sdist(repository, wheel, tmp_path):
    straight, _ = build(repository, tmp_path, "--wheel")
    with zipfile.ZipFile(straight) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == wheel


@pytest.mark.minutes  # what is handed out is built
def test_the_sdist_holds_no_results_and_is_small(sdist):
    kinds = {name.rpartition(".")[2] for name in sdist}
    assert kinds & {"parquet", "csv", "png", "svg"} == set()
    assert [name for name in sdist if name.endswith(".html") and "templates" not in name] == []
    assert sum(sdist.values()) < 3_000_000


@pytest.mark.minutes  # what is handed out is built
def test_who_unpacks_the_sdist_finds_what_to_read_first(sdist):
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE"} <= set(sdist)


@pytest.mark.minutes  # what is handed out is built
def test_the_version_stands_in_one_place_and_everything_else_agrees(repository, wheel):
    (metadata,) = [text.decode() for name, text in wheel.items() if name.endswith(".dist-info/METADATA")]
    cited = re.search(r"^version: (.+)$", (repository / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert Parser().parsestr(metadata)["Version"] == harness.__version__
    assert (cited[1], newest[1]) == (harness.__version__, harness.__version__)


@pytest.mark.minutes  # what is handed out is built
def test_a_package_index_would_take_it(handed_out):
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, handed_out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_dependency_has_its_reason(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[<>=!;\[ ]", one)[0] for one in asked} - {project["name"]}
    reasons = (repository / "CONTRIBUTING.md").read_text().partition("**Dependencies**")[2].partition("\n\n")[0]
    assert {name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reasons)} == set()
