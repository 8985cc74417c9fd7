"""The plan of the smallest arena: kernels that need less scratch, and chains made in stripes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinsmith.codegen import memory
from tinsmith.codegen.calls import Kernels, Network
from tinsmith.codegen.layout import Layout, lay_out

Planner = Callable[[Kernels], Layout]


def least_ram(net: Network, kernels: Kernels, layout: Layout) -> Layout:
    """The smallest plan found, with the fastest kernels with which it is that small.

    layout: the plan of the first kernels.
    """
    plain = {n: c[::-1] for n, c in kernels.items()}

    def plan(trial: Kernels) -> Layout:
        return lay_out(net, trial)

    ends = [_improved(plan, layout, kernels), _improved(plan, plan(plain), plain)]
    return min(ends, key=lambda end: end.plan.arena_bytes)


def _improved(plan: Planner, layout: Layout, kernels: Kernels) -> Layout:
    """Other kernels for the calls that need the most, as long as the arena gets smaller by it."""
    while True:
        trials = [(plan(trial), trial) for trial in _alternatives(kernels, _neediest(layout))]
        if not trials:
            return layout
        better, trial = min(trials, key=lambda pair: pair[0].plan.arena_bytes)
        if better.plan.arena_bytes >= layout.plan.arena_bytes:
            return layout
        layout, kernels = better, trial


def _neediest(layout: Layout) -> list[str]:
    """The nodes whose buffers reach the end of the arena."""
    edge = layout.plan.arena_bytes - memory.ALIGNMENT
    high = [p for p in layout.plan.placed if p.offset + p.nbytes > edge]
    steps = sorted({step for p in high for step in (p.first, p.last)})
    return [layout.choices[s].node.name for s in steps if 0 <= s < len(layout.choices)]


def _alternatives(kernels: Kernels, names: Sequence[str]) -> list[Kernels]:
    """The kernels with another first choice for one of the nodes, and with the last for all of
    them."""
    found: list[Kernels] = []
    several = [n for n in names if len(kernels.get(n, ())) > 1]
    for name in several:
        for other in kernels[name][1:]:
            rest = [c for c in kernels[name] if c is not other]
            found.append({**kernels, name: [other, *rest]})
    if len(several) > 1:
        found.append({**kernels, **{n: kernels[n][::-1] for n in several}})
    return found
