"""Networks of uint8 as converters before int8 wrote them: .tflite files made of int8 ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from support.nets import Net
from support.tflite_edit import edit
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Activation
from tinsmith.pipeline.ops import window
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs

ACTIVATIONS = (Activation.NONE, Activation.RELU, Activation.RELU6)
MACS = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.TRANSPOSE_CONV,
}


def to_uint8(model: bytes, rng: np.random.Generator | None = None) -> bytes:
    """The file with every int8 tensor as the uint8 that lies 128 above.

    Scales per channel become one, since uint8 knows no others.
    rng: spreads weights over other zero points, so that some need 9 bits without theirs.
    """

    def change(unpacked: Any) -> None:
        sub = unpacked.subgraphs[0]
        codes = [c.builtinCode for c in unpacked.operatorCodes]
        macs = [o for o in sub.operators if codes[o.opcodeIndex] in MACS]
        weights = {o.inputs[1] for o in macs}
        for o in macs:
            used = [sub.tensors[i] for i in o.inputs if i >= 0]
            if codes[o.opcodeIndex] == schema.BuiltinOperator.TRANSPOSE_CONV:
                used = [used[2], used[1], *used[3:]]  # the first is the output's size
            _one_scale(*used)
        for code in unpacked.operatorCodes:
            code.version = 1
        for i, t in enumerate(sub.tensors):
            if t.type != schema.TensorType.INT8:
                continue
            t.type = schema.TensorType.UINT8
            zero = 128
            stored = unpacked.buffers[t.buffer]
            if stored.data is not None and len(stored.data):
                q = np.asarray(stored.data, np.uint8).view(np.int8).astype(np.int64)
                if rng is not None and i in weights:
                    zero = int(rng.choice([128, 120, 131, 151, 40, 255]))
                    q = np.clip(np.round(q * rng.choice([0.8, 1.0, 1.35])) + zero, 0, 255)
                else:
                    q = q + zero
                stored.data = q.astype(np.uint8)
            t.quantization.zeroPoint = np.asarray(t.quantization.zeroPoint, np.int64) + zero

    return edit(model, change)


def _one_scale(x: Any, weights: Any, *biases: Any) -> None:
    scale = np.float32(weights.quantization.scale[0])
    weights.quantization.scale, weights.quantization.zeroPoint = [scale], [0]
    for bias in biases:
        product = np.float32(x.quantization.scale[0]) * scale
        bias.quantization = schema.QuantizationParametersT(scale=[product], zeroPoint=[0])


def uint8_network(seed: int) -> bytes:
    """A random image network: convolutions of all kinds, pools, sums, and a dense end."""
    rng = np.random.default_rng(seed)
    net = Net("net", rng)
    side = int(rng.integers(5, 11))
    x = net.input((1, side, side, int(rng.choice([1, 3, 4, 8]))), 0.05, int(rng.integers(-128, 20)))
    for _ in range(int(rng.integers(2, 5))):
        x = GROWERS[int(rng.integers(len(GROWERS)))](net, x)
    if rng.random() < 0.5:
        x = net.node("mean", [x], ReduceAttrs((1, 2)))
    x = _dense(net, x)
    if rng.random() < 0.5:
        x = net.node("softmax", [x], SoftmaxAttrs(1.0))
    return to_uint8(to_tflite(net.graph([x])), rng)


def _activation(net: Net) -> Activation:
    return ACTIVATIONS[int(net.rng.integers(len(ACTIVATIONS)))]


def _conv(net: Net, x: str) -> str:
    c, out = net.shape(x)[3], int(net.rng.choice([3, 4, 8, 9, 16]))
    k, stride = int(net.rng.choice([1, 2, 3])), int(net.rng.choice([1, 1, 2]))
    image = net.shape(x)[1:3]
    pads = window.same_pads((image[0], image[1]), (k, k), (stride, stride), (1, 1))
    w = net.weights((out, k, k, c), x)
    inputs = [x, w, net.bias(w, x, out)] if net.rng.random() < 0.8 else [x, w]
    attrs = Conv2dAttrs((stride, stride), (1, 1), pads, _activation(net))
    return net.node("conv2d", inputs, attrs, saturate=0.02)


def _depthwise(net: Net, x: str) -> str:
    c, depth = net.shape(x)[3], int(net.rng.choice([1, 1, 1, 2]))
    k, stride = int(net.rng.choice([2, 3, 3, 5])), int(net.rng.choice([1, 1, 2]))
    image = net.shape(x)[1:3]
    pads = window.same_pads((image[0], image[1]), (k, k), (stride, stride), (1, 1))
    w = net.weights((1, k, k, c * depth), x, fan_in=k * k)
    attrs = DepthwiseConv2dAttrs((stride, stride), (1, 1), pads, _activation(net))
    return net.node("depthwise_conv2d", [x, w, net.bias(w, x, c * depth)], attrs, saturate=0.02)


def _pool(net: Net, x: str) -> str:
    k = int(net.rng.choice([2, 2, 3]))
    if min(net.shape(x)[1:3]) < k:
        return _conv(net, x)
    pads = window.same_pads((net.shape(x)[1], net.shape(x)[2]), (k, k), (2, 2), (1, 1))
    op = ("average_pool2d", "max_pool2d")[int(net.rng.integers(2))]
    return net.node(op, [x], Pool2dAttrs((k, k), (2, 2), pads, _activation(net)))


def _residual(net: Net, x: str) -> str:
    c = net.shape(x)[3]
    w = net.weights((c, 1, 1, c), x)
    y = net.node("conv2d", [x, w, net.bias(w, x, c)], Conv2dAttrs())
    return net.node("add", [x, y], AddAttrs(_activation(net)), saturate=0.02)


def _joined(net: Net, x: str) -> str:
    y = net.node("max_pool2d", [x], Pool2dAttrs((1, 1), (1, 1)))
    z = net.node("concatenation", [x, y], ConcatenationAttrs(3))
    return net.node("pad", [z], PadAttrs(((0, 0), (1, 0), (0, 1), (0, 0))))


GROWERS = (_conv, _conv, _depthwise, _depthwise, _pool, _residual, _joined)


def _dense(net: Net, x: str) -> str:
    size = int(np.prod(net.shape(x)))
    out = int(net.rng.choice([5, 8, 10]))
    w = net.weights((out, size), x)
    return net.node("fully_connected", [x, w, net.bias(w, x, out)], FullyConnectedAttrs())
