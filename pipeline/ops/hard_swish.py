"""HardSwish: x * relu6(x + 3) / 6; int8 by TFLite's 16-bit fixed point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.numerics import Int64
from tinsmith.pipeline.ops.op import (
    INT8_OR_FLOAT,
    OpCall,
    OpDef,
    TensorSpec,
    Values,
    refused_types,
)

HIRES_BITS = 7  # the centred input is shifted left by so many bits, to 16 bits
RELUISH_SCALE = np.float32(3.0) / np.float32(32768.0)  # [-3, 3] over the int16 range


@dataclass(frozen=True)
class HardSwishConstants:
    """Multipliers as (16-bit mantissa, exponent): to the output's scale, and to [-3, 3]."""

    output: tuple[int, int]
    reluish: tuple[int, int]


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, call.input(0).dtype),)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    x = values[0].astype(np.float32)
    return ((x * np.clip(x + 3, 0, 6) / np.float32(6)).astype(np.float32),)


def constants(call: OpCall) -> HardSwishConstants:
    """TFLM's HardSwishPrepare: float32 quotients, mantissas rounded to 16 bits."""
    hires = np.float32(1.0 / (1 << HIRES_BITS)) * np.float32(call.input(0).scale)
    return HardSwishConstants(
        numerics.quantize_multiplier_int16(float(hires / np.float32(call.output.scale))),
        numerics.quantize_multiplier_int16(float(hires / RELUISH_SCALE)),
    )


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """TFLite's reference HardSwish."""
    assert values[0] is not None
    k = constants(call)
    hires = (values[0].astype(np.int64) - call.input(0).zero_point) << HIRES_BITS
    on_output_scale = numerics.high_multiply_int16(hires, k.output[0])
    reluish = _to_reluish(hires, *k.reluish)
    unit = (reluish + (1 << 15)) >> 1  # from [-1, 1] to [0, 1]
    # SaturatingDoublingHighMul truncates; both factors are -32768 only where unit is not.
    product = _truncated(unit * on_output_scale)
    y = numerics.divide_by_power_of_two(product, -k.output[1]) + call.output.zero_point
    return (np.clip(y, -128, 127).astype(np.int8),)


def _to_reluish(x: Int64, m: int, exponent: int) -> Int64:
    """x * m * 2^exponent, saturated to int16; the last bit left is shifted after the product."""
    x = _saturate(x << max(exponent - 1, 0))
    x = numerics.high_multiply_int16(x, m)
    if exponent > 0:
        return _saturate(x << 1)
    return numerics.divide_by_power_of_two(x, -exponent)


def _saturate(x: Int64) -> Int64:
    return np.clip(x, -32768, 32767)


def _truncated(product: Int64) -> Int64:
    return np.asarray(np.sign(product) * (np.abs(product) >> 15), np.int64)


def accepts(call: OpCall) -> tuple[str, ...]:
    reasons = refused_types(INT8_OR_FLOAT, call.input(0), call.output)
    if reasons or call.input(0).dtype is DType.FLOAT32:
        return reasons
    known = call.input(0).quant is not None and call.output.quant is not None
    if known and constants(call).output[1] > 0:
        return ("the input's scale is over 128 times the output's; allowed: up to 128 times",)
    return ()


HARD_SWISH = OpDef(
    name="hard_swish",
    title="x * relu6(x + 3) / 6",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    accepts=accepts,
)
