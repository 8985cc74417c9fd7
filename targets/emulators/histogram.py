"""Counting executed instructions under unicorn by a histogram of translated blocks."""

import ctypes
import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from unicorn import UC_HOOK_BLOCK, Uc
from unicorn.unicorn_py3.unicorn import uclib

from tinsmith.pipeline.errors import ToolFailed, ToolMissing
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import cache_dir, find_toolchain, run_compiler

_SOURCE = Path(__file__).with_name("block_hook.c")
# Blocks a run may enter before it counts as hung: hours on a real device.
BLOCK_LIMIT = 1 << 40


class Histogram(Protocol):
    """Counts blocks between `attach` and `detach`; `entries` is {(address, bytes): times}."""

    def attach(self) -> None: ...

    def detach(self) -> None: ...

    def entries(self) -> dict[tuple[int, int], int]: ...


class _State(ctypes.Structure):
    _fields_ = (
        ("base", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("entries", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("blocks", ctypes.c_uint64),
        ("stop", ctypes.c_void_p),
    )


class CompiledHistogram:
    """The histogram of block_hook.c, over `size` bytes of code from `base`."""

    def __init__(self, uc: Uc, base: int, size: int, library: ctypes.CDLL) -> None:
        self._uc = uc
        self._base = base
        self._entries = np.zeros(size // 2 + 1, np.uint64)
        self._sizes = np.zeros(size // 2 + 1, np.uint32)
        self._hook = ctypes.cast(library.tinsmith_on_block, ctypes.c_void_p)
        stop = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p)
        self._state = _State(
            base, size, self._entries.ctypes.data, self._sizes.ctypes.data, BLOCK_LIMIT, stop
        )
        self._handle = ctypes.c_size_t()

    def attach(self) -> None:
        self._entries[:] = 0
        self._state.blocks = BLOCK_LIMIT
        status = uclib.uc_hook_add(
            self._uc._uch,
            ctypes.byref(self._handle),
            ctypes.c_int(UC_HOOK_BLOCK),
            self._hook,
            ctypes.byref(self._state),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        assert status == 0, status
        self._uc.ctl_flush_tb()  # what was translated before does not call the hook

    def detach(self) -> None:
        uclib.uc_hook_del(self._uc._uch, self._handle)
        self._uc.ctl_flush_tb()

    def entries(self) -> dict[tuple[int, int], int]:
        return {
            (self._base + 2 * int(i), int(self._sizes[i])): int(self._entries[i])
            for i in np.flatnonzero(self._entries)
        }


class PythonHistogram:
    """The same count where the hook in C can't be built: slower, nothing else differs."""

    def __init__(self, uc: Uc, base: int, size: int) -> None:
        self._uc = uc
        self._base = base
        self._end = base + size
        self._counts: dict[tuple[int, int], int] = {}
        self._handle = 0

    def attach(self) -> None:
        self._counts = {}
        self._handle = self._uc.hook_add(UC_HOOK_BLOCK, self._on_block)
        self._uc.ctl_flush_tb()

    def detach(self) -> None:
        self._uc.hook_del(self._handle)
        self._uc.ctl_flush_tb()

    def entries(self) -> dict[tuple[int, int], int]:
        return dict(self._counts)

    def _on_block(self, uc: Uc, address: int, size: int, user: Any) -> None:
        if self._base <= address < self._end:
            key = (address, size)
            self._counts[key] = self._counts.get(key, 0) + 1


def new_histogram(uc: Uc, base: int, size: int) -> Histogram:
    """A histogram over `size` bytes of code from `base`: in C where that can be built."""
    library = block_hook_library()
    if library is None:
        return PythonHistogram(uc, base, size)
    return CompiledHistogram(uc, base, size, library)


@functools.cache
def block_hook_library() -> ctypes.CDLL | None:
    """block_hook.c as a library, built once per user into the cache; None where it can't be."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    path = cache_dir() / f"block_hook-{sys.platform}-{os.uname().machine}-{digest}.so"
    try:
        if not path.exists():
            _build(path)
        return ctypes.CDLL(str(path))
    except (OSError, ToolMissing, ToolFailed):
        return None


def _build(path: Path) -> None:
    toolchain = find_toolchain(None, target_named("host"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        arguments = ("-shared", "-fPIC", "-O2", "-nostdlib", str(_SOURCE), "-o", "hook.so")
        run_compiler(toolchain, arguments, Path(folder))
        # Several processes may build it at once; a rename shows each a whole file.
        Path(folder, "hook.so").replace(path)


def count_instructions(
    entries: dict[tuple[int, int], int], read: Callable[[int, int], bytes], *, thumb: bool
) -> int:
    """Instructions in the counted blocks; `read(address, bytes)` gives the code."""
    return sum(
        times * (_thumb_instructions(read(address, size)) if thumb else size // 4)
        for (address, size), times in entries.items()
    )


def _thumb_instructions(code: bytes) -> int:
    """A Thumb instruction is 32 bits wide where its first halfword begins with 0b11101, 0b11110
    or 0b11111, else 16 (ARMv7-M Architecture Reference Manual, A5.1)."""
    count = 0
    i = 0
    while i < len(code):
        i += 4 if code[i + 1] >= 0xE8 else 2
        count += 1
    return count
