"""Changes of scale before ops that want one scale for all of their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tinsmith.pipeline.graph import DType, Graph, Node, QuantParams, Tensor, rebuild
from tinsmith.pipeline.ops import OPS, ScaleRule
from tinsmith.pipeline.quantization.carried import carried_parameters, is_note
from tinsmith.pipeline.quantization.ranges import Groups, fixed_parameters, shared_groups


def separate_scales(graph: Graph) -> Graph:
    """Lets inputs change their scale before ops that want one scale for all inputs.

    Only inputs whose scale is fixed or carried need it; where it turns out to be the same one, the
    change of scale is dropped at the end.
    """
    groups = shared_groups(graph)
    decided = carried_parameters(graph, groups, fixed_parameters(graph))
    own = _decided_sources(graph, decided, groups)
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in graph.nodes:
        op = OPS[node.op]
        inputs = list(node.inputs)
        if op.scale_rule is ScaleRule.ALL_SAME:
            for i, name in enumerate(inputs[: op.data_inputs]):
                if name in own:
                    t = graph.tensors[name]
                    out = Tensor(f"{name}_to_{node.name}_{i}", t.shape, DType.FLOAT32)
                    tensors.append(out)
                    nodes.append(Node(out.name, "quantize", (name,), (out.name,)))
                    inputs[i] = out.name
        nodes.append(replace(node, inputs=tuple(inputs)))
    return rebuild(graph, nodes=nodes, tensors=tensors) if tensors else graph


def _decided_sources(
    graph: Graph, decided: Mapping[str, QuantParams], groups: Groups
) -> frozenset[str]:
    """Tensors whose scale is decided where they come from, not by an op that shares its scale."""
    found: set[str] = set()
    for node in graph.nodes:
        rule = OPS[node.op].scale_rule
        if rule is ScaleRule.ALL_SAME or (rule is ScaleRule.SAME and node.inputs[0] not in found):
            continue
        note = is_note(graph, node)
        if rule is ScaleRule.FIXED or rule is ScaleRule.SAME or note:
            found.update(node.outputs)
    found.update(n for n in graph.inputs if groups.root(n) in decided)
    return frozenset(found)
