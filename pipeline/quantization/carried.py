"""Parameters that a float graph carries from a model that was quantized before it came in.

Such a model is read as a float graph. Where it quantizes a tensor, the graph has a `quantize` node
from float32 to float32 whose output has the parameters: a note. A constant has its parameters, and
an int32 bias its integers too, since float32 could not hold them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tinsmith.pipeline.graph import Array, DType, Encoding, Graph, Node, QuantParams
from tinsmith.pipeline.quantization.ranges import Groups


@dataclass(frozen=True, eq=False)
class CarriedIntegers(Encoding):
    """The integers of a float32 constant."""

    integers: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    kind: str = "carried integers"


def is_note(graph: Graph, node: Node) -> bool:
    """True of a node that only says which parameters its tensor has."""
    if node.op != "quantize":
        return False
    x, y = graph.tensors[node.inputs[0]], graph.tensors[node.outputs[0]]
    return x.dtype is y.dtype is DType.FLOAT32


def carried_parameters(
    graph: Graph, groups: Groups, fixed: Mapping[str, QuantParams]
) -> dict[str, QuantParams]:
    """The parameters of groups of tensors, by the group's root: fixed by ops, or carried.

    A note gives its parameters to its output, and to its input where that has none yet; else the
    note stays, as a change of scale.
    """
    known = {groups.root(name): quant for name, quant in fixed.items()}
    for node in graph.nodes:
        if is_note(graph, node):
            quant = graph.tensors[node.outputs[0]].quant
            if quant is not None:
                known.setdefault(groups.root(node.outputs[0]), quant)
                known.setdefault(groups.root(node.inputs[0]), quant)
    for name, t in graph.tensors.items():
        if t.is_constant and t.quant is not None:
            known.setdefault(groups.root(name), t.quant)
    return known
