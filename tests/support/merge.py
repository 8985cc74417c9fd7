"""Many small graphs as one, so that a whole table of cases costs one compilation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.verify import verify


def merge(name: str, graphs: Sequence[Graph]) -> Graph:
    """The graphs side by side: names get the prefix `g<i>_`, inputs and outputs stand in order."""
    tensors = {}
    nodes, inputs, outputs, state = [], [], [], []
    for i, graph in enumerate(graphs):

        def rename(text: str, i: int = i) -> str:
            return f"g{i}_{text}" if text else ""

        for tensor in graph.tensors.values():
            tensors[rename(tensor.name)] = replace(tensor, name=rename(tensor.name))
        for node in graph.nodes:
            ins = tuple(rename(n) for n in node.inputs)
            outs = tuple(rename(n) for n in node.outputs)
            nodes.append(replace(node, name=rename(node.name), inputs=ins, outputs=outs))
        inputs += [rename(n) for n in graph.inputs]
        outputs += [rename(n) for n in graph.outputs]
        state += [
            replace(s, name=rename(s.name), tensor=rename(s.tensor), next=rename(s.next))
            for s in graph.state
        ]
    return verify(Graph(name, tensors, tuple(nodes), tuple(inputs), tuple(outputs), tuple(state)))
