"""ONNX reductions."""

from __future__ import annotations

from collections.abc import Callable

from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value, positive_axis
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops.arg import ArgAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs

REDUCTIONS: dict[str, str] = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
}


def reduction(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    rank = len(ctx.shape(x))
    given = node.attrs.get("axes")  # an input since opset 18, of ReduceSum since 13
    if node.has_input(1):
        given = ctx.integers(node, 1, "axes")
    if not given and int(node.attrs.get("noop_with_empty_axes", 0)):
        return x
    label = f"{node.op} '{node.name}'"
    axes = {positive_axis(label, int(a), rank) for a in given or range(rank)}
    attrs = ReduceAttrs(tuple(sorted(axes)), bool(int(node.attrs.get("keepdims", 1))))
    return ctx.emit(REDUCTIONS[node.op], [x], attrs, node=node.name, out=node.outputs[0])


def global_average_pool(ctx: Context, node: OnnxNode) -> Value:
    return average_of_image(ctx, node, ctx.data(node))


def average_of_image(ctx: Context, node: OnnxNode, x: str) -> str:
    """The mean over all axes but the first two."""
    rank = len(ctx.shape(x))
    if rank < 3:
        raise Refused(f"its input has rank {rank}", "use an input [n, c, h, w]")
    attrs = ReduceAttrs(tuple(range(2, rank)), keep_dims=True)
    return ctx.emit("mean", [x], attrs, node=node.name, out=node.outputs[0])


def arg_extremum(op: str) -> Callable[[Context, OnnxNode], Value]:
    """The importer of ArgMax (op arg_max) or ArgMin (op arg_min)."""

    def importer(ctx: Context, node: OnnxNode) -> Value:
        if int(node.attrs.get("select_last_index", 0)):
            raise Refused("it selects the last of equals", "use select_last_index 0")
        x = ctx.data(node)
        shape = ctx.shape(x)
        axis = int(node.attrs.get("axis", 0))
        axis = positive_axis(f"{node.op} '{node.name}'", axis, len(shape))
        attrs = ArgAttrs(axis, DType.INT32)
        y = ctx.emit(op, [x], attrs, node=node.name, out=node.outputs[0])
        if not int(node.attrs.get("keepdims", 1)):
            return y
        return ctx.reshape(y, [1 if i == axis else d for i, d in enumerate(shape)])

    return importer
