"""A .tflite being written: tensors, buffers and operators in the schema's object API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Activation, Array, DType, Graph, QuantParams, Tensor
from tinsmith.pipeline.ops import OpCall

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # the schema's force_align of Buffer.data

TENSOR_TYPES: Mapping[DType, int] = {
    DType.FLOAT32: schema.TensorType.FLOAT32,
    DType.INT8: schema.TensorType.INT8,
    DType.UINT8: schema.TensorType.UINT8,
    DType.INT16: schema.TensorType.INT16,
    DType.INT32: schema.TensorType.INT32,
    DType.INT64: schema.TensorType.INT64,
    DType.BOOL: schema.TensorType.BOOL,
}

ACTIVATIONS: Mapping[Activation, int] = {
    Activation.NONE: schema.ActivationFunctionType.NONE,
    Activation.RELU: schema.ActivationFunctionType.RELU,
    Activation.RELU6: schema.ActivationFunctionType.RELU6,
    Activation.RELU_N1_TO_1: schema.ActivationFunctionType.RELU_N1_TO_1,
}


class _AlignedBuffer:
    """A Buffer whose data starts at a multiple of 16, which the object API's own does not."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        offset = None
        if self.data:
            builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
            builder.head = builder.head - len(self.data)
            builder.Bytes[builder.Head() : builder.Head() + len(self.data)] = self.data
            offset = builder.EndVector()
        schema.BufferStart(builder)
        if offset is not None:
            schema.BufferAddData(builder, offset)
        return int(schema.BufferEnd(builder))


@dataclass
class File:
    """What the subgraphs of a file share: buffers and operator codes. Buffer 0 is the empty one."""

    buffers: list[bytes] = field(default_factory=lambda: [b""])
    codes: dict[tuple[int, int], int] = field(default_factory=dict)

    def buffer(self, data: bytes) -> int:
        self.buffers.append(data)
        return len(self.buffers) - 1

    def code(self, name: str, version: int) -> int:
        key = (getattr(schema.BuiltinOperator, name), version)
        return self.codes.setdefault(key, len(self.codes))

    def pack(self, subgraphs: Sequence[Any]) -> bytes:
        codes = [
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=v)
            for code, v in self.codes
        ]
        model = schema.ModelT(
            version=SCHEMA_VERSION,
            operatorCodes=codes,
            subgraphs=list(subgraphs),
            description="tinsmith",
            buffers=[_AlignedBuffer(data) for data in self.buffers],
        )
        builder = flatbuffers.Builder(1024 + sum(map(len, self.buffers)))
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())


@dataclass
class Subgraph:
    """A subgraph being written: tensors by name, operators in order."""

    name: str
    file: File
    tensors: list[Any] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    operators: list[Any] = field(default_factory=list)
    reserved: frozenset[str] = frozenset()

    def tensor(self, tensor: Tensor, quant: QuantParams | None = None) -> int:
        """The index of a tensor of the graph, which is added where it is new."""
        if tensor.name in self.index:
            return self.index[tensor.name]
        buffer = 0 if tensor.data is None else self.file.buffer(_stored(tensor))
        kind = TENSOR_TYPES[tensor.dtype]
        if is_nibbles(tensor):
            kind = schema.TensorType.INT4
        return self._add(tensor.name, tensor.shape, kind, buffer, quant or tensor.quant)

    def constant(self, wish: str, data: Array, quant: QuantParams | None = None) -> int:
        """The index of a new constant tensor, named after the wish."""
        kind = TENSOR_TYPES[DType.of(data)]
        buffer = self.file.buffer(np.ascontiguousarray(data).tobytes())
        return self._add(self.fresh(wish), data.shape, kind, buffer, quant)

    def temporary(self, wish: str, like: Tensor, shape: Sequence[int]) -> int:
        """The index of a new computed tensor of another shape, otherwise like a tensor."""
        return self._add(self.fresh(wish), shape, TENSOR_TYPES[like.dtype], 0, like.quant)

    def variable(self, wish: str, like: Tensor) -> int:
        """The index of a new variable tensor, which starts at 0, of a tensor's shape and type."""
        index = self.temporary(wish, like, like.shape)
        self.tensors[index].isVariable = True
        return index

    def resource(self, wish: str) -> int:
        return self._add(self.fresh(wish), (), schema.TensorType.RESOURCE, 0, None)

    def fresh(self, wish: str) -> str:
        name, i = wish, 1
        while name in self.index or name in self.reserved:
            name, i = f"{wish}_{i}", i + 1
        return name

    def _add(
        self, name: str, shape: Sequence[int], kind: int, buffer: int, quant: QuantParams | None
    ) -> int:
        tensor = schema.TensorT(
            shape=np.asarray(shape, np.int32),
            type=kind,
            buffer=buffer,
            name=name,
            quantization=_quantization(quant),
            hasRank=True,
        )
        self.tensors.append(tensor)
        self.index[name] = len(self.tensors) - 1
        return self.index[name]

    def operator(
        self,
        code: str,
        version: int,
        options: Any,
        inputs: Sequence[int],
        outputs: Sequence[int],
        intermediates: Sequence[int] = (),
    ) -> None:
        """Adds an operator; `options` is a *OptionsT of the schema, or None."""
        kind = 0
        if options is not None:
            kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=self.file.code(code, version),
                inputs=np.asarray(inputs, np.int32),
                outputs=np.asarray(outputs, np.int32),
                builtinOptionsType=kind,
                builtinOptions=options,
                intermediates=np.asarray(intermediates, np.int32) if intermediates else None,
            )
        )

    def finish(self, inputs: Sequence[str], outputs: Sequence[str], graph: Graph) -> Any:
        return schema.SubGraphT(
            tensors=self.tensors,
            inputs=np.asarray([self.tensor(graph.tensors[n]) for n in inputs], np.int32),
            outputs=np.asarray([self.tensor(graph.tensors[n]) for n in outputs], np.int32),
            operators=self.operators,
            name=self.name,
        )


def zero_bias(sub: Subgraph, call: OpCall, channels: int) -> int:
    """The index of a bias of zeros for a call that has none.

    Some runtimes ask for one, and others sum int16 activations in int32 where it is absent.
    """
    x, w = call.input(0), call.input(1)
    kinds = {DType.FLOAT32: np.float32, DType.INT16: np.int64}
    zeros = np.zeros(channels, kinds.get(x.dtype, np.int32))
    quant = None
    if x.quant is not None and w.quant is not None:
        scales = np.float32(x.scale) * w.quant.scales
        quant = QuantParams(tuple(scales.tolist()), (0,), 0 if w.quant.per_channel else None)
    return sub.constant(f"{call.name}/bias", zeros, quant)


def is_nibbles(tensor: Tensor) -> bool:
    return tensor.is_constant and tensor.quant is not None and tensor.quant.bits == 4


def _stored(tensor: Tensor) -> bytes:
    """The bytes of a constant; 4-bit values two to a byte, the first in the low nibble."""
    data = np.ascontiguousarray(tensor.value())
    if not is_nibbles(tensor):
        return data.tobytes()
    flat = data.reshape(-1).astype(np.uint8) & 0x0F
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return bytes((flat[0::2] | (flat[1::2] << 4)).astype(np.uint8).tobytes())


def _quantization(quant: QuantParams | None) -> Any:
    if quant is None:
        return None
    if quant.block is not None:
        raise UnsupportedModel("scales of blocks have no counterpart in .tflite")
    zero = np.broadcast_to(quant.zero_points, quant.scales.shape)
    return schema.QuantizationParametersT(
        scale=quant.scales,
        zeroPoint=np.ascontiguousarray(zero, np.int64),
        quantizedDimension=quant.axis or 0,
    )
