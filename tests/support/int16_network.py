"""A whole network on int16 activations: convolutions to a softmax."""

from __future__ import annotations

import numpy as np

from support.nets import Net
from tinsmith.pipeline.graph import Activation, DType, Graph
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs


def int16_network() -> Graph:
    """Two branches of convolutions, gated and summed; pooled to classes and their softmax."""
    net = Net("int16_network", np.random.default_rng(11))
    x = net.input((1, 12, 11, 3), 0.0001, 0, DType.INT16)

    def convolution(x: str, out: int, activation: Activation) -> str:
        w = net.weights((out, 3, 3, net.shape(x)[3]), x, axis=0)
        attrs = Conv2dAttrs(pads=(1, 1, 1, 1), activation=activation)
        return net.node("conv2d", [x, w, net.bias(w, x, out)], attrs)

    a = convolution(x, 8, Activation.RELU)
    w = net.weights((1, 3, 3, 8), a, axis=3, fan_in=9)
    attrs = DepthwiseConv2dAttrs(pads=(1, 1, 1, 1))
    gate = net.node("logistic", [net.node("depthwise_conv2d", [a, w, net.bias(w, a, 8)], attrs)])
    gated = net.node("mul", [a, gate], MulAttrs())
    b = net.node("tanh", [convolution(x, 8, Activation.NONE)])
    both = net.node("add", [gated, b], AddAttrs(Activation.RELU))
    bent = net.node("leaky_relu", [both], LeakyReluAttrs(0.1))
    small = net.node("max_pool2d", [bent], Pool2dAttrs((2, 2), (2, 2)))
    row = net.node("reshape", [small], ReshapeAttrs((1, int(np.prod(net.shape(small))))))
    w = net.weights((7, net.shape(row)[1]), row, axis=0)
    logits = net.node("fully_connected", [row, w, net.bias(w, row, 7)], FullyConnectedAttrs())
    return net.graph([net.node("softmax", [logits], SoftmaxAttrs()), small])
