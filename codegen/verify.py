"""The proof that a program computes what its graph says, as far as memory goes.

The steps are walked as they run, with the owner of every byte of the arenas: which byte of which
tensor it holds. This knows nothing of the planner's reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.program import SUM, BufferView, Program, Step
from tinsmith.codegen.row_windows import row_windows
from tinsmith.codegen.states import IN_PLACE_STATES, views
from tinsmith.pipeline.graph import Graph, Node
from tinsmith.pipeline.ops import call_of

Owners = Mapping[str, NDArray[np.int64]]
NOBODY = -1
ROOM = 40  # bits of a byte's place within its tensor


@dataclass(frozen=True, eq=False)
class _Memory:
    """owners: by region, what each byte holds: the tensor's number << ROOM | its place in it."""

    owners: Owners
    alias: Mapping[str, str]
    numbers: dict[str, int]

    def content(self, tensor: str, view: BufferView) -> NDArray[np.int64]:
        """What the view's bytes should hold."""
        number = self.numbers.setdefault(self.alias.get(tensor, tensor), len(self.numbers))
        return (number << ROOM) + view.start + np.arange(view.nbytes)

    def claim(self, tensor: str, view: BufferView) -> None:
        self.within(tensor, view)[:] = self.content(tensor, view)

    def check(self, tensor: str, view: BufferView, where: str) -> None:
        held = self.within(tensor, view)
        assert np.array_equal(held, self.content(tensor, view)), (
            f"{where}: '{tensor}' is overwritten before it is read"
        )

    def within(self, name: str, view: BufferView) -> NDArray[np.int64]:
        owner = self.owners[view.region]
        assert view.offset >= 0, name
        assert view.offset + view.nbytes <= len(owner), name
        return owner[view.offset : view.offset + view.nbytes]


def verify(program: Program) -> Program:
    """The program itself where every step reads what it should, and writes within its bounds over
    nothing that is read later; asserts otherwise."""
    several = len(program.arenas) > 1
    memory = _Memory(
        {a.name if several else "": np.full(a.nbytes, NOBODY, np.int64) for a in program.arenas},
        views(program.graph),
        {},
    )
    for name, view in program.inputs:
        memory.claim(name, view)
    for var, state in zip(program.graph.state, program.state, strict=True):
        memory.claim(var.tensor, state.view)
    reduced = {n.name: n for n in program.graph.nodes}
    for _, step in program.run():
        _verify_step(step, memory)
        if step.node.op == SUM:
            _verify_sum(program.graph, step)
        elif step.node.name in reduced and step.node.inputs[0] not in program.graph.tensors:
            _verify_pixel(program.graph, reduced[step.node.name], step)
        elif step.is_layer and program.is_part(step):
            _verify_rows(program.graph, step)
    for name, view in program.outputs:
        if program.graph.tensors[name].data is None:
            memory.check(name, view, "the end")
    for var, state in zip(program.graph.state, program.state, strict=True):
        memory.check(var.next, state.view, f"the state '{var.name}'")
    return program


def _verify_step(step: Step, memory: _Memory) -> None:
    reads = [
        (i, name, view)
        for i, (name, view) in enumerate(zip(step.node.inputs, step.ins, strict=True))
        if view is not None
    ]
    if step.scratch is not None:
        memory.within(step.node.name, step.scratch)[:] = NOBODY
    for _, name, view in reads:
        memory.check(name, view, step.node.name)
    for i, name, view in reads:
        for out_index, out in enumerate(step.outs):
            if _disjoint(view, out) or _is_state_in_place(step, name, out_index, memory):
                continue
            rule = (step.plan.overlap or {}).get(i) if out_index == 0 else None
            assert rule is not None, f"{step.node.name}: output over input {i}"
            assert rule.allows(out.offset - view.offset), step.node.name
    # The copy of a next state is that state's next value still, in another place.
    made = step.node.inputs if step.node.op == "assign" else step.node.outputs
    for name, out in zip(made, step.outs, strict=True):
        if step.scratch is not None:
            assert _disjoint(step.scratch, out), f"{step.node.name}: scratch over output"
        memory.claim(name, out)


def _is_state_in_place(step: Step, read: str, out_index: int, memory: _Memory) -> bool:
    written = step.node.outputs[out_index]
    same = memory.alias.get(read, read) == memory.alias.get(written, written)
    return step.node.op in IN_PLACE_STATES and same


def _verify_rows(graph: Graph, step: Step) -> None:
    """The call is given exactly the rows that its output rows need, and knows their number and the
    padding above them."""
    call = call_of(graph, step.node)
    windows = row_windows(call)
    where = step.node.name
    assert windows is not None, f"{where}: it can't be made by rows"
    out, height = step.outs[0], call.output.shape[1]
    begin, end = _rows_of(out, call.output.nbytes // height)
    assert 0 <= begin < end <= height and end - begin == out.shape[1], where
    for i, view in enumerate(step.ins):
        if view is None:
            continue
        tensor = call.input(i)
        if i not in windows:
            assert view.shape == tensor.shape and view.start == 0, f"{where}: input {i} is whole"
            continue
        window, rows = windows[i], _rows_of(view, tensor.nbytes // tensor.shape[1])
        assert rows == (window.first(begin), window.end(end, tensor.shape[1])), where
        assert rows[1] - rows[0] == view.shape[1], where
        facts = step.plan.shape
        assert facts.get("in_h", view.shape[1]) == view.shape[1], where
        assert facts.get("out_h", end - begin) == end - begin, where
        pad = max(window.pad - begin * window.stride, 0)
        assert facts.get("pad_top", pad) == pad, where


def _verify_sum(graph: Graph, step: Step) -> None:
    """Rows are added to the sums of all that come before them: a sum's `start` tells of how many
    rows it is."""
    rows, before, after = step.ins[0], step.ins[1], step.outs[0]
    tensor = graph.tensors[step.node.inputs[0]]
    assert rows is not None
    begin, end = _rows_of(rows, tensor.nbytes // tensor.shape[1])
    where = step.node.name
    assert (begin == 0) == (before is None) == bool(step.plan.shape["first"]), where
    assert before is None or before.start == begin * before.nbytes, where
    assert after.start == end * after.nbytes, where
    assert step.plan.shape["pixels"] == (end - begin) * tensor.shape[2], where


def _verify_pixel(graph: Graph, node: Node, step: Step) -> None:
    """The sums are those of all rows."""
    (sums,) = step.ins
    assert sums is not None
    assert sums.start == graph.tensors[node.inputs[0]].shape[1] * sums.nbytes, node.name


def _rows_of(view: BufferView, row_bytes: int) -> tuple[int, int]:
    assert view.start % row_bytes == 0 and view.nbytes % row_bytes == 0
    return view.start // row_bytes, (view.start + view.nbytes) // row_bytes


def _disjoint(a: BufferView, b: BufferView) -> bool:
    if a.region != b.region:
        return True
    return a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
