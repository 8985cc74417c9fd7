"""Geometry shared by the ops that slide a window: padding, output size, patches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, bottom, left, right

NO_PADS: Pads = (0, 0, 0, 0)


def extent(kernel: int, dilation: int) -> int:
    """Input elements that a dilated kernel spans."""
    return (kernel - 1) * dilation + 1


def output_size(
    name: str, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, pads: Pads
) -> Pair:
    """Height and width of the output; ModelError where no window fits."""
    out = []
    for axis in (0, 1):
        padded = size[axis] + pads[2 * axis] + pads[2 * axis + 1]
        span = extent(kernel[axis], dilation[axis])
        if stride[axis] < 1 or dilation[axis] < 1 or kernel[axis] < 1:
            raise ModelError(
                f"'{name}': kernel {kernel}, stride {stride} and dilation {dilation} "
                "must be at least 1"
            )
        if padded < span:
            raise ModelError(
                f"'{name}': the window spans {span} along {'hw'[axis]}, "
                f"but the padded input is only {padded}"
            )
        out.append((padded - span) // stride[axis] + 1)
    return out[0], out[1]


def same_pads(size: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Pads:
    """TFLite's SAME padding: output = ceil(input / stride), the odd element at bottom and right."""
    pads = []
    for axis in (0, 1):
        out = -(-size[axis] // stride[axis])
        span = extent(kernel[axis], dilation[axis])
        total = max((out - 1) * stride[axis] + span - size[axis], 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def pad_hw(x: Array, pads: Pads, value: float) -> Array:
    """x [n, h, w, c] with borders of `value`."""
    if not any(pads):
        return x
    return np.pad(
        x, ((0, 0), (pads[0], pads[1]), (pads[2], pads[3]), (0, 0)), constant_values=value
    )


def patches(x: Array, kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> NDArray[Any]:
    """A view [n, oh, ow, kh, kw, c] of the windows of a padded x [n, h, w, c]."""
    n, _, _, c = x.shape
    sn, sh, sw, sc = x.strides
    return as_strided(
        x,
        (n, out[0], out[1], kernel[0], kernel[1], c),
        (sn, sh * stride[0], sw * stride[1], sh * dilation[0], sw * dilation[1], sc),
        writeable=False,
    )
