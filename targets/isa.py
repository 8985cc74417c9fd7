"""Checks that an image holds only instructions that its core has.

unicorn runs instructions that a core lacks (UDIV on M0+, SMLAD on M3), and a compiler believes what
inline assembly says. So every instruction of the model is disassembled and compared with a list.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import capstone  # type: ignore[import-untyped]

from tinsmith.pipeline.errors import DeviceSilent
from tinsmith.targets.image import Elf, Image
from tinsmith.targets.target import Target

_SHOWN = 8


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names are capstone's, without condition, "s" and width (ARM DDI 0419 and DDI 0403).
_V6M = _words("""
    adc add adr and asr b bic bkpt bl blx bx cmn cmp cps dmb dsb eor hint isb ldm ldr ldrb ldrh
    ldrsb ldrsh lsl lsr mov movs mrs msr mul mvn nop orr pop push rev rev16 revsh ror rsb sbc sev
    stm stmia str strb strh sub subs svc sxtb sxth trap tst udf uxtb uxth wfe wfi yield
""")
# ARMv6-M is 16 bits wide but for these.
_V6M_WIDE = _words("bl dmb dsb isb mrs msr udf")
_V7M = _V6M | _words("""
    addw bfc bfi cbnz cbz clrex clz csdb dbg it ldmdb ldrbt ldrd ldrex ldrexb ldrexh ldrht ldrsbt
    ldrsht ldrt mla mls movt movw neg orn pld pli rbit rrx sbfx sdiv smlal smull ssat stmdb strbt
    strd strex strexb strexh strht strt subw tbb tbh teq ubfx udiv umlal umull usat
""")
_DSP = _words("""
    pkhbt pkhtb qadd qadd16 qadd8 qasx qdadd qdsub qsax qsub qsub16 qsub8 sadd16 sadd8 sasx sel
    shadd16 shadd8 shasx shsax shsub16 shsub8 smlabb smlabt smlad smladx smlalbb smlalbt smlald
    smlaldx smlaltb smlaltt smlatb smlatt smlawb smlawt smlsd smlsdx smlsld smlsldx smmla smmlar
    smmls smmlsr smmul smmulr smuad smuadx smulbb smulbt smultb smultt smulwb smulwt smusd smusdx
    ssat16 ssax ssub16 ssub8 sxtab sxtab16 sxtah sxtb16 uadd16 uadd8 uasx uhadd16 uhadd8 uhasx
    uhsax uhsub16 uhsub8 umaal uqadd16 uqadd8 uqasx uqsax uqsub16 uqsub8 usad8 usada8 usat16 usax
    usub16 usub8 uxtab uxtab16 uxtah uxtb16
""")
_FPV4 = _words("""
    fconsts fldmiax fstmiax fmstat vabs vadd vcmp vcmpe vcvt vcvtb vcvtr vcvtt vdiv vfma vfms
    vfnma vfnms vldmdb vldmia vldr vmla vmls vmov vmrs vmsr vmul vneg vnmla vnmls vnmul vpop
    vpush vsqrt
    vstmdb vstmia vstr vsub
""")
_FPV5 = _FPV4 | _words("""
    vcvta vcvtm vcvtn vcvtp vmaxnm vminnm vrinta vrintm vrintn vrintp vrintr vrintx vrintz vseleq
    vselge vselgt vselvs
""")
_V8M = _words("""
    blxns bxns lda ldab ldaex ldaexb ldaexh ldah sg stl stlb stlex stlexb stlexh stlh tt tta ttat
    ttt vlldm vlstm
""")
_CORTEX_M: dict[str, frozenset[str]] = {
    "cortex-m0plus": _V6M,
    "cortex-m3": _V7M,
    "cortex-m4": _V7M | _DSP | _FPV4,
    "cortex-m7": _V7M | _DSP | _FPV5,
    "cortex-m33": _V7M | _V8M | _DSP | _FPV5,
}
# Loads, stores and moves of doublewords exist in a single-precision FPU; arithmetic does not.
_DOUBLE = re.compile(r"\.f64\b")

# For AArch64 the lists say what a core lacks: Armv8.0-A is in all of them.
_V8_1 = re.compile(
    r"(cas|swp|(ld|st)(add|clr|eor|set|smax|smin|umax|umin))p?a?l?[bh]?$|sqrdml[as]h$"
)
_DOT = re.compile(r"[su]dot$")
_V8_3 = re.compile(
    r"(fcmla|fcadd|fjcvtzs|braaz?|brabz?|blraaz?|blrabz?|retaa|retab|ldraa|ldrab)$"
    r"|(usdot|sudot|[su]mmla|usmmla|bf(dot|cvt|mmla|mlal).*|cfinv|rmif|setf(8|16)|ldapur.*)$"
    r"|(eor3|rax1|xar|bcax|frint(32|64)[xz]|fml[as]l2?|st64b.*|ld64b|cpy[fpme].*|set[pme].*)$"
)
_HALF = re.compile(r"\bh\d+\b|\.[48]h\b")
_SVE_REGISTER = re.compile(r"\b[zp]\d+(\.[bhsdq]|/[mz])?\b")


@dataclass(frozen=True)
class Instruction:
    """A disassembled instruction: `name` is its base, `text` how it is written."""

    address: int
    size: int
    name: str
    text: str


def check_isa(image: Image, target: Target | None = None) -> None:
    """DeviceSilent where the model holds instructions that the target's core would fault on."""
    target = image.target if target is None else target
    elf = Elf(image.path)
    foreign = [i for i in instructions(elf, target) if not is_allowed(i, target)]
    if not foreign:
        return
    lines = []
    for instruction in foreign[:_SHOWN]:
        symbol = elf.symbol_at(instruction.address)
        place = "" if symbol is None else f"{symbol.name}+{instruction.address - symbol.address:#x}"
        lines.append(f"\n  {place}: {instruction.text}")
    raise DeviceSilent(
        f"model '{image.interface.name}' has {len(foreign)} instructions that {target.cpu} "
        f"({target.name}) does not have:{''.join(lines)}"
    )


def is_allowed(instruction: Instruction, target: Target) -> bool:
    """Whether the core of a target has the instruction."""
    name, text = instruction.name, instruction.text
    if target.kind == "cortex-m":
        allowed = name in _CORTEX_M[target.cpu]
        if target.cpu == "cortex-m0plus" and instruction.size == 4:
            allowed = name in _V6M_WIDE
        double = name.startswith("v") and _DOUBLE.search(text) is not None
        return allowed and not double
    if _SVE_REGISTER.search(text) or _V8_3.match(name):
        return False
    if "neon_dot" in target.isa:
        return True
    half = name.startswith(("f", "scvtf", "ucvtf")) and _HALF.search(text) is not None
    # Conversions between half and single precision are in Armv8.0-A.
    half = half and not name.startswith(("fcvt", "fmov"))
    return not (_DOT.match(name) or _V8_1.match(name) or half)


def instructions(elf: Elf, target: Target) -> Iterator[Instruction]:
    """Every instruction of the model, in order of address; literal pools are left out."""
    disassembler = _disassembler(target)
    for start, code in _code_ranges(elf):
        done = start
        for found in disassembler.disasm(code, start):
            yield _instruction(found)
            done = found.address + found.size
        if done < start + len(code):
            left = code[done - start : done - start + 4].hex()
            yield Instruction(done, 4, "", f"unknown instruction, bytes {left}")


def _disassembler(target: Target) -> capstone.Cs:
    if target.kind == "cortex-m":
        mode = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
        return capstone.Cs(capstone.CS_ARCH_ARM, mode)
    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


def _instruction(found: capstone.CsInsn) -> Instruction:
    text = f"{found.mnemonic} {found.op_str}".strip()
    return Instruction(found.address, found.size, found.insn_name(), text)


def instruction_at(elf: Elf, target: Target, address: int) -> Instruction:
    """The instruction at an address that was executed."""
    code = elf.bytes_at(address, 4)
    for found in _disassembler(target).disasm(code, address, 1):
        return _instruction(found)
    return Instruction(address, 4, "", f"unknown instruction, bytes {code.hex()}")


def _code_ranges(elf: Elf) -> Iterator[tuple[int, bytes]]:
    """The parts of .text that the assembler marked as code ($t, $x) and not as data ($d)."""
    start, size = elf.sections[".text"]
    code = elf.bytes_at(start, size)
    marks = [(address, kind) for address, kind in elf.marks if start <= address < start + size]
    ends = [address for address, _ in marks[1:]] + [start + size]
    for (address, kind), end in zip(marks, ends, strict=True):
        if kind != "d" and end > address:
            yield address, code[address - start : end - start]
