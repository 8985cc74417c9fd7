"""ONNX ops that slide a window over an image, and BatchNormalization."""

from __future__ import annotations

import math

import numpy as np

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Parameter, Refused, Value
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.graph import Array, Shape
from tinsmith.pipeline.ops import window
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.window import NO_PADS, Pads, Pair


def pair(node: OnnxNode, attribute: str, rank: int, default: int = 1) -> Pair:
    """An attribute with one number a spatial axis as (h, w); an image of rank 3 has height 1."""
    given = node.attrs.get(attribute)
    values = [default] * (rank - 2) if given is None else [int(v) for v in given]
    if len(values) != rank - 2:
        raise ModelError(
            f"{node.op} '{node.name}': {attribute} {values} for an input of rank {rank}"
        )
    return (default if rank == 3 else values[0], values[-1])


def given_pads(node: OnnxNode, rank: int) -> Pads:
    """The attribute pads as (top, bottom, left, right)."""
    values = [int(v) for v in node.attrs.get("pads", [0] * 2 * (rank - 2))]
    if len(values) != 2 * (rank - 2):
        raise ModelError(f"{node.op} '{node.name}': pads {values} for an input of rank {rank}")
    if min(values) < 0:
        raise Refused(f"pads {values} are negative", "slice the input before this layer")
    if rank == 3:
        return (0, 0, values[0], values[1])
    return (values[0], values[2], values[1], values[3])


def window_pads(
    node: OnnxNode, rank: int, size: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> Pads:
    """The explicit padding of a node, from pads or auto_pad."""
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return given_pads(node, rank)
    if auto == "VALID":
        return NO_PADS
    top, bottom, left, right = window.same_pads(size, kernel, stride, dilation)
    if auto == "SAME_UPPER":
        return (top, bottom, left, right)
    if auto == "SAME_LOWER":
        return (bottom, top, right, left)
    raise ModelError(f"{node.op} '{node.name}': auto_pad '{auto}' does not exist")


def _check_positive(node: OnnxNode, **pairs: Pair) -> None:
    for what, values in pairs.items():
        if min(values) < 1:
            raise ModelError(f"{node.op} '{node.name}': {what} {values}; allowed: at least 1")


def conv(ctx: Context, node: OnnxNode) -> Value:
    bias = ctx.parameter(node, 2, "bias") if node.has_input(2) else None
    names = (node.inputs[1], node.inputs[2] if bias is not None else "")
    return convolve(ctx, node, ctx.data(node), ctx.parameter(node, 1, "weights"), bias, names)


def convolve(
    ctx: Context,
    node: OnnxNode,
    x: str,
    weights: Parameter,
    bias: Parameter | None,
    names: tuple[str, str],
) -> str:
    """A convolution by the attributes of a node; names: of the weights and of the bias."""
    rank = len(ctx.shape(x))
    w = _kernel_as_2d(weights.symmetric())
    if len(w.shape) != 4 or rank not in (3, 4):
        raise Refused(
            f"weights {list(w.shape)} for an input of rank {rank}", "use 1-D or 2-D convolutions"
        )
    groups = int(node.attrs.get("group", 1))
    stride, dilation = pair(node, "strides", rank), pair(node, "dilations", rank)
    kernel: Pair = (w.shape[2], w.shape[3])
    _check_positive(node, strides=stride, dilations=dilation, kernel=kernel)
    channels = ctx.shape(x)[1]
    if groups < 1 or channels != w.shape[1] * groups or w.shape[0] % groups:
        raise ModelError(
            f"{node.op} '{node.name}': {groups} groups of weights {list(w.shape)} "
            f"for {channels} input channels"
        )
    depthwise = groups == channels and groups > 1
    op, layout = ("depthwise_conv2d", (1, 2, 3, 0)) if depthwise else ("conv2d", (0, 2, 3, 1))
    make = DepthwiseConv2dAttrs if depthwise else Conv2dAttrs

    def body(image: str) -> str:
        _, h, width, _ = ctx.shape(image)
        pads = window_pads(node, rank, (h, width), kernel, stride, dilation)
        inputs = [image, ctx.parameter_tensor(names[0], w.transposed(layout))]
        if bias is not None:
            inputs.append(ctx.parameter_tensor(names[1], bias))
        attrs = make(stride, dilation, pads)
        return ctx.emit(op, inputs, attrs, node=node.name, out=node.outputs[0])

    return ctx.in_nhwc(x, node.name, body)


def _kernel_as_2d(weights: Parameter) -> Parameter:
    """[o, i, k] becomes [o, i, 1, k]."""
    if len(weights.shape) != 3:
        return weights
    integers = None if weights.integers is None else weights.integers[:, :, None, :]
    return Parameter(weights.values[:, :, None, :], weights.quant, integers)


def batch_normalization(ctx: Context, node: OnnxNode) -> Value:
    """y = x * scale + shift a channel: a depthwise 1x1 convolution, which the passes fold away."""
    if int(node.attrs.get("training_mode", 0)) or any(node.outputs[1:]):
        raise Refused("it is in training mode", "export the module after module.eval()")
    gamma, beta, mean, variance = (
        ctx.weights(node, i, "parameters").reshape(-1).astype(np.float64) for i in range(1, 5)
    )
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
        shift = (beta - mean * scale).astype(np.float32)
        scale = scale.astype(np.float32)
    if not (np.all(np.isfinite(scale)) and np.all(np.isfinite(shift))):
        raise ModelError(f"BatchNormalization '{node.name}': scale or shift is not finite")
    return per_channel(ctx, node, ctx.data(node), scale, shift)


def per_channel(ctx: Context, node: OnnxNode, x: str, scale: Array, shift: Array) -> str:
    """x * scale + shift, each one per channel (axis 1) of x of rank 2 to 4."""
    shape = ctx.shape(x)
    if len(shape) < 2 or shape[1] != scale.size:
        raise ModelError(
            f"{node.op} '{node.name}': {scale.size} channels for an input {list(shape)}"
        )

    def body(image: str) -> str:
        w = ctx.constant(f"{node.name}_scale", scale.astype(np.float32).reshape(1, 1, 1, -1))
        b = ctx.constant(f"{node.name}_shift", shift.astype(np.float32))
        return ctx.emit(
            "depthwise_conv2d",
            [image, w, b],
            DepthwiseConv2dAttrs(),
            node=node.name,
            out=node.outputs[0],
        )

    if len(shape) == 2:
        return ctx.reshape(body(ctx.reshape(x, (shape[0], 1, 1, shape[1]))), shape)
    return ctx.in_nhwc(x, node.name, body)


def _pool_pads(
    node: OnnxNode, rank: int, size: Pair, kernel: Pair, stride: Pair
) -> tuple[Pads, Pads]:
    """(explicit padding, further padding at bottom and right that ceil_mode asks for)."""
    pads = window_pads(node, rank, size, kernel, stride, (1, 1))
    extra = [0, 0]
    if int(node.attrs.get("ceil_mode", 0)):
        for axis in (0, 1):
            padded = size[axis] + pads[2 * axis] + pads[2 * axis + 1]
            out = max(math.ceil((padded - kernel[axis]) / stride[axis]) + 1, 1)
            # A window that would start in the padding at the end is left out.
            if (out - 1) * stride[axis] >= size[axis] + pads[2 * axis]:
                out -= 1
            extra[axis] = max((out - 1) * stride[axis] + kernel[axis] - padded, 0)
    return pads, (0, extra[0], 0, extra[1])


def _pool_geometry(ctx: Context, node: OnnxNode, x: str) -> tuple[int, Pair, Pair]:
    rank = len(ctx.shape(x))
    if rank not in (3, 4):
        raise Refused(f"its input has rank {rank}", "use 1-D or 2-D pooling")
    kernel, stride = pair(node, "kernel_shape", rank), pair(node, "strides", rank)
    _check_positive(node, kernel_shape=kernel, strides=stride)
    if pair(node, "dilations", rank) != (1, 1):
        raise Refused(
            f"dilations {node.attrs['dilations']}", "use pooling without dilation (dilations 1)"
        )
    return rank, kernel, stride


def max_pool(ctx: Context, node: OnnxNode) -> Value:
    x = ctx.data(node)
    rank, kernel, stride = _pool_geometry(ctx, node, x)

    def body(image: str) -> str:
        size = ctx.shape(image)[1:3]
        pads, extra = _pool_pads(node, rank, (size[0], size[1]), kernel, stride)
        return _pool(ctx, node, "max_pool2d", image, kernel, stride, _sum(pads, extra))

    return ctx.in_nhwc(x, node.name, body)


def average_pool(ctx: Context, node: OnnxNode) -> Value:
    return average_pool_of(ctx, node, ctx.data(node))


def average_pool_of(ctx: Context, node: OnnxNode, x: str) -> str:
    """The average of a tensor over the window of a node."""
    rank, kernel, stride = _pool_geometry(ctx, node, x)

    def body(image: str) -> str:
        size = ctx.shape(image)[1:3]
        pads, extra = _pool_pads(node, rank, (size[0], size[1]), kernel, stride)
        if int(node.attrs.get("count_include_pad", 0)) and any(pads):
            # Padding that counts is an explicit border of zeros; what ceil_mode adds never counts.
            borders = ((0, 0), pads[:2], pads[2:], (0, 0))
            image = ctx.emit(
                "pad",
                [image],
                PadAttrs(borders),
                node=f"{node.name}_pad",
                out=f"{node.outputs[0]}_pad",
            )
            pads = NO_PADS
        return _pool(ctx, node, "average_pool2d", image, kernel, stride, _sum(pads, extra))

    return ctx.in_nhwc(x, node.name, body)


def _sum(a: Pads, b: Pads) -> Pads:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def _pool(
    ctx: Context, node: OnnxNode, op: str, image: str, kernel: Pair, stride: Pair, pads: Pads
) -> str:
    attrs = Pool2dAttrs(kernel, stride, pads)
    return ctx.emit(op, [image], attrs, node=node.name, out=node.outputs[0])


def global_max_pool(ctx: Context, node: OnnxNode) -> Value:
    def body(image: str) -> str:
        shape: Shape = ctx.shape(image)
        kernel = (shape[1], shape[2])
        return _pool(ctx, node, "max_pool2d", image, kernel, kernel, NO_PADS)

    return ctx.in_nhwc(ctx.data(node), node.name, body)
