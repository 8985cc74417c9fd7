"""Where a model's state lies: which tensors share a buffer with another, and which next states take
the place of the state that they follow."""

from __future__ import annotations

from collections.abc import Mapping

from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops import lstm, svdf

# Ops whose kernels may write the outputs after the first over these inputs.
IN_PLACE_STATES: Mapping[str, tuple[int, ...]] = {
    "lstm": (lstm.HIDDEN, lstm.CELL),
    "svdf": (svdf.STATE,),
}


def in_place_states(graph: Graph) -> dict[str, str]:
    """Next states that the kernel writes over the states it reads: next tensor -> tensor.

    Where the kernel allows it, nobody else reads the state, and the next one is no output.
    """
    found = {}
    for var in graph.state:
        readers = graph.consumers(var.tensor)
        if len(readers) != 1 or readers[0].op not in IN_PLACE_STATES:
            continue
        node = readers[0]
        for i, out in zip(IN_PLACE_STATES[node.op], node.outputs[1:], strict=True):
            own = node.inputs[i] == var.tensor and out == var.next
            viewed = any(n.op == "reshape" for n in graph.consumers(out))
            once = node.inputs.count(var.tensor) == 1
            if own and once and not viewed and out not in graph.outputs:
                found[out] = var.tensor
    return found


def views(graph: Graph) -> dict[str, str]:
    """Tensors that are views of another: outputs of reshape, states updated in place by kernels."""
    view = in_place_states(graph)
    for node in graph.nodes:
        if node.op == "reshape":
            view[node.outputs[0]] = view.get(node.inputs[0], node.inputs[0])
    return view


def aliases(graph: Graph) -> dict[str, str]:
    """Tensors that lie in another's buffer: views, and next states that are made after the last
    read of the state that they follow. These need neither a place of their own nor a copy.

    It holds for calls in the graph's order. What is an output has a place of its own, and so have
    states that are the next value of another, and next values of several.
    """
    view = views(graph)
    made: dict[str, int] = {}
    last_read: dict[str, int] = {}
    for place, node in enumerate(graph.nodes):
        if node.op != "reshape":
            made |= {view.get(n, n): place for n in node.outputs}
            last_read |= {view.get(n, n): place for n in node.inputs if n}
    owned = [view.get(v.tensor, v.tensor) for v in graph.state]
    nexts = [view.get(v.next, v.next) for v in graph.state]
    apart = {*(view.get(n, n) for n in graph.outputs), *graph.inputs}
    taken: dict[str, str] = {}
    for own, new in zip(owned, nexts, strict=True):
        alone = own not in nexts and new not in owned and nexts.count(new) == 1
        if alone and not {own, new} & apart and last_read.get(own, -1) < made.get(new, -1):
            taken[new] = own
    return {**{n: taken.get(root, root) for n, root in view.items()}, **taken}
