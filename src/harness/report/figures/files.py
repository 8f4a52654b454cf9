"""Pictures and pages as files: each whole under its name, or not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.report.figures.canvas import Picture
from harness.system.errors import UserError
from harness.system.files import write_whole


def write_figures(folder: Path, drawn: Iterable[Picture]) -> None:
    """Write each picture as NAME.png and NAME.svg into a folder, which is made where it is missing.

    Raises:
        UserError: it can't be written there.

    """
    try:
        folder.mkdir(exist_ok=True)
        for picture in drawn:
            write_whole(folder / f"{picture.name}.png", picture.png())
            write_whole(folder / f"{picture.name}.svg", picture.svg())
    except OSError as error:
        raise UserError(
            f"can't write figures into {folder}: {error.strerror}; choose another place for them."
        ) from error
