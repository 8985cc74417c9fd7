"""The lives of a network's buffers, and which of them may share bytes, for the arena's planner.

Time is the place in the order of calls. What a chain of stripes reads or makes as a whole is alive
from its first call to its last; of what it never has as a whole only the line buffer is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinsmith.codegen.calls import Choice, Network, Streamed
from tinsmith.codegen.memory import Life, MayOverlap
from tinsmith.codegen.stripes import Flow, most_delta


def lives_of(
    net: Network, choices: Sequence[Choice], flow: Flow, streamed: Sequence[Streamed] = ()
) -> tuple[list[Life], list[MayOverlap]]:
    """What the planner places: buffers and scratch, and the overlaps that kernels allow."""
    lines = {n: line for s in streamed for n, line in s.chain.lines.items()}
    first, last = spans_of(net, choices, streamed)
    lives, overlaps = [], []
    for name in first:
        nbytes = net.graph.tensors[name].nbytes
        if name in lines:
            nbytes = lines[name].capacity * flow.row_bytes[name]
        lives.append(Life(name, nbytes, first[name], last[name]))
    chain_at = {k: s for s in streamed for k in s.chain.places()}
    for place, choice in enumerate(choices):
        if choice.plan.scratch_bytes:
            name = f"scratch of {choice.node.name}"
            sums = place in chain_at and chain_at[place].chain.sums(place)
            begin = chain_at[place].chain.first if sums else place
            lives.append(Life(name, choice.plan.scratch_bytes, begin, place))
        if place in chain_at:
            overlaps += _chain_overlaps(net, flow, chain_at[place], place, first, last)
        else:
            overlaps += _overlaps(net, choice, place, first, last)
    return lives, overlaps


def spans_of(
    net: Network, choices: Sequence[Choice], streamed: Sequence[Streamed] = ()
) -> tuple[dict[str, int], dict[str, int]]:
    """The first and the last place at which each buffer is alive; -1 is before all calls."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    graph = net.graph
    for name in (*graph.inputs, *(s.tensor for s in graph.state)):
        root = net.buffer(name)
        first[root] = last[root] = -1
    for place, choice in enumerate(choices):
        for root in net.reads(choice.node).values():
            last[root] = place
        for name in choice.node.outputs:
            root = net.buffer(name)
            first.setdefault(root, place)
            last[root] = max(last.get(root, place), place)
    for name in net.kept:
        last[name] = len(choices)
    for s in streamed:
        places = s.chain.places()
        passing = {n for n, line in s.chain.lines.items() if not line.retained}
        for name in first.keys() - passing:
            if first[name] in places:
                first[name] = places[0]
            if last[name] in places:
                last[name] = places[-1]
    return first, last


def _overlaps(
    net: Network, choice: Choice, place: int, first: Mapping[str, int], last: Mapping[str, int]
) -> list[MayOverlap]:
    """The overlaps that the kernel allows between its first output and inputs that die here."""
    out = net.buffer(choice.node.outputs[0])
    if first[out] != place or choice.plan.overlap is None:
        return []
    limits: dict[str, int | None] = {}
    exact: set[str] = set()
    for i, root in net.reads(choice.node).items():
        if last[root] != place:
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
    return [MayOverlap(root, out, d, root in exact) for root, d in limits.items() if d is not None]


def _chain_overlaps(
    net: Network,
    flow: Flow,
    streamed: Streamed,
    place: int,
    first: Mapping[str, int],
    last: Mapping[str, int],
) -> list[MayOverlap]:
    """The overlaps of what a chain's call makes with what dies in the chain."""
    chain, out = streamed.chain, flow.writes[place]
    made = {flow.writes[k] for k in chain.places()}
    line = chain.lines.get(out)
    if chain.sums(place) or (line is not None and line.retained):
        return []
    found = []
    for root in first:
        dies = last[root] == (chain.end - 1 if line is None else place)
        if root == out or not dies or (root in made) != (line is not None):
            continue
        delta: int | None = 1 << 40
        if line is None:
            delta = most_delta(flow, chain, root, place)
        elif root not in chain.lines or chain.lines[root].retained:
            delta = None
        own = _own_delta(flow, streamed, place, root)
        if delta is not None and own is not None:
            found.append(MayOverlap(root, out, min(delta, own)))
    return found


def _own_delta(flow: Flow, streamed: Streamed, place: int, root: str) -> int | None:
    """How far above `root` a call's output may lie, as far as its own reads of it decide.

    Both count from their first rows, or from their buffers' starts where they are never whole.
    """
    chain = streamed.chain
    least = 1 << 40
    for i in (i for i, name in flow.reads[place].items() if name == root):
        window = (flow.windows[place] or {}).get(i)
        made = chain.rows(place)
        for stripe, plan in enumerate(streamed.plans[place]):
            if plan is None:
                continue
            rule = (plan.overlap or {}).get(i)
            if rule is None or rule.exact or window is None:
                return None
            read, written = 0, 0
            if root not in chain.lines:
                node = flow.nodes[place]
                read = window.first(int(made[stripe])) * flow.row_bytes[node.inputs[i]]
                written = int(made[stripe]) * flow.row_bytes[node.outputs[0]]
            least = min(least, rule.max_delta() + read - written)
    return least
