"""The harness around a model: sources, linker script and memory layout for one image."""

from dataclasses import dataclass
from pathlib import Path
from string import Template

from tinsmith.pipeline.errors import ConfigError
from tinsmith.targets.target import Target

HARNESS_PREFIX = "tinsmith_h_"
TRACE_SYMBOL = "tinsmith_trace"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class ModelInterface:
    """What a model's C looks like from outside: its name, and the bytes of each input and output.

    `<name>.h` declares `<name>_t`, `<name>_init`, `_reset`, `_run`, `_input` and `_output`.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

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

    The context lies in a pool of whole pages at `pool`, and ends where the pool ends.
    """

    flash: int
    data: int
    pool: int
    stack_top: int
    stack_bytes: int


EMULATED_LAYOUT = MemoryLayout(
    flash=0x0800_0000,
    data=0x2000_0000,
    pool=0x2400_0000,
    stack_top=0x3000_0000,
    stack_bytes=256 * 1024,
)


def harness_files(
    target: Target, interface: ModelInterface, layout: MemoryLayout = EMULATED_LAYOUT
) -> dict[str, str]:
    """The files that turn a model's sources into an image: {name: text}.

    The host's harness has no linker script.
    """
    if target.kind == "host":
        return {
            "tinsmith_harness.h": _config_header(interface),
            "tinsmith_harness.c": _text("harness_host.c"),
        }
    return {
        "tinsmith_harness.h": _config_header(interface),
        "tinsmith_harness.c": _text("harness_device.c"),
        "tinsmith_harness.ld": Template(_text("harness.ld")).substitute(
            flash=f"{layout.flash:#x}",
            data=f"{layout.data:#x}",
            pool=f"{layout.pool:#x}",
            stack_top=f"{layout.stack_top:#x}",
        ),
    }


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _config_header(interface: ModelInterface) -> str:
    name = interface.name
    lines = [
        "#ifndef TINSMITH_HARNESS_H",
        "#define TINSMITH_HARNESS_H",
        f'#include "{name}.h"',
        f"#define MODEL_CONTEXT {name}_t",
        f"#define MODEL_INIT {name}_init",
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


def _c_list(sizes: tuple[int, ...]) -> str:
    return ", ".join(f"{size}u" for size in sizes)
