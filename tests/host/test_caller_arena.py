"""Arenas that the firmware gives: checked by init, shared by models that take turns."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.builds import check_build
from support.nets import random_samples
from support.networks import convolutional, recurrent
from tinsmith.codegen.emit import emit
from tinsmith.codegen.project import Golden, ProjectFacts, project_files
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import make_program
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.validation import interpret
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import (
    WARNINGS,
    find_toolchain,
    run_compiler,
    sanitizer_compiler,
    sanitizers_available,
)

HOST = target_named("host")
FROM_CALLER = CodeOptions(arena="caller")

TURNS = r"""
#include "first.h"
#include "second.h"
#include "selftest/first_golden.h"
#include "selftest/second_golden.h"
#include <stdio.h>

#define LARGER (FIRST_ARENA_BYTES > SECOND_ARENA_BYTES ? FIRST_ARENA_BYTES : SECOND_ARENA_BYTES)
static int64_t arena[(LARGER + 7) / 8];
static first_t first;
static second_t second;

int main(void)
{
    int wrong = 0;
    int8_t out[64];
    if (first_init(&first, NULL) != FIRST_ERROR_ARENA) {
        return printf("a null pointer is taken\n");
    }
    if (first_init(&first, (int8_t *)arena + 4) != FIRST_ERROR_ARENA) {
        return printf("an arena that is not aligned is taken\n");
    }
    if (first_init(&first, arena) != 0 || second_init(&second, arena) != 0) {
        return printf("an arena is refused\n");
    }
    for (int i = 0; i < FIRST_GOLDEN_SAMPLES; i++) {
        first_invoke(&first, first_golden_input_0[i], out);
        for (int k = 0; k < FIRST_OUTPUT_0_SIZE; k++) {
            wrong += out[k] != first_golden_output_0[i][k];
        }
        second_invoke(&second, second_golden_input_0[i], out);
        for (int k = 0; k < SECOND_OUTPUT_0_SIZE; k++) {
            wrong += out[k] != second_golden_output_0[i][k];
        }
    }
    printf("%d bytes differ\n", wrong);
    return wrong;
}
"""


def folder_of(graph: Graph, name: str, options: CodeOptions) -> dict[str, str]:
    """What `generate` writes for this computer, with three samples."""
    program = make_program(graph, name, HOST, options)
    samples = random_samples(graph, np.random.default_rng(2), 3)
    golden = Golden([samples[n] for n in graph.inputs], interpret(graph, samples))
    facts = ProjectFacts("host", "this computer", (), "-O2", (), "gcc", None)
    return dict(project_files(program, emit(program), golden, facts))


def compile_and_run(folder: Path, files: dict[str, str], units: tuple[str, ...]) -> str:
    """What a program prints that was compiled strictly, under sanitizers where there are any."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    toolchain = sanitizer_compiler() or find_toolchain(None, HOST)
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    flags = (*WARNINGS, "-pedantic", "-O1", *(checks if toolchain.name != "zig" else ()))
    run_compiler(toolchain, (*flags, "-I.", *units, "-o", "program"), folder)
    done = subprocess.run([folder / "program"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_models_take_turns_in_one_arena_and_init_refuses_a_bad_one(tmp_path: Path) -> None:
    files = folder_of(convolutional("first", 1), "first", FROM_CALLER)
    files |= folder_of(convolutional("second", 2, size=9, channels=12), "second", FROM_CALLER)
    printed = compile_and_run(
        tmp_path, {**files, "turns.c": TURNS}, ("first.c", "second.c", "turns.c")
    )
    assert printed == "0 bytes differ\n"


@pytest.mark.parametrize("arena", ["static", "caller"])
@pytest.mark.parametrize("build", [convolutional, recurrent])
def test_the_self_test_passes_however_the_arena_is_given(
    tmp_path: Path, build: Callable[[str], Graph], arena: str
) -> None:
    files = folder_of(build("net"), "net", CodeOptions(arena=arena))
    assert "3 samples" in compile_and_run(tmp_path, files, ("net.c", "selftest/net_selftest.c"))


def test_the_self_test_goes_into_a_firmware_that_has_a_main_and_no_printf(tmp_path: Path) -> None:
    files = folder_of(convolutional("net"), "net", CodeOptions())
    files["main.c"] = "int net_selftest_run(void);\nint main(void) { return net_selftest_run(); }\n"
    flag = "-DNET_SELFTEST_NO_MAIN"
    units = ("net.c", "selftest/net_selftest.c", "main.c", flag)
    assert compile_and_run(tmp_path, files, units) == ""


def test_an_arena_that_the_harness_gives_is_walked_within_its_bounds(tmp_path: Path) -> None:
    for graph in (convolutional(), recurrent()):
        program = make_program(graph, "net", HOST, FROM_CALLER)
        check_build(program, HOST, tmp_path / graph.nodes[0].op)


def test_an_arena_from_the_caller_is_clean_under_sanitizers(tmp_path: Path) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with their sanitizers")
    program = make_program(convolutional(), "net", HOST, FROM_CALLER)
    check_build(program, HOST, tmp_path, sanitize=True)


def test_the_header_says_what_of_the_arena_persists() -> None:
    fleeting = make_program(convolutional(), "net", HOST, FROM_CALLER)
    lasting = make_program(recurrent(), "net", HOST, FROM_CALLER)
    assert "may take turns in one arena" in emit(fleeting).model["net.h"]
    header = emit(lasting).model["net.h"]
    named: set[int] = set()
    for first, last in re.findall(r"(\d+)\.\.(\d+)", header):
        named |= set(range(int(first), int(last) + 1))
    kept = [range(s.view.offset, s.view.offset + s.view.nbytes) for s in lasting.state]
    assert named == set().union(*kept) != set()
    assert "hold the state from run to run; nobody else may write there" in header
    assert "take turns" not in header
