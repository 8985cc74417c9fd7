"""Constants beside the target's own flash: those that are read least, by the byte, go out first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tinsmith.codegen.program import Constant, Memory, Program, Step
from tinsmith.pipeline.ops import OPS, call_of


def into_flashes(program: Program, own_bytes: int | None, memories: Sequence[Memory]) -> Program:
    """The program with the weights that do not fit into `own_bytes` in the memories, in order.

    Tables stay: they are small, and read at every value. Where there is not enough room, the last
    memory's `nbytes` is above its limit.
    """
    constants = program.constants
    if not memories or own_bytes is None or sum(c.nbytes for c in constants) <= own_bytes:
        return program
    out = _outside(program, own_bytes)
    homes: dict[str, str] = {}
    used = {m.name: 0 for m in memories}
    for constant in out:
        home = next((m for m in memories if _has_room(m, used, constant)), memories[-1])
        homes[constant.name] = home.name
        used[home.name] += constant.nbytes
    flashes = tuple(replace(m, nbytes=used[m.name]) for m in memories if used[m.name])
    return replace(program, steps=tuple(_moved(s, homes) for s in program.steps), flashes=flashes)


def _has_room(memory: Memory, used: Mapping[str, int], constant: Constant) -> bool:
    limit = memory.limit_bytes
    return limit is None or used[memory.name] + constant.nbytes <= limit


def _outside(program: Program, own_bytes: int) -> list[Constant]:
    """The constants that leave: the least read first, as few as do; those stay that can."""
    reads = _reads(program)
    weights = [c for c in program.constants if c.role == "weights"]
    weights.sort(key=lambda c: (reads[c.name], -c.nbytes, c.name))
    inside = sum(c.nbytes for c in program.constants)
    out: list[Constant] = []
    for constant in weights:
        if inside <= own_bytes:
            break
        out.append(constant)
        inside -= constant.nbytes
    for constant in reversed(out[:]):
        if inside + constant.nbytes <= own_bytes:
            out.remove(constant)
            inside += constant.nbytes
    return out


def _reads(program: Program) -> dict[str, float]:
    """How often a run reads each constant's bytes: a convolution's weights at every position."""
    found: dict[str, float] = {}
    for node in program.graph.nodes:
        call = call_of(program.graph, node)
        weights = OPS[node.op].weights
        size = 0 if weights is None else call.input(weights).size
        found[node.name] = OPS[node.op].macs(call) / size if size else 1.0
    by_constant: dict[str, float] = {}
    for step in {s.node.name: s for s in program.steps}.values():
        for constant in step.plan.constants:
            more = by_constant.get(constant.name, 0.0) + found.get(step.node.name, 1.0)
            by_constant[constant.name] = more
    return by_constant


def _moved(step: Step, homes: Mapping[str, str]) -> Step:
    if not any(c.name in homes for c in step.plan.constants):
        return step
    constants = tuple(
        replace(c, flash=homes[c.name]) if c.name in homes else c for c in step.plan.constants
    )
    return replace(step, plan=replace(step.plan, constants=constants))
