"""Runs a model on a Cortex-M board that QEMU emulates.

It is stricter than unicorn: accesses that are not aligned, instructions that the core lacks and an
FPU that nobody enabled are faults. It counts no instructions.
"""

import shutil

from tinsmith.pipeline.errors import ToolMissing
from tinsmith.targets.emulators.child import ChildRunner
from tinsmith.targets.emulators.memory_map import place
from tinsmith.targets.harness import QEMU_MACHINES
from tinsmith.targets.image import Elf, Image

_PROGRAM = "qemu-system-arm"
# Bits of the Configurable Fault Status Register (ARM DDI 0403, B3.2.15).
_FAULTS = (
    (0, "jump to what is not code"),
    (1, "forbidden access"),
    (8, "jump to where no memory is"),
    (9, "access to where no memory is"),
    (10, "access to where no memory is"),
    (16, "instruction that the core does not have"),
    (17, "jump out of Thumb code"),
    (19, "instruction of a unit that is not enabled"),
    (24, "access that is not aligned"),
    (25, "division by zero"),
)
_ADDRESS_VALID = (7, 15)


def qemu_available() -> bool:
    """Whether qemu-system-arm is installed."""
    return shutil.which(_PROGRAM) is not None


def qemu_runner(image: Image, *, timeout_seconds: float = 60.0) -> ChildRunner:
    """A runner for an image that was built for QEMU; ToolMissing where that is not installed."""
    if not qemu_available():
        raise ToolMissing(
            f"{_PROGRAM}, which was asked for to emulate {image.target.name}, is not installed. "
            "Install it with: apt install qemu-system-arm; or use the default emulator, unicorn."
        )
    machine = QEMU_MACHINES[image.target.cpu]
    command = (
        _PROGRAM, "-M", machine, "-display", "none", "-monitor", "none", "-serial", "none",
        "-semihosting-config", "enable=on,target=native", "-kernel", str(image.path.resolve()),
    )  # fmt: skip
    elf = Elf(image.path)

    def describe(words: tuple[int, int, int]) -> str:
        return describe_fault(elf, words)

    return ChildRunner(
        image,
        command,
        f"{image.target.name} (QEMU {machine})",
        timeout_seconds=timeout_seconds,
        describe_fault=describe,
    )


def describe_fault(elf: Elf, words: tuple[int, int, int]) -> str:
    """What happened and where. words: fault status, program counter, address of the access."""
    status, pc, address = words
    kinds = [text for bit, text in _FAULTS if status >> bit & 1] or [f"fault {status:#010x}"]
    there = f" at {address:#x}" if any(status >> bit & 1 for bit in _ADDRESS_VALID) else ""
    return f"{kinds[0]}{there} in {place(elf, pc)}"
