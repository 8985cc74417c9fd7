"""The processor cores that tinsmith writes code for: instruction sets, compiler flags, emulator."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["cortex-m", "aarch64", "host"]


@dataclass(frozen=True)
class Core:
    """What all boards with the same core share.

    `isa` names kernel families, most specific first, "c" last. `zig` and `gcc` are the flags that
    select the core; `gcc_prefix` is the cross compiler's prefix. `cpu_model` is the name of the
    core in `unicorn.arm_const` or `unicorn.arm64_const`, None where unicorn does not apply.
    `mcpu` and `triple` are in zig's spelling.
    """

    name: str
    title: str
    kind: Kind
    isa: tuple[str, ...]
    pointer_bytes: int
    triple: str
    mcpu: str
    gcc: tuple[str, ...] = ()
    gcc_prefix: str = ""
    cpu_model: str | None = None


_EABI = "thumb-freestanding-eabi"
_EABIHF = "thumb-freestanding-eabihf"
_A64 = "aarch64-freestanding-none"


def _cortex_m(
    name: str, title: str, isa: tuple[str, ...], triple: str, mcpu: str, fpu: str, model: str
) -> Core:
    float_flags = (f"-mfpu={fpu}", "-mfloat-abi=hard") if fpu else ("-mfloat-abi=soft",)
    gcc = (f"-mcpu={name}", "-mthumb", *float_flags)
    return Core(name, title, "cortex-m", isa, 4, triple, mcpu, gcc, "arm-none-eabi-", model)


def _cortex_a(name: str, title: str, isa: tuple[str, ...], model: str) -> Core:
    gcc = (f"-mcpu={name}",)
    mcpu = name.replace("-", "_")
    return Core(name, title, "aarch64", isa, 8, _A64, mcpu, gcc, "aarch64-none-elf-", model)


# A bare -mcpu=cortex_m4 gives no FPU on a freestanding target, and cortex_m33 no DSP: both are
# named. M7 is restricted to single precision, which every M7 has and which unicorn's model runs.
CORES: tuple[Core, ...] = (
    Core("host", "this computer", "host", ("c",), 8, "native", "baseline"),
    _cortex_m(
        "cortex-m0plus", "Arm Cortex-M0+", ("m0", "c"), _EABI, "cortex_m0plus", "",
        "UC_CPU_ARM_CORTEX_M0",
    ),
    _cortex_m(
        "cortex-m3", "Arm Cortex-M3", ("m3", "c"), _EABI, "cortex_m3", "", "UC_CPU_ARM_CORTEX_M3"
    ),
    _cortex_m(
        "cortex-m4", "Arm Cortex-M4 with FPU", ("dsp", "c"), _EABIHF, "cortex_m4+vfp4d16sp",
        "fpv4-sp-d16", "UC_CPU_ARM_CORTEX_M4",
    ),
    _cortex_m(
        "cortex-m7", "Arm Cortex-M7 with FPU", ("dsp", "c"), _EABIHF, "cortex_m7+fp_armv8d16sp",
        "fpv5-sp-d16", "UC_CPU_ARM_CORTEX_M7",
    ),
    _cortex_m(
        "cortex-m33", "Arm Cortex-M33 with DSP and FPU", ("dsp", "c"), _EABIHF,
        "cortex_m33+dsp+fp_armv8d16sp", "fpv5-sp-d16", "UC_CPU_ARM_CORTEX_M33",
    ),
    _cortex_a("cortex-a53", "Arm Cortex-A53", ("neon", "c"), "UC_CPU_ARM64_A53"),
    _cortex_a("cortex-a72", "Arm Cortex-A72", ("neon", "c"), "UC_CPU_ARM64_A72"),
    # unicorn has no A76; its "max" model runs the dot product that A76 has and A72 lacks.
    _cortex_a("cortex-a76", "Arm Cortex-A76", ("neon_dot", "neon", "c"), "UC_CPU_ARM64_MAX"),
)  # fmt: skip

CORES_BY_NAME: dict[str, Core] = {core.name: core for core in CORES}
