"""The option that keeps a model's inputs through a run."""

from __future__ import annotations

from support.random_network import random_network
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import BufferView, Program

KEPT = LowerOptions(preserve_inputs=True)


def bytes_of(view: BufferView) -> set[int]:
    return set(range(view.offset, view.offset + view.nbytes))


def writes_over_inputs(program: Program) -> int:
    """How many bytes of the inputs some step writes, with its outputs or its scratch."""
    inputs = set().union(*(bytes_of(view) for _, view in program.inputs))
    written = [s.scratch for s in program.steps if s.scratch is not None]
    written += [view for s in program.steps for view in s.outs]
    return len(inputs & set().union(*(bytes_of(view) for view in written)))


def test_no_step_writes_over_inputs_that_are_to_be_kept() -> None:
    overwritten = 0
    for seed in range(20):
        graph = random_network(seed)
        assert writes_over_inputs(lower(graph, "net", ("c",), KEPT)) == 0
        overwritten += writes_over_inputs(lower(graph, "net", ("c",)))
    assert overwritten > 0  # what the option prevents does happen without it


def test_the_header_says_whether_inputs_are_kept() -> None:
    graph = random_network(3)
    kept = emit(lower(graph, "net", ("c",), KEPT)).model["net.h"]
    other = emit(lower(graph, "net", ("c",))).model["net.h"]
    assert "are kept during a run" in kept
    assert "are overwritten during a run" in other
