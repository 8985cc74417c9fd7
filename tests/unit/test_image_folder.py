"""Images from folders: what comes out, and what is said of what doesn't fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="images are read by Pillow")

from tinsmith.pipeline.config import Data  # noqa: E402
from tinsmith.pipeline.data import read_dataset  # noqa: E402
from tinsmith.pipeline.errors import DataError  # noqa: E402
from tinsmith.pipeline.image_folder import read_image_folder  # noqa: E402


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, cat and dog, of 6 x 5 colour images: 3 each to train on, 2 each to test."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                pixels = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
                save(tmp_path / split / name / f"{i}.png", pixels)
    return tmp_path


def test_images_come_with_the_numbers_of_their_folders(folder: Path) -> None:
    (x, y), (x_test, y_test) = read_image_folder(folder)
    assert x.shape == (6, 6, 5, 3)
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    assert x_test.shape[0] == 4
    assert y_test.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(x[4], np.asarray(Image.open(folder / "train/dog/1.png")))


def test_grey_images_have_one_channel_and_a_coloured_one_makes_all_three(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        save(path, np.asarray(Image.open(path).convert("L")))
    assert read_image_folder(folder)[0][0].shape == (6, 6, 5, 1)
    save(folder / "test/dog/9.png", np.zeros((6, 5, 3), np.uint8))
    assert read_image_folder(folder)[0][0].shape == (6, 6, 5, 3)


def test_hidden_and_other_files_are_passed_over(folder: Path) -> None:
    (folder / "train/cat/notes.txt").write_text("not an image")
    (folder / "train/.cache").mkdir()
    (folder / "train/cat/._1.png").write_bytes(b"\0")
    assert len(read_image_folder(folder)[0][1]) == 6


def test_a_folder_is_a_source_of_data(folder: Path) -> None:
    dataset = read_dataset(Data(source="folder", path=folder), 0)
    assert dataset.classes == 2
    assert dataset.train.x.shape == (6, 6, 5, 3)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[data\] path: there is no folder '.*nowhere'"):
        read_image_folder(tmp_path / "nowhere")


def test_a_split_that_is_missing_is_refused(folder: Path) -> None:
    (folder / "test").rename(folder / "validation")
    with pytest.raises(DataError, match="has no folder test; needed: train/<class>/ and test/"):
        read_image_folder(folder)


def test_one_class_is_refused(folder: Path) -> None:
    (folder / "train/dog").rename(folder / "dog")
    with pytest.raises(DataError, match="train' has 1 folders of images; needed: at least two"):
        read_image_folder(folder)


def test_a_class_that_only_the_test_has_is_refused(folder: Path) -> None:
    save(folder / "test/emu/0.png", np.zeros((6, 5, 3), np.uint8))
    with pytest.raises(DataError, match="no images to train on of emu; classes are the folders"):
        read_image_folder(folder)


def test_an_empty_class_is_refused(folder: Path) -> None:
    (folder / "train/emu").mkdir()
    with pytest.raises(DataError, match=r"emu' has no images; files end in \.png"):
        read_image_folder(folder)


def test_a_damaged_image_is_named(folder: Path) -> None:
    path = folder / "train/dog/2.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"dog/2.png' can't be read as an image"):
        read_image_folder(folder)
    path.write_bytes(b"GIF?")
    with pytest.raises(DataError, match=r"dog/2.png' can't be read as an image"):
        read_image_folder(folder)


def test_images_of_several_sizes_are_refused(folder: Path) -> None:
    save(folder / "train/dog/2.png", np.zeros((6, 7, 3), np.uint8))
    with pytest.raises(DataError, match=r"dog/2.png' is 6 x 7 x 3 but .* is 6 x 5 x 3; make all"):
        read_image_folder(folder)
