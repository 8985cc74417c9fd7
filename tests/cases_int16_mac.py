"""Cases on int16 activations of the ops that multiply and accumulate, pool and reduce."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from support.case import Case, one_input, q
from support.mac_cases import (
    ConvSpec,
    FcSpec,
    conv_case,
    depthwise_case,
    fully_connected_case,
    matmul_case,
    pool_case,
    transpose_conv_case,
)
from tinsmith.pipeline.graph import Activation, DType, Graph, rebuild
from tinsmith.pipeline.ops.mean import ReduceAttrs

INT16 = DType.INT16
NONE, RELU, RELU6, N1_TO_1 = (
    Activation.NONE,
    Activation.RELU,
    Activation.RELU6,
    Activation.RELU_N1_TO_1,
)
Image = tuple[int, int, int, int]


def _spec(
    name: str, image: Image, out: int, kernel: tuple[int, int], *a: Any, **k: Any
) -> ConvSpec:
    return ConvSpec(f"int16_{name}", image, out, kernel, *a, dtype=INT16, **k)


def with_short_bias(case: Case) -> Case:
    """The same layer with an int32 bias: its sums are int32, and wrap."""

    def build(rng: np.random.Generator) -> Graph:
        graph = case.build(rng)
        bias = graph.tensors[graph.nodes[0].inputs[2]]
        data = np.clip(bias.value(), -(2**31), 2**31 - 1).astype(np.int32)
        return rebuild(graph, tensors=[replace(bias, dtype=DType.INT32, data=data)])

    return replace(case, name=f"{case.name}_short_bias", build=build)


_CONV = (
    _spec("one_pixel", (1, 1, 1, 8), 11, (1, 1)),
    _spec("pointwise", (1, 6, 5, 16), 8, (1, 1), activation=RELU),
    _spec("pointwise_odd_channels", (1, 5, 7, 13), 7, (1, 1), activation=RELU6),
    _spec("pointwise_strided", (1, 7, 7, 6), 5, (1, 1), (2, 3)),
    _spec("one_wide", (1, 11, 1, 5), 3, (3, 1), pads="same"),
    _spec("three_by_three", (1, 8, 8, 8), 8, (3, 3), pads="same", activation=RELU),
    _spec("first_layer", (1, 12, 12, 3), 8, (3, 3), (2, 2), pads="same", activation=RELU6),
    _spec("tall_kernel", (1, 12, 5, 1), 8, (10, 4), (2, 2), pads="same"),
    _spec("stride_beyond_kernel", (1, 9, 10, 3), 4, (2, 2), (3, 4), pads="same"),
    _spec("dilated", (1, 9, 9, 3), 4, (3, 3), (1, 1), (2, 3), pads="same"),
    _spec("dilated_strided", (1, 11, 9, 2), 3, (3, 3), (2, 2), (2, 2), pads=(1, 2, 3, 0)),
    _spec("kernel_beyond_image", (1, 3, 2, 4), 5, (5, 7), pads="same"),
    _spec("lopsided_pads", (1, 5, 6, 3), 4, (3, 2), pads=(3, 0, 0, 4)),
    _spec("batch_of_two", (2, 4, 5, 3), 4, (3, 3), pads="same"),
    _spec("no_bias", (1, 5, 5, 4), 6, (3, 3), bias=None),
    _spec("per_tensor", (1, 5, 5, 4), 6, (3, 3), per_channel=False),
    _spec("n1_to_1", (1, 5, 5, 4), 6, (3, 3), activation=N1_TO_1, spread=1.0),
    # Sums beyond an int32: by their bias, by their depth, by both.
    _spec("large_bias", (1, 5, 5, 4), 6, (3, 3), bias=1e4),
    _spec("deep", (1, 2, 2, 1300), 3, (1, 1)),
    _spec("deep_window", (1, 4, 4, 160), 3, (3, 3), pads="same"),
    _spec("multiplier_above_one", (1, 3, 3, 1), 8, (1, 1), x_scale=1.0, w_quant=q(0.004),
          y_quant=q(0.002), few_values=True),
    _spec("multiplier_tiny", (1, 4, 4, 16), 4, (3, 3), w_quant=q(1e-4), y_quant=q(40.0),
          few_values=True),
    _spec("multiplier_vanishing", (1, 2, 2, 2), 2, (1, 1), y_quant=q(1e20), few_values=True),
    _spec("ties", (1, 6, 6, 4), 4, (1, 1), bias=None, w_quant=q(2**-9), y_quant=q(0.05)),
    _spec("grouped", (1, 5, 5, 6), 9, (3, 3), groups=3, pads="same", activation=RELU),
)  # fmt: skip

_SHORT_BIAS = (
    _spec("primes", (1, 7, 11, 3), 5, (3, 5), (2, 3), pads="same", activation=RELU),
    _spec("pointwise", (1, 4, 5, 16), 8, (1, 1), per_channel=False),
    _spec("wrapping", (1, 2, 2, 1300), 4, (1, 1), w_quant=q(0.001), bias=1e5),
    _spec("multiplier_above_one", (1, 3, 3, 1), 8, (1, 1), x_scale=1.0, w_quant=q(0.004),
          y_quant=q(0.002), few_values=True),
)  # fmt: skip

_DEPTHWISE = (
    _spec("one_pixel", (1, 1, 1, 9), 9, (1, 1)),
    _spec("three_by_three", (1, 8, 8, 8), 8, (3, 3), pads="same", activation=RELU),
    _spec("one_channel_in", (1, 12, 9, 1), 8, (10, 8), (2, 2), pads="same"),
    _spec("multiplier_three", (1, 5, 6, 3), 9, (3, 3), pads="same"),
    _spec("multiplier_two_strided", (1, 7, 6, 4), 8, (2, 3), (2, 2), pads=(1, 0, 2, 1)),
    _spec("one_wide", (1, 11, 1, 5), 5, (3, 1), pads="same"),
    _spec("primes", (1, 7, 11, 3), 3, (3, 5), (2, 3), pads="same"),
    _spec("stride_beyond_kernel", (1, 9, 10, 3), 3, (2, 2), (3, 4)),
    _spec("dilated", (1, 9, 9, 3), 3, (3, 3), (1, 1), (2, 3), pads="same"),
    _spec("kernel_beyond_image", (1, 3, 2, 4), 4, (5, 7), pads="same"),
    _spec("batch_of_two", (2, 4, 5, 3), 3, (3, 3), pads="same"),
    _spec("no_bias", (1, 5, 5, 4), 4, (3, 3), bias=None),
    _spec("large_bias", (1, 5, 5, 4), 4, (3, 3), bias=1e5),
    _spec("per_tensor", (1, 5, 5, 4), 4, (3, 3), per_channel=False),
    _spec("saturating", (1, 6, 6, 4), 4, (3, 3), saturate=0.4),
    _spec("ties", (1, 6, 6, 4), 4, (2, 1), bias=None, w_quant=q(2**-8), y_quant=q(0.05)),
)  # fmt: skip


def _fc(name: str, shape: tuple[int, ...], depth: int, out: int, *a: Any, **k: Any) -> FcSpec:
    return FcSpec(f"int16_{name}", shape, depth, out, *a, dtype=INT16, **k)


_FC = (
    _fc("small", (1, 7), 7, 5),
    _fc("relu", (1, 64), 64, 10, RELU),
    _fc("rows", (3, 4, 10), 10, 6),
    _fc("rows_kept", (1, 3, 4, 10), 10, 6, keep_dims=True),
    _fc("batch", (5, 17), 17, 3),
    _fc("no_bias", (1, 20), 20, 8, bias=None),
    _fc("large_bias", (1, 20), 20, 8, bias=1e5),
    _fc("per_channel", (1, 40), 40, 12, per_channel=True),
    _fc("per_channel_relu", (2, 31), 31, 12, RELU, per_channel=True, bias=None),
    _fc("saturating", (1, 50), 50, 30, saturate=0.4),
    _fc("multiplier_vanishing", (1, 9), 9, 3, y_quant=q(1e20), few_values=True),
    _fc("ties", (9, 4), 4, 16, bias=None, w_quant=q(2**-9), y_quant=q(0.05)),
    _fc("deep", (1, 1960), 1960, 4),
)
_FC_SHORT_BIAS = (
    _fc("batch", (5, 17), 17, 3),
    _fc("per_channel", (1, 40), 40, 12, per_channel=True),
    _fc("wrapping", (1, 1960), 1960, 9, w_quant=q(0.001), bias=1e5),
)


def _pools(op: str) -> tuple[Case, ...]:
    def case(name: str, image: Image, kernel: Any, stride: Any, *a: Any, **k: Any) -> Case:
        return pool_case(op, f"int16_{name}", image, kernel, stride, *a, dtype=INT16, **k)

    return (
        case("two_by_two_odd", (1, 7, 5, 3), (2, 2), (2, 2), "same"),
        case("three_by_three", (1, 7, 9, 5), (3, 3), (2, 2), "same", RELU),
        case("overlapping", (1, 6, 5, 6), (3, 2), (1, 1), "same", RELU6, quant=(0.001, 0)),
        case("stride_beyond_kernel", (1, 9, 9, 3), (2, 2), (3, 4)),
        case("kernel_beyond_image", (1, 3, 2, 8), (5, 7), (1, 1), "same"),
        case("whole_image", (1, 5, 7, 13), (5, 7), (1, 1)),
        case("one_wide", (1, 13, 1, 3), (4, 1), (2, 1)),
    )


def _reductions(op: str, *also: Case) -> tuple[Case, ...]:
    return (
        _reduce(op, "image", (1, 5, 7, 11), (1, 2), False),
        _reduce(op, "image_kept", (1, 5, 3, 11), (1, 2), True),
        _reduce(op, "channels", (1, 4, 5, 6), (3,), False),
        _reduce(op, "rows", (1, 4, 5, 6), (1,), True),
        _reduce(op, "outer_axes", (2, 3, 4, 5), (1, 3), False),
        _reduce(op, "all", (1, 3, 4, 5), (1, 2, 3), True, few_values=True),
        _reduce(op, "one_element", (1, 1, 1, 9), (1, 2), True),
        _reduce(op, "many", (1, 24, 25, 9), (1, 2), True),
        *also,
    )


def _reduce(
    op: str, name: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, **k: Any
) -> Case:
    return one_input(op, f"int16_{name}", shape, ReduceAttrs(axes, keep), dtype=INT16, **k)


def _sums(op: str) -> tuple[Case, ...]:
    wide = (1, 5, 7, 40)
    return _reductions(
        op,
        _reduce(op, "same_scale", wide, (1, 2), True, y_quant=q(0.05)),
        _reduce(op, "near_ties", (1, 4, 4, 40), (1, 2), True, y_quant=q(0.025)),
        _reduce(op, "coarse_output", wide, (1, 2), True, y_quant=q(1.7)),
        _reduce(op, "finer_output", (1, 2, 1, 31), (1, 2), True, y_quant=q(0.01)),
        _reduce(op, "saturating", wide, (1, 2), True, saturate=0.4),
    )


def _matmul(name: str, a: Any, b: Any, *rest: Any, **k: Any) -> Case:
    return matmul_case(f"int16_{name}", a, b, *rest, dtype=INT16, **k)


_BATCH_MATMUL = (
    _matmul("matrices", (5, 7), (7, 3)),
    _matmul("heads", (1, 3, 6, 8), (1, 3, 8, 6)),
    _matmul("adjoint_b", (2, 5, 7), (2, 3, 7), (False, True)),
    _matmul("adjoint_a", (2, 7, 5), (2, 7, 3), (True, False)),
    _matmul("row", (1, 1, 31), (1, 31, 9)),
    _matmul("broadcast_b", (4, 5, 7), (1, 7, 3)),
    _matmul("broadcast_a", (5, 7), (3, 7, 2)),
    _matmul("outer", (1, 9, 1), (1, 1, 7)),
    _matmul("saturating", (1, 9, 17), (1, 17, 9), saturate=0.4),
    _matmul("multiplier_above_one", (1, 40, 1), (1, 1, 40), y_quant=q(0.001), few_values=True),
    _matmul("multiplier_tiny", (1, 5, 7), (1, 7, 3), y_quant=q(1e6), few_values=True),
)  # fmt: skip


def _transpose_conv(name: str, *a: Any, **k: Any) -> Case:
    return transpose_conv_case(f"int16_{name}", *a, dtype=INT16, **k)


_TRANSPOSE_CONV = (
    _transpose_conv("one_pixel", (1, 1, 1, 5), 3, (3, 3)),
    _transpose_conv("same", (1, 4, 5, 3), 4, (3, 3), (2, 2), "same"),
    _transpose_conv("primes", (1, 3, 5, 7), 2, (5, 3), (3, 2), "same"),
    _transpose_conv("stride_beyond_kernel", (1, 3, 4, 3), 2, (2, 1), (3, 2)),
    _transpose_conv("grown", (1, 3, 4, 3), 2, (3, 3), (2, 2), grow=(1, 1)),
    _transpose_conv("no_bias", (1, 4, 5, 3), 4, (3, 3), (2, 2), "same", bias=False),
    _transpose_conv("per_tensor", (1, 4, 5, 3), 4, (3, 3), (2, 2), "same", per_channel=False),
    _transpose_conv("one_wide", (1, 7, 1, 3), 5, (4, 1), (2, 1), "same"),
    _transpose_conv("deep", (1, 2, 2, 300), 2, (3, 3), (1, 1), "same"),
    _transpose_conv("saturating", (1, 4, 5, 3), 4, (3, 3), (2, 2), saturate=0.4),
)  # fmt: skip

INT16_MAC_CASES: dict[str, tuple[Case, ...]] = {
    "conv2d": (
        *(conv_case(s) for s in _CONV),
        *(with_short_bias(conv_case(s)) for s in _SHORT_BIAS),
    ),
    "depthwise_conv2d": tuple(depthwise_case(s) for s in _DEPTHWISE),
    "fully_connected": (
        *(fully_connected_case(s) for s in _FC),
        *(with_short_bias(fully_connected_case(s)) for s in _FC_SHORT_BIAS),
    ),
    "max_pool2d": _pools("max_pool2d"),
    "average_pool2d": _pools("average_pool2d"),
    "mean": _sums("mean"),
    "sum": _sums("sum"),
    "reduce_max": _reductions("reduce_max"),
    "reduce_min": _reductions("reduce_min"),
    "batch_matmul": _BATCH_MATMUL,
    "transpose_conv2d": _TRANSPOSE_CONV,
}
