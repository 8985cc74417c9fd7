"""Small float networks with random weights, to be quantized."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline.graph import Activation, Array, Graph, GraphBuilder
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs

SAME = (1, 1, 1, 1)


def samples_of(graph: Graph, count: int = 8, seed: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(count, *graph.tensors[name].shape)).astype(np.float32)
        for name in graph.inputs
    }


def exact_net(seed: int = 0) -> Graph:
    """conv, depthwise, average pool, conv, mean, fully connected: weights k / 127, each channel
    with a 1, so that int8 holds them exactly."""
    rng, b = np.random.default_rng(seed), GraphBuilder("exact")

    def weights(name: str, shape: tuple[int, ...], axis: int) -> str:
        k = rng.integers(-127, 128, shape)
        first: list[int | slice] = [0] * len(shape)
        first[axis] = slice(None)
        k[tuple(first)] = 127
        return b.constant(name, (k / 127).astype(np.float32))

    def bias(name: str, count: int) -> str:
        return b.constant(name, rng.normal(size=count).astype(np.float32))

    x = b.input("x", (1, 10, 9, 3))
    relu = Conv2dAttrs(pads=SAME, activation=Activation.RELU)
    y = b.node("conv2d", [x, weights("w0", (8, 3, 3, 3), 0), bias("b0", 8)], relu, name="conv0")
    y = b.node("depthwise_conv2d", [y, weights("w1", (1, 3, 3, 8), 3), bias("b1", 8)],
               DepthwiseConv2dAttrs(pads=SAME), name="dw1")  # fmt: skip
    y = b.node("average_pool2d", [y], Pool2dAttrs((2, 2), (2, 2)), name="pool2")
    y = b.node("conv2d", [y, weights("w3", (12, 1, 1, 8), 0), bias("b3", 12)],
               Conv2dAttrs(activation=Activation.RELU), name="conv3")  # fmt: skip
    y = b.node("mean", [y], ReduceAttrs((1, 2)), name="mean4")
    y = b.node("fully_connected", [y, weights("w5", (5, 12), 0), bias("b5", 5)],
               FullyConnectedAttrs(), name="fc5")  # fmt: skip
    return b.build([y])


def residual_net(seed: int = 0) -> Graph:
    """A residual block between convolutions, a maximum pool, a classifier with a softmax."""
    rng, b = np.random.default_rng(seed), GraphBuilder("residual")

    def normal(name: str, shape: tuple[int, ...], fan_in: int) -> str:
        return b.constant(name, (rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32))

    x = b.input("x", (1, 12, 12, 3))
    relu = Conv2dAttrs(pads=SAME, activation=Activation.RELU)
    y = b.node("conv2d", [x, normal("w0", (8, 3, 3, 3), 9), normal("b0", (8,), 1)], relu)
    z = b.node("depthwise_conv2d", [y, normal("w1", (1, 3, 3, 8), 9), normal("b1", (8,), 1)],
               DepthwiseConv2dAttrs(pads=SAME, activation=Activation.RELU6))  # fmt: skip
    z = b.node("conv2d", [z, normal("w2", (8, 1, 1, 8), 8), normal("b2", (8,), 1)], Conv2dAttrs())
    y = b.node("add", [y, z], AddAttrs(Activation.RELU))
    y = b.node("max_pool2d", [y], Pool2dAttrs((3, 3), (3, 3)))
    y = b.node("conv2d", [y, normal("w3", (16, 3, 3, 8), 72), normal("b3", (16,), 1)], relu)
    y = b.node("mean", [y], ReduceAttrs((1, 2)))
    y = b.node("fully_connected", [y, normal("w4", (6, 16), 16), normal("b4", (6,), 1)],
               FullyConnectedAttrs())  # fmt: skip
    return b.build([b.node("softmax", [y], SoftmaxAttrs())])
