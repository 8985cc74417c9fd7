"""A model in several memories, compiled for this computer: strictly, sanitized, and elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.builds import check_build
from support.networks import convolutional
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Memory, Program
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import (
    WARNINGS,
    find_toolchain,
    run_compiler,
    sanitizer_compiler,
    sanitizers_available,
)

HOST = target_named("host")


def program() -> Program:
    """With the kernels of Cortex-M4, in two memories, and half of its weights in a flash apart."""
    plain = lower(convolutional(), "net", ("dsp", "c"))
    options = LowerOptions(
        memories=(Memory("tcm", 0, ".bss.tcm", 1500), Memory("sram", 0, "", 1 << 20)),
        own_flash_bytes=plain.weight_bytes // 2,
        flashes=(Memory("qspi", 0, ".rodata.qspi", 1 << 20),),
    )
    made = lower(convolutional(), "net", ("dsp", "c"), options)
    assert len(made.regions) == 2 and made.flashes
    return made


def test_two_memories_give_the_same_bytes_on_this_computer(tmp_path: Path) -> None:
    check_build(program(), HOST, tmp_path)


def test_two_memories_are_clean_under_sanitizers(tmp_path: Path) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with their sanitizers")
    check_build(program(), HOST, tmp_path, sanitize=True)


@pytest.mark.parametrize("where", ['__attribute__((section(".bss.other")))', ""])
def test_the_sections_can_be_defined_by_the_firmware(tmp_path: Path, where: str) -> None:
    for name, text in emit(program()).model.items():
        (tmp_path / name).write_text(text)
    macros = [f"-DNET_{m}_SECTION={where}" for m in ("TCM", "SRAM")]
    flags = (*WARNINGS, "-O1", *macros, "-DNET_QSPI_SECTION=")
    toolchain = sanitizer_compiler() or find_toolchain(None, HOST)
    run_compiler(toolchain, (*flags, "-c", "net.c", "-o", "net.o"), tmp_path)
    data = (tmp_path / "net.o").read_bytes()
    assert b".bss.tcm" not in data and b".rodata.qspi" not in data
    assert (b".bss.other" in data) == bool(where)
