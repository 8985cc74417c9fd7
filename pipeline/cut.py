"""A part of a graph: what lies between start tensors and end tensors, as a graph of its own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.graph import Graph, Node, StateVar, rebuild
from tinsmith.pipeline.verify import verify

NEAREST = 3


def cut(graph: Graph, start: Sequence[str] = (), end: Sequence[str] = ()) -> Graph:
    """The graph whose inputs are the tensors `start` and whose outputs are the tensors `end`.

    start, end: names of tensors, or of layers for what they compute; none for the graph's own.
    State that the part reads is kept, with all that computes its next value; a state tensor among
    the starts becomes an input, and is kept no longer.
    ConfigError for a name that does not exist (with the nearest that do), a constant, a start
    that no end depends on, an end that needs more than the starts, and a part without layers.
    """
    starts = [_tensor_of(graph, name, "--start") for name in dict.fromkeys(start)]
    ends = [_tensor_of(graph, name, "--end") for name in dict.fromkeys(end)]
    inputs = tuple(dict.fromkeys(starts)) or graph.inputs
    outputs = tuple(dict.fromkeys(ends)) or graph.outputs
    nodes, state, reached = _between(graph, inputs, outputs)
    unused = [name for name in inputs if name not in reached]
    if starts and unused:
        raise ConfigError(
            f"--start {', '.join(unused)}: no end depends on it; the ends are {', '.join(outputs)}"
        )
    missing = [n for n in graph.inputs if n in reached and n not in inputs]
    if missing:
        raise ConfigError(
            f"--start {', '.join(start)}: {_readers(nodes, missing)} still needs "
            f"{', '.join(missing)}; give --start for every tensor that enters the part"
        )
    empty = [name for name in outputs if name in inputs]
    if empty or not nodes:
        raise ConfigError(
            f"--end {', '.join(empty or outputs)}: nothing lies between it and the start; give an "
            "end behind the start"
        )
    kept = tuple(n for n in inputs if n in reached)
    return verify(rebuild(graph, nodes=nodes, inputs=kept, outputs=outputs, state=state))


def _tensor_of(graph: Graph, name: str, flag: str) -> str:
    """The tensor that a name means: a tensor's own, or the first output of a layer."""
    layers = {node.name: node.outputs[0] for node in graph.nodes}
    tensor = name if name in graph.tensors else layers.get(name)
    if tensor is None:
        known = [t.name for t in graph.tensors.values() if not t.is_constant]
        near = nearest(name, [*known, *layers])
        hint = f"the nearest are {', '.join(near)}" if near else f"the model has {len(known)}"
        raise ConfigError(f"{flag} {name}: no tensor and no layer has this name; {hint}")
    if graph.tensors[tensor].is_constant:
        raise ConfigError(f"{flag} {name}: it is a constant; allowed: what the model computes")
    return tensor


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names most like a wrong one, those that have it within themselves first."""
    names = list(dict.fromkeys(known))
    within = sorted((n for n in names if name and name.lower() in n.lower()), key=len)
    close = difflib.get_close_matches(name, names, NEAREST, 0.4)
    return list(dict.fromkeys([*within, *close]))[:NEAREST]


def _between(
    graph: Graph, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[list[Node], list[StateVar], set[str]]:
    """(nodes in order, state that they read, tensors reached), walking back from the outputs."""
    held = {s.tensor: s for s in graph.state if s.tensor not in inputs}
    state: dict[str, StateVar] = {}
    wanted, reached, needed = list(outputs), set[str](), set[str]()
    while wanted:
        name = wanted.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in held:
            state[name] = held[name]
            wanted.append(held[name].next)
        node = graph.producer(name)
        if name not in inputs and node is not None:
            needed.add(node.name)
            wanted += [i for i in node.inputs if i]
    nodes = [n for n in graph.nodes if n.name in needed]
    return nodes, [s for s in graph.state if s.tensor in state], reached


def _readers(nodes: Sequence[Node], tensors: Sequence[str]) -> str:
    names = [n.name for n in nodes if any(i in tensors for i in n.inputs)]
    return ", ".join(f"'{n}'" for n in names[:NEAREST]) or "an output"
