"""What the writers of single ONNX nodes work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from tinsmith.pipeline.graph import Activation, Array, DType, Graph, Node, QuantParams, Tensor
from tinsmith.pipeline.ops.op import OpCall

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass
class Writer:
    """The ONNX graph under construction.

    real: the float32 value of each tensor of the graph, by name; images NCHW.
    """

    graph: Graph
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def name(self, wish: str) -> str:
        name, count = wish, 1
        while name in self.taken:
            name, count = f"{wish}_{count}", count + 1
        self.taken.add(name)
        return name

    def constant(self, wish: str, data: ArrayLike) -> str:
        name = self.name(wish)
        self.constants[name] = numpy_helper.from_array(np.asarray(data, order="C"), name)
        return name

    def add(self, op: str, inputs: Sequence[str], wish: str, **attrs: Any) -> str:
        out = self.name(wish)
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=out, **attrs))
        return out

    def parameters(self, wish: str, quant: QuantParams, dtype: type) -> tuple[str, str]:
        """The names of scale and zero point."""
        scale = quant.scales if quant.per_channel else quant.scales[0]
        zero = np.zeros_like(scale, dtype) + quant.zero_points.astype(dtype).reshape(
            -1 if quant.per_channel else ()
        )
        return (
            self.constant(f"{wish}_scale", np.asarray(scale, np.float32)),
            self.constant(f"{wish}_zero_point", np.asarray(zero, dtype)),
        )

    def between(self, value: str, tensor: Tensor) -> str:
        """A float32 value through QuantizeLinear and DequantizeLinear of a tensor."""
        assert tensor.quant is not None
        parameters = self.parameters(tensor.name, tensor.quant, np.int8)
        q = self.add("QuantizeLinear", [value, *parameters], f"{tensor.name}_quantized")
        return self.add("DequantizeLinear", [q, *parameters], f"{tensor.name}_real")

    def dequantized(self, tensor: Tensor, data: Array, axis: int | None) -> str:
        """An integer constant through DequantizeLinear; axis: of `data`, of the scales."""
        assert tensor.quant is not None
        dtype = np.int32 if tensor.dtype is DType.INT32 else np.int8
        parameters = self.parameters(tensor.name, tensor.quant, dtype)
        q = self.constant(f"{tensor.name}_integers", data)
        attrs = {} if axis is None else {"axis": axis}
        return self.add("DequantizeLinear", [q, *parameters], f"{tensor.name}_real", **attrs)


@dataclass(frozen=True)
class Site:
    """A node with the float32 values of its data inputs."""

    writer: Writer
    call: OpCall
    node: Node

    def value(self, i: int) -> str:
        """Input i as float32; images NCHW."""
        t = self.call.input(i)
        if t.is_constant and t.quant is None:
            return self.writer.constant(t.name, t.value())
        if t.is_constant and t.name not in self.writer.real:
            data, axis = t.value(), t.quant.axis if t.quant is not None else None
            if data.ndim == 4:
                axis = None if axis is None else TO_NCHW.index(axis)
                data = data.transpose(TO_NCHW)
            self.writer.real[t.name] = self.writer.dequantized(t, data, axis)
        return self.writer.real[t.name]

    def weights(self, perm: Sequence[int]) -> str:
        """The weights in ONNX's order of axes."""
        t = self.call.input(1)
        axis = t.quant.axis if t.quant is not None else None
        data = t.value().transpose(perm)
        return self.writer.dequantized(t, data, None if axis is None else list(perm).index(axis))

    def bias(self) -> list[str]:
        t = self.call.optional(2)
        if t is None:
            return []
        x, w = self.call.input(0), self.call.input(1)
        if t.quant is None and w.quant is not None:
            scales = np.float32(x.scale) * w.quant.scales
            t = replace(
                t, quant=QuantParams(tuple(scales.tolist()), (0,), 0 if _several(w) else None)
            )
        return [self.writer.dequantized(t, t.value().reshape(-1), 0 if _several(t) else None)]

    @property
    def rank(self) -> int:
        return len(self.call.output.shape)

    def add(self, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        return self.writer.add(op, inputs, f"{self.node.name}_{op.lower()}", **attrs)

    def number(self, what: str, value: float) -> str:
        return self.writer.constant(f"{self.node.name}_{what}", np.full((), value, np.float32))

    def integers(self, what: str, values: Sequence[int]) -> str:
        return self.writer.constant(f"{self.node.name}_{what}", np.asarray(values, np.int64))

    def clamped(self, value: str) -> str:
        """The value behind the node's fused activation."""
        activation: Activation = self.node.attrs.activation
        return value if activation is Activation.NONE else self.clip(value, activation.value)

    def clip(self, value: str, op: str) -> str:
        """The value behind a clamp: the op of that name."""
        if op == "relu":
            return self.add("Relu", [value])
        low, high = BOUNDS[op]
        return self.add("Clip", [value, self.number("low", low), self.number("high", high)])

    def onnx_axis(self, axis: int) -> int:
        """An axis of the output's rank as ONNX counts it."""
        return TO_NCHW.index(axis) if self.rank == 4 else axis

    def broadcast(self, i: int) -> str:
        """Input i with as many axes as the output, where that is an image."""
        t = self.call.input(i)
        if self.rank != 4 or len(t.shape) == 4:
            return self.value(i)
        full = (1,) * (4 - len(t.shape)) + t.shape
        if t.is_constant:
            data = t.value().reshape(full).transpose(TO_NCHW)
            return self.writer.dequantized(t, data, None)
        return self.as_nchw(self.reshaped(self.value(i), full), 4)

    def as_nhwc(self, value: str, rank: int) -> str:
        return self.add("Transpose", [value], perm=TO_NHWC) if rank == 4 else value

    def as_nchw(self, value: str, rank: int) -> str:
        return self.add("Transpose", [value], perm=TO_NCHW) if rank == 4 else value

    def reshaped(self, value: str, shape: Sequence[int]) -> str:
        target = self.writer.constant(f"{self.node.name}_shape", np.asarray(shape, np.int64))
        return self.add("Reshape", [value, target])


BOUNDS = {"relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0), "relu_0_to_1": (0.0, 1.0)}


def _several(t: Tensor) -> bool:
    return t.quant is not None and len(t.quant.scale) > 1
