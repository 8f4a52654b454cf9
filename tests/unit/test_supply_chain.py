"""What comes from elsewhere is pinned and checked, and nothing in the code runs what it reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    found = PIN.findall(path.read_text())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_every_package_of_the_lock_is_pinned_and_has_hashes(repository):
    text = (repository / "requirements.lock").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
    assert len(entries) > 100
    unpinned = [entry.splitlines()[0] for entry in entries if not PIN.match(entry) or "--hash=sha256:" not in entry]
    assert unpinned == []
    assert "://" not in text


def test_lock_and_constraints_are_the_same_set(repository):
    locked, constrained = pins(repository / "requirements.lock"), pins(repository / "constraints.txt")
    other = {name: (version, constrained.get(name)) for name, version in locked.items() if name != "pip"}
    assert {name: pair for name, pair in other.items() if pair[0] != pair[1]} == {}


def test_every_dependency_of_the_project_is_in_the_lock(repository):
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = {f"{project['name']}[{extra}]": asked for extra, asked in extras.items()}  # extras name each other
    asked = [*project["dependencies"], *extras["dev"]]
    asked = [name for one in asked for name in own.get(one, [one])]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=!\[; ]", one)[0]).lower() for one in asked}
    assert names - set(pins(repository / "requirements.lock")) == set()


def calls(repository: Path) -> Iterator[tuple[str, ast.Call]]:
    for folder in ("src", "experiments"):
        for path in sorted((repository / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(repository)), node


def keyword(call: ast.Call, name: str) -> object:
    found = [one.value for one in call.keywords if one.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


# what runs code that it reads: (call, the keyword and value that make it safe)
RUNS_WHAT_IT_READS = {
    "pickle.load": None, "pickle.loads": None, "pickle.Unpickler": None, "dill.load": None, "joblib.load": None,
    "cloudpickle.load": None, "cloudpickle.loads": None, "marshal.loads": None, "shelve.open": None,
    "pandas.read_pickle": None, "eval": None, "exec": None, "os.system": None, "yaml.load": None,
    "yaml.unsafe_load": None,
    "torch.load": ("weights_only", True), "torch.hub.load": None, "torch.package.PackageImporter": None,
}  # fmt: skip


def test_nothing_that_is_read_is_run(repository):
    wrong = []
    for path, call in calls(repository):
        name = ast.unparse(call.func)
        if name in RUNS_WHAT_IT_READS:
            safe = RUNS_WHAT_IT_READS[name]
            if safe is None or keyword(call, safe[0]) is not safe[1]:
                wrong.append(f"{path}:{call.lineno} {name}")
        if keyword(call, "allow_pickle") is True or keyword(call, "shell") is True:
            wrong.append(f"{path}:{call.lineno} {name} with allow_pickle or shell")
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "found"), [("torch.load(p)", True), ("torch.load(p, weights_only=True)", False), ("eval(x)", True)]
)
def test_the_search_finds_what_it_is_for(tmp_path, source, found):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "one.py").write_text(source)
    if found:
        with pytest.raises(AssertionError):
            test_nothing_that_is_read_is_run(tmp_path)
    else:
        test_nothing_that_is_read_is_run(tmp_path)


# a date for people or for other machines, never an interval: who reads the wall clock
WALL_CLOCK = {
    "src/harness/measure/telemetry.py", "src/harness/tracking/runs.py", "src/harness/tracking/view.py",
    "src/harness/commands/train/job.py", "src/harness/tracking/liveness.py",
}  # fmt: skip


def test_no_interval_is_measured_by_the_wall_clock_which_may_step(repository):
    readers = ("time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow")
    found = {path for path, call in calls(repository) if ast.unparse(call.func) in readers and path.startswith("src")}
    assert found <= WALL_CLOCK
