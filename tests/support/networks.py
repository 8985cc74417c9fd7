"""Small networks of ordinary shapes, for tests of what is around the kernels."""

from __future__ import annotations

import numpy as np

from support.case import q
from support.more_growers import lstm_node
from support.nets import Net
from tinsmith.pipeline.graph import Activation, Graph
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs

RELU = Activation.RELU


def convolutional(name: str = "net", seed: int = 0, *, size: int = 16, channels: int = 8) -> Graph:
    """3x3 convolution, depthwise, pointwise to twice the channels, two more, mean."""
    net = Net(name, np.random.default_rng(seed))
    x = net.input((1, size, size, 2))
    w = net.weights((channels, 3, 3, 2), x, axis=0)
    x = net.node("conv2d", [x, w, net.bias(w, x, channels)],
                 Conv2dAttrs((1, 1), (1, 1), (1, 1, 1, 1), RELU), name="first")  # fmt: skip
    w = net.weights((1, 3, 3, channels), x, axis=3)
    x = net.node("depthwise_conv2d", [x, w, net.bias(w, x, channels)],
                 DepthwiseConv2dAttrs((2, 2), (1, 1), (0, 1, 0, 1), RELU), name="thin")  # fmt: skip
    w = net.weights((2 * channels, 1, 1, channels), x, axis=0)
    x = net.node("conv2d", [x, w, net.bias(w, x, 2 * channels)],
                 Conv2dAttrs(activation=RELU), name="wide")  # fmt: skip
    w = net.weights((channels, 3, 3, 2 * channels), x, axis=0)
    x = net.node("conv2d", [x, w, net.bias(w, x, channels)],
                 Conv2dAttrs((1, 1), (1, 1), (1, 1, 1, 1)), name="last")  # fmt: skip
    x = net.node("mean", [x], ReduceAttrs((1, 2)), name="mean")
    return net.graph([x])


def recurrent(name: str = "net") -> Graph:
    """An LSTM whose hidden and cell state go on from run to run."""
    net = Net(name, np.random.default_rng(4))
    x = net.input((1, 3, 3), 0.02, 3)
    return net.graph([lstm_node(net, x, 5, LstmAttrs(), q(1 / 127, -1), stateful=True)])
