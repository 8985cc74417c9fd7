"""Lowering: an int8 graph to a program, for an instruction set and an objective.

Kernel choice, order and memory plan belong together: the plan depends on each kernel's scratch and
on how far its output may lie over its input, so a kernel is chosen with its plan at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tinsmith.codegen.calls import Choice, Kernels, Network, network_of
from tinsmith.codegen.choice import Measured, Usable, usable_kernels
from tinsmith.codegen.flashes import into_flashes
from tinsmith.codegen.layout import Layout, lay_out
from tinsmith.codegen.least_ram import leaner, least_ram, less_memory
from tinsmith.codegen.program import Memory, Program, StateView
from tinsmith.codegen.regions import into_memories
from tinsmith.codegen.states import aliases
from tinsmith.codegen.steps import places_of, steps_of
from tinsmith.codegen.verify import verify
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops import call_of

OBJECTIVES = ("balanced", "time", "size", "ram")


@dataclass(frozen=True)
class LowerOptions:
    """What to prefer where kernels differ.

    objective: one of OBJECTIVES: choice.py says what each prefers; "ram" takes the fastest kernels
    with which the arena is smallest.
    ram_bytes: the most that one arena may have. A plan that needs more gives way to one with layers
    made in stripes of rows, or with kernels of less scratch, also for the other objectives.
    preserve_inputs: inputs are not overwritten during a run.
    choice: layer -> name of the kernel that it gets, whatever the objective prefers.
    measured: layer -> kernel -> what it costs there, which counts before the cost model.
    memories: those that arenas may lie in, from the fastest to the slowest, with their limits; none
    where the target does not tell them apart. own_flash_bytes: what constants may take of the
    target's own flash; those that do not fit go to `flashes`, in their order.
    """

    objective: str = "balanced"
    preserve_inputs: bool = False
    choice: Mapping[str, str] = field(default_factory=dict)
    measured: Measured = field(default_factory=dict)
    ram_bytes: int | None = None
    memories: tuple[Memory, ...] = ()
    own_flash_bytes: int | None = None
    flashes: tuple[Memory, ...] = ()


def lower(
    graph: Graph, name: str, isa: Sequence[str], options: LowerOptions | None = None
) -> Program:
    """The program of a quantized graph. UnsupportedModel lists all that has no kernel."""
    options = options or LowerOptions()
    alias = aliases(graph)
    usable = usable_kernels(graph, tuple(isa), options.objective, options.choice, options.measured)
    _check_lowerable(graph, usable, alias)
    net = network_of(graph, alias, preserve_inputs=options.preserve_inputs)
    kernels = choices_of(graph, usable)
    whole = lay_out(net, kernels)
    layout = _laid_out(net, kernels, whole, tuple(isa), options)
    return program_of(name, tuple(isa), options, net, layout, whole)


def program_of(
    name: str,
    isa: tuple[str, ...],
    options: LowerOptions,
    net: Network,
    layout: Layout,
    whole: Layout,
) -> Program:
    """The program of a layout, verified. whole: the layout without stripes."""
    graph = net.graph
    places = places_of(net, layout)
    done = steps_of(places, layout)
    program = Program(
        name,
        graph,
        isa,
        options.objective,
        done.steps,
        tuple((t, places.view(t)) for t in graph.inputs),
        tuple((t, places.view(t)) for t in graph.outputs),
        tuple(StateView(s.name, places.view(s.tensor), s.initial) for s in graph.state),
        done.buffers,
        layout.plan.arena_bytes,
        layout.plan.lower_bound,
        options.preserve_inputs,
        layout.memories,
        loops=done.loops,
        whole_arena_bytes=whole.plan.arena_bytes if layout.streamed else None,
    )
    return into_flashes(verify(program), options.own_flash_bytes, options.flashes)


def _laid_out(
    net: Network, kernels: Kernels, whole: Layout, isa: tuple[str, ...], options: LowerOptions
) -> Layout:
    """The whole layout where it fits, in the memories or in one arena; else that of the least RAM,
    which the objective may ask for as well."""

    def placed(layout: Layout) -> Layout:
        return into_memories(net, layout, options.memories) if options.memories else layout

    limit = options.ram_bytes
    if options.objective == "ram":
        least = least_ram(net, kernels, whole)
        fastest = usable_kernels(net.graph, isa, "time", options.choice, options.measured)
        lean = leaner(kernels, choices_of(net.graph, fastest))
        if lean is not None:
            least = less_memory(least, least_ram(net, lean, lay_out(net, lean)))
        if limit is not None and least.plan.arena_bytes > limit:
            least = least_ram(net, kernels, least, limit)
        return placed(least)
    first = placed(whole)
    if not _excess(first, limit):
        return first
    if limit is not None and whole.plan.arena_bytes <= limit:
        return whole  # memories may be adjacent
    usable = usable_kernels(net.graph, isa, "ram", options.choice, options.measured)
    others = choices_of(net.graph, usable)
    known = {n: [c.kernel for c in best] for n, best in kernels.items()}
    every = {
        n: [*best, *(c for c in others[n] if c.kernel not in known[n])]
        for n, best in kernels.items()
    }
    smaller = placed(least_ram(net, every, whole, limit))
    return min(first, smaller, key=lambda layout: _excess(layout, limit))


def _excess(layout: Layout, limit_bytes: int | None) -> int:
    """The bytes that a layout has beyond its memories, or beyond the limit of its one arena."""
    if not layout.memories:
        return 0 if limit_bytes is None else max(layout.plan.arena_bytes - limit_bytes, 0)
    return sum(m.excess_bytes for m in layout.memories)


def _check_lowerable(graph: Graph, usable: Usable, alias: Mapping[str, str]) -> None:
    reasons = []
    for node in graph.nodes:
        call = call_of(graph, node)
        if node.op == "reshape":
            if call.input(0).is_constant:
                reasons.append(f"reshape '{node.name}': its input is a constant; fold it first")
            continue
        if not usable[node.name]:
            kinds = [t.dtype.value for t in (*call.inputs[:1], *call.outputs[:1]) if t]
            hint = "quantize the model first" if "float32" in kinds else "see `tinsmith ops`"
            reasons.append(f"{node.op} '{node.name}': no kernel for {' to '.join(kinds)}; {hint}")
    states = {alias.get(s.tensor, s.tensor) for s in graph.state}
    for name in graph.outputs:
        if graph.tensors[alias.get(name, name)].is_constant:
            reasons.append(f"output '{name}' is a constant; leave it out of the model's outputs")
        if alias.get(name, name) in states:
            reasons.append(f"output '{name}' is the state of the step before; copy it by an op")
    if reasons:
        raise UnsupportedModel(
            f"the model '{graph.name}' can't be generated:\n  " + "\n  ".join(reasons)
        )


def choices_of(graph: Graph, usable: Usable) -> Kernels:
    """The kernels of each node with their plans, best first."""
    found: dict[str, Sequence[Choice]] = {}
    for node in graph.nodes:
        if node.op == "reshape":
            continue
        call = call_of(graph, node)
        found[node.name] = [Choice(node, k, k.plan(call)) for k in usable[node.name]]
    return found
