"""ResizeNearestNeighbor and ResizeBilinear: an NHWC image of another size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    int8_int16_or_float,
)
from tinsmith.pipeline.ops.window import Pair

FRACTION_BITS = 10  # of the bilinear weights


@dataclass(frozen=True)
class ResizeAttrs:
    """size: (h, w) of the output.

    align_corners: the corner pixels of both images lie on each other.
    half_pixel_centers: pixels are at the centres of squares. Not both.
    """

    size: Pair
    align_corners: bool = False
    half_pixel_centers: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, a = call.input(0), call.attrs
    if len(x.shape) != 4 or min(a.size) < 1 or 0 in x.shape:
        raise ModelError(
            f"'{call.name}': input {list(x.shape)} to {a.size[0]}x{a.size[1]}; "
            "allowed: rank 4 (NHWC), sizes of at least 1"
        )
    if a.align_corners and a.half_pixel_centers:
        raise ModelError(f"'{call.name}': align_corners and half_pixel_centers; allowed: one")
    return (TensorSpec((x.shape[0], *a.size, x.shape[3]), x.dtype),)


def _float_scale(size: int, out: int, align_corners: bool) -> np.float32:
    if align_corners and out > 1:
        return np.float32(size - 1) / np.float32(out - 1)
    return np.float32(size) / np.float32(out)


def nearest_indices(size: int, out: int, a: ResizeAttrs) -> NDArray[np.int64]:
    """The input row of each output row; in float32, as TFLite's GetNearestNeighbor."""
    offset = np.float32(0.5 if a.half_pixel_centers else 0.0)
    place = (np.arange(out).astype(np.float32) + offset) * _float_scale(size, out, a.align_corners)
    rounded = np.floor(place.astype(np.float64) + (0.5 if a.align_corners else 0.0))
    return np.asarray(np.clip(rounded, 0, size - 1), np.int64)


def run_nearest(call: OpCall, values: Values) -> tuple[Array, ...]:
    x, a = values[0], call.attrs
    assert x is not None
    rows = nearest_indices(x.shape[1], a.size[0], a)
    columns = nearest_indices(x.shape[2], a.size[1], a)
    return (np.ascontiguousarray(x[:, rows][:, :, columns]),)


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Of each output row: the two input rows that it lies between, and the weight of the upper one.

    upper_weight counts in 1 / 2^10 and may be negative at a border, where both rows are one.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    upper_weight: NDArray[np.int64]


def interpolation(size: int, out: int, a: ResizeAttrs) -> Interpolation:
    """TFLite's integer ComputeInterpolationValues."""
    one = 1 << FRACTION_BITS
    if a.align_corners and out > 1:
        scale = (one * (size - 1) + (out - 1) // 2) // (out - 1)
    else:
        scale = (one * size + out // 2) // out
    place = np.arange(out, dtype=np.int64) * scale
    if a.half_pixel_centers:
        place = place + scale // 2 - one // 2
    lower = np.clip(place // one, 0, size - 1)
    upper = np.clip((place + one - 1) // one, 0, size - 1)
    return Interpolation(lower, upper, place - one * lower)


def run_bilinear(call: OpCall, values: Values) -> tuple[Array, ...]:
    x, a = values[0], call.attrs
    assert x is not None
    one = 1 << FRACTION_BITS
    v, h = interpolation(x.shape[1], a.size[0], a), interpolation(x.shape[2], a.size[1], a)
    wide = x.astype(np.int64)
    wy, wx = v.upper_weight[:, None, None], h.upper_weight[:, None]
    left = wide[:, v.lower][:, :, h.lower] * (one - wy) + wide[:, v.upper][:, :, h.lower] * wy
    right = wide[:, v.lower][:, :, h.upper] * (one - wy) + wide[:, v.upper][:, :, h.upper] * wy
    total = left * (one - wx) + right * wx
    half = np.where(total > 0, 1 << (2 * FRACTION_BITS - 1), -(1 << (2 * FRACTION_BITS - 1)))
    # C's division: towards zero.
    y = np.sign(total + half) * (np.abs(total + half) >> (2 * FRACTION_BITS))
    return (y.astype(x.dtype),)


def _float_interpolation(
    size: int, out: int, a: ResizeAttrs
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    scale = _float_scale(size, out, a.align_corners)
    place = np.arange(out).astype(np.float32)
    if a.half_pixel_centers:
        place = (place + np.float32(0.5)) * scale - np.float32(0.5)
    else:
        place = place * scale
    lower = np.clip(np.floor(place), 0, size - 1).astype(np.int64)
    upper = np.clip(np.ceil(place), 0, size - 1).astype(np.int64)
    return lower, upper, place.astype(np.float64) - lower


def run_bilinear_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    x, a = values[0], call.attrs
    assert x is not None
    y0, y1, wy = _float_interpolation(x.shape[1], a.size[0], a)
    x0, x1, wx = _float_interpolation(x.shape[2], a.size[1], a)
    wide, wy, wx = x.astype(np.float64), wy[:, None, None], wx[:, None]
    left = wide[:, y0][:, :, x0] * (1 - wy) + wide[:, y1][:, :, x0] * wy
    right = wide[:, y0][:, :, x1] * (1 - wy) + wide[:, y1][:, :, x1] * wy
    return ((left * (1 - wx) + right * wx).astype(np.float32),)


RESIZE_NEAREST = OpDef(
    name="resize_nearest",
    title="image of another size, of the nearest pixels",
    infer=infer,
    run_float=run_nearest,
    run_int=run_nearest,
    attrs=ResizeAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_int16_or_float,
    int16=Oracle.TFLM,
)

RESIZE_BILINEAR = OpDef(
    name="resize_bilinear",
    title="image of another size, interpolated between pixels",
    infer=infer,
    run_float=run_bilinear_float,
    run_int=run_bilinear,
    attrs=ResizeAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_int16_or_float,
    int16=Oracle.REF,
)
