"""A graph made ready for a target: lowered, emitted, compiled, and checked to fit it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinsmith.codegen.arenas import section_macro
from tinsmith.codegen.choice import Measured
from tinsmith.codegen.emit import Sources, emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Memory, Program
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.errors import DoesNotFit
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.harness import ModelInterface, OuterArena
from tinsmith.targets.image import Image, Sizes
from tinsmith.targets.target import Region, Target
from tinsmith.targets.toolchains import Toolchain, compile_image, find_toolchain


@dataclass(frozen=True, eq=False)
class Build:
    """A model for one target: the program, its sources and, where it was compiled, the image."""

    target: Target
    program: Program
    sources: Sources
    image: Image


# Kept free in the target's own flash for code and tables, where weights may lie elsewhere.
CODE_RESERVE_BYTES = 16 * 1024


def make_program(
    graph: Graph,
    name: str,
    target: Target,
    options: CodeOptions | None = None,
    *,
    model_sha256: str = "",
) -> Program:
    """The program for a target; DoesNotFit where its constants or its arena alone are too large.

    model_sha256: of the file that the graph was read from, for the heads of the C.
    """
    options = options or CodeOptions()
    program = lower_for(graph, name, target, options)
    own = own_weight_bytes(program)
    check_fit(program, options.limited(target), own, program.arena_bytes)
    return replace(program, model_sha256=model_sha256)


def own_weight_bytes(program: Program) -> int:
    """The weights in the target's own flash."""
    return program.weight_bytes - sum(m.nbytes for m in program.flashes)


def lower_for(
    graph: Graph,
    name: str,
    target: Target,
    options: CodeOptions,
    measured: Measured | None = None,
) -> Program:
    """As `make_program`, for what does not fit as well. measured: what kernels cost, by layer."""
    target = options.limited(target)
    lowering = LowerOptions(
        options.objective,
        options.preserve_inputs,
        dict(options.choice),
        measured or {},
        ram_bytes=_largest_arena(target, options),
        memories=_memories(target.arena_regions),
        own_flash_bytes=_own_flash(target),
        flashes=_memories(target.weight_regions),
    )
    program = lower(graph, name, target.isa, lowering)
    return replace(program, caller_arena=options.arena == "caller")


def _largest_arena(target: Target, options: CodeOptions) -> int | None:
    """The most that one arena may have; without limits of the user's, adjacent memories count as
    one."""
    if options.memories and target.arena_regions:
        return max(r.bytes for r in target.arena_regions)
    return target.ram_bytes


def _memories(regions: Sequence[Region]) -> tuple[Memory, ...]:
    return tuple(Memory(r.name, 0, r.section or "", r.bytes) for r in regions)


def _own_flash(target: Target) -> int | None:
    return None if target.flash_bytes is None else max(target.flash_bytes - CODE_RESERVE_BYTES, 0)


def too_full(memories: Sequence[Memory]) -> list[Memory]:
    """The memories of which the program takes more than it may."""
    return [m for m in memories if m.excess_bytes]


def interface_of(program: Program) -> ModelInterface:
    return ModelInterface(
        program.name,
        tuple(v.nbytes for _, v in program.inputs),
        tuple(v.nbytes for _, v in program.outputs),
        tuple(_outer_arenas(program)),
        tuple(m.section for m in program.flashes),
    )


def _outer_arenas(program: Program) -> Iterator[OuterArena]:
    """The arenas that are no part of the context."""
    for index, arena in enumerate(program.arenas):
        if program.caller_arena:
            yield OuterArena(arena.name or f"arena_{index}", arena.nbytes)
        elif len(program.arenas) > 1:
            yield OuterArena(arena.name, arena.nbytes, arena.section or _own_section(arena))


def _own_section(arena: Memory) -> str:
    """Where the harness puts an arena that lies among variables, to guard it as the others."""
    return f".bss.tinsmith_h_{arena.name}"


def _section_flags(program: Program) -> tuple[str, ...]:
    """Definitions of the macros by which arenas get into sections of the harness."""
    if program.caller_arena or len(program.arenas) < 2:
        return ()
    upper = program.name.upper()
    return tuple(
        f'-D{section_macro(upper, a.name)}=__attribute__((section("{_own_section(a)}")))'
        for a in program.arenas
        if not a.section
    )


def build(
    program: Program,
    target: Target,
    folder: Path,
    *,
    toolchain: Toolchain | None = None,
    trace: bool = False,
    sanitize: bool = False,
    opt: str | None = None,
) -> Build:
    """Compiles a program into `folder`.

    Raises DoesNotFit where the target has less flash than the code and weights need, ToolMissing
    and ToolFailed as the toolchain does.
    """
    sources = emit(program, trace=trace)
    toolchain = toolchain or find_toolchain(None, target)
    image = compile_image(
        toolchain,
        target,
        sources.model,
        interface_of(program),
        folder,
        weight_symbols=sources.weight_symbols,
        sanitize=sanitize,
        opt=opt,
        extra_flags=_section_flags(program),
    )
    if image.sizes is not None and not trace:
        own = image.sizes.flash_bytes - image.sizes.outer_flash_bytes
        check_fit(program, target, own, image.sizes.ram_bytes)
    return Build(target, program, sources, image)


def load_build(program: Program, target: Target, folder: Path) -> Build:
    """A build that `build` put into a folder, described by the image.json beside it."""
    facts = json.loads((folder / "image.json").read_text())
    sizes = None if facts["sizes"] is None else Sizes(**facts["sizes"])
    image = Image(
        folder / facts["image"],
        facts["form"],
        target,
        interface_of(program),
        facts["toolchain"],
        sizes,
    )
    return Build(target, program, emit(program), image)


@contextmanager
def temporary_build(program: Program, target: Target, **options: object) -> Iterator[Build]:
    """As `build`, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        yield build(program, target, Path(folder), **options)  # type: ignore[arg-type]


def device_samples(graph: Graph, samples: Mapping[str, Array]) -> list[tuple[bytes, ...]]:
    """Samples [N, *shape] by input name as a runner takes them: the bytes of every input."""
    count = len(next(iter(samples.values())))
    return [tuple(samples[n][i].tobytes() for n in graph.inputs) for i in range(count)]


def traced_steps(
    program: Program,
    target: Target,
    samples: Mapping[str, Array],
    toolchain: Toolchain | None = None,
) -> Iterator[list[tuple[int, Array]]]:
    """For each sample, what every layer computed on the target: (its first step, its first output).

    A tensor that the program never has as a whole is put together from its rows. Where the program
    has state, the samples are one sequence.
    """
    graph = program.graph
    with (
        temporary_build(program, target, toolchain=toolchain, trace=True) as made,
        open_runner(made.image, target) as runner,
    ):
        rows = device_samples(graph, samples)
        for result in runner.run(rows, reset_each=not graph.state, count="none"):
            yield _layers_of(program, result.trace)


def _layers_of(program: Program, trace: Sequence[tuple[int, bytes]]) -> list[tuple[int, Array]]:
    """What the steps made, a layer's rows joined in the order in which they were made."""
    parts: dict[str, list[bytes]] = {}
    first: dict[str, int] = {}
    for step, data in trace:
        name = program.steps[step].node.name
        parts.setdefault(name, []).append(data)
        first.setdefault(name, step)
    found = []
    for name, step in first.items():
        tensor = program.graph.tensors[program.steps[step].node.outputs[0]]
        values = np.frombuffer(b"".join(parts[name]), tensor.dtype.numpy)
        found.append((step, values.reshape(tensor.shape)))
    return found


def check_fit(program: Program, target: Target, flash_bytes: int, ram_bytes: int) -> None:
    """DoesNotFit with how much is missing and the layer that decides, for flash and RAM alike.

    flash_bytes: what the target's own flash has to hold. ram_bytes: all RAM but the stack.
    """
    problems = []
    if target.flash_bytes is not None and flash_bytes > target.flash_bytes:
        layer, size = heaviest_layer(program)
        problems.append(
            f"flash: needs {flash_bytes:,} bytes, {target.name} has {target.flash_bytes:,}: "
            f"{flash_bytes - target.flash_bytes:,} too many; most are the weights of '{layer}' "
            f"({size:,} bytes). Prune or narrow that layer, or choose a larger target"
        )
    for memory in too_full(program.flashes):
        problems.append(
            f"flash '{memory.name}': needs {memory.nbytes:,} bytes, the model may take "
            f"{memory.limit_bytes:,}: {memory.excess_bytes:,} too many. Prune the "
            "model, or choose a larger target"
        )
    if program.regions:
        problems += [_full_text(program, memory) for memory in too_full(program.regions)]
    elif target.ram_bytes is not None and ram_bytes > target.ram_bytes:
        problems.append(
            f"RAM: needs {ram_bytes:,} bytes, {target.name} has {target.ram_bytes:,}: "
            f"{ram_bytes - target.ram_bytes:,} too many; the most are alive in "
            f"{peak_text(program)}. Use a larger stride or fewer channels "
            "there, or choose a larger target"
        )
    if problems:
        raise DoesNotFit(
            f"the model '{program.name}' does not fit {target.name}:\n  " + "\n  ".join(problems)
        )


def _full_text(program: Program, memory: Memory) -> str:
    others = [m for m in program.regions if m is not memory]
    beside = "".join(
        f"; beside it {m.nbytes:,} of {m.limit_bytes:,} bytes of '{m.name}' are used"
        for m in others
    )
    return (
        f"RAM '{memory.name}': needs {memory.nbytes:,} bytes, the model may take "
        f"{memory.limit_bytes:,}: {memory.excess_bytes:,} too many{beside}; the "
        f"most are alive in {peak_text(program, memory.name)}. Use -O ram, a larger stride or "
        "fewer channels there, or choose a larger target"
    )


def heaviest_layer(program: Program) -> tuple[str, int]:
    """The layer with the most constants, and their bytes."""
    sizes = [(s.node.name, sum(c.nbytes for c in s.plan.constants)) for s in program.steps]
    return max(sizes, key=lambda pair: pair[1], default=("", 0))


def peak_text(program: Program, region: str = "") -> str:
    """The step at which most bytes of an arena are in use, and what lies there."""
    step, alive = peak_step(program, region)
    if not program.steps:
        return "the inputs"
    name = program.steps[min(max(step, 0), len(program.steps) - 1)].node.name
    parts = ", ".join(f"{tensor} {size:,}" for tensor, size in alive)
    return f"'{name}' ({parts})"


def peak_step(program: Program, region: str = "") -> tuple[int, list[tuple[str, int]]]:
    """The step whose live buffers reach highest in an arena, and these, largest first.

    region: that of the arena, where there are several; else of all of them together. A tensor goes
    by the name of the layer that computes it, which is short.
    """
    best, reach = 0, -1
    buffers = [b for b in program.buffers if not region or b.region in ("", region)]
    for step in range(-1, len(program.steps) + 1):
        alive = [b for b in buffers if b.first <= step <= b.last]
        top = max((b.offset + b.nbytes for b in alive), default=0)
        if top > reach:
            best, reach = step, top
    alive = [b for b in buffers if b.first <= best <= b.last]
    makers = makers_of(program)
    named = [(makers.get(b.name, b.name), b.nbytes) for b in alive]
    return best, sorted(named, key=lambda p: (-p[1], p[0]))


def makers_of(program: Program) -> dict[str, str]:
    """Tensor -> the layer that computes it as its first output: a short name for it."""
    return {out: node.name for node in program.graph.nodes for out in node.outputs[:1]}
