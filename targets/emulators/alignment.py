"""Finds the accesses that a core faults on because they are not aligned; unicorn allows them."""

import ctypes
from typing import Any, Protocol

import numpy as np
from unicorn import UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE, arm_const
from unicorn.unicorn_py3.unicorn import Uc

from tinsmith.targets.emulators.hooks import CompiledHook, emulator_function, hook_library

_ROOM = 1024
XPSR_IT = 0x0600_FC00
_KIND = UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE
# ARMv7-M and ARMv8-M allow an unaligned LDR, LDRH, STR and STRH, and none of these
# (ARM DDI 0403, A3.2.1). ARMv6-M allows no unaligned access at all.
WORD_ALIGNED_NAMES = ("ldm", "stm", "push", "pop", "ldrd", "strd", "ldrex", "strex", "lda", "stl")
WORD_ALIGNED_FLOAT_NAMES = ("vldr", "vstr", "vldm", "vstm", "vpush", "vpop")

Access = tuple[int, int, int]


class Watch(Protocol):
    """Notes unaligned accesses between attach and detach: (instruction, address, bytes)."""

    def attach(self) -> None: ...

    def detach(self) -> None: ...

    def accesses(self) -> tuple[Access, ...]: ...


def new_watch(uc: Uc, cpu: str) -> Watch:
    """A watch over every access of a Cortex-M: in C where that can be built."""
    it_blocks = cpu != "cortex-m0plus"
    library = hook_library()
    if library is None:
        return PythonWatch(uc, it_blocks)
    return CompiledWatch(uc, library, it_blocks)


def must_be_aligned(cpu: str, instruction_name: str) -> bool:
    """Whether a Cortex-M faults on an unaligned access of that instruction."""
    return cpu == "cortex-m0plus" or instruction_name.startswith(
        WORD_ALIGNED_NAMES + WORD_ALIGNED_FLOAT_NAMES
    )


class _State(ctypes.Structure):
    _fields_ = (
        ("room", ctypes.c_uint64),
        ("found", ctypes.c_void_p),
        ("reg_read", ctypes.c_void_p),
        ("reg_write", ctypes.c_void_p),
        ("pc", ctypes.c_int),
        ("xpsr", ctypes.c_int),
    )


class CompiledWatch:
    """The watch of hooks.c."""

    def __init__(self, uc: Uc, library: ctypes.CDLL, it_blocks: bool) -> None:
        self._found = np.zeros((_ROOM, 3), np.uint64)
        self._state = _State(
            _ROOM,
            self._found.ctypes.data,
            emulator_function("uc_reg_read"),
            emulator_function("uc_reg_write"),
            arm_const.UC_ARM_REG_PC,
            arm_const.UC_ARM_REG_XPSR if it_blocks else 0,
        )
        self._hook = CompiledHook(uc, _KIND, library, "tinsmith_on_access", self._state)

    def attach(self) -> None:
        self._found[:] = 0
        self._hook.attach()

    def detach(self) -> None:
        self._hook.detach()

    def accesses(self) -> tuple[Access, ...]:
        return tuple((int(pc), int(at), int(size)) for pc, at, size in self._found if pc)


class PythonWatch:
    """The same where the hook in C can't be built: slower, nothing else differs."""

    def __init__(self, uc: Uc, it_blocks: bool) -> None:
        self._uc = uc
        self._it_blocks = it_blocks
        self._found: dict[int, Access] = {}
        self._handle = 0

    def attach(self) -> None:
        self._found = {}
        self._handle = self._uc.hook_add(_KIND, self._on_access)
        self._uc.ctl_flush_tb()

    def detach(self) -> None:
        self._uc.hook_del(self._handle)
        self._uc.ctl_flush_tb()

    def accesses(self) -> tuple[Access, ...]:
        return tuple(self._found.values())

    def _on_access(self, uc: Uc, kind: int, address: int, size: int, value: int, user: Any) -> None:
        if self._it_blocks:  # see hooks.c
            status = int(uc.reg_read(arm_const.UC_ARM_REG_XPSR))
            if status & XPSR_IT:
                uc.reg_write(arm_const.UC_ARM_REG_XPSR, status & ~XPSR_IT)
        if address & (min(size, 4) - 1):
            pc = int(uc.reg_read(arm_const.UC_ARM_REG_PC))
            self._found.setdefault(pc, (pc, address, size))
