"""The exact search of the arena planner, against every placing there is."""

from __future__ import annotations

import itertools
import random

from support.random_network import random_network
from tinsmith.codegen import exact, memory
from tinsmith.codegen.lower import lower
from tinsmith.codegen.memory import Life, MayOverlap, MemoryPlan, lower_bound, plan_memory

Task = tuple[list[Life], list[MayOverlap], int]


def _random_task(rng: random.Random) -> Task:
    """A few buffers, with rules between what dies at a step and what is made there."""
    alignment = rng.choice((1, 4, 8))
    lives = []
    for i in range(rng.randint(2, 5)):
        first = rng.randint(-1, 3)
        lives.append(Life(f"b{i}", rng.randint(1, 5 * alignment), first, first + rng.randint(0, 2)))
    rules = [
        MayOverlap(a.name, b.name, 0 if same else rng.randint(-12, 12), same)
        for a, b in itertools.permutations(lives, 2)
        if a.last == b.first and a.first < b.first and rng.random() < 0.7
        for same in [rng.random() < 0.3]
    ]
    return lives, rules, alignment


def _is_allowed(a: Life, b: Life, distance: int, rules: list[MayOverlap]) -> bool:
    """Whether b may lie `distance` bytes above a."""
    if b.first > a.last or a.first > b.last or distance >= a.nbytes or -distance >= b.nbytes:
        return True
    for rule in rules:
        delta = {(a.name, b.name): distance, (b.name, a.name): -distance}.get(
            (rule.earlier, rule.later)
        )
        if delta is not None and (delta == 0 if rule.exact else delta <= rule.max_delta):
            return True
    return False


def _least_bytes(task: Task) -> int:
    """Every offset of every buffer is tried."""
    lives, rules, alignment = task
    best = sum(-(-b.nbytes // alignment) for b in lives) * alignment

    def place(offsets: list[int]) -> None:
        nonlocal best
        if len(offsets) == len(lives):
            top = max(o + b.nbytes for o, b in zip(offsets, lives, strict=True))
            best = min(best, -(-top // alignment) * alignment)
            return
        buffer = lives[len(offsets)]
        for offset in range(0, best - buffer.nbytes + 1, alignment):
            placed = zip(lives, offsets, strict=False)
            if all(_is_allowed(a, buffer, offset - at, rules) for a, at in placed):
                place([*offsets, offset])

    place([])
    return best


def _check(plan: MemoryPlan, task: Task) -> None:
    lives, rules, alignment = task
    for a, b in itertools.combinations(lives, 2):
        assert _is_allowed(a, b, plan.offset(b.name) - plan.offset(a.name), rules)
    assert all(p.offset % alignment == 0 and p.offset >= 0 for p in plan.placed)
    assert max(p.offset + p.nbytes for p in plan.placed) <= plan.arena_bytes


def test_plans_of_a_few_buffers_are_the_smallest_there_are_and_known_to_be() -> None:
    raised = 0
    for seed in range(300):
        task = _random_task(random.Random(seed))
        plan = plan_memory(*task)
        _check(plan, task)
        assert plan.arena_bytes == _least_bytes(task), seed
        assert plan.proven, seed
        raised += plan.lower_bound > lower_bound(*task)
    assert raised > 10, "no bound was raised: these tasks test nothing"


def test_the_exact_search_alone_finds_the_smallest_plan() -> None:
    for seed in range(500, 620):
        lives, rules, alignment = task = _random_task(random.Random(seed))
        worst = sum(-(-b.nbytes // alignment) for b in lives)
        boxes = memory._boxes(memory._task(lives, rules, alignment, 0))
        least = _least_bytes(task) // alignment
        assert exact.floor_of(boxes, 0, worst) <= least, seed
        found = exact.smallest(boxes, 0, worst)
        assert found.floor == least, seed
        if found.offsets is not None:
            ends = [o + n for o, n in zip(found.offsets, boxes.sizes, strict=True)]
            assert max(ends) == least, seed


def test_a_search_that_is_not_exhausted_proves_nothing() -> None:
    lives = [Life(f"b{i}", 5 + 3 * (i % 7), i % 6, i % 6 + 3) for i in range(20)]
    boxes = memory._boxes(memory._task(lives, [], 1, 0))
    known = sum(boxes.sizes)
    found = exact.smallest(boxes, 0, known, most_looks=200)
    assert found.floor == 0


def test_plans_of_random_networks_say_whether_they_are_the_smallest() -> None:
    proven = [
        lower(random_network(seed), "net", ("dsp", "c")).arena_is_proven for seed in range(40)
    ]
    assert sum(proven) >= 19
