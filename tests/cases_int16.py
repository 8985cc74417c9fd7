"""Cases of the ops on int16 activations: those that multiply nothing, and the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from support.case import Case, one_input, q
from support.more_growers import lstm_node
from support.nets import Net
from tinsmith.pipeline.graph import NO_ATTRS, Activation, Array, DType, Graph, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.cast import CastAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.split import SplitAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs

INT16 = DType.INT16
FINE = 2.0**-12  # a usual scale: 8 at the ends of the range
Shape = tuple[int, ...]


def _one(op: str, name: str, shape: Shape, attrs: Any = NO_ATTRS, scale: float = 0.0007,
         **k: Any) -> Case:  # fmt: skip
    return one_input(op, f"int16_{name}", shape, attrs, (scale, 0), INT16, **k)


def _two(
    op: str,
    name: str,
    shapes: tuple[Shape, Shape],
    attrs: Any = NO_ATTRS,
    scales: tuple[float, float] = (0.0007, 0.0004),
    constant: int | None = None,
    saturate: float = 0.0,
    y_quant: QuantParams | None = None,
    few_values: bool = False,
) -> Case:
    """constant: the operand that is one."""

    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        names = []
        for i, letter in enumerate("ab"):
            if i == constant:
                data = rng.integers(-32768, 32768, shapes[i]).astype(np.int16)
                names.append(net.builder.constant(letter, data, q(scales[i])))
            else:
                names.append(net.input(shapes[i], scales[i], 0, INT16, letter))
        return net.graph([net.node(op, names, attrs, saturate=saturate, quant=y_quant)])

    return Case(f"int16_{name}", build, few_values)


def _arithmetic(op: str, attrs: Callable[..., Any]) -> tuple[Case, ...]:
    """attrs: the class of the op's attributes, made of an activation."""
    image, row = (1, 5, 4, 3), (1, 64)

    def case(name: str, a: Shape, b: Shape, activation: Activation = Activation.NONE,
             **k: Any) -> Case:  # fmt: skip
        return _two(op, name, (a, b), attrs(activation), **k)

    return (
        case("same_shape", image, image),
        case("relu", image, image, Activation.RELU),
        case("relu6", image, image, Activation.RELU6),
        case("n1_to_1", row, row, Activation.RELU_N1_TO_1, scales=(0.0001, 0.00007)),
        case("same_scale", row, row, scales=(0.001, 0.001)),
        case("power_of_two", row, row, scales=(FINE, FINE), y_quant=q(2.0**-11)),
        case("far_scales", row, row, scales=(0.9, 0.00001)),
        case("far_scales_swapped", row, row, scales=(0.00001, 0.9)),
        case("tiny_scales", row, row, scales=(1e-6, 3e-7), few_values=True),
        case("huge_scales", row, row, scales=(700.0, 90.0)),
        case("channels", (1, 4, 5, 6), (6,)),
        case("channels_first", (6,), (1, 4, 5, 6)),
        case("one_value", (1, 4, 5, 6), (1,)),
        case("outer", (1, 4, 1, 6), (1, 1, 5, 6), Activation.RELU),
        case("primes", (1, 7, 11, 13), (1, 7, 11, 13)),
        case("one_wide", (1, 90, 1, 1), (1, 90, 1, 1)),
        case("constant", (1, 4, 5, 6), (1, 1, 1, 6), constant=1),
        case("constant_first", (1, 1, 1, 6), (1, 4, 5, 6), constant=0),
        case("constant_value", (1, 4, 5, 6), (1,), constant=1),
        case("saturating", (1, 200), (1, 200), saturate=0.4),
        case("upscaled", (1, 200), (1, 200), y_quant=q(0.00007)),
    )


def _extremum(op: str) -> tuple[Case, ...]:
    def case(name: str, a: Shape, b: Shape, **k: Any) -> Case:
        return _two(op, name, (a, b), scales=(0.001, 0.001), **k)

    return (
        case("same_shape", (1, 5, 4, 3), (1, 5, 4, 3)),
        case("channels_first", (6,), (1, 4, 5, 6)),
        case("outer", (1, 4, 1, 6), (1, 1, 5, 6)),
        case("constant_value", (1, 4, 5, 6), (1,), constant=1),
        case("primes", (1, 7, 11, 13), (1, 7, 11, 13)),
    )


MANY = (1, 8, 8, 32)


def _unary(op: str, attrs: Any = NO_ATTRS, free: bool = True) -> tuple[Case, ...]:
    """free: the scale of the output can be chosen."""

    def case(name: str, scale: float, **k: Any) -> Case:
        return _one(op, name, MANY, attrs, scale, **k)

    cases = (
        _one(op, "odd_shape", (1, 7, 5, 3), attrs),
        _one(op, "vector", (97,), attrs),
        _one(op, "rank_five", (2, 1, 3, 5, 7), attrs),
        case("one", 2.0**-12),
        case("half", 2.0**-13),
        case("two", 2.0**-11),
        case("fine", 0.00001),
        case("usual", 0.0003),
        case("coarse", 0.0024 if op == "exp" else 0.004),
    )
    if not free:
        return cases
    return (
        *cases,
        case("same_scale", 0.0005, y_quant=q(0.0005)),
        case("upscaled", 0.0005, y_quant=q(0.000013)),
        case("downscaled", 0.0005, y_quant=q(0.0011)),
        case("near_ties", 0.0005, y_quant=q(0.001)),
        case("saturating", 0.001, saturate=0.3),
    )


def _softmax(name: str, shape: Shape, scale: float, beta: float = 1.0, **k: Any) -> Case:
    return _one("softmax", name, shape, SoftmaxAttrs(beta), scale, **k)


def _changes(
    name: str,
    source: DType,
    to: DType,
    x: QuantParams,
    y: QuantParams,
    few_values: bool = False,
) -> Case:
    """Values of one type and scale in another."""

    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        a = net.input((3, 97), x.scale[0], x.zero_point[0], source)
        return net.graph([net.node("quantize", [a], quant=y, dtype=to)])

    return Case(name, build, few_values)


I8, I32, U8, FLOAT = DType.INT8, DType.INT32, DType.UINT8, DType.FLOAT32

_QUANTIZE = (
    _changes("int16_to_int16", INT16, INT16, q(0.001), q(0.003)),
    _changes("int16_to_finer_int16", INT16, INT16, q(0.001), q(0.0003)),
    _changes("int16_to_same_int16", INT16, INT16, q(0.001), q(0.001)),
    _changes("int16_to_ties", INT16, INT16, q(0.001), q(0.002)),
    _changes("int16_to_other_int8", INT16, I8, q(0.001), q(0.26, -5)),
    _changes("int16_to_saturated_int8", INT16, I8, q(0.001), q(0.03, 3)),
    _changes("int8_to_fine_int16", I8, INT16, q(0.05, 3), q(0.0002)),
    _changes("int8_to_saturated_int16", I8, INT16, q(0.05, -128), q(0.00015)),
    _changes("int8_to_int32", I8, I32, q(0.05, 3), q(0.0002)),
    _changes("int16_to_int32", INT16, I32, q(0.001), q(0.0000003)),
    _changes("int16_to_coarse_int32", INT16, I32, q(0.001), q(0.03)),
    _changes("int32_to_int16", I32, INT16, q(0.0001), q(6.4)),
    _changes("int32_to_finer_int16", I32, INT16, q(0.0001), q(1.0)),
    _changes("int32_to_int8", I32, I8, q(0.0001), q(1700.0, 7)),
    _changes("float_to_fine_int16", FLOAT, INT16, q(1.0), q(0.0001)),
    _changes("float_to_saturated_int16", FLOAT, INT16, q(1.0), q(0.00002)),
)


def _cast(to: DType) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net("cast", rng)
        x = net.input((1, 3, 41), 0.05, 0, INT16)
        quant = q(0.1) if to is I8 else None
        return net.graph([net.builder.node("cast", [x], CastAttrs(to), quant=quant)])

    return Case(f"int16_to_{to.value}", build)


def _split(name: str, shape: Shape, axis: int, sizes: Shape) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(shape, 0.001, 0, INT16)
        return net.graph(net.node_multi("split", [x], SplitAttrs(axis, sizes)))

    return Case(f"int16_{name}", build)


def _gather(name: str, shape: Shape, indices: Any, axis: int) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(shape, 0.001, 0, INT16)
        i = net.builder.constant("i", np.asarray(indices, np.int32))
        return net.graph([net.node("gather", [x, i], GatherAttrs(axis))])

    return Case(f"int16_{name}", build)


def _joined(name: str, shapes: tuple[Shape, ...], axis: int, constant: int | None = None) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        names = []
        for i, shape in enumerate(shapes):
            if i == constant:
                data: Array = rng.integers(-32768, 32768, shape).astype(np.int16)
                names.append(net.builder.constant("k", data, q(0.001)))
            else:
                names.append(net.input(shape, 0.001, 0, INT16))
        return net.graph([net.node("concatenation", names, ConcatenationAttrs(axis))])

    return Case(f"int16_{name}", build)


def _resizes(op: str) -> tuple[Case, ...]:
    def case(name: str, image: Shape, size: tuple[int, int], corners: bool = False,
             centers: bool = False) -> Case:  # fmt: skip
        return _one(op, name, image, ResizeAttrs(size, corners, centers))

    return (
        case("twice", (1, 5, 4, 3), (10, 8)),
        case("twice_corners", (1, 5, 4, 3), (10, 8), corners=True),
        case("half_centers", (1, 8, 6, 5), (4, 3), centers=True),
        case("primes", (1, 7, 11, 3), (13, 5)),
        case("primes_centers", (1, 7, 11, 3), (13, 5), centers=True),
        case("from_one", (1, 1, 1, 9), (3, 4)),
        case("to_one", (1, 5, 6, 9), (1, 1)),
        case("batch_of_two", (2, 3, 4, 5), (5, 3), centers=True),
    )


def _lstm(
    name: str,
    shape: tuple[int, int, int],
    units: int,
    time_major: bool = False,
    clip: float = 0.0,
    scale: float = 0.0001,
    hidden: QuantParams | None = None,
    few_values: bool = False,
    **k: Any,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(shape, scale, 0, INT16)
        attrs = LstmAttrs(time_major, clip)
        return net.graph([lstm_node(net, x, units, attrs, hidden or q(1 / 32768), **k)])

    return Case(f"int16_{name}", build, few_values)


INT16_CASES: dict[str, tuple[Case, ...]] = {
    "add": _arithmetic("add", AddAttrs),
    "sub": _arithmetic("sub", AddAttrs),
    "mul": _arithmetic("mul", MulAttrs),
    "maximum": _extremum("maximum"),
    "minimum": _extremum("minimum"),
    "squared_difference": (
        _two("squared_difference", "same_shape", ((1, 5, 4, 3), (1, 5, 4, 3))),
        _two("squared_difference", "channels", ((1, 4, 5, 6), (6,))),
        _two("squared_difference", "channels_first", ((6,), (1, 4, 5, 6))),
        _two("squared_difference", "one_value", ((1, 4, 5, 6), (1,))),
        _two("squared_difference", "outer", ((1, 4, 1, 6), (1, 1, 5, 6))),
        _two("squared_difference", "constant", ((1, 4, 5, 6), (6,)), constant=1),
        _two("squared_difference", "far_scales", ((1, 90), (1, 90)), scales=(0.9, 0.0001)),
        _two("squared_difference", "same_scale", ((1, 90), (1, 90)), scales=(0.001, 0.001)),
        _two("squared_difference", "primes", ((1, 7, 11, 13), (1, 7, 11, 13))),
        _two("squared_difference", "saturating", ((1, 200), (1, 200)), saturate=0.4),
        _two("squared_difference", "upscaled", ((1, 200), (1, 200)), y_quant=q(0.0001)),
    ),
    "relu": _unary("relu"),
    "relu6": _unary("relu6"),
    "leaky_relu": (
        *_unary("leaky_relu", LeakyReluAttrs(0.1)),
        _one("leaky_relu", "flat", MANY, LeakyReluAttrs(0.0)),
        _one("leaky_relu", "steep", MANY, LeakyReluAttrs(3.7)),
        _one("leaky_relu", "identity", MANY, LeakyReluAttrs(1.0)),
        _one("leaky_relu", "half_ties", MANY, LeakyReluAttrs(0.5), 0.001, y_quant=q(0.001)),
    ),
    "abs": _unary("abs"),
    "exp": (
        *_unary("exp"),
        _one("exp", "steep", MANY, scale=0.0024, y_quant=q(0.001)),
        _one("exp", "one_ended", MANY, scale=0.0001, y_quant=q(1.0 / 32768.0)),
    ),
    "logistic": (
        *_unary("logistic", free=False),
        _one("logistic", "near_one", MANY, scale=2.0**-12 * 1.0005),
        _one("logistic", "off_one", MANY, scale=2.0**-12 * 1.001),
        _one("logistic", "tiny", MANY, scale=1e-9, few_values=True),
        _one("logistic", "large", MANY, scale=4.0, few_values=True),
    ),
    "tanh": (
        *_unary("tanh", free=False),
        _one("tanh", "near_one", MANY, scale=2.0**-12 * 1.0005),
        _one("tanh", "near_two", MANY, scale=2.0**-11 * 0.9995),
        _one("tanh", "off_two", MANY, scale=2.0**-11 * 1.001),
        _one("tanh", "four", MANY, scale=2.0**-10),
        _one("tanh", "tiny", MANY, scale=1e-9, few_values=True),
        _one("tanh", "large", MANY, scale=4.0, few_values=True),
    ),
    "softmax": (
        _softmax("classes", (3, 10), 0.0003),
        _softmax("image", (1, 3, 4, 7), 0.0001),
        _softmax("vector", (31,), 0.0002),
        _softmax("two", (40, 2), 0.0002),
        _softmax("one", (5, 1), 0.0002, few_values=True),
        _softmax("many", (2, 500), 0.00001),
        _softmax("fine", (9, 13), 0.000003),
        _softmax("coarse", (40, 13), 0.003),
        _softmax("power_of_two", (9, 13), FINE),
        _softmax("beta", (9, 13), 0.0001, 2.5),
        _softmax("small_beta", (9, 13), 0.001, 0.05),
        _softmax("rank_five", (2, 1, 3, 5, 7), 0.0001),
    ),
    "quantize": _QUANTIZE,
    "cast": (_cast(I8), _cast(FLOAT)),
    "reshape": (_one("reshape", "flat", (1, 4, 5, 3), ReshapeAttrs((1, 60))),),
    "transpose": (
        _one("transpose", "image", (1, 4, 5, 3), TransposeAttrs((0, 3, 1, 2))),
        _one("transpose", "rows", (7, 11), TransposeAttrs((1, 0))),
        _one("transpose", "rank_five", (2, 1, 3, 5, 7), TransposeAttrs((4, 2, 0, 1, 3))),
    ),
    "pad": (
        _one("pad", "image", (1, 4, 5, 3), PadAttrs(((0, 0), (1, 2), (0, 1), (0, 0)))),
        _one("pad", "channels", (1, 3, 2, 5), PadAttrs(((0, 0), (0, 0), (1, 1), (2, 1)))),
        _one("pad", "value", (1, 4, 5, 3), PadAttrs(((0, 0), (1, 2), (0, 1), (0, 0)), 3.0)),
        _one("pad", "lowest", (1, 4, 5, 3),
             PadAttrs(((0, 0), (1, 2), (3, 1), (0, 0)), -np.inf)),
        _one("pad", "rank_two", (5, 7), PadAttrs(((1, 0), (0, 3)))),
    ),
    "concatenation": (
        _joined("channels_of_four", ((1, 4, 5, 4), (1, 4, 5, 8)), 3),
        _joined("channels_of_two", ((1, 4, 5, 2), (1, 4, 5, 6)), 3),
        _joined("rows", ((1, 2, 5, 3), (1, 1, 5, 3), (1, 3, 5, 3)), 1),
        _joined("one_wide", ((5, 1), (5, 1), (5, 1)), 1),
        _joined("constant", ((1, 4, 5, 3), (1, 4, 5, 2)), 3, constant=1),
    ),
    "split": (
        _split("even_halves", (1, 4, 5, 8), 3, (4, 4)),
        _split("uneven", (1, 6, 5, 3), 1, (1, 5)),
    ),
    "slice": (
        _one("slice", "rows", (1, 6, 7, 5), SliceAttrs((0, 2, 0, 0), (1, 3, 7, 5))),
        _one("slice", "channels", (1, 6, 7, 8), SliceAttrs((0, 0, 0, 2), (1, 6, 7, 4))),
        _one("slice", "backwards", (37,), SliceAttrs((36,), (19,), (-2,))),
    ),
    "gather": (
        _gather("rows", (7, 5), [3, 0, 6, 6], 0),
        _gather("channels", (1, 3, 4, 9), [8, 1, 2], 3),
        _gather("middle", (1, 6, 4, 3), [[0, 5], [2, 2]], 1),
    ),
    "lstm": (
        _lstm("small", (1, 5, 7), 9),
        _lstm("one_step", (1, 1, 13), 11),
        _lstm("one_unit", (1, 9, 5), 1),
        _lstm("stateless", (1, 5, 7), 9, stateful=False),
        _lstm("time_major", (5, 1, 7), 9, time_major=True),
        _lstm("batch", (3, 5, 7), 6),
        _lstm("batch_time_major", (5, 3, 7), 6, time_major=True),
        _lstm("primes", (1, 11, 13), 17),
        _lstm("clipped", (1, 9, 7), 9, clip=0.4),
        _lstm("coarse_cell", (1, 9, 7), 9, cell_power=-9),
        _lstm("fine_cell", (1, 9, 7), 9, cell_power=-15),
        _lstm("saturating", (1, 9, 7), 9, spread=30.0),
        _lstm("fine_hidden", (1, 9, 7), 9, hidden=q(1 / 90000)),
        _lstm("coarse_hidden", (1, 9, 7), 9, hidden=q(1 / 5000)),
        _lstm("many_inputs", (1, 3, 300), 5, scale=0.00005),
    ),
    "resize_nearest": _resizes("resize_nearest"),
    "resize_bilinear": _resizes("resize_bilinear"),
}  # fmt: skip
