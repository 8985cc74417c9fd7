"""Quantization-aware training whose forward pass is the integer arithmetic itself.

In each step the float weights and the ranges become integers exactly as they will in the end
(`quantize`), the interpreter runs that integer graph on the batch, and every value that the network
sees is what the device will compute. Backwards, each rounding counts as the identity inside its
range (straight-through, Bengio et al. 2013), and the ends of the ranges learn by
    "lsq"   the gradient of the step: Esser et al., Learned Step Size Quantization, ICLR 2020
    "pact"  the gradient of the clip: Choi et al., PACT, 2018
    "fixed" nothing; they stay those of the calibration.
So there is nothing to convert afterwards, and no difference between training and device to explain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Activation, Graph, Node, dequantize_array, rebuild
from tinsmith.pipeline.interpreter import run, with_batch
from tinsmith.pipeline.model_files import to_input
from tinsmith.pipeline.quantization import QuantizeOptions, calibrate, check_samples, quantize
from tinsmith.pipeline.quantization.calibrate import Samples
from tinsmith.pipeline.quantization.equalize import equalize
from tinsmith.pipeline.quantization.parameters import LAYERS
from tinsmith.pipeline.quantization.quantize import tensors_without_range
from tinsmith.pipeline.quantization.ranges import asymmetric, shared_groups
from tinsmith.pipeline.quantization.separate import separate_scales

Ranges = Literal["lsq", "pact", "fixed"]


class IntegerNetwork(nn.Module):
    """A float graph as a module that is trained in its integer form.

    graph: float, after FLOAT_PASSES, of one input [1, H, W, C] and one output [1, classes].
    samples: for the first ranges. Called with images [N, C, H, W], as every network here is; gives
    the outputs [N, classes], each an integer times its scale. Raises UnsupportedModel with every
    op that has no gradient here.
    """

    def __init__(
        self, graph: Graph, samples: Samples, options: QuantizeOptions, learn: Ranges = "lsq"
    ) -> None:
        super().__init__()
        _check(graph)
        self.learn = learn
        # Training goes on from equalized weights, and takes care of the biases by itself.
        self.options = replace(options, equalize=False, correct_biases=False)
        self.graph = separate_scales(equalize(graph) if options.equalize else graph)
        constants = [
            name
            for node in self.graph.nodes
            if node.op in LAYERS
            for name in node.inputs[1:]
            if name
        ]
        self.names = tuple(dict.fromkeys(constants))
        self.constants = nn.ParameterList(
            torch.from_numpy(self.graph.tensors[name].value().copy()) for name in self.names
        )
        groups = shared_groups(self.graph)
        self.roots = {name: groups.root(name) for name in tensors_without_range(self.graph)}
        checked = check_samples(self.graph, samples)
        seen = calibrate(self.graph, checked, options.observer, options.percentile)
        ends = {
            root: [f(seen[n][i] for n in self.roots if self.roots[n] == root) for i, f in _ENDS]
            for root in dict.fromkeys(self.roots.values())
        }
        self.places = {root: place for place, root in enumerate(ends)}
        # The inputs' ranges are those of the sensor, and no training changes it.
        self.given = {groups.root(name) for name in self.graph.inputs}
        self.ranges = nn.Parameter(
            torch.tensor(list(ends.values()), dtype=torch.float32), requires_grad=learn != "fixed"
        )

    def float_graph(self) -> Graph:
        """The float graph with the weights as they are now."""
        tensors = self.graph.tensors
        now = (
            replace(tensors[name], data=constant.detach().numpy().copy())
            for name, constant in zip(self.names, self.constants, strict=True)
        )
        return rebuild(self.graph, tensors=now)

    def integer_graph(self) -> Graph:
        """The integer graph as it is now: what is exported, and what the forward pass computes."""
        ends = self.ranges.detach().double().numpy()
        ranges = {
            name: (float(min(ends[place][0], 0.0)), float(max(ends[place][1], 0.0)))
            for name, root in self.roots.items()
            for place in [self.places[root]]
        }
        return quantize(self.float_graph(), None, replace(self.options, ranges=ranges))

    def forward(self, x: Tensor) -> Tensor:
        integers = self.integer_graph()
        exact = self._exact(integers, x)
        graph = _batched(self.graph, len(x))
        values: dict[str, Tensor] = {graph.inputs[0]: x.permute(0, 2, 3, 1)}
        values |= zip(self.names, self.constants, strict=True)
        for name in self.names:
            values[name] = _as(values[name], exact.get(name))
        for name in graph.inputs:
            values[name] = self._rounded(name, values[name], integers, exact)
        for node in graph.nodes:
            inputs = [
                None if not name else values[name] if name in values else _constant(graph, name)
                for name in node.inputs
            ]
            name = node.outputs[0]
            y = _OPS[node.op](node, inputs).reshape(graph.tensors[name].shape)
            values[name] = self._rounded(name, y, integers, exact)
        return values[graph.outputs[0]].flatten(1)

    def _exact(self, integers: Graph, x: Tensor) -> dict[str, Tensor]:
        """What the integer graph computes of a batch, and its constants, as real values."""
        entry = integers.tensors[integers.inputs[0]]
        images = x.detach().permute(0, 2, 3, 1).numpy()
        q = to_input(images, entry, "the batch")
        wide = _batched(integers, len(x))
        computed, _ = run(wide, {entry.name: q.reshape(wide.tensors[entry.name].shape)})
        constants = {n: t.value() for n, t in integers.tensors.items() if t.is_constant}
        return {
            name: torch.from_numpy(dequantize_array(value, quant))
            for name, value in (constants | computed).items()
            if (quant := integers.tensors[name].quant) is not None
        }

    def _rounded(
        self, name: str, y: Tensor, integers: Graph, exact: Mapping[str, Tensor]
    ) -> Tensor:
        """The exact value of a tensor, with the gradient of a rounding to its range."""
        root = self.roots.get(name)
        if root is None:  # its scale is fixed by its op
            return _as(y, exact.get(name))
        ends = self.ranges[self.places[root]]
        low, high = ends.detach() if root in self.given else ends
        shape = _pact if self.learn == "pact" else _lsq
        shaped = shape(y, low, high, self.options.wide)
        return _as(shaped, exact.get(name))


_ENDS: Sequence[tuple[int, Callable[..., float]]] = ((0, min), (1, max))


def _check(graph: Graph) -> None:
    reasons = [
        f"{node.op} '{node.name}': its gradient is not known here; allowed: {', '.join(_OPS)}"
        for node in graph.nodes
        if node.op not in _OPS
    ]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or graph.state:
        reasons.append("one input, one output and no state are needed")
    if reasons:
        raise UnsupportedModel(
            "this network can't be trained in integers:\n  " + "\n  ".join(reasons)
        )


def _batched(graph: Graph, count: int) -> Graph:
    if count == 1:
        return graph
    wide = with_batch(graph, count)
    assert wide is not None, "every op here treats samples apart"
    return wide


def _constant(graph: Graph, name: str) -> Tensor:
    return torch.from_numpy(graph.tensors[name].value().copy())


def _as(y: Tensor, exact: Tensor | None) -> Tensor:
    """The value of `exact`, the gradient of `y`."""
    if exact is None:
        return y
    return y + (exact.reshape(y.shape) - y).detach()


def _lsq(y: Tensor, low: Tensor, high: Tensor, wide: bool) -> Tensor:
    """y rounded to a step that learns: inside the range by how far rounding moves, outside by
    where the range ends; scaled by 1 / sqrt(values * largest integer) as in the paper.

    wide: int16, whose range is symmetric.
    """
    least, most = (-32767, 32767) if wide else (-128, 127)
    span = 2 * _reach(low, high) if wide else high.clamp_min(0) - low.clamp_max(0)
    step = span / (most - least)
    factor = 1 / (y.numel() * most) ** 0.5
    step = (step * factor + (step - step * factor).detach()).clamp_min(1e-12)
    zero = 0 if wide else asymmetric(float(low.detach()), float(high.detach())).zero_point[0]
    real = y / step
    q = (real + (real.round() - real).detach() + zero).clamp(least, most)
    rounded: Tensor = (q - zero) * step
    return rounded


def _pact(y: Tensor, low: Tensor, high: Tensor, wide: bool) -> Tensor:
    """y clipped to a range whose ends learn from what lies beyond them."""
    if wide:
        reach = _reach(low, high)
        return torch.minimum(torch.maximum(y, -reach), reach)
    return torch.minimum(torch.maximum(y, low.clamp_max(0)), high.clamp_min(0))


def _reach(low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(-low.clamp_max(0), high.clamp_min(0))


def _activated(node: Node, y: Tensor) -> Tensor:
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
    return _activated(node, y).permute(0, 2, 3, 1)


def _fully_connected(node: Node, inputs: Inputs) -> Tensor:
    x, w, bias = _operands(inputs)
    return _activated(node, F.linear(x.reshape(-1, w.shape[1]), w, bias))


def _operands(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None]:
    x, w, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    assert x is not None
    assert w is not None
    return x, w, None if bias is None else bias.reshape(-1)


def _max_pool(node: Node, inputs: Inputs) -> Tensor:
    a = node.attrs
    assert inputs[0] is not None
    x = _windowed(inputs[0], a.pads, float("-inf"))
    return _activated(node, F.max_pool2d(x, a.kernel, a.stride)).permute(0, 2, 3, 1)


def _average_pool(node: Node, inputs: Inputs) -> Tensor:
    """Borders don't count in the mean."""
    a, x = node.attrs, inputs[0]
    assert x is not None
    sums, counts = (
        F.avg_pool2d(_windowed(t, a.pads), a.kernel, a.stride)
        for t in (x, torch.ones(1, *x.shape[1:3], 1))
    )
    return _activated(node, sums / counts).permute(0, 2, 3, 1)


def _add(node: Node, inputs: Inputs) -> Tensor:
    assert inputs[0] is not None
    assert inputs[1] is not None
    return _activated(node, inputs[0] + inputs[1])


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


# The gradients that are known; outputs are reshaped to what the graph says.
_OPS: Mapping[str, Callable[[Node, Inputs], Tensor]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "fully_connected": _fully_connected,
    "max_pool2d": _max_pool,
    "average_pool2d": _average_pool,
    "mean": _mean,
    "add": _add,
    "pad": _pad,
    "relu": _unary(F.relu),
    "relu6": _unary(F.relu6),
    "reshape": _unary(lambda x: x),
    "quantize": _unary(lambda x: x),
}
