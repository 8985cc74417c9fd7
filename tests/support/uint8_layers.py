"""Layers as TFLite's uint8 kernels compute them: weights of 9 bits, means whose ties go up."""

from __future__ import annotations

import numpy as np

from support.nets import Net
from tinsmith.pipeline.graph import Graph, QuantParams
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs

# The least weight, less its zero point: 0 and -255 are the ends of what uint8 can say.
LOWEST = (-255, -200, -140, -100, -27, 0)


def wide_weights(net: Net, shape: tuple[int, ...], lowest: int) -> str:
    """Weights over a whole span of 255, with both ends among them."""
    data = net.rng.integers(lowest, lowest + 256, shape)
    data.reshape(-1)[:2] = lowest, lowest + 255
    return net.builder.constant("w", data.astype(np.int16), QuantParams.per_tensor(0.01))


def conv(
    net: Net, image: tuple[int, int, int], out: int, attrs: Conv2dAttrs, k: int = 1, groups: int = 1
) -> str:
    x = net.input((1, *image), 0.05, int(net.rng.integers(-60, 60)))
    w = wide_weights(net, (out, k, k, image[2] // groups), int(net.rng.choice(LOWEST)))
    inputs = [x, w, net.bias(w, x, out)]
    return net.node("conv2d", inputs, attrs, saturate=0.02)


def transposed(net: Net) -> str:
    x = net.input((1, 3, 4, 5), 0.05, int(net.rng.integers(-60, 60)))
    w = wide_weights(net, (4, 3, 3, 5), int(net.rng.choice(LOWEST)))
    attrs = TransposeConv2dAttrs((2, 2), (0, 1, 0, 1), as_uint8=True)
    return net.node("transpose_conv2d", [x, w, net.bias(w, x, 4)], attrs, saturate=0.02)


def depthwise(net: Net, channels: int, k: int, depth: int = 1) -> str:
    x = net.input((1, 6, 7, channels), 0.05, int(net.rng.integers(-60, 60)))
    w = wide_weights(net, (1, k, k, channels * depth), int(net.rng.choice(LOWEST)))
    pads = (k // 2,) * 4
    attrs = DepthwiseConv2dAttrs((1, 1), (1, 1), pads, as_uint8=True)
    return net.node("depthwise_conv2d", [x, w, net.bias(w, x, channels * depth)], attrs)


def dense(net: Net, rows: int, inputs: int, outputs: int, lowest: int) -> str:
    x = net.input((rows, inputs), 0.05, int(net.rng.integers(-60, 60)))
    w = wide_weights(net, (outputs, inputs), lowest)
    attrs = FullyConnectedAttrs(as_uint8=True)
    return net.node("fully_connected", [x, w, net.bias(w, x, outputs)], attrs, saturate=0.02)


def mean_of_two(net: Net) -> str:
    x = net.input((1, 7, 6, 5), 0.05, -20)
    return net.node("average_pool2d", [x], Pool2dAttrs((2, 2), (1, 2), (0, 1, 0, 0), as_uint8=True))


def layers() -> Graph:
    """Every way that kernels go through wide weights: columns of one and of several runs."""
    net = Net("net", np.random.default_rng(5))
    same = Conv2dAttrs(pads=(1, 1, 1, 1), as_uint8=True)
    outputs = [
        conv(net, (5, 5, 8), 9, Conv2dAttrs(as_uint8=True)),
        conv(net, (5, 5, 3), 8, Conv2dAttrs(as_uint8=True)),
        conv(net, (6, 5, 4), 6, same, 3),
        conv(net, (6, 5, 3), 4, same, 3),
        conv(net, (7, 7, 4), 4, Conv2dAttrs((1, 1), (2, 2), (2, 2, 2, 2), as_uint8=True), 3),
        conv(net, (3, 3, 70), 5, same, 3),
        conv(net, (3, 3, 33), 4, Conv2dAttrs((2, 2), as_uint8=True), 2),
        conv(net, (4, 4, 6), 4, same, 3, groups=2),
        transposed(net),
        depthwise(net, 8, 3),
        depthwise(net, 8, 5),
        depthwise(net, 3, 3),
        depthwise(net, 4, 2, depth=2),
        mean_of_two(net),
    ]
    sizes = [(1, 16, 8), (1, 252, 4), (1, 1030, 3), (3, 508, 7), (2, 13, 5), (1, 256, 4)]
    for size, lowest in zip(sizes, LOWEST, strict=True):
        outputs.append(dense(net, *size, lowest))
    return net.graph(outputs)
