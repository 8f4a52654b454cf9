"""Preprocessing: the one of the weights in use, pixel for pixel; another image size keeps the share of the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import DenseNet121_Weights

from harness.config import DataConfig, ModelConfig
from harness.networks.data.preprocessing import CHECKPOINT_KEY, Preprocessing, normalised, preprocessing, square
from harness.system.errors import UserError

PUBLISHED = ModelConfig(name="densenet121", weights="IMAGENET1K_V1")


@pytest.mark.parametrize("size", [(300, 400), (500, 260), (224, 224), (90, 200)])
def test_published_weights_get_the_inputs_that_torchvision_gives_them(picture, size):
    image, how = picture(1, size), preprocessing(PUBLISHED, DataConfig())
    ours = normalised(square(image, how, whole_image=False)[None], how)[0]
    theirs = DenseNet121_Weights.IMAGENET1K_V1.transforms()(image).numpy()
    assert ours.shape == theirs.shape == (3, 224, 224)
    assert np.abs(ours - theirs).max() < 1e-6


def test_another_size_of_image_shows_the_same_part_of_the_picture():
    how = preprocessing(ModelConfig(name="densenet121", weights="IMAGENET1K_V1", image_size=112), DataConfig())
    assert (how.image_size, how.resize) == (112, 128)


def test_a_checkpoint_of_our_own_carries_how_it_was_trained(tmp_path):
    trained = Preprocessing(64, 80, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {CHECKPOINT_KEY: trained.to_json()})
    model = ModelConfig(name="densenet_tiny", weights=str(tmp_path / "w.safetensors"), image_size=64)
    assert preprocessing(model, DataConfig()) == trained


def test_options_override_what_the_weights_say():
    how = preprocessing(PUBLISHED, DataConfig(resize=224, mean=[0.5, 0.5, 0.5]))
    assert (how.resize, how.mean, how.std) == (224, (0.5, 0.5, 0.5), (0.229, 0.224, 0.225))


def test_a_picture_smaller_than_what_is_cut_from_it_is_refused():
    with pytest.raises(UserError, match=r"data.resize=100 is below model.image_size=224"):
        preprocessing(PUBLISHED, DataConfig(resize=100))


def test_a_whole_image_loses_nothing_at_its_edges(picture):
    image = picture(2, (8, 8)).convert("L")
    found = square(image, Preprocessing(32, 37), whole_image=True)
    assert found.shape == (3, 32, 32)
    assert found[0, 0, 0] == np.asarray(image)[0, 0]
    assert found[0, -1, -1] == np.asarray(image)[-1, -1]
