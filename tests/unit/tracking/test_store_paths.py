"""A path is a path: what ends or escapes an address elsewhere is a character of a folder's name here."""

import pytest

from harness.config import TrackingConfig
from harness.system.errors import UserError
from harness.tracking import open_store


@pytest.mark.parametrize("name", ["exp#2", "50% off", "it's"])
def test_a_store_is_opened_again_below_a_folder_of_any_name(tmp_path, name):
    root = tmp_path / name / "mlruns"
    for _ in range(2):
        store = open_store(TrackingConfig(root=str(root)))
        run = store.client().create_run(store.experiment_id)
        (tmp_path / "note.txt").write_text("x")
        store.client().log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    assert len(store.client().search_runs([store.experiment_id])) == 2
    assert [found.path for found in store.client().list_artifacts(run.info.run_id)] == ["note.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "note.txt"])  # nothing went elsewhere


@pytest.mark.parametrize(("name", "part"), [("what?", r"\?"), ("a%20b", "%20")])
def test_what_an_address_can_not_hold_is_named_before_anything_is_made(tmp_path, name, part):
    with pytest.raises(
        UserError, match=rf"tracking.root=.*mlruns: {part} means something else in a database's address"
    ):
        open_store(TrackingConfig(root=str(tmp_path / name / "mlruns")))
    assert not list(tmp_path.iterdir())
