"""Hugging Face: a real data set of its library on this machine; columns found by their types."""

from __future__ import annotations

import io

import datasets
import pytest

from harness.config import DataConfig, ModelConfig
from harness.networks.data import open_dataset
from harness.networks.data.labelled import labelled
from harness.system.errors import UserError

MODEL = ModelConfig(name="densenet_tiny", image_size=32, num_classes=2)


@pytest.fixture
def saved(picture, tmp_path):
    """Return a function: saved(train=20, test=10) -> the folder of a data set with so many images, one corrupt."""

    def make(**counts):
        features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["cat", "dog"])})
        parts = {}
        for part, count in counts.items():
            rows = []
            for number in range(count):
                file = io.BytesIO()
                picture(number).save(file, "png")
                rows.append({"img": {"bytes": b"broken" if number == 2 else file.getvalue()}, "fine": number % 2})
            parts[part] = datasets.Dataset.from_list(rows, features=features)
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
        return DataConfig(name="huggingface", path=str(tmp_path / "set"))

    return make


def test_images_labels_and_classes_come_from_the_columns_of_these_types(saved, picture, cache):
    data = saved(train=20, test=10)
    assert open_dataset(data).classes == ("cat", "dog")
    found = labelled(MODEL, data, cache).test
    assert found.labels().tolist() == [0, 1, 1, 0, 1, 0, 1, 0, 1]  # without the third
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith("test 2: UnidentifiedImageError")


def test_a_lone_part_is_split_in_three(saved):
    parts = open_dataset(saved(train=60)).parts
    assert sum(map(len, parts.values())) == 60
    assert all(len(part) for part in parts.values())


def test_what_is_not_there_is_one_line_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"^data.path=.*/nothing: the data set can't be loaded: [^\n]+$"):
        open_dataset(DataConfig(name="huggingface", path=str(tmp_path / "nothing")))


def test_a_column_of_another_type_is_refused_with_those_that_fit(saved):
    data = saved(train=4, test=4)
    data.label_column = "img"
    with pytest.raises(UserError, match="needs a column 'img' of type ClassLabel; found fine among img, fine"):
        open_dataset(data)
