"""ONNX ops of two and more tensors, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinsmith.pipeline.frontends.onnx_context import (
    Context,
    Parameter,
    Refused,
    Value,
    parameter_of,
)
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.graph import NO_ATTRS
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.mul import MulAttrs


def _emit(ctx: Context, node: OnnxNode, op: str, inputs: list[str], attrs: Any = NO_ATTRS) -> str:
    return ctx.emit(op, inputs, attrs, node=node.name, out=node.outputs[0])


def add(ctx: Context, node: OnnxNode) -> Value:
    return _emit(ctx, node, "add", [ctx.data(node, 0), ctx.data(node, 1)], AddAttrs())


def mul(ctx: Context, node: OnnxNode) -> Value:
    return _emit(ctx, node, "mul", [ctx.data(node, 0), ctx.data(node, 1)], MulAttrs())


def sub(ctx: Context, node: OnnxNode) -> Value:
    """A constant that is taken away is one that is added, which can become a bias.

    Not one that is quantized already, which stays as it is.
    """
    value = ctx.value(node, 1)
    if isinstance(value, str) or (isinstance(value, Parameter) and value.quant is not None):
        return _emit(ctx, node, "sub", [ctx.data(node, 0), ctx.data(node, 1)], AddAttrs())
    negative = ctx.constant(f"{node.inputs[1]}_negative", -parameter_of(value).values)
    return _emit(ctx, node, "add", [ctx.data(node, 0), negative], AddAttrs())


def div(ctx: Context, node: OnnxNode) -> Value:
    """By a constant: a product with its reciprocal."""
    value = ctx.value(node, 1)
    if isinstance(value, str):
        raise Refused("it divides by a computed tensor", "divide by a constant")
    divisor = parameter_of(value).values
    if np.any(divisor == 0):
        raise Refused("it divides by zero", "divide by a constant other than 0")
    inverse = ctx.constant(
        f"{node.inputs[1]}_inverse", (np.float32(1) / divisor).astype(np.float32)
    )
    return _emit(ctx, node, "mul", [ctx.data(node, 0), inverse], MulAttrs())


# What a power with a constant exponent is.
POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt"}


def power(ctx: Context, node: OnnxNode) -> Value:
    exponent = ctx.scalar(node, 1, 1.0, "exponent")
    if exponent == 1.0:
        return ctx.value(node, 0)
    if exponent not in POWERS:
        allowed = ", ".join(f"{e:g}" for e in (1.0, *POWERS))
        raise Refused(f"its exponent is {exponent:g}", f"use one of {allowed}")
    return _emit(ctx, node, POWERS[exponent], [ctx.data(node)])


def minimum(ctx: Context, node: OnnxNode) -> Value:
    return _chain(ctx, node, "minimum", NO_ATTRS)


def maximum(ctx: Context, node: OnnxNode) -> Value:
    return _chain(ctx, node, "maximum", NO_ATTRS)


def total(ctx: Context, node: OnnxNode) -> Value:
    return _chain(ctx, node, "add", AddAttrs())


def _chain(ctx: Context, node: OnnxNode, op: str, attrs: Any) -> str:
    """An op of two inputs over any number of them."""
    y = ctx.data(node, 0)
    for i in range(1, len(node.inputs)):
        y = _emit(ctx, node, op, [y, ctx.data(node, i)], attrs)
    return y
