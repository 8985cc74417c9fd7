"""Counting executed instructions under unicorn by a histogram of translated blocks."""

import ctypes
from typing import Any, Protocol

import numpy as np
from unicorn import UC_HOOK_BLOCK
from unicorn.unicorn_py3.unicorn import Uc

from tinsmith.targets.emulators.hooks import CompiledHook, hook_library
from tinsmith.targets.emulators.runner import Block


class Histogram(Protocol):
    """Counts blocks between `attach` and `detach`, one call; `blocks` gives the count."""

    def attach(self) -> None: ...

    def detach(self) -> None: ...

    def blocks(self) -> tuple[Block, ...]: ...


def new_histogram(uc: Uc, base: int, size: int) -> Histogram:
    """A histogram over `size` bytes of code from `base`: in C where that can be built."""
    library = hook_library()
    if library is None:
        return PythonHistogram(uc, base, size)
    return CompiledHistogram(uc, base, size, library)


class _State(ctypes.Structure):
    _fields_ = (
        ("base", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("entries", ctypes.c_void_p),
        ("taken", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("last", ctypes.c_uint64),
        ("last_size", ctypes.c_uint64),
    )


class CompiledHistogram:
    """The histogram of hooks.c."""

    def __init__(self, uc: Uc, base: int, size: int, library: ctypes.CDLL) -> None:
        self._base = base
        halfwords = size // 2 + 1
        self._entries = np.zeros(halfwords, np.uint64)
        self._taken = np.zeros(halfwords, np.uint64)
        self._sizes = np.zeros(halfwords, np.uint32)
        arrays = (array.ctypes.data for array in (self._entries, self._taken, self._sizes))
        self._state = _State(base, size, *arrays)
        self._hook = CompiledHook(uc, UC_HOOK_BLOCK, library, "tinsmith_on_block", self._state)

    def attach(self) -> None:
        self._entries[:] = 0
        self._taken[:] = 0
        self._state.last = self._state.last_size = 0
        self._hook.attach()

    def detach(self) -> None:
        self._hook.detach()
        # What is counted ends with a return, which enters no further block.
        last = self._state.last - self._base
        if 0 <= last < self._state.bytes:
            self._taken[last // 2] += np.uint64(1)

    def blocks(self) -> tuple[Block, ...]:
        return tuple(
            Block(
                self._base + 2 * int(i),
                int(self._sizes[i]),
                int(self._entries[i]),
                int(self._taken[i]),
            )
            for i in np.flatnonzero(self._entries)
        )


class PythonHistogram:
    """The same count where the hook in C can't be built: slower, nothing else differs."""

    def __init__(self, uc: Uc, base: int, size: int) -> None:
        self._uc = uc
        self._base = base
        self._end = base + size
        self._counts: dict[tuple[int, int], list[int]] = {}
        self._last = (0, 0)
        self._handle = 0

    def attach(self) -> None:
        self._counts = {}
        self._last = (0, 0)
        self._handle = self._uc.hook_add(UC_HOOK_BLOCK, self._on_block)
        self._uc.ctl_flush_tb()

    def detach(self) -> None:
        self._uc.hook_del(self._handle)
        self._uc.ctl_flush_tb()
        if self._last in self._counts:
            self._counts[self._last][1] += 1

    def blocks(self) -> tuple[Block, ...]:
        return tuple(Block(*key, *counts) for key, counts in sorted(self._counts.items()))

    def _on_block(self, uc: Uc, address: int, size: int, user: Any) -> None:
        if self._last in self._counts and sum(self._last) != address:
            self._counts[self._last][1] += 1
        self._last = (address, size)
        if self._base <= address < self._end:
            self._counts.setdefault(self._last, [0, 0])[0] += 1


def count_instructions(blocks: tuple[Block, ...], code: bytes, base: int, *, thumb: bool) -> int:
    """Instructions executed in the blocks; `code` is what lies at address `base`.

    One whose condition fails within an IT block counts: the core spends a cycle on it.
    """
    total = 0
    for block in blocks:
        offset = block.address - base
        width = code[offset : offset + block.size]
        total += block.entries * (_thumb_instructions(width) if thumb else block.size // 4)
    return total


def _thumb_instructions(code: bytes) -> int:
    """A Thumb instruction is 32 bits wide where its first halfword begins with 0b11101, 0b11110
    or 0b11111, else 16 (ARMv7-M Architecture Reference Manual, A5.1)."""
    count = 0
    i = 0
    while i < len(code):
        i += 4 if code[i + 1] >= 0xE8 else 2
        count += 1
    return count
