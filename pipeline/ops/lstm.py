"""LSTM: a whole sequence through a long short-term memory layer; int8 or int16, its cell int16.

The hidden and cell state come in as inputs 13 and 14 and go out as outputs 1 and 2: a state of the
graph, or constants where every sequence starts afresh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.numerics import Int64, Multiplier
from tinsmith.pipeline.ops.gate_functions import sigmoid_q15, tanh_q15, tanh_scaling
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, TensorSpec, Values, asymmetric

GATES = ("input", "forget", "cell", "output")
INPUT_WEIGHTS = range(1, 5)  # [units, inputs] each, in the order of GATES
RECURRENT_WEIGHTS = range(5, 9)  # [units, units]
BIASES = range(9, 13)  # [units]
HIDDEN, CELL = 13, 14  # [batch, units]

GATE_INPUT_SCALE = 2.0**-12  # of what goes into a gate's sigmoid or tanh, Q3.12
GATE_OUTPUT_SCALE = 2.0**-15  # of what comes out, Q0.15
CELL_SCALE_POWERS = range(-24, 1)


@dataclass(frozen=True)
class LstmAttrs:
    """time_major: x is [time, batch, inputs], else [batch, time, inputs].

    cell_clip: the cell state stays within +-cell_clip; 0 for no bound.
    """

    time_major: bool = False
    cell_clip: float = 0.0

    def __post_init__(self) -> None:
        # A float32 value, since that is what every file format and every oracle stores.
        object.__setattr__(self, "cell_clip", float(np.float32(self.cell_clip)))


@dataclass(frozen=True)
class LstmSizes:
    batch: int
    steps: int
    inputs: int
    units: int


def sizes(call: OpCall) -> LstmSizes:
    a, b, inputs = call.input(0).shape
    batch, steps = (b, a) if call.attrs.time_major else (a, b)
    return LstmSizes(batch, steps, inputs, call.input(1).shape[0])


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    x = call.input(0)
    if len(x.shape) != 3 or len(call.inputs) != 15 or len(call.input(1).shape) != 2:
        raise ModelError(
            f"lstm '{call.name}': {len(call.inputs)} inputs, the first {list(x.shape)}; "
            "allowed: 15 inputs, the first [batch, time, inputs] or [time, batch, inputs]"
        )
    s = sizes(call)
    wanted = {
        **dict.fromkeys(INPUT_WEIGHTS, (s.units, s.inputs)),
        **dict.fromkeys(RECURRENT_WEIGHTS, (s.units, s.units)),
        **dict.fromkeys(BIASES, (s.units,)),
        **dict.fromkeys((HIDDEN, CELL), (s.batch, s.units)),
    }
    for i, shape in wanted.items():
        if call.input(i).shape != shape:
            raise ModelError(
                f"lstm '{call.name}': input {i} is {list(call.input(i).shape)}, "
                f"expected {list(shape)}"
            )
    return (
        TensorSpec((*x.shape[:2], s.units), x.dtype),
        TensorSpec((s.batch, s.units), call.input(HIDDEN).dtype),
        TensorSpec((s.batch, s.units), call.input(CELL).dtype),
    )


def _by_time(call: OpCall, x: Array) -> Array:
    """x as [time, batch, ...], and back."""
    return x if call.attrs.time_major else x.swapaxes(0, 1)


def _given(values: Values, indices: range) -> list[Array]:
    found = []
    for i in indices:
        value = values[i]
        assert value is not None
        found.append(value)
    return found


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    x, h, c = (_given(values, range(i, i + 1))[0] for i in (0, HIDDEN, CELL))
    weights = np.concatenate(_given(values, INPUT_WEIGHTS)).astype(np.float64)
    recurrent = np.concatenate(_given(values, RECURRENT_WEIGHTS)).astype(np.float64)
    bias = np.concatenate(_given(values, BIASES)).astype(np.float64)
    h, c = h.astype(np.float64), c.astype(np.float64)
    rows = []
    for row in _by_time(call, x).astype(np.float64):
        i, f, g, o = np.split(row @ weights.T + h @ recurrent.T + bias, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        if call.attrs.cell_clip > 0:
            c = np.clip(c, -call.attrs.cell_clip, call.attrs.cell_clip)
        h = _sigmoid(o) * np.tanh(c)
        rows.append(h)
    y = _by_time(call, np.stack(rows))
    return tuple(np.ascontiguousarray(v, np.float32) for v in (y, h, c))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), np.float64)


@dataclass(frozen=True)
class LstmConstants:
    """The integer constants, by TFLM's PrepareGateParametersInteger.

    input, recurrent: from sums of products to Q3.12, per gate. forget: forget gate * cell -> cell.
    update: input gate * cell gate -> cell. output: output gate * tanh(cell) -> hidden.
    """

    input: tuple[Multiplier, ...]
    recurrent: tuple[Multiplier, ...]
    forget: Multiplier
    update: Multiplier
    output: Multiplier
    input_zero_point: int
    hidden_zero_point: int
    cell_scale_power: int
    cell_clip: int  # 0 for none


def constants(call: OpCall) -> LstmConstants:
    x, h, c = call.input(0), call.input(HIDDEN), call.input(CELL)
    clip = min(call.attrs.cell_clip / c.scale, 32767.0)
    return LstmConstants(
        tuple(_to_gate(x.scale, call.input(i).scale) for i in INPUT_WEIGHTS),
        tuple(_to_gate(h.scale, call.input(i).scale) for i in RECURRENT_WEIGHTS),
        numerics.quantize_multiplier(GATE_OUTPUT_SCALE * c.scale / c.scale),
        numerics.quantize_multiplier(GATE_OUTPUT_SCALE * GATE_OUTPUT_SCALE / c.scale),
        numerics.quantize_multiplier(GATE_OUTPUT_SCALE * GATE_OUTPUT_SCALE / h.scale),
        x.zero_point,
        h.zero_point,
        round(math.log2(c.scale)),
        int(clip),
    )


def _to_gate(value_scale: float, weight_scale: float) -> Multiplier:
    return numerics.quantize_multiplier(value_scale * weight_scale / GATE_INPUT_SCALE)


def _product(
    values: Array, zero_point: int, weights: Array, bias: Array | None, m: Multiplier
) -> Int64:
    """Rows times weights, requantized to int16: the integer part of a gate.

    int8 by an int32 sum; int16 by an int64 one, and the 16-bit multiplier.
    """
    acc = (values.astype(np.float64) - zero_point) @ weights.astype(np.float64).T
    total = acc.astype(np.int64)
    if bias is not None:
        total = total + bias.astype(np.int64)
    if values.dtype == np.int16:
        return _int16(numerics.requantize_int16(total, m.m, m.shift))
    return _int16(numerics.requantize(numerics.wrap_int32(total), m.m, m.shift))


def _int16(x: Int64) -> Int64:
    return np.clip(x, -32768, 32767)


def _scaled(x: Int64, m: Multiplier) -> Int64:
    return numerics.requantize(x, m.m, m.shift)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    k = constants(call)
    x, h, cell = (_given(values, range(i, i + 1))[0] for i in (0, HIDDEN, CELL))
    weights, recurrent = _given(values, INPUT_WEIGHTS), _given(values, RECURRENT_WEIGHTS)
    biases = _given(values, BIASES)
    low, high = numerics.integer_range(call.output.dtype)
    c = cell.astype(np.int64)
    rows = []
    for row in _by_time(call, x):
        sums = [
            _int16(
                _product(row, k.input_zero_point, weights[g], biases[g], k.input[g])
                + _product(h, k.hidden_zero_point, recurrent[g], None, k.recurrent[g])
            )
            for g in range(4)
        ]
        i, f, o = sigmoid_q15(sums[0]), sigmoid_q15(sums[1]), sigmoid_q15(sums[3])
        g = tanh_q15(sums[2], tanh_scaling(-12))
        c = _int16(_int16(_scaled(f * c, k.forget)) + _int16(_scaled(i * g, k.update)))
        if k.cell_clip:
            c = np.clip(c, -k.cell_clip, k.cell_clip)
        out = (
            _scaled(tanh_q15(c, tanh_scaling(k.cell_scale_power)) * o, k.output)
            + k.hidden_zero_point
        )
        h = np.clip(out, low, high).astype(call.output.dtype.numpy)
        rows.append(h)
    y = np.ascontiguousarray(_by_time(call, np.stack(rows)))
    return y, np.ascontiguousarray(h), c.astype(np.int16)


def macs(call: OpCall) -> int:
    s = sizes(call)
    return s.batch * s.steps * 4 * s.units * (s.inputs + s.units)


def accepts(call: OpCall) -> tuple[str, ...]:
    x, h, c = call.input(0), call.input(HIDDEN), call.input(CELL)
    kinds = (x.dtype, h.dtype, c.dtype, call.output.dtype)
    reasons = []
    weights = [call.input(i) for i in (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS)]
    biases = [call.input(i) for i in BIASES]
    if not all(t.is_constant for t in (*weights, *biases)):
        reasons.append("weights or biases are computed; allowed: constants")
    if kinds == (DType.FLOAT32,) * 4:
        return tuple(reasons)
    if kinds not in ((DType.INT8, DType.INT8, DType.INT16, DType.INT8), (DType.INT16,) * 4):
        names = "/".join(k.value for k in kinds)
        reasons.append(
            f"input/hidden/cell/output are {names}; "
            "allowed: int8/int8/int16/int8, all int16, or all float32"
        )
        return tuple(reasons)
    reasons += asymmetric(x, h, *call.outputs[:2])
    wide = DType.INT64 if x.dtype is DType.INT16 else DType.INT32
    for t in weights:
        if t.dtype is not DType.INT8 or t.quant is None or len(t.quant.scale) != 1:
            reasons.append(f"'{t.name}' is not int8 with one scale; allowed: int8, per tensor")
        elif t.zero_point != 0:
            reasons.append(f"'{t.name}' has the zero point {t.zero_point}; allowed: 0")
    reasons += [f"'{t.name}' is {t.dtype.value}; allowed: {wide.value}" for t in biases
                if t.dtype is not wide]  # fmt: skip
    return (*reasons, *_state_reasons(call))


def _state_reasons(call: OpCall) -> tuple[str, ...]:
    h, c = call.input(HIDDEN), call.input(CELL)
    reasons = []
    if len({h.quant, *(t.quant for t in call.outputs[:2])}) > 1:
        reasons.append("the hidden state and the output have different scales; allowed: one")
    if len(call.outputs) > 2 and call.outputs[2].quant != c.quant:
        reasons.append("the cell state changes its scale; allowed: one")
    if c.quant is None or c.quant.per_channel or c.zero_point != 0:
        reasons.append("the cell state has a zero point or no scale; allowed: symmetric")
    elif math.frexp(c.scale)[0] != 0.5 or math.frexp(c.scale)[1] - 1 not in CELL_SCALE_POWERS:
        low, high = CELL_SCALE_POWERS.start, CELL_SCALE_POWERS.stop - 1
        reasons.append(
            f"the cell state has the scale {c.scale}; allowed: powers of two, 2^{low} to 2^{high}"
        )
    return tuple(reasons)


LSTM = OpDef(
    name="lstm",
    title="long short-term memory over a sequence, with its state",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=LstmAttrs,
    macs=macs,
    accepts=accepts,
    disagree=(Oracle.REF,),  # it rounds otherwise: off by 1 here and there
    int16=Oracle.TFLM,
)
