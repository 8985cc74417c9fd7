"""The folder that `generate` writes: sources, build file, README, self-test with golden vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from tinsmith.codegen.emit import Sources, arena_facts, environment, golden_rows, port_facts
from tinsmith.codegen.kernels.packing import c_comment, shape_text
from tinsmith.codegen.program import Program
from tinsmith.codegen.summaries import streaming_summary
from tinsmith.pipeline.graph import Array


@dataclass(frozen=True)
class ProjectFacts:
    """What the README and the build file say beyond the program.

    flags: compiler flags that select the core. sizes: (label, bytes) pairs as measured.
    """

    target: str
    title: str
    flags: Sequence[str]
    optimization: str
    sizes: Sequence[tuple[str, int]]
    toolchain: str
    instructions: int | None


@dataclass(frozen=True, eq=False)
class Golden:
    """Samples and what the interpreter makes of them: arrays [N, *shape], in the graph's order."""

    inputs: Sequence[Array]
    outputs: Sequence[Array]


def project_files(
    program: Program, sources: Sources, golden: Golden, facts: ProjectFacts
) -> Mapping[str, str]:
    """{path: text} of the whole folder; the model's own files as they are in `sources`."""
    env = environment()
    name = program.name
    count = len(golden.outputs[0])
    context: dict[str, Any] = {
        "program": program,
        "name": name,
        "upper": name.upper(),
        "model": c_comment(program.graph.name),
        "generator": f"tinsmith {version('tinsmith')}",
        "facts": facts,
        "count": count,
        "inputs": [port_facts(t, v) for t, v in program.inputs],
        "outputs": [port_facts(t, v) for t, v in program.outputs],
        "golden_inputs": [[golden_rows(a[i]) for i in range(count)] for a in golden.inputs],
        "golden_outputs": [[golden_rows(a[i]) for i in range(count)] for a in golden.outputs],
        **arena_facts(program),
        "stateful": bool(program.state),
        "streaming": streaming_summary(program),
        "layers": [
            {
                "name": c_comment(s.node.name),
                "op": s.node.op,
                "kernel": s.kernel,
                "shape": shape_text(program.graph.tensors[s.node.outputs[0]].shape),
                "constants": sum(c.nbytes for c in s.plan.constants),
            }
            for s in program.layers
        ],
    }
    files = dict(sources.model)
    for path, template in (
        ("CMakeLists.txt", "projects/CMakeLists.txt.j2"),
        ("README.md", "projects/README.md.j2"),
        (f"selftest/{name}_selftest.c", "projects/selftest.c.j2"),
        (f"selftest/{name}_golden.h", "projects/golden.h.j2"),
    ):
        files[path] = env.get_template(template).render(context)
    return files
