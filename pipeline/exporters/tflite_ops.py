"""How each op is written into a .tflite: one writer an op, and the table that lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite_elementwise_ops import ELEMENTWISE_WRITERS
from tinsmith.pipeline.exporters.tflite_file import ACTIVATIONS, Subgraph, is_nibbles, zero_bias
from tinsmith.pipeline.exporters.tflite_more_ops import MORE_WRITERS
from tinsmith.pipeline.graph import Array, DType, Tensor
from tinsmith.pipeline.ops import OpCall, window
from tinsmith.pipeline.ops import pad as pad_op


@dataclass(frozen=True)
class Site:
    """Where a writer writes: the subgraph, the node with its tensors, and their indices."""

    sub: Subgraph
    call: OpCall
    inputs: tuple[int, ...]  # -1 where absent
    outputs: tuple[int, ...]

    @property
    def is_int8(self) -> bool:
        return self.call.input(0).dtype is DType.INT8

    def version(self, real: int, int8: int, int16: int) -> int:
        """The version of an operator, which the type of its first input decides."""
        versions = {DType.INT8: int8, DType.INT16: int16}
        return versions.get(self.call.input(0).dtype, real)


Writer = Callable[[Site], None]


def _padding(site: Site, kernel: window.Pair, dilation: window.Pair) -> tuple[int, int]:
    """(input tensor, Padding) of a node with explicit pads, with a PAD before it where needed."""
    call, a = site.call, site.call.attrs
    if not any(a.pads):
        return site.inputs[0], schema.Padding.VALID
    _, h, w, _ = call.input(0).shape
    if a.pads == window.same_pads((h, w), kernel, a.stride, dilation):
        return site.inputs[0], schema.Padding.SAME
    return _pad_before(site, a.pads, 0.0), schema.Padding.VALID


def _pad_before(site: Site, pads: window.Pads, value: float) -> int:
    x = site.call.input(0)
    n, h, w, c = x.shape
    top, bottom, left, right = pads
    shape = (n, h + top + bottom, w + left + right, c)
    padded = site.sub.temporary(f"{x.name}/padded", x, shape)
    pairs = ((0, 0), (top, bottom), (left, right), (0, 0))
    attrs = pad_op.PadAttrs(pairs, value)
    out = Tensor(f"{x.name}/padded", shape, x.dtype, x.quant)
    inner = OpCall(site.call.name, attrs, (x,), (out,))
    write_pad(Site(site.sub, inner, site.inputs[:1], (padded,)))
    return padded


def _with_bias(site: Site, channels: int) -> tuple[int, int]:
    """The weights and the bias of a convolution; zeros where it has none, for tflite-runtime."""
    weights, bias = (*site.inputs[1:], -1)[:2]
    return weights, bias if bias >= 0 else zero_bias(site.sub, site.call, channels)


def write_conv2d(site: Site) -> None:
    call, a = site.call, site.call.attrs
    w = call.input(1)
    x, padding = _padding(site, (w.shape[1], w.shape[2]), a.dilation)
    options = schema.Conv2DOptionsT(
        padding=padding,
        strideH=a.stride[0],
        strideW=a.stride[1],
        dilationHFactor=a.dilation[0],
        dilationWFactor=a.dilation[1],
        fusedActivationFunction=ACTIVATIONS[a.activation],
    )
    grouped = call.input(0).shape[3] != w.shape[3]
    version = 6 if grouped else (7 if is_nibbles(w) else site.version(1, 3, 4))
    inputs = (x, *_with_bias(site, w.shape[0]))
    site.sub.operator("CONV_2D", version, options, inputs, site.outputs)


def write_depthwise_conv2d(site: Site) -> None:
    call, a = site.call, site.call.attrs
    w = call.input(1)
    x, padding = _padding(site, (w.shape[1], w.shape[2]), a.dilation)
    options = schema.DepthwiseConv2DOptionsT(
        padding=padding,
        strideH=a.stride[0],
        strideW=a.stride[1],
        depthMultiplier=w.shape[3] // call.input(0).shape[3],
        dilationHFactor=a.dilation[0],
        dilationWFactor=a.dilation[1],
        fusedActivationFunction=ACTIVATIONS[a.activation],
    )
    version = 7 if is_nibbles(w) else site.version(2, 3, 5)
    inputs = (x, *_with_bias(site, w.shape[3]))
    site.sub.operator("DEPTHWISE_CONV_2D", version, options, inputs, site.outputs)


def write_fully_connected(site: Site) -> None:
    a, w = site.call.attrs, site.call.input(1)
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=ACTIVATIONS[a.activation], keepNumDims=a.keep_dims
    )
    version = 5 if a.keep_dims else site.version(1, 4, 7)
    if len(_present(site.inputs)) == 2:
        version = 6
    if is_nibbles(w):
        version = 10
    elif site.is_int8 and w.quant is not None and w.quant.per_channel:
        version = 12
    # The format asks for the bias to be named, even where it is absent.
    inputs = (*site.inputs, -1)[:3]
    if site.call.input(0).dtype is DType.INT16:
        version = 7
        inputs = (site.inputs[0], *_with_bias(site, w.shape[0]))
    site.sub.operator("FULLY_CONNECTED", version, options, inputs, site.outputs)


def _present(inputs: Sequence[int]) -> tuple[int, ...]:
    """Inputs without the absent ones at the end."""
    kept = list(inputs)
    while kept and kept[-1] < 0:
        kept.pop()
    return tuple(kept)


def write_add(site: Site) -> None:
    options = schema.AddOptionsT(
        fusedActivationFunction=ACTIVATIONS[site.call.attrs.activation], potScaleInt16=False
    )
    site.sub.operator("ADD", site.version(1, 2, 3), options, site.inputs, site.outputs)


def _pool_options(site: Site, padding: int) -> Any:
    a = site.call.attrs
    return schema.Pool2DOptionsT(
        padding=padding,
        strideH=a.stride[0],
        strideW=a.stride[1],
        filterHeight=a.kernel[0],
        filterWidth=a.kernel[1],
        fusedActivationFunction=ACTIVATIONS[a.activation],
    )


def write_max_pool2d(site: Site) -> None:
    a, x = site.call.attrs, site.inputs[0]
    _, h, w, _ = site.call.input(0).shape
    padding = schema.Padding.VALID
    if any(a.pads):
        if a.pads == window.same_pads((h, w), a.kernel, a.stride):
            padding = schema.Padding.SAME
        else:
            x = _pad_before(site, a.pads, -np.inf)
    options = _pool_options(site, padding)
    site.sub.operator("MAX_POOL_2D", site.version(1, 2, 3), options, (x,), site.outputs)


def write_average_pool2d(site: Site) -> None:
    a = site.call.attrs
    _, h, w, _ = site.call.input(0).shape
    same = window.same_pads((h, w), a.kernel, a.stride)
    if any(a.pads) and a.pads != same:
        raise UnsupportedModel(
            f"average_pool2d '{site.call.name}': padding {a.pads} that does not count has no "
            f"counterpart in .tflite; allowed: none, or {same}"
        )
    padding = schema.Padding.SAME if any(a.pads) else schema.Padding.VALID
    options = _pool_options(site, padding)
    version = site.version(1, 2, 3)
    site.sub.operator("AVERAGE_POOL_2D", version, options, site.inputs, site.outputs)


def write_mean(site: Site) -> None:
    a = site.call.attrs
    axes = site.sub.constant(f"{site.call.name}/axes", np.asarray(a.axes, np.int32))
    options = schema.ReducerOptionsT(keepDims=a.keep_dims)
    version = site.version(1, 2, 3)
    site.sub.operator("MEAN", version, options, (site.inputs[0], axes), site.outputs)


def write_pad(site: Site) -> None:
    a, x = site.call.attrs, site.call.input(0)
    name = site.call.name
    pads = site.sub.constant(f"{name}/pads", np.asarray(a.pads, np.int32).reshape(-1, 2))
    version = 3 if len(a.pads) > 4 else site.version(1, 2, 3)
    if a.value == 0.0:
        options = schema.PadOptionsT()
        site.sub.operator("PAD", version, options, (site.inputs[0], pads), site.outputs)
        return
    if x.dtype is DType.FLOAT32:
        info = np.finfo(np.float32)
        border: Array = np.array([np.clip(a.value, info.min, info.max)], np.float32)
    else:
        border = np.array([pad_op.border(site.call)], x.dtype.numpy)
    value = site.sub.constant(f"{name}/value", border, x.quant)
    inputs = (site.inputs[0], pads, value)
    site.sub.operator("PADV2", version, schema.PadV2OptionsT(), inputs, site.outputs)


def write_reshape(site: Site) -> None:
    shape = np.asarray(site.call.output.shape, np.int32)
    index = site.sub.constant(f"{site.call.name}/shape", shape)
    options = schema.ReshapeOptionsT(newShape=shape)
    site.sub.operator("RESHAPE", 1, options, (site.inputs[0], index), site.outputs)


def write_transpose(site: Site) -> None:
    perm = np.asarray(site.call.attrs.perm, np.int32)
    index = site.sub.constant(f"{site.call.name}/perm", perm)
    version = 4 if len(perm) > 4 else site.version(1, 2, 5)
    options = schema.TransposeOptionsT()
    site.sub.operator("TRANSPOSE", version, options, (site.inputs[0], index), site.outputs)


def write_relu(site: Site) -> None:
    site.sub.operator("RELU", site.version(1, 2, 3), None, site.inputs, site.outputs)


def write_relu6(site: Site) -> None:
    site.sub.operator("RELU6", site.version(1, 2, 3), None, site.inputs, site.outputs)


def write_softmax(site: Site) -> None:
    options = schema.SoftmaxOptionsT(beta=site.call.attrs.beta)
    site.sub.operator("SOFTMAX", site.version(1, 2, 3), options, site.inputs, site.outputs)


def write_quantize(site: Site) -> None:
    version = 1 if site.call.input(0).dtype is DType.FLOAT32 else 2
    site.sub.operator("QUANTIZE", version, schema.QuantizeOptionsT(), site.inputs, site.outputs)


def write_dequantize(site: Site) -> None:
    version = site.version(1, 2, 3)
    options = schema.DequantizeOptionsT()
    site.sub.operator("DEQUANTIZE", version, options, site.inputs, site.outputs)


WRITERS: Mapping[str, Writer] = {
    "conv2d": write_conv2d,
    "depthwise_conv2d": write_depthwise_conv2d,
    "fully_connected": write_fully_connected,
    "add": write_add,
    "max_pool2d": write_max_pool2d,
    "average_pool2d": write_average_pool2d,
    "mean": write_mean,
    "pad": write_pad,
    "reshape": write_reshape,
    "transpose": write_transpose,
    "relu": write_relu,
    "relu6": write_relu6,
    "softmax": write_softmax,
    "quantize": write_quantize,
    "dequantize": write_dequantize,
    **ELEMENTWISE_WRITERS,
    **MORE_WRITERS,
}
