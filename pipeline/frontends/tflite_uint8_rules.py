"""What TFLite's uint8 kernels compute, and how to be sure that int8 arithmetic gives the same.

The reference is tflite-runtime's BUILTIN_REF; tflite-micro has hardly any kernels of uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.frontends.tflite_file import FileOperator
from tinsmith.pipeline.frontends.tflite_import import Importer
from tinsmith.pipeline.graph import NO_ATTRS, Array, Node, QuantParams, Tensor
from tinsmith.pipeline.ops import OPS, OpCall

REMEDY = "convert the model again to int8, or give the float model and --calibrate"
# How near to a tie a table made in float32 may come and its rounding still be certain, in steps.
TIE_MARGIN = 2e-4

Int64 = NDArray[np.int64]
# Why a call gives other bytes than the uint8 kernel; empty where it is sure to give the same.
Check = Callable[[OpCall], str]


def check_uint8(im: Importer, op: FileOperator, nodes: list[Node]) -> None:
    """UnsupportedModel where the nodes made of a uint8 operator don't compute what it does."""
    check = UINT8_RULES[op.code]
    if check is same:
        return
    if not nodes:
        raise UnsupportedModel(f"its uint8 inputs are all constant; {REMEDY}")
    for node in nodes:
        inputs = tuple(im.tensors[i] if i else None for i in node.inputs)
        outputs = tuple(im.tensors[i] for i in node.outputs)
        reason = check(OpCall(node.name, node.attrs, inputs, outputs, node.op))
        if reason:
            raise UnsupportedModel(f"{reason}; {REMEDY}")


def same(call: OpCall) -> str:
    """The uint8 kernel moves values, or does the arithmetic of the int8 one, or of `as_uint8`."""
    return ""


def _float32(value: float) -> float:
    """Saturated where the runtime's own arithmetic would overflow."""
    limit = float(np.finfo(np.float32).max)
    return float(np.float32(min(value, limit)))


def _compared(call: OpCall, expected: Int64, *operands: Array) -> str:
    """The reason, if any, from the outputs for given int8 operands beside the uint8 kernel's."""
    grid = np.broadcast_arrays(*operands)
    shape = grid[0].shape
    inputs = tuple(None if t is None else replace(t, shape=shape, data=None) for t in call.inputs)
    wide = replace(call, inputs=inputs, outputs=(replace(call.output, shape=shape),))
    ours = OPS[call.op].run_int(wide, [np.ascontiguousarray(g, np.int8) for g in grid])[0]
    low, high = _clamp_of(call)
    differing = int(np.count_nonzero(ours != np.clip(expected, low, high)))
    return f"uint8 rounds {differing} of {ours.size} cases otherwise" if differing else ""


def _clamp_of(call: OpCall) -> tuple[int, int]:
    activation = getattr(call.attrs, "activation", None)
    if activation is None:
        return numerics.integer_range(call.output.dtype)
    return numerics.activation_range(activation, call.output)


ALL = np.arange(-128, 128, dtype=np.int64)


def _scaled(call: OpCall, values: Int64, real: float) -> Int64:
    """values * real on the output's scale, by the multiplier that a float32 factor gives."""
    m = numerics.quantize_multiplier(real)
    return numerics.requantize(values, m.m, m.shift) + call.output.zero_point


def _relu(call: OpCall) -> str:
    """TFLite divides the scales in float32, where the definition of Relu is tflite-micro's."""
    x, y = call.input(0), call.output
    expected = _scaled(call, ALL - x.zero_point, _float32(x.scale / y.scale))
    return _compared(call, np.maximum(expected, y.zero_point), ALL)


def _leaky_relu(call: OpCall) -> str:
    x, y = call.input(0), call.output
    centred = ALL - x.zero_point
    slope = _float32(_float32(x.scale * call.attrs.alpha) / y.scale)
    above = _scaled(call, centred, _float32(x.scale / y.scale))
    return _compared(call, np.where(centred >= 0, above, _scaled(call, centred, slope)), ALL)


def _prelu(call: OpCall) -> str:
    x, alpha, y = call.input(0), call.input(1), call.output
    centred, slopes = (ALL - x.zero_point)[:, None], (ALL - alpha.zero_point)[None, :]
    above = _scaled(call, centred, _float32(x.scale / y.scale))
    slope = _float32(_float32(x.scale * alpha.scale) / y.scale)
    below = _scaled(call, centred * slopes, slope)
    return _compared(call, np.where(centred >= 0, above, below), ALL[:, None], ALL[None, :])


def _mul(call: OpCall) -> str:
    """TFLite forms the factor in float32, product before quotient."""
    a, b = call.input(0), call.input(1)
    factor = _float32(_float32(a.scale * b.scale) / call.output.scale)
    first, second = ALL[:, None], ALL[None, :]
    products = (first - a.zero_point) * (second - b.zero_point)
    return _compared(call, _scaled(call, products, factor), first, second)


def _table(function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Check:
    """Of a kernel whose table is made by float32 functions: certain only away from ties."""

    def check(call: OpCall) -> str:
        x, y = call.input(0), call.output
        real = function((ALL - x.zero_point) * x.scale) / y.scale
        if np.any(np.abs(real - np.floor(real) - 0.5) < TIE_MARGIN):
            return "a value of its uint8 table lies too near to a tie to be certain"
        return _compared(call, np.floor(real + 0.5).astype(np.int64) + y.zero_point, ALL)

    return check


_rescaled = _table(lambda x: x)


def on_one_scale(im: Importer, op: FileOperator, inputs: list[Tensor]) -> list[Tensor]:
    """The inputs of a uint8 CONCATENATION on the scale of its output, as its kernel rescales them.

    UnsupportedModel where a rounding is not sure to be that of the kernel, which works in float32.
    """
    quant = im.described(op.outputs[0]).quant if op.outputs else None
    return [
        x if quant is None or x.quant in (quant, None) else _on_scale(im, op, x, quant, f"input{i}")
        for i, x in enumerate(inputs)
    ]


def _on_scale(im: Importer, op: FileOperator, x: Tensor, quant: QuantParams, wish: str) -> Tensor:
    y = replace(x, quant=quant, data=None)
    reason = _rescaled(OpCall(wish, NO_ATTRS, (x,), (y,), "quantize"))
    if reason:
        raise UnsupportedModel(f"'{x.name}' has another scale than the output: {reason}; {REMEDY}")
    (moved,) = im.moved(op, "quantize", [x], NO_ATTRS, wish, quant)
    return moved


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 + 0.5 * np.tanh(x / 2))


# By the operator's code. What isn't here is computed otherwise in uint8, or nobody has looked.
UINT8_RULES: Mapping[str, Check] = {
    **dict.fromkeys(
        (
            "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV",
            "AVERAGE_POOL_2D", "MAX_POOL_2D", "ADD", "SUB", "SOFTMAX", "MEAN", "HARD_SWISH",
            "RELU6", "RELU_N1_TO_1", "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN",
            "ARG_MAX", "ARG_MIN", "CONCATENATION", "PACK", "UNPACK", "SPLIT", "SPLIT_V",
            "SLICE", "STRIDED_SLICE", "PAD", "PADV2", "RESHAPE", "SQUEEZE", "EXPAND_DIMS",
            "TRANSPOSE", "GATHER", "RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH",
            "DEPTH_TO_SPACE", "QUANTIZE", "DEQUANTIZE",
        ),
        same,
    ),
    "RELU": _relu,
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "MUL": _mul,
    "LOGISTIC": _table(_logistic),
    "TANH": _table(lambda x: np.asarray(np.tanh(x))),
}  # fmt: skip
