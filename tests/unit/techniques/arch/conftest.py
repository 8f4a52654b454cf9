"""Networks that are built once, and a short way to write a stack."""

import pytest
import torch

from harness import networks as models
from harness.config import ModelConfig, arch_off

torch.set_num_threads(1)

TINY = ModelConfig(name="densenet_tiny", image_size=64, num_classes=10)


@pytest.fixture(scope="session")
def densenet121():
    return models.build(ModelConfig(name="densenet121"))


@pytest.fixture(scope="session")
def tiny():
    return models.build(TINY)


@pytest.fixture(scope="session")
def images():
    return torch.randn(7, 3, 64, 64, generator=torch.Generator().manual_seed(11))


@pytest.fixture(scope="session")
def stack():
    """Return a function: stack(grouped={"groups": 2}) -> ArchConfig with these techniques on."""

    def make(**techniques):
        cfg = arch_off()
        for name, options in techniques.items():
            part = getattr(cfg, name)
            part.enabled = True
            for key, value in options.items():
                assert hasattr(part, key), key
                setattr(part, key, value)
        return cfg

    return make
