"""The arena planner: places buffers by their lives, letting outputs lie over inputs where it is
safe.

Buffers whose lives meet must not share a byte, except a kernel's output and an input that dies
there, which may overlap as far as the kernel's access trace allows (see `Overlap`). Best fit over
several orders, then a seeded local search on the order; the result is reported beside a lower
bound.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinsmith.codegen.program import Placed

ALIGNMENT = 4  # bytes, at least: kernels load activations as words where the channels allow it
SEARCH_ROUNDS = 400
SEARCH_PAIRS = (
    4_000_000  # pairs of buffers looked at: a bound on the time of networks of many layers
)


@dataclass(frozen=True)
class Life:
    """A buffer to place: alive from step `first` (its writer; -1 for an input) to step `last`."""

    name: str
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MayOverlap:
    """later may lie over earlier, as long as later.offset - earlier.offset <= max_delta.

    exact: only at max_delta itself.
    """

    earlier: str
    later: str
    max_delta: int
    exact: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """Where the buffers are. lower_bound: no plan with these lives and overlaps can be smaller."""

    placed: tuple[Placed, ...]
    arena_bytes: int
    lower_bound: int

    def offset(self, name: str) -> int:
        return next(p.offset for p in self.placed if p.name == name)


def plan_memory(
    lives: Sequence[Life], overlaps: Sequence[MayOverlap], alignment: int = ALIGNMENT
) -> MemoryPlan:
    """The smallest plan found; deterministic. alignment: bytes, of every offset."""
    rules = {(o.earlier, o.later): o for o in overlaps}
    bound = lower_bound(lives, overlaps, alignment)
    best: dict[str, int] = {}
    best_size = 1 << 62
    for order in _orders(lives):
        offsets, size = _place(order, rules, alignment)
        if size < best_size:
            best, best_size = offsets, size
    best, best_size = _improve(lives, rules, best, best_size, bound, alignment)
    placed = tuple(Placed(b.name, best[b.name], b.nbytes, b.first, b.last) for b in lives)
    return MemoryPlan(placed, best_size, bound)


def lower_bound(
    lives: Sequence[Life], overlaps: Sequence[MayOverlap], alignment: int = ALIGNMENT
) -> int:
    """The most bytes alive at one step, less all that the step's output may share with its inputs.

    The output may lie over several inputs that die there, so every pair's share is taken off. Sizes
    are as they are, and only the sum is rounded up: a last buffer needs no filling.
    """
    steps = {b.first for b in lives} | {b.last for b in lives}
    by_name = {b.name: b for b in lives}
    bound = 0
    for step in steps:
        alive = sum(b.nbytes for b in lives if b.first <= step <= b.last)
        shared = 0
        for rule in overlaps:
            earlier, later = by_name[rule.earlier], by_name[rule.later]
            if earlier.last == step == later.first:
                delta = min(rule.max_delta, 0)
                shared += max(min(earlier.nbytes, later.nbytes + delta), 0)
        bound = max(bound, alive - shared)
    return _align(bound, alignment)


def _align(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _orders(lives: Sequence[Life]) -> list[list[Life]]:
    return [
        sorted(lives, key=lambda b: (-b.nbytes, b.first, b.name)),
        sorted(lives, key=lambda b: (b.first, -b.nbytes, b.name)),
        sorted(lives, key=lambda b: (-(b.last - b.first), -b.nbytes, b.name)),
        sorted(lives, key=lambda b: (-b.last, -b.nbytes, b.name)),
        sorted(lives, key=lambda b: (-b.nbytes * (b.last - b.first + 1), b.first, b.name)),
    ]


def _place(
    order: Sequence[Life], rules: Mapping[tuple[str, str], MayOverlap], alignment: int
) -> tuple[dict[str, int], int]:
    """Each buffer at the lowest offset that conflicts with none placed before it."""
    offsets: dict[str, int] = {}
    done: list[Life] = []
    size = 0
    for buffer in order:
        rivals = [b for b in done if b.first <= buffer.last and buffer.first <= b.last]
        # Every rival forbids one open interval of offsets; the lowest free one is wanted.
        forbidden = sorted(f for b in rivals for f in _forbidden(buffer, b, offsets[b.name], rules))
        offset = 0
        for low, high in forbidden:
            if low < offset < high:
                offset = _align(high, alignment)
        offsets[buffer.name] = offset
        done.append(buffer)
        size = max(size, offset + buffer.nbytes)
    return offsets, _align(size, alignment)


def _forbidden(
    buffer: Life, rival: Life, at: int, rules: Mapping[tuple[str, str], MayOverlap]
) -> list[tuple[int, int]]:
    """The open intervals of offsets that `buffer` may not take because `rival` lies at `at`."""
    low, high = at - buffer.nbytes, at + rival.nbytes
    as_later = rules.get((rival.name, buffer.name))
    if as_later is not None and rival.last == buffer.first:
        if as_later.exact:
            return [(low, at), (at, high)]
        low = max(low, min(at + as_later.max_delta, high - 1))
    as_earlier = rules.get((buffer.name, rival.name))
    if as_earlier is not None and buffer.last == rival.first:
        if as_earlier.exact:
            return [(low, at), (at, high)]
        high = min(high, max(at - as_earlier.max_delta, low + 1))
    return [(low, high)]


def _improve(
    lives: Sequence[Life],
    rules: Mapping[tuple[str, str], MayOverlap],
    offsets: dict[str, int],
    size: int,
    bound: int,
    alignment: int,
) -> tuple[dict[str, int], int]:
    """Swaps in the placing order, kept where the arena does not grow. Seeded, so repeatable."""
    rng = random.Random(0)
    order = sorted(lives, key=lambda b: (offsets[b.name], b.first, b.name))
    current = size
    rounds = min(SEARCH_ROUNDS, SEARCH_PAIRS // max(len(order), 1) ** 2)
    for _ in range(rounds if len(order) > 1 else 0):
        if size <= bound:
            break
        i, j = rng.randrange(len(order)), rng.randrange(len(order))
        trial = list(order)
        trial.insert(j, trial.pop(i))
        placed, trial_size = _place(trial, rules, alignment)
        if trial_size <= current:
            order, current = trial, trial_size
            if trial_size < size:
                offsets, size = placed, trial_size
    return offsets, size
