"""The ops of a float graph in torch, so that gradients pass through them. Tensors are NHWC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tinsmith.pipeline.graph import Activation, Node
from tinsmith.pipeline.ops import lstm


def activated(node: Node, y: Tensor) -> Tensor:
    """The activation that is fused into a node, of what the node computes without it."""
    activation = node.attrs.activation
    if activation is Activation.NONE:
        return y
    if activation is Activation.RELU:
        return F.relu(y)
    return y.clamp(0, 6) if activation is Activation.RELU6 else y.clamp(-1, 1)


Inputs = Sequence[Tensor | None]


def _windowed(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """NHWC as NCHW, with its borders."""
    top, bottom, left, right = pads
    return F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom), value=value)


def _conv2d(node: Node, inputs: Inputs) -> Tensor:
    x, w, _ = _operands(inputs)
    return _convolution(node, inputs, w.permute(0, 3, 1, 2), x.shape[3] // w.shape[3])


def _depthwise(node: Node, inputs: Inputs) -> Tensor:
    x, w, _ = _operands(inputs)
    return _convolution(node, inputs, w.permute(3, 0, 1, 2), x.shape[3])


def _convolution(node: Node, inputs: Inputs, weights: Tensor, groups: int) -> Tensor:
    """weights: as torch has them, [out, in / groups, kh, kw]."""
    x, _, bias = _operands(inputs)
    a = node.attrs
    y = F.conv2d(_windowed(x, a.pads), weights, bias, a.stride, dilation=a.dilation, groups=groups)
    return activated(node, y).permute(0, 2, 3, 1)


def _fully_connected(node: Node, inputs: Inputs) -> Tensor:
    x, w, bias = _operands(inputs)
    return activated(node, F.linear(x.reshape(-1, w.shape[1]), w, bias))


def _operands(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None]:
    x, w, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    assert x is not None
    assert w is not None
    return x, w, None if bias is None else bias.reshape(-1)


def _max_pool(node: Node, inputs: Inputs) -> Tensor:
    a = node.attrs
    assert inputs[0] is not None
    x = _windowed(inputs[0], a.pads, float("-inf"))
    return activated(node, F.max_pool2d(x, a.kernel, a.stride)).permute(0, 2, 3, 1)


def _average_pool(node: Node, inputs: Inputs) -> Tensor:
    """Borders don't count in the mean."""
    a, x = node.attrs, inputs[0]
    assert x is not None
    sums, counts = (
        F.avg_pool2d(_windowed(t, a.pads), a.kernel, a.stride)
        for t in (x, torch.ones(1, *x.shape[1:3], 1))
    )
    return activated(node, sums / counts).permute(0, 2, 3, 1)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Node, Inputs], Tensor]:
    def of(node: Node, inputs: Inputs) -> Tensor:
        assert inputs[0] is not None
        assert inputs[1] is not None
        return activated(node, function(inputs[0], inputs[1]))

    return of


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Node, Inputs], Tensor]:
    def of(node: Node, inputs: Inputs) -> Tensor:
        assert inputs[0] is not None
        return function(inputs[0])

    return of


def _mean(node: Node, inputs: Inputs) -> Tensor:
    assert inputs[0] is not None
    return inputs[0].mean(node.attrs.axes)


def _pad(node: Node, inputs: Inputs) -> Tensor:
    assert inputs[0] is not None
    flat = [n for pair in reversed(node.attrs.pads) for n in pair]
    return F.pad(inputs[0], flat, value=node.attrs.value)


def _slice(node: Node, inputs: Inputs) -> Tensor:
    assert inputs[0] is not None
    y, a = inputs[0], node.attrs
    for axis, (first, size, step) in enumerate(zip(a.begin, a.size, a.steps, strict=True)):
        y = y.index_select(axis, first + step * torch.arange(size))
    return y


def _concatenation(node: Node, inputs: Inputs) -> Tensor:
    return torch.cat([x for x in inputs if x is not None], node.attrs.axis)


def _transpose(node: Node, inputs: Inputs) -> Tensor:
    assert inputs[0] is not None
    return inputs[0].permute(node.attrs.perm)


def unrolled_lstm(
    node: Node, inputs: Inputs, settle: Callable[[int, Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM step by step: its hidden states [N, time, units], the last one, the last cell state.

    settle: of a step and its hidden state [N, units], what the next step is given. It lets the
    layer go the way of its integers, whose hidden states are known.
    """
    whole = [x for x in inputs if x is not None]
    assert len(whole) == lstm.CELL + 1
    x, h, c = whole[0], whole[lstm.HIDDEN], whole[lstm.CELL]
    weights, recurrent, bias = (
        torch.cat([whole[i] for i in indices])
        for indices in (lstm.INPUT_WEIGHTS, lstm.RECURRENT_WEIGHTS, lstm.BIASES)
    )
    sums, clip = F.linear(x, weights, bias), node.attrs.cell_clip
    states = []
    for step in range(x.shape[1]):
        gates = sums[:, step] + F.linear(h, recurrent)
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        c = c.clamp(-clip, clip) if clip else c
        h = settle(step, torch.sigmoid(o) * torch.tanh(c))
        states.append(h)
    return torch.stack(states, 1), h, c


# The gradients that are known, beside that of an LSTM; outputs are reshaped to what the graph says.
TORCH_OPS: Mapping[str, Callable[[Node, Inputs], Tensor]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "fully_connected": _fully_connected,
    "max_pool2d": _max_pool,
    "average_pool2d": _average_pool,
    "mean": _mean,
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "pad": _pad,
    "slice": _slice,
    "concatenation": _concatenation,
    "transpose": _transpose,
    "logistic": _unary(torch.sigmoid),
    "tanh": _unary(torch.tanh),
    "hard_swish": _unary(F.hardswish),
    "relu": _unary(F.relu),
    "relu6": _unary(F.relu6),
    "reshape": _unary(lambda x: x),
    "quantize": _unary(lambda x: x),
}
