"""A file is whole under its name or not there, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.system.files import (
    put_in_place,
    remove_left_scratch,
    replacing,
    scratch_folder,
    temporaries_in,
    work_folder,
    write_whole,
)


def test_a_file_that_is_written_has_its_content_and_nothing_is_beside_it(tmp_path):
    write_whole(tmp_path / "plan.json", "first")
    write_whole(tmp_path / "plan.json", b"second")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert (tmp_path / "plan.json").read_text() == "second"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    write_whole(tmp_path / "plan.json", "first")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "plan.json", "second")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert (tmp_path / "plan.json").read_text() == "first"


def test_what_is_half_written_has_not_the_name_yet(tmp_path):
    with replacing(tmp_path / "plan.json") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "plan.json").exists()
    assert (tmp_path / "plan.json").read_text() == "half"


def test_a_folder_is_put_in_place_whole_and_replaces_what_has_its_name(tmp_path):
    final = tmp_path / "entry"
    final.mkdir()
    (final / "damaged").write_text("")
    with work_folder(final) as work:
        (work / "model").write_text("")
        put_in_place(work, final)
    assert [path.name for path in tmp_path.rglob("*")] == ["entry", "model"]


def test_a_folder_that_a_killed_process_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".entry-left").mkdir()
    with work_folder(tmp_path / "entry"):
        assert not (tmp_path / ".entry-left").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "target").write_text("old")
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    link.symlink_to("target")
    dangling.symlink_to("made")
    write_whole(link, "new")
    write_whole(dangling, "new")
    assert (link.is_symlink(), dangling.is_symlink()) == (True, True)
    assert [(tmp_path / name).read_text() for name in ("target", "made")] == ["new", "new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "link", "made", "target"]


def test_a_pipe_is_written_into_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write_whole(pipe, "through")
        assert read.result(timeout=10) == "through"
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_an_open_file_descriptor_is_written_into():
    """As bash names a process that it substitutes, `>(jq .)`: a link to a pipe that has no name."""
    read, write = os.pipe()
    write_whole(Path(f"/dev/fd/{write}"), "through")
    os.close(write)
    with os.fdopen(read) as file:
        assert file.read() == "through"


def test_a_scratch_folder_is_of_one_holder_who_is_left_alone_and_leaves_nothing(tmp_path):
    place = tmp_path / "outbox"
    with scratch_folder(place) as folder:
        (folder / "row").mkdir()
        remove_left_scratch(place)
        assert folder.parent == place and (folder / "row").is_dir()
    assert list(place.iterdir()) == []
    (place / ".scratch-0.lock").touch()  # of one that was killed
    (place / ".scratch-0").mkdir()
    remove_left_scratch(place)
    assert list(place.iterdir()) == []


def test_where_no_scratch_folder_can_be_made_it_is_among_the_temporary_files(tmp_path):
    (tmp_path / "file").touch()
    with scratch_folder(tmp_path / "file") as folder:
        assert folder.is_dir() and tmp_path not in folder.parents
    assert not folder.exists()


def test_temporary_files_of_libraries_lie_where_they_are_removed_with_the_work(tmp_path):
    before = tempfile.gettempdir()
    with temporaries_in(tmp_path), tempfile.TemporaryDirectory() as library, tempfile.NamedTemporaryFile() as file:
        assert Path(library).is_relative_to(tmp_path) and Path(file.name).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == [] and tempfile.gettempdir() == before


def test_a_full_disk_is_told_with_its_place(tmp_path):
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/.scratch-"), scratch_folder(tmp_path):
        raise OSError(errno.ENOSPC, "no name")
    with pytest.raises(OSError, match="Permission denied: 'x'"), scratch_folder(tmp_path):
        raise OSError(errno.EACCES, "Permission denied", "x")
