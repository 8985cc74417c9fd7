"""Several memories: buffers that the kernels use most go to the fast ones, the rest to the others.

Each buffer lies in one memory, and each memory has a plan of its own; a kernel's output may lie
over its input where both are in the same. How much a kernel reads and writes is estimated from its
products: it decides the place of a buffer, never what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tinsmith.codegen.calls import Choice, Network
from tinsmith.codegen.layout import Layout, alignment_of
from tinsmith.codegen.lives import lives_of
from tinsmith.codegen.memory import Life, MayOverlap, MemoryPlan, lower_bound, plan_memory
from tinsmith.codegen.program import Memory
from tinsmith.codegen.stripes import flow_of
from tinsmith.pipeline.ops import OPS, call_of

# An activation that is read is multiplied by the weights of so many output channels.
CHANNELS_AT_ONCE = 4
MORE_TRIALS = 12  # buffers tried one by one after the longest run of the hottest that has room


@dataclass(frozen=True, eq=False)
class _Task:
    """What to place. traffic: bytes that the kernels read and write of each buffer."""

    lives: Sequence[Life]
    overlaps: Sequence[MayOverlap]
    alignment: int
    traffic: Mapping[str, int]

    def plan(self, names: set[str]) -> MemoryPlan:
        lives, overlaps = self._of(names)
        return plan_memory(lives, overlaps, self.alignment)

    def may_fit(self, names: set[str], nbytes: int) -> bool:
        lives, overlaps = self._of(names)
        return lower_bound(lives, overlaps, self.alignment) <= nbytes

    def _of(self, names: set[str]) -> tuple[list[Life], list[MayOverlap]]:
        lives = [b for b in self.lives if b.name in names]
        return lives, [o for o in self.overlaps if {o.earlier, o.later} <= names]


@dataclass(frozen=True, eq=False)
class _Split:
    """Plans by memory, in the order of the memories. over: bytes that have no room."""

    plans: Sequence[MemoryPlan]
    over: int
    slow_traffic: int


def into_memories(net: Network, layout: Layout, memories: Sequence[Memory]) -> Layout:
    """The layout with its buffers in the memories, which are given from the fastest to the slowest,
    each with the `limit_bytes` that the arena in it may have.

    All of it lies in the first memory that has room; else the hottest buffers do. Where there is
    not enough room, some `nbytes` of the result are above the limit.
    """
    if len(memories) < 2 or layout.plan.arena_bytes <= _limit(memories[0]):
        return _in_one(layout, memories[0])
    flow = flow_of(net.graph, [c.node for c in layout.choices], net.alias, net.kept)
    lives, overlaps = lives_of(net, layout.choices, flow, layout.streamed)
    task = _Task(lives, overlaps, alignment_of(net), _traffic(net, layout.choices))
    splits = [_split(task, order, memories) for order in _orders(task)]
    best = min(splits, key=lambda s: (s.over, s.slow_traffic, sum(p.arena_bytes for p in s.plans)))
    if best.over:
        whole = next((m for m in memories if layout.plan.arena_bytes <= _limit(m)), None)
        if whole is not None:
            return _in_one(layout, whole)
    return _placed(layout, best.plans, memories)


def _limit(memory: Memory) -> int:
    return 1 << 62 if memory.limit_bytes is None else memory.limit_bytes


def _in_one(layout: Layout, memory: Memory) -> Layout:
    return replace(layout, memories=(replace(memory, nbytes=layout.plan.arena_bytes),))


def _placed(layout: Layout, plans: Sequence[MemoryPlan], memories: Sequence[Memory]) -> Layout:
    used = [(m, p) for m, p in zip(memories, plans, strict=True) if p.placed]
    if len(used) == 1:
        return replace(_in_one(layout, used[0][0]), plan=used[0][1])
    placed = tuple(replace(b, region=m.name) for m, p in used for b in p.placed)
    total = sum(p.arena_bytes for _, p in used)
    return replace(
        layout,
        plan=MemoryPlan(placed, total, layout.plan.lower_bound),
        memories=tuple(replace(m, nbytes=p.arena_bytes) for m, p in used),
    )


def _orders(task: _Task) -> list[list[Life]]:
    """The orders in which buffers may ask for the fast memories: the hottest first, by the byte;
    the largest first, so that what is left fits the others."""
    traffic = task.traffic
    return [
        sorted(task.lives, key=lambda b: (-traffic[b.name] / max(b.nbytes, 1), b.first, b.name)),
        sorted(task.lives, key=lambda b: (-b.nbytes, -traffic[b.name], b.name)),
    ]


def _split(task: _Task, order: Sequence[Life], memories: Sequence[Memory]) -> _Split:
    rest = [b.name for b in order]
    plans: list[MemoryPlan] = []
    slow = 0
    for memory in memories[:-1]:
        taken = _fill(task, rest, _limit(memory))
        rest = [n for n in rest if n not in taken]
        slow += sum(task.traffic[n] for n in rest)
        plans.append(task.plan(taken))
    plans.append(task.plan(set(rest)))
    over = [max(p.arena_bytes - _limit(m), 0) for p, m in zip(plans, memories, strict=True)]
    return _Split(plans, sum(over), slow)


def _fill(task: _Task, names: Sequence[str], room: int) -> set[str]:
    """The buffers, in the order of `names`, of which a plan fits a memory of so many bytes."""

    def fits(trial: set[str]) -> bool:
        return task.may_fit(trial, room) and task.plan(trial).arena_bytes <= room

    low, high = 0, len(names)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(set(names[:middle])) else (low, middle - 1)
    taken, trials = set(names[:low]), 0
    for name in names[low:]:
        if trials < MORE_TRIALS and task.may_fit({*taken, name}, room):
            trials += 1
            taken |= {name} if fits({*taken, name}) else set()
    return taken


def _traffic(net: Network, choices: Sequence[Choice]) -> dict[str, int]:
    """Bytes read and written of every buffer in one run, as far as the kernels' products tell."""
    total: dict[str, int] = {}
    for choice in choices:
        for name, nbytes in _accesses(net, choice):
            total[name] = total.get(name, 0) + nbytes
    names = (*net.graph.inputs, *(s.tensor for s in net.graph.state))
    return dict.fromkeys((net.buffer(n) for n in names), 0) | total


def _accesses(net: Network, choice: Choice) -> Iterator[tuple[str, int]]:
    """(buffer, bytes read or written) of one call.

    Products read their activations from the scratch where the kernel gathers them there, else from
    the input.
    """
    node, tensors = choice.node, net.graph.tensors
    macs = OPS[node.op].macs(call_of(net.graph, node)) if node.op in OPS else 0
    read = macs if node.op == "depthwise_conv2d" else macs // CHANNELS_AT_ONCE
    scratch = choice.plan.scratch_bytes
    for i, name in net.reads(node).items():
        nbytes = tensors[node.inputs[i]].nbytes
        yield name, nbytes if scratch or i else max(nbytes, read)
    for output in node.outputs:
        yield net.buffer(output), tensors[output].nbytes
    if scratch:
        yield f"scratch of {node.name}", max(2 * scratch, read)
