"""Chains of calls that are made in stripes of rows: what each stripe makes, and the few rows of the
tensors in between that are alive.

A chain is a run of calls in their order whose last one makes `height` output rows a stripe. The
calls before it make, in each stripe, just the rows that are missing for that: no row is made twice.
A tensor that only the chain reads is never whole: its line buffer holds the rows that are still
needed, moved to its start before new ones come.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.row_windows import SAME_ROW, RowWindow, reduces_rows, row_windows
from tinsmith.pipeline.graph import Graph, Node
from tinsmith.pipeline.ops import call_of

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Flow:
    """Calls in order, as chains see them.

    reads: of each call, by input index, the buffer's name; constants are left out. windows: None
    where a call can't go by rows. reduces: where it makes one pixel of all rows, so that a chain
    may end with it; its rows are those of its input. height, row_bytes: of every tensor of rank 4,
    by its own name. readers: buffer -> places of the calls that read it. kept: buffers that outlive
    the run.
    """

    nodes: tuple[Node, ...]
    reads: tuple[Mapping[int, str], ...]
    writes: tuple[str, ...]
    windows: tuple[Mapping[int, RowWindow] | None, ...]
    reduces: tuple[bool, ...]
    height: Mapping[str, int]
    row_bytes: Mapping[str, int]
    readers: Mapping[str, tuple[int, ...]]
    kept: Collection[str]


def flow_of(
    graph: Graph, nodes: Sequence[Node], alias: Mapping[str, str], kept: Collection[str]
) -> Flow:
    """kept: buffers that live to the end of the run."""
    reads: list[Mapping[int, str]] = []
    windows: list[Mapping[int, RowWindow] | None] = []
    reduces: list[bool] = []
    readers: dict[str, list[int]] = {}
    states = {alias.get(s.tensor, s.tensor) for s in graph.state}
    for place, node in enumerate(nodes):
        named = {
            i: alias.get(n, n)
            for i, n in enumerate(node.inputs)
            if n and not graph.tensors[alias.get(n, n)].is_constant
        }
        reads.append(named)
        for root in named.values():
            readers.setdefault(root, []).append(place)
        # What takes a state's place is made as a whole, after all that reads the state.
        whole_only = node.op == "assign" or alias.get(node.outputs[0], node.outputs[0]) in states
        call = None if whole_only else call_of(graph, node)
        reduces.append(call is not None and reduces_rows(call))
        whole = {0: SAME_ROW} if reduces[-1] else None
        windows.append(whole if call is None or reduces[-1] else row_windows(call))
    images = [t for t in graph.tensors.values() if len(t.shape) == 4 and t.shape[1]]
    return Flow(
        tuple(nodes),
        tuple(reads),
        tuple(alias.get(n.outputs[0], n.outputs[0]) for n in nodes),
        tuple(windows),
        tuple(reduces),
        {t.name: t.shape[1] for t in images},
        {t.name: t.nbytes // t.shape[1] for t in images},
        {root: tuple(places) for root, places in readers.items()},
        kept,
    )


@dataclass(frozen=True, eq=False)
class Line:
    """The buffer of a tensor that is never whole. low: the row at its start, by stripe.

    capacity: rows. retained: rows stay in it from one stripe to the next.
    """

    low: Rows
    capacity: int
    retained: bool


@dataclass(frozen=True, eq=False)
class Chain:
    """Calls from place `first` to before `end`, in stripes.

    made: of each call, how many rows there are after so many stripes, [stripes + 1]. reduces: its
    last call makes one pixel of all rows, and has so many of them in its sums. lines: the tensors
    that are never whole.
    """

    first: int
    end: int
    height: int
    grain: int
    nodes: tuple[Node, ...]
    windows: tuple[Mapping[int, RowWindow], ...]
    made: tuple[Rows, ...]
    lines: Mapping[str, Line]
    reduces: bool = False

    @property
    def stripes(self) -> int:
        return len(self.made[-1]) - 1

    def sums(self, place: int) -> bool:
        """Whether a call only adds rows to its sums."""
        return self.reduces and place == self.end - 1

    def places(self) -> range:
        return range(self.first, self.end)

    def low(self, buffer: str, stripe: int) -> int:
        """The row at the start of a buffer."""
        line = self.lines.get(buffer)
        return 0 if line is None else int(line.low[stripe])

    def rows(self, place: int) -> Rows:
        return self.made[place - self.first]


def chain_of(
    flow: Flow, first: int, end: int, height: int, grain: int = 1, *, ramp: bool = False
) -> Chain | None:
    """The chain, where these calls are one.

    height: output rows of the last call a stripe. grain: the other calls make rows in multiples of
    it, for kernels that make several at once. ramp: the rows that are needed ahead come stripe by
    stripe as well, before the last call makes any: more stripes, and shorter line buffers.
    """
    if end - first < 2 or any(flow.windows[k] is None for k in range(first, end)):
        return None
    if any(flow.reduces[first : end - 1]):
        return None
    last = flow.nodes[end - 1]
    total = flow.height[(last.inputs if flow.reduces[end - 1] else last.outputs)[0]]
    ahead = _stripes_ahead(flow, first, end, height, grain) if ramp else 0
    if ahead is None or ramp != bool(ahead):
        return None
    stripes = ahead - (-total // height)
    if stripes < 2:
        return None
    wanted = _wanted(flow, first, end, (np.arange(stripes + 1) - ahead) * height, grain)
    if wanted is None:
        return None
    made = {}
    for k, rows in wanted.items():
        node = flow.nodes[k]
        most = total if k == end - 1 else flow.height[node.outputs[0]]
        made[k] = np.clip(rows, 0, most)
        made[k][0], made[k][-1] = 0, most
    lines = {}
    for k in range(first, end - 1):
        line = _line(flow, k, end, made)
        if line is not None and line.capacity < flow.height[flow.nodes[k].outputs[0]]:
            lines[flow.writes[k]] = line
    windows = tuple(w for w in flow.windows[first:end] if w is not None)
    ordered = tuple(made[k] for k in range(first, end))
    nodes = flow.nodes[first:end]
    return Chain(first, end, height, grain, nodes, windows, ordered, lines, flow.reduces[end - 1])


def _stripes_ahead(flow: Flow, first: int, end: int, height: int, grain: int) -> int | None:
    """How many stripes it takes to make what is needed ahead of the last call's first row."""
    wanted = _wanted(flow, first, end, np.array([0, height]), grain)
    if wanted is None:
        return None
    return max(-(-int(w[0]) // max(int(w[1] - w[0]), 1)) for w in wanted.values())


def _wanted(flow: Flow, first: int, end: int, last: Rows, grain: int) -> dict[int, Rows] | None:
    """By call, the output rows that are to be made when so many are of the last call; they go below
    0 and beyond the image. None where a call's output is no use to the others, or needed whole."""
    wanted = {end - 1: last}
    for k in range(end - 2, first - 1, -1):
        root, own = flow.writes[k], flow.nodes[k].outputs[0]
        found: Rows | None = None
        for c in (c for c in flow.readers.get(root, ()) if c < end):
            for i in (i for i, name in flow.reads[c].items() if name == root):
                window = (flow.windows[c] or {}).get(i)
                if window is None or flow.nodes[c].inputs[i] != own:
                    return None
                rows = (wanted[c] - 1) * window.stride - window.pad + window.span
                found = rows if found is None else np.maximum(found, rows)
        if found is None:
            return None
        wanted[k] = -(-found // grain) * grain
    return wanted


def _line(flow: Flow, k: int, end: int, made: Mapping[int, Rows]) -> Line | None:
    """The line buffer of call k's output, None where it is needed as a whole."""
    root = flow.writes[k]
    if root in flow.kept or any(c >= end for c in flow.readers[root]):
        return None
    low = made[k][:-1]
    for c in flow.readers[root]:
        windows = flow.windows[c]
        assert windows is not None
        for i, name in flow.reads[c].items():
            if name == root:
                first = made[c][:-1] * windows[i].stride - windows[i].pad
                low = np.minimum(low, np.maximum(first, 0))
    retained = bool(np.any(low[1:] < made[k][1:-1]))
    # A buffer whose tensor gets no rows in a stripe stays as it is.
    low = np.maximum.accumulate(np.where(made[k][1:] > made[k][:-1], low, 0))
    capacity = int((made[k][1:] - low).max())
    return Line(low, capacity, retained)


def first_read_later(flow: Flow, chain: Chain, reader: int, index: int, from_next: bool) -> Rows:
    """By stripe, the lowest byte that a call reads of an input by rows, from that stripe or, where
    from_next, from the next one on; beyond all bytes where it reads no more."""
    windows = flow.windows[reader]
    assert windows is not None
    window = windows[index]
    made, name = chain.rows(reader), flow.nodes[reader].inputs[index]
    done = made[1:] if from_next else made[:-1]
    first = np.maximum(done * window.stride - window.pad, 0) * flow.row_bytes[name]
    return np.where(done < made[-1], first, 1 << 40)


def most_delta(flow: Flow, chain: Chain, dying: str, writer: int) -> int | None:
    """How far above a tensor that dies in the chain the output of `writer` may lie, as far as the
    order of stripes decides; None where all of that tensor is needed to the end.

    What the writer itself reads of it in the same stripe is up to its kernel.
    """
    made = chain.rows(writer)
    row = flow.row_bytes[flow.nodes[writer].outputs[0]]
    writes = made[1:] > made[:-1]
    least = 1 << 40
    for k in chain.places():
        for i, name in flow.reads[k].items():
            if name != dying:
                continue
            if i not in (flow.windows[k] or {}):
                return None
            later = first_read_later(flow, chain, k, i, k <= writer)
            room = later - made[1:] * row
            least = min(least, int(room[writes].min()))
    return least
