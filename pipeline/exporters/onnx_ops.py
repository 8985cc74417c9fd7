"""The ops that go out to ONNX, each with the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from tinsmith.pipeline.exporters.onnx_site import TO_NCHW, TO_NHWC, Site


def write_conv2d(site: Site) -> str:
    a, x, w = site.node.attrs, site.call.input(0), site.call.input(1)
    groups = x.shape[3] // w.shape[3]
    inputs = [site.value(0), site.weights((0, 3, 1, 2)), *site.bias()]
    return site.clamped(site.add("Conv", inputs, group=groups, **_window(a, w.shape[1:3])))


def write_depthwise_conv2d(site: Site) -> str:
    a, x, w = site.node.attrs, site.call.input(0), site.call.input(1)
    inputs = [site.value(0), site.weights((3, 0, 1, 2)), *site.bias()]
    return site.clamped(site.add("Conv", inputs, group=x.shape[3], **_window(a, w.shape[1:3])))


def _window(attrs: Any, kernel: Sequence[int]) -> dict[str, Any]:
    top, bottom, left, right = attrs.pads
    found = {
        "kernel_shape": list(kernel),
        "strides": list(attrs.stride),
        "pads": [top, left, bottom, right],
    }
    if hasattr(attrs, "dilation"):
        found["dilations"] = list(attrs.dilation)
    return found


def write_fully_connected(site: Site) -> str:
    x, w, y = site.call.input(0), site.call.input(1), site.call.output
    value = site.value(0)
    rows = (x.size // w.shape[1], w.shape[1])
    if x.shape != rows:
        value = site.reshaped(site.as_nhwc(value, len(x.shape)), rows)
    value = site.add("Gemm", [value, site.weights((0, 1)), *site.bias()], transB=1)
    if y.shape != (rows[0], w.shape[0]):
        value = site.as_nchw(site.reshaped(value, y.shape), len(y.shape))
    return site.clamped(value)


def write_transpose_conv2d(site: Site) -> str:
    a, x, w, y = site.node.attrs, site.call.input(0), site.call.input(1), site.call.output
    top, bottom, left, right = a.pads
    # A negative pad at the end is a longer output.
    attrs = {
        "kernel_shape": list(w.shape[1:3]),
        "strides": list(a.stride),
        "pads": [top, left, max(bottom, 0), max(right, 0)],
        "output_padding": [max(-bottom, 0), max(-right, 0)],
    }
    assert len(x.shape) == len(y.shape) == 4
    inputs = [site.value(0), site.weights((3, 0, 1, 2)), *site.bias()]
    return site.clamped(site.add("ConvTranspose", inputs, **attrs))


def write_binary(site: Site) -> str:
    value = site.add(BINARY[site.node.op], [site.broadcast(0), site.broadcast(1)])
    return site.clamped(value) if hasattr(site.node.attrs, "activation") else value


def write_squared_difference(site: Site) -> str:
    difference = site.add("Sub", [site.broadcast(0), site.broadcast(1)])
    return site.add("Mul", [difference, difference])


def write_unary(site: Site) -> str:
    return site.add(UNARY[site.node.op], [site.value(0)])


def write_clip(site: Site) -> str:
    return site.clip(site.value(0), site.node.op)


def write_leaky_relu(site: Site) -> str:
    return site.add("LeakyRelu", [site.value(0)], alpha=float(site.node.attrs.alpha))


def write_gelu(site: Site) -> str:
    approximate = "tanh" if site.node.attrs.approximate else "none"
    return site.add("Gelu", [site.value(0)], approximate=approximate)


def write_power(site: Site) -> str:
    exponent = 2.0 if site.node.op == "square" else -0.5
    return site.add("Pow", [site.value(0), site.number("exponent", exponent)])


def write_concatenation(site: Site) -> str:
    values = [site.value(i) for i in range(len(site.call.inputs))]
    return site.add("Concat", values, axis=site.onnx_axis(site.node.attrs.axis))


def write_split(site: Site) -> tuple[str, ...]:
    """As slices, since each output has a name of its own."""
    axis, start, parts = site.node.attrs.axis, 0, []
    for i, size in enumerate(site.node.attrs.sizes):
        inputs = [
            site.value(0),
            site.integers(f"start{i}", [start]),
            site.integers(f"end{i}", [start + size]),
            site.integers(f"axis{i}", [site.onnx_axis(axis)]),
        ]
        parts.append(site.add("Slice", inputs))
        start += size
    return tuple(parts)


def write_slice(site: Site) -> str:
    a = site.node.attrs
    axes = [i for i in range(site.rank) if (a.begin[i], a.size[i], a.steps[i]) != (
        0, site.call.input(0).shape[i], 1
    )]  # fmt: skip
    ends = [a.begin[i] + a.size[i] * a.steps[i] for i in axes]
    inputs = [
        site.value(0),
        site.integers("starts", [a.begin[i] for i in axes]),
        # Backwards to the front: an end before the first element, which -1 would not be.
        site.integers("ends", [e if e >= 0 else -(1 << 31) for e in ends]),
        site.integers("axes", [site.onnx_axis(i) for i in axes]),
        site.integers("steps", [a.steps[i] for i in axes]),
    ]
    return site.add("Slice", inputs) if axes else site.value(0)


def write_gather(site: Site) -> str:
    """In the graph's own order of axes: indices of any rank take the place of one."""
    x, y = site.call.input(0), site.call.output
    value = site.as_nhwc(site.value(0), len(x.shape))
    indices = site.value(1)
    if len(site.call.input(1).shape) == 4 and not site.call.input(1).is_constant:
        indices = site.as_nhwc(indices, 4)
    taken = site.add("Gather", [value, indices], axis=site.node.attrs.axis)
    return site.as_nchw(taken, len(y.shape))


def write_batch_matmul(site: Site) -> str:
    """In the graph's own order of axes, since products are of the last two."""
    values = []
    for i, swapped in enumerate((site.node.attrs.adjoint_a, site.node.attrs.adjoint_b)):
        rank = len(site.call.input(i).shape)
        value = site.as_nhwc(site.value(i), rank)
        perm = (*range(rank - 2), rank - 1, rank - 2)
        values.append(site.add("Transpose", [value], perm=perm) if swapped else value)
    return site.as_nchw(site.add("MatMul", values), site.rank)


def write_arg(site: Site) -> str:
    rank = len(site.call.input(0).shape)
    value = site.as_nhwc(site.value(0), rank)
    op = "ArgMax" if site.node.op == "arg_max" else "ArgMin"
    found = site.add(op, [value], axis=site.node.attrs.axis, keepdims=0)
    kind = helper.np_dtype_to_tensor_dtype(site.call.output.dtype.numpy)
    return site.as_nchw(site.add("Cast", [found], to=int(kind)), site.rank)


def write_resize(site: Site) -> str:
    a = site.node.attrs
    shape = [site.call.output.shape[i] for i in TO_NCHW]
    places = "asymmetric"
    if a.align_corners or a.half_pixel_centers:
        places = "align_corners" if a.align_corners else "half_pixel"
    attrs = {"coordinate_transformation_mode": places, "mode": "linear"}
    if site.node.op == "resize_nearest":
        rounding = "floor" if places == "asymmetric" else "round_prefer_ceil"
        attrs |= {"mode": "nearest", "nearest_mode": rounding}
    inputs = [site.value(0), "", "", site.integers("sizes", shape)]
    return site.add("Resize", inputs, **attrs)


def write_blocks(site: Site) -> str:
    op = "DepthToSpace" if site.node.op == "depth_to_space" else "SpaceToDepth"
    return site.add(op, [site.value(0)], blocksize=site.node.attrs.block)


def write_rowwise(site: Site) -> str:
    axis = site.onnx_axis(site.rank - 1)
    if site.node.op == "l2_normalization":
        return site.add("LpNormalization", [site.value(0)], axis=axis, p=2)
    return site.add("LogSoftmax", [site.value(0)], axis=axis)


def write_max_pool2d(site: Site) -> str:
    a = site.node.attrs
    return site.clamped(site.add("MaxPool", [site.value(0)], **_window(a, a.kernel)))


def write_average_pool2d(site: Site) -> str:
    a = site.node.attrs
    value = site.add("AveragePool", [site.value(0)], count_include_pad=0, **_window(a, a.kernel))
    return site.clamped(value)


def write_reduction(site: Site) -> str:
    a, x, y = site.node.attrs, site.call.input(0), site.call.output
    op = REDUCTIONS[site.node.op]
    image = len(x.shape) == 4
    axes = sorted(TO_NCHW.index(axis) for axis in a.axes) if image else a.axes
    keep = image or a.keep_dims
    value = site.add(op, [site.value(0), site.integers("axes", axes)], keepdims=int(keep))
    if keep == a.keep_dims:
        return value
    return site.reshaped(site.as_nhwc(value, 4), y.shape)


def write_pad(site: Site) -> str:
    pads = site.node.attrs.pads
    if len(pads) == 4:
        pads = [pads[i] for i in TO_NCHW]
    flat = [p[0] for p in pads] + [p[1] for p in pads]
    inputs = [
        site.value(0),
        site.writer.constant(f"{site.node.name}_pads", np.asarray(flat, np.int64)),
        site.writer.constant(f"{site.node.name}_value", np.float32(site.node.attrs.value)),
    ]
    return site.add("Pad", inputs)


def write_reshape(site: Site) -> str:
    x, y = site.call.input(0), site.call.output
    value = site.reshaped(site.as_nhwc(site.value(0), len(x.shape)), y.shape)
    return site.as_nchw(value, len(y.shape))


def write_transpose(site: Site) -> str:
    perm = list(site.node.attrs.perm)
    if len(perm) == 4:
        # NCHW to NHWC, the transpose, and NHWC to NCHW in one.
        perm = [TO_NHWC[perm[i]] for i in TO_NCHW]
    return site.add("Transpose", [site.value(0)], perm=perm)


def write_softmax(site: Site) -> str:
    rank = len(site.call.input(0).shape)
    value = site.value(0)
    if site.node.attrs.beta != 1.0:
        beta = site.writer.constant(f"{site.node.name}_beta", np.float32(site.node.attrs.beta))
        value = site.add("Mul", [value, beta])
    return site.add("Softmax", [value], axis=1 if rank == 4 else rank - 1)


def write_same(site: Site) -> str:
    """quantize and dequantize: what is around every tensor says it already."""
    return site.value(0)


BINARY = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "maximum": "Max",
    "minimum": "Min",
    "prelu": "PRelu",
}
UNARY = {
    "logistic": "Sigmoid",
    "tanh": "Tanh",
    "hard_swish": "HardSwish",
    "exp": "Exp",
    "elu": "Elu",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
}
REDUCTIONS = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
}

WRITERS: dict[str, Callable[[Site], str | tuple[str, ...]]] = {
    "conv2d": write_conv2d,
    "depthwise_conv2d": write_depthwise_conv2d,
    "transpose_conv2d": write_transpose_conv2d,
    "fully_connected": write_fully_connected,
    "batch_matmul": write_batch_matmul,
    **dict.fromkeys(BINARY, write_binary),
    "squared_difference": write_squared_difference,
    "max_pool2d": write_max_pool2d,
    "average_pool2d": write_average_pool2d,
    **dict.fromkeys(REDUCTIONS, write_reduction),
    "arg_max": write_arg,
    "arg_min": write_arg,
    "pad": write_pad,
    "reshape": write_reshape,
    "transpose": write_transpose,
    "concatenation": write_concatenation,
    "split": write_split,
    "slice": write_slice,
    "gather": write_gather,
    "resize_nearest": write_resize,
    "resize_bilinear": write_resize,
    "depth_to_space": write_blocks,
    "space_to_depth": write_blocks,
    "relu": write_clip,
    "relu6": write_clip,
    "relu_n1_to_1": write_clip,
    "relu_0_to_1": write_clip,
    **dict.fromkeys(UNARY, write_unary),
    "leaky_relu": write_leaky_relu,
    "gelu": write_gelu,
    "square": write_power,
    "rsqrt": write_power,
    "softmax": write_softmax,
    "log_softmax": write_rowwise,
    "l2_normalization": write_rowwise,
    "quantize": write_same,
    "dequantize": write_same,
}
