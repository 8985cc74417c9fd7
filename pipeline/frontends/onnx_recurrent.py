"""ONNX's recurrent layers over whole sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_context import Context, Refused, Value
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs

# ONNX has the gates as input, output, forget, cell; the op as input, forget, cell, output.
GATE_ORDER = (0, 2, 3, 1)

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
ACTIVATIONS = ("sigmoid", "tanh", "tanh")


def lstm(ctx: Context, node: OnnxNode) -> tuple[Value, ...]:
    """All hidden states [time, direction, batch, units], and the last hidden and cell states.

    One sequence is read batch first, which are the same bytes: so many of them can run side by
    side in the interpreter and in training.
    """
    x = ctx.data(node)
    if len(ctx.shape(x)) != 3:
        raise ModelError(f"LSTM '{node.name}': its input {list(ctx.shape(x))} has not rank 3")
    directions = DIRECTIONS.get(node.attrs.get("direction", "forward"))
    if directions is None:
        raise ModelError(f"LSTM '{node.name}': direction '{node.attrs['direction']}'")
    _check_supported(node, len(directions))
    batch_first = bool(int(node.attrs.get("layout", 0)))
    steps, batch = ctx.shape(x)[:2][:: -1 if batch_first else 1]
    if node.has_input(4) and set(ctx.integers(node, 4, "sequence lengths")) != {steps}:
        raise Refused("its sequences have different lengths", "pad them before the model")
    first = batch_first or batch == 1
    if first and not batch_first:
        x = ctx.reshape(x, (batch, steps, ctx.shape(x)[2]))
    parts = [_one_direction(ctx, node, x, d, rev, first) for d, rev in enumerate(directions)]
    units = ctx.shape(parts[0][0])[2]
    ends = (batch, 1, units) if first else (1, batch, units)
    whole = (batch, steps, 1, units) if first else (steps, 1, batch, units)
    shapes = (whole, ends, ends)
    axes = (2, 1, 1) if first else (1, 0, 0)
    joined = [
        _joined(ctx, node, [ctx.reshape(p[i], shapes[i]) for p in parts], axes[i], i)
        for i in range(3)
    ]
    if first and not batch_first:
        count = len(directions)
        ends = (count, 1, units)
        wanted = ((steps, count, 1, units), ends, ends)
        joined = [ctx.reshape(y, shape) for y, shape in zip(joined, wanted, strict=True)]
    return tuple(joined)


def _check_supported(node: OnnxNode, directions: int) -> None:
    given = [str(a).lower() for a in _strings(node.attrs.get("activations", ()))]
    if given and given != [*ACTIVATIONS] * directions:
        raise Refused(f"its activations are {given}", "use Sigmoid, Tanh, Tanh")
    if int(node.attrs.get("input_forget", 0)):
        raise Refused("its input and forget gates are coupled", "use input_forget 0")
    if "clip" in node.attrs:
        raise Refused("it clips the sums of its gates", "leave clip out")
    if node.has_input(7):
        raise Refused("it has peepholes", "leave them out")


def _strings(values: object) -> list[str]:
    found = list(values) if isinstance(values, (list, tuple)) else []
    return [v.decode() if isinstance(v, bytes) else str(v) for v in found]


def _one_direction(
    ctx: Context, node: OnnxNode, x: str, d: int, reverse: bool, batch_first: bool
) -> tuple[str, str, str]:
    """batch_first: of x, whatever the file says."""
    time = 1 if batch_first else 0
    source = _reversed(ctx, node, x, time, f"{node.name}_{d}_in") if reverse else x
    w, r, b = _gates(ctx, node, d)
    states = [_initial(ctx, node, i, d, ctx.shape(x)[1 - time], w[0].shape[0]) for i in (5, 6)]
    label = f"{node.name}_{d}" if d else node.name
    constants = [
        ctx.constant(f"{label}_{kind}_{gate}", np.ascontiguousarray(gates[gate]))
        for kind, gates in (("weights", w), ("recurrent", r), ("bias", b))
        for gate in range(4)
    ]
    outs = [f"{o}_{d}" if o and d else o for o in (*node.outputs, "", "", "")[:3]]
    attrs = LstmAttrs(time_major=not batch_first)
    y, h, c = ctx.emit_multi("lstm", [source, *constants, *states], attrs, node=label, outs=outs)
    return (_reversed(ctx, node, y, time, f"{label}_back") if reverse else y), h, c


def _gates(ctx: Context, node: OnnxNode, d: int) -> tuple[list[NDArray[np.float32]], ...]:
    """Weights, recurrent weights and biases of a direction, a list of the four gates each."""
    w, r = ctx.weights(node, 1, "weights"), ctx.weights(node, 2, "recurrent weights")
    units = w.shape[1] // 4 if w.ndim == 3 else 0
    if w.ndim != 3 or d >= len(w) or w.shape[1] % 4 or r.shape != (len(w), 4 * units, units):
        raise ModelError(f"LSTM '{node.name}': weights {list(w.shape)} and {list(r.shape)}")
    bias = np.zeros((len(w), 8 * units), np.float32)
    if node.has_input(3):
        bias = ctx.weights(node, 3, "biases")
    if bias.shape != (len(w), 8 * units):
        raise ModelError(f"LSTM '{node.name}': biases {list(bias.shape)} for {units} units")
    total = bias[d, : 4 * units] + bias[d, 4 * units :]
    return tuple([np.split(a, 4)[g] for g in GATE_ORDER] for a in (w[d], r[d], total))


def _initial(ctx: Context, node: OnnxNode, i: int, d: int, batch: int, units: int) -> str:
    """The state before the first step [batch, units]; zeros where none is given."""
    label = f"{node.name}_{d}_{'hidden' if i == 5 else 'cell'}"
    if not node.has_input(i):
        return ctx.constant(label, np.zeros((batch, units), np.float32))
    value = ctx.value(node, i)
    shape = ctx.shape(value)
    axis = int(node.attrs.get("layout", 0))
    if len(shape) != 3 or d >= shape[axis]:
        raise ModelError(f"LSTM '{node.name}': an initial state has the shape {list(shape)}")
    if not isinstance(value, str):
        chosen = ctx.weights(node, i, "initial state").take(d, axis)
        return ctx.constant(label, np.ascontiguousarray(chosen))
    begin = tuple(d if a == axis else 0 for a in range(3))
    size = tuple(1 if a == axis else s for a, s in enumerate(shape))
    part = value
    if shape[axis] > 1:
        part = ctx.emit("slice", [value], SliceAttrs(begin, size), node=label, out=label)
    return ctx.reshape(part, (batch, units))


def _reversed(ctx: Context, node: OnnxNode, x: str, axis: int, label: str) -> str:
    shape = ctx.shape(x)
    begin = tuple(d - 1 if i == axis else 0 for i, d in enumerate(shape))
    step = tuple(-1 if i == axis else 1 for i in range(len(shape)))
    return ctx.emit("slice", [x], SliceAttrs(begin, shape, step), node=label, out=label)


def _joined(ctx: Context, node: OnnxNode, parts: list[str], axis: int, i: int) -> str:
    if len(parts) == 1:
        return parts[0]
    label = f"{node.name}_join{i}"
    attrs = ConcatenationAttrs(axis)
    return ctx.emit("concatenation", parts, attrs, node=label, out=label)
