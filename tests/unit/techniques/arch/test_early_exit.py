import pytest
import torch

from harness.networks.identity import fingerprint
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.assembled import CALIBRATION_SAMPLES, CALIBRATION_SEED, calibrated
from harness.techniques.arch.early_exit import check
from harness.techniques.arch.exit_policy import ExitPolicy, confidence
from harness.techniques.arch.options import EarlyExitOptions
from harness.techniques.arch.stages import all_heads, stages


def exit_after(model, block, stack, **options):
    return arch.apply_stack(model, stack(early_exit={"after_block": block} | options))


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_the_two_stages_are_the_whole_network_bit_for_bit(tiny, stack, images, block):
    network = exit_after(tiny, block, stack)
    assert torch.equal(network.stage2(network.stage1(images)[0]), tiny(images))


def test_densenet121_is_split_bit_for_bit_too(densenet121, stack):
    network = exit_after(densenet121, 2, stack)
    images = torch.randn(2, 3, 64, 64)
    features, exit_logits = network.stage1(images)
    assert features.shape[1] == 512
    assert exit_logits.shape == (2, 1000)
    assert torch.equal(network.stage2(features), densenet121(images))


def test_the_split_of_a_changed_network_is_that_network(tiny, stack, images):
    changes = {"grouped": {"groups": 2}, "low_rank": {"ratio": 0.5}}
    whole = arch.apply_stack(tiny, stack(**changes))
    split = arch.apply_stack(tiny, stack(**changes, early_exit={}))
    assert torch.equal(split.stage2(split.stage1(images)[0]), whole(images))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_survivors_get_the_networks_logits_and_the_others_the_exits(tiny, stack, images, share):
    network = exit_after(tiny, 2, stack, exit_share=share)
    logits, (_, exit_logits) = network(images), network.stage1(images)
    left = network.router.leaves(0, exit_logits)
    assert int(left.sum()) == ExitPolicy("share", share).exits(len(images))
    assert torch.equal(logits[left], exit_logits[left])
    torch.testing.assert_close(logits[~left], tiny(images)[~left], rtol=1e-4, atol=1e-5)


def test_stage_2_sees_the_survivors_alone(tiny, stack, images):
    network = exit_after(tiny, 2, stack, exit_share=0.5)
    seen = []
    network.stage2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    features, exit_logits = network.stage1(images)
    assert len(seen) == 1
    assert torch.equal(seen[0], features[network.router.goes_on(0, exit_logits)])
    assert len(seen[0]) == 3  # of 7, of which round-half-up(3.5) = 4 leave


def test_the_exit_heads_seed_changes_the_head_alone(tiny, stack):
    one, other = exit_after(tiny, 2, stack, seed=1), exit_after(tiny, 2, stack, seed=9)
    assert fingerprint(one.stage1.head) != fingerprint(other.stage1.head)
    assert fingerprint(one.stage1.trunk) == fingerprint(other.stage1.trunk)
    assert fingerprint(one.stage1.head) == fingerprint(exit_after(tiny, 2, stack, seed=1).stage1.head)


@pytest.mark.parametrize("block", [0, 5])
def test_an_exit_that_does_not_exist_lists_those_that_do(tiny, block):
    with pytest.raises(UserError, match=rf"after_block={block} does not exist: it may be 1, 2, 3, 4"):
        check(tiny, EarlyExitOptions(after_block=block))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"exit_share": 1.1}, "exit_share=1.1 is not a share"),
        ({"exit_share": -0.1}, "from 0 to 1"),
        ({"decision": "perhaps"}, "auto, share or threshold"),
        ({"threshold": 1.5, "decision": "threshold"}, "not a confidence"),
        ({"threshold": 0.5, "decision": "share"}, "has no effect"),
    ],
)
def test_a_decision_that_is_not_defined_is_refused(tiny, options, text):
    with pytest.raises(UserError, match=text):
        check(tiny, EarlyExitOptions(**options))


def test_splitting_twice_is_refused(tiny, stack):
    with pytest.raises(UserError, match=r"needs a DenseNet, .* found EarlyExitNetwork"):
        arch.check_stack(exit_after(tiny, 2, stack), stack(early_exit={}))


@pytest.mark.parametrize(
    ("decision", "labelled", "expected"),
    [
        ("auto", False, "share"),
        ("auto", True, "threshold"),
        ("share", True, "share"),
        ("threshold", False, "threshold"),
    ],
)
def test_auto_is_a_share_without_labels_and_a_threshold_with(decision, labelled, expected):
    heads = {name: torch.rand(8, 3).numpy() for name in ExitPolicy.heads}
    labels = torch.zeros(8).numpy() if labelled else None
    assert ExitPolicy(decision, 0.5).calibrated(lambda: heads, labels).decision == expected


def test_a_threshold_is_calibrated_to_the_share_on_other_inputs_than_the_measured(tiny, stack, images):
    network = exit_after(tiny, 2, stack, decision="threshold", exit_share=0.25)
    parts = stages(network)
    network.router = calibrated(network.router, parts, None)
    assert network.router.exit_share == 0.25
    (batch,) = parts[0].inputs.tensors(CALIBRATION_SAMPLES, CALIBRATION_SEED)
    assert network.router.leaves(0, network.stage1(batch)[1]).float().mean() == 0.25
    assert not torch.equal(batch[: len(images)], images)
    assert torch.isfinite(network(images)).all()


def test_a_given_threshold_is_kept_and_its_share_measured(tiny, stack, images):
    network = exit_after(tiny, 2, stack)
    heads = {name: value.numpy() for name, value in all_heads(stages(network), (images,)).items()}
    middle = float(sorted(confidence(heads["exit_logits"]))[3])
    router = ExitPolicy("threshold", 0.9, middle).calibrated(lambda: heads, None)
    assert router.threshold == middle
    assert router.exit_share == pytest.approx(4 / 7)


def test_a_share_needs_no_calibration():
    policy = ExitPolicy("share", 0.5)
    assert policy.calibrated(lambda: pytest.fail("the network was run"), None) == policy
