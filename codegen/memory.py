"""The arena planner: places buffers by their lives, letting outputs lie over inputs where it is
safe.

Buffers whose lives meet must not share a byte, except a kernel's output and an input that dies
there, which may overlap as far as the kernel's access trace allows (see `Overlap`). Best fit over
several orders, then a seeded local search on the order; the result is reported beside a lower
bound. Where the bound is not reached, a second search moves what lies on top to earlier places of
the order, also with buffers as one that have to lie at one address. What is left between the two is
the matter of an exact search (`exact.py`), which mostly ends with a proof.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinsmith.codegen.exact import Boxes, Pair, boxes_of, floor_of, ranges_of, smallest
from tinsmith.codegen.program import Placed

ALIGNMENT = 4  # bytes, at least: kernels load activations as words where the channels allow it
SEARCH_ROUNDS = 400
SECOND_ROUNDS = 300
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
    """later may lie over earlier, as long as later.offset - earlier.offset <= max_delta, while both
    are alive.

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

    @property
    def proven(self) -> bool:
        """Whether no plan with these lives and overlaps is smaller."""
        return self.arena_bytes == self.lower_bound

    def offset(self, name: str) -> int:
        return next(p.offset for p in self.placed if p.name == name)


def plan_memory(
    lives: Sequence[Life], overlaps: Sequence[MayOverlap], alignment: int = ALIGNMENT
) -> MemoryPlan:
    """The smallest plan found; deterministic. alignment: bytes, of every offset."""
    task = _task(lives, overlaps, alignment, lower_bound(lives, overlaps, alignment))
    best = min((_place(task, order) for order in _orders(lives)), key=lambda found: found.size)
    if best.size > task.bound:
        boxes = _boxes(task)
        floor = floor_of(boxes, task.bound // alignment, best.size // alignment)
        task = replace(task, bound=floor * alignment)
        best = _searched(task, best)
        if best.size > task.bound:
            return _exact(task, boxes, best)
    return _plan(task, best.offsets, best.size, task.bound)


def _searched(task: _Task, best: _Found) -> _Found:
    """The smallest plan of the local searches."""
    best = _improve(task, best)
    joined = _joined(task)
    for other in (task, joined):
        # What is made last goes first: outputs lie below the inputs that they take the place of.
        late = sorted(task.lives, key=lambda b: (-b.first, -b.nbytes, b.name))
        for order in (best.order, late):
            if best.size > task.bound:
                best = min(best, _second(other, order), key=lambda found: found.size)
    return best


def _exact(task: _Task, boxes: Boxes, best: _Found) -> MemoryPlan:
    """The smallest plan there is, where the search for it can be exhausted."""
    unit = task.alignment
    found = smallest(boxes, task.bound // unit, best.size // unit)
    if found.offsets is None:
        return _plan(task, best.offsets, best.size, found.floor * unit)
    offsets = {b.name: at * unit for b, at in zip(task.lives, found.offsets, strict=True)}
    size = max(offsets[b.name] + _align(b.nbytes, unit) for b in task.lives)
    return _plan(task, offsets, size, found.floor * unit)


def _plan(task: _Task, offsets: Mapping[str, int], size: int, bound: int) -> MemoryPlan:
    placed = tuple(Placed(b.name, offsets[b.name], b.nbytes, b.first, b.last) for b in task.lives)
    return MemoryPlan(placed, size, bound)


def _boxes(task: _Task) -> Boxes:
    """The same for the exact search."""
    places = {b.name: i for i, b in enumerate(task.lives)}
    sizes = [-(-b.nbytes // task.alignment) for b in task.lives]
    pairs = []
    for buffer in task.lives:
        one = places[buffer.name]
        for name, _, same, above, under in task.rivals[buffer.name]:
            other = places[name]
            if one < other:
                lowest = None if above is None else -(above // task.alignment)
                highest = None if under is None else under // task.alignment
                ranges = ranges_of(sizes[one], sizes[other], same, lowest, highest)
                if len(ranges) > 1:
                    pairs.append(Pair(one, other, ranges))
    return boxes_of(sizes, pairs)


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
            if later.first <= step <= earlier.last:
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


# A buffer that may not share bytes with another, but as far as a rule allows it: its name and size,
# whether they overlap at one address only, and how far the other one may lie above it, and it above
# the other; None where there is no such rule.
_Rival = tuple[str, int, bool, int | None, int | None]


@dataclass(frozen=True, eq=False)
class _Task:
    """What to place. together: of each buffer, all that lie at its address, itself included."""

    lives: Sequence[Life]
    rules: Mapping[tuple[str, str], MayOverlap]
    rivals: Mapping[str, Sequence[_Rival]]
    together: Mapping[str, tuple[str, ...]]
    alignment: int
    bound: int


@dataclass(frozen=True, eq=False)
class _Found:
    """A plan, and the order of placing that gave it. below: of each buffer that is not at the
    bottom, the one that keeps it from lying lower."""

    order: Sequence[Life]
    offsets: dict[str, int]
    below: dict[str, str]
    size: int


def _task(
    lives: Sequence[Life], overlaps: Sequence[MayOverlap], alignment: int, bound: int
) -> _Task:
    rules = {(o.earlier, o.later): o for o in overlaps}
    rivals = {
        b.name: tuple(
            _rival(o, rules.get((o.name, b.name)), rules.get((b.name, o.name)))
            for o in lives
            if o is not b and o.first <= b.last and b.first <= o.last
        )
        for b in lives
    }
    return _Task(lives, rules, rivals, {b.name: (b.name,) for b in lives}, alignment, bound)


def _rival(other: Life, later: MayOverlap | None, earlier: MayOverlap | None) -> _Rival:
    exact = any(rule is not None and rule.exact for rule in (later, earlier))
    above = None if later is None else later.max_delta
    below = None if earlier is None else earlier.max_delta
    return other.name, other.nbytes, exact, above, below


def _joined(task: _Task) -> _Task:
    """The same with buffers of one size as one where a kernel works in place on them or not at
    all."""
    nbytes = {b.name: b.nbytes for b in task.lives}
    together = dict(task.together)
    for rule in task.rules.values():
        pair = together[rule.earlier], together[rule.later]
        if rule.exact and nbytes[rule.earlier] == nbytes[rule.later] and pair[0] != pair[1]:
            names = pair[0] + pair[1]
            together |= dict.fromkeys(names, names)
    rivals = {
        name: tuple(r for n in names for r in task.rivals[n] if r[0] not in names)
        for name, names in together.items()
    }
    return replace(task, rivals=rivals, together=together)


def _place(task: _Task, order: Sequence[Life]) -> _Found:
    """Each buffer at the lowest offset that conflicts with none placed before it."""
    offsets: dict[str, int] = {}
    below: dict[str, str] = {}
    size, alignment = 0, task.alignment
    for buffer in order:
        if buffer.name in offsets:
            continue
        # Every rival forbids one open interval of offsets; the lowest free one is wanted.
        forbidden: list[tuple[int, int, str]] = []
        nbytes = buffer.nbytes
        for name, rival_bytes, exact, above, under in task.rivals[buffer.name]:
            at = offsets.get(name)
            if at is None:
                continue
            low, high = at - nbytes, at + rival_bytes
            if exact:
                forbidden += [(low, at, name), (at, high, name)]
                continue
            if above is not None:
                low = max(low, min(at + above, high - 1))
            if under is not None:
                high = min(high, max(at - under, low + 1))
            forbidden.append((low, high, name))
        forbidden.sort()
        offset, beneath = 0, ""
        for low, high, name in forbidden:
            if low < offset < high:
                offset, beneath = -(-high // alignment) * alignment, name
        for name in task.together[buffer.name]:
            offsets[name] = offset
            if beneath:
                below[name] = beneath
        size = max(size, offset + nbytes)
    return _Found(order, offsets, below, _align(size, alignment))


def _improve(task: _Task, best: _Found) -> _Found:
    """Swaps in the placing order, kept where the arena does not grow. Seeded, so repeatable."""
    rng = random.Random(0)
    offsets = best.offsets
    order = sorted(task.lives, key=lambda b: (offsets[b.name], b.first, b.name))
    current = best.size
    rounds = min(SEARCH_ROUNDS, SEARCH_PAIRS // max(len(order), 1) ** 2)
    for _ in range(rounds if len(order) > 1 else 0):
        if best.size <= task.bound:
            break
        i, j = rng.randrange(len(order)), rng.randrange(len(order))
        trial = list(order)
        trial.insert(j, trial.pop(i))
        found = _place(task, trial)
        if found.size <= current:
            order, current = trial, found.size
            if found.size < best.size:
                best = found
    return best


def _second(task: _Task, start: Sequence[Life]) -> _Found:
    """As _improve, but what is moved goes to an earlier place, and is of a pile that reaches the
    top of the arena: a buffer there, the one that keeps it from lying lower, and so on."""
    rng = random.Random(1)
    best = current = _place(task, start)
    rounds = min(SECOND_ROUNDS, SEARCH_PAIRS // max(len(start), 1) ** 2)
    improved = 0
    for index in range(rounds):
        if best.size <= task.bound or index - improved > rounds // 3:
            break
        order = list(current.order)
        edge = current.size - task.alignment
        top = [b.name for b in order if current.offsets[b.name] + b.nbytes > edge]
        pile = [rng.choice(top)]
        while pile[-1] in current.below and current.below[pile[-1]] not in pile:
            pile.append(current.below[pile[-1]])
        chosen = rng.choice(pile)
        i = next(i for i, b in enumerate(order) if b.name == chosen)
        order.insert(rng.randrange(i + 1), order.pop(i))
        found = _place(task, order)
        if found.size <= current.size:
            current = found
            if found.size < best.size:
                best, improved = found, index
    return best
