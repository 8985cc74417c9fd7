"""Quantize and Dequantize: between float32 and integers, and from one integer scale to another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType, dequantize_array
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    asymmetric,
    refused_types,
)


def infer_quantize(call: OpCall) -> tuple[TensorSpec, ...]:
    """int8 unless the output already exists and says otherwise (the type is the output's own)."""
    dtype = call.outputs[0].dtype if call.outputs else DType.INT8
    return (TensorSpec(call.input(0).shape, dtype),)


def infer_dequantize(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, DType.FLOAT32),)


def run_quantize_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    """In a float graph: the values that the int8 parameters of the output, if any, can show."""
    assert values[0] is not None
    quant = call.output.quant
    if quant is None:
        return (values[0],)
    return (dequantize_array(numerics.quantize_array(values[0], quant, DType.INT8), quant),)


def requantize_multiplier(call: OpCall) -> Multiplier:
    """input scale / output scale, a double quotient (TFLM's quantize_common)."""
    return numerics.quantize_multiplier(call.input(0).scale / call.output.scale)


def run_quantize(call: OpCall, values: Values) -> tuple[Array, ...]:
    x = values[0]
    assert x is not None
    y = call.output
    assert y.quant is not None
    if call.input(0).dtype is DType.FLOAT32:
        return (numerics.quantize_array(x, y.quant, y.dtype),)
    m = requantize_multiplier(call)
    centred = x.astype(np.int64) - call.input(0).zero_point
    low, high = numerics.integer_range(y.dtype)
    q = numerics.requantize(centred, m.m, m.shift) + y.zero_point
    return (np.clip(q, low, high).astype(y.dtype.numpy),)


def run_dequantize(call: OpCall, values: Values) -> tuple[Array, ...]:
    x = values[0]
    assert x is not None
    quant = call.input(0).quant
    if quant is None:
        return (x.astype(np.float32),)
    return (dequantize_array(x, quant),)


# What each type may become: what tflite-micro, or else tflite-runtime, has.
TO: Mapping[DType, tuple[DType, ...]] = {
    DType.FLOAT32: (DType.INT8, DType.UINT8, DType.INT16),
    DType.INT8: (DType.INT8, DType.UINT8, DType.INT16, DType.INT32),
    DType.UINT8: (DType.INT8, DType.UINT8),
    DType.INT16: (DType.INT8, DType.INT16, DType.INT32),
    DType.INT32: (DType.INT8, DType.INT16),
}


def accepts_quantize(call: OpCall) -> tuple[str, ...]:
    x, y = call.input(0), call.output
    if (x.dtype, y.dtype) == (DType.FLOAT32, DType.FLOAT32):
        return ()  # a float graph that carries the parameters of an int8 model
    allowed = TO.get(x.dtype, ())
    if y.dtype not in allowed:
        names = ", ".join(k.value for k in allowed) or "from float32 and int8 to int32"
        return (f"{x.dtype.value} to {y.dtype.value}; allowed: {names}",)
    wide = tuple(t for t in (x, y) if t.dtype in (DType.INT16, DType.INT32))
    return asymmetric(*wide)


def accepts_dequantize(call: OpCall) -> tuple[str, ...]:
    allowed = (DType.INT8, DType.UINT8, DType.INT16, DType.FLOAT32)
    return refused_types(allowed, call.input(0))


QUANTIZE = OpDef(
    name="quantize",
    title="float32 or integers to integers of another scale",
    infer=infer_quantize,
    run_float=run_quantize_float,
    run_int=run_quantize,
    accepts=accepts_quantize,
    int16=Oracle.TFLM,
)

DEQUANTIZE = OpDef(
    name="dequantize",
    title="integers to float32",
    infer=infer_dequantize,
    run_float=run_dequantize,
    run_int=run_dequantize,
    scale_rule=ScaleRule.NONE,
    accepts=accepts_dequantize,
    int16=Oracle.TFLM,
)
