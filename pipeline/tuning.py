"""Kernels chosen by measurement: every candidate of a layer runs in the emulator of the target.

What was measured is kept by the text of the C that was measured, the core and the compiler, so that
it holds for every model, target and name with the same layer, and for nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from tinsmith.codegen.choice import Costs
from tinsmith.codegen.cost import Cost
from tinsmith.codegen.emit import emit
from tinsmith.codegen.kernels import kernels_of
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import device_samples, lower_for, temporary_build
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.files import write_json
from tinsmith.pipeline.graph import Array, Graph, Node
from tinsmith.pipeline.ops import call_of
from tinsmith.pipeline.validation import Samples
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.image import Elf
from tinsmith.targets.target import Target, all_targets
from tinsmith.targets.toolchains import Toolchain, cache_dir, find_toolchain

# Functions that a model has whatever its kernels are.
COMMON = ("init", "reset", "input", "output", "invoke")
Progress = Callable[[str, float], None]


def no_progress(message: str, fraction: float) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class LayerTuning:
    """What a layer's candidates cost, and which of them the network gets."""

    name: str
    op: str
    costs: Costs
    chosen: str


@dataclass(frozen=True)
class Tuning:
    """layers: those with more than one candidate. choice: layer -> kernel, for CodeOptions; empty
    where nothing is better than what the cost model chooses. before, after: the whole network as
    the cost model chooses, and as it is chosen here. measured: how many kernels and networks ran;
    the others were known."""

    layers: tuple[LayerTuning, ...]
    choice: tuple[tuple[str, str], ...]
    before: Cost
    after: Cost
    measured: int


class Bench:
    """Measures programs on a target, each once for all runs.

    cache: folder of what is known, a file a measurement; each is written whole or not at all.
    """

    def __init__(self, target: Target, toolchain: Toolchain, cache: Path) -> None:
        self.target, self.toolchain, self.cache = target, toolchain, cache
        self.measured = 0

    def cost(self, program: Program, samples: Samples) -> Cost:
        """What a run on the first sample costs, and all of the program's flash but the functions
        that every model has."""
        path = self.cache / f"{self._key(program)}.json"
        try:
            return Cost(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            pass  # not known, or damaged: measured again
        found = measure(program, self.target, samples, self.toolchain)
        self.measured += 1
        write_json(path, asdict(found))
        return found

    def _key(self, program: Program) -> str:
        compiler = [self.toolchain.name, *self.toolchain.command[1:], version("ziglang")]
        parts = [dict(emit(program).model), self.target.cpu, self.target.cflags, compiler]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def measure(
    program: Program, target: Target, samples: Samples, toolchain: Toolchain | None = None
) -> Cost:
    """What a run on the first sample costs in the emulator."""
    with temporary_build(program, target, toolchain=toolchain) as made:
        sizes, elf = made.image.sizes, Elf(made.image.path)
        with open_runner(made.image, target) as runner:
            (result,) = runner.run(device_samples(program.graph, samples)[:1])
    assert result.instructions is not None and sizes is not None
    names = {f"{program.name}_{part}" for part in COMMON}
    common = sum(s.size for s in elf.symbols if s.kind == "function" and s.name in names)
    constants = sum(c.nbytes for c in program.constants)
    return Cost(result.instructions, sizes.flash_bytes - common - constants, constants)


def layer_program(graph: Graph, kernel: str, target: Target) -> Program:
    """A graph of one layer, computed by that kernel."""
    options = LowerOptions(choice={node.name: kernel for node in graph.nodes})
    program = lower(graph, "layer", target.isa, options)
    assert kernel in program.kernels.values(), kernel
    return program


def measure_kernel(graph: Graph, kernel: str, target: Target, samples: Samples) -> Cost:
    """What a kernel costs on a graph of one layer."""
    return measure(layer_program(graph, kernel, target), target, samples)


def layer_graph(graph: Graph, node: Node) -> Graph:
    """The node alone, with names that don't depend on the network."""
    names = {n: f"x{i}" for i, n in enumerate(node.inputs) if n}
    names |= {n: f"y{i}" for i, n in enumerate(node.outputs)}
    tensors = {to: replace(graph.tensors[n], name=to) for n, to in names.items()}
    inputs = tuple(names.get(n, "") for n in node.inputs)
    outputs = tuple(names[n] for n in node.outputs)
    alone = Node("layer", node.op, inputs, outputs, node.attrs)
    read = tuple(dict.fromkeys(n for n in inputs if n and not tensors[n].is_constant))
    return Graph("layer", tensors, (alone,), read, outputs)


def check_tunable(target: Target, key: str = "--tune") -> None:
    """ConfigError, which names the flag or key, for a target that can't count instructions."""
    if target.core.cpu_model is None:
        able = ", ".join(t.name for t in all_targets() if t.core.cpu_model is not None)
        raise ConfigError(
            f"{key}: {target.name} has no emulator that counts instructions; leave it out, or "
            f"tune for one of: {able}"
        )


def tune(
    graph: Graph,
    target: Target,
    options: CodeOptions,
    samples: Samples,
    *,
    cache: Path | None = None,
    toolchain: Toolchain | None = None,
    progress: Progress = no_progress,
) -> Tuning:
    """The best kernels for the objective, measured with the layers' own weights and with what they
    are given for the first sample [N, *input shape].

    A choice is kept only where the whole network is no worse by it, and fits the target's RAM as
    it does without. cache: by default a folder of the user's.
    Raises ConfigError where nothing can be measured, and what lowering and compiling raise.
    """
    check_tunable(target)
    bench = Bench(
        target, toolchain or find_toolchain(None, target), cache or cache_dir() / "measured"
    )
    plain = lower_for(graph, "network", target, options)
    measured = _measure_layers(graph, bench, samples, progress)
    tuned = _fitting(graph, target, options, plain, measured)
    progress("the whole network", 1.0)
    before, after = bench.cost(plain, samples), bench.cost(tuned, samples)
    if _rank(options, plain, before) <= _rank(options, tuned, after):
        tuned, after = plain, before
    layers = tuple(
        LayerTuning(node.name, node.op, measured[node.name], tuned.kernels[node.name])
        for node in graph.nodes
        if node.name in measured
    )
    choice = () if tuned is plain else tuple((layer.name, layer.chosen) for layer in layers)
    return Tuning(layers, choice, before, after, bench.measured)


def _measure_layers(
    graph: Graph, bench: Bench, samples: Samples, progress: Progress
) -> dict[str, Costs]:
    """By layer, for those that more than one kernel can compute."""
    first = {name: samples[name][0] for name in graph.inputs}
    values, _ = interpreter.run(graph, first)
    found: dict[str, Costs] = {}
    for i, node in enumerate(graph.nodes):
        call = call_of(graph, node)
        kernels = [k.name for k in kernels_of(node.op, bench.target.isa) if k.when(call)]
        if len(kernels) < 2:
            continue
        progress(node.name, i / len(graph.nodes))
        alone = layer_graph(graph, node)
        data = _samples_of(alone, node, values)
        found[node.name] = {
            k: bench.cost(layer_program(alone, k, bench.target), data) for k in kernels
        }
    return found


def _samples_of(alone: Graph, node: Node, values: Mapping[str, Array]) -> Samples:
    given = {
        to: values[n]
        for n, to in zip(node.inputs, alone.nodes[0].inputs, strict=True)
        if n in values
    }
    return {name: given[name][None] for name in alone.inputs}


def _fitting(
    graph: Graph,
    target: Target,
    options: CodeOptions,
    plain: Program,
    measured: Mapping[str, Costs],
) -> Program:
    """The network as measured costs choose; layers go back to what the cost model chooses, those
    that free the most RAM first, until it fits the target as it does without tuning: no more RAM
    than there is, and no stripes that it had no need of."""
    ram_bytes = options.limited(target).ram_bytes
    most = None if ram_bytes is None else max(ram_bytes, plain.arena_bytes)

    def lowered(choice: Mapping[str, str]) -> Program:
        named = replace(options, choice=tuple(choice.items()))
        return lower_for(graph, "network", target, named, measured)

    def excess(program: Program) -> tuple[int, bool]:
        beyond = 0 if most is None else max(program.arena_bytes - most, 0)
        return beyond, len(program.loops) > len(plain.loops)

    kept: dict[str, str] = {}
    tuned = lowered(kept)
    while any(excess(tuned)):
        back = [n for n in measured if tuned.kernels[n] != plain.kernels[n]]
        if not back:
            return plain
        trials = [(lowered({**kept, n: plain.kernels[n]}), n) for n in back]
        tuned, name = min(trials, key=lambda t: (*excess(t[0]), t[0].arena_bytes))
        kept[name] = plain.kernels[name]
    return tuned


def _rank(options: CodeOptions, program: Program, cost: Cost) -> tuple[float, ...]:
    """What the objective wants least of."""
    if options.objective == "size":
        return (cost.flash_bytes, cost.instructions)
    if options.objective == "ram":
        return (program.arena_bytes, cost.instructions)
    return (cost.instructions, cost.flash_bytes)
