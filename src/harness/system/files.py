"""Files and folders that are whole under their name or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SCRATCH = ".scratch-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; what is written there gets the name at the end.

    A reader sees the old file or the whole new one, also after the machine has lost its power. Where anything is
    raised, the temporary file is removed and `path` stays as it was. A link stays a link, and what it leads to is
    replaced; into a device or a pipe (`/dev/null`, `>(jq .)`) the whole content is written.
    """
    if is_special(path):
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "content"
            yield written
            with open(written, "rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Return whether a path is something that can be written but not replaced: a device, a pipe, a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file in one step; raise OSError where it can't be written, and leave nothing behind."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def work_folder(final: Path) -> Iterator[Path]:
    """Give a temporary folder beside `final` to whoever holds its lock; what was not put in place is removed."""
    prefix = f".{final.name[:12]}-"
    for left in final.parent.glob(f"{prefix}*"):  # by a holder that was killed
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """Give a temporary folder in `place`, which is made, or among the temporary files where none can be made there.

    It is removed in the end, and after a holder that was killed by `remove_left_scratch`. An OSError raised inside that
    names no file names the folder.
    """
    from filelock import FileLock

    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / f"{_SCRATCH}{uuid.uuid4().hex[:12]}.lock")
        lock.acquire(timeout=0)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="harness-") as elsewhere, naming(Path(elsewhere)):
            yield Path(elsewhere)
        return
    folder = Path(lock.lock_file).with_suffix("")
    try:
        with naming(folder):
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def temporaries_in(folder: Path) -> Iterator[None]:
    """Let what libraries put among the temporary files lie in `folder` meanwhile; it is removed.

    A process that is killed then leaves nothing elsewhere: whoever removes `folder` removes it too.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=folder) as place:
        tempfile.tempdir = place
        try:
            yield
        finally:
            tempfile.tempdir = before


def remove_left_scratch(place: Path) -> None:
    """Remove the temporary folders in `place` whose holders were killed: their locks can be had."""
    from filelock import FileLock, Timeout

    for lock in place.glob(f"{_SCRATCH}*.lock"):
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Let an OSError raised inside that names no file name `place`: "No space left on device" alone helps nobody."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(place)) from error
        raise


def put_in_place(work: Path, final: Path) -> None:
    """Give a complete folder its name; what has that name is removed."""
    if final.is_symlink() or final.is_file():
        final.unlink()
    elif final.exists():
        shutil.rmtree(final)
    os.replace(work, final)


def flush(path: Path) -> None:
    """Wait until a file is on the disk: a rename may get there before the content does."""
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())
