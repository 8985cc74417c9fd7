"""ONNX ops of one activation, element by element or row by row."""

from __future__ import annotations

import math

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value, positive_axis
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.graph import NO_ATTRS
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.unary import GeluAttrs

# ONNX ops that are one op here, without attributes.
UNARY: dict[str, str] = {
    "Relu": "relu",
    "Sigmoid": "logistic",
    "Tanh": "tanh",
    "HardSwish": "hard_swish",
    "Exp": "exp",
    "Sqrt": "sqrt",
    "Abs": "abs",
    "Neg": "neg",
}


def unary(ctx: Context, node: OnnxNode) -> Value:
    return ctx.emit(UNARY[node.op], [ctx.data(node)], node=node.name, out=node.outputs[0])


# What a Clip between two bounds is in this IR; others are a maximum and a minimum.
CLIPS: dict[tuple[float, float], str] = {
    (0.0, 6.0): "relu6",
    (0.0, math.inf): "relu",
    (-1.0, 1.0): "relu_n1_to_1",
    (0.0, 1.0): "relu_0_to_1",
}
FLOAT32_MAX = 3.4028234e38


def clip(ctx: Context, node: OnnxNode) -> Value:
    low = ctx.scalar(node, 1, -math.inf, "lower bound")
    high = ctx.scalar(node, 2, math.inf, "upper bound")
    # Exporters write an open bound as the largest float32.
    low = -math.inf if low <= -FLOAT32_MAX else low
    high = math.inf if high >= FLOAT32_MAX else high
    if low > high or math.isnan(low) or math.isnan(high):
        raise ModelError(f"Clip '{node.name}': it clips to {low:g} to {high:g}")
    return clamped(ctx, node, ctx.data(node), low, high)


def clamped(ctx: Context, node: OnnxNode, x: str, low: float, high: float) -> str:
    """x within two bounds, which may be infinite."""
    if (low, high) in CLIPS:
        return ctx.emit(CLIPS[low, high], [x], node=node.name, out=node.outputs[0])
    for op, bound in (("maximum", low), ("minimum", high)):
        if math.isfinite(bound):
            limit = ctx.constant(f"{node.name}_{op}_bound", np.full((), bound, np.float32))
            x = ctx.emit(op, [x, limit], node=f"{node.name}_{op}", out=node.outputs[0])
    return x


def leaky_relu(ctx: Context, node: OnnxNode) -> Value:
    attrs = LeakyReluAttrs(float(node.attrs.get("alpha", 0.01)))
    return ctx.emit("leaky_relu", [ctx.data(node)], attrs, node=node.name, out=node.outputs[0])


def prelu(ctx: Context, node: OnnxNode) -> Value:
    if isinstance(ctx.value(node, 1), str):
        raise Refused("its slope is computed", "use a constant slope")
    return ctx.emit(
        "prelu", [ctx.data(node), ctx.data(node, 1)], node=node.name, out=node.outputs[0]
    )


def elu(ctx: Context, node: OnnxNode) -> Value:
    alpha = float(node.attrs.get("alpha", 1.0))
    if alpha != 1.0:
        raise Refused(f"alpha {alpha}", "use alpha 1")
    return ctx.emit("elu", [ctx.data(node)], node=node.name, out=node.outputs[0])


def gelu(ctx: Context, node: OnnxNode) -> Value:
    attrs = GeluAttrs(node.attrs.get("approximate", "none") == "tanh")
    return ctx.emit("gelu", [ctx.data(node)], attrs, node=node.name, out=node.outputs[0])


def hard_sigmoid(ctx: Context, node: OnnxNode) -> Value:
    """alpha * x + beta, within 0 and 1."""
    alpha, beta = (
        ctx.constant(f"{node.name}_{key}", np.full((), float(node.attrs.get(key, d)), np.float32))
        for key, d in (("alpha", 0.2), ("beta", 0.5))
    )
    name, out = node.name, node.outputs[0]
    x = ctx.emit("mul", [ctx.data(node), alpha], MulAttrs(), node=f"{name}_mul", out=f"{out}_mul")
    x = ctx.emit("add", [x, beta], AddAttrs(), node=f"{name}_add", out=f"{out}_add")
    return clamped(ctx, node, x, 0.0, 1.0)


def softmax(ctx: Context, node: OnnxNode) -> Value:
    return along_axis(ctx, node, ctx.data(node), "softmax")


def log_softmax(ctx: Context, node: OnnxNode) -> Value:
    return along_axis(ctx, node, ctx.data(node), "log_softmax")


def lp_normalization(ctx: Context, node: OnnxNode) -> Value:
    if int(node.attrs.get("p", 2)) != 2:
        raise Refused(f"p {node.attrs['p']}", "use p 2")
    return along_axis(ctx, node, ctx.data(node), "l2_normalization")


def along_axis(ctx: Context, node: OnnxNode, x: str, op: str) -> str:
    """An op over the last axis, for the axis of a node: it goes last, and back."""
    rank = len(ctx.shape(x))
    axis = positive_axis(f"{node.op} '{node.name}'", int(node.attrs.get("axis", -1)), rank)
    perm = [i for i in range(rank) if i != axis] + [axis]
    back = [perm.index(i) for i in range(rank)]
    x = ctx.transpose(x, perm) if axis != rank - 1 else x
    attrs = SoftmaxAttrs() if op == "softmax" else NO_ATTRS
    y = ctx.emit(op, [x], attrs, node=node.name, out=node.outputs[0])
    return ctx.transpose(y, back) if axis != rank - 1 else y


def layer_normalization(ctx: Context, node: OnnxNode) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, in single steps."""
    if any(node.outputs[1:]):
        raise Refused("its mean or deviation is used", "use the normalized output only")
    x, name, out = ctx.data(node), node.name, node.outputs[0]
    rank = len(ctx.shape(x))
    first = positive_axis(f"{node.op} '{name}'", int(node.attrs.get("axis", -1)), rank)
    axes = ReduceAttrs(tuple(range(first, rank)), keep_dims=True)

    def step(op: str, inputs: list[str], attrs: object = NO_ATTRS, what: str = "") -> str:
        return ctx.emit(op, inputs, attrs, node=f"{name}_{what or op}", out=f"{out}_{what or op}")

    centred = step("sub", [x, step("mean", [x], axes)], AddAttrs())
    variance = step("mean", [step("square", [centred])], axes, "variance")
    epsilon = np.full((), float(node.attrs.get("epsilon", 1e-5)), np.float32)
    raised = step("add", [variance, ctx.constant(f"{name}_epsilon", epsilon)], AddAttrs())
    y = step("mul", [centred, step("rsqrt", [raised])], MulAttrs(), "normal")
    scale = ctx.constant(node.inputs[1], ctx.weights(node, 1, "scale"))
    y = step("mul", [y, scale], MulAttrs(), "scaled")
    if node.has_input(2):
        bias = ctx.constant(node.inputs[2], ctx.weights(node, 2, "bias"))
        y = step("add", [y, bias], AddAttrs(), "shifted")
    return y
