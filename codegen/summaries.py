"""What a generated call does, in a line of words for the comment above it."""

from __future__ import annotations

from tinsmith.codegen.kernels.packing import c_comment, shape_text
from tinsmith.codegen.program import MOVE, SUM, Program, Step
from tinsmith.pipeline.graph import Graph, Node


def summary(graph: Graph, node: Node) -> str:
    """`name: op [in] -> [out], attributes`, fit for a comment."""
    sources = [graph.tensors[n] for n in node.inputs if n and not graph.tensors[n].is_constant]
    shapes = " + ".join(shape_text(t.shape) for t in sources)
    text = f"{node.name}: {node.op} {shapes} -> {shape_text(graph.tensors[node.outputs[0]].shape)}"
    for label, value in _attributes(node):
        text += f", {label} {value}"
    return c_comment(text)


def _attributes(node: Node) -> list[tuple[str, str]]:
    a = node.attrs
    found = []
    if hasattr(a, "kernel"):
        found.append(("window", f"{a.kernel[0]}x{a.kernel[1]}"))
    if hasattr(a, "stride"):
        found.append(("stride", f"{a.stride[0]}x{a.stride[1]}"))
    if getattr(a, "dilation", (1, 1)) != (1, 1):
        found.append(("dilation", f"{a.dilation[0]}x{a.dilation[1]}"))
    pads = getattr(a, "pads", ())
    if len(pads) == 4 and all(isinstance(p, int) for p in pads) and any(pads):
        found.append(("pad", ",".join(str(p) for p in pads)))
    activation = getattr(a, "activation", None)
    if activation is not None and activation.value != "none":
        found.append(("fused", activation.value))
    return found


def part_summary(graph: Graph, step: Step, rounds: int) -> str:
    """The same of a step that makes or moves some rows, and which: in `rounds` rounds of a loop."""
    if step.node.op == SUM:
        tensor, rows_read = graph.tensors[step.node.inputs[0]], step.ins[0]
        assert rows_read is not None
        first, count = rows_read.start * tensor.shape[1] // tensor.nbytes, rows_read.shape[1]
        text = (
            f"{step.node.name}: rows {first} to {first + rounds * count - 1} of {tensor.shape[1]}"
        )
        return c_comment(text + (f", {count} a round" if rounds > 1 else ""))
    if not step.node.inputs or step.node.inputs[0] not in graph.tensors:
        return c_comment(f"{step.node.name}: {step.node.op} of its sums")
    view, tensor = step.outs[0], graph.tensors[step.node.outputs[0]]
    row, count = tensor.nbytes // tensor.shape[1], view.shape[1]
    first = view.start // row
    if step.node.op == MOVE:
        rows = "1 row" if count == 1 else f"{count} rows"
        return c_comment(f"{step.node.name}: {rows} that are needed again, to the buffer's start")
    end = first + count + (rounds - 1) * view.start_step // row
    text = f"{summary(graph, step.node)}, rows {first} to {end - 1} of {tensor.shape[1]}"
    return text + (f", {count} a round" if rounds > 1 else "")


def streaming_summary(program: Program) -> str:
    """Which layers are made in stripes of rows, and what that costs; "" where none is."""
    if not program.streamed or program.whole_arena_bytes is None:
        return ""
    run = [step for _, step in program.run()]
    moved = sum(step.outs[0].nbytes for step in run if step.node.op == MOVE)
    return (
        f"made in stripes of rows: {', '.join(program.streamed)}. Of their tensors a few rows at a "
        f"time are in RAM: the arena is {program.arena_bytes:,} bytes instead of "
        f"{program.whole_arena_bytes:,}, for {len(run)} calls instead of {len(program.layers)} and "
        f"{moved:,} bytes that move within it"
    )
