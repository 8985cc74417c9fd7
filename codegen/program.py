"""The Program IR: kernel calls in order over views of one arena.

A program is what a graph becomes for one instruction set: every tensor has a place, every node a
kernel with its constants packed. A node whose output is made in stripes of rows is several steps,
some of them in a loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.graph import Array, DType, Graph, Node, QuantParams, Shape

C_TYPES: Mapping[DType, str] = {
    DType.FLOAT32: "float",
    DType.INT8: "int8_t",
    DType.UINT8: "uint8_t",
    DType.INT16: "int16_t",
    DType.INT32: "int32_t",
    DType.INT64: "int64_t",
    DType.BOOL: "uint8_t",
}


# Ops of steps that are no nodes of the graph: rows that move within their buffer, sums of rows.
MOVE, SUM = "move", "sum_of_rows"


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash. name is a C identifier, unique in the program; comment is one line.

    align: bytes, 0 for that of the type. role: "weights" counts as weights (also biases and
    requantization constants); "table" as code. flash: the memory that it lies in, "" for the
    target's own flash.
    """

    name: str
    ctype: str
    data: Array
    comment: str
    role: str = "weights"
    align: int = 0
    flash: str = ""

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
    literal: calls share a function only where their shapes agree, since literals save more than
        the function takes, unless bytes alone count; but not the stripes of a layer.
    literal_if_few: the same on cores of few registers, where parameters lie on the stack.
    """

    fixed: Mapping[str, Any]
    shape: Mapping[str, int]
    pointers: tuple[Pointer, ...]
    constants: tuple[Constant, ...] = ()
    scratch_bytes: int = 0
    overlap: Mapping[int, Overlap] | None = None
    literal: bool = False
    literal_if_few: bool = False


@dataclass(frozen=True)
class BufferView:
    """A tensor's place in an arena, or that of some of its rows: that of `region`, "" where there
    is one arena only.

    start: the first byte's place within the tensor. offset_step, start_step: how far offset and
    start move with each round of the loop that the view is used in.
    """

    offset: int
    nbytes: int
    dtype: DType
    shape: Shape
    quant: QuantParams | None
    region: str = ""
    start: int = 0
    offset_step: int = 0
    start_step: int = 0

    def at_round(self, index: int) -> BufferView:
        """The view in a round of its loop."""
        offset = self.offset + index * self.offset_step
        return replace(self, offset=offset, start=self.start + index * self.start_step)


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel call. ins is None where an input is a constant that the plan has packed.

    kernel: name of the table entry.
    """

    node: Node
    kernel: str
    template: str
    plan: KernelPlan
    ins: tuple[BufferView | None, ...]
    outs: tuple[BufferView, ...]
    scratch: BufferView | None
    summary: str

    @property
    def is_layer(self) -> bool:
        """Whether the step makes what a node of the graph does, or rows of it."""
        return self.node.op not in (MOVE, SUM)

    def at_round(self, index: int) -> Step:
        """The step with its views as they are in a round of its loop."""
        ins = tuple(None if v is None else v.at_round(index) for v in self.ins)
        return replace(self, ins=ins, outs=tuple(v.at_round(index) for v in self.outs))


@dataclass(frozen=True)
class Loop:
    """The steps from `first` to before `end` run `rounds` times, one after another each time."""

    first: int
    end: int
    rounds: int

    def __post_init__(self) -> None:
        assert self.first < self.end, "a loop of nothing"
        assert self.rounds > 1, "a loop of one round"


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
class Memory:
    """A memory of the target, and how much of it a program takes.

    name: a C identifier, "" where the target does not tell its memories apart. section: the
    linker's section that lies in it, "" where what has no section does. limit_bytes: what the
    program may take, None where that is not known.
    """

    name: str
    nbytes: int
    section: str = ""
    limit_bytes: int | None = None

    @property
    def excess_bytes(self) -> int:
        """What the program takes beyond the limit."""
        return 0 if self.limit_bytes is None else max(self.nbytes - self.limit_bytes, 0)


@dataclass(frozen=True, eq=False)
class StateView:
    """A persistent place in the arena, and what reset writes there."""

    name: str
    view: BufferView
    initial: Array


@dataclass(frozen=True, eq=False)
class Program:
    """A lowered graph. inputs and outputs are (tensor name, view), in the graph's order.

    loops: in order, apart from each other. whole_arena_bytes: where layers are made in stripes of
    rows, what the arena would be without.

    arena_bytes: of all arenas. regions: the memories that arenas lie in, where the target tells
    them apart. flashes: the memories that constants lie in beside the target's own flash.
    caller_arena: the firmware hands the arenas to init; else they are the model's own.
    model_sha256: of the file that the model came from, "" where it came from none.
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
    regions: tuple[Memory, ...] = ()
    flashes: tuple[Memory, ...] = ()
    caller_arena: bool = False
    loops: tuple[Loop, ...] = ()
    whole_arena_bytes: int | None = None
    model_sha256: str = ""

    def run(self) -> Iterator[tuple[int, Step]]:
        """The steps as they run, loops round by round: (place in `steps`, step)."""
        loops = {loop.first: loop for loop in self.loops}
        place = 0
        while place < len(self.steps):
            loop = loops.get(place)
            if loop is None:
                yield place, self.steps[place]
                place += 1
                continue
            for index in range(loop.rounds):
                for k in range(loop.first, loop.end):
                    yield k, self.steps[k].at_round(index)
            place = loop.end

    @property
    def arena_is_proven(self) -> bool:
        """Whether no arena for these calls in this order is smaller."""
        return self.arena_bytes == self.arena_lower_bound

    @property
    def layers(self) -> tuple[Step, ...]:
        """A step of each layer, its first: a layer that is made in stripes is several."""
        found: dict[str, Step] = {}
        for step in self.steps:
            if step.is_layer:
                found.setdefault(step.node.name, step)
        return tuple(found.values())

    @property
    def streamed(self) -> tuple[str, ...]:
        """The layers whose output is made in stripes of rows, in order."""
        return tuple(s.node.name for s in self.layers if self.is_part(s))

    def is_part(self, step: Step) -> bool:
        """Whether a step makes or moves some rows only of its tensor."""
        return step.outs[0].shape != self.graph.tensors[step.node.outputs[0]].shape

    @property
    def arenas(self) -> tuple[Memory, ...]:
        """The arenas, from the fastest memory to the slowest; at least one."""
        return self.regions or (Memory("", self.arena_bytes),)

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
        return {step.node.name: step.kernel for step in self.layers}
