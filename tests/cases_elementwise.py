"""The cases of the ops that join and cut tensors, and of those that work element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.case import Case, one_input, q
from support.nets import Net
from tinsmith.pipeline.graph import NO_ATTRS, Activation, DType, Graph, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.split import SplitAttrs

NONE, RELU, RELU6, N1_TO_1 = (
    Activation.NONE,
    Activation.RELU,
    Activation.RELU6,
    Activation.RELU_N1_TO_1,
)
Shape = tuple[int, ...]


def _concatenation(
    name: str,
    shapes: tuple[Shape, ...],
    axis: int,
    *,
    dtype: DType = DType.INT8,
    constant: int | None = None,
    twice: bool = False,
) -> Case:
    """constant: the input that is one. twice: the first input comes once more at the end."""

    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        names = []
        for i, shape in enumerate(shapes):
            if i == constant:
                data = rng.integers(-128, 128, shape).astype(np.int8)
                names.append(net.builder.constant("k", data, q(0.05, 3)))
            else:
                # TFLM wants int16 to be symmetric here.
                names.append(net.input(shape, 0.05, 0 if dtype is DType.INT16 else 3, dtype))
        names += names[:1] if twice else []
        return net.graph([net.node("concatenation", names, ConcatenationAttrs(axis))])

    return Case(name, build)


_CONCATENATION = (
    _concatenation("channels", ((1, 4, 5, 3), (1, 4, 5, 7)), 3),
    _concatenation("channels_of_four", ((1, 4, 5, 4), (1, 4, 5, 8)), 3),
    _concatenation("wide_channels", ((1, 3, 2, 32), (1, 3, 2, 17), (1, 3, 2, 64)), 3),
    _concatenation("rows", ((1, 2, 5, 3), (1, 1, 5, 3), (1, 3, 5, 3)), 1),
    _concatenation("columns", ((2, 3, 2, 3), (2, 3, 5, 3)), 2),
    _concatenation("batch", ((1, 3, 5), (2, 3, 5)), 0),
    _concatenation("vectors", ((7,), (11,), (1,)), 0),
    _concatenation("one_wide", ((5, 1), (5, 1), (5, 1)), 1),
    _concatenation("one_input", ((1, 4, 5, 3),), 2),
    _concatenation("nine_inputs", ((1, 3, 5),) * 9, 2),
    _concatenation("rank_five", ((1, 2, 3, 2, 4), (1, 2, 3, 5, 4)), 3),
    _concatenation("constant", ((1, 4, 5, 3), (1, 4, 5, 2)), 3, constant=1),
    _concatenation("constant_first", ((1, 1, 40), (1, 2, 40)), 1, constant=0),
    _concatenation("same_twice", ((1, 4, 9), (1, 4, 5)), 2, twice=True),
    _concatenation("int16", ((1, 4, 5, 3), (1, 4, 5, 7)), 3, dtype=DType.INT16),
    _concatenation("int32", ((1, 4, 5, 3), (1, 4, 5, 7)), 3, dtype=DType.INT32),
    _concatenation("float", ((1, 4, 5, 3), (1, 4, 5, 7)), 3, dtype=DType.FLOAT32),
)


def _split(
    name: str, shape: Shape, axis: int, sizes: Shape, dtype: DType = DType.INT8, few: bool = False
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(shape, 0.05, 3, dtype)
        return net.graph(net.node_multi("split", [x], SplitAttrs(axis, sizes)))

    return Case(name, build, few)


_SPLIT = (
    _split("channels", (1, 4, 5, 12), 3, (4, 4, 4)),
    _split("channels_uneven", (1, 4, 5, 13), 3, (3, 9, 1)),
    _split("wide_channels", (1, 3, 3, 64), 3, (32, 32)),
    _split("rows", (1, 6, 5, 3), 1, (2, 2, 2)),
    _split("rows_uneven", (1, 6, 5, 3), 1, (1, 5)),
    _split("columns", (2, 3, 6, 3), 2, (3, 3)),
    _split("batch", (4, 3, 5), 0, (1, 1, 1, 1)),
    _split("vector", (17,), 0, (8, 9)),
    _split("one_part", (1, 4, 5, 3), 2, (5,)),
    _split("into_ones", (5, 7), 1, (1,) * 7),
    _split("rank_five", (1, 2, 3, 6, 4), 3, (2, 2, 2)),
    _split("int16", (1, 4, 5, 12), 3, (6, 6), DType.INT16),
    _split("int32", (1, 4, 5, 12), 3, (6, 6), DType.INT32),
    _split("float", (1, 4, 5, 13), 3, (3, 9, 1), DType.FLOAT32),
)


def _slice(name: str, shape: Shape, begin: Shape, size: Shape, step: Shape = (), **k: Any) -> Case:
    return one_input("slice", name, shape, SliceAttrs(begin, size, step), **k)


_SLICE = (
    _slice("image", (1, 6, 7, 3), (0, 1, 2, 0), (1, 4, 3, 3)),
    _slice("rows", (1, 6, 7, 5), (0, 2, 0, 0), (1, 3, 7, 5)),
    _slice("channels", (1, 6, 7, 9), (0, 0, 0, 4), (1, 6, 7, 3)),
    _slice("wide_channels", (1, 3, 4, 64), (0, 0, 0, 16), (1, 3, 4, 32)),
    _slice("one_channel", (1, 6, 7, 9), (0, 0, 0, 8), (1, 6, 7, 1)),
    _slice("one_column", (1, 13, 11, 1), (0, 0, 5, 0), (1, 13, 1, 1)),
    _slice("everything", (1, 6, 7, 3), (0, 0, 0, 0), (1, 6, 7, 3)),
    _slice("vector", (90,), (7,), (61,)),
    _slice("batch", (5, 3, 4), (1, 0, 0), (3, 3, 4)),
    _slice("rank_five", (2, 3, 4, 5, 6), (1, 0, 1, 2, 3), (1, 3, 2, 3, 3)),
    _slice("stride_two", (1, 6, 7, 3), (0, 0, 1, 0), (1, 3, 3, 3), (1, 2, 2, 1)),
    _slice("stride_channels", (1, 4, 5, 12), (0, 0, 0, 1), (1, 4, 5, 4), (1, 1, 1, 3)),
    _slice("reversed", (37,), (36,), (37,), (-1,)),
    _slice("reversed_rows", (1, 6, 7, 3), (0, 5, 0, 0), (1, 6, 7, 3), (1, -1, 1, 1)),
    _slice("reversed_channels", (1, 4, 5, 6), (0, 0, 0, 5), (1, 4, 5, 6), (1, 1, 1, -1)),
    _slice("backwards_by_two", (1, 9, 8, 3), (0, 7, 6, 0), (1, 3, 4, 3), (1, -2, -2, 1)),
    _slice("backwards_to_start", (1, 9, 7), (0, 8, 0), (1, 5, 7), (1, -2, 1)),
    _slice("one_element_stride", (1, 9, 40), (0, 3, 0), (1, 1, 40), (1, 5, 1)),
    _slice("int16", (1, 6, 7, 3), (0, 1, 2, 0), (1, 4, 3, 3), dtype=DType.INT16),
    _slice("int16_strided", (1, 6, 7, 3), (0, 5, 0, 0), (1, 3, 4, 3), (1, -2, 2, 1),
           dtype=DType.INT16),
    _slice("int32", (1, 6, 7, 3), (0, 1, 2, 0), (1, 4, 3, 3), dtype=DType.INT32),
    _slice("float", (1, 6, 7, 3), (0, 1, 2, 0), (1, 4, 3, 3), dtype=DType.FLOAT32),
    _slice("float_strided", (1, 6, 7, 3), (0, 5, 0, 0), (1, 3, 4, 3), (1, -2, 2, 1),
           dtype=DType.FLOAT32),
)  # fmt: skip


def _binary(
    op: str,
    name: str,
    shape_a: Shape,
    shape_b: Shape,
    attrs: Any = NO_ATTRS,
    scales: tuple[float, float] = (0.05, 0.03),
    zeros: tuple[int, int] = (3, -7),
    dtype: DType = DType.INT8,
    constant: int | None = None,
    saturate: float = 0.0,
    y_quant: QuantParams | None = None,
    few_values: bool = False,
) -> Case:
    """constant: the operand that is one."""
    shapes = (shape_a, shape_b)

    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        names = []
        for i, letter in enumerate("ab"):
            if i != constant:
                names.append(net.input(shapes[i], scales[i], zeros[i], dtype, letter))
            elif dtype is DType.FLOAT32:
                data = rng.normal(0, 1, shapes[i]).astype(np.float32)
                names.append(net.builder.constant(letter, data))
            else:
                stored = rng.integers(-128, 128, shapes[i]).astype(np.int8)
                names.append(net.builder.constant(letter, stored, q(scales[i], zeros[i])))
        return net.graph([net.node(op, names, attrs, saturate=saturate, quant=y_quant)])

    return Case(name, build, few_values)


def _arithmetic(op: str, attrs: Any) -> tuple[Case, ...]:
    """attrs: the class of the op's attributes, made of an activation."""
    image = (1, 5, 4, 3)
    return (
        _binary(op, "same_shape", image, image, attrs()),
        _binary(op, "relu", image, image, attrs(RELU)),
        _binary(op, "relu6", image, image, attrs(RELU6), (0.1, 0.08)),
        _binary(op, "n1_to_1", (1, 30), (1, 30), attrs(N1_TO_1)),
        _binary(op, "same_scale", (1, 64), (1, 64), attrs(), (0.05, 0.05), (0, 0)),
        _binary(op, "far_scales", (1, 64), (1, 64), attrs(), (5.0, 0.001), (-128, 127)),
        _binary(op, "far_scales_swapped", (1, 64), (1, 64), attrs(), (0.001, 5.0), (127, -128)),
        _binary(op, "tiny_scales", (1, 64), (1, 64), attrs(), (1e-6, 3e-7), few_values=True),
        _binary(op, "huge_scales", (1, 64), (1, 64), attrs(), (700.0, 90.0), (-128, -128)),
        _binary(op, "channels", (1, 4, 5, 6), (6,), attrs()),
        _binary(op, "channels_first", (6,), (1, 4, 5, 6), attrs()),
        _binary(op, "one_value", (1, 4, 5, 6), (1,), attrs()),
        _binary(op, "one_value_first", (1, 1, 1, 1), (1, 4, 5, 6), attrs()),
        _binary(op, "outer", (1, 4, 1, 6), (1, 1, 5, 6), attrs(RELU)),
        _binary(op, "pixels", (1, 4, 5, 6), (1, 4, 5, 1), attrs()),
        _binary(op, "primes", (1, 7, 11, 13), (1, 7, 11, 13), attrs()),
        _binary(op, "one_wide", (1, 90, 1, 1), (1, 90, 1, 1), attrs()),
        _binary(op, "constant", (1, 4, 5, 6), (1, 1, 1, 6), attrs(), constant=1),
        _binary(op, "constant_first", (1, 1, 1, 6), (1, 4, 5, 6), attrs(), constant=0),
        _binary(op, "constant_image", (1, 4, 5, 6), (1, 4, 5, 6), attrs(), constant=1),
        _binary(op, "constant_value", (1, 4, 5, 6), (1,), attrs(), constant=1),
        _binary(op, "constant_scalar", (1, 4, 5, 6), (), attrs(RELU6), constant=1, few_values=True),
        _binary(op, "constant_value_first", (1, 1), (9, 6), attrs(), constant=0),
        _binary(op, "saturating", (1, 200), (1, 200), attrs(), saturate=0.4),
        _binary(op, "upscaled", (1, 200), (1, 200), attrs(), (0.04, 0.03), y_quant=q(0.004, 5)),
        _binary(op, "float_relu6", (1, 4, 5, 6), (6,), attrs(RELU6), dtype=DType.FLOAT32),
        _binary(op, "float_constant", (1, 4, 5, 6), (6,), attrs(), dtype=DType.FLOAT32, constant=1),
    )


def _extremum(op: str) -> tuple[Case, ...]:
    def case(name: str, a: Shape, b: Shape, **k: Any) -> Case:
        return _binary(op, name, a, b, scales=(0.05, 0.05), zeros=(3, 3), **k)

    return (
        case("same_shape", (1, 5, 4, 3), (1, 5, 4, 3)),
        case("channels", (1, 4, 5, 6), (6,)),
        case("channels_first", (6,), (1, 4, 5, 6)),
        case("one_value", (1, 4, 5, 6), (1,)),
        case("outer", (1, 4, 1, 6), (1, 1, 5, 6)),
        case("primes", (1, 7, 11, 13), (1, 7, 11, 13)),
        case("one_wide", (1, 90, 1, 1), (1, 90, 1, 1)),
        case("constant", (1, 4, 5, 6), (1, 1, 1, 6), constant=1),
        case("constant_first", (1, 1, 1, 6), (1, 4, 5, 6), constant=0),
        case("constant_value", (1, 4, 5, 6), (1,), constant=1),
        case("constant_scalar_first", (), (1, 4, 5, 6), constant=0),
        case("float", (1, 4, 5, 6), (6,), dtype=DType.FLOAT32),
    )


def _prelu(name: str, shape: Shape, alpha: Shape, **k: Any) -> Case:
    return _binary("prelu", name, shape, alpha, constant=1, **k)


_PRELU = (
    _prelu("channels", (1, 4, 5, 6), (1, 1, 6)),
    _prelu("channels_only", (1, 4, 5, 6), (6,)),
    _prelu("channels_rank_four", (1, 4, 5, 6), (1, 1, 1, 6)),
    _prelu("one_value", (1, 4, 5, 6), (1, 1, 1)),
    _prelu("every_element", (1, 4, 5, 6), (4, 5, 6)),
    _prelu("pixels", (1, 4, 5, 6), (4, 5, 1)),
    _prelu("rows", (3, 40), (40,)),
    _prelu("primes", (1, 7, 11, 13), (1, 1, 13), scales=(0.05, 0.01)),
    _prelu("one_wide", (1, 90, 1, 1), (1, 1, 1), scales=(0.05, 0.01)),
    _prelu("symmetric_alpha", (1, 4, 5, 6), (1, 1, 6), scales=(0.05, 0.003), zeros=(-10, 0)),
    _prelu("zero_point_low", (1, 4, 5, 6), (1, 1, 6), zeros=(-128, 0)),
    _prelu("zero_point_high", (1, 4, 5, 6), (1, 1, 6), zeros=(127, 127)),
    _prelu("large_alpha", (1, 4, 5, 6), (1, 1, 6), scales=(0.05, 4.0)),
    _prelu("saturating", (1, 4, 5, 6), (1, 1, 6), saturate=0.4),
    _prelu("upscaled", (1, 4, 5, 6), (1, 1, 6), y_quant=q(0.01, 20)),
    _prelu("same_scale", (1, 4, 5, 6), (1, 1, 6), y_quant=q(0.05, 3)),
    _prelu("float", (1, 4, 5, 6), (1, 1, 6), dtype=DType.FLOAT32),
)

EVERY_BYTE = (1, 8, 8, 32)  # an input so large that all values come


def _unary(op: str, attrs: Any = NO_ATTRS) -> tuple[Case, ...]:
    """Over many scales; an output's scale is chosen from data where the op leaves it free."""
    few = {"logistic", "tanh", "relu_n1_to_1", "relu_0_to_1"}

    def case(name: str, quant: tuple[float, int], **k: Any) -> Case:
        return one_input(op, name, EVERY_BYTE, attrs, quant=quant, **k)

    return (
        one_input(op, "odd_shape", (1, 7, 5, 3), attrs, quant=(0.05, 3)),
        one_input(op, "vector", (97,), attrs, quant=(0.05, 3)),
        one_input(op, "rank_five", (2, 1, 3, 5, 7), attrs, quant=(0.05, 3)),
        one_input(op, "one_wide", (1, 90, 1, 1), attrs, quant=(0.1, -3)),
        case("fine", (0.01, 0)),
        case("usual", (0.047, -11)),
        case("zero_point_low", (0.04, -128)),
        case("zero_point_high", (0.04, 127), few_values=op == "relu_0_to_1"),
        case("coarse", (0.4, 5), few_values=op.startswith("relu")),
        case("coarser", (1.3, -20), few_values=op in few),
        case("power_of_two", (0.0625, 0)),
        one_input(op, "float", (1, 4, 5, 30), attrs, dtype=DType.FLOAT32),
    )


def _free_unary(op: str, attrs: Any = NO_ATTRS) -> tuple[Case, ...]:
    """And over scales of the output."""

    def case(name: str, quant: tuple[float, int], y_quant: QuantParams, **k: Any) -> Case:
        return one_input(op, name, EVERY_BYTE, attrs, quant=quant, y_quant=y_quant, **k)

    return (
        *_unary(op, attrs),
        case("same_scale", (0.05, -10), q(0.05, -10)),
        case("upscaled", (0.05, -10), q(0.013, 7)),
        case("downscaled", (0.05, -10), q(0.11, 30)),
        case("near_ties", (0.044255975633859634, 0), q(0.020826341584324837, -128)),
        one_input(op, "saturating", EVERY_BYTE, attrs, quant=(0.1, 3), saturate=0.3),
    )


def _saturated(op: str) -> tuple[Case, ...]:
    """Scales so large that all is at the ends of the range, where TFLM has quirks."""
    return tuple(
        one_input(op, f"scale_{scale:g}", EVERY_BYTE, quant=(scale, 0), few_values=True)
        for scale in (4.0, 7.9, 8.0, 20.0, 0.0001)
    )


ELEMENTWISE_CASES: dict[str, tuple[Case, ...]] = {
    "concatenation": _CONCATENATION,
    "split": _SPLIT,
    "slice": _SLICE,
    "sub": _arithmetic("sub", AddAttrs),
    "mul": _arithmetic("mul", MulAttrs),
    "maximum": _extremum("maximum"),
    "minimum": _extremum("minimum"),
    "relu_n1_to_1": _free_unary("relu_n1_to_1"),
    "relu_0_to_1": _free_unary("relu_0_to_1"),
    "leaky_relu": (
        *_free_unary("leaky_relu", LeakyReluAttrs(0.1)),
        one_input("leaky_relu", "flat", EVERY_BYTE, LeakyReluAttrs(0.0)),
        one_input("leaky_relu", "steep", EVERY_BYTE, LeakyReluAttrs(3.7)),
        one_input("leaky_relu", "gentle", EVERY_BYTE, LeakyReluAttrs(0.01)),
        one_input(
            "leaky_relu",
            "half_ties",
            EVERY_BYTE,
            LeakyReluAttrs(0.3),
            y_quant=q(0.6, 3),
            quant=(0.05, 5),
        ),
        one_input("leaky_relu", "identity", EVERY_BYTE, LeakyReluAttrs(1.0)),
    ),
    "prelu": _PRELU,
    "logistic": (*_unary("logistic"), *_saturated("logistic")),
    "tanh": (*_unary("tanh"), *_saturated("tanh")),
    "hard_swish": _free_unary("hard_swish"),
}
