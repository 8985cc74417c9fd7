"""Pad: borders of one value around a tensor of any rank up to 5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    int8_int16_or_float_up_to_rank_5,
)


@dataclass(frozen=True)
class PadAttrs:
    """pads: (before, after) of each axis. value: the real value of the border, or -inf."""

    pads: tuple[tuple[int, int], ...]
    value: float = 0.0


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, a = call.input(0), call.attrs
    if len(a.pads) != len(x.shape) or any(p < 0 for pair in a.pads for p in pair):
        raise ModelError(
            f"pad '{call.name}': pads {a.pads} for an input of rank {len(x.shape)}; "
            "allowed: a pair of sizes >= 0 an axis"
        )
    shape = tuple(d + b + e for d, (b, e) in zip(x.shape, a.pads, strict=True))
    return (TensorSpec(shape, x.dtype),)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (np.pad(values[0], call.attrs.pads, constant_values=call.attrs.value),)


def border(call: OpCall) -> int:
    """The quantized border: the zero point for 0, saturated for anything beyond the range."""
    low, high = numerics.integer_range(call.output.dtype)
    if not np.isfinite(call.attrs.value):
        return low if call.attrs.value < 0 else high
    return min(max(numerics.quantize_value(call.attrs.value, call.output), low), high)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (np.pad(values[0], call.attrs.pads, constant_values=border(call)),)


PAD = OpDef(
    name="pad",
    title="borders of a constant value",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=PadAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_int16_or_float_up_to_rank_5,
    int16=Oracle.TFLM,
)
