"""Folders and files as people have them: nothing is clipped, taken for a class or leaked between parts unnoticed."""

from __future__ import annotations

import os
import shutil

import datasets
import numpy as np
import pytest
from PIL import Image

from harness.config import DataConfig, ModelConfig
from harness.networks.data import open_dataset
from harness.networks.data.labelled import labelled
from harness.networks.data.preprocessing import Preprocessing, square, upright_rgb
from harness.system.errors import UserError

MODEL = ModelConfig(name="densenet_tiny", image_size=32, num_classes=2)
HOW = Preprocessing(32, 36)


def folder(root, **options):
    return DataConfig(name="image_folder", path=str(root), **options)


def parts_of(root):
    found = open_dataset(folder(root))
    return found.classes, {name: len(part) for name, part in found.parts.items()}


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing")])
def test_parts_are_parts_in_any_case(class_folders, tmp_path, names):
    for name, count in zip(names, (30, 5), strict=True):
        class_folders(tmp_path / "set" / name, {"cat": count, "dog": count})
    classes, counts = parts_of(tmp_path / "set")
    assert classes == ("cat", "dog")
    assert counts["test"] == 10
    assert counts["train"] + counts["validation"] == 60


@pytest.mark.parametrize("name", ["__MACOSX", ".git", "@eaDir", "empty"])
def test_what_systems_leave_behind_beside_the_parts_is_no_class(class_folders, tmp_path, name):
    for part in ("train", "test"):
        class_folders(tmp_path / "set" / part, {"cat": 10, "dog": 10})
    stray = tmp_path / "set" / name / "train" / "cat"
    stray.mkdir(parents=True)
    (stray / ("readme.txt" if name == "empty" else "0.png")).write_bytes(b"")
    assert parts_of(tmp_path / "set")[0] == ("cat", "dog")


def test_images_beside_the_parts_and_two_folders_of_one_part_are_refused(class_folders, tmp_path):
    for part in ("train", "test", "extra"):
        class_folders(tmp_path / "set" / part, {"cat": 3, "dog": 3})
    with pytest.raises(UserError, match=r"test and train are its parts, and extra beside them has images too"):
        open_dataset(folder(tmp_path / "set"))
    for part in ("train", "val", "valid", "test"):
        class_folders(tmp_path / "twice" / part, {"cat": 3, "dog": 3})
    with pytest.raises(UserError, match=r"both val and valid are its validation part; keep one"):
        open_dataset(folder(tmp_path / "twice"))


def test_a_class_may_be_called_train(class_folders, tmp_path):
    root = class_folders(tmp_path / "vehicles", {"car": 5, "plane": 5, "train": 5})
    assert parts_of(root)[0] == ("car", "plane", "train")


def test_copies_in_hidden_folders_and_shadows_of_files_are_no_images(class_folders, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 12, "dog": 12})
    shutil.copytree(root / "cat", root / "cat" / "deep" / ".ipynb_checkpoints")
    shutil.copytree(root / "cat", root / "cat" / "__MACOSX")
    (root / "cat" / "._000.png").write_bytes(b"Mac OS X")
    (root / "cat" / "album.png").mkdir()
    assert sum(parts_of(root)[1].values()) == 24


def test_a_linked_folder_is_read_and_a_circle_ends(class_folders, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 12, "dog": 12})
    class_folders(tmp_path / "elsewhere", {"more": 5})
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "cat" / "again").symlink_to(root / "cat")
    assert sum(parts_of(root)[1].values()) == 29


def test_a_link_to_the_folder_that_the_classes_lie_in_makes_no_class_of_the_others_images(class_folders, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 12, "dog": 7})
    (root / "cat" / "up").symlink_to("..")
    (root / "cat" / "all").symlink_to(tmp_path)
    assert sum(parts_of(root)[1].values()) == 19


def test_a_folder_lost_behind_a_link_is_named_and_a_lost_class_is_refused(class_folders, cache, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 12, "dog": 12})
    (root / "cat" / "2022").symlink_to("/nowhere/2022")
    found = labelled(MODEL, folder(root, split_shares=[0.0, 0.0, 1.0]), cache).test
    assert (found.count, [line.partition(": ")[0] for line in found.skipped]) == (24, ["cat/2022"])
    (root / "bird").symlink_to("/nowhere/bird")
    with pytest.raises(UserError, match=r"pets/bird: a link that leads nowhere, where class folders are"):
        open_dataset(folder(root))


def test_a_broken_link_and_a_name_that_is_no_text_are_named_and_the_rest_is_used(class_folders, cache, tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 12, "dog": 12})
    (root / "cat" / "x.jpg").symlink_to("nowhere")
    os.link(os.fsencode(root / "cat" / "000.png"), os.fsencode(root / "cat") + b"/caf\xe9.png")
    os.rename(root / "dog" / "000.png", os.fsencode(root / "dog") + b"/g\xe9.png")
    (root / "dog" / os.fsdecode(b"g\xe9.png")).write_bytes(b"no image")
    found = labelled(MODEL, folder(root, split_shares=[0.0, 0.0, 1.0]), cache).test
    assert found.count == 12 + 1 + 11
    assert [line.partition(": ")[0] for line in found.skipped] == ["cat/x.jpg", "dog/g\\xe9.png"]
    "".join(found.skipped).encode()  # can be printed


def grey(mode, low, high, **options):
    ramp = np.linspace(low, high, 40 * 40).reshape(40, 40)
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    return Image.fromarray(ramp.astype(kind))


@pytest.mark.parametrize(("top", "seen"), [(65535, 255), (32768, 128), (2570, 10)])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, top, seen):
    grey("I;16", 0, top).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        pixels = np.asarray(upright_rgb(image))
    assert pixels.min() == 0
    assert abs(int(pixels.max()) - seen) <= 1


@pytest.mark.parametrize(("mode", "said"), [("F", "mode F"), ("I", "mode I")])
def test_pixels_without_a_range_of_their_own_are_skipped_with_the_reason(tmp_path, mode, said):
    grey(mode, 0, 1000).save(tmp_path / "deep.tif")
    with Image.open(tmp_path / "deep.tif") as image, pytest.raises(ValueError, match=f"{said}.*no range of their own"):
        square(image, HOW, whole_image=False)


def test_transparent_pixels_are_white_whatever_colour_lies_behind_them(tmp_path):
    image = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    image.paste((0, 0, 200, 255), (0, 0, 20, 40))
    image.save(tmp_path / "a.png")
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 200, 200, 0, 0])
    palette.paste(0, (0, 0, 20, 40))
    palette.save(tmp_path / "p.png", transparency=bytes([255, 0]))
    for name in ("a.png", "p.png"):
        with Image.open(tmp_path / name) as found:
            pixels = np.asarray(upright_rgb(found))
        assert pixels[5, 5].tolist() == [0, 0, 200]
        assert pixels[5, 30].tolist() == [255, 255, 255]


def test_a_picture_is_turned_as_its_camera_noted(tmp_path):
    image = Image.new("RGB", (60, 40), "white")
    image.paste("black", (0, 0, 60, 10))  # a black top
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as found:
        pixels = np.asarray(upright_rgb(found))
    assert pixels.shape == (60, 40, 3)
    assert pixels[:, -5].max() == 0  # the top is at the right
    assert pixels[:, 5].min() == 255


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1)])
def test_a_long_strip_is_cut_before_it_is_enlarged(size, monkeypatch):
    strip = Image.new("RGB", size, "white")
    strip.paste(
        "black",
        tuple(length // 2 - (length > 1) * 20 for length in size)
        + tuple(length // 2 + 20 if length > 1 else 1 for length in size),
    )
    largest = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, to, *a, **k: (largest.append(max(to)), resize(image, to, *a, **k))[1]
    )
    assert square(strip, HOW, whole_image=False).max() == 0  # its middle
    assert max(largest) <= 36 * 8


def test_rows_without_a_label_are_left_out_and_counted(picture, cache, tmp_path):
    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["cat", "dog"])})
    rows = [{"img": picture(number), "fine": None if number in (3, 5) else number % 2} for number in range(20)]
    part = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "set")
    data = DataConfig(name="huggingface", path=str(tmp_path / "set"))
    found = labelled(MODEL, data, cache).test
    assert found.count == 18
    assert list(found.skipped) == ["test 3: it has no label", "test 5: it has no label"]
    assert sum(len(open_dataset(data).parts[name]) for name in ("train", "validation")) == 18
