"""Commands in Markdown: those in indented or fenced blocks and in code within a line, and blocks with their output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = ("python", "make", "pip")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command as it stands on a page, in words, without comments and what precedes it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def pages(repository: Path) -> list[Path]:
    """Return every page that a reader may follow."""
    studies = sorted(repository.glob("experiments/*/README.md"))
    return [
        repository / "README.md",
        repository / "CONTRIBUTING.md",
        repository / "SECURITY.md",
        *sorted(repository.glob("docs/**/*.md")),
        *studies,
    ]


def commands(repository: Path) -> list[Command]:
    """Return every command of every page, each once a page."""
    found: dict[Command, None] = {}
    for path in pages(repository):
        name = path.relative_to(repository).as_posix()
        for line in _lines(path.read_text()):
            for part in re.split(r"&&|;(?=\s)", re.sub(r"(^|\s)#\s.*", "", line)):
                words = _words(part)
                if words:
                    found[Command(name, words)] = None
    return list(found)


def _lines(text: str) -> Iterator[str]:
    """Return what looks like a command line, its continuations joined."""
    text = re.sub(r" *\\\n *", " ", text)
    for kind, block in FENCE.findall(text):
        if kind in ("sh", ""):  # those of a console are run instead, wrong ones too
            yield from block.splitlines()
    without = FENCE.sub("", text)
    yield from (line.strip() for line in without.splitlines() if line.startswith("    "))
    yield from re.findall(r"`((?:python -m harness|python experiments/|make )[^`]*)`", without)


def _words(text: str) -> tuple[str, ...]:
    """Return the words from `python`, `make` or `pip` on; nothing where a line is no such command."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:  # half a sentence in a block of text
        return ()
    start = next((place for place, word in enumerate(words) if word in KINDS), None)
    # what may stand before: a setting, or Slurm's srun with its own options
    if start is None or (start and not (words[0] == "srun" or all("=" in word for word in words[:start]))):
        return ()
    return tuple(word for word in words[start:] if word != "...")


@dataclass(frozen=True)
class Block:
    """A block of ```console: a command, and what it prints; ... stands for any lines, or for the rest of one."""

    page: str
    command: str
    printed: str

    def __str__(self) -> str:
        return f"{self.page}: {self.command}"


def consoles(repository: Path) -> list[list[Block]]:
    """Return every console block, as its commands in order."""
    out = []
    for path in pages(repository):
        for kind, text in FENCE.findall(path.read_text()):
            if kind == "console":
                parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
                name = path.relative_to(repository).as_posix()
                out.append([Block(name, *pair) for pair in zip(parts[::2], parts[1::2], strict=True)])
    return out


def agrees(expected: str, printed: str) -> bool:
    """Whether what was printed is what is expected, but for spaces at the ends of lines."""
    # "..." alone: any lines; at the end of a line: whatever is left of it
    pattern = "".join(
        "(?:.*\n)*?"
        if line == "..."
        else re.escape(line.removesuffix("...")) + (".*\n" if line[-3:] == "..." else " *\n")
        for line in expected.splitlines()
    )
    return re.fullmatch(pattern, printed if printed.endswith("\n") else printed + "\n") is not None
