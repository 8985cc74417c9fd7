"""Weights and biases as integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType, QuantParams, Tensor
from tinsmith.pipeline.quantization.carried import CarriedIntegers

# The ops whose weights and biases rounding is made up for.
LAYERS = ("conv2d", "depthwise_conv2d", "fully_connected")

WEIGHT_MAX = 127  # weights are -127..127, never -128

# A bias may use half of an int32, so that the products have the other half; beside int16
# activations it is an int64.
BIAS_MAX = 1 << 30
WIDE_BIAS_MAX = 1 << 45

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class IntegerParameters:
    """weights: int8. bias: int32, or int64 where wide, at input scale * weight scale."""

    weights: NDArray[np.int8]
    weights_quant: QuantParams
    bias: NDArray[np.signedinteger[Any]]
    bias_quant: QuantParams


def integer_parameters(
    weights: Array, bias: Array, axis: int | None, input_scale: float, *, wide: bool = False
) -> IntegerParameters:
    """Symmetric int8 weights, per index of `axis` or per tensor (None), and their bias: int32, or
    int64 where wide.

    A weight scale is raised where the bias would not fit otherwise: beside such a bias the weights
    lose only bits that the output could not show.
    """
    w = np.asarray(weights, np.float32)
    others = tuple(i for i in range(w.ndim) if i != axis) if axis is not None else None
    peak = np.abs(w).max(axis=others, initial=0.0).reshape(-1).astype(np.float64)
    scale = peak / WEIGHT_MAX
    used = scale[scale > 0]
    # A channel of zeros may have any scale: the finest there is keeps its bias exact.
    scale[scale == 0] = used.min() if used.size else 1.0
    largest = WIDE_BIAS_MAX if wide else BIAS_MAX
    scale = np.maximum(scale, _peak_bias(bias, axis) / input_scale / largest)
    scale32 = np.maximum(scale, 4 * max(TINY, TINY / input_scale)).astype(np.float32)
    quant = QuantParams(tuple(float(s) for s in scale32), (0,), axis)
    return _with_scales(w, bias, quant, input_scale, DType.INT64 if wide else DType.INT32)


def carried_integer_parameters(
    weights: Tensor, bias: Array, bias_tensor: Tensor | None, input_scale: float
) -> IntegerParameters | None:
    """As integer_parameters, with the weights' own scales and, where they fit, the bias's integers.

    None where the weights have no scales, or none that the bias fits.
    """
    quant = weights.quant
    if quant is None:
        return None
    product = np.float32(input_scale) * quant.scales
    if np.any(_peak_bias(bias, quant.axis) > product.astype(np.float64) * numerics.INT32_MAX):
        return None
    made = _with_scales(weights.value(), bias, quant, input_scale)
    if bias_tensor is None or not isinstance(bias_tensor.encoding, CarriedIntegers):
        return made
    carried = bias_tensor.quant
    if carried is None or not np.allclose(carried.scales, product, rtol=1e-5, atol=0):
        return made
    return replace(made, bias=np.asarray(bias_tensor.encoding.integers, np.int32))


def _peak_bias(bias: Array, axis: int | None) -> NDArray[np.float64]:
    """The largest magnitude of the bias for each scale of the weights."""
    magnitude = np.abs(np.asarray(bias, np.float64).reshape(-1))
    peak = magnitude if axis is not None else magnitude.max(initial=0.0, keepdims=True)
    return np.asarray(peak, np.float64)


def _with_scales(
    weights: Array,
    bias: Array,
    quant: QuantParams,
    input_scale: float,
    bias_type: DType = DType.INT32,
) -> IntegerParameters:
    rounded = numerics.quantize_array(weights, quant, DType.INT8).astype(np.int8)
    products = np.float32(input_scale) * quant.scales
    bias_quant = QuantParams(
        tuple(float(p) for p in products), (0,), 0 if quant.axis is not None else None
    )
    b = numerics.quantize_array(np.asarray(bias, np.float32).reshape(-1), bias_quant, bias_type)
    return IntegerParameters(rounded, quant, b.astype(bias_type.numpy), bias_quant)
