"""Runs an image for a bare Arm core under the unicorn emulator."""

import struct
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import unicorn
from unicorn import (
    UC_ARCH_ARM,
    UC_ARCH_ARM64,
    UC_HOOK_CODE,
    UC_HOOK_MEM_INVALID,
    UC_MODE_ARM,
    UC_MODE_MCLASS,
    UC_MODE_THUMB,
    UC_PROT_ALL,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
    arm64_const,
    arm_const,
)
from unicorn.unicorn_py3.unicorn import Uc, UcError

from tinsmith.pipeline.errors import DeviceSilent
from tinsmith.targets.emulators.alignment import must_be_aligned, new_watch
from tinsmith.targets.emulators.histogram import count_instructions, new_histogram
from tinsmith.targets.emulators.memory_map import (
    memory_map_of,
    place,
    what_lies_at,
)
from tinsmith.targets.emulators.runner import Block, Count, Result, Sample, check_sample
from tinsmith.targets.emulators.watchdog import Watchdog
from tinsmith.targets.harness import EMULATED_LAYOUT, PAGE_BYTES, TRACE_SYMBOL, MemoryLayout
from tinsmith.targets.image import Elf, Image
from tinsmith.targets.isa import instruction_at
from tinsmith.targets.target import Target

_PAINT = 0xA5
_FAULTS_SHOWN = 8
_EXIT = 0x0F00_0000  # where calls return to: mapped, never executed
_XPSR_THUMB = 1 << 24
_SYSTEM = 0xE000_E000  # the system control space of Cortex-M, for CPACR


class UnicornRunner:
    """See Runner. One emulator for all samples; flash is read-only, what is not used unmapped."""

    def __init__(
        self,
        image: Image,
        target: Target,
        *,
        layout: MemoryLayout = EMULATED_LAYOUT,
        timeout_seconds: float = 60.0,
    ) -> None:
        self._interface = image.interface
        self._target = target
        self._timeout_seconds = timeout_seconds
        self._elf = Elf(image.path)
        self._map = memory_map_of(self._elf, layout, target.pointer_bytes, image.interface)
        self._thumb = target.kind == "cortex-m"
        self._fault: tuple[int, int, int] | None = None
        self._failed = False
        self._broken = False
        self._trace: list[tuple[int, bytes]] = []
        self._counting = False
        self._trace_instructions: list[int] = []
        self.blocks: tuple[Block, ...] = ()
        self._uc = self._new_emulator()
        self._first = self._elf.address_of("tinsmith_h_model_start")
        model_bytes = self._elf.address_of("tinsmith_h_model_end") - self._first
        self._code = bytes(self._uc.mem_read(self._first, model_bytes))
        self._histogram = new_histogram(self._uc, self._first, model_bytes)
        self._watch = new_watch(self._uc, target.cpu)
        self._uc.hook_add(UC_HOOK_MEM_INVALID, self._on_invalid)
        if self._elf.has(TRACE_SYMBOL):
            address = self._elf.address_of(TRACE_SYMBOL)
            self._uc.hook_add(UC_HOOK_CODE, self._on_trace, begin=address, end=address)
        self._watchdog = Watchdog(self._uc.emu_stop, timeout_seconds)
        with self._watchdog.watching():
            self._boot()

    def run(
        self,
        samples: Iterable[Sample],
        *,
        reset_each: bool = True,
        count: Count = "first",
        check_alignment: bool = False,
    ) -> Iterator[Result]:
        with self._watchdog.watching():
            for index, sample in enumerate(samples):
                check_sample(self._interface, sample, index)
                counted = count == "all" or (count == "first" and index == 0)
                if check_alignment and index == 0:
                    self._check_alignment(sample)
                yield self._result(sample, index, reset_each or index == 0, counted)

    def close(self) -> None:
        """Nothing to do: the emulator goes with the runner."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _new_emulator(self) -> Uc:
        model = self._target.cpu_model
        assert model is not None, self._target.name
        if self._thumb:
            uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
            uc.ctl_set_cpu_model(getattr(arm_const, model))
            uc.mem_map(_SYSTEM, PAGE_BYTES)
        else:
            uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
            uc.ctl_set_cpu_model(getattr(arm64_const, model))
        layout, memory = self._map.layout, self._map
        uc.mem_map(layout.flash, memory.flash_bytes, UC_PROT_READ | UC_PROT_EXEC)
        for start, size in memory.flashes:
            uc.mem_map(start, size, UC_PROT_READ)
        for start, data in self._elf.segments:
            uc.mem_write(start, data)
        read_write = UC_PROT_READ | UC_PROT_WRITE
        if memory.data_bytes:
            uc.mem_map(layout.data, memory.data_bytes, read_write)
        for pool in memory.pools:
            uc.mem_map(pool.start, pool.nbytes, read_write)
        uc.mem_map(memory.stack_bottom, layout.stack_bytes, read_write)
        uc.mem_map(_EXIT, PAGE_BYTES, UC_PROT_ALL)
        return uc

    def _boot(self) -> None:
        """Run the start-up code, fill context and arenas with paint, initialize the model."""
        elf = self._elf
        ready = elf.address_of("tinsmith_h_ready")
        self._start(elf.address_of("tinsmith_h_start"), ready, "start-up")
        for pool in self._map.pools:
            self._uc.mem_write(pool.start, bytes([_PAINT]) * pool.nbytes)
        self._call("tinsmith_h_init", (), "initialization")
        inputs, outputs = self._interface.inputs, self._interface.outputs
        self._inputs = [
            self._call("tinsmith_h_input", (i,), f"the address of input {i}")
            for i in range(len(inputs))
        ]
        self._outputs = [
            self._call("tinsmith_h_output", (i,), f"the address of output {i}")
            for i in range(len(outputs))
        ]
        for what, addresses, sizes in (
            ("input", self._inputs, inputs),
            ("output", self._outputs, outputs),
        ):
            for i, (address, size) in enumerate(zip(addresses, sizes, strict=True)):
                if not any(p.first <= address <= p.end - size for p in self._map.pools):
                    raise DeviceSilent(
                        f"{self._name}: {what} {i} is at {address:#x}, outside the context"
                    )

    def _result(self, sample: Sample, index: int, reset: bool, counted: bool) -> Result:
        where = f"sample {index}"
        if self._broken:
            self._boot()  # what went wrong may have written anywhere
            reset = True
        self._broken = True
        if reset:
            self._call("tinsmith_h_reset", (), where)
        for address, data in zip(self._inputs, sample, strict=True):
            self._uc.mem_write(address, data)
        self._trace, self._trace_instructions = [], []
        instructions, stack_bytes = self._run_once(counted, where)
        self._check_canary(where)
        outputs = tuple(
            bytes(self._uc.mem_read(address, size))
            for address, size in zip(self._outputs, self._interface.outputs, strict=True)
        )
        self._broken = False
        trace = tuple(self._trace), tuple(self._trace_instructions)
        return Result(outputs, instructions, stack_bytes, *trace)

    def _run_once(self, counted: bool, where: str) -> tuple[int | None, int | None]:
        function = f"{self._interface.name}_run"
        if not counted:
            self._check_status(self._call(function, (self._map.context,), where), where)
            return None, None
        low, stack_bytes = self._map.stack_bottom, self._map.layout.stack_bytes
        self._uc.mem_write(low, bytes([_PAINT]) * stack_bytes)
        self._histogram.attach()
        self._counting = True
        try:
            status = self._call(function, (self._map.context,), where)
        finally:
            self._counting = False
            self._histogram.detach()
        self._check_status(status, where)
        stack = bytes(self._uc.mem_read(low, stack_bytes))
        self.blocks = self._histogram.blocks()
        return self._count(self.blocks), len(stack.lstrip(bytes([_PAINT])))

    def _count(self, blocks: tuple[Block, ...]) -> int:
        return count_instructions(blocks, self._code, self._first, thumb=self._thumb)

    def _check_alignment(self, sample: Sample) -> None:
        """Run a sample, then reset; DeviceSilent where the core would fault on an access."""
        if not self._thumb:
            return  # AArch64 allows unaligned access to ordinary memory
        self._watch.attach()
        try:
            self._result(sample, 0, True, False)
        finally:
            self._watch.detach()
        faults = []
        for pc, address, size in self._watch.accesses():
            instruction = instruction_at(self._elf, self._target, pc)
            if must_be_aligned(self._target.cpu, instruction.name):
                faults.append(
                    f"\n  {place(self._elf, pc)}: {instruction.text} accesses {size} bytes at "
                    f"{address:#x} ({what_lies_at(self._map, address)})"
                )
        if faults:
            raise DeviceSilent(
                f"{self._name}, sample 0: {len(faults)} instructions access what is not aligned; "
                f"the core faults on that:{''.join(faults[:_FAULTS_SHOWN])}"
            )

    def _check_status(self, status: int, where: str) -> None:
        if status & 0xFFFF_FFFF:
            code = struct.unpack("<i", struct.pack("<I", status & 0xFFFF_FFFF))[0]
            raise DeviceSilent(f"{self._name}, {where}: {self._interface.name}_run gave {code}")

    def _check_canary(self, where: str) -> None:
        for pool in self._map.pools:
            slack = bytes(self._uc.mem_read(pool.start, pool.slack_bytes))
            if slack.strip(bytes([_PAINT])):
                last = max(i for i, byte in enumerate(slack) if byte != _PAINT)
                raise DeviceSilent(
                    f"{self._name}, {where}: a byte {len(slack) - last} bytes before {pool.what} "
                    "was overwritten"
                )

    def _call(self, function: str, arguments: tuple[int, ...], where: str) -> int:
        """Call a function and give back what it returned."""
        uc = self._uc
        if self._thumb:
            uc.reg_write(arm_const.UC_ARM_REG_LR, _EXIT | 1)
            for i, value in enumerate(arguments):
                uc.reg_write(arm_const.UC_ARM_REG_R0 + i, value)
        else:
            uc.reg_write(arm64_const.UC_ARM64_REG_LR, _EXIT)
            for i, value in enumerate(arguments):
                uc.reg_write(arm64_const.UC_ARM64_REG_X0 + i, value)
        self._start(self._elf.address_of(function), _EXIT, where)
        if self._thumb:
            return int(uc.reg_read(arm_const.UC_ARM_REG_R0))
        return int(uc.reg_read(arm64_const.UC_ARM64_REG_X0))

    def _start(self, address: int, until: int, where: str) -> None:
        """Emulate from an address until another; DeviceSilent where it does not get there."""
        uc = self._uc
        sp = arm_const.UC_ARM_REG_SP if self._thumb else arm64_const.UC_ARM64_REG_SP
        uc.reg_write(sp, self._map.layout.stack_top)
        if self._thumb and self._failed:
            # It may have been stopped within an IT block: no condition holds for what comes now.
            uc.reg_write(arm_const.UC_ARM_REG_XPSR, _XPSR_THUMB)
        self._fault = None
        self._failed = True
        try:
            self._watchdog.wind()
            uc.emu_start(address | 1 if self._thumb else address, until)
        except UcError as e:
            raise DeviceSilent(f"{self._name}, {where}: {self._describe(e)}") from e
        finally:
            self._watchdog.rest()
        pc = self._pc()
        if pc != until:
            raise DeviceSilent(
                f"{self._name}, {where}: still in {place(self._elf, pc)} after "
                f"{self._timeout_seconds:g} seconds"
            )
        self._failed = False

    def _pc(self) -> int:
        register = arm_const.UC_ARM_REG_PC if self._thumb else arm64_const.UC_ARM64_REG_PC
        return int(self._uc.reg_read(register))

    def _on_invalid(
        self, uc: Uc, access: int, address: int, size: int, value: int, user: Any
    ) -> bool:
        self._fault = (access, address, size)
        return False

    def _on_trace(self, uc: Uc, address: int, size: int, user: Any) -> None:
        first = arm_const.UC_ARM_REG_R0 if self._thumb else arm64_const.UC_ARM64_REG_X0
        step, data, count = (int(uc.reg_read(first + i)) for i in range(3))
        (signed,) = struct.unpack("<i", struct.pack("<I", step & 0xFFFF_FFFF))
        self._trace.append((signed, bytes(uc.mem_read(data, count & 0xFFFF_FFFF))))
        if self._counting:
            self._trace_instructions.append(self._count(self._histogram.blocks()))

    @property
    def _name(self) -> str:
        return f"model '{self._interface.name}' on {self._target.name}"

    def _describe(self, error: UcError) -> str:
        here = place(self._elf, self._pc())
        if self._fault is None:
            return f"{error} in {here}"
        access, address, size = self._fault
        verb = {
            unicorn.UC_MEM_WRITE_UNMAPPED: "write of",
            unicorn.UC_MEM_WRITE_PROT: "write of",
            unicorn.UC_MEM_READ_UNMAPPED: "read of",
            unicorn.UC_MEM_READ_PROT: "read of",
        }.get(access)
        there = f"{address:#x} ({what_lies_at(self._map, address)})"
        if verb is not None:
            return f"{verb} {size} bytes at {there} in {here}"
        register = arm_const.UC_ARM_REG_LR if self._thumb else arm64_const.UC_ARM64_REG_LR
        caller = place(self._elf, int(self._uc.reg_read(register)) & ~1)
        return f"jump to {there}; the link register is {caller}"
