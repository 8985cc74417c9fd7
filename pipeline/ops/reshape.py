"""Reshape: the same elements in order under another shape (also squeeze, expand, flatten)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, Shape
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, TensorSpec, Values


@dataclass(frozen=True)
class ReshapeAttrs:
    shape: Shape


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, shape = call.input(0), call.attrs.shape
    if int(np.prod(shape, dtype=np.int64)) != x.size:
        raise ModelError(
            f"reshape '{call.name}': {list(x.shape)} has {x.size} elements, {list(shape)} has not"
        )
    return (TensorSpec(tuple(shape), x.dtype),)


def run(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (values[0].reshape(call.output.shape),)


RESHAPE = OpDef(
    name="reshape",
    title="the same elements under another shape",
    infer=infer,
    run_float=run,
    run_int=run,
    attrs=ReshapeAttrs,
    scale_rule=ScaleRule.SAME,
    int16=Oracle.TFLM,
)
