"""Where everything lies: the calls of one choice of kernels in order, and the arena's plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinsmith.codegen import memory
from tinsmith.codegen.calls import (
    Choice,
    Kernels,
    Network,
    Streamed,
    state_updates,
    unique_constants,
)
from tinsmith.codegen.lives import lives_of
from tinsmith.codegen.order import Work, least_peak_order
from tinsmith.codegen.program import Memory
from tinsmith.codegen.stripes import flow_of


@dataclass(frozen=True, eq=False)
class Layout:
    """Choices in the order of their calls, chains of them, and where their buffers lie.

    memories: those that the buffers lie in, where the target tells them apart.
    """

    choices: Sequence[Choice]
    plan: memory.MemoryPlan
    streamed: tuple[Streamed, ...] = ()
    memories: tuple[Memory, ...] = ()


def alignment_of(net: Network) -> int:
    """The bytes that every buffer's offset is a multiple of."""
    computed = [t for t in net.graph.tensors.values() if not t.is_constant]
    return max([memory.ALIGNMENT, *(t.dtype.bytes for t in computed)])


def lay_out(net: Network, kernels: Kernels) -> Layout:
    """The smallest plan over the orders of calls: the graph's, and that of the least peak."""
    layout = smaller_layout(net, kernels, 1 << 62)
    assert layout is not None
    return layout


def smaller_layout(net: Network, kernels: Kernels, limit_bytes: int) -> Layout | None:
    """The same where it is smaller than a limit."""
    found = None
    for choices in orders(net, kernels):
        layout = place(net, choices, (), limit_bytes)
        if layout is not None:
            found, limit_bytes = layout, layout.plan.arena_bytes
    return found


def orders(net: Network, kernels: Kernels) -> list[list[Choice]]:
    """The first choices in the orders to try, and then the copies of states."""
    given = [kernels[n.name][0] for n in net.graph.nodes if n.op != "reshape"]
    return [[*(given[i] for i in order), *state_updates(net)] for order in _orders(net, given)]


def place(
    net: Network, choices: Sequence[Choice], streamed: Sequence[Streamed], limit_bytes: int
) -> Layout | None:
    """The plan of these calls in their order, where it is smaller than a limit."""
    alignment = alignment_of(net)
    flow = flow_of(net.graph, [c.node for c in choices], net.alias, net.kept)
    lives, overlaps = lives_of(net, choices, flow, streamed)
    if memory.lower_bound(lives, overlaps, alignment) >= limit_bytes:
        return None
    plan = memory.plan_memory(lives, overlaps, alignment)
    if plan.arena_bytes >= limit_bytes:
        return None
    return Layout(unique_constants(choices), plan, tuple(streamed))


def _orders(net: Network, choices: Sequence[Choice]) -> list[tuple[int, ...]]:
    given = tuple(range(len(choices)))
    graph = net.graph
    if graph.state:  # a state is read before its next value takes its place: in the graph's order
        return [given]
    works = [_work(net, choice) for choice in choices]
    nbytes = {n: graph.tensors[n].nbytes for w in works for n in (*w.reads, *w.writes)}
    nbytes |= {n: graph.tensors[n].nbytes for n in graph.inputs}
    best = least_peak_order(works, nbytes, graph.inputs, net.kept)
    return [given] if best == given else [given, best]


def _work(net: Network, choice: Choice) -> Work:
    """What the order has to know of a call."""
    reads = net.reads(choice.node)
    writes = tuple(net.buffer(n) for n in choice.node.outputs)
    return Work(tuple(reads.values()), writes, choice.plan.scratch_bytes, shared_bytes(net, choice))


def shared_bytes(net: Network, choice: Choice) -> dict[str, int]:
    """The bytes that a call's output can have in common with each buffer that it reads."""
    reads = net.reads(choice.node)
    names = list(reads.values())
    out = net.graph.tensors[net.buffer(choice.node.outputs[0])].nbytes
    shared = {}
    for i, rule in (choice.plan.overlap or {}).items():
        if i in reads and names.count(reads[i]) == 1:
            size = net.graph.tensors[reads[i]].nbytes
            delta = min(rule.max_delta(), 0)
            shared[reads[i]] = max(size + out - max(size - delta, out), 0)
    return shared
