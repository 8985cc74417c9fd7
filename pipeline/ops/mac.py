"""What the ops that multiply and accumulate share: requantization, clamping, types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation, Array, DType, QuantParams, Tensor
from tinsmith.pipeline.ops.op import OpCall, Values, asymmetric


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

    TFLite's PopulateConvolutionQuantizationParams, for per-channel and per-tensor weights. Where
    the call is `as_uint8`, the product of the two scales is rounded to float32 first, as in its
    GetQuantizedConvolutionMultipler.
    """
    weights = call.input(1)
    assert weights.quant is not None
    x_scale, y_scale = call.input(0).scale, call.output.scale
    products = [x_scale * s for s in weights.quant.scale]
    if is_as_uint8(call):
        largest = float(np.finfo(np.float32).max)
        products = [float(np.float32(min(p, largest))) for p in products]
    reals = [p / y_scale for p in products]
    return _requant(call, activation, channels, reals)


def is_as_uint8(call: OpCall) -> bool:
    """Whether a call computes as TFLite's uint8 kernels do where int8 ones differ.

    Its weights, less their zero point, may need 9 bits: then they are int16, within a span of 255.
    """
    return bool(getattr(call.attrs, "as_uint8", False))


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
    y = finish(acc, requant, call.output.dtype, wide=is_wide(call))
    return (y.reshape(call.output.shape),)


def is_wide(call: OpCall) -> bool:
    """Whether sums are int64, with the rounding that goes with them: int16 activations, unless
    their bias is an int32."""
    bias = call.optional(2)
    short = bias is not None and bias.dtype is DType.INT32
    return call.input(0).dtype is DType.INT16 and not short


def _operands(values: Values) -> tuple[Array, Array, Array | None]:
    x, w, bias = values[0], values[1], values[2] if len(values) > 2 else None
    assert x is not None
    assert w is not None
    return x, w, bias


def finish(acc: NDArray[np.int64], requant: Requant, dtype: DType, *, wide: bool = False) -> Array:
    """Outputs of accumulators, int64 where wide, whose last axis is the output channel."""
    if wide:
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


# Activations, weights, output.
MAC_TYPES = (
    (DType.INT8, DType.INT8, DType.INT8),
    (DType.INT16, DType.INT8, DType.INT16),
    (DType.FLOAT32, DType.FLOAT32, DType.FLOAT32),
)
# What keeps the product of an int64 sum with a 16-bit multiplier within an int64.
WIDE_FACTOR = 1 << 7
WIDE_BIAS = 1 << 46


def mac_types(call: OpCall) -> tuple[str, ...]:
    """Reasons why the types of activations, weights and bias are not a supported combination."""
    return _mac_types(call, (DType.INT64,))


def mac_types_or_short_bias(call: OpCall) -> tuple[str, ...]:
    """The same for an op whose sums are int32 where int16 activations have an int32 bias."""
    return _mac_types(call, (DType.INT64, DType.INT32))


def _mac_types(call: OpCall, int16_bias: tuple[DType, ...]) -> tuple[str, ...]:
    x, w, y = call.input(0), call.input(1), call.output
    bias = call.optional(2)
    reasons = []
    kinds = (x.dtype, w.dtype, y.dtype)
    wide = kinds == (DType.INT8, DType.INT16, DType.INT8) and is_as_uint8(call)
    if kinds not in MAC_TYPES and not wide:
        names = "/".join(k.value for k in kinds)
        allowed = ", ".join("/".join(k.value for k in t) for t in MAC_TYPES)
        reasons.append(f"input/weights/output are {names}; allowed: {allowed}")
    if not w.is_constant:
        reasons.append("the weights are computed; allowed: constant weights")
    if bias is not None and not bias.is_constant:
        reasons.append("the bias is computed; allowed: a constant bias")
    if kinds[0].is_integer and not reasons:
        biases = int16_bias if kinds[0] is DType.INT16 else (DType.INT32,)
        if bias is not None and bias.dtype not in biases:
            names = " or ".join(b.value for b in biases)
            reasons.append(f"the bias is {bias.dtype.value}; allowed: {names}")
        if w.quant is None or np.any(w.quant.zero_points != 0):
            reasons.append("the weights have a zero point other than 0; allowed: symmetric weights")
        if kinds[0] is DType.INT16:
            reasons += _beyond_int16(call)
    return tuple(reasons)


def _beyond_int16(call: OpCall) -> list[str]:
    """Reasons why a call on int16 has no meaning that the runtimes share."""
    x, w, y, bias = call.input(0), call.input(1), call.output, call.optional(2)
    reasons = [*asymmetric(x, y)]
    if w.quant is not None and w.quant.bits != 8:
        reasons.append(f"the weights have {w.quant.bits} bits; allowed beside int16: 8")
    if w.quant is not None and x.quant is not None and y.quant is not None:
        reasons += beyond_wide_factor(x.quant, w.quant, y.quant)
    if bias is not None and bias.data is not None and bias.size:
        largest = max(abs(int(bias.data.min())), abs(int(bias.data.max())))
        if largest >= WIDE_BIAS:
            reasons.append(f"the bias holds {largest}; allowed: below 2^46")
    return reasons


def beyond_wide_factor(a: QuantParams, b: QuantParams, y: QuantParams) -> tuple[str, ...]:
    """Reasons where sums of a * b need a factor that int64 sums may not be multiplied by."""
    factor = max(a.scale) * max(b.scale) / min(y.scale)
    if factor < WIDE_FACTOR:
        return ()
    return (f"its sums are multiplied by {factor:.3g}; allowed for int16: below {WIDE_FACTOR}",)
