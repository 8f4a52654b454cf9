"""A technique is known in techniques/ alone: no other room names the early exit."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

NAMES = re.compile(r"early[\s_-]?exit|exit_(?!$)|ExitPolicy|exit policy", re.IGNORECASE)
ALLOWED = {  # file -> why it may
    "commands/train/command.py": "an example in the help text",
    "commands/train/loop.py": "the option train.exit_weight",
    "config/groups.py": "the option train.exit_weight",
    "results/metrics.py": "declares the metrics that routers log",
    "sweep/main.py": "an example in the help text",
}


def namings(source: Path) -> dict[str, list[str]]:
    """Return the tokens that name the early exit, by file outside techniques/."""
    found: dict[str, list[str]] = {}
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        if name.startswith("techniques/"):
            continue
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            text = token.string.replace("__exit__", "")
            if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT) and NAMES.search(text):
                found.setdefault(name, []).append(f"line {token.start[0]}: {token.line.strip()}")
    return found


def test_no_other_room_names_the_early_exit(repository):
    assert {name: lines for name, lines in namings(repository / "src/harness").items() if name not in ALLOWED} == {}


def test_what_may_name_it_does(repository):
    assert set(ALLOWED) <= set(namings(repository / "src/harness"))


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("policy = ExitPolicy(1)", True),
        ('heads["exit_logits"]', True),
        ("x = 1  # of an early exit", True),
        ('"""The early\nexit."""', True),
        ("def __exit__(self): pass", False),
        ("sys.exit(1)", False),
        ("exited = True", False),
    ],
)
def test_the_search_finds_names_texts_and_comments(tmp_path, line, is_found):
    (tmp_path / "one.py").write_text(line + "\n")
    (tmp_path / "techniques").mkdir()
    (tmp_path / "techniques/two.py").write_text(line + "\n")
    assert (list(namings(tmp_path)) == ["one.py"]) is is_found
