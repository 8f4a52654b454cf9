"""Class folders: parts of their own or a stable split; what is empty or doesn't fit is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from harness.config import DataConfig, ModelConfig
from harness.networks.data import open_dataset
from harness.networks.data.dataset import PARTS
from harness.networks.data.labelled import check_data, labelled
from harness.system.errors import UserError


def folder(root, **options):
    return DataConfig(name="image_folder", path=str(root), **options)


def model(classes):
    return ModelConfig(name="densenet_tiny", image_size=32, num_classes=classes)


def test_classes_are_the_folders_in_alphabetical_order(class_folders, tmp_path):
    found = open_dataset(folder(class_folders(tmp_path / "pets", {"dog": 30, "cat": 30})))
    assert found.classes == ("cat", "dog")
    for part in found.parts.values():
        assert [found.classes[label] for label in part.labels] == [name.split("/")[0] for name in part.names]


def test_an_image_that_is_added_moves_no_other_one(class_folders, picture, tmp_path):
    root = class_folders(tmp_path / "pets", {"dog": 30, "cat": 30})
    before = open_dataset(folder(root))
    picture(999).save(root / "cat" / "0000.png")
    after = open_dataset(folder(root))
    for part in PARTS:
        assert set(after.parts[part].names) - {"cat/0000.png"} == set(before.parts[part].names)


def test_folders_called_train_and_val_are_the_parts_and_validation_is_cut_from_train(class_folders, tmp_path):
    class_folders(tmp_path / "set" / "train", {"a": 40, "b": 40})
    class_folders(tmp_path / "set" / "val", {"a": 5, "b": 5})
    parts = open_dataset(folder(tmp_path / "set")).parts
    assert all(name.startswith("val/") for name in parts["test"].names)
    assert len(parts["test"]) == 10
    assert len(parts["train"]) + len(parts["validation"]) == 80
    assert 0 < len(parts["validation"]) < 30


def test_a_corrupt_image_is_left_out_and_named_with_its_reason(class_folders, cache, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 20, "dog": 20})
    data = folder(root, split_shares=[0.0, 0.3, 0.7])
    victim = open_dataset(data).parts["test"].names[3]
    (root / victim).write_bytes(b"this is no image")
    whole = (root / open_dataset(data).parts["test"].names[4]).read_bytes()
    cut = open_dataset(data).parts["test"].names[4]
    (root / cut).write_bytes(whole[: len(whole) // 2])
    asked = folder(root, split_shares=[0.0, 0.3, 0.7], seed=77)  # another config: the listing is kept for one process
    found = labelled(model(2), asked, cache).test
    assert [line.split(":")[0] for line in found.skipped] == [victim, cut]
    names = open_dataset(data).parts["test"].names
    assert found.count == len(names) - 2
    kept = [name for name in names if name not in (victim, cut)]
    assert [("cat", "dog")[label] for label in found.labels()] == [name.split("/")[0] for name in kept]


def test_only_corrupt_images_are_an_error_that_shows_the_first(class_folders, cache, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 8, "dog": 8})
    for path in root.rglob("*.png"):
        path.write_bytes(b"no")
    with pytest.raises(
        UserError, match=r"of 1 test image none could be read: (cat|dog)/\d+.png: UnidentifiedImageError"
    ):
        labelled(model(2), folder(root), cache)


WRONG = {
    "no path": (lambda root: DataConfig(name="image_folder"), "needs data.path"),
    "no such directory": (lambda root: folder(root / "nowhere"), "no such directory"),
    "empty": (lambda root: folder(root), "no image in 0 class folders"),
    "shares": (lambda root: folder(root, split_shares=[1.0]), "must be three shares"),
    "deviation": (lambda root: folder(root, std=[1.0, 0.0, 1.0]), "above 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_be_read_is_refused_in_one_line(case, tmp_path):
    make, says = WRONG[case]
    with pytest.raises(UserError, match=says) as refused:
        check_data(model(2), make(tmp_path))
    assert "\n" not in str(refused.value)


def test_another_number_of_classes_than_the_model_has_is_refused_with_both_numbers(class_folders, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 20, "dog": 20})
    with pytest.raises(UserError, match=r"2 classes and model.num_classes=1000.*use model.num_classes=2"):
        check_data(model(1000), folder(root))


def test_a_limit_takes_the_same_images_each_time(class_folders, cache, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 30, "dog": 30})
    few, all_of_them = (labelled(model(2), folder(root, limit=limit), cache).test for limit in (5, None))
    assert (few.count, few.pixels().shape) == (5, (5, 3, 32, 32))
    rows = [all_of_them.pixels()[i].tobytes() for i in range(all_of_them.count)]
    assert all(few.pixels()[i].tobytes() in rows for i in range(5))
    assert labelled(model(2), folder(root, limit=5, seed=3), cache).test.digest == few.digest
    assert np.array_equal(labelled(model(2), folder(root, limit=5, seed=3), cache).test.labels(), few.labels())
