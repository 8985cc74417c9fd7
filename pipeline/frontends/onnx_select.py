"""ONNX ops that join tensors, cut them or choose from them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value, positive_axis
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops.cast import CastAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.split import SplitAttrs


def concat(ctx: Context, node: OnnxNode) -> Value:
    inputs = [ctx.data(node, i) for i in range(len(node.inputs))]
    rank = len(ctx.shape(inputs[0]))
    axis = positive_axis(f"Concat '{node.name}'", int(node.attrs["axis"]), rank)
    if len(inputs) == 1:
        return inputs[0]
    attrs = ConcatenationAttrs(axis)
    return ctx.emit("concatenation", inputs, attrs, node=node.name, out=node.outputs[0])


def slice_(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    shape = ctx.shape(x)
    starts, ends = ctx.integers(node, 1, "starts"), ctx.integers(node, 2, "ends")
    given = ctx.integers(node, 3, "axes") if node.has_input(3) else tuple(range(len(starts)))
    steps = ctx.integers(node, 4, "steps") if node.has_input(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(given) == len(steps) or 0 in steps:
        raise ModelError(f"Slice '{node.name}': starts, ends, axes and steps do not fit")
    begin, size, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for start, end, axis, step in zip(starts, ends, given, steps, strict=True):
        axis = positive_axis(f"Slice '{node.name}'", axis, len(shape))
        chosen = range(shape[axis])[slice(start, _end(end, shape[axis], step), step)]
        if not chosen:
            raise ModelError(f"Slice '{node.name}': nothing is left of axis {axis}")
        begin[axis], size[axis], stride[axis] = chosen.start, len(chosen), step
    attrs = SliceAttrs(tuple(begin), tuple(size), tuple(stride) if set(stride) != {1} else ())
    return ctx.emit("slice", [x], attrs, node=node.name, out=node.outputs[0])


def _end(end: int, size: int, step: int) -> int | None:
    """An end as Python has it: backwards, an end before the first element is none."""
    return None if step < 0 and end < -size else end


def split(ctx: Context, node: OnnxNode) -> tuple[Value, ...]:
    x = ctx.data(node)
    shape = ctx.shape(x)
    axis = int(node.attrs.get("axis", 0))
    axis = positive_axis(f"Split '{node.name}'", axis, len(shape))
    if node.has_input(1):
        sizes = ctx.integers(node, 1, "split")
    else:
        count = len(node.outputs)
        chunk = -(-shape[axis] // count)
        sizes = tuple(min(chunk, shape[axis] - i * chunk) for i in range(count))
    attrs = SplitAttrs(axis, sizes)
    return ctx.emit_multi("split", [x], attrs, node=node.name, outs=node.outputs)


def gather(ctx: Context, node: OnnxNode) -> Value:
    """Constant indices of one number are a slice; else a lookup."""
    x = ctx.data(node)
    shape = ctx.shape(x)
    axis = positive_axis(f"Gather '{node.name}'", int(node.attrs.get("axis", 0)), len(shape))
    indices = ctx.value(node, 1)
    if isinstance(indices, str):
        inputs = [x, indices]
        return ctx.emit("gather", inputs, GatherAttrs(axis), node=node.name, out=node.outputs[0])
    chosen = np.asarray(ctx.integers(node, 1, "indices")).reshape(ctx.shape(indices))
    if chosen.size == 0 or chosen.min() < -shape[axis] or chosen.max() >= shape[axis]:
        raise ModelError(f"Gather '{node.name}': indices outside of {shape[axis]}")
    chosen = np.where(chosen < 0, chosen + shape[axis], chosen)
    if chosen.size == 1:
        begin = tuple(int(chosen.reshape(-1)[0]) if i == axis else 0 for i in range(len(shape)))
        size = tuple(1 if i == axis else d for i, d in enumerate(shape))
        y = ctx.emit("slice", [x], SliceAttrs(begin, size), node=node.name, out=node.outputs[0])
        return ctx.reshape(y, (*shape[:axis], *chosen.shape, *shape[axis + 1 :]))
    where = ctx.constant(node.inputs[1], chosen.astype(np.int32))
    attrs = GatherAttrs(axis)
    return ctx.emit("gather", [x, where], attrs, node=node.name, out=node.outputs[0])


FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
INTEGERS: dict[int, DType] = {
    TensorProto.INT8: DType.INT8,
    TensorProto.INT32: DType.INT32,
    TensorProto.INT64: DType.INT64,
}


def cast(ctx: Context, node: OnnxNode) -> Value:
    """Floats are float32 here, whatever the model calls them."""
    x = ctx.data(node)
    target, is_float = int(node.attrs["to"]), ctx.builder.tensors[x].dtype is DType.FLOAT32
    if target in FLOATS and is_float:
        return x
    if target not in FLOATS and target not in INTEGERS:
        kind = TensorProto.DataType.Name(target).lower()
        raise Refused(f"it casts to {kind}", "cast to float32, int8, int32 or int64")
    dtype = DType.FLOAT32 if target in FLOATS else INTEGERS[target]
    return ctx.emit("cast", [x], CastAttrs(dtype), node=node.name, out=node.outputs[0])


def expand(ctx: Context, node: OnnxNode) -> Value:
    """Only where it changes nothing: ops broadcast by themselves."""
    x = ctx.data(node)
    target = ctx.integers(node, 1, "shape")
    if np.broadcast_shapes(ctx.shape(x), target) != ctx.shape(x):
        raise Refused(
            f"it expands {list(ctx.shape(x))} to {list(target)}",
            "leave it out: elementwise ops broadcast by themselves",
        )
    return x
