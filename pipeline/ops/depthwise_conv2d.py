"""DepthwiseConv2D: NHWC activations, weights [1, kh, kw, channels * multiplier]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Activation, Array
from tinsmith.pipeline.ops import mac, window
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, TensorSpec, Values
from tinsmith.pipeline.ops.window import NO_PADS, Pads, Pair


@dataclass(frozen=True)
class DepthwiseConv2dAttrs:
    """stride and dilation as (h, w); pads as (top, bottom, left, right).

    The depth multiplier is not an attribute: it is output channels / input channels; output channel
    `c * multiplier + j` reads input channel c.
    as_uint8: the multiplier is that of TFLite's uint8 kernel (mac.requant_double).
    """

    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pads: Pads = NO_PADS
    activation: Activation = Activation.NONE
    as_uint8: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, w, a = call.input(0), call.input(1), call.attrs
    if len(x.shape) != 4 or len(w.shape) != 4 or w.shape[0] != 1:
        raise ModelError(
            f"depthwise_conv2d '{call.name}': input {list(x.shape)} and weights {list(w.shape)}; "
            "allowed: input of rank 4 and weights [1, kh, kw, channels]"
        )
    n, h, width, c = x.shape
    _, kh, kw, oc = w.shape
    if c == 0 or oc % c:
        raise ModelError(
            f"depthwise_conv2d '{call.name}': {oc} output channels are not a multiple of {c} inputs"
        )
    bias = call.optional(2)
    if bias is not None and bias.shape != (oc,):
        raise ModelError(
            f"depthwise_conv2d '{call.name}': bias {list(bias.shape)}, expected [{oc}]"
        )
    oh, ow = window.output_size(call.name, (h, width), (kh, kw), a.stride, a.dilation, a.pads)
    return (TensorSpec((n, oh, ow, oc), x.dtype),)


def _accumulate(call: OpCall, x: Array, w: Array) -> NDArray[np.float64]:
    """Sums [n, oh, ow, oc] in float64; borders count as 0."""
    a = call.attrs
    _, kh, kw, oc = w.shape
    oh, ow = call.output.shape[1:3]
    padded = np.ascontiguousarray(window.pad_hw(x, a.pads, 0.0), np.float64)
    padded = np.repeat(padded, oc // x.shape[3], axis=3)
    view = window.patches(padded, (kh, kw), a.stride, a.dilation, (oh, ow))
    y = np.zeros((x.shape[0], oh, ow, oc), np.float64)
    for ky in range(kh):
        for kx in range(kw):
            y += view[:, :, :, ky, kx, :] * w[0, ky, kx]
    return y


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_float(call, values, _accumulate)


def requant(call: OpCall) -> mac.Requant:
    """The integer constants of this convolution; the multiplier is a double product."""
    return mac.requant_double(call, call.attrs.activation, call.output.shape[3])


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_int(call, values, _accumulate, requant(call))


def macs(call: OpCall) -> int:
    return call.output.size * int(np.prod(call.input(1).shape[1:3]))


DEPTHWISE_CONV2D = OpDef(
    name="depthwise_conv2d",
    title="2-D depthwise convolution with bias, any depth multiplier, and fused activation",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=DepthwiseConv2dAttrs,
    macs=macs,
    accepts=mac.mac_types,
    weights=1,
    bias=2,
    weight_axis=3,
    optional_inputs=(2,),
    int16=Oracle.TFLM,
)
