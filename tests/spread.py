"""Which tests run in one process where several run side by side (pytest-xdist): those of a file, more, or fewer.

A file's fixtures are made once that way. So is the sweep that tests of several files read, and a GPU has one user at a
time. The marks of `--dist loadgroup` would say the same, but xdist 3.8 loses them under pytest 9.
"""

from __future__ import annotations

import re

import pytest

# what shares something that takes too long to be made in each process: by parts of the names of such tests
TOGETHER = {
    "study": r"test_report_page|test_sweep_store|test_every_(column_of_a_sw|declared_m)|test_a_sweep_prints",
    "gpu": r"^(.*/)?gpu/",
}
# what takes minutes in one file and shares something with those of the same parameter alone
APART = re.compile(r"test_model_paths.*at_full_size.*\[(\w+)-")


def group_of(nodeid: str) -> str:
    """Return the name of all that has to run in the process of this test."""
    for group, names in TOGETHER.items():
        if re.search(names, nodeid):
            return group
    if found := APART.search(nodeid):
        return found[1]
    return nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log) if config.getvalue("dist") == "loadscope" else None
