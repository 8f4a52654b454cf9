"""One idea a file, under a name that says it, in functions that fit on a screen; a class's name means one thing."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_LINES, MOST_FUNCTION_LINES = 500, 50
PRIVATE_WORDS = {"asked", "lone", "stands", "told"}  # say requested, unpaired, is significant, reported
PRONOUNS = {"apart", "away", "beside", "gone", "kept", "one", "own", "wanted"}  # as a whole name: name the thing
DRAWERS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}


def sources(root: Path, *folders: str) -> dict[str, str]:
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py")) if "cases" not in path.parts]
    return {str(path.relative_to(root)): path.read_text() for path in paths}


def definitions(root: Path, *kinds: type[ast.AST]) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for path, text in sources(root, "src").items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, kinds):
                yield path, node


def long_files(root: Path) -> list[str]:
    lengths = {path: len(text.splitlines()) for path, text in sources(root, "src", "tests", "experiments").items()}
    return [f"{path}: {lines}" for path, lines in lengths.items() if lines > MOST_LINES]


def long_functions(root: Path) -> list[str]:
    found = definitions(root, ast.FunctionDef, ast.AsyncFunctionDef)
    return [f"{path}: {node.name}" for path, node in found if node.end_lineno - node.lineno >= MOST_FUNCTION_LINES]


def drawers(root: Path) -> list[str]:
    names = {path: set(Path(path).with_suffix("").parts) for path in sources(root, "src", "tests", "experiments")}
    words = {path: {word for name in found for word in name.split("_")} for path, found in names.items()}
    return [path for path, found in words.items() if found & DRAWERS]


def shared_class_names(root: Path) -> dict[str, list[str]]:
    places = defaultdict(list)
    for path, node in definitions(root, ast.ClassDef):
        places[node.name].append(path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def defined_names(text: str) -> set[str]:
    """Return what a module gives a name to: variables, parameters, attributes, functions and classes."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
    return found


def unclear_names(root: Path) -> list[str]:
    def is_unclear(name: str) -> bool:
        return name.strip("_").lower() in PRONOUNS or bool(set(name.lower().split("_")) & PRIVATE_WORDS)

    names = {path: defined_names(text) for path, text in sources(root, "src").items()}
    return sorted(f"{path}: {name}" for path, found in names.items() for name in found if is_unclear(name))


def test_no_file_is_over_five_hundred_lines(repository):
    assert long_files(repository) == []


def test_no_function_is_over_fifty_lines(repository):
    assert long_functions(repository) == []


def test_no_file_or_folder_is_a_drawer(repository):
    assert drawers(repository) == []


def test_names_in_the_sources_say_what_they_hold(repository):
    """The glossary of plain English, for identifiers."""
    assert unclear_names(repository) == []


def test_no_two_classes_have_the_same_name(repository):
    assert shared_class_names(repository) == {}


@pytest.mark.parametrize(
    ("path", "lines", "found"),
    [
        ("src/harness/one.py", 500, ([], [])),
        ("src/harness/one.py", 501, (["src/harness/one.py: 501"], [])),
        ("tests/unit/graph_helpers.py", 1, ([], ["tests/unit/graph_helpers.py"])),
        ("experiments/common/one.py", 1, ([], ["experiments/common/one.py"])),
    ],
)
def test_the_search_finds_what_it_is_for(tmp_path, path, lines, found):
    write(tmp_path / path, "\n" * lines)
    assert (long_files(tmp_path), drawers(tmp_path)) == found


@pytest.mark.parametrize("head", ["def run():", "async def run():", "class One:\n    def run(self):"])
@pytest.mark.parametrize(("lines", "is_long"), [(50, False), (51, True)])
def test_the_search_finds_a_long_function_wherever_it_is(tmp_path, head, lines, is_long):
    write(tmp_path / "src/harness/one.py", head + "\n        pass" * (lines - 1))
    assert long_functions(tmp_path) == (["src/harness/one.py: run"] if is_long else [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = [one.name for one in runs]", ["one"]),
        ("def ask(asked, one_run, own_level): ...", ["asked"]),
        ("self._told = telling = masked = 1", ["_told"]),
        ("def told_again(): ...", ["told_again"]),
        ("class Run:\n    kept: int\n    kept_every: int", ["kept"]),
        ("request.other = len(one)", []),
    ],
)
def test_the_search_finds_unclear_names_where_they_are_defined(tmp_path, text, found):
    write(tmp_path / "src/harness/a.py", text)
    assert unclear_names(tmp_path) == [f"src/harness/a.py: {name}" for name in found]


def test_the_search_finds_two_classes_with_one_name_also_where_one_is_inside_a_function(tmp_path):
    write(tmp_path / "src/harness/one.py", "class Cell: ...\nclass Quartet: ...")
    write(tmp_path / "src/harness/other.py", "def made():\n    class Cell: ...")
    assert shared_class_names(tmp_path) == {"Cell": ["src/harness/one.py", "src/harness/other.py"]}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names_that_are_gone(text: str) -> list[str]:
    """Return what a script imports from the library and does not find there; modules that need more are left out."""
    gone = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "harness":
            try:
                module = importlib.import_module(str(node.module))
            except ModuleNotFoundError as error:
                gone += [str(node.module)] if (error.name or "").startswith("harness") else []
                continue
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                if not hasattr(module, name.name) and importlib.util.find_spec(submodule) is None:
                    gone.append(submodule)
    return gone


def test_scripts_and_the_tests_that_need_a_gpu_import_what_is_there(repository):
    """Nothing runs them here, so that a name that was moved would be found out on a GPU host."""
    found = {path: names_that_are_gone(text) for path, text in sources(repository, "experiments", "tests/gpu").items()}
    assert len(found) > 40
    assert {path: names for path, names in found.items() if names} == {}


def test_a_name_that_is_gone_is_found():
    text = "from harness.stats import estimate, no_such\nfrom harness.nowhere import x\nfrom harness import stats\n"
    assert names_that_are_gone(text) == ["harness.stats.no_such", "harness.nowhere"]
