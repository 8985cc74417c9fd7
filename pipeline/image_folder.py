"""Labelled images from folders: `train/<class>/*.png`, `test/<class>/*.png`, one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.class_folders import SPLITS, LabelledFiles, labelled_files
from tinsmith.pipeline.errors import DataError, ToolMissing

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")

if TYPE_CHECKING:
    from PIL.Image import Image as _PillowImage

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_image_folder(path: Path) -> tuple[Labelled, Labelled]:
    """Images uint8 [N, H, W, C] and labels [N] to train on and to test, in the order of names.

    Labels count the folders of `train` in alphabetical order. C is 1 where every image is grey,
    else 3. Raises DataError where folders, images or sizes don't fit together.
    """
    files = labelled_files(path, SUFFIXES, "images")
    channels = 1 if all(map(_is_grey, _paths([*files["train"], *files["test"]]))) else 3
    train, test = (_read(files[split], channels) for split in SPLITS)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"'{path}': the images of train are {_size(train[0])} but those of test "
            f"{_size(test[0])}; make them one size"
        )
    return train, test


def _paths(files: LabelledFiles) -> list[Path]:
    return [path for path, _ in files]


# How Pillow calls pixels of more than 8 bits, or of floats; it would clip them at 255.
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


def _is_grey(path: Path) -> bool:
    """Whether an image is grey. Raises DataError where its pixels have more than 8 bits."""
    mode = _opened(path).mode
    if mode in _DEEP:
        raise DataError(
            f"'{path}': its pixels have more than 8 bits (Pillow's mode {mode}); allowed: 8 bits, "
            "grey or in colour; convert it, or read it by a function of your own "
            '([data] source = "python")'
        )
    return mode in ("1", "L", "LA")


def _read(files: LabelledFiles, channels: int) -> Labelled:
    images = []
    for path, _ in files:
        try:
            pixels = np.asarray(_opened(path).convert("L" if channels == 1 else "RGB"))
        except (OSError, SyntaxError, ValueError) as e:
            raise DataError(f"'{path}' can't be read as an image: {e}") from e
        images.append(pixels.reshape(*pixels.shape[:2], channels))
        if images[-1].shape != images[0].shape:
            raise DataError(
                f"'{path}' is {_size(images[-1][None])} but '{files[0][0]}' is "
                f"{_size(images[0][None])}; make all images one size"
            )
    labels = np.array([label for _, label in files], np.int64)
    return np.stack(images).astype(np.uint8), labels


def _opened(path: Path) -> _PillowImage:
    try:
        from PIL import Image
    except ImportError as e:
        raise ToolMissing(
            "[data] source = \"folder\" needs the package Pillow: pip install 'tinsmith[train]'"
        ) from e
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise DataError(f"'{path}' can't be read as an image: {e}") from e


def _size(images: NDArray[np.uint8]) -> str:
    return " x ".join(map(str, images.shape[1:]))
