"""The calls of a network's kernels: a kernel for every node, with arrays of one name each, and the
chains of them that are made in stripes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinsmith.codegen.kernels import Kernel
from tinsmith.codegen.kernels.movement import copy_plan
from tinsmith.codegen.program import Constant, KernelPlan
from tinsmith.codegen.stripes import Chain
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Graph, Node


@dataclass(frozen=True, eq=False)
class Network:
    """A graph to lay out. alias: tensors that are views -> their buffers. kept: buffers that live
    to the end of the run."""

    graph: Graph
    alias: Mapping[str, str]
    kept: frozenset[str]

    def buffer(self, tensor: str) -> str:
        return self.alias.get(tensor, tensor)

    def reads(self, node: Node) -> dict[int, str]:
        """By input, the buffers that a node reads; constants and absent inputs are left out."""
        named = {i: self.buffer(n) for i, n in enumerate(node.inputs) if n}
        return {i: n for i, n in named.items() if not self.graph.tensors[n].is_constant}


def network_of(graph: Graph, alias: Mapping[str, str], *, preserve_inputs: bool) -> Network:
    kept = [*graph.outputs, *(s.tensor for s in graph.state)]
    kept += graph.inputs if preserve_inputs else ()
    return Network(graph, alias, frozenset(alias.get(n, n) for n in kept))


@dataclass(frozen=True, eq=False)
class Choice:
    """A node with its kernel; None for the copy of a state."""

    node: Node
    kernel: Kernel | None
    plan: KernelPlan

    @property
    def name(self) -> str:
        return self.kernel.name if self.kernel else "copy_c"

    @property
    def template(self) -> str:
        return self.kernel.template if self.kernel else "copy_c"


# A node's name -> its possible choices, best first.
Kernels = Mapping[str, Sequence[Choice]]


@dataclass(frozen=True, eq=False)
class Streamed:
    """A chain with its kernels. plans: of each of its calls, by stripe; None where it makes no
    rows."""

    chain: Chain
    plans: Mapping[int, tuple[KernelPlan | None, ...]]


def state_updates(net: Network) -> list[Choice]:
    """Copies of the next state into the state's place, after all else; none reads what one
    overwrote."""
    root = {s.name: (net.buffer(s.next), net.buffer(s.tensor)) for s in net.graph.state}
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
        updates.append(Choice(node, None, copy_plan(net.graph.tensors[source])))
    return updates


def unique_constants(choices: Sequence[Choice]) -> list[Choice]:
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
