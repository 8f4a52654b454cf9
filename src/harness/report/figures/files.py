"""Pictures as files, PNG and SVG, beside a page or as artifacts of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import UserError
from harness.report.figures.canvas import Picture


def write_figures(folder: Path, drawn: Iterable[Picture]) -> None:
    """Write each picture as NAME.png and NAME.svg into a folder, which is made where it is missing.

    Raises:
        UserError: it can't be written there.

    """
    try:
        folder.mkdir(exist_ok=True)
        for picture in drawn:
            for ending, content in ((".png", picture.png()), (".svg", picture.svg().encode())):
                path = folder / f"{picture.name}{ending}"
                part = path.with_name(f".{path.name}.part")
                part.write_bytes(content)
                part.replace(path)
    except OSError as error:
        raise UserError(
            f"can't write figures into {folder}: {error.strerror}; choose another place for them."
        ) from error
