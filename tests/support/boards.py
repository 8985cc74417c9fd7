"""Boards with several memories, which tests make up."""

from __future__ import annotations

from pathlib import Path

from tinsmith.targets.target import Target, read_board


def two_memories(
    folder: Path,
    *,
    core: str = "cortex-m7",
    fast: int = 4096,
    slow: int = 65_536,
    flash: int = 1 << 20,
    outer_flash: int = 1 << 20,
) -> Target:
    """A board with a fast and a slow RAM, and a flash beside its own."""
    path = folder / "board.toml"
    path.write_text(f"""
title = "two memories"
core = "{core}"
flash_bytes = {flash}
ram_bytes = {slow}

[[regions]]
name = "flash"
kind = "flash"
start = 0x08000000
bytes = {flash}

[[regions]]
name = "qspi"
kind = "flash"
start = 0x90000000
bytes = {outer_flash}
section = ".rodata.qspi"

[[regions]]
name = "tcm"
kind = "ram"
start = 0x20000000
bytes = {fast}
section = ".bss.tcm"

[[regions]]
name = "sram"
kind = "ram"
start = 0x24000000
bytes = {slow}
section = ""
""")
    return read_board(path)
