"""Checked reading of a .tflite file: plain records of what it holds, or a ModelError.

The flatbuffers runtime verifies nothing, and a file may come from anywhere. Here every offset,
length and index is checked before it is followed, and the work is bounded by the file's size.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, Shape

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
MAX_FILE_BYTES = (1 << 31) - 1  # flatbuffers' own limit
MAX_RANK = 8
MAX_ELEMENTS = (1 << 31) - 1
MAX_EXPANDED_BYTES = 1 << 28  # of sparse and 4-bit constants together


def _names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if not k.startswith("_")}


BUILTIN_NAMES: Mapping[int, str] = _names(schema.BuiltinOperator)
TYPE_NAMES: Mapping[int, str] = _names(schema.TensorType)
OPTION_NAMES: Mapping[int, str] = _names(schema.BuiltinOptions)
OPTION2_NAMES: Mapping[int, str] = _names(schema.BuiltinOptions2)

# What one element of a tensor type takes in a buffer; INT4 is two to a byte.
ELEMENT_TYPES: Mapping[str, str] = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "<i1",
    "UINT8": "<u1",
    "INT16": "<i2",
    "UINT16": "<u2",
    "INT32": "<i4",
    "UINT32": "<u4",
    "INT64": "<i8",
    "UINT64": "<u8",
    "BOOL": "<u1",
}


# What a file holds


@dataclass(frozen=True, eq=False)
class FileQuant:
    """Quantization as stored: arrays may be empty, `axis` may be absurd; whoever uses it checks."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    details: int


@dataclass(frozen=True, eq=False)
class FileTensor:
    """A tensor. type: name in the schema, or a number. data: its constant, None where computed."""

    index: int
    name: str
    shape: Shape
    type: str
    quant: FileQuant | None
    data: Array | None
    is_variable: bool


@dataclass(frozen=True, eq=False)
class FileOperator:
    """An operator. code: the builtin's name, "CUSTOM:name" or "builtin number"; -1 is no tensor."""

    index: int
    code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Any  # a *OptionsT of the schema, or None


@dataclass(frozen=True, eq=False)
class FileSubgraph:
    name: str
    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TfliteFile:
    """A whole file; subgraph 0 is the model."""

    name: str
    subgraphs: tuple[FileSubgraph, ...]


# Flatbuffers, checked


@dataclass
class _Reader:
    """The bytes, and how much may still be read of them.

    In a sound file each part has bytes of its own. A file whose parts are shared could ask for more
    work and memory than its size allows; the budgets end that.
    """

    data: bytes
    tables_left: int = field(init=False)
    list_bytes_left: int = field(init=False)
    expanded_left: int = MAX_EXPANDED_BYTES

    def __post_init__(self) -> None:
        self.tables_left = len(self.data) // 4 + 16
        self.list_bytes_left = 4 * len(self.data)

    def expand(self, size: int, what: str) -> None:
        """Charges `size` bytes of memory that the file itself doesn't hold."""
        self.expanded_left -= size
        if self.expanded_left < 0:
            raise ModelError(
                f"{what} expands beyond {MAX_EXPANDED_BYTES >> 20} MB; allowed: smaller constants"
            )

    def unpack(self, code: str, position: int, what: str) -> Any:
        size = struct.calcsize(code)
        if position < 0 or position + size > len(self.data):
            raise damaged(f"{what} lies at byte {position} of {len(self.data)}")
        return struct.unpack_from(code, self.data, position)[0]

    def follow(self, position: int, what: str) -> int:
        """Where the offset stored at a position leads."""
        target = position + int(self.unpack("<I", position, what))
        if target >= len(self.data):
            raise damaged(f"{what} points to byte {target} of {len(self.data)}")
        return target

    def table(self, position: int, what: str) -> _Table:
        self.tables_left -= 1
        if self.tables_left < 0:
            raise damaged("its parts are shared beyond reason")
        vtable = position - int(self.unpack("<i", position, what))
        vtable_bytes = int(self.unpack("<H", vtable, f"the layout of {what}"))
        table_bytes = int(self.unpack("<H", vtable + 2, f"the layout of {what}"))
        whole = vtable_bytes >= 4 and vtable_bytes % 2 == 0 and table_bytes >= 4
        if not whole or vtable + vtable_bytes > len(self.data):
            raise damaged(f"the layout of {what} is broken")
        if position + table_bytes > len(self.data):
            raise damaged(f"{what} goes beyond the end")
        count = (vtable_bytes - 4) // 2
        offsets = struct.unpack_from(f"<{count}H", self.data, vtable + 4)
        if any(o and not 4 <= o < table_bytes for o in offsets):
            raise damaged(f"a field of {what} lies outside of it")
        return _Table(self, position, offsets, table_bytes, what)


def damaged(what: str) -> ModelError:
    return ModelError(f"the .tflite is damaged: {what}; get the file again or export it anew")


@dataclass(frozen=True)
class _Table:
    """A table whose layout was checked. Fields are asked for by their slot in the schema."""

    reader: _Reader
    position: int
    offsets: tuple[int, ...]
    size: int
    what: str

    def field(self, slot: int, size: int) -> int | None:
        """The position of a field that is present; its `size` bytes lie inside the table."""
        offset = self.offsets[slot] if slot < len(self.offsets) else 0
        if offset == 0:
            return None
        if offset + size > self.size:
            raise damaged(f"a field of {self.what} goes beyond it")
        return self.position + offset

    def number(self, slot: int, code: str, default: int = 0) -> int:
        position = self.field(slot, struct.calcsize(code))
        if position is None:
            return default
        return int(self.reader.unpack(code, position, self.what))

    def _vector(self, slot: int, item_bytes: int) -> tuple[int, int] | None:
        """(position of the first item, count) of a vector that lies inside the file."""
        position = self.field(slot, 4)
        if position is None:
            return None
        start = self.reader.follow(position, f"a list of {self.what}")
        count = int(self.reader.unpack("<I", start, f"a list of {self.what}"))
        if start + 4 + count * item_bytes > len(self.reader.data):
            raise damaged(f"a list of {self.what} has {count} items, more than the file holds")
        self.reader.list_bytes_left -= count * item_bytes
        if self.reader.list_bytes_left < 0:
            raise damaged("its parts are shared beyond reason")
        return start + 4, count

    def numbers(self, slot: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers, a view into the file; empty where absent."""
        kind = np.dtype(dtype)
        found = self._vector(slot, kind.itemsize)
        if found is None:
            return np.zeros(0, kind)
        return np.frombuffer(self.reader.data, kind, found[1], found[0])

    def string(self, slot: int) -> str:
        found = self._vector(slot, 1)
        if found is None:
            return ""
        start, count = found
        return self.reader.data[start : start + count].decode("utf-8", "replace")

    def table(self, slot: int, what: str) -> _Table | None:
        position = self.field(slot, 4)
        if position is None:
            return None
        return self.reader.table(self.reader.follow(position, what), what)

    def tables(self, slot: int, what: str) -> list[_Table]:
        found = self._vector(slot, 4)
        if found is None:
            return []
        start, count = found
        if count > self.reader.tables_left:
            raise damaged("its parts are shared beyond reason")
        parts = []
        for i in range(count):
            name = f"{what} {i}"
            target = self.reader.follow(start + 4 * i, name)
            parts.append(self.reader.table(target, name))
        return parts


# The schema, slot by slot


def read_file(source: Path | str | bytes, name: str | None = None) -> TfliteFile:
    """The records of a file, or of its bytes. ModelError where it is absent or damaged."""
    if isinstance(source, bytes):
        data, label = source, name or "model"
    else:
        path = Path(source)
        data, label = _bytes_of(path), name or path.stem
    if len(data) < 8:
        raise ModelError(f"the .tflite has only {len(data)} bytes; get the file again")
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"the .tflite has {len(data)} bytes; allowed: below 2 GiB")
    if data[4:8] != IDENTIFIER:
        raise ModelError(
            f"this is not a .tflite: bytes 4 to 8 are {data[4:8]!r}, expected {IDENTIFIER!r}"
        )
    reader = _Reader(data)
    model = reader.table(reader.follow(0, "the model"), "the model")
    version = model.number(0, "<I")
    if version != SCHEMA_VERSION:
        raise ModelError(f"the .tflite has schema version {version}; allowed: {SCHEMA_VERSION}")
    codes = [_code(t) for t in model.tables(1, "operator code")]
    buffers = [_buffer(t, reader) for t in model.tables(4, "buffer")]
    subgraphs = tuple(_subgraph(t, codes, buffers) for t in model.tables(2, "subgraph"))
    if not subgraphs:
        raise damaged("it has no subgraph")
    return TfliteFile(label, subgraphs)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        reason = e.strerror or type(e).__name__
        raise ModelError(f"the model {path} can't be read: {reason}") from e


def _code(table: _Table) -> tuple[str, int]:
    """(name, version) of an operator code; the larger of its two fields is the builtin."""
    builtin = max(table.number(0, "<b"), table.number(3, "<i"))
    version = table.number(2, "<i", 1)
    name = BUILTIN_NAMES.get(builtin, f"builtin {builtin}")
    if name == "CUSTOM":
        name = f"CUSTOM:{table.string(1)}"
    return name, version


def _buffer(table: _Table, reader: _Reader) -> NDArray[np.uint8]:
    """The bytes of a buffer, which may lie behind the flatbuffer."""
    offset, size = table.number(1, "<Q"), table.number(2, "<Q")
    if offset > 1:
        if offset + size > len(reader.data):
            raise damaged(f"{table.what} lies at bytes {offset} to {offset + size}")
        return np.frombuffer(reader.data, np.uint8, size, offset)
    return table.numbers(0, "<u1")


def _subgraph(
    table: _Table, codes: list[tuple[str, int]], buffers: list[NDArray[np.uint8]]
) -> FileSubgraph:
    tensors = tuple(_tensor(t, i, buffers) for i, t in enumerate(table.tables(0, "tensor")))

    def indices(values: NDArray[Any], what: str, absent: bool) -> tuple[int, ...]:
        lowest = -1 if absent else 0
        for i in values:
            if not lowest <= i < len(tensors):
                raise damaged(f"{what} names tensor {i} of {len(tensors)}")
        return tuple(int(i) for i in values)

    operators = []
    for i, t in enumerate(table.tables(3, "operator")):
        code = t.number(0, "<I")
        if code >= len(codes):
            raise damaged(f"{t.what} has operator code {code} of {len(codes)}")
        operators.append(
            FileOperator(
                i,
                codes[code][0],
                codes[code][1],
                indices(t.numbers(1, "<i4"), t.what, True),
                indices(t.numbers(2, "<i4"), t.what, False),
                indices(t.numbers(8, "<i4"), t.what, True),
                _options(t),
            )
        )
    inputs = indices(table.numbers(1, "<i4"), "the list of inputs", False)
    outputs = indices(table.numbers(2, "<i4"), "the list of outputs", False)
    return FileSubgraph(table.string(4), tensors, tuple(operators), inputs, outputs)


def _options(table: _Table) -> Any:
    """The options of an operator as the schema's *OptionsT, None where it has none."""
    for kind_slot, slot, names in ((3, 4, OPTION_NAMES), (11, 12, OPTION2_NAMES)):
        kind = table.number(kind_slot, "<B")
        options = table.table(slot, f"the options of {table.what}")
        if kind == 0 or options is None:
            continue
        maker = getattr(schema, f"{names.get(kind, '')}T", None)
        if maker is None:
            raise damaged(f"{table.what} has options of unknown kind {kind}")
        try:
            return maker.InitFromBuf(table.reader.data, options.position)
        except (struct.error, IndexError, ValueError, TypeError, OverflowError) as e:
            raise damaged(f"the options of {table.what} can't be read") from e
    return None


def _tensor(table: _Table, index: int, buffers: list[NDArray[np.uint8]]) -> FileTensor:
    name = table.string(3) or f"tensor_{index}"
    what = f"tensor {index} '{name}'"
    shape = _shape(table.numbers(0, "<i4"), what)
    kind = table.number(1, "<b")
    type_name = TYPE_NAMES.get(kind, f"type {kind}")
    buffer = table.number(2, "<I")
    if buffer >= max(len(buffers), 1):
        raise damaged(f"{what} has buffer {buffer} of {len(buffers)}")
    if table.number(10, "<I"):
        raise ModelError(f"{what} is kept in another file; allowed: models in one file")
    stored = buffers[buffer] if buffers else np.zeros(0, np.uint8)
    sparsity = table.table(6, f"the sparsity of {what}")
    data: Array | None = None
    if sparsity is not None:
        table.reader.expand(elements(shape) * 8, what)
        data = _densify(sparsity, stored, shape, type_name, what)
    elif buffer and (stored.size or 0 in shape):
        if type_name in ("INT4", "BOOL"):
            table.reader.expand(elements(shape), what)
        data = _constant(stored, shape, type_name, what)
    quant = table.table(4, f"the quantization of {what}")
    return FileTensor(
        index,
        name,
        shape,
        type_name,
        None if quant is None else _quant(quant),
        data,
        bool(table.number(5, "<B")),
    )


def _shape(dims: NDArray[Any], what: str) -> Shape:
    """The dimensions as stored. The signature beside them, with -1 for free ones, is not needed."""
    if len(dims) > MAX_RANK:
        raise ModelError(f"{what} has rank {len(dims)}; allowed: up to {MAX_RANK}")
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise ModelError(
            f"{what} has shape {list(shape)}; allowed: fixed sizes; set the input's shape on export"
        )
    if elements(shape) > MAX_ELEMENTS:
        raise ModelError(f"{what} has shape {list(shape)}; allowed: up to {MAX_ELEMENTS} elements")
    return shape


def elements(shape: Shape) -> int:
    """How many elements; exact where numpy's product would wrap."""
    count = 1
    for d in shape:
        count *= d
    return count


def _quant(table: _Table) -> FileQuant:
    return FileQuant(
        table.numbers(2, "<f4"),
        table.numbers(3, "<i8"),
        table.number(6, "<i"),
        table.number(4, "<B"),
    )


def _constant(stored: NDArray[np.uint8], shape: Shape, kind: str, what: str) -> Array | None:
    """The constant of a dense buffer; None for types that have no numbers."""
    count = elements(shape)
    if kind == "INT4":
        _check_size(stored, (count + 1) // 2, shape, kind, what)
        low = (stored & 0x0F).astype(np.int8)
        high = (stored >> 4).astype(np.int8)
        nibbles = np.stack([low, high], axis=1).reshape(-1)[:count]
        return np.asarray(np.where(nibbles > 7, nibbles - 16, nibbles), np.int8).reshape(shape)
    if kind not in ELEMENT_TYPES:
        return None
    dtype = np.dtype(ELEMENT_TYPES[kind])
    _check_size(stored, count * dtype.itemsize, shape, kind, what)
    array = stored.view(dtype).reshape(shape)
    if kind == "BOOL":
        return np.asarray(array != 0)
    return np.asarray(array, dtype.newbyteorder("="))


def _check_size(stored: NDArray[np.uint8], want: int, shape: Shape, kind: str, what: str) -> None:
    if stored.size != want:
        raise damaged(
            f"{what} is {kind}{list(shape)}, {want} bytes, but its buffer has {stored.size}"
        )


# Sparse constants

_DENSE_DIMENSION = 0  # DimensionType.DENSE


def _densify(
    table: _Table, stored: NDArray[np.uint8], shape: Shape, kind: str, what: str
) -> Array | None:
    """The dense constant of a sparse one: TFLite's FormatConverter::SparseToDense."""
    if kind not in ELEMENT_TYPES:
        raise ModelError(f"{what} is sparse of type {kind}; allowed: {', '.join(ELEMENT_TYPES)}")
    order = [int(i) for i in table.numbers(0, "<i4")]
    block_map = [int(i) for i in table.numbers(1, "<i4")]
    levels = table.tables(2, f"the dimensions of {what}")
    rank = len(shape)
    sound = (
        sorted(order) == list(range(rank + len(block_map)))
        and len(levels) == len(order)
        and all(0 <= d < rank for d in block_map)
        and len(set(block_map)) == len(block_map)
    )
    if not sound:
        raise damaged(f"the sparsity of {what} does not fit its shape {list(shape)}")
    coordinates = _coordinates(levels, elements(shape), what)
    dtype = np.dtype(ELEMENT_TYPES[kind])
    if stored.size != coordinates.shape[1] * dtype.itemsize:
        raise damaged(
            f"{what} has {coordinates.shape[1]} sparse values of {dtype.itemsize} bytes, "
            f"but its buffer has {stored.size}"
        )
    place = np.zeros((rank, coordinates.shape[1]), np.int64)
    sizes = {order[i]: levels[i].number(1, "<i") for i in range(len(order))}
    for level, dimension in enumerate(order):
        if dimension < rank:
            scale = 1
            if dimension in block_map:
                scale = max(sizes[rank + block_map.index(dimension)], 1)
            place[dimension] += coordinates[level] * scale
        else:
            place[block_map[dimension - rank]] += coordinates[level]
    if any(np.any((place[d] < 0) | (place[d] >= shape[d])) for d in range(rank)):
        raise damaged(f"a sparse value of {what} lies outside of its shape {list(shape)}")
    dense = np.zeros(shape, dtype)
    dense[tuple(place)] = stored.view(dtype)
    if kind == "BOOL":
        dense = dense != 0
    return np.asarray(dense, dense.dtype.newbyteorder("="))


def _coordinates(levels: list[_Table], limit: int, what: str) -> NDArray[np.int64]:
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


_INDEX_TYPES = {1: "<i4", 2: "<u2", 3: "<u1"}  # SparseIndexVector: Int32, Uint16, Uint8


def _sparse_index(level: _Table, kind_slot: int, slot: int) -> NDArray[np.int64]:
    kind = level.number(kind_slot, "<B")
    vector = level.table(slot, f"an index of {level.what}")
    if vector is None or kind not in _INDEX_TYPES:
        raise damaged(f"{level.what} has no index")
    return vector.numbers(0, _INDEX_TYPES[kind]).astype(np.int64)
