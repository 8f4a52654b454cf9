"""The artifact cache: what was made once from the same inputs is taken, never made again.

An entry is a folder named by a SHA-256 key. It is made under a temporary name and renamed when complete, so a
reader sees all of it or nothing; a lock file keeps two makers apart; every file's checksum is kept and checked
on the way out, and an entry that fails the check is made anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.engines.shared import SharedCache

if TYPE_CHECKING:
    from harness.config import CacheConfig

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Entry:
    """One cached result: its folder, what was noted about it, and how it came to be here."""

    key: str
    path: Path
    meta: Mapping[str, Any]
    hit: bool  # it was there before (see `Cache`)
    seconds: float  # that making it took (of the original making, if it was a hit)


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a mapping, independent of the order of its names; values must be JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def open_cache(config: CacheConfig, new_since: float = math.inf) -> Cache:
    """Return the cache of a config; raise UserError where its shared tier can't be reached."""
    return Cache(Path(config.dir), new_since, SharedCache(config.shared) if config.shared else None)


class Cache:
    """Cached results below one folder, by kind (`export`, `engine`) and key."""

    def __init__(self, root: Path, new_since: float = math.inf, shared: SharedCache | None = None) -> None:
        """`new_since` (seconds since the epoch): what was made then or later is found, but is no hit.

        So a sweep that built ahead does not report its own work as another one's. What is missing here is looked for
        in `shared`, and what is made here is put there.
        """
        self.root = Path(root).absolute()
        self._new_since = new_since
        self._shared = shared

    def fetch_or_make(self, kind: str, key: str, make: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """Return the entry of `key`; on a miss call `make(folder)`, which fills the folder and returns its notes.

        Whatever `make` raises passes through and leaves no entry behind.
        """
        folder = self.root / kind / key[:2]
        final = folder / key
        found = self._read(final, key)  # without the lock: an entry never changes once it has its name
        if found is not None:
            return found
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
        work = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=final.parent))
        try:
            if not shared.fetch(kind, key, work) or self._read(work, key) is None:
                return None
            if final.exists():
                shutil.rmtree(final)
            os.replace(work, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return self._read(final, key)

    def _make(self, final: Path, key: str, make: Callable[[Path], Mapping[str, Any]]) -> Entry:
        work = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=final.parent))
        try:
            started = time.perf_counter()
            meta = dict(make(work))
            seconds = time.perf_counter() - started
            files = {
                str(path.relative_to(work)): file_sha256(path) for path in sorted(work.rglob("*")) if path.is_file()
            }
            manifest = {"key": key, "files": files, "meta": meta, "seconds": seconds, "made_at": time.time()}
            (work / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
            if final.exists():  # a damaged entry: _read refused it
                shutil.rmtree(final)
            os.replace(work, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Entry(key, final, meta, hit=False, seconds=seconds)

    def _read(self, final: Path, key: str) -> Entry | None:
        try:
            manifest = json.loads((final / MANIFEST).read_text())
            intact = manifest["key"] == key and all(
                file_sha256(final / name) == digest for name, digest in manifest["files"].items()
            )
            if not intact:
                return None
            hit = float(manifest.get("made_at", 0.0)) < self._new_since
            return Entry(key, final, manifest["meta"], hit, seconds=float(manifest["seconds"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
