"""Exact answers about an arena: how small it can be, and a placing that is as small.

Branch and bound over the pairs of buffers that may not lie anywhere: which of the two is the lower
one, or how they share bytes. Every buffer has a lowest and a highest offset that are still possible
in an arena of some height; what is decided of a pair moves these of both, and a pair of which
nothing is left shows that the height is too small. Work is counted in looks at a pair, never in
time, so that the result is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_LOOKS = 60_000  # at pairs, in the search of one plan: about a tenth of a second
ANY = 1 << 60

Range = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """How far the buffer `other` may lie above `one`: within one of the ranges, ends included.

    A range is open where it ends at ANY or -ANY.
    """

    one: int
    other: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Buffers to place: sizes and offsets count units of the alignment."""

    sizes: Sequence[int]
    pairs: Sequence[Pair]
    of: Sequence[Sequence[int]]  # by buffer, the indices of its pairs


@dataclass(frozen=True, eq=False)
class Smallest:
    """floor: no placing is lower than that. offsets: of one that is lower than the known one."""

    floor: int
    offsets: Sequence[int] | None


@dataclass(frozen=True, eq=False)
class _State:
    """What is still possible: lowest and highest offsets by buffer, ranges by pair."""

    low: list[int]
    high: list[int]
    ranges: list[tuple[Range, ...]]


@dataclass(eq=False)
class _Budget:
    looks: int


def boxes_of(sizes: Sequence[int], pairs: Sequence[Pair]) -> Boxes:
    of: list[list[int]] = [[] for _ in sizes]
    for k, pair in enumerate(pairs):
        of[pair.one].append(k)
        of[pair.other].append(k)
    return Boxes(sizes, pairs, of)


def ranges_of(
    size: int, rival: int, same: bool, lowest: int | None, highest: int | None
) -> tuple[Range, ...]:
    """How far a rival may lie above a buffer; one range where it may lie anywhere.

    same: also at its address, and in no other overlap. lowest, highest: beside all distances
    without an overlap, those from `lowest` on or up to `highest` are allowed.
    """
    below, over = -rival, size
    if same:
        return ((-ANY, below), *([(0, 0)] if size and rival else []), (over, ANY))
    below = below if highest is None else max(below, highest)
    over = over if lowest is None else min(over, lowest)
    return ((-ANY, ANY),) if below + 1 >= over else ((-ANY, below), (over, ANY))


def floor_of(boxes: Boxes, floor: int, height: int) -> int:
    """The lowest height, from `floor` to the known `height`, that is not refuted at once."""
    budget = _Budget(MOST_LOOKS)
    while floor < height and budget.looks > 0:
        middle = (floor + height) // 2
        possible = _start(boxes, middle, budget) is not None
        floor, height = (floor, middle) if possible else (middle + 1, height)
    return floor


def smallest(boxes: Boxes, floor: int, height: int, most_looks: int = MOST_LOOKS) -> Smallest:
    """The lowest placing under a known height, as far as so many looks at a pair find it.

    The floor of the result is its height, or the known one, where the search was exhausted.
    """
    budget = _Budget(most_looks)
    best: Sequence[int] | None = None
    while height > floor:
        found = _search(boxes, height - 1, budget)
        if found is None:
            return Smallest(height if budget.looks > 0 else floor, best)
        best = found
        height = max(o + n for o, n in zip(found, boxes.sizes, strict=True))
    return Smallest(floor, best)


def _search(boxes: Boxes, height: int, budget: _Budget) -> Sequence[int] | None:
    """A placing of that height; None where there is none or the budget is spent."""
    start = _start(boxes, height, budget)
    states = [] if start is None else [start]
    while states and budget.looks > 0:
        state = states.pop()
        budget.looks -= len(boxes.pairs)
        if _is_placing(boxes, state.low):
            return state.low
        k = _tightest(boxes, state)
        choices = sorted(state.ranges[k], key=lambda r: _room(boxes.pairs[k], r, state))
        for chosen in choices:  # the roomiest is the last, and so the next to be looked at
            following = _State(list(state.low), list(state.high), list(state.ranges))
            following.ranges[k] = (chosen,)
            if _narrow(boxes, following, [k], budget):
                states.append(following)
    return None


def _start(boxes: Boxes, height: int, budget: _Budget) -> _State | None:
    high = [height - n for n in boxes.sizes]
    state = _State([0] * len(high), high, [p.ranges for p in boxes.pairs])
    possible = min(high, default=0) >= 0
    return state if possible and _narrow(boxes, state, range(len(boxes.pairs)), budget) else None


def _narrow(boxes: Boxes, state: _State, pairs: Sequence[int], budget: _Budget) -> bool:
    """Moves what is possible together until nothing changes; False where nothing is possible.

    False as well where the budget is spent, which `_Budget.looks` tells.
    """
    low, high = state.low, state.high
    todo = list(pairs)
    waiting = set(todo)
    while todo:
        budget.looks -= 1
        if budget.looks <= 0:
            return False
        k = todo.pop()
        waiting.discard(k)
        pair = boxes.pairs[k]
        i, j = pair.one, pair.other
        least, most = low[j] - high[i], high[j] - low[i]
        left = tuple(r for r in state.ranges[k] if r[0] <= most and r[1] >= least)
        if not left:
            return False
        state.ranges[k] = left
        least, most = min(r[0] for r in left), max(r[1] for r in left)
        moved = _bring(low, high, i, j, least, most)
        if any(low[b] > high[b] for b in moved):
            return False
        for other in (o for b in moved for o in boxes.of[b] if o not in waiting):
            waiting.add(other)
            todo.append(other)
    return True


def _bring(low: list[int], high: list[int], i: int, j: int, least: int, most: int) -> set[int]:
    """Bounds of two buffers where j lies `least` to `most` above i; those that moved."""
    moved = set()
    if low[i] + least > low[j]:
        low[j] = low[i] + least
        moved.add(j)
    if low[j] - most > low[i]:
        low[i] = low[j] - most
        moved.add(i)
    if high[i] + most < high[j]:
        high[j] = high[i] + most
        moved.add(j)
    if high[j] - least < high[i]:
        high[i] = high[j] - least
        moved.add(i)
    return moved


def _is_placing(boxes: Boxes, offsets: Sequence[int]) -> bool:
    return all(
        any(low <= offsets[p.other] - offsets[p.one] <= high for low, high in p.ranges)
        for p in boxes.pairs
    )


def _tightest(boxes: Boxes, state: _State) -> int:
    """The undecided pair of the least room."""
    undecided = (k for k, left in enumerate(state.ranges) if len(left) > 1)
    return min(
        undecided,
        key=lambda k: sum(_room(boxes.pairs[k], r, state) for r in state.ranges[k]),
    )


def _room(pair: Pair, allowed: Range, state: _State) -> int:
    """How many distances of a range are still possible."""
    most = min(allowed[1], state.high[pair.other] - state.low[pair.one])
    return most - max(allowed[0], state.low[pair.other] - state.high[pair.one]) + 1
