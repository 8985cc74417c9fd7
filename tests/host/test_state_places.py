"""Next states that take the place of the state they follow: without a copy, and the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.devices import differences
from support.nets import random_samples
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.codegen.verify import verify
from tinsmith.pipeline.graph import DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs

Q = QuantParams.per_tensor(0.5, 3)
ROWS, WIDE = 5, 6


class Stream(GraphBuilder):
    """Rows that come one at a time: the state holds the last ROWS of them."""

    def __init__(self) -> None:
        super().__init__("stream")
        self.x = self.input("x", (1, 1, 1, WIDE), DType.INT8, Q)

    def held(self, name: str) -> str:
        start = np.arange(ROWS * WIDE, dtype=np.int8).reshape(1, ROWS, 1, WIDE)
        return self.state_var(name, start, Q)

    def window(self, state: str) -> str:
        return self.node("concatenation", [state, self.x], ConcatenationAttrs(1), quant=Q)

    def later(self, rows: str) -> str:
        size = (1, ROWS, 1, WIDE)
        return self.node("slice", [rows], SliceAttrs((0, 1, 0, 0), size), quant=Q)

    def pooled(self, rows: str) -> str:
        return self.node("max_pool2d", [rows], Pool2dAttrs((2, 1), (1, 1)), quant=Q)

    def sum(self, a: str, b: str) -> str:
        return self.node("add", [a, b], AddAttrs(), quant=Q)


def streaming() -> Graph:
    b = Stream()
    rows = b.window(b.held("s"))
    b.assign("s", b.later(rows))
    return b.build([b.pooled(rows)])


def through_a_view() -> Graph:
    """The state is read, and its next value made, under another shape."""
    b = Stream()
    state = b.held("s")
    pooled = b.pooled(b.window(state))
    doubled = b.node("reshape", [state], ReshapeAttrs((ROWS, WIDE)), quant=Q)
    doubled = b.sum(doubled, doubled)
    after = b.sum(doubled, doubled)
    b.assign("s", b.node("reshape", [after], ReshapeAttrs((1, ROWS, 1, WIDE)), quant=Q))
    return b.build([pooled])


def read_later() -> Graph:
    """The old value is read after the next one is made."""
    b = Stream()
    state = b.held("s")
    b.assign("s", b.later(b.window(state)))
    return b.build([b.pooled(state)])


def also_an_output() -> Graph:
    b = Stream()
    after = b.later(b.window(b.held("s")))
    b.assign("s", after)
    return b.build([after])


def one_after_the_other() -> Graph:
    """What one state held becomes what the next one holds."""
    b = Stream()
    first, second = b.held("first"), b.held("second")
    rows = b.window(first)
    b.assign("first", b.later(rows))
    b.assign("second", first)
    return b.build([b.sum(b.pooled(rows), second)])


def the_same_for_two() -> Graph:
    b = Stream()
    first, second = b.held("first"), b.held("second")
    rows = b.window(first)
    after = b.later(rows)
    b.assign("first", after)
    b.assign("second", after)
    return b.build([b.pooled(b.sum(rows, b.window(second)))])


def the_input_itself() -> Graph:
    b = Stream()
    start = np.zeros((1, 1, 1, WIDE), np.int8)
    before = b.state_var("s", start, Q)
    total = b.sum(before, b.x)
    b.assign("s", b.x)
    return b.build([total])


# The networks, and how many states are copied at the end of a run.
CASES: tuple[tuple[Callable[[], Graph], int], ...] = (
    (streaming, 0),
    (read_later, 1),
    (through_a_view, 0),
    (also_an_output, 1),
    (one_after_the_other, 2),
    (the_same_for_two, 2),
    (the_input_itself, 1),
)


def copies(program: Program) -> int:
    return sum(step.node.op == "assign" for step in program.steps)


@pytest.mark.parametrize(("network", "count"), CASES, ids=[n.__name__ for n, _ in CASES])
@pytest.mark.parametrize("objective", ["balanced", "ram"])
def test_a_state_is_copied_only_where_it_has_to_be(
    network: Callable[[], Graph], count: int, objective: str, tmp_path: Path
) -> None:
    graph = network()
    options = LowerOptions(objective)
    program = lower(graph, "net", ("c",), options)
    assert copies(program) == count
    samples = random_samples(graph, np.random.default_rng(2), 4)  # one sequence
    found = differences(graph, "host", tmp_path, samples, options=options, program=program)
    assert found == dict.fromkeys(graph.outputs, 0)


def test_a_next_state_in_its_place_needs_no_ram_of_its_own() -> None:
    program = lower(streaming(), "net", ("c",))
    assert program.arena_is_proven
    # The state, the rows with the new one, and what is pooled of them or was the input.
    assert program.arena_bytes <= WIDE * (ROWS + (ROWS + 1) + ROWS) + 3 * 8


def test_verify_refuses_a_next_state_over_one_that_is_read_later() -> None:
    program = lower(read_later(), "net", ("c",))
    state = program.state[0].view
    steps = [
        replace(s, outs=(replace(s.outs[0], offset=state.offset),)) if s.node.op == "slice" else s
        for s in program.steps
    ]
    with pytest.raises(AssertionError, match="is overwritten before it is read"):
        verify(replace(program, steps=tuple(steps)))


def test_verify_refuses_a_state_that_nobody_brings_up_to_date() -> None:
    program = lower(read_later(), "net", ("c",))
    kept = tuple(s for s in program.steps if s.node.op != "assign")
    with pytest.raises(AssertionError, match="the state 's'"):
        verify(replace(program, steps=kept))
