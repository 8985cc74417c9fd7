"""Sum, ReduceMax and ReduceMin over any axes."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops.mean import ReduceAttrs, accepts, count, infer
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, Values, int8_int16_or_float


def sum_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    y = values[0].astype(np.float64).sum(axis=call.attrs.axes).astype(np.float32)
    return (y.reshape(call.output.shape),)


def sum_multiplier(call: OpCall) -> Multiplier:
    """input scale / output scale, a double quotient."""
    return numerics.quantize_multiplier(call.input(0).scale / call.output.scale)


def sum_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    m = sum_multiplier(call)
    total = values[0].astype(np.int64).sum(axis=call.attrs.axes)
    total = total - call.input(0).zero_point * count(call)
    y = numerics.requantize(total, m.m, m.shift) + call.output.zero_point
    low, high = numerics.integer_range(call.output.dtype)
    return (np.clip(y, low, high).astype(call.output.dtype.numpy).reshape(call.output.shape),)


def run_max(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (values[0].max(axis=call.attrs.axes).reshape(call.output.shape),)


def run_min(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (values[0].min(axis=call.attrs.axes).reshape(call.output.shape),)


SUM = OpDef(
    name="sum",
    title="sum over axes",
    infer=infer,
    run_float=sum_float,
    run_int=sum_int,
    attrs=ReduceAttrs,
    accepts=accepts,
    int16=Oracle.TFLM,
    disagree=(Oracle.REF,),  # it sums in float
)

REDUCE_MAX = OpDef(
    name="reduce_max",
    title="greatest value over axes",
    infer=infer,
    run_float=run_max,
    run_int=run_max,
    attrs=ReduceAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_int16_or_float,
    int16=Oracle.REF,
)

REDUCE_MIN = OpDef(
    name="reduce_min",
    title="least value over axes",
    infer=infer,
    run_float=run_min,
    run_int=run_min,
    attrs=ReduceAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_int16_or_float,
    int16=Oracle.REF,
)
