"""The artifact cache: what was made once from the same inputs is taken, never made again.

An entry is a folder named by a SHA-256 key. It is made under a temporary name and renamed when complete, so a
reader sees all of it or nothing; a lock file keeps two makers apart; every file's checksum is kept and checked
on the way out, the manifest's own too, and an entry that fails the check is made anew.

The shared tier: what one host built, another takes, from any place that fsspec knows. An entry is one object, a tar of
its folder, so that it is there whole or not at all (an object store puts it atomically; on a file system it is renamed
into place). On the way out every file is checked against the checksums in the entry's own manifest; what fails is as if
it were not there, and the next build replaces it. The checksums tell damage, not intent: whoever can write to the place
can have other hosts run what they put there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.system.errors import UserError, first_line
from harness.system.files import put_in_place, work_folder
from harness.system.secrets import redacted

if TYPE_CHECKING:
    from harness.config import CacheConfig

MANIFEST = "manifest.json"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Entry:
    """One cached result: its folder, what was noted about it, and how it came to be here."""

    key: str
    path: Path
    meta: Mapping[str, Any]
    hit: bool  # it was there before (see `Cache`)
    seconds: float  # that making it took (of the original making, if it was a hit)
    files: Mapping[str, str]  # name within the folder -> SHA-256


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a mapping, independent of the order of its names; values must be JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class NotCached(Exception):
    """A cache that only reads has no such entry."""


def open_cache(config: CacheConfig, sweep: str = "") -> Cache:
    """Return the cache of a config for a sweep; raise UserError where its shared tier can't be reached."""
    return Cache(Path(config.dir), sweep, SharedCache(config.shared) if config.shared else None)


def intact(folder: Path, files: Mapping[str, str]) -> bool:
    """Return whether `folder` holds exactly these files (name -> SHA-256) beside its manifest, and no link.

    A file more could be found by whoever loads the others, and a link leads to what may change any time.
    """
    found = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    if folder.is_symlink() or any(path.is_symlink() for path in found):
        return False
    names = {str(path.relative_to(folder)) for path in found} - {MANIFEST}
    return names == set(files) and all(file_sha256(folder / name) == digest for name, digest in files.items())


class Cache:
    """Cached results below one folder, by kind (`export`, `engine`) and key."""

    def __init__(self, root: Path, sweep: str = "", shared: SharedCache | None = None, read_only: bool = False) -> None:
        """`sweep`: the id of the sweep on whose behalf; what was made for the same one is found, but is no hit.

        So a sweep that built ahead, here or on another host, does not report its own work as another one's, whatever
        the clocks do. What is missing here is looked for in `shared`, and what is made here is put there.
        With `read_only` nothing is written: what is missing in `root` raises NotCached.
        """
        self.root = Path(root).absolute()
        self._sweep = sweep
        self._shared = shared
        self._read_only = read_only

    def fetch_or_make(self, kind: str, key: str, make: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """Return the entry of `key`; on a miss call `make(folder)`, which fills the folder and returns its notes.

        Whatever `make` raises passes through and leaves no entry behind. Raises ValueError for a kind or a key that is
        no plain name: they become folders; NotCached for a miss of a cache that only reads.
        """
        if not (_PLAIN_NAME.fullmatch(kind) and _PLAIN_NAME.fullmatch(key)):
            raise ValueError(f"not the name of a cache entry: {kind!r}, {key!r}")
        folder = self.root / kind / key[:2]
        final = folder / key
        found = self._read(final, key)  # without the lock: an entry never changes once it has its name
        if found is not None:
            return found
        if self._read_only:
            raise NotCached(f"{kind} {key}")
        for above in (folder.parent, folder):
            if above.is_file():  # no entry can be in it
                above.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            found = self._read(final, key)  # somebody else may have made it while we waited
            if found is not None:
                return found
            if self._shared is None:
                return self._make(final, key, make)
            found = self._fetch(self._shared, kind, final, key)
            if found is None:
                found = self._make(final, key, make)
                self._shared.keep(kind, key, final)
            return found

    def _fetch(self, shared: SharedCache, kind: str, final: Path, key: str) -> Entry | None:
        """Take an entry from the shared tier, if it has one that is intact."""
        with work_folder(final) as work:
            if not shared.fetch(kind, key, work) or self._read(work, key) is None:
                return None
            put_in_place(work, final)
        return self._read(final, key)

    def _make(self, final: Path, key: str, make: Callable[[Path], Mapping[str, Any]]) -> Entry:
        with work_folder(final) as work:
            started = time.perf_counter()
            meta = dict(make(work))
            seconds = time.perf_counter() - started
            files = {
                str(path.relative_to(work)): file_sha256(path) for path in sorted(work.rglob("*")) if path.is_file()
            }
            manifest = {"key": key, "files": files, "meta": meta, "seconds": seconds, "sweep": self._sweep}
            manifest["sha256"] = key_of(manifest)
            (work / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
            put_in_place(work, final)
        return Entry(key, final, meta, hit=False, seconds=seconds, files=files)

    def _read(self, final: Path, key: str) -> Entry | None:
        try:
            manifest = json.loads((final / MANIFEST).read_text())
            digest = manifest.pop("sha256")
            if digest != key_of(manifest) or manifest["key"] != key or not intact(final, manifest["files"]):
                return None
            hit = not self._sweep or manifest["sweep"] != self._sweep
            return Entry(key, final, manifest["meta"], hit, float(manifest["seconds"]), manifest["files"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


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
                    _unpack(archive, folder)
                return True
            except FileNotFoundError:
                return False
            except Exception as error:  # cut off, or the place is away: it is built here
                _LOG.warning("cache.shared: %s %s can't be read: %s", kind, key[:12], redacted(str(error)))
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
                _LOG.warning("cache.shared: %s %s was not kept: %s", kind, key[:12], redacted(str(error)))

    def _object(self, kind: str, key: str) -> str:
        return f"{self._root}/{kind}/{key[:2]}/{key}.tar"

    def _is_local(self) -> bool:
        protocol: Any = self._files.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack what `keep` packs; raise ValueError for anything else, such as a path that leads out of the folder.

    Python has filters for that since 3.11.4, and Debian 12 has 3.11.2.
    """
    for member in archive.getmembers():
        path = PurePosixPath(member.name)
        if not (member.isfile() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{member.name!r} is no entry's file")
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
    else:
        archive.extractall(folder)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member of a tar without its owner: the same entry from two hosts is nearly the same tar."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
