"""The layers over whose shapes bench/kernel_grid.py measures every kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ordinary import NONE, RELU, Net, conv, depthwise, weights

from support.more_growers import lstm_node
from tinsmith.pipeline.graph import NO_ATTRS, DType, Graph, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs

IMAGES = ((1, 1), (3, 3), (8, 8), (1, 32), (14, 14))
CHANNELS = (1, 3, 8, 14, 64)
OUTPUTS = (1, 3, 32)
MOST_MACS = 400_000  # of one layer: larger ones cost what these do
INT8, INT16 = DType.INT8, DType.INT16
_SCALE = {INT8: 0.05, INT16: 0.0007}
# One pixel may be zero behind a RELU, and then has no scale by which an int16 layer could be made.
_ACT = {INT8: RELU, INT16: NONE}

# Adds a layer behind the input.
Make = Callable[[Net, str], str]


@dataclass(frozen=True)
class Point:
    """One layer of the grid. shape: of its input."""

    shape: tuple[int, ...]
    make: Make
    dtype: DType = INT8

    def graph(self, rng: np.random.Generator) -> Graph:
        net = Net("point", rng)
        x = net.input(self.shape, _SCALE[self.dtype], 3, self.dtype)
        return net.graph([self.make(net, x)])


def _convs(
    kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), outputs: Sequence[int] = OUTPUTS,
    dtype: DType = INT8,
) -> list[Point]:  # fmt: skip
    return [
        _conv((1, h, w, c), out, kernel, stride, dtype)
        for h, w in IMAGES
        for c in CHANNELS
        for out in outputs
        if h * w * c * out * kernel[0] * kernel[1] <= MOST_MACS
    ]


def _conv(
    shape: tuple[int, ...], out: int, kernel: tuple[int, int], stride: tuple[int, int],
    dtype: DType,
) -> Point:  # fmt: skip
    return Point(shape, lambda net, x: conv(net, x, out, kernel, stride, _ACT[dtype]), dtype)


def _transposed(dtype: DType) -> list[Point]:
    """3x3, stride 2: images of twice the size."""

    def point(shape: tuple[int, ...], out: int) -> Point:
        def make(net: Net, x: str) -> str:
            w = weights(net, (out, 3, 3, shape[3]), x, 0, 9 * shape[3] // 4 + 1)
            attrs = TransposeConv2dAttrs((2, 2), (0, 1, 0, 1), NONE)
            return net.node("transpose_conv2d", [x, w, net.bias(w, x, out)], attrs)

        return Point(shape, make, dtype)

    return [
        point((1, h, w, c), out)
        for h, w in IMAGES
        for c in CHANNELS
        for out in (3, 32)
        if h * w * c * out * 9 <= MOST_MACS
    ]


def _depthwise(
    kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1),
    multiplier: int = 1, dtype: DType = INT8,
) -> list[Point]:  # fmt: skip
    def make(net: Net, x: str) -> str:
        return depthwise(net, x, kernel, stride, _ACT[dtype], dilation, multiplier)

    return [Point((1, h, w, c), make, dtype) for h, w in IMAGES for c in CHANNELS]


def _dense(dtype: DType = INT8) -> list[Point]:
    def point(rows: int, inputs: int, outputs: int) -> Point:
        def make(net: Net, x: str) -> str:
            w = weights(net, (outputs, inputs), x, 0, inputs)
            operands = [x, w, net.bias(w, x, outputs)]
            return net.node("fully_connected", operands, FullyConnectedAttrs())

        return Point((rows, inputs), make, dtype)

    return [
        point(rows, inputs, outputs)
        for rows in (1, 3)
        for inputs in (1, 10, 64, 256)
        for outputs in (1, 2, 5, 64)
    ]


def _lstm(dtype: DType) -> list[Point]:
    hidden = QuantParams.per_tensor(2.0**-7 if dtype is INT8 else 2.0**-15)

    def point(steps: int, inputs: int, units: int) -> Point:
        def make(net: Net, x: str) -> str:
            return lstm_node(net, x, units, LstmAttrs(False), hidden, stateful=False)

        return Point((1, steps, inputs), make, dtype)

    return [point(t, i, u) for t in (1, 4) for i in (1, 10, 32) for u in (1, 6, 24)]


def _matmul() -> list[Point]:
    def point(rows: int, depth: int, columns: int) -> Point:
        def make(net: Net, x: str) -> str:
            other = net.input((1, depth, columns), 0.03, -5)
            return net.node("batch_matmul", [x, other], BatchMatmulAttrs(False, False))

        return Point((1, rows, depth), make)

    return [point(r, d, c) for r in (1, 5, 16) for d in (1, 8, 32) for c in (1, 5, 16)]


def _binary(
    op: str, attrs: object, dtype: DType = INT8, quant: tuple[float, int] = (0.6, -5)
) -> list[Point]:
    """quant: the second operand's scale, as a part of the first one's, and zero point."""

    def make(net: Net, x: str) -> str:
        other = net.input(net.shape(x), quant[0] * _SCALE[dtype], quant[1], dtype)
        return net.node(op, [x, other], attrs)

    return [Point((1, h, w, c), make, dtype) for h, w in IMAGES for c in (1, 3, 8, 64)]


def _one(
    op: str, attrs_of: Callable[[tuple[int, ...]], object], dtype: DType = INT8
) -> list[Point]:
    def make(net: Net, x: str) -> str:
        return net.node(op, [x], attrs_of(net.shape(x)))

    return [Point((1, h, w, c), make, dtype) for h, w in IMAGES for c in (1, 3, 8, 64)]


def _halves(shape: tuple[int, ...]) -> Pool2dAttrs:
    size = (min(2, shape[1]), min(2, shape[2]))
    return Pool2dAttrs(size, size)


def _whole(shape: tuple[int, ...]) -> Pool2dAttrs:
    return Pool2dAttrs((shape[1], shape[2]), (shape[1], shape[2]))


LAYERS: Mapping[str, list[Point]] = {
    "conv 1x1": _convs((1, 1), outputs=(1, 3, 8, 32)),
    "conv 3x3": _convs((3, 3)),
    "conv 3x3, stride 2": _convs((3, 3), (2, 2)),
    "conv 1x5": _convs((1, 5)),
    "conv 5x5, stride 2": _convs((5, 5), (2, 2)),
    "transposed conv 3x3, stride 2": _transposed(INT8),
    "depthwise 3x3": _depthwise((3, 3)),
    "depthwise 3x3, stride 2": _depthwise((3, 3), (2, 2)),
    "depthwise 5x5": _depthwise((5, 5)),
    "depthwise 1x5": _depthwise((1, 5)),
    "depthwise 3x3, dilated": _depthwise((3, 3), dilation=(2, 2)),
    "depthwise 3x3, two outputs a channel": _depthwise((3, 3), multiplier=2),
    "fully connected": _dense(),
    "matrix product": _matmul(),
    "LSTM": _lstm(INT8),
    "add": _binary("add", AddAttrs(NONE)),
    "add, relu": _binary("add", AddAttrs(RELU)),
    "mul": _binary("mul", MulAttrs(NONE)),
    "concatenation": _binary("concatenation", ConcatenationAttrs(3), quant=(1.0, 3)),
    "max pool 2x2": _one("max_pool2d", _halves),
    "average pool 2x2": _one("average_pool2d", _halves),
    "average pool, whole image": _one("average_pool2d", _whole),
    "mean over the image": _one("mean", lambda s: ReduceAttrs((1, 2), False)),
    "resize to twice the size": _one(
        "resize_bilinear", lambda s: ResizeAttrs((2 * s[1], 2 * s[2]), False, True)
    ),
    "sigmoid": _one("logistic", lambda s: NO_ATTRS),
    "softmax": _one("softmax", lambda s: SoftmaxAttrs()),
    "int16: conv 1x1": _convs((1, 1), dtype=INT16),
    "int16: conv 3x3": _convs((3, 3), dtype=INT16),
    "int16: conv 1x5": _convs((1, 5), dtype=INT16),
    "int16: conv 5x5, stride 2": _convs((5, 5), (2, 2), dtype=INT16),
    "int16: transposed conv 3x3, stride 2": _transposed(INT16),
    "int16: depthwise 3x3": _depthwise((3, 3), dtype=INT16),
    "int16: depthwise 5x5": _depthwise((5, 5), dtype=INT16),
    "int16: fully connected": _dense(INT16),
    "int16: LSTM": _lstm(INT16),
    "int16: add": _binary("add", AddAttrs(NONE), INT16),
    "int16: mul": _binary("mul", MulAttrs(NONE), INT16),
    "int16: max pool 2x2": _one("max_pool2d", _halves, INT16),
    "int16: average pool 2x2": _one("average_pool2d", _halves, INT16),
    "int16: mean over the image": _one("mean", lambda s: ReduceAttrs((1, 2), False), INT16),
    "int16: sigmoid": _one("logistic", lambda s: NO_ATTRS, INT16),
    "int16: softmax": _one("softmax", lambda s: SoftmaxAttrs(), INT16),
}
