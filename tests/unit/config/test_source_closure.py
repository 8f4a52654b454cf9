"""The sources of a module are its file and all files that it imports, found without importing any of them."""

from __future__ import annotations

import importlib
import sys

import pytest

from harness.config import sources
from harness.config.sources import is_source, modules_of, source_digest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the user's that modules are imported from; what was imported of it goes again."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("closure_")]:
        del sys.modules[name]


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    "importing",
    [
        "import closure_b",
        "import closure_c, closure_b as x",
        "from closure_b import *",
        "def f():\n    from closure_b import y",
        "try:\n    import closure_b\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('closure_b')",
        "import closure_p.deep.inner",
        "from closure_p.deep import inner",
        "from closure_p import deep",
    ],
)
def test_an_imported_file_counts_and_nothing_is_run(folder, importing):
    inner = {"closure_p/__init__.py": "", "closure_p/deep/__init__.py": "from . import inner"}
    write(folder, {"closure_a.py": importing, "closure_b.py": "1/0", "closure_p/deep/inner.py": "1/0", **inner})
    before = source_digest(["closure_a"])
    write(folder, {"closure_unused.py": "2"})
    assert source_digest(["closure_a"]) == before
    write(folder, {"closure_b.py": "2/0", "closure_p/deep/inner.py": "2/0"})
    assert source_digest(["closure_a"]) != before
    assert not {"closure_a", "closure_b", "closure_p"} & set(sys.modules)


def test_a_circle_of_imports_and_a_missing_or_broken_file_are_no_trouble(folder):
    write(folder, {"closure_a.py": "import closure_b, closure_nowhere", "closure_b.py": "import closure_a\n)"})
    assert source_digest(["closure_a"]) == source_digest(["closure_a"])


def test_where_the_files_lie_does_not_count(folder, monkeypatch):
    files = {"closure_a.py": "import closure_b", "closure_b.py": ""}
    write(folder, files)
    before = source_digest(["closure_a"])
    write(folder / "elsewhere", files)
    monkeypatch.syspath_prepend(str(folder / "elsewhere"))
    assert source_digest(["closure_a"]) == before


def test_what_was_imported_counts_until_it_is_imported_anew(folder):
    """An edit while a process runs changes nothing in it: its network is the old one."""
    write(folder, {"closure_a.py": "BY = 1"})
    module = importlib.import_module("closure_a")
    before = source_digest(["closure_a"])
    write(folder, {"closure_a.py": "BY = 22"})
    assert source_digest(["closure_a"]) == before
    importlib.reload(module)
    assert source_digest(["closure_a"]) != before


def test_of_an_installed_package_version_and_record_count_and_not_each_file(folder, monkeypatch):
    write(folder, {"closure_user/closure_a.py": "import closure_lib"})
    lib = {
        "closure_lib/__init__.py": "import closure_other",
        "closure_lib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: closure_lib\nVersion: 1.0\n",
        "closure_lib-1.0.dist-info/RECORD": "closure_lib/__init__.py,sha256=aaa,3\nclosure_lib/x.pyc,,\n",
    }
    write(folder / "target", lib)
    for part in ("closure_user", "target"):
        monkeypatch.syspath_prepend(str(folder / part))
    found = {}
    for what, change in {
        "as it was": {},
        "a file": {"closure_lib/__init__.py": "import closure_other, sys"},
        "the record": {"closure_lib-1.0.dist-info/RECORD": "closure_lib/__init__.py,sha256=bbb,3\n"},
        "the version": {"closure_lib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: closure_lib\nVersion: 2\n"},
    }.items():
        write(folder / "target", change)
        sources._facts.cache_clear()
        found[what] = source_digest(["closure_a"])
    sources._facts.cache_clear()
    assert found["as it was"] == found["a file"]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("name", "own"), [("torch.nn", False), ("json", False), ("harness.networks", False), ("closure_a", True)]
)
def test_whose_a_module_is(folder, name, own):
    write(folder, {"closure_a.py": ""})
    assert is_source(name) is own


def test_an_editable_install_is_a_source(folder):
    """As this repository is in its own environment: found through a `.pth` file, outside site-packages."""
    assert not sources._is_installed("closure_a", folder / "closure_a.py")


def test_a_room_that_was_moved_is_noticed():
    with pytest.raises(ValueError, match="no source: was it moved"):
        modules_of("harness.nowhere")
