"""The order of kernel calls that needs the least memory, where a graph's branches leave a choice.

A search level by level over the sets of nodes that are done: of all orders that reach the same
set only the one with the lowest peak matters, since what is alive then is the same. At most BEAM
sets are kept a level, so that the result is exact for networks of few branches, good for others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

BEAM = 64
SEARCH_STEPS = 400_000  # what bounds the time of networks of very many layers


@dataclass(frozen=True, eq=False)
class Work:
    """A kernel call as the order sees it.

    reads, writes: names of buffers. scratch_bytes: alive during the call only. shared: the bytes
    that the outputs have in common with a buffer that is read here for the last time, by its name.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    scratch_bytes: int
    shared: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _State:
    """done: a bit a node. live_bytes: of what is read later. key: peak first, then file order."""

    done: int
    live_bytes: int
    peak_bytes: int
    order: tuple[int, ...]

    @property
    def key(self) -> tuple[int, int, tuple[int, ...]]:
        return self.peak_bytes, self.live_bytes, self.order


def peak_of(
    order: Sequence[int],
    works: Sequence[Work],
    nbytes: Mapping[str, int],
    inputs: Sequence[str],
    kept: Collection[str],
) -> int:
    """The most bytes alive at once when the calls run in this order."""
    readers = _readers(works)
    state = _start(nbytes, inputs, readers, kept)
    for node in order:
        state = _run(state, node, works, nbytes, readers, kept)
    return state.peak_bytes


def least_peak_order(
    works: Sequence[Work],
    nbytes: Mapping[str, int],
    inputs: Sequence[str],
    kept: Collection[str],
) -> tuple[int, ...]:
    """The indices of `works`, which are in a valid order, in the order of the least peak found.

    kept: buffers that live to the end. The given order is kept where nothing better is found.
    """
    given = tuple(range(len(works)))
    readers = _readers(works)
    makers = {name: i for i, work in enumerate(works) for name in work.writes}
    needs = [_mask(makers[n] for n in work.reads if n in makers) for work in works]
    followers: list[list[int]] = [[] for _ in works]
    for i, work in enumerate(works):
        for maker in {makers[n] for n in work.reads if n in makers}:
            followers[maker].append(i)
    start = _start(nbytes, inputs, readers, kept)
    free = tuple(i for i, need in enumerate(needs) if not need)
    level: dict[int, tuple[_State, tuple[int, ...]]] = {0: (start, free)}
    width = max(min(BEAM, SEARCH_STEPS // max(len(works), 1) ** 2), 1)
    for _ in works:
        following: dict[int, tuple[_State, tuple[int, ...]]] = {}
        for state, ready in level.values():
            for node in ready:
                new = _run(state, node, works, nbytes, readers, kept)
                known = following.get(new.done)
                if known is not None and known[0].key <= new.key:
                    continue
                opened = (f for f in followers[node] if needs[f] & ~new.done == 0)
                rest = tuple(sorted({*(r for r in ready if r != node), *opened}))
                following[new.done] = (new, rest)
        best = sorted(following.values(), key=lambda pair: pair[0].key)[:width]
        level = {state.done: (state, ready) for state, ready in best}
    found = min((state for state, _ in level.values()), key=lambda s: s.key)
    if found.peak_bytes < peak_of(given, works, nbytes, inputs, kept):
        return found.order
    return given


def _mask(indices: Iterable[int]) -> int:
    mask = 0
    for i in indices:
        mask |= 1 << i
    return mask


def _readers(works: Sequence[Work]) -> Mapping[str, int]:
    """Buffer -> a bit for each node that reads it."""
    found: dict[str, int] = {}
    for i, work in enumerate(works):
        for name in work.reads:
            found[name] = found.get(name, 0) | 1 << i
    return found


def _start(
    nbytes: Mapping[str, int],
    inputs: Sequence[str],
    readers: Mapping[str, int],
    kept: Collection[str],
) -> _State:
    alive = sum(nbytes[n] for n in set(inputs))
    unread = sum(nbytes[n] for n in set(inputs) if n not in readers and n not in kept)
    return _State(0, alive - unread, alive, ())


def _run(
    state: _State,
    node: int,
    works: Sequence[Work],
    nbytes: Mapping[str, int],
    readers: Mapping[str, int],
    kept: Collection[str],
) -> _State:
    work = works[node]
    done = state.done | 1 << node
    dying = [n for n in set(work.reads) if n not in kept and readers[n] & ~done == 0]
    made = sum(nbytes[n] for n in set(work.writes))
    saved = max((work.shared.get(n, 0) for n in dying), default=0)
    peak = max(state.peak_bytes, state.live_bytes + made + work.scratch_bytes - saved)
    unread = sum(nbytes[n] for n in set(work.writes) if n not in readers and n not in kept)
    live = state.live_bytes + made - unread - sum(nbytes[n] for n in dying)
    return _State(done, live, peak, (*state.order, node))
