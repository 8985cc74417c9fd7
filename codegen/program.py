"""The Program IR: kernel calls in order over views of one arena.

A program is what a graph becomes for one instruction set: every tensor has a place, every node a
kernel with its constants packed. `verify` proves that no byte is overwritten before its last read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.graph import Array, DType, Graph, Node, QuantParams, Shape
from tinsmith.pipeline.ops import lstm, svdf

C_TYPES: Mapping[DType, str] = {
    DType.FLOAT32: "float",
    DType.INT8: "int8_t",
    DType.UINT8: "uint8_t",
    DType.INT16: "int16_t",
    DType.INT32: "int32_t",
    DType.INT64: "int64_t",
    DType.BOOL: "uint8_t",
}


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash. name is a C identifier, unique in the program; comment is one line.

    align: bytes, 0 for that of the type. role: "weights" counts as weights (also biases and
    requantization constants); "table" as code.
    """

    name: str
    ctype: str
    data: Array
    comment: str
    role: str = "weights"
    align: int = 0

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)


@dataclass(frozen=True)
class Pointer:
    """A pointer argument of a kernel. source: ("in", i), ("out", i), ("scratch", 0), ("const",
    i)."""

    ctype: str
    name: str
    source: tuple[str, int]


@dataclass(frozen=True, eq=False)
class Overlap:
    """How a kernel's output may lie over one of its inputs.

    The kernel works through `units` in order. read_low[u] is the lowest input byte that unit u or a
    later one still reads; write_high[u] is one past the highest output byte written by units up to
    u.
    reads_first: unit u reads all of its input before it writes anything.
    exact: the kernel works in place, at the same address, and in no other overlap.
    """

    read_low: NDArray[np.int64]
    write_high: NDArray[np.int64]
    reads_first: bool
    exact: bool = False

    def allows(self, delta: int) -> bool:
        """Whether the output may lie `delta` bytes above the input, when they share bytes."""
        return delta == 0 if self.exact else delta <= self.max_delta()

    def max_delta(self) -> int:
        """The greatest (output offset - input offset) that is safe; placing it lower is safe as
        well, unless `exact`."""
        if self.exact:
            return 0
        if self.reads_first:
            if len(self.read_low) < 2:
                return 1 << 40
            return int((self.read_low[1:] - self.write_high[:-1]).min())
        return int((self.read_low - self.write_high).min())


@dataclass(frozen=True, eq=False)
class KernelPlan:
    """What a kernel needs for one node.

    fixed: what the text of the function depends on (part of its identity).
    shape: integers that are printed as literals where all calls of the function agree, and become
        parameters where they differ.
    overlap: by input index, how the first output may lie over that input.
    """

    fixed: Mapping[str, Any]
    shape: Mapping[str, int]
    pointers: tuple[Pointer, ...]
    constants: tuple[Constant, ...] = ()
    scratch_bytes: int = 0
    overlap: Mapping[int, Overlap] | None = None


@dataclass(frozen=True)
class BufferView:
    """A tensor's place in an arena: that of `region`, "" where there is one arena only."""

    offset: int
    nbytes: int
    dtype: DType
    shape: Shape
    quant: QuantParams | None
    region: str = ""


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel call. ins is None where an input is a constant that the plan has packed.

    kernel: name of the table entry. isa: the instruction set it is written for.
    """

    node: Node
    kernel: str
    template: str
    plan: KernelPlan
    ins: tuple[BufferView | None, ...]
    outs: tuple[BufferView, ...]
    scratch: BufferView | None
    summary: str


@dataclass(frozen=True)
class Placed:
    """A buffer's life: bytes [offset, offset + nbytes) of a region's arena from step `first` to
    step `last`."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int
    region: str = ""


@dataclass(frozen=True)
class Arena:
    """Memory that buffers lie in.

    name: the region of the target, "" where it has none. section: the linker's section that it
    goes to, "" for where variables go. limit_bytes: what the region has, None where not known.
    """

    name: str
    nbytes: int
    section: str = ""
    limit_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class StateView:
    """A persistent place in the arena, and what reset writes there."""

    name: str
    view: BufferView
    initial: Array


@dataclass(frozen=True, eq=False)
class Program:
    """A lowered graph. inputs and outputs are (tensor name, view), in the graph's order.

    arena_bytes: of all arenas. regions: the arenas where the target has several memories.
    caller_arena: the firmware hands the arenas to init; else they are the model's own.
    """

    name: str
    graph: Graph
    isa: tuple[str, ...]
    objective: str
    steps: tuple[Step, ...]
    inputs: tuple[tuple[str, BufferView], ...]
    outputs: tuple[tuple[str, BufferView], ...]
    state: tuple[StateView, ...]
    buffers: tuple[Placed, ...]
    arena_bytes: int
    arena_lower_bound: int
    inputs_preserved: bool = False
    regions: tuple[Arena, ...] = ()
    caller_arena: bool = False

    @property
    def arenas(self) -> tuple[Arena, ...]:
        """The arenas, from the fastest memory to the slowest; at least one."""
        return self.regions or (Arena("", self.arena_bytes),)

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Each array once; layers may share a table, which has the same name in all of them."""
        every = {c.name: c for step in self.steps for c in step.plan.constants}
        return tuple(every.values())

    @property
    def weight_bytes(self) -> int:
        return sum(c.nbytes for c in self.constants if c.role == "weights")

    @property
    def kernels(self) -> Mapping[str, str]:
        """Layer name -> kernel variant."""
        return {step.node.name: step.kernel for step in self.steps}


def verify(program: Program) -> Program:
    """The program itself where no step reads a byte that another has overwritten; asserts
    otherwise.

    Walks the steps with the owner of every arena byte, apart from the planner's reasoning.
    """
    several = len(program.arenas) > 1
    owners = {a.name if several else "": np.full(a.nbytes, -1, np.int64) for a in program.arenas}
    ids: dict[str, int] = {}

    def claim(name: str, view: BufferView) -> None:
        owner = owners[view.region]
        assert view.offset >= 0, name
        assert view.offset + view.nbytes <= len(owner), name
        owner[view.offset : view.offset + view.nbytes] = ids.setdefault(name, len(ids))

    def check(name: str, view: BufferView, where: str) -> None:
        held = owners[view.region][view.offset : view.offset + view.nbytes]
        assert np.all(held == ids.get(name, -2)), (
            f"{where}: '{name}' is overwritten before it is read"
        )

    alias = aliases(program.graph)
    for name, view in program.inputs:
        claim(alias.get(name, name), view)
    for var, state in zip(program.graph.state, program.state, strict=True):
        claim(alias.get(var.tensor, var.tensor), state.view)
    for step in program.steps:
        _verify_step(step, alias, claim, check)
    for name, view in program.outputs:
        if program.graph.tensors[name].data is None:
            check(alias.get(name, name), view, "the end")
    return program


def _verify_step(step: Step, alias: Mapping[str, str], claim: Any, check: Any) -> None:
    names = [alias.get(n, n) for n in step.node.inputs]
    for name, view in zip(names, step.ins, strict=True):
        if view is not None:
            check(name, view, step.node.name)
    if step.scratch is not None:
        claim(f"scratch of {step.node.name}", step.scratch)
        for name, view in zip(names, step.ins, strict=True):
            if view is not None:
                check(name, view, f"scratch of {step.node.name}")
    for i, view in enumerate(step.ins):
        for out_index, out in enumerate(step.outs):
            if view is None or _disjoint(view, out):
                continue
            if names[i] == alias.get(step.node.outputs[out_index], step.node.outputs[out_index]):
                continue  # a state that its kernel updates in place
            rule = (step.plan.overlap or {}).get(i) if out_index == 0 else None
            assert rule is not None, f"{step.node.name}: output over input {i}"
            assert rule.allows(out.offset - view.offset), step.node.name
    for name, out in zip(step.node.outputs, step.outs, strict=True):
        if step.scratch is not None:
            assert _disjoint(step.scratch, out), f"{step.node.name}: scratch over output"
        claim(alias.get(name, name), out)


def _disjoint(a: BufferView, b: BufferView) -> bool:
    if a.region != b.region:
        return True
    return a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset


def in_place_states(graph: Graph) -> dict[str, str]:
    """Next states that take the place of the states they follow: next tensor -> tensor.

    Where the kernel allows it, nobody else reads the state, and the next one is no output.
    """
    found = {}
    for var in graph.state:
        readers = graph.consumers(var.tensor)
        if len(readers) != 1 or readers[0].op not in IN_PLACE_STATES:
            continue
        node = readers[0]
        for i, out in zip(IN_PLACE_STATES[node.op], node.outputs[1:], strict=True):
            own = node.inputs[i] == var.tensor and out == var.next
            viewed = any(n.op == "reshape" for n in graph.consumers(out))
            once = node.inputs.count(var.tensor) == 1
            if own and once and not viewed and out not in graph.outputs:
                found[out] = var.tensor
    return found


# Ops whose kernels may write the outputs after the first over these inputs.
IN_PLACE_STATES: Mapping[str, tuple[int, ...]] = {
    "lstm": (lstm.HIDDEN, lstm.CELL),
    "svdf": (svdf.STATE,),
}


def aliases(graph: Graph) -> dict[str, str]:
    """Tensors that are views of another: outputs of reshape, states updated in place."""
    alias = in_place_states(graph)
    for node in graph.nodes:
        if node.op == "reshape":
            alias[node.outputs[0]] = alias.get(node.inputs[0], node.inputs[0])
    return alias
