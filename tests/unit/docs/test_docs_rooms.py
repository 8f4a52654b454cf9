"""The diagram of the architecture shows the real imports, and they have no cycle."""

from __future__ import annotations

import graphlib
import re

import diagram
import pytest
import rooms


@pytest.fixture(scope="module")
def source(repository):
    return repository / "src" / "harness"


@pytest.fixture(scope="module")
def edges(source):
    return set(rooms.imports(source))


def drawn(text):
    return set(re.findall(r'data-from="(\w+)" data-to="(\w+)"', text))


def test_the_committed_diagram_is_that_of_the_sources(repository, edges):
    fresh = diagram.draw(rooms.reduced(edges), rooms.rooms(repository))
    assert (repository / "docs/images/rooms.svg").read_text() == fresh, "renew it: python docs/make/diagram.py"


def test_the_rooms_are_the_folders_and_each_says_what_it_is(repository, source):
    folders = {path.parent.name for path in source.glob("*/__init__.py")}
    assert {room.name for room in rooms.rooms(repository)} == folders
    assert [room.name for room in rooms.rooms(repository) if not room.says] == []


def test_rooms_have_no_cycle(edges):
    targets = {}
    for start, end in edges:
        targets.setdefault(start, set()).add(end)
    tuple(graphlib.TopologicalSorter(targets).static_order())  # raises CycleError


def test_every_import_is_an_arrow_or_follows_from_arrows(repository, source):
    """Looked for by another way than the diagram's own: by the text of the import statements."""
    targets = {}
    for start, end in drawn(diagram.draw(rooms.reduced(set(rooms.imports(source))), rooms.rooms(repository))):
        targets.setdefault(start, set()).add(end)
    known = rooms.modules(source)
    missing = []
    for module, path in known.items():
        text = re.sub(r"if TYPE_CHECKING:\n(?:    .*\n|\n)+", "", path.read_text())
        for found in re.findall(r"^ *from harness\.([\w.]+) import", text, re.MULTILINE):
            here, there = module.partition(".")[0], found.partition(".")[0]
            boxes = (source / here).is_dir() and (source / there).is_dir()
            if boxes and here != there and there not in rooms.reachable(here, targets):
                missing.append((module, found))
    assert missing == []


def test_every_arrow_has_an_import_behind_it(repository, source):
    behind = rooms.imports(source)
    for pair in drawn((repository / "docs/images/rooms.svg").read_text()):
        module, imported = behind[pair][0]
        path = rooms.modules(source)[module]
        assert imported.rpartition(".")[2] in path.read_text()


def test_an_arrow_that_others_say_already_is_left_out():
    assert rooms.reduced({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}
