"""What every layer of a graph computes, by the interpreter, by other runtimes, and on targets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinsmith.codegen.emit import model_name
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.deployment import traced_steps
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.exporters.tflite_uint8 import in_file, of_type
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.oracles import ORACLES, oracle
from tinsmith.targets.target import Target, all_targets, target_named

INTERPRETER = "interpreter"
Trace = Mapping[str, Array]


def runtimes() -> tuple[str, ...]:
    """The names of all that can run a model layer by layer; not all need be installed."""
    return (INTERPRETER, *(o.name for o in ORACLES), *(t.name for t in all_targets()))


def trace(graph: Graph, samples: Mapping[str, Array], runtime: str = INTERPRETER) -> Trace:
    """Tensors that the layers compute, [N, *shape] by name, in the order they are computed.

    samples: [N, *shape] by input name; where the graph has state, they are one sequence.
    runtime: one of `runtimes()`. A runtime may know fewer tensors than there are: what a kernel
    computes on the way has no name, and a target tells a layer's first output.
    ConfigError for a runtime that does not exist, ToolMissing where it is not installed.
    """
    if runtime == INTERPRETER:
        return _interpreted(graph, samples)
    if runtime in [o.name for o in ORACLES]:
        feeds: Mapping[str | int, Array] = {
            i: in_file(graph, samples[n]) for i, n in enumerate(graph.inputs)
        }
        found = oracle(runtime).run_all_layers(
            to_tflite(graph), feeds, stateful=bool(graph.state), isolated=True
        )
        shapes = {
            n: (len(a), *graph.tensors[n].shape) for n, a in found.items() if _known(graph, n)
        }
        return {n: of_type(found[n], graph.tensors[n]).reshape(s) for n, s in shapes.items()}
    check_runtime(runtime)
    return _on_target(graph, samples, target_named(runtime))


def check_runtime(name: str) -> None:
    """ConfigError, with those that exist, for a runtime that doesn't."""
    if name not in runtimes():
        raise ConfigError(f"the runtime {name} does not exist; allowed: {', '.join(runtimes())}")


def _known(graph: Graph, name: str) -> bool:
    return name in graph.tensors and graph.producer(name) is not None


def _interpreted(graph: Graph, samples: Mapping[str, Array]) -> Trace:
    rows: dict[str, list[Array]] = {out: [] for node in graph.nodes for out in node.outputs}
    state = None
    for i in range(len(next(iter(samples.values())))):
        inputs = {n: samples[n][i] for n in graph.inputs}
        tensors, state = interpreter.run(graph, inputs, state)
        for name, values in rows.items():
            values.append(tensors[name])
    return {name: np.stack(values) for name, values in rows.items()}


def _on_target(graph: Graph, samples: Mapping[str, Array], target: Target) -> Trace:
    program = lower(graph, model_name(graph.name), target.isa, LowerOptions())
    rows: dict[str, list[Array]] = {}
    for steps in traced_steps(program, target, samples):
        for step, value in steps:
            node = program.steps[step].node
            if node.op != "assign":
                rows.setdefault(node.outputs[0], []).append(value)
    return {name: np.stack(values) for name, values in rows.items()}
