"""TransposeConv2D: every input pixel spreads its window of weights over the output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Activation, Array
from tinsmith.pipeline.ops import mac
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, TensorSpec, Values
from tinsmith.pipeline.ops.window import NO_PADS, Pads, Pair


@dataclass(frozen=True)
class TransposeConv2dAttrs:
    """stride as (h, w). pads (top, bottom, left, right): cut off the output.

    The output is (input - 1) * stride + kernel - both pads. bottom and right may be negative:
    pixels that no window reaches.
    as_uint8: the multiplier is that of TFLite's uint8 kernel (mac.requant_double).
    """

    stride: Pair = (1, 1)
    pads: Pads = NO_PADS
    activation: Activation = Activation.NONE
    as_uint8: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, w, a = call.input(0), call.input(1), call.attrs
    if len(x.shape) != 4 or len(w.shape) != 4 or x.shape[3] != w.shape[3]:
        raise ModelError(
            f"transpose_conv2d '{call.name}': input {list(x.shape)} and weights {list(w.shape)}; "
            "allowed: rank 4, weights (output, height, width, input channels)"
        )
    bias = call.optional(2)
    if bias is not None and bias.shape != (w.shape[0],):
        raise ModelError(
            f"transpose_conv2d '{call.name}': bias {list(bias.shape)}, expected [{w.shape[0]}]"
        )
    out = [
        (x.shape[1 + i] - 1) * a.stride[i] + w.shape[1 + i] - a.pads[2 * i] - a.pads[2 * i + 1]
        for i in (0, 1)
    ]
    if min(out) < 1 or min(a.stride) < 1 or a.pads[0] < 0 or a.pads[2] < 0:
        raise ModelError(
            f"transpose_conv2d '{call.name}': stride {a.stride} and pads {a.pads} leave an output "
            f"of {out[0]}x{out[1]}; allowed: at least 1x1, top and left pads of at least 0"
        )
    return (TensorSpec((x.shape[0], out[0], out[1], w.shape[0]), x.dtype),)


def _accumulate(call: OpCall, x: Array, w: Array) -> NDArray[np.float64]:
    """Sums [n, oh, ow, oc] in float64."""
    a = call.attrs
    n, ih, iw, _ = x.shape
    oc, kh, kw, _ = w.shape
    _, oh, ow, _ = call.output.shape
    whole = np.zeros((n, (ih - 1) * a.stride[0] + kh, (iw - 1) * a.stride[1] + kw, oc), np.float64)
    for ky in range(kh):
        for kx in range(kw):
            rows = slice(ky, ky + (ih - 1) * a.stride[0] + 1, a.stride[0])
            columns = slice(kx, kx + (iw - 1) * a.stride[1] + 1, a.stride[1])
            whole[:, rows, columns] += x @ w[:, ky, kx, :].T
    top, bottom, left, right = a.pads
    grown = np.pad(whole, ((0, 0), (0, max(-bottom, 0)), (0, max(-right, 0)), (0, 0)))
    return grown[:, top : top + oh, left : left + ow]


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_float(call, values, _accumulate)


def requant(call: OpCall) -> mac.Requant:
    """The integer constants of this convolution; the multiplier is a double product."""
    return mac.requant_double(call, call.attrs.activation, call.output.shape[3])


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_int(call, values, _accumulate, requant(call))


def macs(call: OpCall) -> int:
    return call.input(0).size * int(np.prod(call.input(1).shape[:3]))


TRANSPOSE_CONV2D = OpDef(
    name="transpose_conv2d",
    title="2-D transposed convolution with bias and fused activation",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=TransposeConv2dAttrs,
    macs=macs,
    accepts=mac.mac_types,
    weights=1,
    bias=2,
    weight_axis=0,
    optional_inputs=(2,),
    int16=Oracle.TFLM,
)
