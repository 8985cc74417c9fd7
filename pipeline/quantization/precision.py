"""Mixed precision: a grid for each layer, so that all weights together fit a budget of bytes.

How much a layer minds few bits is measured: the network's outputs with that layer alone on a
coarser grid, the others in int8. Of all ways to stay in the budget that one is taken whose errors
add up to the least; the search is exact (a knapsack in which each layer takes one choice).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.graph import Graph, dequantize_array
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.numerics import quantize_array
from tinsmith.pipeline.quantization.calibrate import Samples, calibrate, check_samples
from tinsmith.pipeline.quantization.equalize import equalize
from tinsmith.pipeline.quantization.grids import WEIGHT_GRIDS, bytes_of
from tinsmith.pipeline.quantization.integer_graph import weight_slots
from tinsmith.pipeline.quantization.options import Progress, QuantizeOptions
from tinsmith.pipeline.quantization.quantize import (
    layer_grids,
    layers_with_weights,
    quantize,
    tensors_without_range,
)
from tinsmith.pipeline.quantization.separate import separate_scales

# The grids that a layer is given one of, finest first.
CHOICES = ("int8", "int4", "int2")

Outputs = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class PrecisionPlan:
    """layers: the grid of each, by node name. weight_bytes: of all their weights, packed; biases
    and scales, which are the same for every plan, do not count.

    errors: of the outputs where that layer alone is on that grid, beyond what int8 loses: the mean
    square in shares of that of the outputs. They are what the choice is made by.
    """

    layers: Mapping[str, str]
    weight_bytes: int
    errors: Mapping[str, Mapping[str, float]]


def plan_precision(
    graph: Graph,
    samples: Samples,
    options: QuantizeOptions,
    weight_bytes: int,
    progress: Progress | None = None,
) -> PrecisionPlan:
    """The grids of least error that put all weights into so many bytes.

    graph, samples, options: as `quantize` has them; layers that the options name, and the ends
    where they stay int8, have no choice. Rounding is to the nearest, whatever the options say of
    it. Raises ConfigError where the coarsest grids take more than that; it says how many bytes.
    """
    fixed = layer_grids(graph, options)
    names = layers_with_weights(graph)
    choices = {name: (fixed[name],) if name in fixed else CHOICES for name in names}
    weights = _counts(graph)
    least = sum(min(bytes_of(WEIGHT_GRIDS[g], weights[n]) for g in choices[n]) for n in names)
    if least > weight_bytes:
        raise ConfigError(
            f"weight_bytes = {weight_bytes} can't be met: with {CHOICES[-1]} wherever a layer is "
            f"free to choose, the weights take {least} bytes; allowed: at least {least}"
        )
    errors = _sensitivities(graph, samples, options, choices, progress)
    layers = cheapest(
        {
            name: {g: (bytes_of(WEIGHT_GRIDS[g], weights[name]), errors[name][g]) for g in grids}
            for name, grids in choices.items()
        },
        weight_bytes,
    )
    taken = sum(bytes_of(WEIGHT_GRIDS[grid], weights[name]) for name, grid in layers.items())
    return PrecisionPlan(layers, taken, errors)


def cheapest(choices: Mapping[str, Mapping[str, tuple[int, float]]], budget: int) -> dict[str, str]:
    """The choice of each name whose errors add up to the least within a budget of bytes.

    choices: (bytes, error) of each choice by name. Every name must have one, and the smallest
    together must fit. Of equal errors the smaller is taken.
    """
    sizes = np.zeros(1, np.int64)
    errors = np.zeros(1, np.float64)
    steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    left = sum(min(size for size, _ in options.values()) for options in choices.values())
    for options in choices.values():
        left -= min(size for size, _ in options.values())
        own = list(options.values())
        size = (sizes[:, None] + [s for s, _ in own]).ravel()
        error = (errors[:, None] + [e for _, e in own]).ravel()
        order = np.lexsort((error, size))
        order = order[size[order] + left <= budget]
        # What is larger than another without a lower error is never part of the best.
        lowest = np.minimum.accumulate(error[order])
        better = np.append(True, error[order][1:] < lowest[:-1])
        order = order[better]
        steps.append((order // len(own), order % len(own)))
        sizes, errors = size[order], error[order]
    place = int(np.argmin(errors))
    taken: dict[str, str] = {}
    for (name, options), (before, chosen) in zip(
        reversed(list(choices.items())), reversed(steps), strict=True
    ):
        taken[name] = list(options)[int(chosen[place])]
        place = int(before[place])
    return {name: taken[name] for name in choices}


def _counts(graph: Graph) -> dict[str, int]:
    """How many weights each layer has."""
    nodes = {node.name: node for node in graph.nodes}
    return {
        name: sum(graph.tensors[nodes[name].inputs[i]].size for i in weight_slots(nodes[name]))
        for name in layers_with_weights(graph)
    }


def _sensitivities(
    graph: Graph,
    samples: Samples,
    options: QuantizeOptions,
    choices: Mapping[str, Sequence[str]],
    progress: Progress | None,
) -> dict[str, dict[str, float]]:
    if options.equalize:
        graph = equalize(graph)
    checked = check_samples(graph, samples)
    wanted = tensors_without_range(graph)
    seen = calibrate(separate_scales(graph), checked, options.observer, options.percentile)
    ranges = {name: seen[name] for name in wanted} | dict(options.ranges)
    base = replace(
        options, equalize=False, correct_biases=False, rounding="nearest", ranges=ranges,
        layers=dict.fromkeys(choices, "int8"), int8_ends=False, float_io=False,
    )  # fmt: skip
    true = run_samples(graph, checked)
    least = _error(graph, checked, base, true)
    found: dict[str, dict[str, float]] = {}
    for done, (name, grids) in enumerate(choices.items(), 1):
        found[name] = {
            grid: max(0.0, _error(graph, checked, _on_grid(base, name, grid), true) - least)
            if len(grids) > 1 and grid != "int8"
            else 0.0
            for grid in grids
        }
        if progress is not None:
            progress(f"layer {done}/{len(choices)} '{name}' on few bits", done / len(choices))
    return found


def _on_grid(options: QuantizeOptions, name: str, grid: str) -> QuantizeOptions:
    return replace(options, layers={**options.layers, name: grid})


def _error(graph: Graph, samples: Samples, options: QuantizeOptions, true: Outputs) -> float:
    """The mean square error of the integer graph's outputs, in shares of their mean square."""
    integers = quantize(graph, None, options)
    feeds = {}
    for name, x in samples.items():
        t = integers.tensors[name]
        feeds[name] = x if t.quant is None else quantize_array(x, t.quant, t.dtype)
    total = 0.0
    for name, y, wanted in zip(integers.outputs, run_samples(integers, feeds), true, strict=True):
        quant = integers.tensors[name].quant
        real = y if quant is None else dequantize_array(y, quant)
        power = float(np.square(wanted, dtype=np.float64).mean())
        total += float(np.square(real - wanted, dtype=np.float64).mean()) / max(power, 1e-30)
    return total / len(true)
