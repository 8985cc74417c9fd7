"""Estimates cycles on a Cortex-M from how often each block of code was entered and left.

An estimate, always a range, at zero wait states: flash that waits and buses that are shared make
a device slower. The tables are those of the cores' technical reference manuals: Cortex-M0+ (ARM
DDI 0484, 3.3), Cortex-M3 (ARM DDI 0337, 3.3.1), Cortex-M4 (ARM DDI 0439, 3.3.1). For Cortex-M33 and
Cortex-M7 Arm publishes no table: their range follows from how many instructions they can issue.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tinsmith.targets.emulators.runner import Block
from tinsmith.targets.image import Elf, Image
from tinsmith.targets.isa import Instruction, instruction_at
from tinsmith.targets.target import Target

Range = tuple[float, float]

_ONE: Range = (1, 1)
_LOADS = ("ldr", "vldr")
_STORES = ("str", "vstr")
_MULTIPLE = ("ldm", "stm", "push", "pop", "vldm", "vstm", "vpush", "vpop", "ldrd", "strd")
_REGISTER_SPAN = re.compile(r"([rsd])(\d+)\s*-\s*[rsd](\d+)")


@dataclass(frozen=True)
class CycleEstimate:
    """Cycles lie between `low` and `high`; `basis` says what that holds for."""

    low: int
    high: int
    basis: str


@dataclass(frozen=True)
class _Timing:
    """Cycles of one core. `named` overrides `other`; a taken branch adds `branch` to its own.

    load_next is a load right after a load or a store, whose phases overlap. folded_it is what an IT
    takes; narrow is a 16-bit instruction that may be issued with its neighbour.
    """

    load: Range
    load_next: Range
    store: Range
    branch: Range
    named: dict[str, Range]
    link: Range = (0, 0)  # what BL and POP {pc} add beyond `branch`
    folded_it: Range = _ONE
    narrow: Range = _ONE


_DIVIDES: dict[str, Range] = {"sdiv": (2, 12), "udiv": (2, 12)}
_BARRIERS: dict[str, Range] = dict.fromkeys(("dmb", "dsb", "isb", "mrs", "msr"), (1, 4))
_FLOATS: dict[str, Range] = {
    **dict.fromkeys(("vdiv", "vsqrt"), (14, 14)),
    **dict.fromkeys(("vmla", "vmls", "vnmla", "vnmls", "vfma", "vfms", "vfnma", "vfnms"), (3, 3)),
}
_M4 = _Timing(
    load=(2, 2),
    load_next=(1, 2),
    store=(1, 2),
    branch=(1, 3),
    named={**_DIVIDES, **_BARRIERS, **_FLOATS},
    folded_it=(0, 1),
)
_M3 = _Timing(
    load=(2, 2),
    load_next=(1, 2),
    store=(1, 2),
    branch=(1, 3),
    named={
        **_DIVIDES,
        **_BARRIERS,
        "mla": (2, 2),
        "mls": (2, 2),
        "smull": (3, 5),
        "umull": (3, 5),
        "smlal": (4, 7),
        "umlal": (4, 7),
    },
    folded_it=(0, 1),
)
_M0_PLUS = _Timing(
    load=(2, 2),
    load_next=(2, 2),
    store=(2, 2),
    branch=(1, 1),
    link=(1, 1),
    named={"mul": (1, 32), **dict.fromkeys(("dmb", "dsb", "isb", "mrs", "msr"), (3, 3))},
)
# Two 16-bit instructions may issue at once; a load costs one where nothing waits for it.
_M33 = _Timing(
    load=(1, 2),
    load_next=(1, 2),
    store=(1, 2),
    branch=(1, 3),
    named={**_DIVIDES, **_BARRIERS, **_FLOATS},
    folded_it=(0, 1),
    narrow=(0.5, 1),
)
_TIMINGS = {"cortex-m0plus": _M0_PLUS, "cortex-m3": _M3, "cortex-m4": _M4, "cortex-m33": _M33}


def estimate_cycles(image: Image, target: Target, blocks: Iterable[Block]) -> CycleEstimate | None:
    """The cycles of the run that `blocks` were counted in; None where no estimate is honest.

    That is so on AArch64 and the host. A Cortex-M7 gets the bound that follows from issuing two
    instructions at once, with everything in tightly coupled memory or caches.
    """
    if target.kind != "cortex-m":
        return None
    elf = Elf(image.path)
    if target.cpu == "cortex-m7":
        count = sum(block.entries * len(_instructions_of(elf, target, block)) for block in blocks)
        return CycleEstimate((count + 1) // 2, count, "bound for two instructions a cycle, M7")
    timing = _TIMINGS[target.cpu]
    low = high = 0.0
    for block in blocks:
        found = _instructions_of(elf, target, block)
        body = _body_cycles(found, timing, target)
        last = found[-1].name if found else ""
        leave = _leave_cycles(last, timing)
        low += block.entries * body[0] + block.taken * leave[0]
        high += block.entries * body[1] + block.taken * leave[1]
    basis = f"estimate for {target.cpu} at zero wait states"
    return CycleEstimate(int(low), round(high), basis)


def _instructions_of(elf: Elf, target: Target, block: Block) -> list[Instruction]:
    found = []
    address = block.address
    while address < block.address + block.size:
        found.append(instruction_at(elf, target, address))
        address += found[-1].size
    return found


def _body_cycles(instructions: list[Instruction], timing: _Timing, target: Target) -> Range:
    low = high = 0.0
    follows_access = False
    conditional = 0
    for instruction in instructions:
        cycles = _cycles(instruction, timing, target, follows_access)
        # A load whose condition fails takes one cycle, whatever it would have taken.
        low += min(cycles[0], 1) if conditional else cycles[0]
        high += cycles[1]
        conditional = max(conditional - 1, 0)
        if instruction.name == "it":
            conditional = len(instruction.text.split()[0]) - 1
        follows_access = instruction.name.startswith(_LOADS + _STORES) and not _is_multiple(
            instruction.name
        )
    return low, high


def _cycles(
    instruction: Instruction, timing: _Timing, target: Target, follows_access: bool
) -> Range:
    name, text = instruction.name, instruction.text
    if name == "mul" and target.multiply_cycles is not None:
        return target.multiply_cycles, target.multiply_cycles
    if name in timing.named:
        return timing.named[name]
    if _is_multiple(name):
        count = 1 + _transfers(name, text)
        return count, count
    if name.startswith(_LOADS):
        return timing.load_next if follows_access else timing.load
    if name.startswith(_STORES):
        return timing.store
    if name == "it":
        return timing.folded_it
    return timing.narrow if instruction.size == 2 else _ONE


def _leave_cycles(name: str, timing: _Timing) -> Range:
    link = timing.link if name in ("bl", "pop", "ldm") else (0, 0)
    return timing.branch[0] + link[0], timing.branch[1] + link[1]


def _is_multiple(name: str) -> bool:
    return name.startswith(_MULTIPLE)


def _transfers(name: str, text: str) -> int:
    """Words that an LDM, PUSH, LDRD or the like moves."""
    if name in ("ldrd", "strd"):
        return 2
    registers = text[text.index("{") + 1 : text.index("}")]
    count = registers.count(",") + 1
    for span in _REGISTER_SPAN.finditer(registers):
        count += int(span[3]) - int(span[2])
    # A doubleword register is two words.
    return 2 * count if registers.lstrip().startswith("d") else count
