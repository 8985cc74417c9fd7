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
from tinsmith.pipeline.fit import check_fit, own_weight_bytes
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
    emulator: str | None = None,
) -> Build:
    """Compiles a program into `folder`, for an emulator: the target's own, or the one named.

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
        emulator=emulator,
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
