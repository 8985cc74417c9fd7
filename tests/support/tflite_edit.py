"""Changes .tflite files by way of the schema's object API, to make what no converter writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def edit(model: bytes, change: Callable[[Any], object]) -> bytes:
    """The file after `change` was applied to its ModelT."""
    unpacked = schema.ModelT.InitFromPackedBuf(model, 0)
    change(unpacked)
    return pack(unpacked)


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class FileMaker:
    """A .tflite with one subgraph, made tensor by tensor."""

    def __init__(self) -> None:
        self.buffers = [schema.BufferT()]
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[Any] = []

    def tensor(
        self,
        name: str | None,
        shape: tuple[int, ...],
        kind: int = schema.TensorType.FLOAT32,
        data: np.ndarray | None = None,
        quantization: Any = None,
        sparsity: Any = None,
    ) -> int:
        buffer = 0
        if data is not None:
            stored = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(schema.BufferT(data=stored))
            buffer = len(self.buffers) - 1
        self.tensors.append(
            schema.TensorT(
                shape=np.asarray(shape, np.int32),
                type=kind,
                buffer=buffer,
                name=name,
                quantization=quantization,
                sparsity=sparsity,
            )
        )
        return len(self.tensors) - 1

    def operator(
        self, code: str | int, inputs: list[int], outputs: list[int], options: Any = None
    ) -> None:
        number = code if isinstance(code, int) else getattr(schema.BuiltinOperator, code)
        self.codes.append(
            schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number)
        )
        kind = 0
        if options is not None:
            kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=len(self.codes) - 1,
                inputs=np.asarray(inputs, np.int32),
                outputs=np.asarray(outputs, np.int32),
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        subgraph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=np.asarray(inputs, np.int32),
            outputs=np.asarray(outputs, np.int32),
            operators=self.operators,
            name="main",
        )
        return pack(
            schema.ModelT(
                version=3,
                operatorCodes=self.codes,
                subgraphs=[subgraph],
                buffers=self.buffers,
                description="made by hand",
            )
        )
