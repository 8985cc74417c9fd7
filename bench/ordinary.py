"""Random networks of ordinary shapes: the families that people bring to a microcontroller.

Scales come from sample values, so that nothing saturates; weights are normally distributed over the
whole range of int8, as trained ones nearly are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from page import ROOT

from tinsmith.pipeline.graph import Activation, Graph
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.window import same_pads
from tinsmith.pipeline.passes import INT_PASSES, run_passes

sys.path.insert(0, str(ROOT / "tests"))
from support.nets import Net

NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
PER_FAMILY = 6
_TAIL = 3.5  # the largest weight lies this many deviations out
Pair = tuple[int, int]


def pick(net: Net, choices: Sequence[int]) -> int:
    return int(net.rng.choice(np.asarray(choices)))


def weights(net: Net, shape: tuple[int, ...], x: str, axis: int, fan_in: int) -> str:
    name = net.weights(shape, x, axis=axis, fan_in=fan_in)
    bell = np.round(net.rng.normal(0, 127 / _TAIL, shape)).clip(-127, 127).astype(np.int8)
    net.builder.tensors[name] = replace(net.tensor(name), data=bell)
    return name


def conv(
    net: Net, x: str, out: int, kernel: Pair, stride: Pair = (1, 1), act: Activation = RELU
) -> str:
    _, h, w, c = net.shape(x)
    filters = weights(net, (out, *kernel, c), x, 0, kernel[0] * kernel[1] * c)
    pads = same_pads((h, w), kernel, stride, (1, 1))
    operands = [x, filters, net.bias(filters, x, out)]
    return net.node("conv2d", operands, Conv2dAttrs(stride, (1, 1), pads, act))


def depthwise(
    net: Net, x: str, kernel: Pair, stride: Pair = (1, 1), act: Activation = RELU,
    dilation: Pair = (1, 1), multiplier: int = 1,
) -> str:  # fmt: skip
    _, h, w, c = net.shape(x)
    filters = weights(net, (1, *kernel, c * multiplier), x, 3, kernel[0] * kernel[1])
    pads = same_pads((h, w), kernel, stride, dilation)
    operands = [x, filters, net.bias(filters, x, c * multiplier)]
    attrs = DepthwiseConv2dAttrs(stride, dilation, pads, act)
    return net.node("depthwise_conv2d", operands, attrs)


def classifier(net: Net, x: str, classes: int) -> Graph:
    """The mean over the image, a dense layer, softmax."""
    x = net.node("mean", [x], ReduceAttrs((1, 2), False))
    filters = weights(net, (classes, net.shape(x)[1]), x, 0, net.shape(x)[1])
    operands = [x, filters, net.bias(filters, x, classes)]
    x = net.node("fully_connected", operands, FullyConnectedAttrs())
    return net.graph([net.node("softmax", [x], SoftmaxAttrs())])


def mobilenet_v1(net: Net) -> Graph:
    size, width = pick(net, (32, 48, 64)), pick(net, (8, 12, 16))
    x = net.input((1, size, size, pick(net, (1, 3))))
    x = conv(net, x, width, (3, 3), (2, 2), RELU6)
    for i in range(pick(net, (4, 5, 6, 7))):
        down = i % 2 == 1
        width = min(2 * width, 128) if down else width
        x = depthwise(net, x, (3, 3), (2, 2) if down else (1, 1), RELU6)
        x = conv(net, x, width, (1, 1), act=RELU6)
    return classifier(net, x, pick(net, (2, 10, 25)))


def mobilenet_v2(net: Net) -> Graph:
    size, width = pick(net, (32, 40, 56)), pick(net, (8, 12, 16))
    x = net.input((1, size, size, 3))
    x = conv(net, x, width, (3, 3), (2, 2), RELU6)
    growth = pick(net, (3, 4, 6))
    for i in range(pick(net, (4, 5, 6))):
        down = i % 2 == 1
        out = width + 8 if down else width
        y = conv(net, x, growth * width, (1, 1), act=RELU6)
        y = depthwise(net, y, (3, 3), (2, 2) if down else (1, 1), RELU6)
        y = conv(net, y, out, (1, 1), act=NONE)
        x = y if down else net.node("add", [x, y], AddAttrs(NONE))
        width = out
    return classifier(net, conv(net, x, 4 * width, (1, 1), act=RELU6), pick(net, (2, 10, 25)))


def resnet(net: Net) -> Graph:
    size, width = pick(net, (16, 20, 28)), pick(net, (8, 12, 16))
    x = net.input((1, size, size, pick(net, (1, 3))))
    x = conv(net, x, width, (3, 3))
    for i in range(pick(net, (2, 3))):
        stride = (2, 2) if i else (1, 1)
        out = 2 * width if i else width
        y = conv(net, x, out, (3, 3), stride)
        y = conv(net, y, out, (3, 3), act=NONE)
        short = x if out == width else conv(net, x, out, (1, 1), stride, NONE)
        x, width = net.node("add", [short, y], AddAttrs(RELU)), out
    return classifier(net, x, pick(net, (10, 20)))


def ds_cnn(net: Net) -> Graph:
    frames, width = pick(net, (25, 49, 61)), pick(net, (24, 40, 64, 76))
    x = net.input((1, frames, pick(net, (10, 13, 20)), 1))
    x = conv(net, x, width, (10, 4), (2, 2))
    for _ in range(pick(net, (2, 3, 4))):
        x = depthwise(net, x, (3, 3))
        x = conv(net, x, width, (1, 1))
    return classifier(net, x, pick(net, (4, 12, 35)))


def one_dimensional(net: Net) -> Graph:
    """Convolutions along time, dense or depthwise-separable with dilation."""
    length, width = pick(net, (64, 128, 256)), pick(net, (8, 16, 24))
    x = net.input((1, 1, length, pick(net, (1, 3, 6))))
    x = conv(net, x, width, (1, pick(net, (5, 7, 9))), (1, 2))
    separable = bool(pick(net, (0, 1)))
    for i in range(pick(net, (3, 4))):
        taps = pick(net, (3, 5))
        if separable:
            x = depthwise(net, x, (1, taps), dilation=(1, 1 << i))
            x = conv(net, x, width, (1, 1))
        else:
            width += 8
            x = conv(net, x, width, (1, taps))
            if net.shape(x)[2] >= 16:
                x = net.node("max_pool2d", [x], Pool2dAttrs((1, 2), (1, 2)))
    return classifier(net, x, pick(net, (5, 8)))


FAMILIES: Mapping[str, Callable[[Net], Graph]] = {
    "MobileNetV1": mobilenet_v1,
    "MobileNetV2": mobilenet_v2,
    "ResNet": resnet,
    "DS-CNN": ds_cnn,
    "1D": one_dimensional,
}


def networks(per_family: int = PER_FAMILY) -> Mapping[str, Graph]:
    """Name -> network, the same in every run."""
    found = {}
    for family, make in FAMILIES.items():
        for i in range(per_family):
            name = f"{family} {chr(ord('a') + i)}"
            rng = np.random.default_rng([i, *family.encode()])
            found[name] = run_passes(make(Net("net", rng)), INT_PASSES)
    return found
