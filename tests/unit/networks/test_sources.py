"""Where a model's name may come from: torchvision, timm, or a function of one's own."""

import importlib.util

import pytest
import torch

from harness import networks as models
from harness.config import ModelConfig
from harness.networks.identity import fingerprint
from harness.sweep.command_line import compose_jobs
from harness.system.errors import UserError


@pytest.fixture(autouse=True)
def _slim_networks(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tests"))


def small(name, side=64):
    return ModelConfig(name, image_size=side, num_classes=10)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_16"])
def test_an_untrained_network_of_torchvisions_answers_differently_to_different_images(name):
    cfg = small(name, 32)
    logits = models.build(cfg)(models.example_input(cfg, 8))
    assert logits.std(0).mean() > 1e-3 * logits.abs().max() > 1e-6  # not zeros, and not alike
    assert torch.equal(logits, models.build(cfg)(models.example_input(cfg, 8)))


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_timms_models_go_by_their_name():
    cfg = small("timm/resnet18")
    assert models.build(cfg)(models.example_input(cfg, 2)).shape == (2, 10)
    with pytest.raises(UserError, match=r"timm has no model 'resnet9000'"):
        models.build(small("timm/resnet9000"))


def test_without_timm_its_models_say_what_to_install(monkeypatch):
    monkeypatch.setattr("harness.networks.catalogues.has_timm", lambda: False)
    with pytest.raises(UserError, match="needs timm, which is not installed: pip install timm"):
        models.build(small("timm/resnet18"))


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (small("no_such_module:net"), r"no_such_module can't be imported: ModuleNotFoundError"),
        (small("slim_networks:net"), r"slim_networks has no 'net'"),
        (small("slim_networks:nn"), "is module, not a function"),
        (small("json:dumps"), r"json:dumps\(\) failed: TypeError"),
        (small("slim_networks:gives_pairs"), r"gives a tuple \(\[B, 3\], \[B, 3\]\), not \[B, 10\]"),
        (small("slim_networks:vit", 50), r"image_size=50"),
        (small("vit_b_16", 50), r"can't be built with model.image_size=50"),
        (small("vgg11", 16), r"can't be run on images \[2, 3, 16, 16\]"),
        (small("resnet19"), r"did you mean resnet"),
    ],
    ids=lambda value: value.name if isinstance(value, ModelConfig) else "",
)
def test_a_model_that_can_not_be_had_says_why_on_one_line(cfg, said):
    with pytest.raises(UserError, match=said) as caught:
        models.build(cfg)
    assert len(str(caught.value).splitlines()) == 1


def test_a_functions_own_weights_are_left_as_they_are():
    import slim_networks
    from harness.networks.determinism import seeded

    with seeded(0):
        made = slim_networks.mobilenet(10)
    assert fingerprint(models.build(small("slim_networks:mobilenet"))) == fingerprint(made)


def test_a_sweep_over_models_without_presets_is_composed():
    jobs = compose_jobs(["model=resnet18,slim_networks:vit", "arch=pruned"])
    assert [job.config.model.name for job in jobs] == ["resnet18", "slim_networks:vit"]
