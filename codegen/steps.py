"""A layout as the steps of a program: kernel calls with views of the arena, chains stripe by
stripe, and stripes that are alike in a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinsmith.codegen.calls import Choice, Network, Streamed
from tinsmith.codegen.kernels.moves import move_plan
from tinsmith.codegen.kernels.reducing import pixel_of_sums_plan, sum_bytes
from tinsmith.codegen.layout import Layout
from tinsmith.codegen.program import MOVE, SUM, BufferView, KernelPlan, Loop, Placed, Step
from tinsmith.codegen.stripes import Chain
from tinsmith.codegen.summaries import part_summary, summary
from tinsmith.pipeline.graph import DType, Node
from tinsmith.pipeline.ops import call_of


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps as a program has them, and the buffers with their lives counted in these steps."""

    steps: tuple[Step, ...]
    loops: tuple[Loop, ...]
    buffers: tuple[Placed, ...]


@dataclass(frozen=True, eq=False)
class Places:
    """Where the buffers of a layout lie."""

    net: Network
    placed: Mapping[str, Placed]

    def view(self, tensor: str) -> BufferView:
        t, at = self.net.graph.tensors[tensor], self.placed[self.net.buffer(tensor)]
        return BufferView(at.offset, t.nbytes, t.dtype, t.shape, t.quant, at.region)

    def rows(self, tensor: str, first: int, end: int, low: int) -> BufferView:
        """Rows of a tensor whose buffer starts with row `low`."""
        t, whole = self.net.graph.tensors[tensor], self.view(tensor)
        row = t.nbytes // t.shape[1]
        shape = (t.shape[0], end - first, *t.shape[2:])
        return replace(
            whole,
            offset=whole.offset + (first - low) * row,
            nbytes=(end - first) * row,
            shape=shape,
            start=first * row,
        )

    def sums(self, node: Node, rows: int) -> BufferView:
        """The sums of a call that reduces rows, of so many of them."""
        at = self.placed[f"scratch of {node.name}"]
        shape = self.net.graph.tensors[node.inputs[0]].shape
        nbytes, start = sum_bytes(shape), rows * sum_bytes(shape)
        return BufferView(at.offset, nbytes, DType.INT32, (shape[3],), None, at.region, start=start)

    def scratch(self, node: Node, plan: KernelPlan) -> BufferView | None:
        if not plan.scratch_bytes:
            return None
        nbytes, at = plan.scratch_bytes, self.placed[f"scratch of {node.name}"]
        return BufferView(at.offset, nbytes, DType.INT8, (nbytes,), None, at.region)


def places_of(net: Network, layout: Layout) -> Places:
    return Places(net, {p.name: p for p in layout.plan.placed})


def steps_of(places: Places, layout: Layout) -> Steps:
    """What the program does, in order."""
    steps: list[Step] = []
    loops: list[Loop] = []
    graph = places.net.graph
    at: dict[int, tuple[int, int]] = {-1: (-1, -1)}  # place of a call -> its first and last step
    chains = {s.chain.first: s for s in layout.streamed}
    place = 0
    while place < len(layout.choices):
        begin, streamed = len(steps), chains.get(place)
        if streamed is None:
            steps.append(_whole(places, layout.choices[place]))
            place += 1
            at[place - 1] = begin, begin
            continue
        stripes = _stripes(places, layout.choices, streamed)
        for run in _runs(stripes):
            body = stripes[run[0]]
            if len(run) > 1:
                loops.append(Loop(len(steps), len(steps) + len(body), len(run)))
                body = [_stepping(*pair) for pair in zip(body, stripes[run[1]], strict=True)]
            steps += [replace(s, summary=part_summary(graph, s, len(run))) for s in body]
        at |= {k: (begin, len(steps) - 1) for k in streamed.chain.places()}
        place = streamed.chain.end
    at[place] = len(steps), len(steps)
    buffers = tuple(
        replace(p, first=at[p.first][0], last=at[p.last][1]) for p in layout.plan.placed
    )
    return Steps(tuple(steps), tuple(loops), buffers)


def _whole(places: Places, choice: Choice) -> Step:
    node, graph = choice.node, places.net.graph
    reads = places.net.reads(node)
    ins = tuple(places.view(n) if i in reads else None for i, n in enumerate(node.inputs))
    outs = tuple(places.view(n) for n in node.outputs)
    scratch, text = places.scratch(node, choice.plan), summary(graph, node)
    return Step(node, choice.name, choice.template, choice.plan, ins, outs, scratch, text)


def _stripes(places: Places, choices: Sequence[Choice], streamed: Streamed) -> list[list[Step]]:
    """The steps of each stripe."""
    chain = streamed.chain
    plans: dict[int, KernelPlan] = {}  # with the constants that the program has; one of each
    stripes = []
    for stripe in range(chain.stripes):
        steps: list[Step] = []
        for place in chain.places():
            plan = streamed.plans[place][stripe]
            if plan is None:
                continue
            choice = choices[place]
            if chain.sums(place):
                steps.append(_sum(places, chain, choice.node, plan, stripe))
                continue
            if id(plan) not in plans:
                plans[id(plan)] = replace(plan, constants=choice.plan.constants)
            steps += _moves(places, chain, choice.node, stripe)
            steps.append(_part(places, chain, place, choice, plans[id(plan)], stripe))
        if steps:  # of those ahead of the last call, one may make nothing
            stripes.append(steps)
    if chain.reduces:
        stripes[-1].append(_pixel(places, chain.nodes[-1]))
    return stripes


def _sum(places: Places, chain: Chain, node: Node, plan: KernelPlan, stripe: int) -> Step:
    """A stripe's rows added to the sums, whose place and size say of how many rows they are."""
    name = node.inputs[0]
    begin, end = (int(n) for n in chain.rows(chain.end - 1)[stripe : stripe + 2])
    rows = places.rows(name, begin, end, chain.low(places.net.buffer(name), stripe))
    before = places.sums(node, begin) if begin else None
    sums = f"sums of {node.name}"
    adding = Node(sums, SUM, (name, sums), (sums,))
    return Step(
        adding, "sum_rows", "sum_rows", plan, (rows, before), (places.sums(node, end),), None, ""
    )


def _pixel(places: Places, node: Node) -> Step:
    """The output of a call that reduces rows, from its sums."""
    call = call_of(places.net.graph, node)
    sums, out = places.sums(node, call.input(0).shape[1]), places.view(node.outputs[0])
    last = Node(node.name, node.op, (f"sums of {node.name}",), node.outputs, node.attrs)
    kernel = "pixel_of_sums"
    return Step(last, kernel, kernel, pixel_of_sums_plan(call), (sums,), (out,), None, "")


def _part(
    places: Places, chain: Chain, place: int, choice: Choice, plan: KernelPlan, stripe: int
) -> Step:
    """What a stripe makes of a call's output."""
    node, made = choice.node, chain.rows(place)
    begin, end = int(made[stripe]), int(made[stripe + 1])
    windows, net = chain.windows[place - chain.first], places.net
    reads = net.reads(node)
    ins: list[BufferView | None] = []
    for i, name in enumerate(node.inputs):
        if i not in reads:
            ins.append(None)
        elif i in windows:
            height = net.graph.tensors[name].shape[1]
            first, stop = windows[i].first(begin), windows[i].end(end, height)
            ins.append(places.rows(name, first, stop, chain.low(reads[i], stripe)))
        else:
            ins.append(places.view(name))
    out = places.rows(node.outputs[0], begin, end, chain.low(node.outputs[0], stripe))
    scratch = places.scratch(node, plan)
    return Step(node, choice.name, choice.template, plan, tuple(ins), (out,), scratch, "")


def _moves(places: Places, chain: Chain, node: Node, stripe: int) -> list[Step]:
    """The rows that are still needed moved to the start of their buffer, where there are such."""
    name = node.outputs[0]
    line = chain.lines.get(name)
    if line is None or not stripe:
        return []
    place = next(k for k in chain.places() if chain.nodes[k - chain.first] is node)
    before, low = int(line.low[stripe - 1]), int(line.low[stripe])
    end = int(chain.rows(place)[stripe])
    if low in (before, end):
        return []
    source = places.rows(name, low, end, before)
    target = places.rows(name, low, end, low)
    move = Node(f"rows of {node.name}", MOVE, (name,), (name,))
    plan = move_plan(source.nbytes, words=source.offset % 4 == 0 and source.nbytes % 4 == 0)
    return [Step(move, "move_rows", "move_rows", plan, (source,), (target,), None, "")]


def _runs(stripes: Sequence[Sequence[Step]]) -> list[range]:
    """The stripes in runs that a loop can make: all views move by the same from each to the next.

    The longest run is taken first.
    """
    todo, found = [range(len(stripes))], []
    while todo:
        part = todo.pop()
        best = part[:1]
        begin = part.start
        for stripe in part[1:]:
            if not _follows(stripes, begin, stripe):
                begin = stripe - 1 if _follows(stripes, stripe - 1, stripe) else stripe
            if stripe + 1 - begin > len(best):
                best = range(begin, stripe + 1)
        found.append(best)
        rest = (range(part.start, best.start), range(best.stop, part.stop))
        todo += [r for r in rest if len(r)]
    return sorted(found, key=lambda run: run.start)


def _follows(stripes: Sequence[Sequence[Step]], begin: int, stripe: int) -> bool:
    """Whether a stripe can be in a loop that starts at `begin` and has all stripes in between."""
    first, this = stripes[begin], stripes[stripe]
    if len(first) != len(this):
        return False
    rounds = stripe - begin
    for index, (a, b) in enumerate(zip(first, this, strict=True)):
        if a.node.name != b.node.name or not _same_plan(a.plan, b.plan):
            return False
        second = stripes[begin + 1][index]
        for x, y, z in zip(
            (*a.ins, *a.outs), (*second.ins, *second.outs), (*b.ins, *b.outs), strict=True
        ):
            if x is None or y is None or z is None:
                continue
            if x.nbytes != z.nbytes or z.offset - x.offset != rounds * (y.offset - x.offset):
                return False
            if z.start - x.start != rounds * (y.start - x.start):
                return False
    return True


def _same_plan(a: KernelPlan, b: KernelPlan) -> bool:
    return a is b or (not a.constants and a.fixed == b.fixed and a.shape == b.shape)


def _stepping(first: Step, second: Step) -> Step:
    """The first round's step, with how far its views move to the second's."""

    def moved(a: BufferView, b: BufferView) -> BufferView:
        return replace(a, offset_step=b.offset - a.offset, start_step=b.start - a.start)

    ins = tuple(
        None if a is None or b is None else moved(a, b)
        for a, b in zip(first.ins, second.ins, strict=True)
    )
    outs = tuple(moved(a, b) for a, b in zip(first.outs, second.outs, strict=True))
    return replace(first, ins=ins, outs=outs)
