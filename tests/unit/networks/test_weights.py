import pickle
import re

import pytest
import safetensors.torch
import torch

from harness import networks as models
from harness.config import ModelConfig
from harness.networks.identity import fingerprint
from harness.system.errors import UserError


def tiny(**changes):
    return ModelConfig(name="densenet_tiny", **({"image_size": 64, "num_classes": 10} | changes))


@pytest.fixture(scope="module")
def trained():
    return models.build(tiny(seed=7))


def dotted(key):
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_checkpoint_comes_back_bit_for_bit(trained, tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict(), path)
    assert fingerprint(models.build(tiny(weights=str(path)))) == fingerprint(trained)


def test_weights_beside_an_optimiser_are_found(trained, tmp_path):
    torch.save({"state_dict": trained.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    assert fingerprint(models.build(tiny(weights=str(tmp_path / "net.pt")))) == fingerprint(trained)


def test_densenet121_takes_checkpoints_with_the_old_dotted_names(tmp_path):
    given = models.build(ModelConfig(name="densenet121", seed=5))
    old = {dotted(k): v for k, v in given.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    loaded = models.build(ModelConfig(name="densenet121", weights=str(tmp_path / "old.pth")))
    assert fingerprint(loaded) == fingerprint(given)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.pt: there is no such file"):
        models.build(tiny(weights=str(tmp_path / "gone.pt")))


def test_another_class_count_names_the_tensor_and_both_shapes(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "ten.pt")
    with pytest.raises(UserError, match=r"classifier\.weight is \(10, \d+\) there and \(7, \d+\) here"):
        models.build(tiny(num_classes=7, weights=str(tmp_path / "ten.pt")))


def test_another_networks_checkpoint_says_how_much_differs(trained, tmp_path):
    state = dict(trained.state_dict())
    state["stranger"] = state.pop("classifier.bias")
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"it lacks 1 tensor and has 1 unknown \(first missing classifier\.bias\)"):
        models.build(tiny(weights=str(tmp_path / "other.pt")))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_rubbish_is_a_short_error(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="can't be read") as caught:
        models.build(tiny(weights=str(path)))
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_weights_name_lists_torchvisions():
    with pytest.raises(UserError, match=r"IMAGENET1K_V9 is not known.*\n.*IMAGENET1K_V1, DEFAULT"):
        models.build(ModelConfig(name="densenet121", weights="IMAGENET1K_V9"))


def test_weights_that_cannot_be_fetched_say_so(tmp_path, monkeypatch):
    # An empty cache and a proxy that refuses: the same on a machine with a network and on one without.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"could not be fetched from https://download\.pytorch\.org"):
        models.build(ModelConfig(name="densenet121", weights="IMAGENET1K_V1"))


class Payload:
    """What a pickle of somebody else may hold: a call that is made while it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("kind", ["torch.save", "pickle", "pickle as safetensors"])
def test_a_pickle_where_weights_are_expected_is_refused_and_nothing_in_it_is_run(tmp_path, kind):
    owned = tmp_path / "owned"
    path = tmp_path / ("net.safetensors" if kind == "pickle as safetensors" else "net.pt")
    if kind == "torch.save":
        torch.save({"classifier.bias": Payload(str(owned))}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(str(owned))))
    with pytest.raises(UserError, match="can't be read as a state dict of tensors") as caught:
        models.build(tiny(weights=str(path)))
    assert len(str(caught.value).splitlines()) == 1
    assert not owned.exists()


def test_what_torchvision_fetches_is_read_without_pickles_code_too(monkeypatch):
    asked = {}

    def fetched(url, **options):
        asked.update(options)
        raise RuntimeError("no more is wanted")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetched)
    with pytest.raises(UserError, match="could not be fetched"):
        models.build(ModelConfig(name="densenet121", weights="IMAGENET1K_V1"))
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True
