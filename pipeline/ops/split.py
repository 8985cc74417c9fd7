"""Split: a tensor cut along an axis into several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops import movement
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, TensorSpec, Values


@dataclass(frozen=True)
class SplitAttrs:
    """axis: not negative. sizes: of each output along the axis."""

    axis: int
    sizes: tuple[int, ...]


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, a = call.input(0), call.attrs
    if (
        not 0 <= a.axis < len(x.shape)
        or not a.sizes
        or min(a.sizes) < 1
        or sum(a.sizes) != x.shape[a.axis]
    ):
        raise ModelError(
            f"split '{call.name}': {list(x.shape)} along axis {a.axis} into {list(a.sizes)[:8]}; "
            "allowed: sizes of at least 1 that add up to the axis"
        )
    before, after = x.shape[: a.axis], x.shape[a.axis + 1 :]
    return tuple(TensorSpec((*before, size, *after), x.dtype) for size in a.sizes)


def run(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    ends = np.cumsum(call.attrs.sizes)[:-1]
    parts = np.split(values[0], ends, axis=call.attrs.axis)
    return tuple(np.ascontiguousarray(p) for p in parts)


SPLIT = OpDef(
    name="split",
    title="a tensor cut along an axis into several",
    infer=infer,
    run_float=run,
    run_int=run,
    attrs=SplitAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=movement.accepts,
    int16=Oracle.TFLM,
)
