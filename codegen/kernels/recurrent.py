"""Plans of the layers that keep a state: lstm and svdf."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Pointer
from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops import OpCall, lstm, svdf
from tinsmith.pipeline.ops.gate_functions import sigmoid_table, tanh_scaling

INT32_SAFE = (1 << 31) - 1


class _Constants:
    """Constants of a layer as they are gathered, and the pointers to them."""

    def __init__(self, call: OpCall) -> None:
        self.base, self.label = c_identifier(call.name), c_comment(call.name)
        self.arrays: list[Constant] = []
        self.pointers: list[Pointer] = []

    def add(self, name: str, ctype: str, data: NDArray[np.generic], what: str) -> None:
        self.pointers.append(Pointer(f"const {ctype}", name, ("const", len(self.arrays))))
        comment = f"{self.label}: {what}"
        self.arrays.append(Constant(f"{self.base}_{name}", ctype, data, comment))

    def add_shared(self, name: str, ctype: str, data: NDArray[np.generic], what: str) -> None:
        """A table that is the same in every layer, and stands in the program once."""
        self.pointers.append(Pointer(f"const {ctype}", name, ("const", len(self.arrays))))
        self.arrays.append(Constant(f"{name}_table", ctype, data, what, role="table"))

    def add_state(self, call: OpCall, i: int, name: str) -> None:
        """The state that comes in: a place in the arena, or a constant."""
        tensor = call.input(i)
        ctype = C_TYPES[tensor.dtype]
        if tensor.data is None:
            self.pointers.append(Pointer(f"const {ctype}", name, ("in", i)))
        else:
            self.add(name, ctype, tensor.data, "first state")


def _shift_fields(multipliers: Sequence[tuple[str, Multiplier]]) -> dict[str, int]:
    fields: dict[str, int] = {}
    for name, m in multipliers:
        fields |= {f"{name}_m": m.m, f"{name}_shift": m.shift}
    return fields


def lstm_plan(call: OpCall) -> KernelPlan:
    """Each step's output is the next one's hidden state, so that none of it is kept elsewhere."""
    s, k = lstm.sizes(call), lstm.constants(call)
    first = np.stack([call.input(i).value() for i in lstm.INPUT_WEIGHTS])
    second = np.stack([call.input(i).value() for i in lstm.RECURRENT_WEIGHTS])
    given = np.stack([call.input(i).value() for i in lstm.BIASES]).astype(np.int64)
    c = _Constants(call)
    c.add_state(call, lstm.HIDDEN, "hidden")
    c.add_state(call, lstm.CELL, "cell")
    gates = ", ".join(lstm.GATES)
    c.add("weights", "int8_t", first, f"weights of the input, of the gates {gates}")
    c.add("recurrent", "int8_t", second, "weights of the hidden state, likewise")
    add_gates = _add_wide_gates if call.input(0).dtype is DType.INT16 else _add_gates
    sums = add_gates(c, k, (first.astype(np.int64), second.astype(np.int64)), given)
    c.add_shared("sigmoid", "uint16_t", sigmoid_table(), "sigmoid of i / 24, times 2^16")
    low, high = numerics.integer_range(call.output.dtype)
    scale, right = tanh_scaling(k.cell_scale_power)
    fields = {
        "batch": s.batch, "steps": s.steps, "inputs": s.inputs, "units": s.units,
        "y_zero": k.hidden_zero_point, "cell_clip": k.cell_clip,
        "cell_scale": scale, "cell_right": right, "y_min": low, "y_max": high,
    }  # fmt: skip
    fields |= _shift_fields((("forget", k.forget), ("update", k.update), ("out", k.output)))
    ctype = C_TYPES[call.output.dtype]
    fixed = {
        **sums,
        "type": ctype,
        "time_major": call.attrs.time_major,
        "clipped": k.cell_clip != 0,
    }
    pointers = (
        Pointer(f"const {ctype}", "x", ("in", 0)),
        Pointer(ctype, "y", ("out", 0)),
        Pointer(ctype, "hidden_next", ("out", 1)),
        Pointer("int16_t", "cell_next", ("out", 2)),
        *c.pointers,
    )
    return KernelPlan(fixed, fields, pointers, tuple(c.arrays))


_Int64 = NDArray[np.int64]


def _add_gates(
    c: _Constants, k: lstm.LstmConstants, weights: tuple[_Int64, _Int64], given: _Int64
) -> dict[str, object]:
    """Biases and multipliers of the gates' int32 sums, and what the kernel's text depends on."""
    bias = given - k.input_zero_point * weights[0].sum(axis=2)
    recurrent_bias = -k.hidden_zero_point * weights[1].sum(axis=2)
    # A folded bias may leave the int32 range; accumulation wraps back, as TFLite's does.
    c.add("bias", "int32_t", bias.astype(np.int32), "bias, input zero point folded in")
    c.add(
        "recurrent_bias",
        "int32_t",
        recurrent_bias.astype(np.int32),
        "what the zero point of the hidden state adds",
    )
    scales = [*k.input, *k.recurrent]
    c.add("multiplier", "int32_t", np.array([m.m for m in scales], np.int32), "multipliers, Q31")
    c.add("shift", "int8_t", np.array([m.shift for m in scales], np.int8), "left shifts")
    bound = max(
        int((np.abs(b) + 128 * np.abs(w).sum(axis=2)).max())
        for b, w in zip((bias, recurrent_bias), weights, strict=True)
    )
    return {"wraps": bound > INT32_SAFE, "wide": False}


def _add_wide_gates(
    c: _Constants, k: lstm.LstmConstants, weights: tuple[_Int64, _Int64], given: _Int64
) -> dict[str, object]:
    """The same of int16 values, whose sums are int64 unless these weights keep them in an int32."""
    bound = max(
        int((np.abs(given) + 32768 * np.abs(weights[0]).sum(axis=2)).max()),
        int((32768 * np.abs(weights[1]).sum(axis=2)).max()),
    )
    narrow = bool(np.all(given == given.astype(np.int32)))
    kind, ctype = (np.int32, "int32_t") if narrow else (np.int64, "int64_t")
    c.add("bias", ctype, given.astype(kind), "bias")
    scales = [*k.input, *k.recurrent]
    m, right = numerics.reduced_multiplier([s.m for s in scales], [s.shift for s in scales])
    c.add("multiplier", "int16_t", m.astype(np.int16), "multipliers")
    c.add("shift", "int8_t", right.astype(np.int8), "right shifts")
    return {"acc": "int32_t" if bound <= INT32_SAFE else "int64_t", "wide": True}


def svdf_plan(call: OpCall) -> KernelPlan:
    s = svdf.sizes(call)
    first, second = svdf.multipliers(call)
    wf = call.input(svdf.FEATURE_WEIGHTS).value().astype(np.int64)
    wt = call.input(svdf.TIME_WEIGHTS).value().astype(np.int64)
    given = call.optional(svdf.BIAS)
    bias = np.zeros(s.units, np.int64) if given is None else given.value().astype(np.int64)
    offset = -call.input(0).zero_point * wf.sum(axis=1)
    c = _Constants(call)
    c.add_state(call, svdf.STATE, "memory")
    c.add("feature_weights", "int8_t", wf.astype(np.int8), "weights of the features")
    c.add("time_weights", "int16_t", wt.astype(np.int16), "weights over time, the oldest first")
    c.add("offset", "int32_t", offset.astype(np.int32), "what the input's zero point adds")
    c.add("bias", "int32_t", bias.astype(np.int32), "bias")
    sums = 32768 * np.abs(wt).sum(axis=1).reshape(s.units, -1).sum(axis=1) + np.abs(bias)
    features = np.abs(offset) + 128 * np.abs(wf).sum(axis=1)
    fields = {
        "batch": s.batch, "inputs": s.inputs, "units": s.units, "rank": call.attrs.rank,
        "slots": s.memory, "y_zero": call.output.zero_point,
    }  # fmt: skip
    fields |= _shift_fields((("feature", first), ("out", second)))
    fixed = {"wraps": int(max(sums.max(), features.max())) > INT32_SAFE}
    pointers = (
        Pointer("const int8_t", "x", ("in", 0)),
        Pointer("int8_t", "y", ("out", 0)),
        Pointer("int16_t", "memory_next", ("out", 1)),
        *c.pointers,
    )
    return KernelPlan(fixed, fields, pointers, tuple(c.arrays))
