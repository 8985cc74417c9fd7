"""A data set that a user's own function gives, checked array by array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.config import Data
from tinsmith.pipeline.config.values import CodeRef
from tinsmith.pipeline.data_files import finite_floats, whole_labels
from tinsmith.pipeline.errors import DataError
from tinsmith.pipeline.user_code import folder_on_path, user_function, users_own

_FORM = "((x_train, y_train), (x_test, y_test))"

# Samples, labels, the names of their tasks, and what errors call them.
Part = tuple[NDArray[Any], NDArray[np.int64], tuple[str, ...], str]


def data_function(data: Data) -> CodeRef:
    """The file and the function that [data] path names: "data.py:load"."""
    assert data.path is not None, "the configuration demands a path for this source"
    file, _, name = data.path.name.rpartition(":")
    return CodeRef(path=data.path.with_name(file), attribute=name)


def read_user_data(data: Data) -> tuple[Part, Part]:
    """Call the function with [data] arguments; result: training and test samples with labels.

    Samples are uint8, which are not checked yet, or finite float32 [N, ...]; labels are whole
    numbers [N], or [N, tasks] of several tasks, which may also be a mapping task -> labels [N]; in
    an array they are called task1, task2, ... Raises DataError for what the function raises, with
    file and line, and for a result of another form.
    """
    ref = data_function(data)
    where = f"[data] path '{ref.path}:{ref.attribute}'"
    function = user_function(ref, where)
    with (
        users_own(ref.path, f"{where}: the function failed", DataError),
        folder_on_path(ref.path.parent),
    ):
        result = function(**data.arguments)
    parts = result if isinstance(result, (tuple, list)) else ()
    pairs = [part for part in parts if isinstance(part, (tuple, list)) and len(part) == 2]
    if len(parts) != 2 or len(pairs) != 2:
        raise DataError(f"{where}: it gives {_form_of(result)}; needed: {_FORM}")
    train, test = (
        _checked(x, y, f"'{ref.path}:{ref.attribute}', {name}")
        for name, (x, y) in zip(("train", "test"), pairs, strict=True)
    )
    return train, test


def _checked(x: Any, y: Any, where: str) -> Part:
    samples = _array(x, f"{where}: samples")
    if samples.dtype != np.uint8:
        samples = finite_floats(samples, where)
    return samples, *_labels(y, where), where


def _labels(y: Any, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels [N] or [N, tasks], and what the tasks are called."""
    if isinstance(y, Mapping):
        return _named_labels(y, where)
    array = _array(y, f"{where}: labels")
    if array.ndim != 2:
        return whole_labels(array, where), ("",)
    if array.shape[1] == 0:
        raise DataError(f"{where}: labels are of no task; needed: (N,) or (N, tasks)")
    named = {f"task{place}": column for place, column in enumerate(array.T, 1)}
    return _named_labels(named, where)


def _named_labels(y: Mapping[Any, Any], where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    columns: dict[str, NDArray[np.int64]] = {}
    for name, labels in y.items():
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            raise DataError(
                f"{where}: labels {name!r}: a task is called by letters, digits and _, not "
                "starting with a digit"
            )
        place = f"{where}: labels '{name}'"
        columns[name] = whole_labels(_array(labels, place), place)
    counts = {name: len(column) for name, column in columns.items()}
    if not counts or len(set(counts.values())) > 1:
        raise DataError(f"{where}: labels by task are {counts}; needed: one or more, equally many")
    parts = tuple(columns.values())
    return (np.stack(parts, axis=1) if len(parts) > 1 else parts[0]), tuple(columns)


def _array(value: Any, where: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as e:
        raise DataError(f"{where} are no array: {e}") from e
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where} are {array.dtype}; allowed: arrays of numbers")
    return array


def _form_of(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"({', '.join(type(item).__name__ for item in value)})"
    return type(value).__name__
