"""Folders of labelled files: `train/<class>/*` and `test/<class>/*`, one folder a class."""

from collections.abc import Sequence
from pathlib import Path

from tinsmith.pipeline.errors import DataError

SPLITS = ("train", "test")

LabelledFiles = Sequence[tuple[Path, int]]


def class_names(path: Path) -> list[str]:
    """The classes: the folders of `train`, in alphabetical order; hidden ones don't count."""
    return _folders(path / "train")


def labelled_files(path: Path, suffixes: Sequence[str], what: str) -> dict[str, LabelledFiles]:
    """The files of each split with the numbers of their classes, in the order of names.

    what: what the files are, as messages call them: "images". Raises DataError where a folder, a
    class or its files are missing.
    """
    if not path.is_dir():
        raise DataError(f"[data] path: there is no folder '{path}'")
    missing = [split for split in SPLITS if not (path / split).is_dir()]
    if missing:
        raise DataError(
            f"[data] path: '{path}' has no folder {' and no folder '.join(missing)}; needed: "
            f"train/<class>/ and test/<class>/ with the {what}"
        )
    classes = class_names(path)
    if len(classes) < 2:
        raise DataError(
            f"'{path / 'train'}' has {len(classes)} folders of {what}; needed: at least two "
            "classes, a folder each"
        )
    unknown = sorted(set(_folders(path / "test")) - set(classes))
    if unknown:
        raise DataError(
            f"'{path / 'test'}': no {what} to train on of {', '.join(unknown[:10])}; classes are "
            f"the folders of train: {', '.join(classes)}"
        )
    return {
        split: _files(path / split, classes, suffixes, what, each=split == "train")
        for split in SPLITS
    }


def files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a folder that end so, in the order of names; none where there is no folder."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [p for p in inside if p.suffix.lower() in suffixes and not p.name.startswith(".")]


def _folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(
    folder: Path, classes: Sequence[str], suffixes: Sequence[str], what: str, each: bool
) -> LabelledFiles:
    """The files of one split. each: whether each class has to have some."""
    found: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        files = files_in(folder / name, suffixes)
        if not files and each:
            raise DataError(f"'{folder / name}' has no {what}; files end in {', '.join(suffixes)}")
        found += [(file, label) for file in files]
    if not found:
        raise DataError(f"'{folder}' has no {what}; files end in {', '.join(suffixes)}")
    return found
