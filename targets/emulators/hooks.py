"""hooks.c, built once per user, and how it is attached to unicorn."""

import ctypes
import functools
import hashlib
import os
import sys
import tempfile
from pathlib import Path

from unicorn.unicorn_py3.unicorn import Uc, uclib

from tinsmith.pipeline.errors import ToolFailed, ToolMissing
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import cache_dir, find_toolchain, run_compiler

_SOURCE = Path(__file__).with_name("hooks.c")


@functools.cache
def hook_library() -> ctypes.CDLL | None:
    """hooks.c as a library, built once into the user's cache; None where it can't be built."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    path = cache_dir() / f"hooks-{sys.platform}-{os.uname().machine}-{digest}.so"
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
        arguments = ("-shared", "-fPIC", "-O2", "-nostdlib", str(_SOURCE), "-o", "hooks.so")
        run_compiler(toolchain, arguments, Path(folder))
        # Several processes may build it at once; a rename shows each a whole file.
        Path(folder, "hooks.so").replace(path)


class CompiledHook:
    """A function of hooks.c, called by unicorn with `state` between attach and detach."""

    def __init__(
        self, uc: Uc, kind: int, library: ctypes.CDLL, function: str, state: ctypes.Structure
    ) -> None:
        self._uc = uc
        self._kind = kind
        self._function = ctypes.cast(getattr(library, function), ctypes.c_void_p)
        self._state = state
        self._handle = ctypes.c_size_t()

    def attach(self) -> None:
        status = uclib.uc_hook_add(
            self._uc._uch,
            ctypes.byref(self._handle),
            ctypes.c_int(self._kind),
            self._function,
            ctypes.byref(self._state),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        assert status == 0, status
        self._uc.ctl_flush_tb()  # what was translated before does not call the hook

    def detach(self) -> None:
        uclib.uc_hook_del(self._uc._uch, self._handle)
        self._uc.ctl_flush_tb()


def emulator_function(name: str) -> ctypes.c_void_p:
    """The address of a function of the unicorn library, for hooks to call."""
    return ctypes.cast(getattr(uclib, name), ctypes.c_void_p)
