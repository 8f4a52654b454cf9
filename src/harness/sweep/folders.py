"""Whether a folder can be written in, asked before any work."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from harness.system.errors import UserError


def check_writable(folder: Path, option: str) -> None:
    """Raise UserError unless files can be written in `folder`; nothing is left behind, the folder included."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{option}={folder}: can't write there ({error.strerror}); choose another folder.") from None
    finally:
        for parent in made:
            with suppress(OSError):  # never made, or somebody else's files are in it by now
                parent.rmdir()
