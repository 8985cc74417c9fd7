"""A graph made ready for a target: lowered, emitted, compiled, and checked to fit it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinsmith.codegen.emit import Sources, emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.errors import DoesNotFit
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.harness import ModelInterface, OuterArena
from tinsmith.targets.image import Image, Sizes
from tinsmith.targets.target import Target
from tinsmith.targets.toolchains import Toolchain, compile_image, find_toolchain


@dataclass(frozen=True, eq=False)
class Build:
    """A model for one target: the program, its sources and, where it was compiled, the image."""

    target: Target
    program: Program
    sources: Sources
    image: Image


def make_program(
    graph: Graph, name: str, target: Target, options: CodeOptions | None = None
) -> Program:
    """The program for a target; DoesNotFit where its constants or its arena alone are too large."""
    program = lower_for(graph, name, target, options or CodeOptions())
    check_fit(program, target, program.weight_bytes, program.arena_bytes)
    return program


def lower_for(graph: Graph, name: str, target: Target, options: CodeOptions) -> Program:
    """As `make_program`, for what does not fit as well."""
    lowering = LowerOptions(options.objective, options.preserve_inputs)
    program = lower(graph, name, target.isa, lowering)
    return replace(program, caller_arena=options.arena == "caller")


def interface_of(program: Program) -> ModelInterface:
    return ModelInterface(
        program.name,
        tuple(v.nbytes for _, v in program.inputs),
        tuple(v.nbytes for _, v in program.outputs),
        _outer_arenas(program),
    )


def _outer_arenas(program: Program) -> tuple[OuterArena, ...]:
    """The arenas that are no part of the context."""
    if program.caller_arena:
        return tuple(OuterArena(f"arena_{i}", a.nbytes) for i, a in enumerate(program.arenas))
    return ()


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
    )
    if image.sizes is not None and not trace:
        check_fit(program, target, image.sizes.flash_bytes, image.sizes.ram_bytes)
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
    """For each sample, what every step computed on the target: (step, its first output).

    Where the program has state, the samples are one sequence.
    """
    graph = program.graph
    with (
        temporary_build(program, target, toolchain=toolchain, trace=True) as made,
        open_runner(made.image, target) as runner,
    ):
        rows = device_samples(graph, samples)
        for result in runner.run(rows, reset_each=not graph.state, count="none"):
            yield [(step, _first_output(program, step, data)) for step, data in result.trace]


def _first_output(program: Program, step: int, data: bytes) -> Array:
    view = program.steps[step].outs[0]
    return np.frombuffer(data, view.dtype.numpy).reshape(view.shape)


def check_fit(program: Program, target: Target, flash_bytes: int, ram_bytes: int) -> None:
    """DoesNotFit with how much is missing and the layer that decides, for flash and RAM alike."""
    problems = []
    if target.flash_bytes is not None and flash_bytes > target.flash_bytes:
        layer, size = heaviest_layer(program)
        problems.append(
            f"flash: needs {flash_bytes:,} bytes, {target.name} has {target.flash_bytes:,}: "
            f"{flash_bytes - target.flash_bytes:,} too many; most are the weights of '{layer}' "
            f"({size:,} bytes). Prune or narrow that layer, or choose a larger target"
        )
    if target.ram_bytes is not None and ram_bytes > target.ram_bytes:
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


def heaviest_layer(program: Program) -> tuple[str, int]:
    """The layer with the most constants, and their bytes."""
    sizes = [(s.node.name, sum(c.nbytes for c in s.plan.constants)) for s in program.steps]
    return max(sizes, key=lambda pair: pair[1], default=("", 0))


def peak_text(program: Program) -> str:
    """The step at which most bytes of the arena are in use, and what lies there."""
    step, alive = peak_step(program)
    if not program.steps:
        return "the inputs"
    name = program.steps[min(max(step, 0), len(program.steps) - 1)].node.name
    parts = ", ".join(f"{tensor} {size:,}" for tensor, size in alive)
    return f"'{name}' ({parts})"


def peak_step(program: Program) -> tuple[int, list[tuple[str, int]]]:
    """The step whose live buffers reach highest in the arena, and these, largest first.

    A tensor goes by the name of the layer that computes it, which is short.
    """
    best, reach = 0, -1
    for step in range(-1, len(program.steps) + 1):
        alive = [b for b in program.buffers if b.first <= step <= b.last]
        top = max((b.offset + b.nbytes for b in alive), default=0)
        if top > reach:
            best, reach = step, top
    alive = [b for b in program.buffers if b.first <= best <= b.last]
    makers = {out: node.name for node in program.graph.nodes for out in node.outputs[:1]}
    named = [(makers.get(b.name, b.name), b.nbytes) for b in alive]
    return best, sorted(named, key=lambda p: (-p[1], p[0]))
