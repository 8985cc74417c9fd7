"""AdaRound (Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020).

Layer by layer, each weight learns whether it is rounded down or up, so that the layer, on what the
quantized layers before it give, comes as near as it can to what the float layer gives:
    w = s clip(floor(w / s) + h(V), low, high)    h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)
    |f(W x) - f(w x')|^2 / E0 + lambda mean(1 - |2 h(V) - 1|^beta)
f is the fused activation, x the float input and x' the quantized one, E0 the error of rounding to
the nearest, which takes the unit out of lambda. beta falls, so that first the outputs decide and
then every h(V) goes to 0 or 1. In the end nothing is left of it but integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Array, Graph, Node, dequantize_array, rebuild
from tinsmith.pipeline.interpreter import run_node, with_batch
from tinsmith.pipeline.numerics import quantize_array
from tinsmith.pipeline.quantization.calibrate import Samples
from tinsmith.pipeline.quantization.grids import WeightGrid
from tinsmith.pipeline.quantization.options import Progress, QuantizeOptions
from tinsmith.pipeline.quantization.parameters import LAYERS
from tinsmith.pipeline.training.graph_ops import activated

CHUNK = 32  # samples that run at once
ROWS = 8192  # rows of outputs that a layer learns from
STEPS = 1000
BATCH = 512  # rows in a step
RATE = 1e-2
LAMBDA = 0.5
BETA = (20.0, 2.0)
WARM_UP = 0.2  # share of the steps in which the outputs alone decide


@dataclass(frozen=True, eq=False)
class _Problem:
    """What a layer shall give, and of what.

    windows: [rows, groups, taps]. wanted: [rows, channels]. weights: float in steps of their scale,
    [groups, channels / groups, taps]; scales: of each, [groups, channels / groups, 1].
    """

    windows: Tensor
    wanted: Tensor
    weights: Tensor
    scales: Tensor
    bias: Tensor
    activate: Callable[[Tensor], Tensor]
    grid: WeightGrid

    def error(self, integers: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """The mean square of what is missing, for integers that need not be whole."""
        clipped = integers.clamp(self.grid.low, self.grid.high)
        y = torch.einsum("rgk,gok->rgo", self.windows[rows], clipped * self.scales)
        y = self.activate(y.flatten(1) + self.bias)
        return (y - self.wanted[rows]).square().mean()


def learn_rounding(
    quantized: Graph,
    original: Graph,
    samples: Samples,
    options: QuantizeOptions,
    progress: Progress | None = None,
) -> Graph:
    """The integer graph with the weights of its layers rounded as they serve the layers' outputs.

    original: the float graph, of the same nodes. samples: as check_samples gives them. What has
    weights but is not a convolution or fully connected stays rounded to the nearest, and so do
    weights that several layers share. Raises UnsupportedModel where samples can't run side by side.
    """
    count = len(next(iter(samples.values())))
    runs = [_Run(g, samples, count) for g in (quantized, original)]
    generator = torch.Generator().manual_seed(options.seed)
    layers = [node.name for node in quantized.nodes if _learns(quantized, original, node)]
    for node, before in zip(quantized.nodes, original.nodes, strict=True):
        assert node.name == before.name
        runs[1].step(before)
        if node.name in layers:
            rule = options.rule_of(node.name)
            problem = _problem(node, before, runs[0], runs[1], rule.grid, generator)
            integers, share = _solve(problem, generator)
            runs[0].change(node.inputs[1], _to_layout(node, integers, runs[0].graph))
            if progress is not None:
                done = layers.index(node.name) + 1
                progress(
                    f"rounding layer {done}/{len(layers)} '{node.name}': "
                    f"{100 * share:.0f} % of the error of the nearest",
                    done / len(layers),
                )
        runs[0].step(node)
        for run in runs:
            run.forget(node)
    return runs[0].graph


class _Run:
    """A graph run over all samples, node by node; tensors are kept while somebody reads them."""

    def __init__(self, graph: Graph, samples: Samples, count: int) -> None:
        self.graph = graph
        self.sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
        self.values: dict[str, list[Array]] = {}
        for name in graph.inputs:
            t = graph.tensors[name]
            x = samples[name]
            if t.quant is not None and t.dtype.is_integer:
                x = quantize_array(x, t.quant, t.dtype)
            parts = np.split(x, np.cumsum(self.sizes)[:-1])
            self.values[name] = [p.reshape(-1, *t.shape[1:]) for p in parts]
        self.wide = self._widened()

    def _widened(self) -> dict[int, Graph]:
        wide = {}
        for size in set(self.sizes):
            graph = self.graph if size == 1 else with_batch(self.graph, size)
            if graph is None:
                raise UnsupportedModel(
                    "rounding 'adaround' needs a network without state whose samples can run side "
                    "by side; allowed for this one: rounding 'nearest'"
                )
            wide[size] = graph
        return wide

    def change(self, name: str, integers: Array) -> None:
        """Give a constant other integers."""
        tensor = replace(self.graph.tensors[name], data=integers)
        self.graph = rebuild(self.graph, tensors=[tensor])
        self.wide = self._widened()

    def step(self, node: Node) -> None:
        for i, size in enumerate(self.sizes):
            graph = self.wide[size]
            wide = next(n for n in graph.nodes if n.name == node.name)
            known = {n: self.values[n][i] for n in node.inputs if n in self.values}
            for name, value in zip(node.outputs, run_node(graph, wide, known), strict=True):
                self.values.setdefault(name, []).append(value)

    def forget(self, node: Node) -> None:
        """Drop what nobody reads after this node."""
        nodes = self.graph.nodes
        place = next(i for i, n in enumerate(nodes) if n.name == node.name)
        ahead = {name for n in nodes[place + 1 :] for name in n.inputs}
        self.values = {k: v for k, v in self.values.items() if k in ahead}

    def reals(self, name: str) -> Iterator[Tensor]:
        """The real values of a tensor, chunk by chunk."""
        quant = self.graph.tensors[name].quant
        for value in self.values[name]:
            if quant is not None and value.dtype.kind == "i":
                yield torch.from_numpy(dequantize_array(value, quant))
            else:
                yield torch.from_numpy(value)


def _learns(quantized: Graph, original: Graph, node: Node) -> bool:
    """Whether a node is a layer with weights of its own."""
    if node.op not in LAYERS:
        return False
    before = next(n for n in original.nodes if n.name == node.name)
    true, weights = original.tensors[before.inputs[1]], quantized.tensors[node.inputs[1]]
    alone = len(quantized.consumers(weights.name)) == 1
    return alone and true.is_constant and true.shape == weights.shape


def _problem(
    node: Node, before: Node, run: _Run, true: _Run, grid: WeightGrid, generator: torch.Generator
) -> _Problem:
    weights, bias = (run.graph.tensors[name] for name in node.inputs[1:3])
    assert weights.quant is not None
    assert bias.quant is not None
    w = torch.from_numpy(true.graph.tensors[before.inputs[1]].value().copy())
    axis = weights.quant.axis
    shape = [1] * w.ndim
    if axis is not None:
        shape[axis] = -1
    scales = torch.from_numpy(weights.quant.scales).reshape(shape).expand(w.shape)
    groups = _groups(node, run)
    share = max(1, -(-ROWS // sum(run.sizes)))
    windows, wanted = [], []
    pairs = zip(run.reals(node.inputs[0]), true.reals(before.outputs[0]), strict=True)
    for x, y in pairs:
        seen = _windows(node, x, w.shape, groups)
        chosen = torch.randperm(len(seen), generator=generator)[: share * len(x)]
        windows.append(seen[chosen])
        wanted.append(y.reshape(-1, y.shape[-1])[chosen])
    return _Problem(
        torch.cat(windows),
        torch.cat(wanted),
        _from_layout(node, w / scales, groups),
        _from_layout(node, scales, groups)[..., :1],
        torch.from_numpy(dequantize_array(bias.value(), bias.quant)).reshape(-1),
        lambda y: activated(node, y),
        grid,
    )


def _groups(node: Node, run: _Run) -> int:
    if node.op == "fully_connected":
        return 1
    channels = run.graph.tensors[node.inputs[0]].shape[3]
    if node.op == "depthwise_conv2d":
        return channels
    return channels // run.graph.tensors[node.inputs[1]].shape[3]


def _windows(node: Node, x: Tensor, weights: torch.Size, groups: int) -> Tensor:
    """What each row of outputs is made of: [rows, groups, taps], taps by channel, row, column."""
    if node.op == "fully_connected":
        return x.reshape(-1, 1, weights[1])
    a = node.attrs
    top, bottom, left, right = a.pads
    padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    columns = F.unfold(padded, (weights[1], weights[2]), a.dilation, 0, a.stride)
    rows = columns.transpose(1, 2).reshape(-1, groups, columns.shape[1] // groups)
    return rows


def _from_layout(node: Node, w: Tensor, groups: int) -> Tensor:
    """[groups, channels / groups, taps] of a layer's weights."""
    if node.op == "fully_connected":
        return w.unsqueeze(0)
    order = (3, 0, 1, 2) if node.op == "depthwise_conv2d" else (0, 3, 1, 2)
    rows = w.permute(order)
    return rows.reshape(groups, rows.shape[0] // groups, -1)


def _to_layout(node: Node, integers: Tensor, graph: Graph) -> Array:
    """The other way."""
    shape = graph.tensors[node.inputs[1]].shape
    if node.op == "depthwise_conv2d":
        back = integers.reshape(shape[3], 1, *shape[1:3]).permute(1, 2, 3, 0)
    elif node.op == "conv2d":
        back = integers.reshape(shape[0], shape[3], *shape[1:3]).permute(0, 2, 3, 1)
    else:
        back = integers
    return np.ascontiguousarray(back.reshape(shape).numpy()).astype(np.int8)


def _solve(problem: _Problem, generator: torch.Generator) -> tuple[Tensor, float]:
    """Integers of least error, and their error in shares of that of the nearest; those are kept
    where nothing better is found."""
    low, high = problem.grid.low, problem.grid.high
    nearest = problem.weights.round().clamp(low, high)
    floor = problem.weights.floor()
    unit = float(problem.error(nearest))
    if unit == 0:
        return nearest, 1.0
    v = -torch.log(1.2 / (problem.weights - floor + 0.1) - 1)
    v.requires_grad_(True)
    optimizer = torch.optim.Adam([v], lr=RATE)
    for step in range(STEPS):
        rows = torch.randint(len(problem.windows), (BATCH,), generator=generator)
        h = _rectified(v)
        loss = problem.error(floor + h, rows) / unit
        place = (step / STEPS - WARM_UP) / (1 - WARM_UP)
        if place >= 0:
            beta = BETA[1] + (BETA[0] - BETA[1]) * (1 - place)
            loss = loss + LAMBDA * (1 - (2 * h - 1).abs().pow(beta)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        learned = (floor + (_rectified(v) >= 0.5)).clamp(low, high)
        share = float(problem.error(learned)) / unit
    return (learned, share) if share < 1 else (nearest, 1.0)


def _rectified(v: Tensor) -> Tensor:
    """h(V): a sigmoid stretched over both ends, so that 0 and 1 are reached."""
    return (1.2 * torch.sigmoid(v) - 0.1).clamp(0, 1)
