"""Gather: slices along an axis, chosen by indices; with axis 0 a table of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    int8_int16_or_float,
)


@dataclass(frozen=True)
class GatherAttrs:
    """axis: of the data, not negative; the axes of the indices take its place."""

    axis: int = 0


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, indices, axis = call.input(0), call.input(1), call.attrs.axis
    if not 0 <= axis < len(x.shape) or x.shape[axis] == 0:
        raise ModelError(f"gather '{call.name}': axis {axis} of an input {list(x.shape)}")
    if indices.data is not None and indices.size:
        low, high = int(indices.data.min()), int(indices.data.max())
        if low < 0 or high >= x.shape[axis]:
            raise ModelError(
                f"gather '{call.name}': indices {low}..{high}; allowed: 0 to {x.shape[axis] - 1}"
            )
    return (TensorSpec((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype),)


def run(call: OpCall, values: Values) -> tuple[Array, ...]:
    """An index that is computed and out of bounds counts as the nearest that is not."""
    x, indices = values[0], values[1]
    assert x is not None
    assert indices is not None
    last = x.shape[call.attrs.axis] - 1
    inside = np.clip(indices.astype(np.int64), 0, last)
    return (np.ascontiguousarray(np.take(x, inside, axis=call.attrs.axis)),)


def accepts(call: OpCall) -> tuple[str, ...]:
    reasons = [*int8_int16_or_float(call)]
    if call.input(1).dtype not in (DType.INT32, DType.INT64):
        reasons.append(f"indices are {call.input(1).dtype.value}; allowed: int32, int64")
    return tuple(reasons)


GATHER = OpDef(
    name="gather",
    title="slices chosen by indices; embedding lookup",
    infer=infer,
    run_float=run,
    run_int=run,
    attrs=GatherAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=accepts,
    int16=Oracle.REF,
)
