"""Whether a program fits a target, and what decides where it does not."""

from __future__ import annotations

from collections.abc import Sequence

from tinsmith.codegen.program import Memory, Program
from tinsmith.pipeline.errors import DoesNotFit
from tinsmith.targets.target import Target


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


def own_weight_bytes(program: Program) -> int:
    """The weights in the target's own flash."""
    return program.weight_bytes - sum(m.nbytes for m in program.flashes)


def too_full(memories: Sequence[Memory]) -> list[Memory]:
    """The memories of which the program takes more than it may."""
    return [m for m in memories if m.excess_bytes]


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
