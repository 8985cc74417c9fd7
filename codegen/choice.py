"""Which kernels may compute each node of a graph, best first for an objective."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from tinsmith.codegen.kernels import Kernel, kernels_of
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops import call_of

# A node's name -> the kernels that can compute it, best first; none for a reshape.
Usable = Mapping[str, Sequence[Kernel]]


def usable_kernels(
    graph: Graph, isa: tuple[str, ...], objective: str, choice: Mapping[str, str]
) -> Usable:
    """What can compute each node: the best alone where the objective asks for no other.

    choice: layer -> the kernel that it gets, whatever the objective, where it can compute it.
    Each `when` is asked once, since some of them prove a layer's arithmetic.
    """
    one = objective in ("balanced", "time")
    found = {}
    for node in graph.nodes:
        if node.op == "reshape":
            continue
        call = call_of(graph, node)
        wanted = choice.get(node.name)
        ranked = sorted(kernels_of(node.op, isa), key=lambda k: k.name != wanted)
        kernels = (
            k
            for k in ranked
            if (objective == "time" or not k.costly or k.name == wanted) and k.when(call)
        )
        only = one or node.name in choice
        found[node.name] = tuple(itertools.islice(kernels, 1) if only else kernels)
    return found
