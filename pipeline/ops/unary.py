"""Ops of one value in and one out: int8 by a table of 256 entries, whose rule each op states."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType, NoAttrs
from tinsmith.pipeline.ops.fixedpoint import inverse_square_root
from tinsmith.pipeline.ops.interpolation import interpolated_table, looked_up
from tinsmith.pipeline.ops.op import (
    INT8_OR_FLOAT,
    OpCall,
    OpDef,
    Oracle,
    TensorSpec,
    Values,
    int8_int16_or_float,
    refused_types,
)

Reals = NDArray[np.float64]
Function = Callable[[OpCall, Reals], Reals]

MAX_EXP_SCALE = 80.0 / 32768.0  # of int16 values, so that e^x and its differences are finite
RSQRT_SHIFT = 20  # fraction bits of the reciprocal root before it is scaled to the output


@dataclass(frozen=True)
class GeluAttrs:
    """approximate: by tanh, instead of the error function."""

    approximate: bool = False


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, call.input(0).dtype),)


def accepts(call: OpCall) -> tuple[str, ...]:
    return refused_types(INT8_OR_FLOAT, call.input(0), call.output)


def _exp(call: OpCall, x: Reals) -> Reals:
    return np.exp(x)


def _abs(call: OpCall, x: Reals) -> Reals:
    return np.abs(x)


def _elu(call: OpCall, x: Reals) -> Reals:
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


def _gelu(call: OpCall, x: Reals) -> Reals:
    """Step by step in float32, as TFLite's GeluTransform and GeluTransformApproximate."""
    v = x.astype(np.float32)
    half = np.float32(0.5) * v
    if call.attrs.approximate:
        cubed = np.float32(0.044715) * v * v * v
        inner = np.float32(math.sqrt(2 / math.pi)) * (v + cubed)
        tanh = np.tanh(inner.astype(np.float64)).astype(np.float32)
        return (half * (np.float32(1.0) + tanh)).astype(np.float64)
    # erfc keeps the digits of the small values far below zero.
    inner = v * np.float32(-math.sqrt(0.5))
    erfc = np.array([math.erfc(i) for i in inner.reshape(-1).tolist()], np.float32)
    return (half * erfc.reshape(v.shape)).astype(np.float64)


def _sqrt(call: OpCall, x: Reals) -> Reals:
    """Below zero the result is that of zero: integers have no NaN."""
    return np.asarray(np.sqrt(np.maximum(x, 0.0)), np.float64)


def _square(call: OpCall, x: Reals) -> Reals:
    return x * x


def _neg(call: OpCall, x: Reals) -> Reals:
    return -x


def _float_runner(function: Function) -> Callable[[OpCall, Values], tuple[Array, ...]]:
    def run(call: OpCall, values: Values) -> tuple[Array, ...]:
        assert values[0] is not None
        with np.errstate(over="ignore", divide="ignore"):
            return (function(call, values[0].astype(np.float64)).astype(np.float32),)

    return run


def _table_runner(function: Function) -> Callable[[OpCall, Values], tuple[Array, ...]]:
    """TFLite's LUTPopulate: the real function of every value, rounded to the output's scale.

    All in float32: scale * (q - zero point), the function, times 1 / output scale, rounded with
    ties away from zero. The function itself is correctly rounded, as a C library's mostly is.
    What is beyond an int32 saturates; TFLite's own cast of such a float is undefined.
    """

    def run(call: OpCall, values: Values) -> tuple[Array, ...]:
        result = _results(call, function)
        inverse = np.float32(1.0) / np.float32(call.output.scale)
        with np.errstate(over="ignore"):
            scaled = (result * inverse).astype(np.float64)
        rounded = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) + call.output.zero_point
        return _looked_up(np.clip(rounded, -128, 127), values)

    return run


def _between_runner(function: Function) -> Callable[[OpCall, Values], tuple[Array, ...]]:
    """For ops that no runtime has in int8: what dequantize, float op and quantize give."""

    def run(call: OpCall, values: Values) -> tuple[Array, ...]:
        assert call.output.quant is not None
        result = _results(call, function)
        return _looked_up(numerics.quantize_array(result, call.output.quant, DType.INT8), values)

    return run


def _results(call: OpCall, function: Function) -> NDArray[np.float32]:
    """The function of the 256 input values, from -128 on, in float32."""
    x = call.input(0)
    real = np.float32(x.scale) * (np.arange(-128, 128) - x.zero_point).astype(np.float32)
    with np.errstate(over="ignore", divide="ignore"):
        return function(call, real.astype(np.float64)).astype(np.float32)


def _looked_up(table: Array, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (table.astype(np.int8)[values[0].astype(np.int64) + 128],)


def abs_multiplier(call: OpCall) -> numerics.Multiplier | None:
    """input scale / output scale, a double quotient; None where they are equal."""
    x, y = call.input(0), call.output
    return None if x.scale == y.scale else numerics.quantize_multiplier(x.scale / y.scale)


def _abs_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """TFLM's AbsEvalQuantized: rescaled only where the scales differ."""
    x, y = call.input(0), call.output
    assert values[0] is not None
    magnitude = np.abs(values[0].astype(np.int64) - x.zero_point)
    m = abs_multiplier(call)
    if m is not None:
        magnitude = numerics.requantize(magnitude, m.m, m.shift)
    low, high = numerics.integer_range(y.dtype)
    return (np.clip(magnitude + y.zero_point, low, high).astype(y.dtype.numpy),)


def exp_table_int16(call: OpCall) -> NDArray[np.int16]:
    """The interpolated table of an int16 exponential."""
    x, y = call.input(0), call.output
    return interpolated_table(
        lambda v: np.exp(v.astype(np.float64)).astype(np.float32), x.scale, x.zero_point, y.scale
    )


def _accepts_exp(call: OpCall) -> tuple[str, ...]:
    """The steps of an int16 table are differences, which infinities have not."""
    x = call.input(0)
    reasons = int8_int16_or_float(call)
    if not reasons and x.dtype is DType.INT16 and x.quant is not None and x.scale > MAX_EXP_SCALE:
        return (f"input scale {x.scale:g}; allowed for int16: up to {MAX_EXP_SCALE:g}",)
    return reasons


def _exp_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """int8 by a table of all values, int16 by an interpolated one, as TFLite's ExpPrepare says."""
    if call.input(0).dtype is not DType.INT16:
        return _table_runner(_exp)(call, values)
    assert values[0] is not None
    return (looked_up(values[0].astype(np.int64), exp_table_int16(call)).astype(np.int16),)


def _rsqrt_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """TFLM's RsqrtEvalQuantized; what is not above zero gives the largest output."""
    x, y = call.input(0), call.output
    assert values[0] is not None
    root = float(np.sqrt(np.float32(x.scale)) * np.float32(y.scale))
    m = numerics.quantize_multiplier(1.0 / root)
    value = np.arange(-128, 128) - x.zero_point
    table = np.full(256, 127, np.int64)
    for i in np.flatnonzero(value > 0):
        inverse = inverse_square_root(int(value[i]))
        data = numerics.requantize(1, inverse.m, inverse.shift + RSQRT_SHIFT)
        table[i] = numerics.requantize(data, m.m, m.shift - RSQRT_SHIFT) + y.zero_point
    return (np.clip(table, -128, 127).astype(np.int8)[values[0].astype(np.int64) + 128],)


def _rsqrt(call: OpCall, x: Reals) -> Reals:
    return np.where(x > 0, 1.0 / np.sqrt(np.maximum(x, 1e-300)), np.inf)


def _finite_rsqrt(call: OpCall, x: Reals) -> Reals:
    """In float, what is not above zero counts as the smallest number that is."""
    return _rsqrt(call, np.maximum(x, float(np.finfo(np.float32).tiny)))


def _unary(
    name: str,
    title: str,
    function: Function,
    *,
    run_int: Callable[[OpCall, Values], tuple[Array, ...]] | None = None,
    attrs: type = NoAttrs,
    oracle: Oracle = Oracle.TFLM,
    disagree: tuple[Oracle, ...] = (),
    int16: Oracle | None = None,
    accepts: Callable[[OpCall], tuple[str, ...]] = accepts,
) -> OpDef:
    return OpDef(
        name=name,
        title=title,
        infer=infer,
        run_float=_float_runner(function),
        run_int=run_int or _table_runner(function),
        attrs=attrs,
        oracle=oracle,
        disagree=disagree,
        accepts=accepts,
        int16=int16,
    )


# Where disagree is given, that runtime has no such op.
EXP = _unary(
    "exp",
    "e^x",
    _exp,
    run_int=_exp_int,
    oracle=Oracle.REF,
    disagree=(Oracle.TFLM,),
    int16=Oracle.REF,
    accepts=_accepts_exp,
)
ELU = _unary("elu", "x, or e^x - 1 below zero", _elu, disagree=(Oracle.REF,))
GELU = _unary(
    "gelu",
    "x times the normal distribution of x",
    _gelu,
    attrs=GeluAttrs,
    oracle=Oracle.REF,
    disagree=(Oracle.TFLM,),
)
SQRT = _unary("sqrt", "square root", _sqrt, run_int=_between_runner(_sqrt))
SQUARE = _unary("square", "x * x", _square, run_int=_between_runner(_square))
RSQRT = _unary("rsqrt", "1 / square root", _finite_rsqrt, run_int=_rsqrt_int)
ABS = _unary(
    "abs", "magnitude", _abs, run_int=_abs_int, int16=Oracle.TFLM, accepts=int8_int16_or_float
)
NEG = _unary("neg", "-x", _neg, run_int=_between_runner(_neg))

UNARY = (EXP, ELU, GELU, SQRT, SQUARE, RSQRT, ABS, NEG)
