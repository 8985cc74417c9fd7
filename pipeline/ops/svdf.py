"""SVDF: a fully connected layer and a filter over time for each of its features, with a memory.

int8 activations, int16 memory. The memory comes in as input 4 and goes out as output 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Activation, Array, DType
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops import mac
from tinsmith.pipeline.ops.op import OpCall, OpDef, TensorSpec, Values

FEATURE_WEIGHTS, TIME_WEIGHTS, BIAS, STATE = 1, 2, 3, 4


@dataclass(frozen=True)
class SvdfAttrs:
    """rank: how many features are summed into one output."""

    rank: int = 1
    activation: Activation = Activation.RELU


@dataclass(frozen=True)
class SvdfSizes:
    batch: int
    inputs: int
    features: int
    memory: int
    units: int


def sizes(call: OpCall) -> SvdfSizes:
    batch, inputs = call.input(0).shape
    features, memory = call.input(TIME_WEIGHTS).shape
    return SvdfSizes(batch, inputs, features, memory, features // call.attrs.rank)


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x, wf, wt = call.input(0), call.input(FEATURE_WEIGHTS), call.input(TIME_WEIGHTS)
    rank = call.attrs.rank
    shapes = [list(t.shape) for t in (x, wf, wt)]
    fits = (
        all(len(s) == 2 for s in shapes)
        and wf.shape == (wt.shape[0], x.shape[1])
        and rank >= 1
        and wf.shape[0] % rank == 0
    )
    if not fits or len(call.inputs) != 5:
        raise ModelError(
            f"svdf '{call.name}': input {shapes[0]}, feature weights {shapes[1]} and time weights "
            f"{shapes[2]} of rank {rank}; allowed: [batch, inputs], [features, inputs], "
            "[features, memory], features a multiple of the rank"
        )
    s = sizes(call)
    state, bias = call.input(STATE), call.optional(BIAS)
    if state.shape != (s.batch, s.features * s.memory):
        raise ModelError(
            f"svdf '{call.name}': its memory is {list(state.shape)}, "
            f"expected [{s.batch}, {s.features * s.memory}]"
        )
    if bias is not None and bias.shape != (s.units,):
        raise ModelError(f"svdf '{call.name}': bias {list(bias.shape)}, expected [{s.units}]")
    return (TensorSpec((s.batch, s.units), x.dtype), TensorSpec(state.shape, state.dtype))


def _given(values: Values, i: int) -> Array:
    value = values[i]
    assert value is not None
    return value


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    s = sizes(call)
    x, wf, wt = (_given(values, i).astype(np.float64) for i in (0, 1, 2))
    state = _given(values, STATE).reshape(s.batch, s.features, s.memory)
    state = np.concatenate([state[:, :, 1:], (x @ wf.T)[:, :, None]], axis=2)
    y = (state * wt).sum(axis=2).reshape(s.batch, s.units, call.attrs.rank).sum(axis=2)
    bias = values[BIAS]
    if bias is not None:
        y = y + bias
    out = mac.apply_activation(y.astype(np.float32), call.attrs.activation)
    return out, state.astype(np.float32).reshape(s.batch, -1)


def multipliers(call: OpCall) -> tuple[Multiplier, Multiplier]:
    """(features to memory, memory to output): double products, as in TFLM's PrepareSvdf."""
    state = call.input(STATE).scale
    first = call.input(0).scale * call.input(FEATURE_WEIGHTS).scale / state
    second = state * call.input(TIME_WEIGHTS).scale / call.output.scale
    return numerics.quantize_multiplier(first), numerics.quantize_multiplier(second)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    s = sizes(call)
    first, second = multipliers(call)
    x, wf, wt = (_given(values, i).astype(np.float64) for i in (0, 1, 2))
    dot = ((x - call.input(0).zero_point) @ wf.T).astype(np.int64)
    feature = numerics.requantize(numerics.wrap_int32(dot), first.m, first.shift)
    feature = np.clip(feature, -32768, 32767).astype(np.int16)
    state = _given(values, STATE).reshape(s.batch, s.features, s.memory)
    state = np.concatenate([state[:, :, 1:], feature[:, :, None]], axis=2)
    total = (state * wt).sum(axis=2).astype(np.int64)
    total = total.reshape(s.batch, s.units, call.attrs.rank).sum(axis=2)
    bias = values[BIAS]
    if bias is not None:
        total = total + bias
    y = numerics.requantize(numerics.wrap_int32(total), second.m, second.shift)
    y = np.clip(y + call.output.zero_point, -128, 127)
    return y.astype(np.int8), np.ascontiguousarray(state.reshape(s.batch, -1))


def macs(call: OpCall) -> int:
    s = sizes(call)
    return s.batch * s.features * (s.inputs + s.memory)


def accepts(call: OpCall) -> tuple[str, ...]:
    x, wf, wt, state = (call.input(i) for i in (0, FEATURE_WEIGHTS, TIME_WEIGHTS, STATE))
    bias = call.optional(BIAS)
    reasons = []
    if not all(t.is_constant for t in (wf, wt, bias) if t is not None):
        reasons.append("weights or biases are computed; allowed: constants")
    kinds = (x.dtype, wf.dtype, wt.dtype, state.dtype, call.output.dtype)
    if kinds == (DType.FLOAT32,) * 5:
        return tuple(reasons)
    i8, i16 = DType.INT8, DType.INT16
    if kinds != (i8, i8, i16, i16, i8):
        names = "/".join(k.value for k in kinds)
        return (
            *reasons,
            f"input/feature weights/time weights/memory/output are {names}; "
            "allowed: int8/int8/int16/int16/int8 or all float32",
        )
    if bias is not None and bias.dtype is not DType.INT32:
        reasons.append(f"the bias is {bias.dtype.value}; allowed: int32")
    for t in (wf, wt, state):
        if t.quant is None or len(t.quant.scale) != 1 or t.zero_point != 0:
            reasons.append(f"'{t.name}' has several scales or a zero point; allowed: symmetric")
    if len(call.outputs) > 1 and call.outputs[1].quant != state.quant:
        reasons.append("the memory changes its scale; allowed: one")
    if call.attrs.activation is not Activation.RELU:
        reasons.append(f"activation {call.attrs.activation.value}; allowed for int8: relu")
    elif call.output.quant is not None and call.output.zero_point != -128:
        # The int8 kernel clamps to int8 and no further: a relu only where that is what it does.
        reasons.append(
            f"output zero point {call.output.zero_point}; allowed: -128, as its relu asks for"
        )
    return tuple(reasons)


SVDF = OpDef(
    name="svdf",
    title="fully connected features, each filtered over time, with their memory",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=SvdfAttrs,
    macs=macs,
    accepts=accepts,
    optional_inputs=(BIAS,),
)
