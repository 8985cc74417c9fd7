"""`generate`: a quantized graph to a folder that stands alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tinsmith.codegen.emit import model_name
from tinsmith.codegen.program import Program
from tinsmith.codegen.project import Golden, ProjectFacts, project_files
from tinsmith.pipeline.audio.device import measure_front_end
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import make_program, temporary_build
from tinsmith.pipeline.errors import GateFailed
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.memory_map import memory_map
from tinsmith.pipeline.tuning import Progress, Tuning, no_progress
from tinsmith.pipeline.tuning import tune as choose_by_measurement
from tinsmith.pipeline.validation import (
    Samples,
    differing_bytes,
    interpret,
    random_samples,
    run_device,
)
from tinsmith.targets.target import Target
from tinsmith.targets.toolchains import DEFAULT_OPT, Toolchain

GOLDEN_SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Generated:
    """files: {path: text}. sizes: (label, bytes) as in the README."""

    program: Program
    files: Mapping[str, str]
    sizes: tuple[tuple[str, int], ...]
    instructions: int | None
    tuning: Tuning | None = None


def generate(
    graph: Graph,
    target: Target,
    *,
    name: str | None = None,
    options: CodeOptions | None = None,
    samples: Samples | None = None,
    toolchain: Toolchain | None = None,
    tune: bool = False,
    progress: Progress = no_progress,
    model_sha256: str = "",
    front_end: FrontEnd | None = None,
) -> Generated:
    """The files for a target. They are compiled and run once: the README has measured sizes.

    samples: for the golden vectors, [N, *input shape] by input name; random by default. tune: the
    kernels are chosen by measurement on the first of them; progress tells how far that is.
    model_sha256: of the file that the graph was read from. front_end: what makes the model's input
    from sound: its C is written beside the model's.
    Raises UnsupportedModel, DoesNotFit, ToolMissing; GateFailed where the C and the interpreter
    disagree on the golden vectors, which is a bug.
    """
    given = random_samples(graph, GOLDEN_SAMPLES) if samples is None else samples
    given = {n: a[:GOLDEN_SAMPLES] for n, a in given.items()}
    options, tuning = options or CodeOptions(), None
    if tune:
        tuning = choose_by_measurement(
            graph, target, options, given, toolchain=toolchain, progress=progress
        )
        options = replace(options, choice=tuning.choice)
    c_name = model_name(name or graph.name)
    program = make_program(graph, c_name, target, options, model_sha256=model_sha256)
    expected = interpret(graph, given)
    with temporary_build(program, target, toolchain=toolchain) as made:
        outputs, instructions, stack = run_device(made, given)
        measured, sources, used = made.image.sizes, made.sources, made.image.toolchain
    if differing_bytes(outputs, expected):
        raise GateFailed(
            f"the C of '{program.name}' on {target.name} differs from the interpreter; nothing was "
            "written. `tinsmith validate --per-layer` names the first layer that differs"
        )
    weights = program.weight_bytes if measured is None else measured.weight_bytes
    sizes = [("weights, biases and requantization constants (flash)", weights)]
    if measured is not None:
        sizes.append(("code and tables (flash)", measured.code_bytes))
        sizes.append(("all flash", measured.flash_bytes))
    sizes.append(("arena: inputs, outputs, scratch, state (RAM)", program.arena_bytes))
    if measured is not None and measured.arena_bytes:
        sizes.append(("context: where the arenas are (RAM)", measured.context_bytes))
    if stack is not None:
        sizes.append(("stack below the call of run (RAM)", stack))
    sound = None if front_end is None else measure_front_end(front_end, target, toolchain)
    if sound is not None:
        if sound.flash_bytes is not None:
            sizes.append(("front end: code and tables (flash, not in the sums)", sound.flash_bytes))
        sizes.append(("front end: context (RAM, not in the sums)", sound.ram_bytes))
    facts = ProjectFacts(
        target.name,
        target.title,
        target.cflags["gcc"],
        DEFAULT_OPT[target.kind],
        sizes,
        used,
        instructions,
        None if sound is None else sound.instructions,
    )
    golden = Golden([given[n] for n in graph.inputs], expected)
    files = {
        **project_files(program, sources, golden, facts, front_end),
        "memory.svg": memory_map(program),
    }
    return Generated(program, files, tuple(sizes), instructions, tuning)
