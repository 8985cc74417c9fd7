"""Add: elementwise sum with broadcasting, both inputs rescaled to a common fixed point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Activation, Array, DType
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
class AddAttrs:
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class AddConstants:
    """The integer constants of TFLite's quantized Add.

    y = clamp(zero + requant(requant((a - za) << left, ma) + requant((b - zb) << left, mb), my))
    """

    left_shift: int
    zero_points: tuple[int, int]
    multipliers: tuple[Multiplier, Multiplier]
    output: Multiplier
    output_zero_point: int
    act_min: int
    act_max: int


def broadcast_shape(call: OpCall) -> tuple[int, ...]:
    """The shape that the two inputs broadcast to; ModelError where they can't."""
    a, b = call.input(0), call.input(1)
    try:
        return tuple(np.broadcast_shapes(a.shape, b.shape))
    except ValueError as e:
        raise ModelError(
            f"'{call.name}': shapes {list(a.shape)} and {list(b.shape)} do not broadcast"
        ) from e


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(broadcast_shape(call), call.input(0).dtype),)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    a, b = values[0], values[1]
    assert a is not None
    assert b is not None
    return (mac.apply_activation((a + b).astype(np.float32), call.attrs.activation),)


def constants(call: OpCall) -> AddConstants:
    """TFLM's CalculateOpDataAdd: all factors relative to twice the larger input scale."""
    a, b, y = call.input(0), call.input(1), call.output
    left_shift = 15 if y.dtype is DType.INT16 else 20
    twice = 2 * max(a.scale, b.scale)
    low, high = numerics.activation_range(call.attrs.activation, y)
    return AddConstants(
        left_shift,
        (a.zero_point, b.zero_point),
        (
            numerics.quantize_multiplier(a.scale / twice),
            numerics.quantize_multiplier(b.scale / twice),
        ),
        numerics.quantize_multiplier(twice / ((1 << left_shift) * y.scale)),
        y.zero_point,
        low,
        high,
    )


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    k = constants(call)
    total = np.zeros((), np.int64)
    for x, zero, m in zip(values, k.zero_points, k.multipliers, strict=True):
        assert x is not None
        shifted = (x.astype(np.int64) - zero) << k.left_shift
        total = total + numerics.requantize(shifted, m.m, m.shift)
    y = numerics.requantize(total, k.output.m, k.output.shift) + k.output_zero_point
    return (np.clip(y, k.act_min, k.act_max).astype(call.output.dtype.numpy),)


def accepts(call: OpCall) -> tuple[str, ...]:
    return refused_types(INT8_INT16_OR_FLOAT, call.input(0), call.input(1), call.output)


ADD = OpDef(
    name="add",
    title="elementwise sum, broadcasting, with fused activation",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=AddAttrs,
    accepts=accepts,
    data_inputs=2,
    int16=Oracle.TFLM,
)
