"""Conv2D: NHWC activations, OHWI weights, explicit padding by the input's zero point."""

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
class Conv2dAttrs:
    """stride and dilation as (h, w); pads as (top, bottom, left, right).

    Groups are not an attribute: they are input channels / weight channels.
    as_uint8: the multiplier is that of TFLite's uint8 kernel (mac.requant_double).
    """

    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pads: Pads = NO_PADS
    activation: Activation = Activation.NONE
    as_uint8: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, w, a = call.input(0), call.input(1), call.attrs
    if len(x.shape) != 4 or len(w.shape) != 4:
        raise ModelError(
            f"conv2d '{call.name}': input {list(x.shape)} and weights {list(w.shape)} "
            "must have rank 4"
        )
    n, h, width, c = x.shape
    oc, kh, kw, ic = w.shape
    if ic == 0 or c % ic or oc % max(c // ic, 1):
        raise ModelError(
            f"conv2d '{call.name}': {c} input channels do not go into weights {list(w.shape)} "
            "(output, height, width, input channels of a group)"
        )
    bias = call.optional(2)
    if bias is not None and bias.shape != (oc,):
        raise ModelError(f"conv2d '{call.name}': bias {list(bias.shape)}, expected [{oc}]")
    oh, ow = window.output_size(call.name, (h, width), (kh, kw), a.stride, a.dilation, a.pads)
    return (TensorSpec((n, oh, ow, oc), x.dtype),)


def _accumulate(call: OpCall, x: Array, w: Array) -> NDArray[np.float64]:
    """Sums [n, oh, ow, oc] in float64 of x [n, h, w, c] and w [oc, kh, kw, ic]; borders count as
    0."""
    a = call.attrs
    oc, kh, kw, ic = w.shape
    n, oh, ow = x.shape[0], *call.output.shape[1:3]
    groups = x.shape[3] // ic
    padded = np.ascontiguousarray(window.pad_hw(x, a.pads, 0.0), np.float64)
    view = window.patches(padded, (kh, kw), a.stride, a.dilation, (oh, ow))
    weights = np.asarray(w, np.float64).reshape(groups, oc // groups, kh * kw * ic)
    parts = []
    for g in range(groups):
        columns = view[..., g * ic : (g + 1) * ic].reshape(n * oh * ow, kh * kw * ic)
        parts.append(columns @ weights[g].T)
    sums = np.concatenate(parts, axis=1).reshape(n, oh, ow, oc)
    return np.asarray(sums, np.float64)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_float(call, values, _accumulate)


def requant(call: OpCall) -> mac.Requant:
    """The integer constants of this convolution; the multiplier is a double product."""
    return mac.requant_double(call, call.attrs.activation, call.output.shape[3])


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_int(call, values, _accumulate, requant(call))


def macs(call: OpCall) -> int:
    return call.output.size * int(np.prod(call.input(1).shape[1:]))


CONV2D = OpDef(
    name="conv2d",
    title="2-D convolution with bias and fused activation",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=Conv2dAttrs,
    macs=macs,
    accepts=mac.mac_types_or_short_bias,
    weights=1,
    bias=2,
    weight_axis=0,
    optional_inputs=(2,),
    int16=Oracle.TFLM,
)
