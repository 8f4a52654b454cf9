"""The shared tier: what one host made another takes, from a folder and an object store; never a damaged one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

from harness.config import CacheConfig
from harness.system.cache import MANIFEST, Cache, SharedCache, open_cache
from harness.system.errors import UserError

KEY = "ab" + "0" * 62


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A bucket of an S3 server on this machine; its address and keys are in the environment, as on a real host."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with suppress(OSError):
                    urllib.request.urlopen(address, timeout=2).close()
                    break
                time.sleep(0.2)
            urllib.request.urlopen(urllib.request.Request(f"{address}/shelf", method="PUT"), timeout=5).close()
            yield "s3://shelf/engines"
        finally:
            server.kill()
            server.wait()


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    return f"file://{tmp_path}/share" if request.param == "folder" else request.getfixturevalue("bucket")


@pytest.fixture
def fresh_key(request):
    """A key of this test's own: the bucket outlives it."""
    return f"{abs(hash(request.node.name)):064x}"[-64:]


def make(content):
    def fill(folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "engine.bin").write_bytes(content)
        return {"main_file": "deep/engine.bin"}

    return fill


def never(folder):
    raise AssertionError("was made although another host has it")


def test_what_one_host_made_another_takes(place, fresh_key, tmp_path):
    first = Cache(tmp_path / "one", shared=SharedCache(place)).fetch_or_make("engine", fresh_key, make(b"plan"))
    assert not first.hit
    second = Cache(tmp_path / "two", shared=SharedCache(place)).fetch_or_make("engine", fresh_key, never)
    assert second.hit
    assert (second.path / "deep" / "engine.bin").read_bytes() == b"plan"
    assert second.path.is_relative_to(tmp_path / "two")
    assert second.seconds == first.seconds  # of the making, not of the way here


def test_what_another_host_made_for_the_same_sweep_is_no_hit_of_it(tmp_path):
    share = SharedCache(f"file://{tmp_path}/share")
    Cache(tmp_path / "one", "this one", share).fetch_or_make("engine", KEY, make(b"plan"))
    assert not Cache(tmp_path / "two", "this one", share).fetch_or_make("engine", KEY, never).hit
    assert Cache(tmp_path / "three", "another one", share).fetch_or_make("engine", KEY, never).hit


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_made_anew_and_replaced(harm, tmp_path):
    place = f"file://{tmp_path}/share"
    Cache(tmp_path / "one", shared=SharedCache(place)).fetch_or_make("engine", KEY, make(b"plan" * 1000))
    packed = tmp_path / "share" / "engine" / KEY[:2] / f"{KEY}.tar"
    content = packed.read_bytes()
    damaged = {"flip": content.replace(b"planplan", b"plamplan", 1), "cut": content[:700], "empty": b""}[harm]
    assert damaged != content
    packed.write_bytes(damaged)
    again = Cache(tmp_path / "two", shared=SharedCache(place)).fetch_or_make("engine", KEY, make(b"other"))
    assert not again.hit
    assert (again.path / "deep" / "engine.bin").read_bytes() == b"other"
    third = Cache(tmp_path / "three", shared=SharedCache(place)).fetch_or_make("engine", KEY, never)
    assert (third.path / "deep" / "engine.bin").read_bytes() == b"other"


def test_an_entry_of_another_key_is_not_taken(tmp_path):
    place = f"file://{tmp_path}/share"
    Cache(tmp_path / "one", shared=SharedCache(place)).fetch_or_make("engine", KEY, make(b"plan"))
    folder = tmp_path / "share" / "engine" / KEY[:2]
    other = KEY[:-1] + "1"
    os.rename(folder / f"{KEY}.tar", folder / f"{other}.tar")
    entry = Cache(tmp_path / "two", shared=SharedCache(place)).fetch_or_make("engine", other, make(b"own"))
    assert (entry.path / "deep" / "engine.bin").read_bytes() == b"own"


@pytest.mark.parametrize("filters", [True, False])  # False: Python 3.11.0 to 3.11.3, as Debian 12 has it
@pytest.mark.parametrize(("name", "kind"), [("../../evil", "0"), ("evil", "2"), ("a/../../../evil", "0")])
def test_no_file_of_an_entry_leads_out_of_its_folder(tmp_path, monkeypatch, name, kind, filters):
    import io
    import tarfile

    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    share = SharedCache(f"file://{tmp_path}/share")
    target = tmp_path / "share" / "engine" / KEY[:2]
    target.mkdir(parents=True)
    with tarfile.open(target / f"{KEY}.tar", "w") as archive:
        evil = tarfile.TarInfo(name)
        evil.type, evil.linkname = kind.encode(), "../../evil" if kind == "2" else ""
        evil.size = 0 if kind == "2" else 1
        archive.addfile(evil, io.BytesIO(b"x"))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert not share.fetch("engine", KEY, folder)
    assert not (tmp_path / "evil").exists() and not list(folder.iterdir())


def test_a_config_with_a_shared_tier_opens_a_cache_that_takes_from_it(tmp_path):
    share = f"file://{tmp_path}/share"
    for host, hit in (("one", False), ("two", True)):
        cache = open_cache(CacheConfig(str(tmp_path / host), share))
        assert cache.fetch_or_make("engine", KEY, make(b"plan")).hit is hit
    alone = open_cache(CacheConfig(str(tmp_path / "three")))
    assert not alone.fetch_or_make("engine", KEY, make(b"plan")).hit


def test_a_place_that_goes_away_costs_a_build_and_no_quartet(tmp_path):
    share = SharedCache(f"file://{tmp_path}/share")
    (tmp_path / "share").rmdir()
    (tmp_path / "share").write_text("a file now")
    entry = Cache(tmp_path / "one", shared=share).fetch_or_make("engine", KEY, make(b"plan"))
    assert (entry.path / MANIFEST).is_file()


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    for place in ("s4://nowhere/x", f"file://{tmp_path}/file/below"):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"^cache\.shared=.*can't write there") as refused:
            SharedCache(place)
        assert "\n" not in str(refused.value)
