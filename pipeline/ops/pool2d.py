"""MaxPool2D and AveragePool2D: NHWC; padding never counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Activation, Array
from tinsmith.pipeline.ops import mac, window
from tinsmith.pipeline.ops.mean import int16_sums_fit
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    int8_int16_or_float,
)
from tinsmith.pipeline.ops.window import NO_PADS, Pads, Pair


@dataclass(frozen=True)
class Pool2dAttrs:
    """kernel and stride as (h, w); pads as (top, bottom, left, right).

    as_uint8: means round as those of TFLite's uint8 kernel, ties up.
    """

    kernel: Pair
    stride: Pair
    pads: Pads = NO_PADS
    activation: Activation = Activation.NONE
    as_uint8: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, a = call.input(0), call.attrs
    if len(x.shape) != 4:
        raise ModelError(f"'{call.name}': input {list(x.shape)} must have rank 4 (NHWC)")
    n, h, w, c = x.shape
    oh, ow = window.output_size(call.name, (h, w), a.kernel, a.stride, (1, 1), a.pads)
    for axis in (0, 1):
        if max(a.pads[2 * axis : 2 * axis + 2]) >= a.kernel[axis]:
            raise ModelError(
                f"'{call.name}': padding {a.pads} is as wide as the window {a.kernel}; "
                "allowed: less, since a window of padding alone has no value"
            )
    return (TensorSpec((n, oh, ow, c), x.dtype),)


def _windows(call: OpCall, x: Array, border: float) -> NDArray[np.float64]:
    a = call.attrs
    padded = np.ascontiguousarray(window.pad_hw(x.astype(np.float64), a.pads, border))
    oh, ow = call.output.shape[1:3]
    return window.patches(padded, a.kernel, a.stride, (1, 1), (oh, ow))


def valid_counts(call: OpCall) -> NDArray[np.int64]:
    """How many input elements each output's window covers: [1, oh, ow, 1]."""
    a = call.attrs
    ones = np.ones((1, *call.input(0).shape[1:3], 1), np.float64)
    padded = np.ascontiguousarray(window.pad_hw(ones, a.pads, 0.0))
    oh, ow = call.output.shape[1:3]
    view = window.patches(padded, a.kernel, a.stride, (1, 1), (oh, ow))
    return np.asarray(view.sum(axis=(3, 4)), np.int64)


def max_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    y = _windows(call, values[0], -np.inf).max(axis=(3, 4)).astype(np.float32)
    return (mac.apply_activation(y, call.attrs.activation),)


def max_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    y = _windows(call, values[0], -np.inf).max(axis=(3, 4)).astype(np.int64)
    return (_clamp(call, y),)


def average_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    y = _windows(call, values[0], 0.0).sum(axis=(3, 4)) / valid_counts(call)
    return (mac.apply_activation(y.astype(np.float32), call.attrs.activation),)


def average_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """TFLite's AveragePool: the sum over the count, ties away from zero, as_uint8 ties up."""
    assert values[0] is not None
    total = _windows(call, values[0], 0.0).sum(axis=(3, 4)).astype(np.int64)
    count = valid_counts(call)
    if call.attrs.as_uint8:
        return (_clamp(call, (total + count // 2) // count),)
    magnitude = (np.abs(total) + count // 2) // count
    return (_clamp(call, np.sign(total) * magnitude),)


def accepts_average(call: OpCall) -> tuple[str, ...]:
    kernel = call.attrs.kernel
    return int8_int16_or_float(call) + int16_sums_fit(call, kernel[0] * kernel[1])


def _clamp(call: OpCall, y: NDArray[np.int64]) -> Array:
    low, high = numerics.activation_range(call.attrs.activation, call.output)
    return np.clip(y, low, high).astype(call.output.dtype.numpy)


MAX_POOL2D = OpDef(
    name="max_pool2d",
    title="maximum over a window, with fused activation",
    infer=infer,
    run_float=max_float,
    run_int=max_int,
    attrs=Pool2dAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=int8_int16_or_float,
    int16=Oracle.TFLM,
)

AVERAGE_POOL2D = OpDef(
    name="average_pool2d",
    title="mean over a window, with fused activation",
    infer=infer,
    run_float=average_float,
    run_int=average_int,
    attrs=Pool2dAttrs,
    scale_rule=ScaleRule.SAME,
    accepts=accepts_average,
    int16=Oracle.TFLM,
)
