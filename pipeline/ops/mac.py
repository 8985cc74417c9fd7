"""What the ops that multiply and accumulate share: requantization, clamping, types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation, Array, DType, Tensor
from tinsmith.pipeline.ops.op import OpCall, Values


@dataclass(frozen=True, eq=False)
class Requant:
    """The integer constants that turn accumulators into outputs.

    multiplier, shift: int64, one per output channel (per-tensor scales are repeated).
    """

    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    input_zero_point: int
    output_zero_point: int
    act_min: int
    act_max: int


def requant_double(call: OpCall, activation: Activation, channels: int) -> Requant:
    """Constants from the double product input scale * weight scale / output scale.

    TFLite's PopulateConvolutionQuantizationParams, for per-channel and per-tensor weights.
    """
    weights = call.input(1)
    assert weights.quant is not None
    x_scale, y_scale = call.input(0).scale, call.output.scale
    reals = [x_scale * s / y_scale for s in weights.quant.scale]
    return _requant(call, activation, channels, reals)


def _requant(call: OpCall, activation: Activation, channels: int, reals: list[float]) -> Requant:
    if len(reals) == 1:
        reals = reals * channels
    parts = [numerics.quantize_multiplier(r) for r in reals]
    low, high = numerics.activation_range(activation, call.output)
    return Requant(
        np.array([p.m for p in parts], np.int64),
        np.array([p.shift for p in parts], np.int64),
        call.input(0).zero_point,
        call.output.zero_point,
        low,
        high,
    )


Accumulate = Callable[[OpCall, Array, Array], NDArray[np.float64]]


def run_float(call: OpCall, values: Values, accumulate: Accumulate) -> tuple[Array, ...]:
    """The float definition of an op whose sums `accumulate` makes of its input and weights."""
    x, w, bias = _operands(values)
    y = accumulate(call, np.asarray(x, np.float64), np.asarray(w, np.float64))
    if bias is not None:
        y = y + bias.reshape(-1)
    y32 = y.astype(np.float32).reshape(call.output.shape)
    return (apply_activation(y32, call.attrs.activation),)


def run_int(
    call: OpCall, values: Values, accumulate: Accumulate, requant: Requant
) -> tuple[Array, ...]:
    """The integer definition: exact sums of centred values, the bias, then requantization."""
    x, w, bias = _operands(values)
    sums = accumulate(call, centred(x, call.input(0)), centred(w, call.input(1)))
    acc = sums.astype(np.int64)
    if bias is not None:
        acc = acc + bias.reshape(-1).astype(np.int64)
    return (finish(acc, requant, call.output.dtype).reshape(call.output.shape),)


def _operands(values: Values) -> tuple[Array, Array, Array | None]:
    x, w, bias = values[0], values[1], values[2] if len(values) > 2 else None
    assert x is not None
    assert w is not None
    return x, w, bias


def finish(acc: NDArray[np.int64], requant: Requant, dtype: DType) -> Array:
    """Outputs of accumulators whose last axis is the output channel."""
    if dtype is DType.INT16:
        y = numerics.requantize_int16(acc, requant.multiplier, requant.shift)
    else:
        acc = numerics.wrap_int32(acc)
        y = numerics.requantize(acc, requant.multiplier, requant.shift)
    y = np.clip(y + requant.output_zero_point, requant.act_min, requant.act_max)
    return y.astype(dtype.numpy)


def centred(x: Array, tensor: Tensor) -> NDArray[np.float64]:
    """Quantized values less their zero points, as float64: their products are exact below 2^53."""
    assert tensor.quant is not None
    zero = tensor.quant.zero_points
    if zero.size == 1 or tensor.quant.axis is None:
        return np.asarray(x, np.float64) - float(zero[0])
    shape = [1] * x.ndim
    shape[tensor.quant.axis] = -1
    return np.asarray(x, np.float64) - zero.reshape(shape)


def apply_activation(y: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
    """The fused activation on real values."""
    if activation is Activation.RELU:
        return np.maximum(y, np.float32(0))
    if activation is Activation.RELU6:
        return np.clip(y, np.float32(0), np.float32(6))
    if activation is Activation.RELU_N1_TO_1:
        return np.clip(y, np.float32(-1), np.float32(1))
    return y


def mac_types(call: OpCall) -> tuple[str, ...]:
    """Reasons why the types of activations, weights and bias are not a supported combination."""
    x, w, y = call.input(0), call.input(1), call.output
    bias = call.optional(2)
    reasons = []
    kinds = (x.dtype, w.dtype, y.dtype)
    if kinds not in ((DType.INT8,) * 3, (DType.FLOAT32,) * 3):
        names = "/".join(k.value for k in kinds)
        reasons.append(
            f"input/weights/output are {names}; allowed: int8/int8/int8 or float32/float32/float32"
        )
    if not w.is_constant:
        reasons.append("the weights are computed; allowed: constant weights")
    if bias is not None and not bias.is_constant:
        reasons.append("the bias is computed; allowed: a constant bias")
    if kinds[0] is DType.INT8 and not reasons:
        if bias is not None and bias.dtype is not DType.INT32:
            reasons.append(f"the bias is {bias.dtype.value}; allowed: int32")
        if w.quant is None or np.any(w.quant.zero_points != 0):
            reasons.append("the weights have a zero point other than 0; allowed: symmetric weights")
    return tuple(reasons)
