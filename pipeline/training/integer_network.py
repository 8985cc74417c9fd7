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

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Graph, Node, dequantize_array, rebuild
from tinsmith.pipeline.interpreter import run, with_batch
from tinsmith.pipeline.model_files import to_input
from tinsmith.pipeline.quantization import (
    QuantizeOptions,
    calibrate,
    check_samples,
    quantize,
    recurrent,
)
from tinsmith.pipeline.quantization.calibrate import Samples
from tinsmith.pipeline.quantization.equalize import equalize
from tinsmith.pipeline.quantization.integer_graph import parameter_slots
from tinsmith.pipeline.quantization.quantize import tensors_without_range
from tinsmith.pipeline.quantization.ranges import asymmetric, even, shared_groups, symmetric
from tinsmith.pipeline.quantization.separate import separate_scales
from tinsmith.pipeline.training.graph_ops import TORCH_OPS, Inputs, unrolled_lstm
from tinsmith.pipeline.training.heads import Outputs, as_outputs

Ranges = Literal["lsq", "pact", "fixed"]


class IntegerNetwork(nn.Module):
    """A float graph as a module that is trained in its integer form.

    graph: float, after FLOAT_PASSES, of one input [1, ...] and outputs [1, classes], one for each
    task. samples: for the first ranges. Called with samples [N, ...] as every network here is,
    whose axes in this order are those of the graph's input; gives outputs [N, classes] as such a
    network does, each an integer times its scale. Raises UnsupportedModel with every op that has no
    gradient here.
    """

    def __init__(
        self,
        graph: Graph,
        samples: Samples,
        options: QuantizeOptions,
        learn: Ranges = "lsq",
        axes: Sequence[int] = (0, 2, 3, 1),
    ) -> None:
        super().__init__()
        self.axes = tuple(axes)
        _check(graph)
        self.learn = learn
        # Training goes on from equalized weights, and takes care of biases and rounding by itself.
        self.options = replace(options, equalize=False, correct_biases=False, rounding="nearest")
        self.graph = separate_scales(equalize(graph) if options.equalize else graph)
        constants = [
            node.inputs[i]
            for node in self.graph.nodes
            for i in sorted(parameter_slots(node))
            if i < len(node.inputs) and node.inputs[i]
        ]
        self.names = tuple(dict.fromkeys(constants))
        self.constants = nn.ParameterList(
            torch.from_numpy(self.graph.tensors[name].value().copy()) for name in self.names
        )
        groups = shared_groups(self.graph)
        recurrent.join_hidden(self.graph, groups)
        self.roots = {name: groups.root(name) for name in tensors_without_range(self.graph)}
        checked = check_samples(self.graph, samples)
        seen = calibrate(self.graph, checked, options.observer, options.percentile)
        seen |= options.ranges
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

    def forward(self, x: Tensor) -> Outputs:
        integers = self.integer_graph()
        exact = self._exact(integers, x)
        graph = _batched(self.graph, len(x))
        values: dict[str, Tensor] = {graph.inputs[0]: x.permute(self.axes)}
        values |= zip(self.names, self.constants, strict=True)
        for name in self.names:
            values[name] = _as(values[name], exact.get(name))
        for name in graph.inputs:
            values[name] = self._rounded(name, values[name], exact.get(name))
        for node in graph.nodes:
            inputs = [
                None if not name else values[name] if name in values else _constant(graph, name)
                for name in node.inputs
            ]
            if node.op == recurrent.LSTM:
                values |= self._recurrent(node, inputs, exact)
                continue
            name = node.outputs[0]
            y = TORCH_OPS[node.op](node, inputs).reshape(graph.tensors[name].shape)
            values[name] = self._rounded(name, y, exact.get(name))
        return as_outputs(values[name].flatten(1) for name in graph.outputs)

    def _exact(self, integers: Graph, x: Tensor) -> dict[str, Tensor]:
        """What the integer graph computes of a batch, and its constants, as real values."""
        entry = integers.tensors[integers.inputs[0]]
        values = x.detach().permute(self.axes).numpy()
        q = to_input(values, entry, "the batch")
        wide = _batched(integers, len(x))
        computed, _ = run(wide, {entry.name: q.reshape(wide.tensors[entry.name].shape)})
        constants = {n: t.value() for n, t in integers.tensors.items() if t.is_constant}
        return {
            name: torch.from_numpy(dequantize_array(value, quant))
            for name, value in (constants | computed).items()
            if (quant := integers.tensors[name].quant) is not None
        }

    def _recurrent(
        self, node: Node, inputs: Inputs, exact: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The outputs of an LSTM, each of whose steps goes on from the exact hidden state."""
        states, hidden, cell = node.outputs
        known = exact[states]

        def settled(step: int, h: Tensor) -> Tensor:
            return self._rounded(states, h, known[:, step], known.numel())

        y, h, c = unrolled_lstm(node, inputs, settled)
        return {states: y, hidden: h, cell: _as(c, exact.get(cell))}

    def _rounded(self, name: str, y: Tensor, exact: Tensor | None, count: int = 0) -> Tensor:
        """The exact value of a tensor, with the gradient of a rounding to its range.

        count: the values of the tensor, where y is a part of it.
        """
        root = self.roots.get(name)
        if root is None:  # its scale is fixed by its op
            return _as(y, exact)
        ends = self.ranges[self.places[root]]
        low, high = ends.detach() if root in self.given else ends
        if self.options.symmetric and root not in self.given:
            high = _reach(low, high)
            low = even(0.0, 1.0)[0] * high
        if self.options.power_of_two:
            low, high = _widened(low, high, self.options.wide)
        if self.learn == "pact":
            return _as(_pact(y, low, high, self.options.wide), exact)
        return _as(_lsq(y, low, high, self.options.wide, count or y.numel()), exact)


_ENDS: Sequence[tuple[int, Callable[..., float]]] = ((0, min), (1, max))


def _check(graph: Graph) -> None:
    known = (*TORCH_OPS, recurrent.LSTM)
    reasons = [
        f"{node.op} '{node.name}': its gradient is not known here; allowed: {', '.join(known)}"
        for node in graph.nodes
        if node.op not in known
    ]
    if len(graph.inputs) != 1 or graph.state:
        reasons.append("one input and no state are needed")
    elif not reasons and with_batch(graph, 2) is None:
        reasons.append(
            "its samples can't run side by side: the first axis of every tensor, and of what an "
            "LSTM reads, has to be theirs (batch_first = True)"
        )
    if reasons:
        raise UnsupportedModel(
            "this network can't be trained in integers:\n  " + "\n  ".join(reasons)
        )


def _batched(graph: Graph, count: int) -> Graph:
    if count == 1:
        return graph
    wide = with_batch(graph, count)
    assert wide is not None, "it was checked"
    return wide


def _constant(graph: Graph, name: str) -> Tensor:
    return torch.from_numpy(graph.tensors[name].value().copy())


def _as(y: Tensor, exact: Tensor | None) -> Tensor:
    """The value of `exact`, the gradient of `y`."""
    if exact is None:
        return y
    return y + (exact.reshape(y.shape) - y).detach()


def _lsq(y: Tensor, low: Tensor, high: Tensor, wide: bool, count: int) -> Tensor:
    """y rounded to a step that learns: inside the range by how far rounding moves, outside by
    where the range ends; scaled by 1 / sqrt(count * largest integer) as in the paper.

    count: the values of the tensor, of which y may be a part. wide: int16, with a symmetric range.
    """
    least, most = (-32767, 32767) if wide else (-128, 127)
    span = 2 * _reach(low, high) if wide else high.clamp_min(0) - low.clamp_max(0)
    step = span / (most - least)
    factor = 1 / (count * most) ** 0.5
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


def _widened(low: Tensor, high: Tensor, wide: bool) -> tuple[Tensor, Tensor]:
    """The range that a step of a power of two has, with the gradient of the ends as they are."""
    made = symmetric if wide else asymmetric
    ends = float(low.detach()), float(high.detach())
    factor = made(*ends, power_of_two=True).scale[0] / made(*ends).scale[0]
    return low * factor, high * factor


def _reach(low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(-low.clamp_max(0), high.clamp_min(0))
