"""The shipped view: written once, readable by MLflow's page, never an error."""

import base64
import json
import zlib
from dataclasses import replace

import pytest

from harness.tracking.store import find_store, open_store
from harness.tracking.view import VIEW_KEY, decode, encode, install_views, state, view_url, views

VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"  # MLflow's own name for it


def test_the_installed_view_is_what_mlflows_page_decodes(store):
    assert install_views(store)
    envelope = json.loads(store.client().get_experiment(store.experiment_id).tags[VIEW_TAG])
    assert isinstance(envelope["name"], str)
    assert isinstance(envelope["createdAt"], int)
    header, packed = envelope["state"].split(";", 1)
    assert header == "deflate"
    table = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert table == state()
    assert {"metrics.`interaction/factor`", "tags.`verdict`", "params.`arch`"} <= set(table["selectedColumns"])
    assert set(table["selectedColumns"]) <= set(table["columnOrder"]) == set(table["columnWidths"])


def test_mlflow_understands_the_views_filter_and_order(store):
    from harness.tracking.runs import start_quartet, start_sweep

    sweep = start_sweep(store, "demo", {}, {})
    quartets = [start_quartet(store, sweep, name, {}, {}) for name in ("first", "second")]
    found = store.client().search_runs(
        [store.experiment_id], state()["searchFilter"], order_by=[f"{state()['orderByKey']} DESC"]
    )
    assert [run.info.run_id for run in found] == quartets[::-1]


def test_installing_again_writes_nothing_unless_the_view_changed(store):
    mlflow = store.client()
    assert install_views(store)
    first = mlflow.get_experiment(store.experiment_id).tags[VIEW_TAG]
    assert install_views(store)
    assert mlflow.get_experiment(store.experiment_id).tags[VIEW_TAG] == first
    for outdated in ("no view", "[]", encode({"selectedColumns": []}, 1)):
        mlflow.set_experiment_tag(store.experiment_id, VIEW_TAG, outdated)
        assert install_views(store)
        assert decode(mlflow.get_experiment(store.experiment_id).tags[VIEW_TAG]) == state()


@pytest.mark.parametrize("view", views(), ids=lambda view: view.name)
def test_each_view_fits_the_tag_of_an_older_server(view):
    assert len(encode(view.state(), 1_800_000_000_000, view.name)) < 5000


def test_the_failed_view_finds_the_quartets_that_did_not_finish_and_no_other(store):
    from harness.tracking.runs import finish, start_quartet, start_sweep

    sweep = start_sweep(store, "demo", {}, {})
    good, bad = (start_quartet(store, sweep, name, {}, {}) for name in ("good", "bad"))
    finish(store, good, "FINISHED")
    finish(store, bad, "FAILED", "out of memory")
    found = store.client().search_runs([store.experiment_id], state("harness-failed")["searchFilter"])
    assert [run.info.run_id for run in found] == [bad]


def test_a_store_that_does_not_take_the_view_costs_a_warning(store, caplog):
    assert install_views(replace(store, experiment_id="12345")) is False
    assert "did not take the shipped views" in caplog.text


def test_the_views_address_names_experiment_and_view(store):
    url = view_url(store, "http://127.0.0.1:5000/")
    assert url.startswith(f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs?")
    assert "viewStateShareKey=harness" in url


def test_finding_a_store_gives_what_opening_it_gave(tracking):
    assert open_store(tracking) == find_store(tracking)


@pytest.mark.parametrize(
    ("key", "first"), [("harness", ["outcome", "factor"]), ("harness-throughput", ["combined_per_s"])]
)
def test_what_a_view_is_for_stands_within_the_pixels_of_a_laptop(key, first):
    """Of 1280 pixels MLflow's margin takes 250, the name and the date their own widths."""
    widths = state(key)["columnWidths"]
    columns = list(widths)
    assert columns[2 : 2 + len(first)] == [f"tags.`{name}`" for name in first]
    seen = {"harness": "expected", "harness-throughput": "baseline_per_s"}[key]
    shown = columns[: columns.index(f"tags.`{seen}`") + 1]
    assert sum(widths[column] for column in shown) <= 1280 - 250


def test_each_row_names_its_sweep_also_after_it_was_resumed_in_another(store):
    from harness.tracking.runs import move, start_quartet, start_sweep

    first, second = start_sweep(store, "first", {}, {}), start_sweep(store, "second", {}, {})
    run = start_quartet(store, first, "grouped x fusion b1", {}, {})
    assert store.client().get_run(run).data.tags["sweep"] == "first"
    move(store, run, second, "measured in sweep first")
    assert store.client().get_run(run).data.tags["sweep"] == "second"
