"""Sparse constants of .tflite files, made dense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.frontends.flatbuffer import Table, damaged
from tinsmith.pipeline.graph import Array, Shape

_DENSE_DIMENSION = 0  # DimensionType.DENSE


def densify(
    table: Table, stored: NDArray[np.uint8], shape: Shape, dtype: np.dtype[Any], what: str
) -> Array:
    """The dense constant of a sparse one: TFLite's FormatConverter::SparseToDense.

    table: the SparsityParameters. stored: the bytes of the values that are kept, of `dtype`.
    """
    order = [int(i) for i in table.numbers(0, "<i4")]
    block_map = [int(i) for i in table.numbers(1, "<i4")]
    levels = table.tables(2, f"the dimensions of {what}")
    sound = (
        sorted(order) == list(range(len(shape) + len(block_map)))
        and len(levels) == len(order)
        and all(0 <= d < len(shape) for d in block_map)
        and len(set(block_map)) == len(block_map)
    )
    if not sound:
        raise damaged(f"the sparsity of {what} does not fit its shape {list(shape)}")
    coordinates = _coordinates(levels, math.prod(shape), what)
    if stored.size != coordinates.shape[1] * dtype.itemsize:
        raise damaged(
            f"{what} has {coordinates.shape[1]} sparse values of {dtype.itemsize} bytes, "
            f"but its buffer has {stored.size}"
        )
    sizes = {order[i]: level.number(1, "<i") for i, level in enumerate(levels)}
    place = np.zeros((len(shape), coordinates.shape[1]), np.int64)
    for own, dimension in zip(coordinates, order, strict=True):
        if dimension >= len(shape):  # inside a block
            place[block_map[dimension - len(shape)]] += own
        elif dimension in block_map:
            place[dimension] += own * sizes[len(shape) + block_map.index(dimension)]
        else:
            place[dimension] += own
    if any(np.any((at < 0) | (at >= size)) for at, size in zip(place, shape, strict=True)):
        raise damaged(f"a sparse value of {what} lies outside of its shape {list(shape)}")
    dense = np.zeros(shape, dtype)
    dense[tuple(place)] = stored.view(dtype)
    return dense


def _coordinates(levels: list[Table], limit: int, what: str) -> NDArray[np.int64]:
    """The coordinate at every level, in storage order, of each stored value: [levels, values]."""
    coordinates = np.zeros((0, 1), np.int64)
    for level in levels:
        parents = coordinates.shape[1]
        if level.number(0, "<b") == _DENSE_DIMENSION:
            size = level.number(1, "<i")
            if size < 0 or parents * size > limit:
                raise damaged(f"{level.what} has {size} for {parents}, beyond the tensor's size")
            repeated = np.repeat(coordinates, size, axis=1)
            own = np.tile(np.arange(size, dtype=np.int64), parents)
        else:
            segments = _sparse_index(level, 2, 3)
            own = _sparse_index(level, 4, 5)
            sound = (
                len(segments) == parents + 1
                and segments[0] == 0
                and np.all(np.diff(segments) >= 0)
                and segments[-1] == len(own)
                and len(own) <= limit
            )
            if not sound:
                raise damaged(f"the segments of {level.what} are broken")
            repeated = np.repeat(coordinates, np.diff(segments), axis=1)
        coordinates = np.concatenate([repeated, own[None]])
    return coordinates


_INDEX_TYPES: Mapping[int, str] = {
    1: "<i4",
    2: "<u2",
    3: "<u1",
}  # SparseIndexVector: Int32, Uint16, Uint8


def _sparse_index(level: Table, kind_slot: int, slot: int) -> NDArray[np.int64]:
    kind = level.number(kind_slot, "<B")
    vector = level.table(slot, f"an index of {level.what}")
    if vector is None or kind not in _INDEX_TYPES:
        raise damaged(f"{level.what} has no index")
    return vector.numbers(0, _INDEX_TYPES[kind]).astype(np.int64)
