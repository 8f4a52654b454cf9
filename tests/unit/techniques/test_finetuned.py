"""A cell finds the weights that were trained for exactly its network, and never those of another one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from harness.config import arch_off
from harness.networks import build
from harness.networks.identity import fingerprint
from harness.sweep.refusals import check_architecture
from harness.system.errors import UserError
from harness.techniques.arch.assembled import network
from harness.techniques.finetuned import (
    WEIGHTS,
    base_model,
    check_weights,
    folder_of,
    not_finetuned,
    untrained,
    weights_identity,
    weights_of,
)

DIGITS = ("data=digits", "model.image_size=32")


@pytest.fixture
def asked(configured, tmp_path):
    """Return a function: asked("arch=grouped") -> its config, checkpoints in a folder of the test's own."""
    return lambda *overrides: configured(*DIGITS, f"checkpoints.dir={tmp_path}/kept", *overrides)


def left(config, stack, change=0.0):
    """Leave weights as a training of `config` with `stack` would: those of the network, moved by `change`."""
    found = weights_of(config, stack)
    module = network(found.model, stack).module
    folder = folder_of(config, stack)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value + change if value.is_floating_point() else value for name, value in module.state_dict().items()
    }
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS)
    return folder / WEIGHTS


def test_without_a_checkpoint_the_weights_are_the_given_ones(asked):
    config = asked("arch=grouped")
    found = weights_of(config, config.arch)
    assert (found.model, found.checkpoint) == (config.model, None)


def test_trained_weights_of_the_unmodified_model_are_every_cell_s_start(asked):
    config = asked("arch=grouped")
    path = left(config, arch_off(), change=0.01)
    assert base_model(config).weights == str(path)
    assert weights_of(config, config.arch).model.weights == str(path)


def test_our_kernels_can_be_asked_for_beside_trained_weights(asked):
    config = asked("arch=grouped", "hw=[fp16,fusion]", "hw.fusion.dense_blocks=true", "engine=inductor")
    left(config, arch_off(), change=0.01)
    check_architecture(config, {})


def test_a_changed_network_takes_its_own_trained_weights_in_every_process(asked):
    config = asked("arch=grouped")
    path = left(config, config.arch, change=0.5)
    found = weights_of(config, config.arch)
    assert found.checkpoint == str(path)
    tuned = network(found.model, config.arch, found.checkpoint, found.sha256)
    plain = network(config.model, config.arch)
    assert tuned.fingerprint != plain.fingerprint
    assert torch.equal(tuned.module.classifier.bias, plain.module.classifier.bias + 0.5)
    from harness.techniques.arch.recipe import Recipe, assemble

    again = assemble(Recipe.from_json(tuned.recipe.to_json()))
    assert fingerprint(again) == tuned.fingerprint


@pytest.mark.parametrize("other", ["arch.grouped.groups=2", "model.seed=5", "model.image_size=64"])
def test_another_network_or_start_finds_nothing(asked, other):
    left(asked("arch=grouped"), asked("arch=grouped").arch)
    config = asked("arch=grouped", other)
    assert weights_of(config, config.arch).checkpoint is None


def test_other_data_finds_nothing_but_other_timed_images_do(asked):
    config = asked("arch=grouped")
    left(config, config.arch)
    assert weights_of(replace(config, data=replace(config.data, name="image_folder")), config.arch).checkpoint is None
    assert weights_of(replace(config, data=replace(config.data, seed=9, limit=5)), config.arch).checkpoint is not None


def test_a_new_start_makes_older_changed_weights_another_network_s(asked):
    config = asked("arch=grouped")
    left(config, config.arch)
    assert weights_of(config, config.arch).checkpoint is not None
    left(config, arch_off(), change=0.01)
    assert weights_of(config, config.arch).checkpoint is None


def test_an_exit_s_weights_are_found_whatever_chooses_who_leaves(asked):
    config = asked("arch=early_exit")
    left(config, config.arch)
    other = asked("arch=early_exit", "arch.early_exit.exit_share=0.9", "arch.early_exit.decision=threshold")
    assert weights_of(other, other.arch).checkpoint is not None


def test_identity_is_the_unmodified_model(asked):
    config = asked("arch=identity")
    path = left(config, arch_off(), change=0.01)
    found = weights_of(config, config.arch)
    assert (found.model.weights, found.checkpoint) == (str(path), None)


def test_never_takes_none(asked):
    config = asked("arch=grouped", "checkpoints.use=never")
    left(asked("arch=grouped"), config.arch)
    assert weights_of(config, config.arch).checkpoint is None


def test_require_refuses_a_cell_without_weights_and_says_how_to_train_them(asked):
    config = asked("arch=grouped", "checkpoints.use=require")
    with pytest.raises(UserError, match=r"the unmodified model has no trained weights"):
        check_weights([config])
    left(config, arch_off())
    with pytest.raises(
        UserError, match=r"grouped has no trained weights.*\n.*harness.train model=densenet_tiny data=dig"
    ):
        check_weights([config])
    left(config, config.arch)
    check_weights([config])


def reason(config):
    found = weights_of(config, config.arch)
    return untrained(found.model, config.arch, found.checkpoint), not_finetuned(
        found.model, config.arch, found.checkpoint
    )


@pytest.mark.parametrize(
    ("stack", "needs"),
    [
        ("grouped", "grouped needs training"),
        ("reduced_growth", "reduced_growth needs training"),
        ("early_exit", "early_exit needs training"),
        ("[pruned,grouped,early_exit]", "grouped+early_exit need training"),
        ("none", ""),
        ("identity", ""),
        ("pruned", ""),  # these keep trained weights, and what they answer
        ("low_rank", ""),
    ],
)
def test_beside_a_trained_model_a_changed_network_may_be_untrained(asked, stack, needs):
    config = asked(f"arch={stack}", *["arch.reduced_growth.growth_rate=4"] * (stack == "reduced_growth"))
    assert reason(config)[0]  # nothing is trained yet
    left(config, arch_off(), change=0.01)
    found, note = reason(config)
    assert found.startswith(needs) and bool(found) == bool(needs)
    assert bool(note) == (stack in ("pruned", "low_rank") or bool(needs))
    left(config, config.arch)
    assert reason(config) == ("", "")


def test_random_weights_are_untrained_and_a_users_own_may_be_anything(asked):
    assert reason(asked("model.seed=5"))[0] == "its weights are random (seed 5)"
    own = replace(asked().model, name="my_module:net")
    assert untrained(own, arch_off(), None) == ""
    assert "my_module:net came with, trained or not" in not_finetuned(own, arch_off(), None)
    assert untrained(replace(own, weights="a.pt"), asked("arch=grouped").arch, None).startswith("grouped needs")


def test_a_threshold_by_accuracy_needs_a_trained_exit(asked):
    config = asked("arch=early_exit", "arch.early_exit.max_accuracy_drop=0.01")
    for trained in ("its weights are random|early_exit needs", "early_exit needs training"):
        with pytest.raises(UserError, match=rf"max_accuracy_drop depends on the network's answers, and ({trained})"):
            check_weights([config])
        left(config, arch_off(), change=0.01)
    left(config, config.arch)
    check_weights([config])


def test_weights_that_change_make_another_quartet(asked):
    config = asked("arch=grouped")
    before = weights_identity(config)
    left(config, config.arch, change=0.1)
    assert weights_identity(config) != before


def test_the_base_can_be_built_from_what_was_found(asked):
    config = asked()
    left(config, arch_off(), change=0.25)
    plain, tuned = build(config.model), build(base_model(config))
    assert torch.equal(tuned.classifier.bias, plain.classifier.bias + 0.25)
