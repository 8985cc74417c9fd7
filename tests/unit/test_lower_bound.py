"""The arena's lower bound, which reports state as a fact: no plan lies under it."""

from __future__ import annotations

import pytest

from support.random_network import random_network
from tinsmith.codegen.lower import lower
from tinsmith.codegen.memory import Life, MayOverlap, lower_bound, plan_memory


@pytest.mark.parametrize("isa", [("c",), ("dsp", "c"), ("m0", "c")])
def test_no_plan_of_a_random_network_lies_under_its_bound(isa: tuple[str, ...]) -> None:
    for seed in range(60):
        program = lower(random_network(seed), "net", isa)
        assert program.arena_bytes >= program.arena_lower_bound, seed


def test_an_output_that_may_lie_over_two_inputs_needs_no_room_of_its_own() -> None:
    lives = [Life("a", 100, -1, 0), Life("b", 100, -1, 0), Life("y", 200, 0, 1)]
    rules = [MayOverlap("a", "y", 0), MayOverlap("b", "y", 0)]
    assert lower_bound(lives, rules) == 200


def test_a_bound_is_reached_where_nothing_overlaps() -> None:
    lives = [Life("x", 10, -1, 0), Life("y", 7, 0, 1)]
    plan = plan_memory(lives, [])
    assert plan.lower_bound == plan.arena_bytes == 20
