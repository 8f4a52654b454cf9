"""Training: killed and gone on with it ends as if it had not been; what it leaves is what measurements find."""

from __future__ import annotations

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file

from harness.commands.train.job import check_overwrite, log_epoch, open_run, teacher_of, train_job
from harness.commands.train.loop import compute_dtype
from harness.commands.train.state import BEST, LAST, TrainingState, restore, save, state_in
from harness.measure.predictions import eager_predictions
from harness.networks.data.labelled import labelled
from harness.system.errors import UserError
from harness.techniques.arch.assembled import network
from harness.techniques.finetuned import weights_of
from harness.tracking import open_store

pytestmark = pytest.mark.slow

SMALL = ("data=digits", "model.image_size=32", "train.epochs=3", "train.batch_size=256", "train.warmup_epochs=0")


@pytest.fixture
def asked(configured, cache, store_root, tmp_path):
    """Return a function: asked("arch=grouped") -> the config of a training in folders of the test's own."""

    def make(*overrides, into="kept"):
        own = (f"checkpoints.dir={tmp_path}/{into}", f"cache.dir={cache.root}", f"tracking.root={store_root}")
        return configured(*SMALL, *own, *overrides)

    return make


def trained(config, told=lambda epoch: None):
    return train_job(config, "cpu", open_store(config.tracking), lambda what: None, told)


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(asked):
    whole = trained(asked(into="whole"))
    epochs = []

    def killed_in_the_second(epoch):
        epochs.append(epoch.number)
        if epoch.number == 2:
            raise KeyboardInterrupt

    config = asked(into="broken")
    with pytest.raises(KeyboardInterrupt):
        trained(config, killed_in_the_second)
    found = weights_of(config, config.arch)
    assert found.model.weights is None  # what is not done is not found
    again = trained(config, lambda epoch: epochs.append(epoch.number))
    assert epochs == [1, 2, 3]
    ours, theirs = load_file(again.path), load_file(whole.path)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert not (again.path.parent / LAST).exists()
    assert not (again.path.parent / BEST).exists()


def test_an_optimiser_comes_back_in_its_parameters_layout(tmp_path):
    network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimiser.step()
    save(tmp_path, network, optimiser, TrainingState("options"))
    again = torch.optim.AdamW(network.parameters())
    restore(tmp_path, network, again)
    for parameter in network.parameters():
        before, after = (one.state[parameter] for one in (optimiser, again))
        assert all((before[name] == after[name]).all() for name in before)
        assert after["exp_avg"].stride() == parameter.stride()
        assert after["step"] == 1


def test_a_store_that_is_away_costs_a_point_of_a_curve_and_not_the_training(monkeypatch, store_root, configured):
    store = open_store(configured(f"tracking.root={store_root}").tracking)
    run_id = open_run(store, "", "a training", {}, {})

    def locked(*_, **__):
        raise MlflowException("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", locked)
        log_epoch(store, run_id, 1, {"train/loss": 2.0})
    log_epoch(store, run_id, 2, {"train/loss": 1.0})
    assert [one.step for one in store.client().get_metric_history(run_id, "train/loss")] == [2]


def test_what_is_trained_is_not_trained_again_unless_asked_to_or_otherwise_asked(asked):
    first = trained(asked())
    assert not first.was_there
    again = trained(asked())
    assert again.was_there
    assert again.test_top1 == first.test_top1
    assert not trained(asked("train.seed=1", "train.resume=never")).was_there


def test_weights_of_other_settings_are_not_replaced_unless_that_is_asked_for(asked):
    first = trained(asked("train.epochs=1"))
    before = first.path.read_bytes()
    other = asked("train.epochs=2", "train.seed=4")
    for refused in (trained, check_overwrite):
        with pytest.raises(UserError, match=r"^[^\n]*\(train.epochs=1, here 2; train.seed=0, here 4\)[^\n]*$") as error:
            refused(other)
        assert all(way in str(error.value) for way in ("another checkpoints.dir", "train.resume=never"))
    assert first.path.read_bytes() == before
    anew = asked("train.epochs=2", "train.seed=4", "train.resume=never")
    with pytest.raises(KeyboardInterrupt):
        trained(anew, interrupt)
    assert first.path.read_bytes() == before  # until the new ones are there
    assert trained(asked("train.epochs=1")).was_there
    assert trained(other).epochs == 2  # what was begun anew goes on
    assert first.path.read_bytes() != before


def test_an_unfinished_training_of_other_settings_is_not_lost(asked):
    with pytest.raises(KeyboardInterrupt):
        trained(asked(), interrupt)
    with pytest.raises(UserError, match=r"unfinished training with other settings \(train.epochs=3, here 9\)"):
        trained(asked("train.epochs=9"))
    assert trained(asked()).epochs == 3


def interrupt(epoch):
    raise KeyboardInterrupt


def test_a_changed_network_learns_from_the_trained_one_and_measurements_find_it(asked, cache):
    config = asked("arch=early_exit")
    assert teacher_of(config) is None  # nothing is trained yet
    trained(asked())
    assert teacher_of(config) is not None
    assert teacher_of(asked("arch=early_exit", "train.teacher=none")) is None
    left = trained(config)
    found = weights_of(config, config.arch)
    assert found.checkpoint == str(left.path)
    data = labelled(found.model, config.data, cache)
    net = network(found.model, config.arch, found.checkpoint, found.sha256, data)
    answers = eager_predictions(net.text, data.test, 64, "cpu")
    labels = data.test.labels()
    for head, one in left.test_top1.items():  # the exit head is trained and told too
        assert one.value == pytest.approx((answers.heads[head] == labels).mean(), abs=1 / 359)


def test_a_training_is_a_run_with_a_curve_and_an_end(asked):
    config = asked("train.seed=3")
    left = trained(config)
    store = open_store(config.tracking)
    (run,) = store.client().search_runs([store.experiment_id], "tags.kind = 'training'", max_results=1)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.seed"] == "3"
    history = store.client().get_metric_history(run.info.run_id, "validation/top1_logits")
    assert [point.step for point in history] == [1, 2, 3]
    assert run.data.metrics["test/top1_logits"] == left.test_top1["logits"].value


def test_another_training_in_the_same_folder_is_refused(asked):
    from filelock import FileLock

    from harness.techniques.finetuned import folder_of

    config = asked()
    folder = folder_of(config, config.arch)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"), pytest.raises(UserError, match="another process trains"):
        trained(config)
    assert state_in(folder) is None


def test_a_cpu_trains_in_fp32_unless_bf16_is_asked_for():
    assert compute_dtype("auto", "cpu") is None
    assert str(compute_dtype("bf16", "cpu")) == "torch.bfloat16"
