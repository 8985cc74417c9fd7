"""Lowering: an int8 graph to a program, for an instruction set and an objective.

Kernel choice, order and memory plan belong together: the plan depends on each kernel's scratch and
on how far its output may lie over its input, so a kernel is chosen with its plan at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tinsmith.codegen import memory
from tinsmith.codegen.choice import Usable, usable_kernels
from tinsmith.codegen.kernels.movement import copy_plan
from tinsmith.codegen.kernels.packing import c_comment, shape_text
from tinsmith.codegen.order import Work, least_peak_order
from tinsmith.codegen.program import (
    BufferView,
    Constant,
    KernelPlan,
    Program,
    StateView,
    Step,
    aliases,
    verify,
)
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import DType, Graph, Node
from tinsmith.pipeline.ops import call_of

OBJECTIVES = ("balanced", "time", "size", "ram")


@dataclass(frozen=True)
class LowerOptions:
    """What to prefer where kernels differ.

    objective: one of OBJECTIVES. "time" takes the fastest kernel; "balanced" as well, but for those
    that take much flash; "size" the one with the fewest bytes of constants; "ram" the fastest with
    which the arena is smallest.
    preserve_inputs: inputs are not overwritten during a run.
    choice: layer -> name of the kernel that it gets, whatever the objective prefers.
    """

    objective: str = "balanced"
    preserve_inputs: bool = False
    choice: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Choice:
    node: Node
    kernel: str
    template: str
    plan: KernelPlan


def lower(
    graph: Graph, name: str, isa: Sequence[str], options: LowerOptions | None = None
) -> Program:
    """The program of a quantized graph. UnsupportedModel lists all that has no kernel."""
    options = options or LowerOptions()
    alias = aliases(graph)
    usable = usable_kernels(graph, tuple(isa), options.objective, options.choice)
    _check_lowerable(graph, usable, alias)
    kernels = _first_kernels(graph, usable, options)
    layout = _lay_out(graph, kernels, alias, options)
    if options.objective == "ram":
        plain = {n: c[::-1] for n, c in kernels.items()}
        ends = [
            _least_ram(graph, layout, kernels, alias, options),
            _least_ram(graph, _lay_out(graph, plain, alias, options), plain, alias, options),
        ]
        layout = min(ends, key=lambda end: end.plan.arena_bytes)
    choices, plan = layout.choices, layout.plan
    offsets = {p.name: p.offset for p in plan.placed}

    def view(tensor: str) -> BufferView:
        t = graph.tensors[tensor]
        return BufferView(offsets[alias.get(tensor, tensor)], t.nbytes, t.dtype, t.shape, t.quant)

    program = Program(
        name,
        graph,
        tuple(isa),
        options.objective,
        tuple(_step(graph, c, view, offsets) for c in choices),
        tuple((t, view(t)) for t in graph.inputs),
        tuple((t, view(t)) for t in graph.outputs),
        tuple(StateView(s.name, view(s.tensor), s.initial) for s in graph.state),
        plan.placed,
        plan.arena_bytes,
        plan.lower_bound,
        options.preserve_inputs,
    )
    return verify(program)


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


@dataclass(frozen=True, eq=False)
class _Layout:
    """Choices in the order of their calls, and where their buffers lie."""

    choices: Sequence[_Choice]
    plan: memory.MemoryPlan


# A node's name -> its possible choices, best first.
_Kernels = Mapping[str, Sequence[_Choice]]


def _first_kernels(graph: Graph, usable: Usable, options: LowerOptions) -> _Kernels:
    """What each node may become: the fastest alone, or all where the objective is another.

    "size" puts those with the fewest bytes of constants first.
    """
    found: dict[str, Sequence[_Choice]] = {}
    for node in graph.nodes:
        if node.op == "reshape":
            continue
        call = call_of(graph, node)
        choices = [_Choice(node, k.name, k.template, k.plan(call)) for k in usable[node.name]]
        if options.objective == "size":
            choices.sort(key=_constant_bytes)
        found[node.name] = choices
    return found


def _constant_bytes(choice: _Choice) -> int:
    return sum(c.nbytes for c in choice.plan.constants)


def _lay_out(
    graph: Graph, kernels: _Kernels, alias: Mapping[str, str], options: LowerOptions
) -> _Layout:
    """The smallest plan over the orders of calls: the graph's, and that of the least peak."""
    given = [kernels[n.name][0] for n in graph.nodes if n.op != "reshape"]
    computed = [t for t in graph.tensors.values() if not t.is_constant]
    alignment = max([memory.ALIGNMENT, *(t.dtype.bytes for t in computed)])
    best: _Layout | None = None
    for order in _orders(graph, given, alias, options):
        choices = [given[i] for i in order]
        choices = _unique_constants([*choices, *_state_updates(graph, alias)])
        lives, overlaps = _lives(graph, choices, alias, options)
        plan = memory.plan_memory(lives, overlaps, alignment)
        if best is None or plan.arena_bytes < best.plan.arena_bytes:
            best = _Layout(choices, plan)
    assert best is not None
    return best


def _orders(
    graph: Graph, choices: Sequence[_Choice], alias: Mapping[str, str], options: LowerOptions
) -> list[tuple[int, ...]]:
    given = tuple(range(len(choices)))
    if graph.state:  # a state is read before its next value takes its place: in the graph's order
        return [given]
    works = [_work(graph, choice, alias) for choice in choices]
    nbytes = {n: graph.tensors[n].nbytes for w in works for n in (*w.reads, *w.writes)}
    nbytes |= {n: graph.tensors[n].nbytes for n in graph.inputs}
    kept = {alias.get(n, n) for n in graph.outputs}
    kept |= set(graph.inputs) if options.preserve_inputs else set()
    best = least_peak_order(works, nbytes, graph.inputs, kept)
    return [given] if best == given else [given, best]


def _work(graph: Graph, choice: _Choice, alias: Mapping[str, str]) -> Work:
    """What the order has to know of a call."""
    roots = [alias.get(n, n) for n in choice.node.inputs]
    reads = tuple(n for n in roots if n and not graph.tensors[n].is_constant)
    writes = tuple(alias.get(n, n) for n in choice.node.outputs)
    shared = {}
    out = graph.tensors[writes[0]].nbytes
    for i, rule in (choice.plan.overlap or {}).items():
        if roots[i] in reads and roots.count(roots[i]) == 1:
            size = graph.tensors[roots[i]].nbytes
            delta = min(rule.max_delta(), 0)
            shared[roots[i]] = max(size + out - max(size - delta, out), 0)
    return Work(reads, writes, choice.plan.scratch_bytes, shared)


def _least_ram(
    graph: Graph,
    layout: _Layout,
    kernels: _Kernels,
    alias: Mapping[str, str],
    options: LowerOptions,
) -> _Layout:
    """Other kernels for the calls that need the most, as long as the arena gets smaller by it."""
    while True:
        trials = [
            (_lay_out(graph, trial, alias, options), trial)
            for trial in _alternatives(kernels, _neediest(layout))
        ]
        if not trials:
            return layout
        better, trial = min(trials, key=lambda pair: pair[0].plan.arena_bytes)
        if better.plan.arena_bytes >= layout.plan.arena_bytes:
            return layout
        layout, kernels = better, trial


def _neediest(layout: _Layout) -> list[str]:
    """The nodes whose buffers reach the end of the arena."""
    edge = layout.plan.arena_bytes - memory.ALIGNMENT
    high = [p for p in layout.plan.placed if p.offset + p.nbytes > edge]
    steps = sorted({step for p in high for step in (p.first, p.last)})
    return [layout.choices[s].node.name for s in steps if 0 <= s < len(layout.choices)]


def _alternatives(kernels: _Kernels, names: Sequence[str]) -> list[_Kernels]:
    """The kernels with another first choice for one of the nodes, and with the last for all of
    them."""
    found: list[_Kernels] = []
    several = [n for n in names if len(kernels.get(n, ())) > 1]
    for name in several:
        for other in kernels[name][1:]:
            rest = [c for c in kernels[name] if c is not other]
            found.append({**kernels, name: [other, *rest]})
    if len(several) > 1:
        found.append({**kernels, **{n: kernels[n][::-1] for n in several}})
    return found


def _state_updates(graph: Graph, alias: Mapping[str, str]) -> list[_Choice]:
    """Copies of the next state into the state's place, after all else; none reads what one
    overwrote."""
    root = {s.name: (alias.get(s.next, s.next), alias.get(s.tensor, s.tensor)) for s in graph.state}
    todo = {name: pair for name, pair in root.items() if pair[0] != pair[1]}
    updates = []
    while todo:
        free = [n for n, (_, to) in todo.items() if all(to != src for src, _ in todo.values())]
        if not free:
            raise UnsupportedModel(
                f"state variables {', '.join(sorted(todo))} exchange their values; "
                "this is not supported: pass one of them through an op"
            )
        name = free[0]
        source, target = todo.pop(name)
        node = Node(f"{name} update", "assign", (source,), (target,))
        updates.append(_Choice(node, "copy_c", "copy_c", copy_plan(graph.tensors[source])))
    return updates


def _unique_constants(choices: Sequence[_Choice]) -> list[_Choice]:
    """The same choices with one array a name: layer names may differ by punctuation only.

    Tables of the same name and content are one.
    """
    taken: dict[str, Constant] = {}
    renamed = []
    for choice in choices:
        constants: list[Constant] = []
        for constant in choice.plan.constants:
            name, i = constant.name, 2
            while name in taken and not _same_table(taken[name], constant):
                name, i = f"{constant.name}_{i}", i + 1
            taken[name] = replace(constant, name=name)
            constants.append(taken[name])
        plan = replace(choice.plan, constants=tuple(constants))
        renamed.append(replace(choice, plan=plan))
    return renamed


def _same_table(a: Constant, b: Constant) -> bool:
    same_kind = a.role == b.role == "table" and a.ctype == b.ctype and a.comment == b.comment
    return same_kind and a.data.tobytes() == b.data.tobytes()


def _lives(
    graph: Graph, choices: Sequence[_Choice], alias: Mapping[str, str], options: LowerOptions
) -> tuple[list[memory.Life], list[memory.MayOverlap]]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    end = len(choices)
    for name in (*graph.inputs, *(s.tensor for s in graph.state)):
        root = alias.get(name, name)
        first[root] = last[root] = -1
    for i, choice in enumerate(choices):
        for name in choice.node.inputs:
            root = alias.get(name, name)
            if name and not graph.tensors[root].is_constant:
                last[root] = i
        for name in choice.node.outputs:
            root = alias.get(name, name)
            first.setdefault(root, i)
            last[root] = max(last.get(root, i), i)
    kept = [*graph.outputs, *(s.tensor for s in graph.state)]
    kept += graph.inputs if options.preserve_inputs else ()
    for name in kept:
        last[alias.get(name, name)] = end
    lives = [memory.Life(n, graph.tensors[n].nbytes, first[n], last[n]) for n in first]
    overlaps = []
    for i, choice in enumerate(choices):
        if choice.plan.scratch_bytes:
            scratch = f"scratch of {choice.node.name}"
            lives.append(memory.Life(scratch, choice.plan.scratch_bytes, i, i))
        overlaps += _overlaps(graph, choice, i, alias, first, last)
    return lives, overlaps


def _overlaps(
    graph: Graph,
    choice: _Choice,
    step: int,
    alias: Mapping[str, str],
    first: Mapping[str, int],
    last: Mapping[str, int],
) -> list[memory.MayOverlap]:
    """The overlaps that the kernel allows between its first output and inputs that die here."""
    out = alias.get(choice.node.outputs[0], choice.node.outputs[0])
    if first[out] != step or choice.plan.overlap is None:
        return []
    limits: dict[str, int | None] = {}
    exact: set[str] = set()
    for i, name in enumerate(choice.node.inputs):
        root = alias.get(name, name)
        if not name or graph.tensors[root].is_constant or last[root] != step:
            continue
        rule = choice.plan.overlap.get(i)
        delta = None if rule is None else rule.max_delta()
        if rule is not None and rule.exact:
            exact.add(root)
        # A tensor read twice is bound by the stricter of the two uses.
        if root in limits:
            known = limits[root]
            delta = None if known is None or delta is None else min(known, delta)
        limits[root] = delta
    return [
        memory.MayOverlap(root, out, d, root in exact)
        for root, d in limits.items()
        if d is not None
    ]


def _step(
    graph: Graph,
    choice: _Choice,
    view: Callable[[str], BufferView],
    offsets: Mapping[str, int],
) -> Step:
    node, plan = choice.node, choice.plan
    scratch = None
    if plan.scratch_bytes:
        at = offsets[f"scratch of {node.name}"]
        scratch = BufferView(at, plan.scratch_bytes, DType.INT8, (plan.scratch_bytes,), None)
    ins = tuple(None if not n or graph.tensors[n].is_constant else view(n) for n in node.inputs)
    outs = tuple(view(n) for n in node.outputs)
    return Step(
        node, choice.kernel, choice.template, plan, ins, outs, scratch, _summary(graph, node)
    )


def _summary(graph: Graph, node: Node) -> str:
    """`name: op [in] -> [out], attributes`, fit for a comment."""
    sources = [graph.tensors[n] for n in node.inputs if n and not graph.tensors[n].is_constant]
    shapes = " + ".join(shape_text(t.shape) for t in sources)
    text = f"{node.name}: {node.op} {shapes} -> {shape_text(graph.tensors[node.outputs[0]].shape)}"
    for label, value in _attributes(node):
        text += f", {label} {value}"
    return c_comment(text)


def _attributes(node: Node) -> list[tuple[str, str]]:
    a = node.attrs
    found = []
    if hasattr(a, "kernel"):
        found.append(("window", f"{a.kernel[0]}x{a.kernel[1]}"))
    if hasattr(a, "stride"):
        found.append(("stride", f"{a.stride[0]}x{a.stride[1]}"))
    if getattr(a, "dilation", (1, 1)) != (1, 1):
        found.append(("dilation", f"{a.dilation[0]}x{a.dilation[1]}"))
    pads = getattr(a, "pads", ())
    if len(pads) == 4 and all(isinstance(p, int) for p in pads) and any(pads):
        found.append(("pad", ",".join(str(p) for p in pads)))
    activation = getattr(a, "activation", None)
    if activation is not None and activation.value != "none":
        found.append(("fused", activation.value))
    return found
