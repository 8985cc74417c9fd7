"""What a .tflite file holds, as plain records; a ModelError where it is damaged."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.flatbuffer import MAX_EXPANDED_BYTES, Reader, Table, damaged
from tinsmith.pipeline.frontends.tflite_sparse import densify
from tinsmith.pipeline.graph import Array, Shape

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
MAX_FILE_BYTES = (1 << 31) - 1  # flatbuffers' own limit
MAX_RANK = 8
MAX_ELEMENTS = (1 << 31) - 1


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
    """An operator. code: the builtin's name, "CUSTOM:name" or "builtin number"; -1 is no tensor.

    as_uint8: it computed in uint8 before its tensors were shifted to int8.
    """

    index: int
    code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Any  # a *OptionsT of the schema, or None
    as_uint8: bool = False


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
    reader = Reader(data)
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


def _code(table: Table) -> tuple[str, int]:
    """(name, version) of an operator code; the larger of its two fields is the builtin."""
    builtin = max(table.number(0, "<b"), table.number(3, "<i"))
    version = table.number(2, "<i", 1)
    name = BUILTIN_NAMES.get(builtin, f"builtin {builtin}")
    if name == "CUSTOM":
        name = f"CUSTOM:{table.string(1)}"
    return name, version


def _buffer(table: Table, reader: Reader) -> NDArray[np.uint8]:
    """The bytes of a buffer, which may lie behind the flatbuffer."""
    offset, size = table.number(1, "<Q"), table.number(2, "<Q")
    if offset > 1:
        if offset + size > len(reader.data):
            raise damaged(f"{table.what} lies at bytes {offset} to {offset + size}")
        return np.frombuffer(reader.data, np.uint8, size, offset)
    return table.numbers(0, "<u1")


def _subgraph(
    table: Table, codes: list[tuple[str, int]], buffers: list[NDArray[np.uint8]]
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


def _options(table: Table) -> Any:
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


def _tensor(table: Table, index: int, buffers: list[NDArray[np.uint8]]) -> FileTensor:
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
        data = _sparse(sparsity, stored, shape, type_name, what)
    elif buffer and (stored.size or 0 in shape):
        if type_name in ("INT4", "BOOL"):
            table.reader.expand(math.prod(shape), what)
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
    if math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(f"{what} has shape {list(shape)}; allowed: up to {MAX_ELEMENTS} elements")
    return shape


def _quant(table: Table) -> FileQuant:
    return FileQuant(
        table.numbers(2, "<f4"),
        table.numbers(3, "<i8"),
        table.number(6, "<i"),
        table.number(4, "<B"),
    )


def _constant(stored: NDArray[np.uint8], shape: Shape, kind: str, what: str) -> Array | None:
    """The constant of a dense buffer; None for types that have no numbers."""
    count = math.prod(shape)
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


def _sparse(
    sparsity: Table, stored: NDArray[np.uint8], shape: Shape, kind: str, what: str
) -> Array:
    if kind not in ELEMENT_TYPES:
        raise ModelError(f"{what} is sparse of type {kind}; allowed: {', '.join(ELEMENT_TYPES)}")
    dtype = np.dtype(ELEMENT_TYPES[kind])
    sparsity.reader.expand(math.prod(shape) * dtype.itemsize, what)
    dense = densify(sparsity, stored, shape, dtype, what)
    return np.asarray(dense != 0) if kind == "BOOL" else dense


def _check_size(stored: NDArray[np.uint8], want: int, shape: Shape, kind: str, what: str) -> None:
    if stored.size != want:
        raise damaged(
            f"{what} is {kind}{list(shape)}, {want} bytes, but its buffer has {stored.size}"
        )
    if math.prod(d for d in shape if d) > MAX_EXPANDED_BYTES:
        raise damaged(f"{what} has no elements, but the shape {list(shape)}")
