"""DepthToSpace and SpaceToDepth: blocks of pixels become channels, and back (NHWC)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops.op import OpCall, OpDef, ScaleRule, TensorSpec, Values, int8_or_float

Axes = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class BlockAttrs:
    """block: pixels along each side of a block."""

    block: int


def _checked(call: OpCall) -> tuple[int, int, int, int, int]:
    x, b = call.input(0), call.attrs.block
    if len(x.shape) != 4 or b < 1:
        raise ModelError(
            f"'{call.name}': input {list(x.shape)} in blocks of {b}; "
            "allowed: rank 4 (NHWC), blocks of at least 1"
        )
    n, h, w, c = x.shape
    return n, h, w, c, b


def infer_depth_to_space(call: OpCall) -> tuple[TensorSpec, ...]:
    n, h, w, c, b = _checked(call)
    if c % (b * b):
        raise ModelError(f"'{call.name}': {c} channels are no multiple of {b * b}")
    return (TensorSpec((n, h * b, w * b, c // (b * b)), call.input(0).dtype),)


def infer_space_to_depth(call: OpCall) -> tuple[TensorSpec, ...]:
    n, h, w, c, b = _checked(call)
    if h % b or w % b:
        raise ModelError(f"'{call.name}': an image of {h}x{w} has no whole blocks of {b}x{b}")
    return (TensorSpec((n, h // b, w // b, c * b * b), call.input(0).dtype),)


def depth_to_space_walk(shape: tuple[int, ...], block: int) -> Axes:
    """(input as six axes [n, h, w, by, bx, c], their order in the output)."""
    n, h, w, c = shape
    return (n, h, w, block, block, c // block**2), (0, 1, 3, 2, 4, 5)


def space_to_depth_walk(shape: tuple[int, ...], block: int) -> Axes:
    """(input as six axes [n, h, by, w, bx, c], their order in the output)."""
    n, h, w, c = shape
    return (n, h // block, block, w // block, block, c), (0, 1, 3, 2, 4, 5)


def _moved(call: OpCall, values: Values, axes: Axes) -> tuple[Array, ...]:
    assert values[0] is not None
    split, order = axes
    y = values[0].reshape(split).transpose(order)
    return (np.ascontiguousarray(y).reshape(call.output.shape),)


def run_depth_to_space(call: OpCall, values: Values) -> tuple[Array, ...]:
    return _moved(call, values, depth_to_space_walk(call.input(0).shape, call.attrs.block))


def run_space_to_depth(call: OpCall, values: Values) -> tuple[Array, ...]:
    return _moved(call, values, space_to_depth_walk(call.input(0).shape, call.attrs.block))


DEPTH_TO_SPACE = OpDef(
    name="depth_to_space",
    title="channels to blocks of pixels",
    infer=infer_depth_to_space,
    run_float=run_depth_to_space,
    run_int=run_depth_to_space,
    attrs=BlockAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_or_float,
)

SPACE_TO_DEPTH = OpDef(
    name="space_to_depth",
    title="blocks of pixels to channels",
    infer=infer_space_to_depth,
    run_float=run_space_to_depth,
    run_int=run_space_to_depth,
    attrs=BlockAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_or_float,
)
