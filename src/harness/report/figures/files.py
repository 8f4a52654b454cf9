"""Pictures and pages as files: each whole under its name, or not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.report.figures.canvas import Picture
from harness.system.errors import UserError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it.

    Raises:
        OSError: it can't be written there; nothing is left.

    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_figures(folder: Path, drawn: Iterable[Picture]) -> None:
    """Write each picture as NAME.png and NAME.svg into a folder, which is made where it is missing.

    Raises:
        UserError: it can't be written there.

    """
    try:
        folder.mkdir(exist_ok=True)
        for picture in drawn:
            write_whole(folder / f"{picture.name}.png", picture.png())
            write_whole(folder / f"{picture.name}.svg", picture.svg().encode())
    except OSError as error:
        raise UserError(
            f"can't write figures into {folder}: {error.strerror}; choose another place for them."
        ) from error
