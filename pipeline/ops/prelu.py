"""PRelu: x, or alpha * x below zero, alpha a constant that broadcasts, as one value a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops.add import broadcast_shape
from tinsmith.pipeline.ops.op import (
    INT8_OR_FLOAT,
    OpCall,
    OpDef,
    TensorSpec,
    Values,
    refused_types,
)


@dataclass(frozen=True)
class PReluConstants:
    """y = zero + requant(x - zx, above), or zero + requant((x - zx) * (alpha - za), below)."""

    zero_points: tuple[int, int]
    above: Multiplier
    below: Multiplier
    output_zero_point: int


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x = call.input(0)
    if broadcast_shape(call) != x.shape:
        raise ModelError(
            f"prelu '{call.name}': alpha {list(call.input(1).shape)} is larger than "
            f"the input {list(x.shape)}"
        )
    return (TensorSpec(x.shape, x.dtype),)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    x, alpha = values[0], values[1]
    assert x is not None
    assert alpha is not None
    return (np.where(x >= 0, x, x * alpha).astype(np.float32),)


def constants(call: OpCall) -> PReluConstants:
    """TFLM's CalculatePreluParams: double quotients."""
    x, alpha, y = call.input(0), call.input(1), call.output
    return PReluConstants(
        (x.zero_point, alpha.zero_point),
        numerics.quantize_multiplier(x.scale / y.scale),
        numerics.quantize_multiplier(x.scale * alpha.scale / y.scale),
        y.zero_point,
    )


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    x, alpha = values[0], values[1]
    assert x is not None
    assert alpha is not None
    k = constants(call)
    centred = x.astype(np.int64) - k.zero_points[0]
    product = centred * (alpha.astype(np.int64) - k.zero_points[1])
    scaled = np.where(
        centred >= 0,
        numerics.requantize(centred, k.above.m, k.above.shift),
        numerics.requantize(product, k.below.m, k.below.shift),
    )
    low, high = numerics.integer_range(call.output.dtype)
    return (np.clip(scaled + k.output_zero_point, low, high).astype(call.output.dtype.numpy),)


def accepts(call: OpCall) -> tuple[str, ...]:
    reasons = [*refused_types(INT8_OR_FLOAT, call.input(0), call.input(1), call.output)]
    if not call.input(1).is_constant:
        reasons.append("alpha is computed; allowed: a constant")
    if len(call.input(0).shape) > 4:
        reasons.append(f"rank {len(call.input(0).shape)}; allowed: up to 4")
    return tuple(reasons)


PRELU = OpDef(
    name="prelu",
    title="x, or alpha * x below zero, alpha broadcast",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    accepts=accepts,
    data_inputs=2,
)
