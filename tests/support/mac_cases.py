"""Cases of the ops that multiply and accumulate, and of pools: a network around one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from support.case import Case
from support.nets import Net
from tinsmith.pipeline.graph import Activation, DType, Graph, QuantParams
from tinsmith.pipeline.ops import Oracle, window
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs

NONE = Activation.NONE


@dataclass(frozen=True)
class ConvSpec:
    """A convolution of image [n, h, w, c] with `out` channels. pads: "same", "valid" or explicit.

    scale_out overrides the scale chosen from data. groups: input channels are split into so many.
    """

    name: str
    image: tuple[int, int, int, int]
    out: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: Any = "valid"
    activation: Activation = NONE
    per_channel: bool = True
    bias: float | None = 1.0
    bits: int = 8
    groups: int = 1
    zero_point: int = 3
    x_scale: float = 0.05
    spread: float = 4.0
    saturate: float = 0.0
    y_quant: QuantParams | None = None
    w_quant: QuantParams | None = None
    dtype: DType = DType.INT8
    few_values: bool = False


def _pads(spec: ConvSpec) -> window.Pads:
    if spec.pads == "valid":
        return window.NO_PADS
    if spec.pads == "same":
        return window.same_pads(spec.image[1:3], spec.kernel, spec.stride, spec.dilation)
    return spec.pads


def conv_case(spec: ConvSpec) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(spec.name, rng)
        x = net.input(spec.image, spec.x_scale, spec.zero_point, spec.dtype)
        shape = (spec.out, *spec.kernel, spec.image[3] // spec.groups)
        axis = 0 if spec.per_channel else None
        w = net.weights(shape, x, axis=axis, spread=spec.spread, bits=spec.bits, quant=spec.w_quant)
        inputs = [x, w]
        if spec.bias is not None:
            inputs.append(net.bias(w, x, spec.out, spec.bias))
        attrs = Conv2dAttrs(spec.stride, spec.dilation, _pads(spec), spec.activation)
        y = net.node("conv2d", inputs, attrs, saturate=spec.saturate, quant=spec.y_quant)
        return net.graph([y])

    return Case(spec.name, build, spec.few_values)


def depthwise_case(spec: ConvSpec) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(spec.name, rng)
        x = net.input(spec.image, spec.x_scale, spec.zero_point, spec.dtype)
        shape = (1, *spec.kernel, spec.out)
        axis = 3 if spec.per_channel else None
        fan_in = spec.kernel[0] * spec.kernel[1]
        w = net.weights(
            shape, x, axis=axis, fan_in=fan_in, spread=spec.spread, bits=spec.bits,
            quant=spec.w_quant,
        )  # fmt: skip
        inputs = [x, w]
        if spec.bias is not None:
            inputs.append(net.bias(w, x, spec.out, spec.bias))
        attrs = DepthwiseConv2dAttrs(spec.stride, spec.dilation, _pads(spec), spec.activation)
        y = net.node("depthwise_conv2d", inputs, attrs, saturate=spec.saturate, quant=spec.y_quant)
        return net.graph([y])

    return Case(spec.name, build, spec.few_values)


@dataclass(frozen=True)
class FcSpec:
    """A matrix product: input of any shape, `out` rows."""

    name: str
    shape: tuple[int, ...]
    depth: int
    out: int
    activation: Activation = NONE
    per_channel: bool = False
    bias: float | None = 1.0
    bits: int = 8
    keep_dims: bool = False
    zero_point: int = 3
    x_scale: float = 0.05
    spread: float = 4.0
    saturate: float = 0.0
    y_quant: QuantParams | None = None
    w_quant: QuantParams | None = None
    dtype: DType = DType.INT8
    few_values: bool = False


def fully_connected_case(spec: FcSpec) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(spec.name, rng)
        x = net.input(spec.shape, spec.x_scale, spec.zero_point, spec.dtype)
        axis = 0 if spec.per_channel else None
        w = net.weights(
            (spec.out, spec.depth), x, axis=axis, spread=spec.spread, bits=spec.bits,
            quant=spec.w_quant,
        )  # fmt: skip
        inputs = [x, w]
        if spec.bias is not None:
            inputs.append(net.bias(w, x, spec.out, spec.bias))
        attrs = FullyConnectedAttrs(spec.activation, spec.keep_dims)
        y = net.node("fully_connected", inputs, attrs, saturate=spec.saturate, quant=spec.y_quant)
        return net.graph([y])

    return Case(spec.name, build, spec.few_values)


def pool_case(
    op: str,
    name: str,
    image: tuple[int, int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Any = "valid",
    activation: Activation = NONE,
    quant: tuple[float, int] = (0.1, 3),
    dtype: DType = DType.INT8,
    few_values: bool = False,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(image, *quant, dtype)
        if pads == "same":
            chosen = window.same_pads(image[1:3], kernel, stride)
        else:
            chosen = window.NO_PADS if pads == "valid" else pads
        attrs = Pool2dAttrs(kernel, stride, chosen, activation)
        return net.graph([net.node(op, [x], attrs)])

    return Case(name, build, few_values)


def matmul_case(
    name: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
    adjoint: tuple[bool, bool] = (False, False),
    dtype: DType = DType.INT8,
    zeros: tuple[int, int] = (3, -7),
    scales: tuple[float, float] = (0.05, 0.03),
    saturate: float = 0.0,
    y_quant: QuantParams | None = None,
    few_values: bool = False,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(a, scales[0], zeros[0], dtype, "a")
        y = net.input(b, scales[1], zeros[1], dtype, "b")
        attrs = BatchMatmulAttrs(*adjoint)
        out = net.node("batch_matmul", [x, y], attrs, saturate=saturate, quant=y_quant)
        return net.graph([out])

    return Case(name, build, few_values)


def transpose_conv_case(
    name: str,
    image: tuple[int, int, int, int],
    out: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: str = "valid",
    grow: tuple[int, int] = (0, 0),
    bias: bool = True,
    per_channel: bool = True,
    zero_point: int = 3,
    dtype: DType = DType.INT8,
    activation: Activation = Activation.NONE,
    saturate: float = 0.0,
    oracle: Oracle | None = None,
) -> Case:
    """grow: rows and columns at the bottom and right that no window reaches."""

    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(image, 0.05, zero_point, dtype)
        w = net.weights((out, *kernel, image[3]), x, axis=0 if per_channel else None)
        whole = [(image[1 + i] - 1) * stride[i] + kernel[i] for i in (0, 1)]
        if padding == "same":
            size = (image[1] * stride[0], image[2] * stride[1])
            same = window.same_pads(size, kernel, stride)
            pads = (
                same[0], whole[0] - size[0] - same[0], same[2], whole[1] - size[1] - same[2],
            )  # fmt: skip
        else:
            pads = (0, -grow[0], 0, -grow[1])
        inputs = [x, w, net.bias(w, x, out)] if bias else [x, w]
        attrs = TransposeConv2dAttrs(stride, pads, activation)
        return net.graph([net.node("transpose_conv2d", inputs, attrs, saturate=saturate)])

    return Case(name, build, False, oracle)
