"""The search for chains: which runs of calls are made in stripes, and how high a stripe is.

Every run of calls that can be a chain is a candidate, with an estimate of what is alive while it
runs and of the instructions that it costs. Of all ways to cut the order into chains and plain calls
dynamic programming finds the one of the least peak, or of the least cost within a peak.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinsmith.codegen.calls import Choice, Network
from tinsmith.codegen.kernels.reducing import sum_bytes
from tinsmith.codegen.layout import shared_bytes
from tinsmith.codegen.lives import spans_of
from tinsmith.codegen.stripes import Chain, Flow, chain_of, most_delta
from tinsmith.pipeline.ops import OPS, call_of

MOST_CALLS = 16  # of a chain
MOST_RUNS = 500  # of calls that are looked at: a bound on the time of networks of many layers
MOST_PEAKS = 40  # to which cuts are looked for
HEIGHTS = (1, 2, 4, 8, 16)
GRAINS = (1, 2)
# Estimates of instructions.
CALL = 100.0
MOVED_BYTE = 0.6
PRODUCT = 1.3
SLACK_BYTE = 300.0  # as much as keeps a chain from being cut where its calls go without slack


@dataclass(frozen=True, eq=False)
class Candidate:
    """A chain, or a plain call where it is None, of the calls from `first` to before `end`.

    slack_bytes: by which a plain call's output has to lie lower than the input that it overlaps.
    """

    first: int
    end: int
    peak_bytes: int
    cost: float
    chain: Chain | None = None
    slack_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Facts:
    """An order of calls, as the search sees it. shared: as in shared_bytes, of each call."""

    net: Network
    choices: Sequence[Choice]
    flow: Flow
    first: Mapping[str, int]
    last: Mapping[str, int]
    nbytes: Mapping[str, int]
    shared: tuple[Mapping[str, int], ...]
    products: tuple[float, ...]
    units: tuple[float, ...]

    @property
    def instructions(self) -> float:
        """Of all calls as they are, about."""
        return PRODUCT * sum(self.products) + CALL * len(self.choices)


def facts_of(net: Network, choices: Sequence[Choice], flow: Flow) -> Facts:
    first, last = spans_of(net, choices)
    nbytes = {n: net.graph.tensors[n].nbytes for n in first}
    computed = [c for c in choices if c.kernel is not None]
    products = [OPS[c.node.op].macs(call_of(net.graph, c.node)) for c in computed]
    return Facts(
        net,
        choices,
        flow,
        first,
        last,
        nbytes,
        tuple(shared_bytes(net, c) for c in choices),
        tuple(float(p) for p in products),
        tuple(_unit_rows(net, c) for c in computed),
    )


def _unit_rows(net: Network, choice: Choice) -> float:
    """How many rows a kernel makes at once, as its access trace tells; 0 where it doesn't tell.

    Pixels one after another may be a part of a row, or some more than one; what goes zigzag over
    several rows makes these as a whole.
    """
    rule = (choice.plan.overlap or {}).get(0)
    out = net.graph.tensors[choice.node.outputs[0]]
    if rule is None or len(out.shape) != 4:
        return 0.0
    high = rule.write_high[:2].tolist()
    rows = float(high[0]) * out.shape[1] / out.nbytes
    in_line = len(high) < 2 or high[1] == 2 * high[0]
    return rows if in_line or rows <= 1 else float(np.ceil(rows))


def plain_calls(facts: Facts) -> list[Candidate]:
    """Every call as it is, by itself."""
    return [
        Candidate(k, k + 1, _plain_peak(facts, k), 0.0, None, _slack(facts, k))
        for k in range(len(facts.choices))
    ]


def _slack(facts: Facts, place: int) -> int:
    out = facts.net.graph.tensors[facts.choices[place].node.outputs[0]].nbytes
    dying = [(n, s) for n, s in facts.shared[place].items() if facts.last[n] == place and s]
    return min((min(facts.nbytes[n], out) - s for n, s in dying), default=0)


def _plain_peak(facts: Facts, place: int) -> int:
    alive = sum(
        n for name, n in facts.nbytes.items() if facts.first[name] <= place <= facts.last[name]
    )
    dying = [n for name, n in facts.shared[place].items() if facts.last[name] == place]
    return alive + facts.choices[place].plan.scratch_bytes - max(dying, default=0)


def candidates(facts: Facts, plain: Sequence[Candidate]) -> list[Candidate]:
    """All chains that may lower the peak; of very many only the shorter ones."""
    graph = facts.net.graph
    floor = max(
        sum(graph.tensors[n].nbytes for n in graph.inputs),
        sum(graph.tensors[n].nbytes for n in graph.outputs),
    )
    most = max((p.peak_bytes for p in plain), default=0)
    runs = [
        (first, end)
        for first in range(len(plain))
        for end in range(first + 2, min(first + MOST_CALLS, len(plain)) + 1)
        if all(window is not None for window in facts.flow.windows[first:end])
        and max(p.peak_bytes for p in plain[first:end]) > floor
    ]
    runs.sort(key=lambda run: (run[1] - run[0], run))
    return [c for run in runs[:MOST_RUNS] for c in _of_heights(facts, *run, most)]


def _of_heights(facts: Facts, first: int, end: int, most: int) -> list[Candidate]:
    found = []
    for grain, ramp in itertools.product(GRAINS, (False, True)):
        for height in HEIGHTS:
            chain = chain_of(facts.flow, first, end, height, grain, ramp=ramp)
            peak = most if chain is None else _peak(facts, chain)
            if chain is None or peak >= most:
                break
            found.append(Candidate(first, end, peak, _cost(facts, chain), chain))
    return found


def _peak(facts: Facts, chain: Chain) -> int:
    """Bytes alive at once while the chain runs, but for what the planner can't fit."""
    places, flow = chain.places(), facts.flow
    alive = {
        name: n
        for name, n in facts.nbytes.items()
        if facts.first[name] < chain.end
        and facts.last[name] >= chain.first
        and name not in chain.lines
    }
    lines = {n: line.capacity * flow.row_bytes[n] for n, line in chain.lines.items()}
    retained = sum(lines[n] for n, line in chain.lines.items() if line.retained)
    passing = [n for n, line in chain.lines.items() if not line.retained]
    at_once = 0
    for k in places:
        here = sum(lines[n] for n in passing if facts.first[n] <= k <= facts.last[n])
        at_once = max(at_once, here + facts.choices[k].plan.scratch_bytes)
    if chain.reduces:
        last = facts.net.graph.tensors[chain.nodes[-1].inputs[0]]
        retained += sum_bytes(last.shape)
    return sum(alive.values()) + retained + at_once - _saved(facts, chain)


def _saved(facts: Facts, chain: Chain) -> int:
    """The most bytes that what the chain makes may share with what dies in it."""
    most = 0
    for k in chain.places():
        out = facts.flow.writes[k]
        if out in chain.lines or chain.sums(k):
            continue
        for name, size in facts.nbytes.items():
            dies = facts.last[name] in chain.places() and facts.first[name] < chain.first
            delta = most_delta(facts.flow, chain, name, k) if dies else None
            if delta is None:
                continue
            for i, read in facts.flow.reads[k].items():
                rule = (facts.choices[k].plan.overlap or {}).get(i)
                if read == name:
                    own = -(1 << 40) if rule is None or rule.exact else rule.max_delta()
                    delta = min(delta, own)
            made = facts.nbytes[out]
            most = max(most, size + made - max(size - min(delta, 0), made))
    return most


def _cost(facts: Facts, chain: Chain) -> float:
    """Instructions more than without stripes: calls, moves of rows, units that are not full."""
    cost = 0.0
    for k in chain.places():
        made = np.diff(chain.rows(k))
        cost += CALL * int((made > 0).sum())
        unit, rows = facts.units[k], int(made.sum())
        if unit and not chain.sums(k):
            full = np.ceil(made / unit - 1e-9) * unit
            cost += PRODUCT * facts.products[k] * float(full.sum() - rows) / rows
    for name, line in chain.lines.items():
        made = next(chain.rows(k) for k in chain.places() if facts.flow.writes[k] == name)
        moved = np.where(np.diff(line.low) > 0, made[1:-1] - line.low[1:], 0)
        cost += float(moved.sum()) * facts.flow.row_bytes[name] * MOVED_BYTE
    return cost


@dataclass(frozen=True, eq=False)
class Cut:
    """A way to make all calls: chains, in order, and the others as they are."""

    chains: tuple[Chain, ...]
    peak_bytes: int
    cost: float


def cuts(facts: Facts) -> list[Cut]:
    """The cheapest cuts within many a peak, from the least peak that there is to that of the plain
    calls; without that itself. Slack adds up from call to call, which no peak tells: within each
    peak there is also the cheapest one where slack costs."""
    plain = plain_calls(facts)
    parts = sorted([*plain, *candidates(facts, plain)], key=lambda p: p.end)
    count = len(plain)
    least = _least_peak(count, parts)
    most = max((p.peak_bytes for p in plain), default=0)
    peaks = sorted({p.peak_bytes for p in parts if least <= p.peak_bytes < most})
    found: dict[tuple[tuple[int, ...], ...], Cut] = {}
    for peak in peaks[:: -(-len(peaks) // MOST_PEAKS)] if peaks else ():
        for slack_cost in (0.0, SLACK_BYTE):
            cut = _cheapest(count, parts, peak, slack_cost)
            key = tuple((c.first, c.end, c.height, c.grain, c.stripes) for c in cut.chains)
            found.setdefault(key, cut)
    return list(found.values())


def _least_peak(count: int, parts: Sequence[Candidate]) -> int:
    """The peak of the cut of `count` calls into parts that has the least."""
    best = [0] + [1 << 60] * count
    for part in parts:
        best[part.end] = min(best[part.end], max(best[part.first], part.peak_bytes))
    return best[count]


def _cheapest(count: int, parts: Sequence[Candidate], peak_bytes: int, slack_cost: float) -> Cut:
    """The cheapest cut within a peak that is possible."""
    best: list[tuple[float, int, Candidate | None]] = [(0.0, 0, None)]
    best += [(float("inf"), 0, None)] * count
    for part in parts:
        if part.peak_bytes <= peak_bytes:
            cost, length, _ = best[part.first]
            cost += part.cost + slack_cost * part.slack_bytes
            reached = (cost, length + (part.chain is not None), part)
            best[part.end] = min(best[part.end], reached, key=lambda b: b[:2])
    taken = []
    place = count
    while place:
        last = best[place][2]
        assert last is not None
        taken.append(last)
        place = last.first
    chains = tuple(p.chain for p in reversed(taken) if p.chain is not None)
    peak = max((p.peak_bytes for p in taken), default=0)
    return Cut(chains, peak, sum(p.cost for p in taken))
