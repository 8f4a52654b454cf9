"""The parts of a loader that runs an engine's file without this project: texts, copied, never imported here."""

from __future__ import annotations

from pathlib import Path


def loader_text(name: str) -> str:
    """Return the Python source that defines `load(path, stage)`."""
    return (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8")
