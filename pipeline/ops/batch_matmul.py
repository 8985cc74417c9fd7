"""BatchMatMul: products of matrices that are both computed, the leading axes broadcast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops import mac
from tinsmith.pipeline.ops.op import (
    INT8_INT16_OR_FLOAT,
    OpCall,
    OpDef,
    Oracle,
    TensorSpec,
    Values,
    refused_types,
)


@dataclass(frozen=True)
class BatchMatmulAttrs:
    """adjoint_a, adjoint_b: the last two axes of that input are swapped first."""

    adjoint_a: bool = False
    adjoint_b: bool = False


MOST_INT16_DEPTH = 1 << 16  # sums below 2^47, as the requantization wants them


def matrices(call: OpCall) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of both inputs, after the swap of the last two axes."""
    shapes = []
    for i, swapped in enumerate((call.attrs.adjoint_a, call.attrs.adjoint_b)):
        shape = call.input(i).shape
        shapes.append((*shape[:-2], shape[-1], shape[-2]) if swapped else shape)
    return shapes[0], shapes[1]


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    given = [list(call.input(i).shape) for i in (0, 1)]
    message = f"batch_matmul '{call.name}': {given[0]} times {given[1]}"
    if min(len(s) for s in given) < 2:
        raise ModelError(f"{message}; allowed: rank 2 and more")
    a, b = matrices(call)
    if a[-1] != b[-2]:
        raise ModelError(f"{message}: the inner sizes {a[-1]} and {b[-2]} differ")
    try:
        lead = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError as e:
        raise ModelError(f"{message}: the leading axes do not broadcast") from e
    return (TensorSpec((*lead, a[-2], b[-1]), call.input(0).dtype),)


def _swapped(call: OpCall, a: Array, b: Array) -> tuple[Array, Array]:
    attrs = call.attrs
    return (
        a.swapaxes(-1, -2) if attrs.adjoint_a else a,
        b.swapaxes(-1, -2) if attrs.adjoint_b else b,
    )


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    assert values[1] is not None
    a, b = _swapped(call, values[0].astype(np.float64), values[1].astype(np.float64))
    return ((a @ b).astype(np.float32),)


def multiplier(call: OpCall) -> Multiplier:
    """Both input scales over the output's, in double."""
    product = call.input(0).scale * call.input(1).scale
    return numerics.quantize_multiplier(product / call.output.scale)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    assert values[1] is not None
    a = mac.centred(values[0], call.input(0))
    b = mac.centred(values[1], call.input(1))
    a, b = _swapped(call, a, b)
    m = multiplier(call)
    acc = (a @ b).astype(np.int64)
    if call.input(0).dtype is DType.INT16:
        y = numerics.requantize_int16(acc, m.m, m.shift)
    else:
        y = numerics.requantize(numerics.wrap_int32(acc), m.m, m.shift)
    low, high = numerics.integer_range(call.output.dtype)
    y = np.clip(y + call.output.zero_point, low, high)
    return (y.astype(call.output.dtype.numpy),)


def macs(call: OpCall) -> int:
    return call.output.size * matrices(call)[0][-1]


def accepts(call: OpCall) -> tuple[str, ...]:
    tensors = (call.input(0), call.input(1), *call.outputs)
    reasons = [*refused_types(INT8_INT16_OR_FLOAT, *tensors)]
    for i in (0, 1):
        quant = call.input(i).quant
        if quant is not None and len(quant.scale) != 1:
            reasons.append(f"'{call.input(i).name}' has {len(quant.scale)} scales; allowed: one")
    if call.input(0).dtype is DType.INT16 and not reasons:
        reasons += _beyond_int16(call)
    if max(len(call.input(i).shape) for i in (0, 1)) > 5:
        reasons.append("rank above 5; allowed: 2 to 5")
    return tuple(reasons)


def _beyond_int16(call: OpCall) -> list[str]:
    """Reasons why sums of int16 products have no meaning that the runtimes share."""
    reasons, depth = [], matrices(call)[0][-1]
    if depth > MOST_INT16_DEPTH:
        reasons.append(f"rows of {depth} int16 values; allowed: {MOST_INT16_DEPTH}")
    a, b, y = call.input(0).quant, call.input(1).quant, call.output.quant
    if a is not None and b is not None and y is not None:
        reasons += mac.beyond_wide_factor(a, b, y)
    return reasons


BATCH_MATMUL = OpDef(
    name="batch_matmul",
    title="matrix products of two computed tensors",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=BatchMatmulAttrs,
    macs=macs,
    accepts=accepts,
    data_inputs=2,
    int16=Oracle.TFLM,
)
