"""ONNX files as checked values: nothing behind this module meets a damaged file.

Sizes are compared with limits and with what the file holds before anything is allocated, and
external data is read only from inside the model's own folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, TensorProto

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, Node, Shape, topological_order

MAX_ELEMENTS = 1 << 27  # of one tensor: far above what any target holds
MIN_OPSET = 13

Source = str | Path | bytes | ModelProto


@dataclass(frozen=True)
class OnnxNode:
    """A node with its attributes decoded; an absent optional input or output is the empty name."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    proto: NodeProto

    def has_input(self, i: int) -> bool:
        return i < len(self.inputs) and bool(self.inputs[i])


@dataclass(frozen=True)
class OnnxInput:
    """A graph input. dims: None where the model leaves a dimension open."""

    name: str
    dims: tuple[int | None, ...]
    elem_type: int


@dataclass(frozen=True)
class OnnxModel:
    """A model with its nodes in topological order and its initializers as arrays."""

    name: str
    opset: int
    ir_version: int
    nodes: tuple[OnnxNode, ...]
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Array]


def load_model(source: Source) -> OnnxModel:
    """The model of a path, of a file's bytes or of a ModelProto; ModelError where it is damaged."""
    proto, folder = _parse(source)
    if proto.functions:
        proto = _inline_functions(proto)
    graph = proto.graph
    _check_names(graph)
    if not graph.output or not (graph.node or graph.initializer):
        raise ModelError(
            "the ONNX model has no graph with outputs; the file is truncated or is no ONNX model"
        )
    if graph.sparse_initializer:
        raise ModelError("the ONNX model has sparse initializers; allowed: dense ones")
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise ModelError(f"two initializers are called '{tensor.name}'")
        constants[tensor.name] = tensor_array(tensor, folder)
    inputs = tuple(_input(v) for v in graph.input if v.name not in constants)
    nodes = _sort(_nodes(graph.node), {*constants, *(i.name for i in inputs)})
    outputs = tuple(v.name for v in graph.output)
    known = {*constants, *(i.name for i in inputs), *(o for n in nodes for o in n.outputs)}
    for name in outputs:
        if name not in known:
            raise ModelError(f"output '{name}' of the ONNX model is computed by no node")
    return OnnxModel(
        graph.name or "model", _opset(proto), proto.ir_version, nodes, inputs, outputs, constants
    )


def _parse(source: Source) -> tuple[ModelProto, Path | None]:
    if isinstance(source, ModelProto):
        return source, None
    folder = None
    data: bytes
    if isinstance(source, bytes):
        data, what = source, "the ONNX model"
    else:
        path = Path(source)
        what = f"'{path}'"
        try:
            data = path.read_bytes()
        except OSError as e:
            raise ModelError(f"{what} can't be read: {e.strerror or e}") from e
        folder = path.parent
    if not data:
        raise ModelError(f"{what} is empty")
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as e:
        raise ModelError(f"{what} is no ONNX model, or is truncated or damaged: {e}") from e
    return proto, folder


def _check_names(graph: onnx.GraphProto) -> None:
    """protobuf gives bytes for text that is no UTF-8, which is no text to it but passes as it."""
    names: list[object] = [graph.name]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [a.name for a in node.attribute]
    for values in (graph.initializer, graph.input, graph.output):
        names += [v.name for v in values]
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"the ONNX model has a name that is no UTF-8: {name!r:.60}")


def _inline_functions(proto: ModelProto) -> ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError) as e:
        raise ModelError(f"the functions of the ONNX model can't be inlined: {e}") from e


def _opset(proto: ModelProto) -> int:
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise ModelError("the ONNX model names no opset of the domain ai.onnx")
    if not MIN_OPSET <= versions[0] <= newest:
        raise ModelError(
            f"the ONNX model uses opset {versions[0]}; allowed: {MIN_OPSET} to {newest}; "
            "convert it with onnx.version_converter.convert_version"
        )
    return int(versions[0])


def _input(value: onnx.ValueInfoProto) -> OnnxInput:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ModelError(f"input '{value.name}' is a {kind or 'value without a type'}, no tensor")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelError(f"input '{value.name}' has no shape; export the model with a fixed shape")
    dims = tuple(
        int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in tensor.shape.dim
    )
    return OnnxInput(value.name, dims, tensor.elem_type)


def _nodes(protos: Iterable[NodeProto]) -> tuple[OnnxNode, ...]:
    nodes: list[OnnxNode] = []
    names: set[str] = set()
    for i, proto in enumerate(protos):
        name = base = proto.name or f"{proto.op_type}_{i}"
        count = 1
        while name in names:
            name, count = f"{base}_{count}", count + 1
        names.add(name)
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        try:
            attrs = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        except ValueError as e:
            raise ModelError(f"{proto.op_type} '{name}': {e}") from e
        nodes.append(
            OnnxNode(
                name,
                proto.op_type,
                domain,
                tuple(proto.input),
                tuple(proto.output),
                {k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v
                 for k, v in attrs.items()},
                proto,
            )
        )  # fmt: skip
    return tuple(nodes)


def _sort(nodes: Sequence[OnnxNode], known: set[str]) -> tuple[OnnxNode, ...]:
    """Nodes in topological order, the given order kept where it can be."""
    sources = dict.fromkeys(known, "an input or initializer")
    for node in nodes:
        for out in filter(None, node.outputs):
            if out in sources:
                raise ModelError(
                    f"{node.op} '{node.name}': '{out}' is computed twice: by {sources[out]} too"
                )
            sources[out] = f"'{node.name}'"
    for node in nodes:
        for name in filter(None, node.inputs):
            if name not in sources:
                raise ModelError(f"{node.op} '{node.name}': nothing computes its input '{name}'")
    order = topological_order([Node(n.name, n.op, n.inputs, n.outputs) for n in nodes])
    by_name = {n.name: n for n in nodes}
    return tuple(by_name[n.name] for n in order)


def tensor_array(tensor: TensorProto, folder: Path | None = None) -> Array:
    """The array of an ONNX tensor; ModelError where its size is not what its shape says."""
    label = f"initializer '{tensor.name}'"
    dims = check_shape(label, tensor.dims)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError) as e:
        raise ModelError(f"{label} has the unknown type {tensor.data_type}") from e
    if dtype.hasobject or tensor.data_type == TensorProto.STRING:
        raise ModelError(f"{label} holds strings; allowed: numbers")
    if tensor.data_location == TensorProto.EXTERNAL:
        data = _external_bytes(tensor, label, math.prod(dims) * dtype.itemsize, folder)
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(dims)
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, RuntimeError) as e:
        raise ModelError(
            f"{label}: its data does not fill its shape {list(dims)} of {dtype.name}: {e}"
        ) from e


def check_shape(label: str, dims: Iterable[int]) -> Shape:
    """The shape as a tuple; ModelError where it is negative or beyond MAX_ELEMENTS."""
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise ModelError(f"{label} has the shape {list(shape)} with a negative dimension")
    if math.prod(d or 1 for d in shape) > MAX_ELEMENTS:
        raise ModelError(
            f"{label} has the shape {list(shape)}; allowed: up to {MAX_ELEMENTS} elements"
        )
    return shape


def _external_bytes(tensor: TensorProto, label: str, nbytes: int, folder: Path | None) -> bytes:
    fields = {e.key: e.value for e in tensor.external_data}
    location = fields.get("location", "")
    if folder is None:
        raise ModelError(
            f"{label} is kept in the file '{location}' beside the model; read it by path"
        )
    base = folder.resolve()
    path = (base / location).resolve()
    if not location or not path.is_relative_to(base):
        raise ModelError(
            f"{label}: external data '{location}' is outside the model's folder; not allowed"
        )
    try:
        offset = int(fields.get("offset") or 0)
        length = int(fields.get("length") or nbytes)
    except ValueError as e:
        raise ModelError(f"{label}: offset or length of its external data is no number") from e
    if length != nbytes or offset < 0:
        raise ModelError(f"{label}: external data of {length} bytes, expected {nbytes}")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data: bytes = file.read(nbytes)
    except OSError as e:
        raise ModelError(
            f"{label}: external data '{location}' can't be read: {e.strerror or e}"
        ) from e
    if len(data) != nbytes:
        raise ModelError(
            f"{label}: '{location}' ends {nbytes - len(data)} bytes early; "
            "it is truncated or belongs to another model"
        )
    return data
