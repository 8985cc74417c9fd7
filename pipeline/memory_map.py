"""The map of a program's arenas over time, as SVG: which buffer lies where during which calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from tinsmith.codegen.emit import model_name
from tinsmith.codegen.program import Memory, Placed, Program
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import lower_for
from tinsmith.pipeline.fit import makers_of
from tinsmith.pipeline.graph import Graph
from tinsmith.targets.target import Target

_LEFT, _RIGHT, _TOP, _HEIGHT, _GAP = 70, 24, 64, 360, 40
_LEAST_WIDTH = 640
_COLUMN, _LETTER, _LINE = (18, 64), 6, 12  # least and greatest width of a call, of a letter, height
_NAME = 24  # letters of a layer's name that are shown
_INK, _GREY, _FAINT = "#333333", "#b5b5b5", "#eeeeee"
_KINDS = {
    "input or output": "#e08214",
    "between layers": "#1f6fb4",
    "scratch": "#6b6b6b",
    "state": "#3a923a",
}


def arena_text(program: Program) -> str:
    """How large the arena is, and whether it could be smaller: one sentence."""
    if len(program.arenas) > 1:
        lie = " and ".join(f"{a.nbytes:,} in {a.name}" for a in program.arenas)
        return (
            f"arenas of {program.arena_bytes:,} bytes together ({lie}); "
            f"less than {program.arena_lower_bound:,} is impossible for these calls in this order"
        )
    if program.arena_is_proven:
        return (
            f"arena of {program.arena_bytes:,} bytes, proven to be the smallest for these calls "
            "in this order"
        )
    return (
        f"arena of {program.arena_bytes:,} bytes; less than {program.arena_lower_bound:,} is "
        "impossible for these calls in this order"
    )


def arena_map(graph: Graph, target: Target, options: CodeOptions) -> str:
    """The map of a model's arena on a target; UnsupportedModel where there is no C for it."""
    return memory_map(lower_for(graph, model_name(graph.name), target, options))


def memory_map(program: Program) -> str:
    """One panel an arena: calls from left to right, the arena's bytes from the bottom to the top.

    Where buffers share bytes, their colours mix. Names, bytes and lives are tooltips as well.
    """
    names = ["before", *(s.node.name for s in program.steps), "after"]
    shown = [n if len(n) <= _NAME else n[: _NAME - 3] + "..." for n in names]
    column = min(max(_LEAST_WIDTH // len(names), _COLUMN[0]), _COLUMN[1])
    labels = round(max(len(n) for n in shown) * _LETTER * 0.9) + 16
    says = f"{program.name}: {arena_text(program)}"
    heading = round(16 + len(says) * _LETTER * 1.1) + _RIGHT
    width = max(_LEFT + column * len(names) + _RIGHT, _LEAST_WIDTH, heading)
    panel = _TOP + _HEIGHT + labels
    height = panel * len(program.arenas) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="title description" '
        f'font-family="sans-serif" font-size="11" fill="{_INK}">',
        f'<title id="title">{escape(says)}</title>',
        f'<desc id="description">{escape(_description(program))}</desc>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="16" y="20" font-size="12">{escape(says)}</text>',
    ]
    for place, arena in enumerate(program.arenas):
        parts += [f'<g transform="translate(0 {place * panel})">']
        parts += [*_axes(arena, shown, column), *_buffers(program, arena, names, column), "</g>"]
    parts += _legend(height - 16)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _description(program: Program) -> str:
    lines = [f"{len(program.steps)} calls; {len(program.buffers)} buffers."]
    return " ".join([*lines, *(_told(program, b) for b in program.buffers)])


def _told(program: Program, buffer: Placed) -> str:
    """A buffer's name, bytes and life."""
    steps = program.steps
    inside = [k for k in (buffer.first, buffer.last) if 0 <= k < len(steps)]
    begin = "before the first call" if buffer.first < 0 else f"from {steps[inside[0]].node.name}"
    after = buffer.last >= len(steps)
    end = "after the last call" if after else f"to {steps[max(buffer.last, 0)].node.name}"
    region = f" of {buffer.region}" if buffer.region else ""
    return (
        f"{_name(program, buffer)}: {buffer.nbytes:,} bytes at {buffer.offset:,} to "
        f"{buffer.offset + buffer.nbytes - 1:,}{region}, {begin} {end}."
    )


def _name(program: Program, buffer: Placed) -> str:
    return makers_of(program).get(buffer.name, buffer.name)


def _kind(program: Program, buffer: Placed) -> str:
    if buffer.name in {s.tensor for s in program.graph.state}:
        return "state"
    if buffer.name not in program.graph.tensors:
        return "scratch"
    ends = buffer.first < 0 or buffer.last >= len(program.steps)
    return "input or output" if ends else "between layers"


def _axes(arena: Memory, names: list[str], column: int) -> Iterator[str]:
    """The grid with the bytes at its lines, and the calls' names below."""
    right, bottom = _LEFT + column * len(names), _TOP + _HEIGHT
    heading = f"{arena.name}: bytes" if arena.name else "bytes"
    yield f'<text x="16" y="{_TOP - 16}">{escape(heading)}</text>'
    for value in _ticks(arena.nbytes):
        y = _y(value, arena)
        yield f'<line x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}" stroke="{_FAINT}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:,}</text>'
    for k, name in enumerate(names):
        x, y = _LEFT + column * (k + 0.5) + 4, bottom + 10
        yield (
            f'<text transform="translate({x:g} {y}) rotate(-60)" text-anchor="end">'
            f"{escape(name)}</text>"
        )
    yield (
        f'<rect x="{_LEFT}" y="{_TOP}" width="{column * len(names)}" height="{_HEIGHT}" '
        f'fill="none" stroke="{_GREY}"/>'
    )


def _buffers(program: Program, arena: Memory, names: list[str], column: int) -> Iterator[str]:
    several = len(program.arenas) > 1
    own = [b for b in program.buffers if b.region == arena.name or not several]
    for buffer in sorted(own, key=lambda b: (-b.nbytes, b.offset, b.name)):
        first, last = buffer.first + 1, min(buffer.last + 1, len(names) - 1)
        x, width = _LEFT + column * first, column * (last - first + 1)
        top = _y(buffer.offset + buffer.nbytes, arena)
        height = max(round(_y(buffer.offset, arena) - top, 1), 0.5)
        colour = _KINDS[_kind(program, buffer)]
        yield (
            f'<g><title>{escape(_told(program, buffer))}</title><rect x="{x}" y="{top}" '
            f'width="{width}" height="{height}" fill="{colour}" fill-opacity="0.35" '
            f'stroke="{colour}"/>'
        )
        yield from _label(program, buffer, x, top, (width, height), column)
        yield "</g>"


def _label(
    program: Program, buffer: Placed, x: int, top: float, size: tuple[int, float], column: int
) -> Iterator[str]:
    """The name, or just the bytes, where there is room: along a long life; else upright in the
    column of its first call, which it shares with no other label of what lies there later."""
    width, height = size
    names = (f"{_name(program, buffer)} {buffer.nbytes:,}", f"{buffer.nbytes:,}")
    along = width > 2 * column and height >= _LINE
    room = (width if along else height) - 6
    text = next((t for t in names if len(t) * _LETTER <= room), None)
    if text is None:
        return
    middle = x + (width if along else column) / 2
    at = f"translate({middle:g} {top + height / 2:g})"
    yield (
        f'<text transform="{at}{"" if along else " rotate(-90)"}" dy="4" text-anchor="middle" '
        f'pointer-events="none" font-size="10">{escape(text)}</text>'
    )


def _y(value: int, arena: Memory) -> float:
    return round(_TOP + _HEIGHT * (1 - value / max(arena.nbytes, 1)), 1)


def _ticks(nbytes: int) -> list[int]:
    """Round bytes, five or so, and the arena's end."""
    step = max(1 << round(math.log2(max(nbytes, 1) / 5)), 1) if nbytes > 5 else 1
    return [*(v for v in range(0, nbytes, step) if nbytes - v > step // 2), nbytes]


def _legend(y: int) -> Iterator[str]:
    for i, (kind, colour) in enumerate(_KINDS.items()):
        x = 16 + 140 * i
        yield (
            f'<rect x="{x}" y="{y - 9}" width="12" height="10" fill="{colour}" '
            f'fill-opacity="0.35" stroke="{colour}"/><text x="{x + 18}" y="{y}">{kind}</text>'
        )
