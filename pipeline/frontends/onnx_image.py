"""ONNX ops that give images another size."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value
from tinsmith.pipeline.frontends.onnx_file import OnnxNode, check_shape
from tinsmith.pipeline.frontends.onnx_window import pair
from tinsmith.pipeline.ops.blocks import BlockAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs, nearest_indices
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs
from tinsmith.pipeline.ops.window import Pair

REMEDY = "resize height and width by nearest or linear, with align_corners or half_pixel"


def conv_transpose(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    rank = len(ctx.shape(x))
    weights = ctx.parameter(node, 1, "weights").symmetric()
    if rank != 4 or len(weights.shape) != 4:
        raise Refused(f"its input has rank {rank}", "use 2-D transposed convolutions")
    if int(node.attrs.get("group", 1)) != 1 or pair(node, "dilations", rank) != (1, 1):
        raise Refused("it has groups or dilation", "use one group without dilation")
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or (
        "output_shape" in node.attrs
    ):
        raise Refused("its padding follows from its output", "give pads and output_padding")
    stride, extra = pair(node, "strides", rank), pair(node, "output_padding", rank, 0)
    top, left, bottom, right = (int(p) for p in node.attrs.get("pads", (0, 0, 0, 0)))
    pads = (top, bottom - extra[0], left, right - extra[1])

    def body(image: str) -> str:
        name = ctx.parameter_tensor(node.inputs[1], weights.transposed((1, 2, 3, 0)))
        inputs = [image, name]
        if node.has_input(2):
            bias = ctx.parameter(node, 2, "bias")
            inputs.append(ctx.parameter_tensor(node.inputs[2], bias))
        attrs = TransposeConv2dAttrs(stride, pads)
        return ctx.emit("transpose_conv2d", inputs, attrs, node=node.name, out=node.outputs[0])

    return ctx.in_nhwc(x, node.name, body)


def depth_to_space(ctx: Context, node: OnnxNode) -> Value:
    """Mode CRD has the channels of a block apart: they are brought together first."""
    block = int(node.attrs["blocksize"])
    crd = node.attrs.get("mode", "DCR") == "CRD"

    def body(image: str) -> str:
        channels = ctx.shape(image)[3]
        if crd and block > 0 and channels % block**2 == 0:
            order = np.arange(channels, dtype=np.int32).reshape(-1, block**2).T.reshape(-1)
            indices = ctx.constant(f"{node.name}_order", np.ascontiguousarray(order))
            label = f"{node.name}_order"
            out = f"{node.outputs[0]}_ordered"
            image = ctx.emit("gather", [image, indices], GatherAttrs(3), node=label, out=out)
        attrs = BlockAttrs(block)
        return ctx.emit("depth_to_space", [image], attrs, node=node.name, out=node.outputs[0])

    return _image(ctx, node, body)


def space_to_depth(ctx: Context, node: OnnxNode) -> Value:
    attrs = BlockAttrs(int(node.attrs["blocksize"]))

    def body(image: str) -> str:
        return ctx.emit("space_to_depth", [image], attrs, node=node.name, out=node.outputs[0])

    return _image(ctx, node, body)


def _image(ctx: Context, node: OnnxNode, body: Callable[[str], str]) -> str:
    x = ctx.data(node)
    if len(ctx.shape(x)) != 4:
        raise ModelError(f"{node.op} '{node.name}': its input {list(ctx.shape(x))} is no image")
    return ctx.in_nhwc(x, node.name, body)


def resize(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    shape = ctx.shape(x)
    if len(shape) != 4:
        raise Refused(f"its input has rank {len(shape)}", REMEDY)
    target, scales = _target(ctx, node)
    if target[:2] != shape[:2] or int(node.attrs.get("antialias", 0)):
        raise Refused(f"it resizes {list(shape)} to {list(target)}", REMEDY)
    size: Pair = (target[2], target[3])
    mode = node.attrs.get("mode", "nearest")
    if mode == "nearest":
        op, attrs = "resize_nearest", _nearest(node, (shape[2], shape[3]), size, scales)
    elif mode == "linear":
        op, attrs = "resize_bilinear", _linear(node, (shape[2], shape[3]), size, scales)
    else:
        raise Refused(f"mode '{mode}'", REMEDY)
    return ctx.in_nhwc(
        x,
        node.name,
        lambda image: ctx.emit(op, [image], attrs, node=node.name, out=node.outputs[0]),
    )


def _target(ctx: Context, node: OnnxNode) -> tuple[tuple[int, ...], tuple[float, float]]:
    """The shape of the output, and the factors of height and width."""
    shape = ctx.shape(ctx.value(node, 0))
    given = node.attrs.get("axes")
    axes = [int(a) % 4 for a in given] if given is not None else [0, 1, 2, 3]
    target, factors = list(shape), [1.0] * 4
    if node.has_input(3):
        if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise Refused("it keeps the aspect ratio", REMEDY)
        for axis, size in zip(axes, ctx.integers(node, 3, "sizes"), strict=True):
            target[axis], factors[axis] = size, size / shape[axis]
    else:
        for axis, factor in zip(axes, ctx.weights(node, 2, "scales").reshape(-1), strict=True):
            target[axis], factors[axis] = int(np.floor(shape[axis] * factor)), float(factor)
    if min(target) < 1:
        raise ModelError(f"Resize '{node.name}': {list(shape)} to {target}")
    return check_shape(f"Resize '{node.name}': its output", target), (factors[2], factors[3])


def _places(node: OnnxNode, size: int, out: int, scale: float) -> NDArray[np.float64]:
    """Where each output pixel lies in the input, by ONNX's coordinate transformation."""
    i = np.arange(out, dtype=np.float64)
    mode = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and out > 1):
        return (i + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return np.zeros(out)
    if mode == "asymmetric":
        return i / scale
    if mode == "align_corners":
        return i * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
    raise Refused(f"coordinate_transformation_mode '{mode}'", REMEDY)


ROUNDINGS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(node: OnnxNode, size: Pair, out: Pair, scales: tuple[float, float]) -> ResizeAttrs:
    """The attributes that choose the same pixels."""
    rounding = ROUNDINGS.get(node.attrs.get("nearest_mode", "round_prefer_floor"))
    if rounding is None:
        raise ModelError(f"Resize '{node.name}': nearest_mode does not exist")
    wanted = [
        np.clip(rounding(_places(node, size[i], out[i], scales[i])), 0, size[i] - 1) for i in (0, 1)
    ]
    for align, half in ((False, False), (False, True), (True, False)):
        attrs = ResizeAttrs(out, align, half)
        if all(np.array_equal(wanted[i], nearest_indices(size[i], out[i], attrs)) for i in (0, 1)):
            return attrs
    raise Refused("its way to choose the nearest pixel", REMEDY)


def _linear(node: OnnxNode, size: Pair, out: Pair, scales: tuple[float, float]) -> ResizeAttrs:
    """The attributes that interpolate at the same places."""
    wanted = [_places(node, size[i], out[i], scales[i]) for i in (0, 1)]
    for align, half in itertools.product((False, True), repeat=2):
        if align and half:
            continue
        offset = 0.5 if half else 0.0
        found = [
            (np.arange(o) + offset) * ((s - 1) / (o - 1) if align and o > 1 else s / o) - offset
            for s, o in zip(size, out, strict=True)
        ]
        if all(
            np.allclose(np.clip(a, 0, s - 1), np.clip(b, 0, s - 1), atol=1e-5)
            for a, b, s in zip(wanted, found, size, strict=True)
        ):
            return ResizeAttrs(out, align, half)
    raise Refused("its way to place the pixels", REMEDY)
