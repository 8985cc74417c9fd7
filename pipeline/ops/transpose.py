"""Transpose: the axes in another order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
class TransposeAttrs:
    """perm: output axis i is input axis perm[i]."""

    perm: tuple[int, ...]


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, perm = call.input(0), call.attrs.perm
    if sorted(perm) != list(range(len(x.shape))):
        raise ModelError(f"transpose '{call.name}': perm {perm} is no order of {len(x.shape)} axes")
    return (TensorSpec(tuple(x.shape[p] for p in perm), x.dtype),)


def run(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (np.ascontiguousarray(values[0].transpose(call.attrs.perm)),)


TRANSPOSE = OpDef(
    name="transpose",
    title="the axes in another order",
    infer=infer,
    run_float=run,
    run_int=run,
    attrs=TransposeAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_int16_or_float_up_to_rank_5,
    int16=Oracle.TFLM,
)
