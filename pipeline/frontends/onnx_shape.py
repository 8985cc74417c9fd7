"""ONNX ops that move values without changing them."""

from __future__ import annotations

import math

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value, positive_axis
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.ops.pad import PadAttrs


def identity(ctx: Context, node: OnnxNode) -> Value:
    return ctx.value(node, 0)


def dropout(ctx: Context, node: OnnxNode) -> Value:
    """Nothing, as always at inference."""
    if node.has_input(2) and ctx.scalar(node, 2, 0.0, "training_mode"):
        raise Refused("it is in training mode", "export the module after module.eval()")
    if any(node.outputs[1:]):
        raise Refused("its mask is used", "export the module after module.eval()")
    return ctx.value(node, 0)


def shape(ctx: Context, node: OnnxNode) -> Value:
    dims = ctx.shape(ctx.value(node, 0))
    start, end = int(node.attrs.get("start", 0)), node.attrs.get("end")
    return np.asarray(dims[start : None if end is None else int(end)], np.int64)


def flatten(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    dims = ctx.shape(x)
    axis = int(node.attrs.get("axis", 1))
    if not -len(dims) <= axis <= len(dims):
        raise ModelError(f"Flatten '{node.name}': axis {axis} of an input {list(dims)}")
    axis = axis + len(dims) if axis < 0 else axis
    return ctx.reshape(x, (math.prod(dims[:axis]), math.prod(dims[axis:])), node.outputs[0])


def reshape(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    dims = ctx.shape(x)
    target = list(ctx.integers(node, 1, "shape"))
    for i, d in enumerate(target):
        if d == 0 and not int(node.attrs.get("allowzero", 0)):
            if i >= len(dims):
                raise ModelError(f"Reshape '{node.name}': shape {target} copies axis {i}")
            target[i] = dims[i]
    if target.count(-1) > 1 or min(target, default=0) < -1:
        raise ModelError(f"Reshape '{node.name}': shape {target}; allowed: one -1, else sizes")
    if -1 in target:
        known = math.prod(d for d in target if d != -1)
        if not known or math.prod(dims) % known:
            raise ModelError(f"Reshape '{node.name}': {list(dims)} does not go into {target}")
        target[target.index(-1)] = math.prod(dims) // known
    if math.prod(target) != math.prod(dims):
        raise ModelError(f"Reshape '{node.name}': {list(dims)} does not go into {target}")
    return ctx.reshape(x, target, node.outputs[0])


def squeeze(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    dims = ctx.shape(x)
    if node.has_input(1):
        given = ctx.integers(node, 1, "axes")
        axes = {positive_axis(f"Squeeze '{node.name}'", a, len(dims)) for a in given}
    else:
        axes = {i for i, d in enumerate(dims) if d == 1}
    if any(dims[a] != 1 for a in axes):
        raise ModelError(f"Squeeze '{node.name}': axes {sorted(axes)} of {list(dims)} are not 1")
    return ctx.reshape(x, [d for i, d in enumerate(dims) if i not in axes], node.outputs[0])


def unsqueeze(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    given = ctx.integers(node, 1, "axes")
    rank = len(ctx.shape(x)) + len(given)
    axes = {positive_axis(f"Unsqueeze '{node.name}'", a, rank) for a in given}
    if len(axes) != len(given):
        raise ModelError(f"Unsqueeze '{node.name}': axes {given} name an axis twice")
    rest = iter(ctx.shape(x))
    return ctx.reshape(x, [1 if i in axes else next(rest) for i in range(rank)], node.outputs[0])


def transpose(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    rank = len(ctx.shape(x))
    perm = [int(p) for p in node.attrs.get("perm", range(rank - 1, -1, -1))]
    if sorted(perm) != list(range(rank)):
        raise ModelError(f"Transpose '{node.name}': perm {perm} for an input of rank {rank}")
    return ctx.transpose(x, perm, node.outputs[0])


def pad(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    rank = len(ctx.shape(x))
    mode = node.attrs.get("mode", "constant")
    if mode != "constant":
        raise Refused(f"mode '{mode}'", "use padding by a constant")
    pads = ctx.integers(node, 1, "pads")
    given = ctx.integers(node, 3, "axes") if node.has_input(3) else tuple(range(rank))
    axes = [positive_axis(f"Pad '{node.name}'", a, rank) for a in given]
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise ModelError(f"Pad '{node.name}': pads {pads} for axes {axes} of rank {rank}")
    if min(pads, default=0) < 0:
        raise Refused(f"pads {pads} are negative", "slice instead")
    borders = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        borders[axis] = (pads[i], pads[i + len(axes)])
    attrs = PadAttrs(tuple(borders), ctx.scalar(node, 2, 0.0, "value"))
    return ctx.emit("pad", [x], attrs, node=node.name, out=node.outputs[0])
