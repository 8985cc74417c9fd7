"""The harness around a model: sources, linker script and memory layout for one image."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tinsmith.pipeline.errors import ConfigError
from tinsmith.targets.target import Target, target_named

HARNESS_PREFIX = "tinsmith_h_"
TRACE_SYMBOL = "tinsmith_trace"
PAGE_BYTES = 4096
# The image's sections of arenas outside the context, and of constants in a flash of their own.
ARENA_SECTION = ".arena_"
FLASH_SECTION = ".flash_"
_ARENA_ALIGN = 16
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class OuterArena:
    """An arena that lies outside the context.

    section: the linker's section that the model's own variable is in; "" where the harness hands
    the arena to `<name>_init`.
    """

    name: str
    nbytes: int
    section: str = ""

    @property
    def linked_section(self) -> str:
        return self.section or f".bss.{HARNESS_PREFIX}{self.name}"


@dataclass(frozen=True)
class ModelInterface:
    """What a model's C looks like from outside: its name, and the bytes of each input and output.

    `<name>.h` declares `<name>_t`, `<name>_init`, `_reset`, `_run`, `_input` and `_output`.
    arenas: those that are no part of the context. weight_sections: sections of constants that lie
    in a flash of their own.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arenas: tuple[OuterArena, ...] = ()
    weight_sections: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.name.isidentifier() and self.name.isascii()):
            raise ConfigError(f"model name {self.name!r} is not a C identifier")
        if any(size <= 0 for size in (*self.inputs, *self.outputs)):
            raise ConfigError(
                f"model '{self.name}': every input and output needs at least one byte, "
                f"not {self.inputs} and {self.outputs}"
            )
        if not self.outputs:
            raise ConfigError(f"model '{self.name}' has no output")


@dataclass(frozen=True)
class MemoryLayout:
    """Where an image's parts lie. What is between them is unmapped and faults when touched.

    The context lies in a pool of whole pages at `pool`, and ends where the pool ends. So does each
    arena outside the context, `gap` bytes apart from `arenas` on, and each flash of its own, that
    begins where its pool begins.
    """

    flash: int
    data: int
    pool: int
    stack_top: int
    stack_bytes: int
    arenas: int = 0x6000_0000
    flashes: int = 0x9000_0000
    gap: int = 0x0400_0000

    def arena_pool(self, interface: ModelInterface, index: int) -> tuple[int, int, int]:
        """(start of the pool, first byte of the arena, end of both) of an arena outside."""
        start = self.arenas + index * self.gap
        room = round_up(interface.arenas[index].nbytes, _ARENA_ALIGN)
        end = start + round_up(room, PAGE_BYTES)
        return start, end - room, end

    def flash_of(self, index: int) -> int:
        """Where the flash of a section of constants begins."""
        return self.flashes + index * self.gap


EMULATED_LAYOUT = MemoryLayout(
    flash=0x0800_0000,
    data=0x2000_0000,
    pool=0x2400_0000,
    stack_top=0x3000_0000,
    stack_bytes=256 * 1024,
)


# By core. Their boards are among tinsmith's, with the memories that QEMU gives them.
QEMU_MACHINES: dict[str, str] = {
    "cortex-m3": "mps2-an385",
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
}


def qemu_layout(target: Target) -> MemoryLayout:
    """The layout for QEMU's machine with the target's core: the stack, variables, the context."""
    regions = target_named(QEMU_MACHINES[target.cpu]).regions
    flash = next(region.start for region in regions if region.kind == "flash")
    ram = next(region.start for region in regions if region.kind == "ram")
    room = EMULATED_LAYOUT.stack_bytes
    top = ram + room
    return MemoryLayout(
        flash,
        data=top,
        pool=top + room,
        stack_top=top,
        stack_bytes=room,
        arenas=ram + (1 << 20),
        flashes=flash + (2 << 20),
        gap=1 << 20,
    )


def harness_files(
    target: Target, interface: ModelInterface, *, qemu: bool = False
) -> dict[str, str]:
    """The files that turn a model's sources into an image: {name: text}.

    The host's harness has no linker script. qemu: for a machine of QEMU, not for unicorn.
    """
    if target.kind == "host":
        return {
            "tinsmith_harness.h": _config_header(interface),
            "tinsmith_harness.c": _text("harness_host.c"),
        }
    layout = qemu_layout(target) if qemu else EMULATED_LAYOUT
    served = {"tinsmith_harness_qemu.c": _text("harness_qemu.c")} if qemu else {}
    return {
        **served,
        "tinsmith_harness.h": _config_header(interface),
        "tinsmith_harness.c": _text("harness_device.c"),
        "tinsmith_harness.ld": Template(_text("harness.ld")).substitute(
            flash=f"{layout.flash:#x}",
            data=f"{layout.data:#x}",
            pool=f"{layout.pool:#x}",
            stack_top=f"{layout.stack_top:#x}",
            flashes="".join(_flashes(interface, layout)),
            arenas="".join(_arenas(interface, layout)),
        ),
    }


def _flashes(interface: ModelInterface, layout: MemoryLayout) -> Iterator[str]:
    """The output sections of constants that lie in a flash of their own."""
    for i, section in enumerate(interface.weight_sections):
        yield f"  {FLASH_SECTION}{i} {layout.flash_of(i):#x} : {{ *({section}) }}\n"
    if interface.weight_sections:
        yield "  . = tinsmith_h_model_start;\n"


def _arenas(interface: ModelInterface, layout: MemoryLayout) -> Iterator[str]:
    """The output sections of the arenas outside the context."""
    for i, arena in enumerate(interface.arenas):
        _, first, _ = layout.arena_pool(interface, i)
        yield f"  {ARENA_SECTION}{i} {first:#x} (NOLOAD) : {{ *({arena.linked_section}) }}\n"


def round_up(size: int, unit: int) -> int:
    """The least multiple of `unit` that is not below `size`."""
    return -(-size // unit) * unit


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _config_header(interface: ModelInterface) -> str:
    name = interface.name
    lines = [
        "#ifndef TINSMITH_HARNESS_H",
        "#define TINSMITH_HARNESS_H",
        f'#include "{name}.h"',
        f"#define MODEL_CONTEXT {name}_t",
        *_arena_lines(interface),
        f"#define MODEL_RESET {name}_reset",
        f"#define MODEL_RUN {name}_run",
        f"#define MODEL_INPUT {name}_input",
        f"#define MODEL_OUTPUT {name}_output",
        f"#define MODEL_INPUTS {len(interface.inputs)}",
        f"#define MODEL_OUTPUTS {len(interface.outputs)}",
        # C99 has no empty initializer: a model without inputs still gets one entry.
        f"#define MODEL_INPUT_BYTES {{{_c_list(interface.inputs or (0,))}}}",
        f"#define MODEL_OUTPUT_BYTES {{{_c_list(interface.outputs)}}}",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _arena_lines(interface: ModelInterface) -> list[str]:
    """MODEL_INIT(ctx), and MODEL_ARENAS(X) with the arenas that the harness hands to it."""
    given = [a for a in interface.arenas if not a.section]
    names = [f"{HARNESS_PREFIX}{a.name}" for a in given]
    lines = [f"#define MODEL_INIT(ctx) {interface.name}_init({', '.join(['ctx', *names])})"]
    if given:
        each = (
            f'X({n}, {a.nbytes}u, "{a.linked_section}")' for n, a in zip(names, given, strict=True)
        )
        lines.append(f"#define MODEL_ARENAS(X) {' '.join(each)}")
    return lines


def _c_list(sizes: tuple[int, ...]) -> str:
    return ", ".join(f"{size}u" for size in sizes)
