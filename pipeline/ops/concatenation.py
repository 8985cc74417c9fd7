"""Concatenation: tensors one after another along an axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops import movement
from tinsmith.pipeline.ops.op import (
    EVERY_INPUT,
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
)


@dataclass(frozen=True)
class ConcatenationAttrs:
    """axis: not negative."""

    axis: int


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    axis, first = call.attrs.axis, call.input(0)
    shapes = [call.input(i).shape for i in range(len(call.inputs))]
    others = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if not 0 <= axis < len(first.shape) or len(others) > 1 or len({len(s) for s in shapes}) > 1:
        listed = ", ".join(str(list(s)) for s in shapes[:8])
        raise ModelError(
            f"concatenation '{call.name}': shapes {listed} along axis {axis}; "
            "allowed: equal sizes but along the axis"
        )
    if len({call.input(i).dtype for i in range(len(shapes))}) > 1:
        raise ModelError(f"concatenation '{call.name}': its inputs have different types")
    length = sum(s[axis] for s in shapes)
    return (TensorSpec((*first.shape[:axis], length, *first.shape[axis + 1 :]), first.dtype),)


def run(call: OpCall, values: Values) -> tuple[Array, ...]:
    parts = [v for v in values if v is not None]
    return (np.concatenate(parts, axis=call.attrs.axis),)


def blocks(call: OpCall) -> tuple[int, tuple[int, ...]]:
    """(how many rows, elements of each input's row): a row of the output is a row of each input."""
    axis = call.attrs.axis
    outer = int(np.prod(call.output.shape[:axis], dtype=np.int64))
    return outer, tuple(call.input(i).size // outer for i in range(len(call.inputs)))


CONCATENATION = OpDef(
    name="concatenation",
    title="tensors one after another along an axis",
    infer=infer,
    run_float=run,
    run_int=run,
    attrs=ConcatenationAttrs,
    scale_rule=ScaleRule.ALL_SAME,
    accepts=movement.accepts,
    int16=Oracle.TFLM,
    data_inputs=EVERY_INPUT,
)
