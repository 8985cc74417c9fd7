"""Addresses that a program's kernels form outside the arrays they are given.

In C it is undefined to form such an address, even one that is never read, and neither compilers nor
sanitizers tell. So the C is compiled to LLVM's text without optimization, where each step of a
pointer is an instruction of its own, and a check is written behind each of them.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from support.devices import interface_of
from tinsmith.codegen.emit import emit
from tinsmith.codegen.program import Pointer, Program, Step
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import find_toolchain, run_compiler

_RUNTIME = r"""
#include "net.h"
#include <stdio.h>

typedef struct {
    const char *low, *high;
} object;
/* What the running kernel is given; then tables and variables. */
static object given[32], named[4096];
static int givens, nameds;
static int seen[100000];

void check_step(void) { givens = 0; }
void check_given(const char *low, long bytes) { given[givens++] = (object){low, low + bytes}; }

/* In the place of those that lay there: variables of functions that are done. */
void check_named(const char *low, long bytes)
{
    int kept = 0;
    for (int i = 0; i < nameds; i++) {
        if (named[i].high <= low || named[i].low >= low + bytes) {
            named[kept++] = named[i];
        }
    }
    named[kept] = (object){low, low + bytes};
    nameds = kept + 1;
}

/* 1: an address in or just behind the object from which it comes. -1: the object is not known. */
static int stays(const object *objects, int count, const char *from, const char *to)
{
    int found = -1;
    for (int i = 0; i < count && found != 1; i++) {
        if (from >= objects[i].low && from <= objects[i].high) {
            found = to >= objects[i].low && to <= objects[i].high;
        }
    }
    return found;
}

void check_address(const char *from, const char *to, int line)
{
    const int a = stays(given, givens, from, to);
    const int b = a == 1 ? 1 : stays(named, nameds, from, to);
    if (a != 1 && b != 1 && a + b > -2 && seen[line]++ == 0) {
        printf("%d\n", line);
    }
}

int main(void)
{
    static net_t ctx;
    static const int bytes[] = {INPUTS};
    net_init(&ctx);
    unsigned random = 1;
    for (int i = 0; i < (int)(sizeof bytes / sizeof bytes[0]); i++) {
        unsigned char *x = (unsigned char *)net_input(&ctx, i);
        for (int j = 0; j < bytes[i]; j++) {
            random = random * 1664525u + 1013904223u;
            x[j] = (unsigned char)(random >> 24);
        }
    }
    return net_run(&ctx);
}
"""
_DECLARED = """
declare void @check_step()
declare void @check_given(ptr, i64)
declare void @check_named(ptr, i64)
declare void @check_address(ptr, ptr, i32)
"""
_GLOBAL = re.compile(r"^(@[\w.$]+) = .*?\b(?:constant|global) (.*)$")
_MOVED = re.compile(r"^  (%[\w.]+) = getelementptr .*?, ptr ([%@][\w.$]+),.*!dbg !(\d+)")
_LOCAL = re.compile(r"^  (%[\w.]+) = alloca (.*), align")
_CALL = re.compile(r"^  call void @[\w.$]+\((.*)\), !dbg")
_PLACE = re.compile(r"^!(\d+) = !DILocation\(line: (\d+)")


def escapes(
    program: Program, folder: Path, change: Callable[[str], str] = lambda text: text
) -> list[str]:
    """The lines of a program's C, named "net", at which an address leaves its array in a run on
    random inputs. change: made to the C before."""
    toolchain = find_toolchain("zig", target_named("host"))
    files = dict(emit(program).model)
    files["net.c"] = change(files["net.c"])
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    inputs = ", ".join(str(n) for n in interface_of(program.graph).inputs)
    (folder / "check.c").write_text(_RUNTIME.replace("INPUTS", inputs), encoding="utf-8")
    plain = ("-O0", "-fno-sanitize=all", "-I.")
    flags = (*plain, "-gline-tables-only", "-S", "-emit-llvm", "net.c", "-o", "net.ll")
    run_compiler(toolchain, flags, folder)
    text = (folder / "net.ll").read_text(encoding="utf-8")
    checked = [*_checked(text.splitlines(), program.steps), _DECLARED]
    (folder / "net.ll").write_text("\n".join(checked), encoding="utf-8")
    run_compiler(toolchain, (*plain, "net.ll", "check.c", "-o", "check"), folder)
    done = subprocess.run([folder / "check"], capture_output=True, text=True, check=True)
    source = files["net.c"].splitlines()
    return [source[int(line) - 1].strip() for line in done.stdout.split()]


def _checked(lines: Sequence[str], steps: Sequence[Step]) -> Iterator[str]:
    """The module with checks behind what moves a pointer in a kernel, and with what each call in
    net_run gives."""
    places = {m[1]: m[2] for m in map(_PLACE.match, lines) if m}
    types = {m[1]: _type(m[2]) for m in map(_GLOBAL.match, lines) if m}
    moved = {m[2] for m in map(_MOVED.match, lines) if m}
    calls = iter(steps)
    inside = ""
    for line in lines:
        if line.startswith("define "):
            inside = "run" if "@net_run(" in line else "kernel" if " internal " in line else ""
            yield line
            if inside == "run":
                yield from (_named(name, types[name]) for name in moved if name in types)
            continue
        call = _CALL.match(line)
        if inside == "run" and call:
            step = next(calls)
            pointers = [a for a in _arguments(call[1]) if a.startswith("ptr")]
            assert len(pointers) == len(step.plan.pointers)
            yield "  call void @check_step()"
            for argument, pointer in zip(pointers, step.plan.pointers, strict=True):
                value = argument.removeprefix("ptr noundef ")
                yield f"  call void @check_given(ptr {value}, i64 {_nbytes(step, pointer)})"
        yield line
        if inside == "kernel" and (m := _MOVED.match(line)):
            yield f"  call void @check_address(ptr {m[2]}, ptr {m[1]}, i32 {places[m[3]]})"
        if inside == "kernel" and (m := _LOCAL.match(line)):
            yield _named(m[1], m[2])
    assert next(calls, None) is None, "a step that net_run does not call"


def _named(name: str, kind: str) -> str:
    size = f"ptrtoint (ptr getelementptr ({kind}, ptr null, i32 1) to i64)"
    return f"  call void @check_named(ptr {name}, i64 {size})"


def _nbytes(step: Step, pointer: Pointer) -> int:
    kind, i = pointer.source
    if kind == "const":
        return step.plan.constants[i].nbytes
    if kind == "scratch":
        return step.plan.scratch_bytes
    view = (step.ins if kind == "in" else step.outs)[i]
    assert view is not None
    return view.nbytes


def _type(text: str) -> str:
    """The type at the start of a global's value."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "[{<(") - (c in "]}>)")
        if c == " " and depth == 0:
            return text[:i]
    return text


def _arguments(text: str) -> list[str]:
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts]
