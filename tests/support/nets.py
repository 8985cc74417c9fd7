"""Builds quantized networks whose scales come from data, so that their outputs take many values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinsmith.pipeline.graph import (
    NO_ATTRS,
    Array,
    DType,
    Graph,
    GraphBuilder,
    QuantParams,
    Tensor,
    dequantize_array,
)
from tinsmith.pipeline.numerics import integer_range
from tinsmith.pipeline.ops import OPS, OpCall, ScaleRule

CALIBRATION_SAMPLES = 4


def choose_quant(
    values: Array, saturate: float = 0.0, dtype: DType = DType.INT8, symmetric: bool = False
) -> QuantParams:
    """Per-tensor parameters for real values, of which a share `saturate` falls outside."""
    low, high = np.quantile(values, [saturate / 2, 1 - saturate / 2])
    first, last = integer_range(dtype)
    if symmetric or dtype is DType.INT16:
        bound = max(abs(low), abs(high), 1e-6)
        return QuantParams.per_tensor(bound / last, 0)
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-6:
        high = low + 1.0
    scale = (high - low) / (last - first)
    return QuantParams.per_tensor(scale, int(np.clip(round(first - low / scale), first, last)))


class Net:
    """A GraphBuilder that carries sample values along and chooses every free scale from them.

    >>> net = Net("net", np.random.default_rng(0))
    >>> x = net.input((1, 5, 5, 3))
    >>> y = net.node("conv2d", [x, net.weights((4, 3, 3, 3), x, axis=0)], Conv2dAttrs())
    >>> graph = net.graph([y])
    """

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self.builder = GraphBuilder(name)
        self.rng = rng
        self.values: dict[str, list[Array]] = {}  # stored values of computed tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self.builder.tensors[name].shape

    def tensor(self, name: str) -> Tensor:
        return self.builder.tensors[name]

    def input(
        self,
        shape: Sequence[int],
        scale: float = 0.05,
        zero_point: int = 3,
        dtype: DType = DType.INT8,
        name: str | None = None,
    ) -> str:
        zero_point = 0 if dtype is DType.INT16 else zero_point
        quant = QuantParams.per_tensor(scale, zero_point) if dtype.is_integer else None
        name = self.builder.fresh(name or "x")
        self.builder.input(name, shape, dtype, quant)
        tensor = self.builder.tensors[name]
        self.values[name] = [random_values(tensor, self.rng) for _ in range(CALIBRATION_SAMPLES)]
        return name

    def weights(
        self,
        shape: Sequence[int],
        x: str,
        *,
        axis: int | None = None,
        fan_in: int | None = None,
        spread: float = 4.0,
        bits: int = 8,
        quant: QuantParams | None = None,
        name: str = "w",
    ) -> str:
        """Random weights; without `quant` scaled so that the sums deviate by about `spread`."""
        fan_in = fan_in or int(np.prod(shape[1:]))
        _, high = integer_range(DType.INT8, bits)
        data = self.rng.integers(-high, high + 1, tuple(shape)).astype(np.int8)
        tensor = self.tensor(x)
        if tensor.dtype is DType.FLOAT32:
            real = data.astype(np.float32) / high * np.float32(spread / np.sqrt(fan_in))
            return self.builder.constant(name, real)
        if quant is not None:
            return self.builder.constant(name, data, quant)
        real_x = np.concatenate([v.ravel() for v in self.real(x)])
        power = float(np.sqrt(np.mean(real_x.astype(np.float64) ** 2))) or 1.0
        scale = spread / (np.sqrt(fan_in) * 0.58 * high * power)
        if axis is None:
            return self.builder.constant(name, data, QuantParams.per_tensor(scale, 0, bits))
        scales = scale * self.rng.uniform(0.3, 1.5, shape[axis])
        quant = QuantParams(tuple(float(s) for s in scales), (0,), axis, bits)
        return self.builder.constant(name, data, quant)

    def bias(self, weights: str, x: str, count: int, spread: float = 1.0, name: str = "b") -> str:
        """Random biases with a real deviation of `spread`; int64 beside int16 activations."""
        real = self.rng.normal(0, spread, count)
        w, tensor = self.tensor(weights), self.tensor(x)
        if tensor.dtype is DType.FLOAT32:
            return self.builder.constant(name, real.astype(np.float32))
        assert w.quant is not None
        unit = np.float32(tensor.scale) * w.quant.scales
        if tensor.dtype is DType.INT16:
            wide = np.clip(np.round(real / unit), -(2**40), 2**40).astype(np.int64)
            return self.builder.constant(name, wide)
        stored = np.clip(np.round(real / unit), -(2**30), 2**30).astype(np.int32)
        return self.builder.constant(name, stored)

    def real(self, name: str) -> list[Array]:
        """The real sample values of a tensor."""
        tensor = self.builder.tensors[name]
        stored = self.values[name] if tensor.data is None else [tensor.data] * CALIBRATION_SAMPLES
        if tensor.quant is None:
            return [v.astype(np.float32) for v in stored]
        return [dequantize_array(v, tensor.quant) for v in stored]

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Any = NO_ATTRS,
        *,
        saturate: float = 0.0,
        quant: QuantParams | None = None,
        dtype: DType | None = None,
        name: str | None = None,
    ) -> str:
        """Adds a node with one output; its scale is `quant`, the op's rule, or chosen from data."""
        (out,) = self.node_multi(
            op, inputs, attrs, saturate=saturate, quant=quant, dtype=dtype, name=name
        )
        return out

    def node_multi(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Any = NO_ATTRS,
        *,
        saturate: float = 0.0,
        quant: QuantParams | None = None,
        dtype: DType | None = None,
        name: str | None = None,
    ) -> tuple[str, ...]:
        """Adds a node with outputs of one scale, found as for `node`."""
        if quant is None and (dtype or self.tensor(inputs[0]).dtype).is_integer:
            quant = self._quant(op, inputs, attrs, saturate, dtype)
        if OPS[op].scale_rule is ScaleRule.NONE:
            quant = None
        outs = self.builder.node_multi(op, inputs, attrs, quant=quant, dtype=dtype, name=name)
        call = self._call(op, inputs, attrs, tuple(self.tensor(out) for out in outs))
        is_float = call.output.dtype is DType.FLOAT32
        run = OPS[op].run_float if is_float else OPS[op].run_int
        rows = [run(call, self._stored(inputs, i)) for i in range(CALIBRATION_SAMPLES)]
        self.values |= {out: [row[i] for row in rows] for i, out in enumerate(outs)}
        return outs

    def drop(self, name: str) -> None:
        """Takes back the last node, which makes `name`, with the constants only it reads."""
        node = self.builder.nodes.pop()
        assert name in node.outputs
        for out in node.outputs:
            del self.builder.tensors[out]
            self.values.pop(out, None)
        for var in [s for s in self.builder.state if s.next in node.outputs]:
            self.builder.state.remove(var)
            del self.builder.tensors[var.tensor]
        read = {i for other in self.builder.nodes for i in other.inputs}
        for i in {*node.inputs} - read - {""}:
            if i in self.builder.tensors and self.tensor(i).is_constant:
                del self.builder.tensors[i]

    def distinct(self, name: str) -> int:
        """How many different values a computed tensor takes over the samples."""
        return len(np.unique(np.concatenate([v.ravel() for v in self.values[name]])))

    def _stored(self, inputs: Sequence[str], i: int) -> list[Array | None]:
        return [
            None
            if not n
            else self.tensor(n).data
            if self.tensor(n).is_constant
            else self.values[n][i]
            for n in inputs
        ]

    def _call(
        self, op: str, inputs: Sequence[str], attrs: Any, outputs: tuple[Tensor, ...]
    ) -> OpCall:
        tensors = tuple(self.tensor(n) if n else None for n in inputs)
        return OpCall(op, attrs, tensors, outputs)

    def _quant(
        self, op: str, inputs: Sequence[str], attrs: Any, saturate: float, dtype: DType | None
    ) -> QuantParams | None:
        definition = OPS[op]
        if definition.scale_rule in (ScaleRule.SAME, ScaleRule.ALL_SAME):
            return self.tensor(inputs[0]).quant
        kind = dtype or self.tensor(inputs[0]).dtype
        fixed = definition.fixed_quant_of(kind)
        if definition.scale_rule is ScaleRule.FIXED and fixed is not None:
            return QuantParams.per_tensor(*fixed)
        if definition.scale_rule is ScaleRule.NONE:
            return None
        real = np.concatenate([v.ravel() for v in self._run_float(op, inputs, attrs)])
        if kind is DType.INT16:
            return choose_quant(real, saturate, DType.INT16)
        return choose_quant(real, saturate, dtype or DType.INT8)

    def _run_float(self, op: str, inputs: Sequence[str], attrs: Any) -> list[Array]:
        """What the node gives in real numbers for each sample."""
        definition = OPS[op]
        columns = []
        for i, name in enumerate(inputs):
            if name and i == definition.bias:
                columns.append([self._real_bias(inputs)] * CALIBRATION_SAMPLES)
            else:
                columns.append(self.real(name) if name else [None] * CALIBRATION_SAMPLES)
        tensors = tuple(
            None if not n else replace(self.tensor(n), dtype=DType.FLOAT32, quant=None, data=None)
            for n in inputs
        )
        call = OpCall(op, attrs, tensors, ())
        outs = tuple(Tensor("y", spec.shape, DType.FLOAT32) for spec in definition.infer(call))
        call = replace(call, outputs=outs)
        return [definition.run_float(call, row)[0] for row in zip(*columns, strict=True)]

    def _real_bias(self, inputs: Sequence[str]) -> Array:
        x, w, bias = (self.tensor(n) for n in inputs[:3])
        if x.quant is None or w.quant is None:
            return bias.value()
        return (bias.value() * (x.scale * w.quant.scales.astype(np.float64))).astype(np.float32)

    def graph(self, outputs: Sequence[str]) -> Graph:
        return self.builder.build(outputs)


def random_values(tensor: Tensor, rng: np.random.Generator) -> Array:
    """Random values over a tensor's whole range, or of a normal deviate for float."""
    if tensor.dtype is DType.FLOAT32:
        return rng.normal(0, 1.5, tensor.shape).astype(np.float32)
    if tensor.dtype is DType.BOOL:
        return rng.integers(0, 2, tensor.shape).astype(np.bool_)
    low, high = integer_range(tensor.dtype)
    return rng.integers(low, high + 1, tensor.shape).astype(tensor.dtype.numpy)


def random_samples(graph: Graph, rng: np.random.Generator, count: int) -> dict[str, Array]:
    """Inputs [count, *shape] by name: random, with the two ends of the range among them."""
    samples = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        rows = [random_values(tensor, rng) for _ in range(count)]
        if tensor.dtype.is_integer and count > 3:
            low, high = integer_range(tensor.dtype)
            rows[-1] = np.full(tensor.shape, low, tensor.dtype.numpy)
            rows[-2] = np.full(tensor.shape, high, tensor.dtype.numpy)
        samples[name] = np.stack(rows)
    return samples
