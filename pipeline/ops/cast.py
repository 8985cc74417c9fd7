"""Cast: the stored numbers in another type; scales play no part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, TensorSpec, Values

FROM = (DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64, DType.BOOL)
TO = (*FROM, DType.FLOAT32)


@dataclass(frozen=True)
class CastAttrs:
    """dtype: of the output."""

    dtype: DType


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, call.attrs.dtype),)


def run(call: OpCall, values: Values) -> tuple[Array, ...]:
    """As in C: integers wrap, and BOOL is whether a number is not 0."""
    assert values[0] is not None
    if call.attrs.dtype is DType.BOOL:
        return (np.asarray(values[0] != 0),)
    return (values[0].astype(call.attrs.dtype.numpy),)


def accepts(call: OpCall) -> tuple[str, ...]:
    kinds = (call.input(0).dtype, call.attrs.dtype)
    if kinds[0] not in FROM or kinds[1] not in TO:
        allowed = ", ".join(t.value for t in FROM)
        return (
            f"{kinds[0].value} to {kinds[1].value}; allowed: from {allowed}, to these and float32",
        )
    return ()


CAST = OpDef(
    name="cast",
    title="the same numbers in another type",
    infer=infer,
    run_float=run,
    run_int=run,
    attrs=CastAttrs,
    scale_rule=ScaleRule.NONE,
    accepts=accepts,
    int16=Oracle.TFLM,
)
