"""Weights and biases as integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType, QuantParams, Tensor
from tinsmith.pipeline.quantization.carried import CarriedIntegers
from tinsmith.pipeline.quantization.grids import INT8, Rows, WeightGrid, power_of_two_scales

# The ops whose weights and biases rounding is made up for.
LAYERS = ("conv2d", "depthwise_conv2d", "fully_connected")

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


@dataclass(frozen=True)
class WeightRule:
    """How weights become integers: on which grid, and whether their scales are powers of two."""

    grid: WeightGrid = INT8
    power_of_two: bool = False


def integer_parameters(
    weights: Array,
    bias: Array,
    axis: int | None,
    input_scale: float,
    *,
    wide: bool = False,
    rule: WeightRule | None = None,
) -> IntegerParameters:
    """Symmetric int8 weights, per index of `axis` or per tensor (None), and their bias: int32, or
    int64 where wide.

    A weight scale is raised where the bias would not fit otherwise: beside such a bias the weights
    lose only bits that the output could not show.
    """
    rule = rule or WeightRule()
    w = np.asarray(weights, np.float32)
    rows = _rows(w, axis)
    scale = rule.grid.scales(rows, rule.grid)
    if rule.power_of_two:
        scale = power_of_two_scales(rows, scale, rule.grid)
    used = scale[scale > 0]
    # A channel of zeros may have any scale: the finest there is keeps its bias exact.
    scale[scale == 0] = used.min() if used.size else 1.0
    largest = WIDE_BIAS_MAX if wide else BIAS_MAX
    scale = np.maximum(scale, _peak_bias(bias, axis) / input_scale / largest)
    scale = np.maximum(scale, 4 * max(TINY, TINY / input_scale))
    if rule.power_of_two:
        scale = numerics.power_of_two_from(scale)
    scale32 = scale.astype(np.float32)
    rounded = rule.grid.integers(rows, scale32, rule.grid)
    quant = QuantParams(tuple(float(s) for s in scale32), (0,), axis)
    integers = _from_rows(rounded, w.shape, axis)
    return _with_bias(integers, bias, quant, input_scale, DType.INT64 if wide else DType.INT32)


def _rows(w: NDArray[np.float32], axis: int | None) -> Rows:
    """Weights that share a scale, [scales, weights of each]."""
    if axis is None:
        return w.reshape(1, -1)
    return np.ascontiguousarray(np.moveaxis(w, axis, 0)).reshape(w.shape[axis], -1)


def _from_rows(
    rows: NDArray[np.int8], shape: tuple[int, ...], axis: int | None
) -> NDArray[np.int8]:
    if axis is None:
        return rows.reshape(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))


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
    integers = numerics.quantize_array(weights.value(), quant, DType.INT8).astype(np.int8)
    made = _with_bias(integers, bias, quant, input_scale)
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


def _with_bias(
    integers: NDArray[np.int8],
    bias: Array,
    quant: QuantParams,
    input_scale: float,
    bias_type: DType = DType.INT32,
) -> IntegerParameters:
    products = np.float32(input_scale) * quant.scales
    bias_quant = QuantParams(
        tuple(float(p) for p in products), (0,), 0 if quant.axis is not None else None
    )
    b = numerics.quantize_array(np.asarray(bias, np.float32).reshape(-1), bias_quant, bias_type)
    return IntegerParameters(integers, quant, b.astype(bias_type.numpy), bias_quant)
