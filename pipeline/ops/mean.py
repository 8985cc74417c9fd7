"""Mean over any axes, rescaled to the output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, TensorSpec, Values, int8_int16_or_float


@dataclass(frozen=True)
class ReduceAttrs:
    """axes: not negative, ascending. keep_dims leaves reduced axes as 1."""

    axes: tuple[int, ...]
    keep_dims: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, a = call.input(0), call.attrs
    if any(not 0 <= axis < len(x.shape) for axis in a.axes) or len(set(a.axes)) != len(a.axes):
        raise ModelError(f"'{call.name}': axes {a.axes} of an input of rank {len(x.shape)}")
    shape = [
        1 if i in a.axes else d for i, d in enumerate(x.shape) if a.keep_dims or i not in a.axes
    ]
    return (TensorSpec(tuple(shape), x.dtype),)


def count(call: OpCall) -> int:
    """How many elements go into one output."""
    return int(np.prod([call.input(0).shape[i] for i in call.attrs.axes], dtype=np.int64))


MOST_INT16 = 65535  # so many int16 values never sum up to more than an int32 holds


def int16_sums_fit(call: OpCall, n: int) -> tuple[str, ...]:
    """Reasons where sums of n values may leave an int32, in which runtimes differ."""
    if call.input(0).dtype is DType.INT16 and n > MOST_INT16:
        return (f"it sums {n} int16 values; allowed: {MOST_INT16}",)
    return ()


def accepts(call: OpCall) -> tuple[str, ...]:
    return int8_int16_or_float(call) + int16_sums_fit(call, count(call))


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    y = values[0].astype(np.float64).mean(axis=call.attrs.axes).astype(np.float32)
    return (y.reshape(call.output.shape),)


def multiplier(call: OpCall) -> Multiplier:
    """input scale / output scale / count: TFLite folds 1/count into the quantized multiplier.

    The shift is capped as in reference_ops::QuantizedMeanOrSum.
    """
    n = count(call)
    base = numerics.quantize_multiplier(call.input(0).scale / call.output.scale)
    shift = min(n.bit_length() - 1, 32, 31 + base.shift)
    return Multiplier((base.m << shift) // n, base.shift - shift)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    m = multiplier(call)
    total = values[0].astype(np.int64).sum(axis=call.attrs.axes)
    total = total - call.input(0).zero_point * count(call)
    y = numerics.requantize(total, m.m, m.shift) + call.output.zero_point
    low, high = numerics.integer_range(call.output.dtype)
    return (np.clip(y, low, high).astype(call.output.dtype.numpy).reshape(call.output.shape),)


MEAN = OpDef(
    name="mean",
    title="mean over axes",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=ReduceAttrs,
    accepts=accepts,
    int16=Oracle.TFLM,
)
