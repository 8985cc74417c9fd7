"""How much each layer minds being compressed: the accuracy with that layer alone made smaller.

Nothing is trained: what is measured is what the rest of the network would have to make good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.graph import Array, Graph, Node, dequantize_array, rebuild
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.ops import OPS
from tinsmith.pipeline.quantization.grids import WEIGHT_GRIDS
from tinsmith.pipeline.quantization.integer_graph import weight_slots
from tinsmith.pipeline.quantization.parameters import WeightRule, integer_parameters
from tinsmith.pipeline.stages.common import accuracy

# A layer is one to spare where it loses so many times what layers lose in the mean, and points.
SPARE_TIMES, SPARE_POINTS = 1.5, 1.0

# Told which fraction is done.
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Kind:
    """A way to make a layer smaller. levels: from mild to strong."""

    title: str
    levels: tuple[float, ...]
    level_text: Callable[[float], str]


def _percent(level: float) -> str:
    return f"{level:.0%}"


# Every way, in the order of the table.
KINDS: Mapping[str, Kind] = {
    "weights": Kind("weights set to 0", (0.5, 0.75, 0.9), _percent),
    "channels": Kind("channels taken out", (0.25, 0.5, 0.75), _percent),
    "rank": Kind("low rank, MACs saved", (0.25, 0.5, 0.75), _percent),
    "bits": Kind("bits of a weight", (8, 4, 2), lambda bits: f"{bits:.0f}"),
}


@dataclass(frozen=True)
class Reading:
    """The accuracy, in percent, with one layer at one level of one kind."""

    layer: str
    kind: str
    level: float
    accuracy: float


@dataclass(frozen=True)
class Sensitivity:
    """model: what was measured. evidence: on which samples. accuracy: of the network as it is, in
    percent. left_out: why a kind, or a layer of it, has no readings.
    """

    model: str
    evidence: str
    samples: int
    accuracy: float
    readings: tuple[Reading, ...]
    left_out: tuple[str, ...] = ()

    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(reading.layer for reading in self.readings))

    def drop(self, reading: Reading) -> float:
        """Points of accuracy lost."""
        return self.accuracy - reading.accuracy

    def mean_drops(self) -> dict[str, float]:
        """By layer, the mean of what it loses over all that was tried on it."""
        return {
            layer: float(np.mean([self.drop(r) for r in self.readings if r.layer == layer]))
            for layer in self.layers()
        }

    def to_spare(self) -> tuple[str, ...]:
        """The layers that mind much more than the others, those that mind most first."""
        drops = self.mean_drops()
        mean = sum(drops.values()) / max(len(drops), 1)
        limit = max(SPARE_POINTS, SPARE_TIMES * mean)
        minding = [layer for layer, drop in drops.items() if drop >= limit]
        return tuple(sorted(minding, key=lambda layer: -drops[layer]))

    def json(self) -> dict[str, Any]:
        drops = {layer: round(drop, 4) for layer, drop in self.mean_drops().items()}
        return {**asdict(self), "mean_drops": drops, "to_spare": self.to_spare()}


def from_json(fields: Mapping[str, Any]) -> Sensitivity:
    """What `Sensitivity.json` wrote."""
    readings = tuple(Reading(**reading) for reading in fields["readings"])
    return Sensitivity(
        fields["model"], fields["evidence"], fields["samples"], fields["accuracy"], readings,
        tuple(fields["left_out"]),
    )  # fmt: skip


def bits_readings(
    graph: Graph, x: Array, y: NDArray[np.int64], tell: Tell, names: Mapping[str, str] | None = None
) -> Iterator[Reading]:
    """Of a float graph with one input x [N, *shape]: each layer's weights on few bits, the others
    and all activations in float. y: [N], or [N, outputs]. names: what to call a node, where not by
    its own name.
    """
    nodes = [node for node in graph.nodes if weight_slots(node)]
    for done, node in enumerate(nodes):
        tell(f"bits of '{node.name}'", done / len(nodes))
        for bits in KINDS["bits"].levels:
            coarse = with_bits(graph, node, int(bits))
            outputs = run_samples(coarse, {graph.inputs[0]: x})
            name = (names or {}).get(node.name, node.name)
            yield Reading(name, "bits", bits, round(accuracy(outputs, y), 4))


def names_of_layers(
    graph: Graph, layers: Sequence[str], recurrent: Sequence[str] = ()
) -> dict[str, str]:
    """By node, the layer of the network that its weights are called after in the graph.

    torch's export calls weights `layer.weight`, with a number behind where it changed them. Those
    of LSTMs lose their names; recurrent: the layer of each LSTM node, in order.
    """
    lstms = [node.name for node in graph.nodes if node.op == "lstm"]
    names = dict(zip(lstms, recurrent, strict=True)) if len(lstms) == len(recurrent) else {}
    for node in graph.nodes:
        for slot in weight_slots(node)[:1]:
            layer, dot, _ = node.inputs[slot].rpartition(".weight")
            if dot and layer in layers:
                names[node.name] = layer
    return names


def with_bits(graph: Graph, node: Node, bits: int) -> Graph:
    """The float graph with a layer's weights rounded as `quantize` rounds them to so many bits."""
    rule = WeightRule(WEIGHT_GRIDS[f"int{bits}"])
    axis = OPS[node.op].weight_axis if node.op in ("conv2d", "depthwise_conv2d") else None
    rounded = []
    for slot in weight_slots(node):
        tensor = graph.tensors[node.inputs[slot]]
        weights = tensor.value()
        nothing = np.zeros(1 if axis is None else weights.shape[axis], np.float32)
        made = integer_parameters(weights, nothing, axis, 1.0, rule=rule)
        rounded.append(replace(tensor, data=dequantize_array(made.weights, made.weights_quant)))
    return rebuild(graph, tensors=rounded)


def table_rows(found: Sensitivity, kind: str) -> list[tuple[str, Sequence[float | None]]]:
    """For each layer that was tried in this way, the points lost at each level."""
    lost = {(r.layer, r.level): found.drop(r) for r in found.readings if r.kind == kind}
    layers = [layer for layer in found.layers() if any(key[0] == layer for key in lost)]
    return [(name, [lost.get((name, level)) for level in KINDS[kind].levels]) for name in layers]
