"""The order of calls of the least memory, the arena's plan, and what the objectives prefer."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from support.nets import Net
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.memory import Life, MayOverlap, plan_memory
from tinsmith.codegen.order import Work, least_peak_order, peak_of
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs

M4, M3 = ("dsp", "c"), ("m3", "c")


def random_works(rng: random.Random, count: int) -> tuple[list[Work], dict[str, int]]:
    """A random graph: every call reads one or two earlier buffers and writes one."""
    nbytes = {"x": rng.randrange(1, 100)}
    works = []
    for i in range(count):
        reads = tuple(rng.sample(sorted(nbytes), min(len(nbytes), rng.choice((1, 1, 2)))))
        nbytes[f"t{i}"] = rng.randrange(1, 100)
        shared = {n: min(nbytes[n], nbytes[f"t{i}"]) // 2 for n in reads if rng.random() < 0.5}
        works.append(Work(reads, (f"t{i}",), rng.choice((0, 0, 20)), shared))
    return works, nbytes


def valid_orders(works: list[Work]) -> list[tuple[int, ...]]:
    makers = {w.writes[0]: i for i, w in enumerate(works)}
    found = []
    for order in itertools.permutations(range(len(works))):
        at = {node: k for k, node in enumerate(order)}
        needs = (
            (at[i], at[makers[n]]) for i, w in enumerate(works) for n in w.reads if n in makers
        )
        if all(maker < reader for reader, maker in needs):
            found.append(order)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_the_order_has_the_least_peak_of_all_valid_orders(seed: int) -> None:
    works, nbytes = random_works(random.Random(seed), 6)
    kept = {works[-1].writes[0]}
    order = least_peak_order(works, nbytes, ["x"], kept)
    orders = valid_orders(works)
    assert order in orders
    least = min(peak_of(o, works, nbytes, ["x"], kept) for o in orders)
    assert peak_of(order, works, nbytes, ["x"], kept) == least


def test_the_given_order_stays_where_no_other_is_better() -> None:
    chain = [Work((f"t{i}",), (f"t{i + 1}",), 0, {}) for i in range(5)]
    nbytes = {f"t{i}": 10 for i in range(6)}
    assert least_peak_order(chain, nbytes, ["t0"], {"t5"}) == (0, 1, 2, 3, 4)


def branches(rng: np.random.Generator) -> Graph:
    """Two branches that widen and narrow again; in the graph's order both are wide at once."""
    net = Net("branches", rng)
    x = net.input((1, 8, 8, 4), 0.05, 3)
    ends = []
    wide = []
    for _ in range(2):
        w = net.weights((32, 1, 1, 4), x, axis=0)
        wide.append(net.node("conv2d", [x, w, net.bias(w, x, 32)], Conv2dAttrs()))
    for y in wide:
        w = net.weights((4, 1, 1, 32), y, axis=0)
        ends.append(net.node("conv2d", [y, w, net.bias(w, y, 4)], Conv2dAttrs()))
    return net.graph([net.node("add", ends, AddAttrs())])


@pytest.mark.parametrize("isa", [M4, M3, ("c",)])
def test_branches_run_one_after_the_other_where_that_saves_memory(isa: tuple[str, ...]) -> None:
    graph = branches(np.random.default_rng(5))
    program = lower(graph, "net", isa)
    assert program.arena_bytes < 2 * 8 * 8 * 32, "both branches are wide at once"
    assert {s.node.name for s in program.steps} == {n.name for n in graph.nodes}


@pytest.mark.parametrize("isa", [M4, M3])
def test_each_objective_is_the_best_in_what_it_prefers(isa: tuple[str, ...]) -> None:
    graph = branches(np.random.default_rng(5))
    made = {
        o: lower(graph, "net", isa, LowerOptions(o)) for o in ("balanced", "time", "size", "ram")
    }
    assert made["size"].weight_bytes < made["time"].weight_bytes
    assert made["size"].weight_bytes == min(p.weight_bytes for p in made.values())
    assert made["ram"].arena_bytes == min(p.arena_bytes for p in made.values())
    assert made["ram"].arena_bytes < made["time"].arena_bytes
    for layer, kernel in made["time"].kernels.items():
        # Eight channels at once take the fewest instructions, but on 8 x 8 pixels more flash than
        # that is worth.
        if kernel != "conv2d_eights_m3":
            assert kernel == made["balanced"].kernels[layer]
    assert made["balanced"].weight_bytes <= made["time"].weight_bytes


def overlapping(placed: dict[str, tuple[int, Life]], rules: list[MayOverlap]) -> list[str]:
    """Pairs that share bytes and a step, and may not."""
    allowed = {(r.earlier, r.later): r for r in rules}
    wrong = []
    for (a, (at_a, la)), (b, (at_b, lb)) in itertools.permutations(placed.items(), 2):
        meet = la.first <= lb.last and lb.first <= la.last
        shares = at_a < at_b + lb.nbytes and at_b < at_a + la.nbytes
        rule = allowed.get((a, b)) or allowed.get((b, a))
        fine = (
            rule is not None and placed[rule.later][0] - placed[rule.earlier][0] <= rule.max_delta
        )
        if meet and shares and not fine:
            wrong.append(f"{a} {b}")
    return wrong


@pytest.mark.parametrize("seed", range(30))
def test_a_plan_keeps_its_rules_and_is_near_its_bound(seed: int) -> None:
    rng = random.Random(seed)
    lives = [Life("x", 4 * rng.randrange(1, 60), -1, 0)]
    rules = []
    for step in range(9):
        last = min(step + rng.choice((1, 1, 1, 3)), 9)
        lives.append(Life(f"t{step}", 4 * rng.randrange(1, 60), step, last))
        before = [b for b in lives[:-1] if b.last == step]
        if before and rng.random() < 0.6:
            delta = -4 * rng.randrange(0, 4)
            rules.append(MayOverlap(before[-1].name, f"t{step}", delta))
    plan = plan_memory(lives, rules)
    placed = {b.name: (plan.offset(b.name), b) for b in lives}
    assert not overlapping(placed, rules)
    assert plan.arena_bytes == max(at + b.nbytes for at, b in placed.values())
    assert plan.lower_bound <= plan.arena_bytes <= plan.lower_bound * 1.25
