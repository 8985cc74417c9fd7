"""ONNX matrix products with constant weights."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs


def gemm(ctx: Context, node: OnnxNode) -> Value:
    """alpha * A' B' + beta * C with constant B."""
    x = ctx.data(node)
    if len(ctx.shape(x)) != 2:
        raise ModelError(f"Gemm '{node.name}': A has the shape {list(ctx.shape(x))}, not rank 2")
    if int(node.attrs.get("transA", 0)):
        x = ctx.transpose(x, (1, 0))
    b = ctx.weights(node, 1, "weights (B)")
    if b.ndim != 2:
        raise ModelError(f"Gemm '{node.name}': B has the shape {list(b.shape)}, not rank 2")
    weights = b if int(node.attrs.get("transB", 0)) else b.T
    weights = (weights * np.float32(node.attrs.get("alpha", 1.0))).astype(np.float32)
    rows, outputs = ctx.shape(x)[0], weights.shape[0]
    beta = np.float32(node.attrs.get("beta", 1.0))
    if not node.has_input(2) or beta == 0:
        return _fully_connected(ctx, node, x, weights, None)
    c = ctx.value(node, 2)
    if not isinstance(c, str) and c.size in (1, outputs) and c.shape[-1:] in ((), (1,), (outputs,)):
        bias = np.broadcast_to(c.reshape(-1) * beta, (outputs,)).astype(np.float32)
        return _fully_connected(ctx, node, x, weights, bias)
    if isinstance(c, str) and beta != 1:
        raise Refused(f"beta {beta} scales a computed C", "use beta 1")
    try:
        fits = np.broadcast_shapes(ctx.shape(c), (rows, outputs)) == (rows, outputs)
    except ValueError:
        fits = False
    if not fits:
        raise ModelError(
            f"Gemm '{node.name}': C {list(ctx.shape(c))} does not go into [{rows}, {outputs}]"
        )
    c = c if isinstance(c, str) else np.asarray(c * beta, np.float32)
    product = _fully_connected(ctx, node, x, weights, None, suffix="_product")
    return ctx.emit(
        "add",
        [product, ctx.tensor(c, node.inputs[2])],
        AddAttrs(),
        node=f"{node.name}_add",
        out=node.outputs[0],
    )


def matmul(ctx: Context, node: OnnxNode) -> Value:
    """A B where one of both is a constant matrix or vector."""
    a, b = ctx.value(node, 0), ctx.value(node, 1)
    if not isinstance(b, str):
        return _times_constant(ctx, node, ctx.data(node), b)
    if not isinstance(a, str) and a.ndim == 2 and len(ctx.shape(b)) == 2:
        # A B = (B' A')', so that the constant is on the right.
        weights = ctx.weights(node, 0, "weights (A)")
        y = _fully_connected(ctx, node, ctx.transpose(b, (1, 0)), weights, None, suffix="_product")
        return ctx.transpose(y, (1, 0), node.outputs[0])
    raise Refused("both of its inputs are computed", "multiply by a constant matrix")


def _times_constant(ctx: Context, node: OnnxNode, x: str, b: Array) -> str:
    if b.ndim not in (1, 2):
        raise Refused(
            f"its constant has the shape {list(b.shape)}", "use a matrix (a batch of one)"
        )
    matrix = np.asarray(b, np.float32).reshape(b.shape[0], -1)
    shape = ctx.shape(x)
    if not shape or shape[-1] != matrix.shape[0]:
        raise ModelError(f"MatMul '{node.name}': {list(shape)} times {list(b.shape)}")
    rows = ctx.reshape(x, (1, *shape)) if len(shape) == 1 else x
    y = _fully_connected(ctx, node, rows, np.ascontiguousarray(matrix.T), None)
    return ctx.reshape(y, (*shape[:-1], *b.shape[1:]))


def _fully_connected(
    ctx: Context, node: OnnxNode, x: str, weights: Array, bias: Array | None, suffix: str = ""
) -> str:
    inputs = [x, ctx.constant(node.inputs[1], np.ascontiguousarray(weights))]
    if bias is not None:
        inputs.append(ctx.constant(node.inputs[2], bias))
    attrs = FullyConnectedAttrs(keep_dims=len(ctx.shape(x)) > 2)
    return ctx.emit(
        "fully_connected", inputs, attrs, node=node.name, out=f"{node.outputs[0]}{suffix}"
    )
