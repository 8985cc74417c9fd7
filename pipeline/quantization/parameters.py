"""Weights and biases as integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType, QuantParams

WEIGHT_MAX = 127  # weights are -127..127, never -128

# A bias may use half of an int32, so that the products have the other half.
BIAS_MAX = 1 << 30

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class IntegerParameters:
    """weights: int8. bias: int32 at input scale * weight scale."""

    weights: NDArray[np.int8]
    weights_quant: QuantParams
    bias: NDArray[np.int32]
    bias_quant: QuantParams


def integer_parameters(
    weights: Array, bias: Array, axis: int | None, input_scale: float
) -> IntegerParameters:
    """Symmetric int8 weights, per index of `axis` or per tensor (None), and their int32 bias.

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
    magnitude = np.abs(np.asarray(bias, np.float64).reshape(-1))
    per_scale = magnitude if axis is not None else magnitude.max(initial=0.0, keepdims=True)
    scale = np.maximum(scale, per_scale / input_scale / BIAS_MAX)
    scale32 = np.maximum(scale, 4 * max(TINY, TINY / input_scale)).astype(np.float32)
    quant = QuantParams(tuple(float(s) for s in scale32), (0,), axis)
    rounded = numerics.quantize_array(w, quant, DType.INT8).astype(np.int8)
    q = np.maximum(rounded, np.int8(-WEIGHT_MAX))
    products = np.float32(input_scale) * scale32
    bias_quant = QuantParams(
        tuple(float(p) for p in products), (0,), 0 if axis is not None else None
    )
    b = numerics.quantize_array(np.asarray(bias, np.float32).reshape(-1), bias_quant, DType.INT32)
    return IntegerParameters(q, quant, b.astype(np.int32), bias_quant)
