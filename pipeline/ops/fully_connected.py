"""FullyConnected: rows of the input times weights [outputs, inputs]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Activation, Array
from tinsmith.pipeline.ops import mac
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, TensorSpec, Values


@dataclass(frozen=True)
class FullyConnectedAttrs:
    """keep_dims keeps the leading dimensions of the input; else the output has rank 2.

    as_uint8: the multiplier is that of TFLite's uint8 kernel (mac.requant_double).
    """

    activation: Activation = Activation.NONE
    keep_dims: bool = False
    as_uint8: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, w = call.input(0), call.input(1)
    if len(w.shape) != 2 or not x.shape:
        raise ModelError(
            f"fully_connected '{call.name}': weights {list(w.shape)}; allowed: [outputs, inputs]"
        )
    outputs, inputs = w.shape
    if inputs == 0 or x.size % inputs or (call.attrs.keep_dims and x.shape[-1] != inputs):
        raise ModelError(
            f"fully_connected '{call.name}': input {list(x.shape)} does not go into rows "
            f"of {inputs}"
        )
    bias = call.optional(2)
    if bias is not None and bias.size != outputs:
        raise ModelError(
            f"fully_connected '{call.name}': bias {list(bias.shape)}, expected [{outputs}]"
        )
    lead = x.shape[:-1] if call.attrs.keep_dims else (x.size // inputs,)
    return (TensorSpec((*lead, outputs), x.dtype),)


def _accumulate(call: OpCall, x: Array, w: Array) -> NDArray[np.float64]:
    """Sums [rows, outputs] in float64 of x [..., inputs] and w [outputs, inputs]."""
    return np.asarray(x.reshape(-1, w.shape[1]) @ w.T, np.float64)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_float(call, values, _accumulate)


def requant(call: OpCall) -> mac.Requant:
    """The integer constants of this layer; the multiplier is a double product."""
    return mac.requant_double(call, call.attrs.activation, call.input(1).shape[0])


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    return mac.run_int(call, values, _accumulate, requant(call))


def macs(call: OpCall) -> int:
    return call.output.size * call.input(1).shape[1]


FULLY_CONNECTED = OpDef(
    name="fully_connected",
    title="matrix product with bias and fused activation",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=FullyConnectedAttrs,
    macs=macs,
    accepts=mac.mac_types_or_short_bias,
    weights=1,
    bias=2,
    weight_axis=0,
    optional_inputs=(2,),
    int16=Oracle.TFLM,
)
