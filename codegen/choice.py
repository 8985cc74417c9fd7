"""Which kernels may compute each node of a graph, best first for an objective.

- time: the fewest instructions.
- balanced, ram: the same among kernels whose flash is justified: at most half as much again as the
  smallest takes for the layer, and 1.75 KiB.
- size: the fewest flash bytes of the graph as a whole.

Costs are measured ones where there are any, else those of the cost model, by which a kernel must
be faster than plain C by what the model errs by to take its place. Kernels of which nothing is
known come last, in the order of the table KERNELS.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from tinsmith.codegen.cost import Cost, estimate
from tinsmith.codegen.kernels import Kernel, kernels_of
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops import OpCall, call_of

# A node's name -> the kernels that can compute it, best first; none for a reshape.
Usable = Mapping[str, Sequence[Kernel]]
# A kernel's name -> its cost; those of which nothing is known are absent.
Costs = Mapping[str, Cost]
Measured = Mapping[str, Costs]  # by layer

# Kernels that need no cost: they beat plain C at every size, so that the table's order ranks them.
BY_ORDER = frozenset({"conv2d_int16_dsp", "fully_connected_int16_dsp"})

JUSTIFIED_RATIO, JUSTIFIED_BYTES = 1.5, 1792
# What the model errs by on small layers, as a part of the instructions.
MODEL_ERROR = 0.08
MODEL_ERRORS = {
    "conv2d_pairs": 0.2, "depthwise_line_m3": 0.01, "depthwise_line_m0": 0.2,
    "fully_connected_fours_m0": 0.15,
}  # fmt: skip


def usable_kernels(
    graph: Graph,
    isa: tuple[str, ...],
    objective: str,
    choice: Mapping[str, str] | None = None,
    measured: Measured | None = None,
) -> Usable:
    """What can compute each node: the best alone for "balanced" and "time".

    choice: layer -> the kernel that it gets, whatever the objective, where it can compute it.
    Each `when` is asked once, since some of them prove a layer's arithmetic.
    """
    choice, measured = choice or {}, measured or {}
    found: dict[str, Sequence[Kernel]] = {}
    every: dict[str, Costs] = {}
    for node in graph.nodes:
        if node.op == "reshape":
            continue
        call = call_of(graph, node)
        kernels = kernels_of(node.op, isa)
        own = measured.get(node.name)
        costs = _estimates(kernels, call, isa) if own is None else own
        order = _ranked(kernels, costs, objective, estimated=own is None)
        wanted = [k for k in kernels if k.name == choice.get(node.name)]
        worth = [k for k in order if objective == "time" or k.worth(call)]
        fitting = (k for k in (*wanted, *worth) if k.when(call))
        only = objective in ("balanced", "time") or node.name in choice
        found[node.name] = tuple(itertools.islice(fitting, 1) if only else fitting)
        every[node.name] = costs
    return _smallest(graph, found, every) if objective == "size" else found


def _estimates(kernels: Sequence[Kernel], call: OpCall, isa: Sequence[str]) -> Costs:
    if len(kernels) < 2:
        return {}
    found = {k.name: estimate(k.name, call, isa) for k in kernels}
    return {name: cost for name, cost in found.items() if cost is not None}


def _ranked(
    kernels: Sequence[Kernel], costs: Costs, objective: str, *, estimated: bool
) -> list[Kernel]:
    """Best first; what is not justified is left out, what may be slower than plain C comes after
    it."""
    known = [k for k in kernels if k.name in costs]
    if objective in ("balanced", "ram") and known:
        least = min(costs[k.name].flash_bytes for k in known)
        most = JUSTIFIED_RATIO * least + JUSTIFIED_BYTES
        known = [k for k in known if k.isa == "c" or costs[k.name].flash_bytes <= most]

    plain = min((costs[k.name].instructions for k in known if k.isa == "c"), default=math.inf)

    def rank(kernel: Kernel) -> tuple[bool, float]:
        count = most = costs[kernel.name].instructions
        if estimated and kernel.isa != "c":
            most /= 1 - MODEL_ERRORS.get(kernel.name, MODEL_ERROR)
        return most > plain, count

    return sorted(known, key=rank) + [k for k in kernels if k.name not in costs]


def _smallest(graph: Graph, usable: Usable, costs: Mapping[str, Costs]) -> Usable:
    """The kernels whose arrays and functions together take the least flash come first.

    Layers of one op share a kernel's functions, whose bytes count once.
    """
    by_op: dict[str, list[tuple[str, dict[str, int]]]] = {}
    for node in graph.nodes:
        if len(usable.get(node.name, ())) > 1:
            arrays = {k.name: _array_bytes(k, call_of(graph, node)) for k in usable[node.name]}
            by_op.setdefault(node.op, []).append((node.name, arrays))
    found = dict(usable)
    for layers in by_op.values():
        taken = _cheapest_set(layers, costs)
        for name, arrays in layers:
            first = [k for k in usable[name] if k.name in taken]
            rest = [k for k in usable[name] if k.name not in taken]
            found[name] = [k for part in (first, rest) for k in _by_arrays(part, arrays)]
    return found


def _by_arrays(kernels: Sequence[Kernel], arrays: Mapping[str, int]) -> list[Kernel]:
    return sorted(kernels, key=lambda k: arrays[k.name])


def _array_bytes(kernel: Kernel, call: OpCall) -> int:
    return sum(c.nbytes for c in kernel.plan(call).constants)


def _cheapest_set(
    layers: Sequence[tuple[str, Mapping[str, int]]], costs: Mapping[str, Costs]
) -> frozenset[str]:
    """The kernels of one op with which its layers take the fewest bytes: all subsets are tried, of
    the handful that a core has for an op."""
    names = sorted({k for _, arrays in layers for k in arrays})
    code = {
        k: max((costs[layer][k].code_bytes for layer, _ in layers if k in costs[layer]), default=0)
        for k in names
    }
    best: tuple[float, frozenset[str]] | None = None
    for size in range(1, len(names) + 1):
        for some in itertools.combinations(names, size):
            total = sum(code[k] for k in some)
            for _, arrays in layers:
                fitting = [arrays[k] for k in some if k in arrays]
                if not fitting:
                    break
                total += min(fitting)
            else:
                if best is None or total < best[0]:
                    best = (total, frozenset(some))
    assert best is not None
    return best[1]
