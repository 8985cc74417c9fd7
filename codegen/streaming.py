"""The kernels of a chain that is made in stripes: one for each call, with a plan for each stripe.

A stripe is the kernel's own work on a smaller image: the rows that its windows need, with padding
above and below only where they leave the image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinsmith.codegen.calls import Choice, Kernels, Network, Streamed, state_updates
from tinsmith.codegen.kernels.reducing import sum_bytes, sum_rows_plan
from tinsmith.codegen.layout import Layout, place
from tinsmith.codegen.program import KernelPlan
from tinsmith.codegen.row_windows import part_of
from tinsmith.codegen.stripes import Chain, Flow, flow_of
from tinsmith.pipeline.ops import OpCall, call_of

# What was planned before: (node, kernel, shapes, attributes) -> plan; None where it can't.
Planned = dict[object, KernelPlan | None]


@dataclass(frozen=True, eq=False)
class Order:
    """Calls in an order, to be cut into chains. names: of their nodes."""

    net: Network
    names: tuple[str, ...]
    flow: Flow
    planned: Planned

    def choices(self, kernels: Kernels) -> list[Choice]:
        """The calls with the first kernel of each node."""
        return [*(kernels[n][0] for n in self.names), *state_updates(self.net)]

    def laid_out(
        self, chains: Sequence[Chain], kernels: Kernels, limit_bytes: int
    ) -> Layout | None:
        """The plan with these chains and kernels, where it is smaller than a limit and kernels can
        make all stripes."""
        choices = self.choices(kernels)
        made: list[Streamed] = []
        for chain in chains:
            found = streamed(self.net, self.flow, choices, kernels, chain, self.planned)
            if found is None:
                return None
            choices, one = found
            made.append(one)
        return place(self.net, choices, made, limit_bytes)


def order_of(net: Network, choices: Sequence[Choice], planned: Planned) -> Order:
    """The order that these calls are in."""
    names = tuple(c.node.name for c in choices if c.kernel is not None)
    flow = flow_of(net.graph, [c.node for c in choices], net.alias, net.kept)
    return Order(net, names, flow, planned)


def streamed(
    net: Network,
    flow: Flow,
    choices: Sequence[Choice],
    kernels: Kernels,
    chain: Chain,
    planned: Planned,
) -> tuple[list[Choice], Streamed] | None:
    """The choices with, for each call of the chain, the first kernel that can make every stripe,
    and its plans; None where a call has none."""
    made = list(choices)
    plans = {}
    for k in chain.places():
        if chain.sums(k):
            call = call_of(net.graph, flow.nodes[k])
            scratch = sum_bytes(call.input(0).shape)
            made[k] = replace(made[k], plan=replace(made[k].plan, scratch_bytes=scratch))
            plans[k] = _sums(call, chain)
            continue
        calls = _calls(net, flow, chain, k)
        if calls is None:
            return None
        others = kernels[choices[k].node.name]
        found = next(
            (
                (choice, stripes)
                for choice in (choices[k], *others)
                if (stripes := _plans(choice, calls, planned)) is not None
            ),
            None,
        )
        if found is None:
            return None
        choice, stripes = found
        scratch = max(p.scratch_bytes for p in stripes if p is not None)
        made[k] = replace(choice, plan=replace(choice.plan, scratch_bytes=scratch))
        plans[k] = stripes
    return made, Streamed(chain, plans)


def _sums(call: OpCall, chain: Chain) -> tuple[KernelPlan | None, ...]:
    """How each stripe adds its rows to the sums."""
    made = chain.rows(chain.end - 1).tolist()
    return tuple(
        sum_rows_plan(call, end - begin, first=not begin) if end > begin else None
        for begin, end in itertools.pairwise(made)
    )


def _calls(net: Network, flow: Flow, chain: Chain, place: int) -> list[OpCall | None] | None:
    """The call of each stripe, None where a stripe makes no rows; None where one can't be made."""
    call, windows = call_of(net.graph, flow.nodes[place]), flow.windows[place]
    assert windows is not None
    made = chain.rows(place)
    calls: list[OpCall | None] = []
    for begin, end in zip(made[:-1].tolist(), made[1:].tolist(), strict=True):
        part = part_of(call, windows, begin, end) if end > begin else None
        if part is None and end > begin:
            return None
        calls.append(None if part is None else part[0])
    return calls


def _plans(
    choice: Choice, calls: Sequence[OpCall | None], planned: Planned
) -> tuple[KernelPlan | None, ...] | None:
    """The kernel's plan of every stripe, all with the arrays of the whole; None where it can't."""
    if choice.kernel is None:
        return None
    plans: list[KernelPlan | None] = []
    for call in calls:
        if call is None:
            plans.append(None)
            continue
        shapes = tuple(t.shape for t in (*call.inputs, *call.outputs) if t is not None)
        key = (call.name, choice.kernel.name, shapes, call.attrs)
        if key not in planned:
            planned[key] = _plan(choice, call)
        plan = planned[key]
        if plan is None:
            return None
        plans.append(plan)
    return tuple(plans)


def _plan(choice: Choice, call: OpCall) -> KernelPlan | None:
    assert choice.kernel is not None
    if not choice.kernel.when(call):
        return None
    plan, whole = choice.kernel.plan(call), choice.plan.constants
    same = len(plan.constants) == len(whole) and all(
        a.ctype == b.ctype and np.array_equal(a.data, b.data)
        for a, b in zip(plan.constants, whole, strict=True)
    )
    return replace(plan, constants=whole) if same else None
