"""The shared tier of the artifact cache: what one host built, another takes; any place that fsspec knows.

An entry is one object, a tar of its folder, so that it is there whole or not at all (an object store puts it
atomically; on a file system it is renamed into place). On the way out every file is checked against the checksums in
the entry's own manifest; what fails is as if it were not there, and the next build replaces it. The checksums tell
damage, not intent: whoever can write to the place can have other hosts run what they put there.
"""

from __future__ import annotations

import logging
import os
import socket
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.system.errors import UserError, first_line

_LOG = logging.getLogger(__name__)


class SharedCache:
    """Entries below a URL: `s3://bucket/prefix`, `file:///mnt/share`, or whatever else has an fsspec package."""

    def __init__(self, url: str) -> None:
        """Raise UserError where nothing can be written: an unknown kind of place, no access, no such bucket."""
        self.url = url.rstrip("/")
        probe = f".probe-{socket.gethostname()}-{os.getpid()}"
        try:
            import fsspec

            self._files, self._root = fsspec.core.url_to_fs(self.url)
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(f"{self._root}/{probe}", b"")
            self._files.rm_file(f"{self._root}/{probe}")
        except Exception as error:  # each kind of place has its own
            reason = first_line(error)[:200]
            raise UserError(
                f"cache.shared={url}: can't write there ({reason}); write it as s3://bucket/prefix or file:///folder."
            ) from None

    def fetch(self, kind: str, key: str, folder: Path) -> bool:
        """Unpack the entry of `key` into an empty folder; return False if there is none that can be read."""
        with tempfile.TemporaryDirectory() as temporary:
            packed = Path(temporary) / "entry.tar"
            try:
                self._files.get_file(self._object(kind, key), str(packed))
                with tarfile.open(packed) as archive:
                    archive.extractall(folder, filter="data")  # no path may lead out of the folder
                return True
            except FileNotFoundError:
                return False
            except Exception as error:  # cut off, or the place is away: it is built here
                _LOG.warning("cache.shared: %s %s can't be read: %s", kind, key[:12], error)
                return False

    def keep(self, kind: str, key: str, entry: Path) -> None:
        """Put the entry in folder `entry` there for others; a place that is away costs them the entry, not us."""
        name = self._object(kind, key)
        partial = f"{name}.{socket.gethostname()}.{os.getpid()}"
        with tempfile.TemporaryDirectory() as temporary:
            packed = Path(temporary) / "entry.tar"
            with tarfile.open(packed, "w") as archive:
                archive.add(entry, arcname=".", filter=_anonymous)
            try:
                if self._is_local():
                    self._files.makedirs(name.rpartition("/")[0], exist_ok=True)
                    self._files.put_file(str(packed), partial)
                    os.replace(partial, name)
                else:
                    self._files.put_file(str(packed), name)
            except Exception as error:
                with suppress(Exception):
                    self._files.rm_file(partial)
                _LOG.warning("cache.shared: %s %s was not kept: %s", kind, key[:12], error)

    def _object(self, kind: str, key: str) -> str:
        return f"{self._root}/{kind}/{key[:2]}/{key}.tar"

    def _is_local(self) -> bool:
        protocol: Any = self._files.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member of a tar without its owner: the same entry from two hosts is nearly the same tar."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
