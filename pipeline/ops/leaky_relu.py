"""LeakyRelu: x, or alpha * x below zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, TensorSpec, Values, int8_int16_or_float


@dataclass(frozen=True)
class LeakyReluAttrs:
    """alpha: the slope below zero; a float32 value, as files store it."""

    alpha: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", float(np.float32(self.alpha)))


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, call.input(0).dtype),)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    x = values[0]
    assert x is not None
    return (np.where(x > 0, x, x * np.float32(call.attrs.alpha)).astype(np.float32),)


def multipliers(call: OpCall) -> tuple[Multiplier, Multiplier]:
    """(above zero, below zero): both factors are double."""
    x, y = call.input(0), call.output
    return (
        numerics.quantize_multiplier(x.scale / y.scale),
        numerics.quantize_multiplier(x.scale * call.attrs.alpha / y.scale),
    )


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """TFLM's QuantizeLeakyRelu."""
    x, y = call.input(0), call.output
    assert values[0] is not None
    above, below = multipliers(call)
    centred = values[0].astype(np.int64) - x.zero_point
    scaled = np.where(
        centred >= 0,
        numerics.requantize(centred, above.m, above.shift),
        numerics.requantize(centred, below.m, below.shift),
    )
    low, high = numerics.integer_range(y.dtype)
    return (np.clip(scaled + y.zero_point, low, high).astype(y.dtype.numpy),)


def accepts(call: OpCall) -> tuple[str, ...]:
    reasons = int8_int16_or_float(call)
    if reasons:
        return reasons
    alpha = call.attrs.alpha
    if not np.isfinite(alpha) or (alpha < 0 and call.input(0).dtype is not DType.FLOAT32):
        return (f"alpha {alpha:g}; allowed: 0 and above (prelu takes any slope)",)
    return ()


LEAKY_RELU = OpDef(
    name="leaky_relu",
    title="x, or alpha * x below zero",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=LeakyReluAttrs,
    accepts=accepts,
    int16=Oracle.TFLM,
)
