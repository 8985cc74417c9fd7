"""ONNX matrix products with constant weights."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Parameter, Refused, Value
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.graph import Shape
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs


def gemm(ctx: Context, node: OnnxNode) -> Value:
    """alpha * A' B' + beta * C with constant B."""
    if isinstance(ctx.value(node, 1), str):
        return _gemm_of_two(ctx, node)
    x = gemm_rows(ctx, node, ctx.data(node))
    weights = gemm_weights(node, ctx.parameter(node, 1, "weights (B)"))
    rows, outputs = ctx.shape(x)[0], weights.shape[0]
    beta = float(node.attrs.get("beta", 1.0))
    if not node.has_input(2) or beta == 0:
        return fully_connected(ctx, node, x, weights, None, (node.inputs[1], ""))
    c = ctx.value(node, 2)
    if not isinstance(c, str):
        given = ctx.parameter(node, 2, "C").scaled(beta)
        bias = as_bias(given, outputs)
        if bias is not None:
            return fully_connected(ctx, node, x, weights, bias, (node.inputs[1], node.inputs[2]))
        c = ctx.parameter_tensor(node.inputs[2], given)
    elif beta != 1:
        raise Refused(f"beta {beta} scales a computed C", "use beta 1")
    _check_broadcast(node, ctx.shape(c), (rows, outputs))
    names = (node.inputs[1], "")
    product = fully_connected(ctx, node, x, weights, None, names, suffix="_product")
    label = f"{node.name}_add"
    return ctx.emit("add", [product, c], AddAttrs(), node=label, out=node.outputs[0])


def _gemm_of_two(ctx: Context, node: OnnxNode) -> Value:
    attrs = BatchMatmulAttrs(*(bool(int(node.attrs.get(k, 0))) for k in ("transA", "transB")))
    if float(node.attrs.get("alpha", 1.0)) != 1.0 or float(node.attrs.get("beta", 1.0)) != 1.0:
        raise Refused("alpha or beta scales computed matrices", "use alpha 1 and beta 1")
    y = two_computed(ctx, node, ctx.data(node, 0), ctx.data(node, 1), attrs)
    if not node.has_input(2):
        return y
    label = f"{node.name}_add"
    return ctx.emit("add", [y, ctx.data(node, 2)], AddAttrs(), node=label, out=node.outputs[0])


def gemm_rows(ctx: Context, node: OnnxNode, x: str) -> str:
    """A of a Gemm, transposed where it says so."""
    if len(ctx.shape(x)) != 2:
        raise ModelError(
            f"{node.op} '{node.name}': A has the shape {list(ctx.shape(x))}, not rank 2"
        )
    return ctx.transpose(x, (1, 0)) if int(node.attrs.get("transA", 0)) else x


def gemm_weights(node: OnnxNode, b: Parameter) -> Parameter:
    """B of a Gemm as weights [outputs, inputs]."""
    if len(b.shape) != 2:
        raise ModelError(f"{node.op} '{node.name}': B has the shape {list(b.shape)}, not rank 2")
    weights = b if int(node.attrs.get("transB", 0)) else b.transposed((1, 0))
    return weights.scaled(float(node.attrs.get("alpha", 1.0)))


def as_bias(c: Parameter, outputs: int) -> Parameter | None:
    """C as a bias [outputs], or None where it differs from row to row."""
    if c.shape == (outputs,):
        return c
    if c.values.size not in (1, outputs) or c.shape[-1:] not in ((), (1,), (outputs,)):
        return None
    return Parameter(np.ascontiguousarray(np.broadcast_to(c.values.reshape(-1), (outputs,))))


def _check_broadcast(node: OnnxNode, shape: Shape, target: Shape) -> None:
    try:
        fits = np.broadcast_shapes(shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        raise ModelError(
            f"{node.op} '{node.name}': C {list(shape)} does not go into {list(target)}"
        )


def matmul(ctx: Context, node: OnnxNode) -> Value:
    """A B where one of both is a constant matrix or vector."""
    a, b = ctx.value(node, 0), ctx.value(node, 1)
    if not isinstance(b, str):
        weights = ctx.parameter(node, 1, "weights (B)")
        return times_constant(ctx, node, ctx.data(node), weights, node.inputs[1])
    if not isinstance(a, str) and len(a.shape) == len(ctx.shape(b)) == 2:
        # A B = (B' A')', so that the constant is on the right.
        weights = ctx.parameter(node, 0, "weights (A)")
        x, names = ctx.transpose(b, (1, 0)), (node.inputs[0], "")
        y = fully_connected(ctx, node, x, weights, None, names, suffix="_product")
        return ctx.transpose(y, (1, 0), node.outputs[0])
    return two_computed(ctx, node, ctx.data(node, 0), ctx.data(node, 1), BatchMatmulAttrs())


def two_computed(ctx: Context, node: OnnxNode, a: str, b: str, attrs: BatchMatmulAttrs) -> str:
    """A B of two activations; a vector is a matrix of one row or column for as long."""
    shapes = [ctx.shape(a), ctx.shape(b)]
    if len(shapes[0]) == 1:
        a = ctx.reshape(a, (1, *shapes[0]))
    if len(shapes[1]) == 1:
        b = ctx.reshape(b, (*shapes[1], 1))
    y = ctx.emit("batch_matmul", [a, b], attrs, node=node.name, out=node.outputs[0])
    shape = list(ctx.shape(y))
    if len(shapes[1]) == 1:
        del shape[-1]
    if len(shapes[0]) == 1:
        del shape[-2 if len(shapes[1]) > 1 else -1]
    return ctx.reshape(y, shape)


def times_constant(ctx: Context, node: OnnxNode, x: str, b: Parameter, name: str) -> str:
    """x [..., k] times a constant b [k, n] or [k]."""
    shape, dims = ctx.shape(x), b.shape
    if len(dims) not in (1, 2):
        raise Refused(f"its constant has the shape {list(dims)}", "use a matrix (a batch of one)")
    if not shape or shape[-1] != dims[0]:
        raise ModelError(f"{node.op} '{node.name}': {list(shape)} times {list(dims)}")
    weights = b.transposed((1, 0)) if len(dims) == 2 else Parameter(b.values.reshape(1, -1))
    rows = ctx.reshape(x, (1, *shape)) if len(shape) == 1 else x
    y = fully_connected(ctx, node, rows, weights, None, (name, ""))
    return ctx.reshape(y, (*shape[:-1], *dims[1:]))


def fully_connected(
    ctx: Context,
    node: OnnxNode,
    x: str,
    weights: Parameter,
    bias: Parameter | None,
    names: tuple[str, str],
    suffix: str = "",
) -> str:
    """x times weights [outputs, inputs] plus a bias; names: of the weights and of the bias."""
    inputs = [x, ctx.parameter_tensor(names[0], weights.symmetric())]
    if bias is not None:
        inputs.append(ctx.parameter_tensor(names[1], bias))
    attrs = FullyConnectedAttrs(keep_dims=len(ctx.shape(x)) > 2)
    out = f"{node.outputs[0]}{suffix}"
    return ctx.emit("fully_connected", inputs, attrs, node=node.name, out=out)
