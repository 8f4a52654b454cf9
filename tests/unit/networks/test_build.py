import subprocess
import sys

import pytest
import torch

from harness import networks as models
from harness.config import ModelConfig
from harness.networks.identity import fingerprint
from harness.system.errors import UserError

TINY = ModelConfig(name="densenet_tiny", image_size=64, num_classes=10)


def test_densenet121_has_the_parameters_of_torchvisions():
    network = models.build(ModelConfig(name="densenet121"))
    assert sum(p.numel() for p in network.parameters()) == 7_978_856


def test_a_built_network_is_ready_to_measure():
    network = models.build(TINY)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert network(models.example_input(TINY, 3)).shape == (3, 10)


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    first = fingerprint(models.build(TINY))
    torch.manual_seed(2)
    assert fingerprint(models.build(TINY)) == first
    assert fingerprint(models.build(ModelConfig("densenet_tiny", seed=1, image_size=64, num_classes=10))) != first


def test_building_leaves_the_callers_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    models.build(TINY)
    models.example_input(TINY, 1)
    assert torch.equal(torch.rand(4), expected)


def test_an_example_input_is_float32_images_and_repeats():
    batch = models.example_input(TINY, 2)
    assert batch.shape == (2, 3, 64, 64)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, models.example_input(TINY, 2))


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(UserError, match=r"'resnet9000' is not known.*densenet121, densenet_tiny"):
        models.build(ModelConfig(name="resnet9000"))


def test_a_name_can_be_registered_once():
    with pytest.raises(ValueError, match="twice"):
        models.register(models.spec("densenet121"))


@pytest.mark.parametrize(("image_size", "num_classes", "text"), [(28, 10, "at least 29"), (64, 0, "1 or more")])
def test_an_impossible_size_says_what_would_be_right(image_size, num_classes, text):
    with pytest.raises(UserError, match=text):
        models.build(ModelConfig("densenet_tiny", image_size=image_size, num_classes=num_classes))


def test_the_smallest_size_it_accepts_really_runs():
    cfg = ModelConfig("densenet_tiny", image_size=29, num_classes=10)
    assert torch.isfinite(models.build(cfg)(models.example_input(cfg, 1))).all()


def test_a_fingerprint_sees_one_changed_bit():
    network = models.build(TINY)
    before = fingerprint(network)
    network.classifier.bias[3] = 1e-30
    assert fingerprint(network) != before


def test_importing_models_and_arch_imports_no_torch():
    imported = "import sys, harness.networks, harness.techniques.arch"
    code = f"{imported}; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
