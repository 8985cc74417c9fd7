"""The folder that `generate` writes: sources, build file, README, self-test with golden vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from tinsmith.codegen.arenas import arena_facts
from tinsmith.codegen.emit import Sources, environment, port_facts
from tinsmith.codegen.frontend import frontend_files, sound_facts
from tinsmith.codegen.kernels.packing import c_comment, shape_text
from tinsmith.codegen.literals import golden_rows
from tinsmith.codegen.program import Program
from tinsmith.codegen.summaries import streaming_summary
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.graph import Array


@dataclass(frozen=True)
class ProjectFacts:
    """What the README and the build file say beyond the program.

    flags: compiler flags that select the core. sizes: (label, bytes) pairs as measured.
    frame_instructions: of a frame of the front end.
    """

    target: str
    title: str
    flags: Sequence[str]
    optimization: str
    sizes: Sequence[tuple[str, int]]
    toolchain: str
    instructions: int | None
    frame_instructions: int | None = None


@dataclass(frozen=True, eq=False)
class Golden:
    """Samples and what the interpreter makes of them: arrays [N, *shape], in the graph's order."""

    inputs: Sequence[Array]
    outputs: Sequence[Array]


def project_files(
    program: Program,
    sources: Sources,
    golden: Golden,
    facts: ProjectFacts,
    front_end: FrontEnd | None = None,
) -> Mapping[str, str]:
    """{path: text} of the whole folder; the model's own files as they are in `sources`.

    front_end: what makes the model's input from sound; its C lies beside the model's.
    """
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
        "sound": None if front_end is None else sound_facts(front_end),
        "use": _use(program),
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
    if front_end is not None:
        files |= frontend_files(name, front_end, program.isa)
    for path, template in (
        ("CMakeLists.txt", "projects/CMakeLists.txt.j2"),
        ("README.md", "projects/README.md.j2"),
        (f"selftest/{name}_selftest.c", "projects/selftest.c.j2"),
        (f"selftest/{name}_golden.h", "projects/golden.h.j2"),
    ):
        files[path] = env.get_template(template).render(context)
    return files


def _use(program: Program) -> list[str]:
    """The lines of C that use the model, with comments in one column."""
    facts = arena_facts(program)
    lines = [*_declarations(program, facts), ("", "")]
    if program.caller_arena:
        refused = f"an arena is missing, or not aligned to {program.name.upper()}_ARENA_ALIGNMENT"
        lines.append((f"if ({facts['init_call']} != 0) {{", "once"))
        lines += [(f"    /* {refused} */", ""), ("}", "")]
    else:
        lines.append((f"{facts['init_call']};", "once"))
    lines += [("", ""), *_calls(program)]
    column = max(len(code) for code, comment in lines if comment) + 2
    return [f"{code:<{column}}/* {comment} */" if comment else code for code, comment in lines]


def _declarations(program: Program, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The context, and the arenas that are the firmware's: (line, comment)."""

    def placed(variable: str, arena: Mapping[str, Any]) -> str:
        return f"static {variable} {arena['section_macro']}".rstrip() + ";"

    arenas, context = facts["arenas"], f"{program.name}_t ctx"
    if facts["inside"]:
        return [(placed(context, arenas[0]), "all RAM that the model needs, but for the stack")]
    given = arenas if program.caller_arena else ()
    arrays = [placed(f"int64_t {a['pointer']}[({a['bytes']} + 7) / 8]", a) for a in given]
    return [*((line, "") for line in arrays), (f"static {context};", "")]


def _calls(program: Program) -> list[tuple[str, str]]:
    """Filling in, running, reading: (line, comment)."""
    name, upper = program.name, program.name.upper()
    lines = []
    for tensor, view in program.inputs[:1]:
        code = f"{port_facts(tensor, view)['ctype']} *in = {name}_input(&ctx, 0);"
        lines.append((code, f"fill in {upper}_INPUT_0_SIZE values"))
    lines.append((f"{name}_run(&ctx);", ""))
    for tensor, view in program.outputs[:1]:
        code = f"const {port_facts(tensor, view)['ctype']} *out = {name}_output(&ctx, 0);"
        lines.append((code, f"{upper}_OUTPUT_0_SIZE values"))
    return lines
