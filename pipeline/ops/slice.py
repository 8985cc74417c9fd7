"""Slice: every n-th element of each axis from a first one on, also backwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops import movement
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, TensorSpec, Values


@dataclass(frozen=True)
class SliceAttrs:
    """Of each axis: index begin + i * step of the input is index i < size of the output.

    step is not 0 and may be negative; an empty one is 1 everywhere.
    """

    begin: tuple[int, ...]
    size: tuple[int, ...]
    step: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        return self.step or (1,) * len(self.begin)


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, a = call.input(0), call.attrs
    fits = len(a.begin) == len(a.size) == len(a.steps) == len(x.shape) and all(
        0 <= first < d and 0 <= first + (size - 1) * step < d and size >= 1 and step != 0
        for d, first, size, step in zip(x.shape, a.begin, a.size, a.steps, strict=True)
    )
    if not fits:
        raise ModelError(
            f"slice '{call.name}': begin {list(a.begin)[:8]}, size {list(a.size)[:8]}, step "
            f"{list(a.steps)[:8]} of {list(x.shape)}; allowed: at least one element of each "
            "axis, all inside"
        )
    return (TensorSpec(tuple(a.size), x.dtype),)


def run(call: OpCall, values: Values) -> tuple[Array, ...]:
    x, a = values[0], call.attrs
    assert x is not None
    index = [
        first + np.arange(size) * step
        for first, size, step in zip(a.begin, a.size, a.steps, strict=True)
    ]
    return (np.ascontiguousarray(x[np.ix_(*index)]),)


SLICE = OpDef(
    name="slice",
    title="every n-th element of each axis from a first one on, also backwards",
    infer=infer,
    run_float=run,
    run_int=run,
    attrs=SliceAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=movement.accepts,
    int16=Oracle.TFLM,
)
