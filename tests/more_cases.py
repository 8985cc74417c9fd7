"""Cases of reductions, images, tables, lookups, and the layers with a state."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.case import Case, one_input, q
from support.mac_cases import matmul_case, transpose_conv_case
from support.more_growers import lstm_node
from support.nets import Net
from tinsmith.pipeline.graph import NO_ATTRS, Activation, DType, Graph, QuantParams
from tinsmith.pipeline.ops import Oracle
from tinsmith.pipeline.ops.arg import ArgAttrs
from tinsmith.pipeline.ops.blocks import BlockAttrs
from tinsmith.pipeline.ops.cast import CastAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs
from tinsmith.pipeline.ops.svdf import SvdfAttrs
from tinsmith.pipeline.ops.unary import GeluAttrs

FLOAT = DType.FLOAT32


def _reductions(op: str, few: bool) -> tuple[Case, ...]:
    """few: the op gives few values where there are few elements to reduce to."""

    def case(
        name: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, **k: Any
    ) -> Case:
        return one_input(op, name, shape, ReduceAttrs(axes, keep), **k)

    return (
        case("image", (1, 5, 7, 11), (1, 2), False, few_values=few),
        case("image_kept", (1, 5, 3, 11), (1, 2), True, few_values=few),
        case("channels", (1, 4, 5, 6), (3,), False),
        case("rows", (1, 4, 5, 6), (1,), True),
        case("columns", (2, 4, 5, 6), (2,), False),
        case("rank_two", (3, 9), (1,), False, few_values=True),
        case("rank_three", (1, 3, 17), (1,), True),
        case("outer_axes", (2, 3, 4, 5), (1, 3), False, few_values=True),
        case("batch_too", (3, 2, 4, 5), (0, 2), True),
        case("all", (1, 3, 4, 5), (0, 1, 2, 3), True, few_values=True),
        case("one_element", (1, 1, 1, 19), (1, 2), True),
        case("many", (1, 24, 25, 9), (1, 2), True, few_values=True),
        case("zero_point_low", (1, 2, 3, 31), (1, 2), True, quant=(0.05, -128)),
        case("zero_point_high", (1, 2, 3, 31), (1, 2), True, quant=(0.05, 127)),
        case("float", (1, 5, 7, 11), (1, 2), False, dtype=FLOAT),
    )


_SUM = (
    *_reductions("sum", False),
    one_input("sum", "saturating", (1, 5, 7, 40), ReduceAttrs((1, 2), True), saturate=0.4),
    one_input("sum", "same_scale", (1, 2, 3, 31), ReduceAttrs((1, 2)), y_quant=q(0.05, 3)),
    one_input("sum", "finer_output", (1, 2, 1, 31), ReduceAttrs((1, 2)), y_quant=q(0.004, 3)),
    one_input("sum", "coarse_output", (1, 9, 9, 31), ReduceAttrs((1, 2)), y_quant=q(1.7, 3)),
)


def _arg(op: str) -> tuple[Case, ...]:
    def case(name: str, shape: tuple[int, ...], axis: int, **k: Any) -> Case:
        return one_input(op, name, shape, ArgAttrs(axis), **k)

    return (
        case("classes", (7, 23), 1),
        case("first_axis", (31, 13), 0),
        case("channels", (1, 5, 6, 11), 3),
        case("rows", (1, 13, 6, 5), 1),
        case("one_wide", (3, 1), 1, few_values=True),
        case("ties", (40, 300), 1),
        case("float", (9, 50), 1, dtype=FLOAT),
        one_input(op, "int64", (9, 50), ArgAttrs(1, DType.INT64), oracle=Oracle.REF),
    )


def _cast(name: str, source: DType, to: DType, **k: Any) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input((1, 3, 41), 0.05, 0, source)
        has_scale = to in (DType.INT8, DType.UINT8, DType.INT16)
        y = net.builder.node("cast", [x], CastAttrs(to), quant=q(0.1) if has_scale else None)
        return net.graph([y])

    return Case(name, build, **k)


_CAST = (
    _cast("int8_to_int32", DType.INT8, DType.INT32),
    _cast("int8_to_int16", DType.INT8, DType.INT16),
    _cast("int32_to_int8", DType.INT32, DType.INT8),
    _cast("int16_to_int32", DType.INT16, DType.INT32),
    _cast("int32_to_int16", DType.INT32, DType.INT16),
    _cast("int8_to_float", DType.INT8, FLOAT),
    _cast("int32_to_float", DType.INT32, FLOAT),
    _cast("int8_to_int64", DType.INT8, DType.INT64, oracle=Oracle.REF),
    _cast("int64_to_int32", DType.INT64, DType.INT32, oracle=Oracle.REF),
    _cast("bool_to_int32", DType.BOOL, DType.INT32, few_values=True),
    _cast("int32_to_bool", DType.INT32, DType.BOOL, few_values=True, oracle=Oracle.REF),
    _cast("uint8_to_int32", DType.UINT8, DType.INT32, oracle=Oracle.REF),
)


def _resizes(op: str) -> tuple[Case, ...]:
    def case(
        name: str,
        image: tuple[int, int, int, int],
        size: tuple[int, int],
        corners: bool = False,
        centers: bool = False,
        **k: Any,
    ) -> Case:
        return one_input(op, name, image, ResizeAttrs(size, corners, centers), **k)

    return (
        case("twice", (1, 5, 4, 3), (10, 8)),
        case("twice_corners", (1, 5, 4, 3), (10, 8), corners=True),
        case("twice_centers", (1, 5, 4, 3), (10, 8), centers=True),
        case("half", (1, 8, 6, 5), (4, 3)),
        case("half_centers", (1, 8, 6, 5), (4, 3), centers=True),
        case("primes", (1, 7, 11, 3), (13, 5)),
        case("primes_corners", (1, 7, 11, 3), (13, 5), corners=True),
        case("primes_centers", (1, 7, 11, 3), (13, 5), centers=True),
        case("thirds", (1, 3, 3, 4), (10, 7), centers=True),
        case("from_one", (1, 1, 1, 9), (3, 4)),
        case("from_one_centers", (1, 1, 1, 9), (3, 4), centers=True),
        case("to_one", (1, 5, 6, 9), (1, 1)),
        case("to_one_corners", (1, 5, 6, 9), (1, 1), corners=True),
        case("one_wide", (1, 9, 1, 3), (5, 1), corners=True),
        case("same", (1, 4, 5, 3), (4, 5)),
        case("batch_of_two", (2, 3, 4, 5), (5, 3), centers=True),
        case("zero_point_low", (1, 4, 4, 3), (7, 9), quant=(0.1, -128)),
        case("float", (1, 5, 4, 3), (9, 7), dtype=FLOAT),
        case("float_corners", (1, 5, 4, 3), (9, 7), corners=True, dtype=FLOAT),
        case("float_centers", (1, 5, 4, 3), (9, 7), centers=True, dtype=FLOAT),
    )


def _block(op: str, name: str, image: tuple[int, int, int, int], block: int, **k: Any) -> Case:
    return one_input(op, name, image, BlockAttrs(block), **k)


_DEPTH_TO_SPACE = (
    _block("depth_to_space", "two", (1, 3, 5, 12), 2),
    _block("depth_to_space", "three", (1, 2, 4, 9), 3),
    _block("depth_to_space", "one", (1, 2, 4, 5), 1),
    _block("depth_to_space", "one_pixel", (1, 1, 1, 16), 4),
    _block("depth_to_space", "batch_of_two", (2, 3, 1, 8), 2),
    _block("depth_to_space", "float", (1, 3, 5, 12), 2, dtype=FLOAT),
)
_SPACE_TO_DEPTH = (
    _block("space_to_depth", "two", (1, 6, 10, 3), 2),
    _block("space_to_depth", "three", (1, 6, 9, 1), 3),
    _block("space_to_depth", "one", (1, 2, 4, 5), 1),
    _block("space_to_depth", "one_pixel", (1, 4, 4, 1), 4),
    _block("space_to_depth", "batch_of_two", (2, 6, 2, 2), 2),
    _block("space_to_depth", "float", (1, 6, 10, 3), 2, dtype=FLOAT),
)


def _gather(
    name: str,
    shape: tuple[int, ...],
    indices: Any,
    axis: int = 0,
    dtype: DType = DType.INT8,
    **k: Any,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(shape, dtype=dtype)
        i = net.builder.constant("i", np.asarray(indices, np.int32))
        return net.graph([net.node("gather", [x, i], GatherAttrs(axis))])

    return Case(name, build, **k)


def _embedding(name: str, words: int, depth: int, length: int) -> Case:
    """Rows of a constant table, by indices that are computed."""

    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input((1, length, words))
        found = net.node("arg_max", [x], ArgAttrs(2), dtype=DType.INT32)
        table = rng.integers(-128, 128, (words, depth)).astype(np.int8)
        w = net.builder.constant("table", table, q(0.03, 4))
        return net.graph([net.node("gather", [w, found], GatherAttrs(0))])

    return Case(name, build)


_GATHER = (
    _gather("rows", (7, 5), [3, 0, 6, 6]),
    _gather("channels", (1, 3, 4, 9), [8, 1, 2], axis=3),
    _gather("middle", (1, 6, 4, 3), [[0, 5], [2, 2]], axis=1),
    _gather("one", (1, 6, 11), 4, axis=1),
    _gather("float", (7, 5), [3, 0, 6, 6], dtype=FLOAT),
    _embedding("embedding", 19, 13, 7),
    _embedding("embedding_of_one", 5, 31, 1),
)


_BATCH_MATMUL = (
    matmul_case("matrices", (5, 7), (7, 3)),
    matmul_case("batch", (4, 5, 7), (4, 7, 3)),
    matmul_case("heads", (1, 3, 6, 8), (1, 3, 8, 6)),
    matmul_case("adjoint_b", (2, 5, 7), (2, 3, 7), (False, True)),
    matmul_case("adjoint_a", (2, 7, 5), (2, 7, 3), (True, False)),
    matmul_case("both_adjoint", (2, 7, 5), (2, 3, 7), (True, True)),
    matmul_case("row", (1, 1, 31), (1, 31, 9)),
    matmul_case("column", (1, 9, 31), (1, 31, 1)),
    matmul_case("broadcast_b", (4, 5, 7), (1, 7, 3)),
    matmul_case("broadcast_a", (5, 7), (3, 7, 2)),
    matmul_case("outer", (1, 9, 1), (1, 1, 7)),
    matmul_case("zero_points", (1, 5, 7), (1, 7, 3), zeros=(-128, 127)),
    matmul_case("saturating", (1, 9, 17), (1, 17, 9), saturate=0.4),
    matmul_case("multiplier_above_one", (1, 40, 1), (1, 1, 40), y_quant=q(0.0005, 3)),
    matmul_case("multiplier_tiny", (1, 5, 7), (1, 7, 3), y_quant=q(30.0, 3), few_values=True),
    matmul_case(
        "near_ties",
        (1, 30, 2),
        (1, 2, 20),
        scales=(0.37, 3 / 255),
        zeros=(3, 100),
        y_quant=q(0.37 * 3 / 255 * 32),
    ),
    matmul_case("float", (2, 5, 7), (2, 7, 3), dtype=FLOAT),
    matmul_case("float_adjoint", (2, 5, 7), (2, 3, 7), (False, True), dtype=FLOAT),
)


_TRANSPOSE_CONV = (
    transpose_conv_case("one_pixel", (1, 1, 1, 5), 3, (3, 3)),
    transpose_conv_case("twice", (1, 4, 5, 3), 4, (2, 2), (2, 2)),
    transpose_conv_case("same", (1, 4, 5, 3), 4, (3, 3), (2, 2), "same"),
    transpose_conv_case("same_stride_one", (1, 4, 5, 3), 4, (3, 3), (1, 1), "same"),
    transpose_conv_case("valid", (1, 4, 5, 3), 4, (3, 3), (2, 2)),
    transpose_conv_case("primes", (1, 3, 5, 7), 2, (5, 3), (3, 2), "same"),
    transpose_conv_case("stride_beyond_kernel", (1, 3, 4, 3), 2, (2, 1), (3, 2)),
    transpose_conv_case("grown", (1, 3, 4, 3), 2, (3, 3), (2, 2), grow=(1, 1)),
    transpose_conv_case("no_bias", (1, 4, 5, 3), 4, (3, 3), (2, 2), "same", bias=False),
    transpose_conv_case("per_tensor", (1, 4, 5, 3), 4, (3, 3), (2, 2), "same", per_channel=False),
    transpose_conv_case("one_wide", (1, 7, 1, 3), 5, (4, 1), (2, 1), "same"),
    transpose_conv_case("batch_of_two", (2, 3, 2, 3), 4, (3, 3), (2, 2), "same"),
    transpose_conv_case("zero_point_low", (1, 4, 5, 3), 4, (3, 3), (2, 2), zero_point=-128),
    transpose_conv_case("saturating", (1, 4, 5, 3), 4, (3, 3), (2, 2), saturate=0.4),
    transpose_conv_case("relu", (1, 4, 5, 3), 4, (3, 3), (2, 2), activation=Activation.RELU),
    transpose_conv_case("float", (1, 4, 5, 3), 4, (3, 3), (2, 2), "same", dtype=FLOAT),
)  # fmt: skip


def _difference(
    name: str,
    shape_a: tuple[int, ...],
    shape_b: tuple[int, ...],
    scales: tuple[float, float] = (0.05, 0.03),
    zeros: tuple[int, int] = (3, -7),
    dtype: DType = DType.INT8,
    constant: bool = False,
    saturate: float = 0.0,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        a = net.input(shape_a, scales[0], zeros[0], dtype, "a")
        if constant:
            data = rng.integers(-128, 128, shape_b).astype(np.int8)
            b = net.builder.constant("b", data, q(scales[1], zeros[1]))
        else:
            b = net.input(shape_b, scales[1], zeros[1], dtype, "b")
        return net.graph([net.node("squared_difference", [a, b], saturate=saturate)])

    return Case(name, build)


_SQUARED_DIFFERENCE = (
    _difference("same_shape", (1, 5, 4, 3), (1, 5, 4, 3)),
    _difference("same_scale", (1, 64), (1, 64), (0.05, 0.05), (0, 0)),
    _difference("far_scales", (1, 64), (1, 64), (5.0, 0.001), (-128, 127)),
    _difference("far_scales_swapped", (1, 64), (1, 64), (0.001, 5.0), (127, -128)),
    _difference("channels", (1, 4, 5, 6), (6,)),
    _difference("one_value", (1, 4, 5, 6), (1,)),
    _difference("outer", (1, 4, 1, 6), (1, 1, 5, 6)),
    _difference("constant", (1, 4, 5, 6), (1, 1, 1, 6), constant=True),
    _difference("saturating", (1, 200), (1, 200), saturate=0.4),
    _difference("float", (1, 4, 5, 6), (6,), dtype=FLOAT),
)

_L2_NORMALIZATION = (
    one_input("l2_normalization", "rows", (7, 12)),
    one_input("l2_normalization", "image", (1, 3, 4, 9)),
    one_input("l2_normalization", "one_wide", (1, 9, 1), few_values=True),
    one_input("l2_normalization", "two", (9, 2), quant=(0.3, 20)),
    one_input("l2_normalization", "many", (2, 500), quant=(0.01, 0)),
    one_input("l2_normalization", "zero_point_low", (9, 5), quant=(0.05, -128)),
    one_input("l2_normalization", "float", (7, 12), dtype=FLOAT),
)


def _log_softmax(name: str, shape: tuple[int, ...], **k: Any) -> Case:
    return one_input("log_softmax", name, shape, **k)


_LOG_SOFTMAX = (
    _log_softmax("two", (9, 2)),
    _log_softmax("ten", (9, 10)),
    _log_softmax("rows", (7, 12), quant=(0.03, 3)),
    _log_softmax("image", (1, 3, 4, 9)),
    _log_softmax("one_class", (1, 5, 1), few_values=True),
    _log_softmax("many", (3, 500), quant=(0.06, -5)),
    _log_softmax("flat", (5, 10), quant=(0.002, 0), few_values=True),
    _log_softmax("flat_many", (5, 300), quant=(0.004, 0), few_values=True),
    _log_softmax("sharp", (20, 10), quant=(0.9, 20)),
    _log_softmax("sharpest", (9, 10), quant=(60.0, 0), few_values=True),
    _log_softmax("float", (2, 10), dtype=FLOAT),
)


def _unary(op: str, attrs: Any = NO_ATTRS, *, only_positive: bool = False) -> tuple[Case, ...]:
    zeros = (-128, -128, -128) if only_positive else (3, -128, 127)

    def case(name: str, shape: tuple[int, ...], **k: Any) -> Case:
        return one_input(op, name, shape, attrs, **k)

    few = op == "rsqrt"  # most of its range is near 0
    return (
        case("image", (1, 4, 5, 9), quant=(0.02, zeros[0]), few_values=few),
        case("coarse", (1, 300), quant=(0.3, zeros[0]), few_values=True),
        case("fine", (1, 300), quant=(0.0021, zeros[0]), few_values=few),
        case("zero_point_low", (1, 300), quant=(0.01, zeros[1]), few_values=few),
        case("zero_point_high", (1, 300), quant=(0.01, zeros[2]),
             few_values=few or op == "sqrt"),
        case("saturating", (1, 300), quant=(0.02, zeros[0]), saturate=0.3),
        case("given_scale", (1, 300), quant=(0.02, zeros[0]), y_quant=q(0.017, -11)),
        case("same_scale", (1, 300), quant=(0.02, zeros[0]), y_quant=q(0.02, -9)),
        case("one", (1,), quant=(0.02, zeros[0]), few_values=True),
    )  # fmt: skip


def _real_unary(op: str, attrs: Any = NO_ATTRS, **k: Any) -> tuple[Case, ...]:
    return (one_input(op, "float", (1, 4, 5, 3), attrs, dtype=FLOAT, **k),)


# Layers with a state


def _lstm(
    name: str,
    shape: tuple[int, int, int],
    units: int,
    time_major: bool = False,
    clip: float = 0.0,
    dtype: DType = DType.INT8,
    quant: tuple[float, int] = (0.02, 3),
    few_values: bool = False,
    hidden: QuantParams | None = None,
    **k: Any,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(shape, *quant, dtype)
        attrs = LstmAttrs(time_major, clip)
        return net.graph([lstm_node(net, x, units, attrs, hidden or q(1 / 127, -1), **k)])

    return Case(name, build, few_values)


_LSTM = (
    _lstm("small", (1, 5, 7), 9),
    _lstm("one_step", (1, 1, 13), 11),
    _lstm("one_unit", (1, 9, 5), 1),
    _lstm("one_input", (1, 9, 1), 8),
    _lstm("stateless", (1, 5, 7), 9, stateful=False),
    _lstm("time_major", (5, 1, 7), 9, time_major=True),
    _lstm("batch", (3, 5, 7), 6),
    _lstm("batch_time_major", (5, 3, 7), 6, time_major=True),
    _lstm("primes", (1, 11, 13), 17),
    _lstm("clipped", (1, 9, 7), 9, clip=0.4),
    _lstm("coarse_cell", (1, 9, 7), 9, cell_power=-9),
    _lstm("coarsest_cell", (1, 9, 7), 9, cell_power=-6),
    _lstm("fine_cell", (1, 9, 7), 9, cell_power=-15),
    _lstm("finest_cell", (1, 9, 7), 9, cell_power=-17, few_values=True),
    _lstm("zero_point_low", (1, 9, 7), 9, quant=(0.02, -128), hidden=q(1 / 127, -128)),
    _lstm("zero_point_high", (1, 9, 7), 9, quant=(0.02, 127), hidden=q(1 / 90, 100)),
    _lstm("saturating", (1, 9, 7), 9, spread=30.0),
    _lstm("fine_hidden", (1, 9, 7), 9, hidden=q(1 / 500, 5)),
    _lstm("ties", (1, 9, 7), 9, quant=(0.0375, 3), hidden=q(1 / 300, 3), tie_power=-14),
    _lstm("float", (1, 5, 7), 9, dtype=FLOAT),
    _lstm("float_batch", (3, 5, 7), 9, dtype=FLOAT),
    _lstm("float_time_major", (5, 3, 7), 9, time_major=True, dtype=FLOAT),
    _lstm("float_clipped", (1, 5, 7), 9, clip=0.3, dtype=FLOAT),
)


def _svdf(
    name: str,
    batch: int,
    inputs: int,
    units: int,
    memory: int,
    rank: int = 1,
    dtype: DType = DType.INT8,
    bias: bool = True,
    quant: tuple[float, int] = (0.05, 3),
    activation: Activation = Activation.RELU,
    y_scale: float = 0.02,
    few_values: bool = False,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        b, features = net.builder, units * rank
        x = net.input((batch, inputs), *quant, dtype)
        is_int = dtype is DType.INT8
        wf = rng.integers(-127, 128, (features, inputs)).astype(np.int8)
        wt = rng.integers(-32767, 32768, (features, memory)).astype(np.int16)
        scales = (0.01, 3e-5, 1e-4)
        real_bias = rng.normal(0, 0.5, units)
        size = (batch, features * memory)
        if is_int:
            made = [b.constant("wf", wf, q(scales[0])), b.constant("wt", wt, q(scales[1]))]
            stored = np.round(real_bias / (scales[1] * scales[2])).astype(np.int32)
            made.append(b.constant("b", stored) if bias else "")
            state = b.state_var("memory", np.zeros(size, np.int16), q(scales[2]))
            quants = [q(y_scale, -128), q(scales[2])]
        else:
            made = [
                b.constant("wf", wf.astype(np.float32) * np.float32(scales[0])),
                b.constant("wt", wt.astype(np.float32) * np.float32(scales[1])),
                b.constant("b", real_bias.astype(np.float32)) if bias else "",
            ]
            state = b.state_var("memory", np.zeros(size, np.float32))
            quants = None
        attrs = SvdfAttrs(rank, activation)
        y, after = b.node_multi("svdf", [x, *made, state], attrs, quant=quants)
        b.assign("memory", after)
        return net.graph([y])

    return Case(name, build, few_values)


_SVDF = (
    _svdf("small", 1, 9, 11, 3),
    _svdf("rank_two", 1, 9, 11, 4, 2),
    _svdf("batch", 2, 9, 7, 3),
    _svdf("one_memory", 1, 9, 17, 1),
    _svdf("one_unit", 1, 9, 1, 5, few_values=True),
    _svdf("one_input", 1, 1, 17, 5),
    _svdf("no_bias", 1, 13, 17, 5, bias=False),
    _svdf("zero_point_low", 1, 13, 17, 5, quant=(0.05, -128)),
    _svdf("saturating", 1, 13, 17, 5, quant=(0.1, 3), y_scale=0.01),
    _svdf("float", 1, 9, 11, 3, dtype=FLOAT),
    _svdf("float_plain", 2, 9, 11, 3, 2, dtype=FLOAT, activation=Activation.NONE),
)

MORE_CASES: dict[str, tuple[Case, ...]] = {
    "sum": _SUM,
    "reduce_max": _reductions("reduce_max", True),
    "reduce_min": _reductions("reduce_min", True),
    "arg_max": _arg("arg_max"),
    "arg_min": _arg("arg_min"),
    "cast": _CAST,
    "resize_nearest": _resizes("resize_nearest"),
    "resize_bilinear": _resizes("resize_bilinear"),
    "depth_to_space": _DEPTH_TO_SPACE,
    "space_to_depth": _SPACE_TO_DEPTH,
    "gather": _GATHER,
    "batch_matmul": _BATCH_MATMUL,
    "transpose_conv2d": _TRANSPOSE_CONV,
    "squared_difference": _SQUARED_DIFFERENCE,
    "l2_normalization": _L2_NORMALIZATION,
    "log_softmax": _LOG_SOFTMAX,
    "lstm": _LSTM,
    "svdf": _SVDF,
    "exp": (*_unary("exp"), *_real_unary("exp")),
    "elu": (*_unary("elu"), *_real_unary("elu")),
    "gelu": (
        *_unary("gelu", GeluAttrs()),
        *(
            one_input("gelu", f"by_tanh_{i}", (1, 300), GeluAttrs(True), quant=(s, 3))
            for i, s in enumerate((0.01, 0.05))
        ),
        one_input(
            "gelu", "near_ties", (1, 300), GeluAttrs(True), quant=(0.185, 0), y_quant=q(0.37, -17)
        ),
        *_real_unary("gelu", GeluAttrs(False)),
        one_input("gelu", "float_by_tanh", (1, 60), GeluAttrs(True), dtype=FLOAT),
    ),
    "sqrt": _unary("sqrt", only_positive=False),
    "square": (*_unary("square"), *_real_unary("square")),
    "rsqrt": _unary("rsqrt", only_positive=True),
    "abs": (
        *_unary("abs"),
        one_input(
            "abs",
            "near_ties",
            (1, 300),
            quant=(0.03999003767967224, -17),
            y_quant=q(0.018505193293094635, -128),
        ),
        *_real_unary("abs"),
    ),
    "neg": (*_unary("neg"), *_real_unary("neg")),
}
