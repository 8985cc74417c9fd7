"""The arenas of a program, and the memories that they lie in, as templates see them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tinsmith.codegen.literals import COLUMNS
from tinsmith.codegen.program import Program


def arena_facts(program: Program) -> dict[str, Any]:
    """The arenas as templates see them.

    inside: the arena is a member of the context; else the context has pointers to the arenas, which
    the caller gives or the model's .c file holds. state: lines with the bytes of each that hold the
    model's state.
    """
    inside = len(program.arenas) == 1 and not program.caller_arena
    upper = program.name.upper()
    # Of several arenas each can be placed; one alone lies where the context does.
    named = len(program.arenas) > 1 or program.arenas[0].section
    arenas: list[dict[str, Any]] = [
        {
            "region": arena.name,
            "pointer": arena_name(arena.name if len(program.arenas) > 1 else ""),
            "of": "ctx->arena.bytes" if inside else f"ctx->{arena_name(region)}",
            "bytes": f"{upper}_{f'{region}_'.upper() if region else ''}ARENA_BYTES",
            "nbytes": max(arena.nbytes, 1),
            "section": arena.section,
            "section_macro": section_macro(upper, arena.name) if named else "",
            "state": _kept_ranges(program, region),
        }
        for arena in program.arenas
        for region in [arena.name if len(program.arenas) > 1 else ""]
    ]
    given = [a["pointer"] for a in arenas] if program.caller_arena else []
    return {
        "inside": inside,
        "arenas": arenas,
        "init_type": "int" if program.caller_arena else "void",
        "init_parameters": "".join(f", void *{pointer}" for pointer in given),
        "init_call": f"{program.name}_init({', '.join(['&ctx', *given])})",
    }


def arenas_used(
    arenas: Sequence[Mapping[str, Any]], texts: Mapping[str, str]
) -> dict[str, list[Any]]:
    """For each function of the model, by the text that it has, the arenas that it needs."""
    return {f: [a for a in arenas if f"&{a['pointer']}[" in text] for f, text in texts.items()}


def section_macro(upper: str, memory: str) -> str:
    """The macro that puts a variable into a memory."""
    return f"{upper}_{memory.upper()}_SECTION" if memory else ""


def arena_name(region: str) -> str:
    """The C name of the pointer to a region's arena."""
    return f"{region}_arena" if region else "arena"


def _kept_ranges(program: Program, region: str) -> list[str]:
    """Lines with the bytes of an arena that hold state, as `first..last`."""
    kept = sorted((s.view.offset, s.view.nbytes) for s in program.state if s.view.region == region)
    ranges: list[tuple[int, int]] = []
    for offset, nbytes in kept:
        begin, end = ranges[-1] if ranges else (-1, -1)
        if end == offset:
            ranges[-1] = begin, offset + nbytes
        else:
            ranges.append((offset, offset + nbytes))
    return textwrap.wrap(", ".join(f"{begin}..{end - 1}" for begin, end in ranges), COLUMNS - 10)
