"""The plan of the smallest arena: kernels that need less scratch, and chains made in stripes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tinsmith.codegen import memory
from tinsmith.codegen.calls import Kernels, Network
from tinsmith.codegen.chains import Cut, cuts, facts_of
from tinsmith.codegen.layout import Layout, orders, smaller_layout
from tinsmith.codegen.streaming import Order, Planned, order_of

Planner = Callable[[Kernels, int], Layout | None]  # the plan where it is smaller than so many bytes
MOST_LAYOUTS = 4  # how many cuts into chains are laid out
MODEST = 1.1  # times the instructions of whole layers
SAVING = 1 / 8  # of the arena: what a slower kernel has to save
FLASH_FOR_RAM = 8  # bytes of flash that one of RAM is worth: about as many as parts have


def least_ram(
    net: Network, kernels: Kernels, layout: Layout, limit_bytes: int | None = None
) -> Layout:
    """The smallest plan found, within reason: what costs more instructions has to save much.

    layout: the plan of the first kernels. limit_bytes: the fastest plan that is not larger is
    wanted, where there is one.
    """
    best = layout
    plan: Planner = partial(smaller_layout, net)
    planned: Planned = {}
    for choices in orders(net, kernels):
        order = order_of(net, choices, planned)
        found = _streamed(order, kernels, best, limit_bytes)
        if found is not None:
            best, plan = found
    if limit_bytes is not None and _size(best) <= limit_bytes:
        return best
    return _improved(plan, best, kernels, SAVING if limit_bytes is None else 0)


def leaner(kernels: Kernels, fastest: Kernels) -> Kernels | None:
    """The kernels with those first that are the fastest whatever flash they take, where they need
    less scratch; None where there are none."""
    found = dict(kernels)
    for name, own in kernels.items():
        fast = fastest[name][0]
        if fast.plan.scratch_bytes < own[0].plan.scratch_bytes:
            found[name] = [fast, *(c for c in own if c.kernel is not fast.kernel)]
    return None if all(found[name] is own for name, own in kernels.items()) else found


def less_memory(one: Layout, other: Layout) -> Layout:
    """The layout of less arena, where it does not take too much flash for that."""

    def memory_of(layout: Layout) -> int:
        constants = sum(c.nbytes for choice in layout.choices for c in choice.plan.constants)
        return FLASH_FOR_RAM * _size(layout) + constants

    return min(one, other, key=memory_of)


def _size(layout: Layout) -> int:
    return layout.plan.arena_bytes


def _streamed(
    order: Order, kernels: Kernels, best: Layout, limit_bytes: int | None
) -> tuple[Layout, Planner] | None:
    """The best plan with chains in an order of calls, where it is smaller than `best`, and how it
    is made with other kernels."""
    facts = facts_of(order.net, order.choices(kernels), order.flow)
    whole = facts.instructions
    found: tuple[float, Layout, Planner] | None = None
    for cut in _ranked(cuts(facts), whole, limit_bytes)[:MOST_LAYOUTS]:
        layout = order.laid_out(cut.chains, kernels, _size(best))
        if layout is None:
            continue
        score = _score(_size(layout), cut.cost, whole, limit_bytes)
        if score < (_score(_size(best), 0, whole, limit_bytes) if found is None else found[0]):
            found = score, layout, partial(order.laid_out, cut.chains)
    return None if found is None else found[1:]


def _ranked(cuts: Sequence[Cut], whole: float, limit_bytes: int | None) -> list[Cut]:
    """The best first, as far as estimates tell."""
    return sorted(cuts, key=lambda cut: _score(cut.peak_bytes, cut.cost, whole, limit_bytes))


def _score(nbytes: int, cost: float, whole: float, limit_bytes: int | None) -> float:
    """What is to be small: the instructions of plans within a limit, beyond it the bytes; without
    one the bytes, where what costs more than MODEST instructions has to save much."""
    slower = 1 + cost / whole
    if limit_bytes is None:
        return nbytes * slower ** (0.5 if slower <= MODEST else 2)
    return slower / 1e6 if nbytes <= limit_bytes else float(nbytes)


def _improved(plan: Planner, layout: Layout, kernels: Kernels, saving: float) -> Layout:
    """Slower kernels for the calls that need the most, as long as each saves such a part of the
    arena."""
    while True:
        found: Kernels | None = None
        limit = _size(layout) - int(_size(layout) * saving)
        for trial in _alternatives(kernels, _neediest(layout)):
            better = plan(trial, limit)
            if better is not None:
                layout, found, limit = better, trial, _size(better)
        if found is None:
            return layout
        kernels = found


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
