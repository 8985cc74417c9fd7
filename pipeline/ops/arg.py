"""ArgMax and ArgMin: where along an axis the greatest or least value is, the first of equals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.ops.op import OpCall, OpDef, ScaleRule, TensorSpec, Values, int8_or_float


@dataclass(frozen=True)
class ArgAttrs:
    """axis: not negative; it is left out of the output. dtype: INT32 or INT64."""

    axis: int
    dtype: DType = DType.INT32


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, axis = call.input(0), call.attrs.axis
    if not 0 <= axis < len(x.shape) or x.shape[axis] == 0:
        raise ModelError(f"'{call.name}': axis {axis} of an input {list(x.shape)}")
    shape = tuple(d for i, d in enumerate(x.shape) if i != axis)
    return (TensorSpec(shape, call.attrs.dtype),)


def run_max(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    y = np.argmax(values[0], axis=call.attrs.axis)
    return (np.asarray(y, call.attrs.dtype.numpy).reshape(call.output.shape),)


def run_min(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    y = np.argmin(values[0], axis=call.attrs.axis)
    return (np.asarray(y, call.attrs.dtype.numpy).reshape(call.output.shape),)


def accepts(call: OpCall) -> tuple[str, ...]:
    reasons = [*int8_or_float(call)]
    if call.attrs.dtype not in (DType.INT32, DType.INT64):
        reasons.append(f"output type {call.attrs.dtype.value}; allowed: int32, int64")
    return tuple(reasons)


ARG_MAX = OpDef(
    name="arg_max",
    title="index of the greatest value along an axis",
    infer=infer,
    run_float=run_max,
    run_int=run_max,
    attrs=ArgAttrs,
    scale_rule=ScaleRule.NONE,
    accepts=accepts,
)

ARG_MIN = OpDef(
    name="arg_min",
    title="index of the least value along an axis",
    infer=infer,
    run_float=run_min,
    run_int=run_min,
    attrs=ArgAttrs,
    scale_rule=ScaleRule.NONE,
    accepts=accepts,
)
