"""Growers of reductions, image ops, tables, lookups and an lstm for random networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from support.nets import Net
from tinsmith.pipeline.graph import NO_ATTRS, DType, QuantParams
from tinsmith.pipeline.numerics import integer_range
from tinsmith.pipeline.ops import OPS, OpCall, window
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.blocks import BlockAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs
from tinsmith.pipeline.ops.unary import GeluAttrs

Grower = Callable[[Net, str], str | None]


def _pick(net: Net, choices: Sequence[int]) -> int:
    return int(net.rng.choice(np.asarray(choices)))


def _saturate(net: Net) -> float:
    return float(net.rng.choice([0.0, 0.0, 0.02, 0.2]))


def random_operand(
    net: Net, shape: tuple[int, ...], x: str, quant: QuantParams | None = None
) -> str:
    """A random constant of x's type; by default with a scale of its own."""
    dtype = net.tensor(x).dtype
    low, high = integer_range(dtype)
    data = net.rng.integers(low, high + 1, shape).astype(dtype.numpy)
    scale = net.tensor(x).scale * float(net.rng.uniform(0.2, 2.0))
    zero_point = _pick(net, range(-20, 21))
    own = QuantParams.per_tensor(scale, 0 if dtype is DType.INT16 else zero_point)
    return net.builder.constant("k", data, quant or own)


def _largest(net: Net, x: str) -> float:
    return max(float(np.abs(v).max()) for v in net.real(x))


def _grow_reduction(op: str) -> Grower:
    def grow(net: Net, x: str) -> str | None:
        rank = len(net.shape(x))
        if rank < 2:
            return None
        axes = (1, 2) if rank == 4 and net.rng.random() < 0.6 else (_pick(net, range(1, rank)),)
        attrs = ReduceAttrs(axes, bool(net.rng.random() < 0.5))
        return net.node(op, [x], attrs, saturate=_saturate(net))

    return grow


def _grow_resize(op: str) -> Grower:
    def grow(net: Net, x: str) -> str | None:
        if len(net.shape(x)) != 4:
            return None
        kind = _pick(net, range(3))
        size = (_pick(net, range(1, 14)), _pick(net, range(1, 14)))
        return net.node(op, [x], ResizeAttrs(size, kind == 1, kind == 2))

    return grow


def grow_depth_to_space(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    fits = [b for b in (2, 3) if len(shape) == 4 and shape[3] % (b * b) == 0]
    return net.node("depth_to_space", [x], BlockAttrs(_pick(net, fits))) if fits else None


def grow_space_to_depth(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    fits = [b for b in (2, 3) if len(shape) == 4 and shape[1] % b == 0 and shape[2] % b == 0]
    return net.node("space_to_depth", [x], BlockAttrs(_pick(net, fits))) if fits else None


def grow_gather(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    if len(shape) < 2:
        return None
    axis = _pick(net, range(1, len(shape)))
    picks = net.rng.integers(0, shape[axis], _pick(net, range(1, 9))).astype(np.int32)
    indices = net.builder.constant("indices", picks)
    return net.node("gather", [x, indices], GatherAttrs(axis))


def grow_squared_difference(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    kind = shape if net.rng.random() < 0.5 or len(shape) > 4 else shape[-1:]
    other = random_operand(net, kind, x)
    return net.node("squared_difference", [x, other], saturate=_saturate(net))


def grow_batch_matmul(net: Net, x: str) -> str | None:
    """A tensor times itself, as attention does it."""
    if not 2 <= len(net.shape(x)) <= 4:
        return None
    attrs = BatchMatmulAttrs(*((False, True) if net.rng.random() < 0.5 else (True, False)))
    return net.node("batch_matmul", [x, x], attrs, saturate=_saturate(net))


def grow_transpose_conv2d(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    if len(shape) != 4:
        return None
    kernel = (_pick(net, (1, 2, 3)), _pick(net, (1, 2, 3, 4)))
    stride = (_pick(net, (1, 2, 3)), _pick(net, (1, 2)))
    pads = window.NO_PADS
    if net.rng.random() < 0.5:
        size = (shape[1] * stride[0], shape[2] * stride[1])
        same = window.same_pads(size, kernel, stride)
        end = [(shape[1 + i] - 1) * stride[i] + kernel[i] - same[2 * i] - size[i] for i in (0, 1)]
        pads = (same[0], end[0], same[2], end[1])
    out = _pick(net, (1, 2, 3, 5))
    w = net.weights((out, *kernel, shape[3]), x, axis=0 if net.rng.random() < 0.8 else None)
    inputs = [x, w, net.bias(w, x, out)]
    attrs = TransposeConv2dAttrs(stride, pads)
    return net.node("transpose_conv2d", inputs, attrs, saturate=_saturate(net))


def _grow_rows(op: str) -> Grower:
    def grow(net: Net, x: str) -> str | None:
        if net.shape(x)[-1:] in ((), (1,)) or net.shape(x)[-1] > 500:
            return None
        return net.node(op, [x])

    return grow


def _grow_unary(op: str, bound: float = np.inf, *, positive: bool = False) -> Grower:
    """bound: of the input's magnitude, beyond which the result would be huge."""

    def grow(net: Net, x: str) -> str | None:
        if _largest(net, x) > bound or (positive and net.tensor(x).zero_point != -128):
            return None
        attrs = GeluAttrs(bool(net.rng.random() < 0.5)) if op == "gelu" else NO_ATTRS
        return net.node(op, [x], attrs, saturate=_saturate(net))

    return grow


def grow_lstm(net: Net, x: str) -> str | None:
    """A stateful lstm behind [1, time, inputs], or behind the rows of an image."""
    shape = net.shape(x)
    if len(shape) == 4:
        x = net.node("reshape", [x], ReshapeAttrs((1, shape[1], shape[2] * shape[3])))
        shape = net.shape(x)
    if len(shape) != 3 or shape[0] != 1 or shape[1] > 24:
        return None
    units = _pick(net, (2, 3, 5, 8))
    wide = net.tensor(x).dtype is DType.INT16
    hidden = QuantParams.per_tensor(1 / 32768) if wide else QuantParams.per_tensor(1 / 128, 3)
    return lstm_node(net, x, units, LstmAttrs(), hidden)


def lstm_node(
    net: Net,
    x: str,
    units: int,
    attrs: LstmAttrs,
    hidden: QuantParams,
    *,
    cell_power: int = -11,
    stateful: bool = True,
    spread: float = 1.5,
    tie_power: int | None = None,
) -> str:
    """Adds an lstm with random weights and its state, of x's type; its output's name.

    tie_power: weights times inputs count in 2^tie_power, so that many sums are ties.
    """
    shape, quantized = net.shape(x), net.tensor(x).quant is not None
    wide = net.tensor(x).dtype is DType.INT16
    batch, inputs = shape[1 if attrs.time_major else 0], shape[2]
    rng, b = net.rng, net.builder
    cell = QuantParams.per_tensor(2.0**cell_power)
    power = float(np.sqrt(np.mean([np.square(v).mean() for v in net.real(x)]))) or 1.0

    def matrix(columns: int, name: str, size: float, unit: float) -> tuple[str, float]:
        data = rng.integers(-127, 128, (units, columns)).astype(np.int8)
        scale = spread / (127 * np.sqrt(columns) * size) * float(rng.uniform(0.5, 1.5))
        if tie_power is not None:
            scale = 2.0**tie_power / unit
        if quantized:
            return b.constant(name, data, QuantParams.per_tensor(scale)), scale
        return b.constant(name, data.astype(np.float32) * np.float32(scale)), scale

    units_of = (net.tensor(x).scale, hidden.scale[0]) if quantized else (1.0, 1.0)
    first = [matrix(inputs, f"w{g}", power, units_of[0]) for g in "ifco"]
    second = [matrix(units, f"r{g}", 1.0, units_of[1]) for g in "ifco"]
    biases = []
    for g, (_, scale) in enumerate(first):
        real = rng.normal(0, 0.5, units)
        unit = units_of[0] * scale
        kind = (np.int64 if wide else np.int32) if quantized else np.float32
        stored = np.round(real / unit) if quantized else real
        biases.append(b.constant(f"b{g}", stored.astype(kind)))
    state, starts = [], []
    for name, quant, dtype in (("h", hidden, np.int16 if wide else np.int8), ("c", cell, np.int16)):
        kind = dtype if quantized else np.float32
        starts.append(np.full((batch, units), quant.zero_point[0] if quantized else 0, kind))
        used = quant if quantized else None
        make = b.state_var if stateful else b.constant
        state.append(make(b.fresh(name), starts[-1], used))
    names = [x, *(n for n, _ in first), *(n for n, _ in second), *biases, *state]
    quants = [hidden, hidden, cell] if quantized else None
    outs = b.node_multi("lstm", names, attrs, quant=quants)
    if stateful:
        for name, value in zip(state, outs[1:], strict=True):
            b.assign(name, value)
    call = OpCall(
        "lstm",
        attrs,
        tuple(net.tensor(n) for n in names),
        tuple(net.tensor(o) for o in outs),
        "lstm",
    )
    constants = [net.tensor(n).data for n in names[1:13]]
    run = OPS["lstm"].run_int if quantized else OPS["lstm"].run_float
    rows = [run(call, [value, *constants, *starts]) for value in net.values[x]]
    net.values[outs[0]] = [row[0] for row in rows]  # the states are nobody's to read
    return outs[0]


MORE_GROWERS: dict[str, Grower] = {
    "sum": _grow_reduction("sum"),
    "reduce_max": _grow_reduction("reduce_max"),
    "reduce_min": _grow_reduction("reduce_min"),
    "resize_nearest": _grow_resize("resize_nearest"),
    "resize_bilinear": _grow_resize("resize_bilinear"),
    "depth_to_space": grow_depth_to_space,
    "space_to_depth": grow_space_to_depth,
    "gather": grow_gather,
    "squared_difference": grow_squared_difference,
    "batch_matmul": grow_batch_matmul,
    "transpose_conv2d": grow_transpose_conv2d,
    "l2_normalization": _grow_rows("l2_normalization"),
    "log_softmax": _grow_rows("log_softmax"),
    "exp": _grow_unary("exp", 8.0),
    "elu": _grow_unary("elu"),
    "gelu": _grow_unary("gelu"),
    "sqrt": _grow_unary("sqrt"),
    "square": _grow_unary("square", 1e4),
    "rsqrt": _grow_unary("rsqrt", positive=True),
    "abs": _grow_unary("abs"),
    "neg": _grow_unary("neg"),
    "lstm": grow_lstm,
}

# How often an op is tried, where not once.
MORE_WEIGHTS = {"log_softmax": 0.4, "rsqrt": 0.5, "sqrt": 0.5, "exp": 0.5}
