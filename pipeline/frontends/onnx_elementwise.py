"""ONNX ops that work element by element, and reductions."""

from __future__ import annotations

import math

from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value, positive_axis
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs


def relu(ctx: Context, node: OnnxNode) -> Value:
    return ctx.emit("relu", [ctx.data(node)], node=node.name, out=node.outputs[0])


# What a Clip between two bounds is in this IR.
CLIPS: dict[tuple[float, float], str] = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}
FLOAT32_MAX = 3.4028234e38


def clip(ctx: Context, node: OnnxNode) -> Value:
    low = ctx.scalar(node, 1, -math.inf, "lower bound")
    high = ctx.scalar(node, 2, math.inf, "upper bound")
    # Exporters write an open bound as the largest float32.
    low = -math.inf if low <= -FLOAT32_MAX else low
    high = math.inf if high >= FLOAT32_MAX else high
    if (low, high) == (-math.inf, math.inf):
        return ctx.value(node, 0)
    if (low, high) not in CLIPS:
        allowed = ", ".join(f"{a:g} to {b:g}" for a, b in CLIPS)
        raise Refused(f"it clips to {low:g} to {high:g}", f"use one of the bounds {allowed}")
    op = CLIPS[low, high]
    return ctx.emit(op, [ctx.data(node)], node=node.name, out=node.outputs[0])


def add(ctx: Context, node: OnnxNode) -> Value:
    inputs = [ctx.data(node, 0), ctx.data(node, 1)]
    return ctx.emit("add", inputs, AddAttrs(), node=node.name, out=node.outputs[0])


def softmax(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    rank = len(ctx.shape(x))
    axis = positive_axis(f"Softmax '{node.name}'", int(node.attrs.get("axis", -1)), rank)
    # The axis goes last and comes back to where it was.
    perm = [i for i in range(rank) if i != axis] + [axis]
    back = [perm.index(i) for i in range(rank)]
    x = ctx.transpose(x, perm) if axis != rank - 1 else x
    y = ctx.emit("softmax", [x], SoftmaxAttrs(), node=node.name, out=node.outputs[0])
    return ctx.transpose(y, back) if axis != rank - 1 else y


def reduce_mean(ctx: Context, node: OnnxNode) -> Value:
    return _reduce(ctx, node, "mean")


def _reduce(ctx: Context, node: OnnxNode, op: str) -> Value:
    x = ctx.data(node)
    rank = len(ctx.shape(x))
    given = node.attrs.get("axes")  # an input since opset 18
    if node.has_input(1):
        given = ctx.integers(node, 1, "axes")
    if not given and int(node.attrs.get("noop_with_empty_axes", 0)):
        return x
    label = f"{node.op} '{node.name}'"
    axes = {positive_axis(label, int(a), rank) for a in given or range(rank)}
    attrs = ReduceAttrs(tuple(sorted(axes)), bool(int(node.attrs.get("keepdims", 1))))
    return ctx.emit(op, [x], attrs, node=node.name, out=node.outputs[0])


def global_average_pool(ctx: Context, node: OnnxNode) -> Value:
    return average_of_image(ctx, node, ctx.data(node))


def average_of_image(ctx: Context, node: OnnxNode, x: str) -> str:
    """The mean over all axes but the first two."""
    rank = len(ctx.shape(x))
    if rank < 3:
        raise Refused(f"its input has rank {rank}", "use an input [n, c, h, w]")
    attrs = ReduceAttrs(tuple(range(2, rank)), keep_dims=True)
    return ctx.emit("mean", [x], attrs, node=node.name, out=node.outputs[0])
