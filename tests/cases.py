"""The cases that prove an op: one table an op, for the interpreter, the oracles and the C."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases_elementwise import ELEMENTWISE_CASES
from cases_int16 import INT16_CASES
from cases_int16_mac import INT16_MAC_CASES
from more_cases import MORE_CASES
from support.case import Case, one_input, q
from support.mac_cases import (
    ConvSpec,
    FcSpec,
    conv_case,
    depthwise_case,
    fully_connected_case,
    pool_case,
)
from support.nets import Net
from tinsmith.pipeline.graph import Activation, DType, Graph, QuantParams
from tinsmith.pipeline.ops import Oracle
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs

NONE, RELU, RELU6, N1_TO_1 = (
    Activation.NONE,
    Activation.RELU,
    Activation.RELU6,
    Activation.RELU_N1_TO_1,
)


_CONV = (
    ConvSpec("one_pixel", (1, 1, 1, 8), 11, (1, 1)),
    ConvSpec("one_pixel_one_channel", (1, 1, 1, 1), 9, (1, 1)),
    ConvSpec("pointwise", (1, 6, 5, 16), 8, (1, 1), activation=RELU),
    ConvSpec("pointwise_odd_channels", (1, 5, 7, 13), 7, (1, 1), activation=RELU6),
    ConvSpec("pointwise_strided", (1, 7, 7, 6), 5, (1, 1), (2, 3)),
    ConvSpec("one_wide", (1, 11, 1, 5), 3, (3, 1), pads="same"),
    ConvSpec("one_high", (1, 1, 13, 3), 4, (1, 5), (1, 2), pads="same"),
    ConvSpec("primes", (1, 7, 11, 3), 5, (3, 5), (2, 3), pads="same", activation=RELU),
    ConvSpec("three_by_three", (1, 8, 8, 8), 8, (3, 3), pads="same", activation=RELU),
    ConvSpec("three_by_three_valid", (1, 8, 6, 4), 6, (3, 3)),
    ConvSpec("first_layer", (1, 12, 12, 3), 8, (3, 3), (2, 2), pads="same", activation=RELU6),
    ConvSpec("tall_kernel", (1, 12, 5, 1), 8, (10, 4), (2, 2), pads="same"),
    ConvSpec("stride_beyond_kernel", (1, 9, 10, 3), 4, (2, 2), (3, 4), pads="same"),
    ConvSpec("dilated", (1, 9, 9, 3), 4, (3, 3), (1, 1), (2, 3), pads="same"),
    ConvSpec("dilated_valid", (1, 10, 9, 2), 3, (2, 3), (1, 1), (3, 2)),
    ConvSpec("dilated_strided", (1, 11, 9, 2), 3, (3, 3), (2, 2), (2, 2), pads=(1, 2, 3, 0)),
    ConvSpec("kernel_beyond_image", (1, 3, 2, 4), 5, (5, 7), pads="same"),
    ConvSpec("explicit_pads", (1, 5, 6, 3), 4, (3, 3), (2, 2), pads=(1, 1, 1, 1)),
    ConvSpec("lopsided_pads", (1, 5, 6, 3), 4, (3, 2), pads=(3, 0, 0, 4), zero_point=-128),
    ConvSpec("batch_of_two", (2, 4, 5, 3), 4, (3, 3), pads="same"),
    ConvSpec("no_bias", (1, 5, 5, 4), 6, (3, 3), bias=None),
    ConvSpec("large_bias", (1, 5, 5, 4), 6, (3, 3), bias=1e3),
    ConvSpec("per_tensor", (1, 5, 5, 4), 6, (3, 3), per_channel=False),
    ConvSpec("n1_to_1", (1, 5, 5, 4), 6, (3, 3), activation=N1_TO_1, spread=1.0),
    ConvSpec("saturating", (1, 6, 6, 4), 6, (3, 3), saturate=0.4),
    ConvSpec("saturating_relu6", (1, 6, 6, 4), 6, (3, 3), activation=RELU6, saturate=0.3),
    ConvSpec("zero_point_low", (1, 6, 6, 4), 6, (3, 3), pads="same", zero_point=-128),
    ConvSpec("zero_point_high", (1, 6, 6, 4), 6, (3, 3), pads="same", zero_point=127),
    ConvSpec("multiplier_above_one", (1, 3, 3, 1), 8, (1, 1), x_scale=1.0, bits=4,
             y_quant=q(0.006, 5)),
    ConvSpec("multiplier_tiny", (1, 4, 4, 16), 4, (3, 3), y_quant=q(40.0, 5), few_values=True),
    ConvSpec("multiplier_vanishing", (1, 2, 2, 2), 2, (1, 1), y_quant=q(1e20), few_values=True),
    # Factors of 1/512 and nearly that: half of the sums of a power of two are ties.
    ConvSpec("ties", (1, 6, 6, 4), 4, (1, 1), bias=None, w_quant=q(2**-9), y_quant=q(0.05, -3)),
    ConvSpec("near_ties", (1, 6, 6, 4), 4, (1, 1), bias=None, w_quant=q(0.3), y_quant=q(7.68, -3)),
    ConvSpec("nibbles", (1, 5, 5, 5), 6, (3, 3), bits=4),
    ConvSpec("grouped", (1, 5, 5, 6), 9, (3, 3), groups=3, pads="same", activation=RELU),
    ConvSpec("grouped_pointwise", (1, 4, 5, 8), 4, (1, 1), groups=2),
    ConvSpec("deep", (1, 2, 2, 300), 3, (1, 1)),
    ConvSpec("float_relu6", (1, 6, 5, 3), 4, (3, 3), pads="same", activation=RELU6,
             dtype=DType.FLOAT32),
    ConvSpec("float_explicit_pads", (1, 6, 5, 3), 4, (3, 3), (2, 1), (1, 2), pads=(1, 2, 0, 3),
             dtype=DType.FLOAT32, bias=None),
)  # fmt: skip

_DEPTHWISE = (
    ConvSpec("one_pixel", (1, 1, 1, 9), 9, (1, 1)),
    ConvSpec("three_by_three", (1, 8, 8, 8), 8, (3, 3), pads="same", activation=RELU),
    ConvSpec("three_by_three_strided", (1, 9, 8, 12), 12, (3, 3), (2, 2), pads="same",
             activation=RELU6),
    ConvSpec("odd_channels", (1, 7, 5, 5), 5, (3, 3), pads="same"),
    ConvSpec("one_channel_in", (1, 12, 9, 1), 8, (10, 8), (2, 2), pads="same"),
    ConvSpec("multiplier_three", (1, 5, 6, 3), 9, (3, 3), pads="same"),
    ConvSpec("multiplier_two_strided", (1, 7, 6, 4), 8, (2, 3), (2, 2), pads=(1, 0, 2, 1)),
    ConvSpec("one_wide", (1, 11, 1, 5), 5, (3, 1), pads="same"),
    ConvSpec("primes", (1, 7, 11, 3), 3, (3, 5), (2, 3), pads="same"),
    ConvSpec("stride_beyond_kernel", (1, 9, 10, 3), 3, (2, 2), (3, 4)),
    ConvSpec("dilated", (1, 9, 9, 3), 3, (3, 3), (1, 1), (2, 3), pads="same"),
    ConvSpec("dilated_multiplier", (1, 9, 9, 2), 4, (3, 3), (1, 1), (2, 2)),
    ConvSpec("kernel_beyond_image", (1, 3, 2, 4), 4, (5, 7), pads="same"),
    ConvSpec("explicit_pads", (1, 5, 6, 3), 3, (3, 3), (2, 2), pads=(1, 1, 1, 1)),
    ConvSpec("whole_image", (1, 4, 4, 7), 7, (4, 4)),
    ConvSpec("batch_of_two", (2, 4, 5, 3), 3, (3, 3), pads="same"),
    ConvSpec("no_bias", (1, 5, 5, 4), 4, (3, 3), bias=None),
    ConvSpec("per_tensor", (1, 5, 5, 4), 4, (3, 3), per_channel=False),
    ConvSpec("n1_to_1", (1, 5, 5, 4), 4, (3, 3), activation=N1_TO_1, spread=1.0),
    ConvSpec("saturating", (1, 6, 6, 4), 4, (3, 3), saturate=0.4),
    ConvSpec("zero_point_low", (1, 6, 6, 4), 4, (3, 3), pads="same", zero_point=-128),
    ConvSpec("zero_point_high", (1, 6, 6, 4), 4, (3, 3), pads="same", zero_point=127),
    ConvSpec("multiplier_above_one", (1, 4, 4, 5), 5, (1, 1), x_scale=1.0, bits=4,
             y_quant=q(0.006, 5)),
    ConvSpec("multiplier_vanishing", (1, 2, 2, 2), 2, (1, 1), y_quant=q(1e20), few_values=True),
    ConvSpec("ties", (1, 6, 6, 4), 4, (2, 1), bias=None, w_quant=q(2**-8), y_quant=q(0.05, -3)),
    ConvSpec("near_ties", (1, 6, 6, 4), 4, (2, 1), bias=None, w_quant=q(0.3), y_quant=q(3.84, -3)),
    ConvSpec("nibbles", (1, 5, 5, 5), 5, (3, 3), bits=4),
    ConvSpec("float", (1, 6, 5, 3), 6, (3, 3), pads="same", activation=RELU, dtype=DType.FLOAT32),
)  # fmt: skip


_FC = (
    FcSpec("one_by_one", (1, 1), 1, 1, few_values=True),
    FcSpec("small", (1, 7), 7, 5),
    FcSpec("relu", (1, 64), 64, 10, RELU),
    FcSpec("relu6", (1, 33), 33, 9, RELU6),
    FcSpec("n1_to_1", (1, 33), 33, 9, N1_TO_1, spread=1.0),
    FcSpec("image", (1, 3, 4, 5), 60, 11),
    FcSpec("rows", (3, 4, 10), 10, 6),
    FcSpec("rows_kept", (1, 3, 4, 10), 10, 6, keep_dims=True),
    FcSpec("batch", (5, 17), 17, 3),
    FcSpec("no_bias", (1, 20), 20, 8, bias=None),
    FcSpec("large_bias", (1, 20), 20, 8, bias=1e3),
    FcSpec("per_channel", (1, 40), 40, 12, per_channel=True),
    FcSpec("per_channel_relu", (2, 31), 31, 12, RELU, per_channel=True, bias=None),
    FcSpec("saturating", (1, 50), 50, 30, saturate=0.4),
    FcSpec("zero_point_low", (1, 50), 50, 12, zero_point=-128),
    FcSpec("zero_point_high", (1, 50), 50, 12, zero_point=127),
    FcSpec("multiplier_above_one", (9, 1), 1, 8, x_scale=1.0, bits=4, y_quant=q(0.006, 5)),
    FcSpec("multiplier_vanishing", (1, 9), 9, 3, y_quant=q(1e20), few_values=True),
    FcSpec("ties", (9, 4), 4, 16, bias=None, w_quant=q(2**-9), y_quant=q(0.05, -3)),
    FcSpec("near_ties", (9, 4), 4, 16, bias=None, w_quant=q(0.3), y_quant=q(7.68, -3)),
    FcSpec(
        "near_ties_of_rounded_scales",
        (9, 4),
        4,
        16,
        x_scale=0.37,
        w_quant=q(3 / 255),
        y_quant=q(0.37 * 3 / 255 * 128, -3),
    ),
    FcSpec("nibbles", (1, 21), 21, 8, bits=4),
    FcSpec("deep", (1, 1960), 1960, 4),
    FcSpec("float", (1, 30), 30, 6, RELU6, dtype=DType.FLOAT32),
    FcSpec("float_no_bias", (2, 30), 30, 6, bias=None, dtype=DType.FLOAT32),
)


def _add(
    name: str,
    shape_a: tuple[int, ...],
    shape_b: tuple[int, ...],
    activation: Activation = NONE,
    scales: tuple[float, float] = (0.05, 0.03),
    zeros: tuple[int, int] = (3, -7),
    dtype: DType = DType.INT8,
    constant: bool = False,
    saturate: float = 0.0,
    quant: QuantParams | None = None,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        a = net.input(shape_a, scales[0], zeros[0], dtype, "a")
        if constant:
            data = rng.integers(-128, 128, shape_b).astype(np.int8)
            b = net.builder.constant("b", data, q(scales[1], zeros[1]))
        else:
            b = net.input(shape_b, scales[1], zeros[1], dtype, "b")
        attrs = AddAttrs(activation)
        return net.graph([net.node("add", [a, b], attrs, saturate=saturate, quant=quant)])

    return Case(name, build)


_ADD = (
    _add("same_shape", (1, 5, 4, 3), (1, 5, 4, 3)),
    _add("relu", (1, 5, 4, 3), (1, 5, 4, 3), RELU),
    _add("relu6", (1, 5, 4, 3), (1, 5, 4, 3), RELU6, (0.1, 0.08)),
    _add("n1_to_1", (1, 30), (1, 30), N1_TO_1),
    _add("same_scale", (1, 64), (1, 64), scales=(0.05, 0.05), zeros=(0, 0)),
    _add("near_ties", (1, 300), (1, 300), scales=(0.3, 0.6), zeros=(1, 2), quant=q(1.2, 3)),
    _add("far_scales", (1, 64), (1, 64), scales=(5.0, 0.001), zeros=(-128, 127)),
    _add("far_scales_swapped", (1, 64), (1, 64), scales=(0.001, 5.0), zeros=(127, -128)),
    _add("channels", (1, 4, 5, 6), (6,)),
    _add("channels_first", (6,), (1, 4, 5, 6)),
    _add("one_value", (1, 4, 5, 6), (1,)),
    _add("outer", (1, 4, 1, 6), (1, 1, 5, 6), RELU),
    _add("constant", (1, 4, 5, 6), (1, 1, 1, 6), constant=True),
    _add("saturating", (1, 200), (1, 200), saturate=0.4),
    _add("float_relu6", (1, 4, 5, 6), (6,), RELU6, dtype=DType.FLOAT32),
)


def _pools(op: str) -> tuple[Case, ...]:
    return (
        pool_case(op, "one_pixel", (1, 1, 1, 9), (1, 1), (1, 1)),
        pool_case(op, "two_by_two", (1, 8, 6, 4), (2, 2), (2, 2)),
        pool_case(op, "two_by_two_odd", (1, 7, 5, 3), (2, 2), (2, 2), "same"),
        pool_case(op, "three_by_three", (1, 7, 9, 5), (3, 3), (2, 2), "same", RELU),
        pool_case(op, "overlapping", (1, 6, 5, 6), (3, 2), (1, 1), "same", RELU6),
        pool_case(op, "n1_to_1", (1, 6, 5, 6), (2, 2), (1, 1), "valid", N1_TO_1, (0.02, 10)),
        pool_case(op, "stride_beyond_kernel", (1, 9, 9, 3), (2, 2), (3, 4)),
        pool_case(op, "kernel_beyond_image", (1, 3, 2, 8), (5, 7), (1, 1), "same"),
        pool_case(op, "whole_image", (1, 5, 7, 13), (5, 7), (1, 1), quant=(0.1, -128)),
        pool_case(op, "one_wide", (1, 13, 1, 3), (4, 1), (2, 1)),
        pool_case(op, "batch_of_two", (2, 5, 5, 3), (3, 3), (2, 2), "same"),
        pool_case(op, "zero_point_low", (1, 6, 6, 3), (3, 3), (1, 1), "same", quant=(0.1, -128)),
        pool_case(op, "float", (1, 7, 5, 3), (3, 3), (2, 2), "same", RELU6, dtype=DType.FLOAT32),
    )


_MAX_POOL = (
    *_pools("max_pool2d"),
    pool_case("max_pool2d", "explicit_pads", (1, 6, 6, 3), (3, 3), (2, 2), (1, 1, 1, 1)),
    pool_case("max_pool2d", "float_explicit_pads", (1, 6, 6, 3), (3, 3), (2, 2), (1, 1, 1, 1),
          dtype=DType.FLOAT32),
)  # fmt: skip

_AVERAGE_POOL = _pools("average_pool2d")


def _mean(name: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, **k: Any) -> Case:
    return one_input("mean", name, shape, ReduceAttrs(axes, keep), **k)


_MEAN = (
    _mean("image", (1, 5, 7, 11), (1, 2), False),
    _mean("image_kept", (1, 5, 7, 11), (1, 2), True),
    _mean("image_power_of_two", (1, 4, 4, 16), (1, 2), True),
    _mean("channels", (1, 4, 5, 6), (3,), False),
    _mean("rows", (1, 4, 5, 6), (1,), True),
    _mean("columns", (2, 4, 5, 6), (2,), False),
    _mean("rank_two", (3, 9), (1,), False, few_values=True),
    _mean("rank_three", (1, 9, 5), (1,), True, few_values=True),
    _mean("outer_axes", (2, 3, 4, 5), (1, 3), False),
    _mean("all", (1, 3, 4, 5), (1, 2, 3), True, few_values=True),
    _mean("one_element", (1, 1, 1, 9), (1, 2), True),
    _mean("many", (1, 24, 25, 9), (1, 2), True),
    _mean("same_scale", (1, 5, 7, 11), (1, 2), True, y_quant=q(0.05, 3)),
    _mean("near_ties", (1, 4, 4, 40), (1, 2), True, y_quant=q(0.025, 3)),
    _mean("saturating", (1, 5, 7, 40), (1, 2), True, saturate=0.4),
    _mean("zero_point_low", (1, 5, 7, 11), (1, 2), True, quant=(0.05, -128)),
    _mean("float", (1, 5, 7, 11), (1, 2), False, dtype=DType.FLOAT32),
)


def _pad(name: str, shape: tuple[int, ...], pads: Any, value: float = 0.0, **k: Any) -> Case:
    return one_input("pad", name, shape, PadAttrs(pads, value), **k)


_PAD = (
    _pad("image", (1, 4, 5, 3), ((0, 0), (1, 2), (3, 0), (0, 0))),
    _pad("all_axes", (1, 2, 3, 4), ((1, 0), (0, 1), (2, 2), (1, 3))),
    _pad("rank_two", (2, 7), ((0, 1), (2, 3))),
    _pad("rank_one", (9,), ((2, 1),)),
    _pad("nothing", (1, 4, 5, 3), ((0, 0),) * 4),
    _pad("value", (1, 4, 5, 3), ((0, 0), (1, 1), (1, 1), (0, 0)), 1.3),
    _pad("lowest", (1, 4, 5, 3), ((0, 0), (1, 1), (1, 1), (0, 0)), -np.inf),
    _pad("beyond_range", (1, 4, 5, 3), ((0, 0), (1, 1), (1, 1), (0, 0)), 1e6),
    _pad("zero_point_low", (1, 4, 5, 3), ((0, 0), (1, 1), (1, 1), (0, 0)), quant=(0.05, -128)),
    _pad("float", (1, 4, 5, 3), ((0, 0), (1, 2), (3, 0), (0, 0)), dtype=DType.FLOAT32),
    _pad("float_value", (1, 4, 5, 3), ((0, 0), (1, 2), (3, 0), (0, 0)), 1.5, dtype=DType.FLOAT32),
)


def _reshape(name: str, shape: tuple[int, ...], new: tuple[int, ...], **k: Any) -> Case:
    return one_input("reshape", name, shape, ReshapeAttrs(new), **k)


_RESHAPE = (
    _reshape("flatten", (1, 3, 4, 5), (1, 60)),
    _reshape("squeeze", (1, 1, 4, 5), (4, 5)),
    _reshape("expand", (6, 5), (1, 6, 1, 5)),
    _reshape("same", (1, 7, 3), (1, 7, 3)),
    _reshape("to_scalar", (1, 1), (), few_values=True),
    _reshape("float", (1, 3, 4, 5), (3, 20), dtype=DType.FLOAT32),
)


def _transpose(name: str, shape: tuple[int, ...], perm: tuple[int, ...], **k: Any) -> Case:
    return one_input("transpose", name, shape, TransposeAttrs(perm), **k)


_TRANSPOSE = (
    _transpose("matrix", (5, 7), (1, 0)),
    _transpose("channels_first", (1, 3, 4, 5), (0, 3, 1, 2)),
    _transpose("channels_last", (1, 5, 3, 4), (0, 2, 3, 1)),
    _transpose("reversed", (2, 3, 4, 5), (3, 2, 1, 0)),
    _transpose("rank_three", (2, 3, 4), (1, 2, 0)),
    _transpose("rank_five", (1, 2, 3, 2, 4), (0, 3, 1, 4, 2)),
    _transpose("nothing", (2, 3, 4), (0, 1, 2)),
    _transpose("float", (1, 3, 4, 5), (0, 2, 1, 3), dtype=DType.FLOAT32),
)


def _relu(op: str) -> tuple[Case, ...]:
    # fmt: off
    return (
        one_input(op, "image", (1, 4, 5, 3), quant=(0.1, 3)),
        one_input(op, "rescaled", (1, 4, 5, 9), quant=(0.1, 3), y_quant=q(0.037, -100)),
        one_input(op, "upscaled", (1, 4, 5, 9), quant=(0.1, 3), y_quant=q(0.3, -20)),
        one_input(op, "same_scale", (1, 90), quant=(0.05, -10), y_quant=q(0.05, -10)),
        one_input(op, "saturating", (1, 90), quant=(0.1, 3), saturate=0.3),
        # A factor of 17/8, by which the oracles' two ways to divide scales differ.
        one_input(op, "near_ties", (1, 300), quant=(0.044255975633859634, 0),
                   y_quant=q(0.020826341584324837, -128)),
        one_input(op, "zero_point_low", (1, 90), quant=(0.1, -128)),
        one_input(op, "zero_point_high", (1, 90), quant=(0.1, 127), few_values=True),
        one_input(op, "float", (1, 4, 5, 3), dtype=DType.FLOAT32),
    )


def _softmax(name: str, shape: tuple[int, ...], beta: float = 1.0, **k: Any) -> Case:
    return one_input("softmax", name, shape, SoftmaxAttrs(beta), **k)


_SOFTMAX = (
    _softmax("two", (1, 2), few_values=True),
    _softmax("ten", (1, 10), few_values=True),
    _softmax("rows", (7, 12)),
    _softmax("image", (1, 3, 4, 9)),
    _softmax("rank_three", (1, 6, 11)),
    _softmax("one_class", (1, 5, 1), few_values=True),
    _softmax("many", (3, 500), quant=(0.06, -5)),
    _softmax("flat", (5, 10), quant=(0.002, 0), few_values=True),
    _softmax("sharp", (20, 10), quant=(0.9, 20)),
    _softmax("sharpest", (9, 10), quant=(60.0, 0), few_values=True),
    _softmax("beta", (9, 10), 0.3, quant=(0.1, 3)),
    _softmax("float", (2, 10), dtype=DType.FLOAT32),
    _softmax("float_beta", (2, 10), 0.5, dtype=DType.FLOAT32),
)

_QUANTIZE = (
    one_input("quantize", "float_to_int8", (1, 5, 7), dtype=DType.FLOAT32, out_dtype=DType.INT8),
    one_input("quantize", "float_saturating", (1, 90), dtype=DType.FLOAT32,
               out_dtype=DType.INT8, saturate=0.3),
    one_input("quantize", "ties", (1, 90), dtype=DType.FLOAT32, out_dtype=DType.INT8,
               y_quant=q(0.5, -1)),
    one_input("quantize", "float_to_uint8", (1, 90), dtype=DType.FLOAT32, out_dtype=DType.UINT8,
               oracle=Oracle.REF),
    one_input("quantize", "float_to_int16", (1, 90), dtype=DType.FLOAT32, out_dtype=DType.INT16,
               y_quant=q(1 / 8192, 0)),
    one_input("quantize", "int8_down", (1, 300), y_quant=q(0.11, -20), out_dtype=DType.INT8),
    one_input("quantize", "int8_up", (1, 300), y_quant=q(0.013, 30), out_dtype=DType.INT8),
    one_input("quantize", "near_ties", (1, 300), quant=(0.044255975633859634, 0),
               y_quant=q(0.020826341584324837, -128), out_dtype=DType.INT8),
    one_input("quantize", "int8_same", (1, 300), y_quant=q(0.05, 3), out_dtype=DType.INT8),
    one_input("quantize", "int8_shifted", (1, 300), y_quant=q(0.05, -3), out_dtype=DType.INT8),
    one_input("quantize", "int8_to_uint8", (1, 300), y_quant=q(0.05, 131), out_dtype=DType.UINT8),
    one_input("quantize", "int8_to_uint8_rescaled", (1, 300), y_quant=q(0.07, 101),
               out_dtype=DType.UINT8),
    one_input("quantize", "uint8_to_int8", (1, 300), quant=(0.05, 128), dtype=DType.UINT8,
               y_quant=q(0.05, 0), out_dtype=DType.INT8),
    one_input("quantize", "int8_to_int16", (1, 300), y_quant=q(0.001, 0), out_dtype=DType.INT16),
    one_input("quantize", "int16_to_int8", (1, 300), quant=(0.001, 0), dtype=DType.INT16,
               y_quant=q(0.2, 5), out_dtype=DType.INT8),
)  # fmt: skip

_DEQUANTIZE = (
    one_input("dequantize", "int8", (1, 5, 7)),
    one_input("dequantize", "int16", (1, 5, 7), quant=(0.001, 0), dtype=DType.INT16),
    one_input("dequantize", "uint8", (1, 5, 7), quant=(0.05, 128), dtype=DType.UINT8),
)

_CASES: dict[str, tuple[Case, ...]] = {
    "conv2d": tuple(conv_case(s) for s in _CONV),
    "depthwise_conv2d": tuple(depthwise_case(s) for s in _DEPTHWISE),
    "fully_connected": tuple(fully_connected_case(s) for s in _FC),
    "add": _ADD,
    "max_pool2d": _MAX_POOL,
    "average_pool2d": _AVERAGE_POOL,
    "mean": _MEAN,
    "pad": _PAD,
    "reshape": _RESHAPE,
    "transpose": _TRANSPOSE,
    "relu": _relu("relu"),
    "relu6": _relu("relu6"),
    "softmax": _SOFTMAX,
    "quantize": _QUANTIZE,
    "dequantize": _DEQUANTIZE,
    **MORE_CASES,
    **ELEMENTWISE_CASES,
}

CASES = {
    op: (*cases, *INT16_CASES.get(op, ()), *INT16_MAC_CASES.get(op, ()))
    for op, cases in _CASES.items()
}
