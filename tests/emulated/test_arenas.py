"""Arenas outside the context on emulated cores: the same bytes, guarded, and counted alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import unicorn

from support.boards import two_memories
from support.builds import check_build
from support.nets import Net, random_samples
from support.networks import convolutional, recurrent
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import CODE_RESERVE_BYTES, device_samples, make_program
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.targets.emulators.unicorn import UnicornRunner
from tinsmith.targets.harness import EMULATED_LAYOUT
from tinsmith.targets.target import target_named


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "raspberry-pi-4"])
def test_an_arena_from_the_caller_costs_a_pointer_more(name: str, tmp_path: Path) -> None:
    target = target_named(name)
    for graph in (convolutional(), recurrent()):
        sizes = []
        for arena in ("static", "caller"):
            program = make_program(graph, "net", target, CodeOptions(arena=arena))
            made = check_build(program, target, tmp_path / graph.nodes[0].op / arena)
            assert made.image.sizes is not None
            sizes.append(made.image.sizes)
        static, caller = sizes
        assert caller.context_bytes == target.pointer_bytes
        # The context is rounded up to the alignment of its words.
        assert 0 <= static.ram_bytes - (caller.ram_bytes - target.pointer_bytes) < 8
        assert caller.weight_bytes == static.weight_bytes


@pytest.mark.parametrize("arena", ["static", "caller"])
@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m0plus"])
def test_a_model_in_two_memories_and_two_flashes_computes_the_same_bytes(
    core: str, arena: str, tmp_path: Path
) -> None:
    board = two_memories(tmp_path, core=core, fast=1500, flash=CODE_RESERVE_BYTES + 1000)
    program = make_program(convolutional(), "net", board, CodeOptions(arena=arena))
    assert [m.name for m in program.regions] == ["tcm", "sram"]
    assert [m.name for m in program.flashes] == ["qspi"]
    made = check_build(program, board, tmp_path / "build")
    sizes = made.image.sizes
    assert sizes is not None
    assert 0 <= sizes.arena_bytes - program.arena_bytes < 16
    assert sizes.outer_flash_bytes == program.flashes[0].nbytes
    # The linker may give two equal constants one address.
    assert 0 <= program.weight_bytes - sizes.weight_bytes < 64
    assert sizes.data_bytes == sizes.bss_bytes == 0


def test_a_flash_may_stay_empty_where_the_compiler_has_its_constants_in_code(
    tmp_path: Path,
) -> None:
    board = two_memories(tmp_path, core="cortex-m4", flash=CODE_RESERVE_BYTES + 1)
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 3, 3, 2))
    w = net.weights((1, 3, 3, 2), x, axis=3)
    x = net.node("depthwise_conv2d", [x, w, net.bias(w, x, 2)], DepthwiseConv2dAttrs())
    program = make_program(net.graph([x]), "net", board)
    assert program.flashes
    made = check_build(program, board, tmp_path / "build")
    assert made.image.sizes is not None
    assert made.image.sizes.outer_flash_bytes < program.flashes[0].nbytes


def test_a_state_survives_in_two_memories(tmp_path: Path) -> None:
    whole = make_program(recurrent(), "net", target_named("cortex-m7")).arena_bytes
    board = two_memories(tmp_path, fast=whole // 2)
    program = make_program(recurrent(), "net", board)
    assert len(program.regions) == 2
    check_build(program, board, tmp_path / "build")


def test_stripes_of_rows_in_two_memories_compute_the_same_bytes(tmp_path: Path) -> None:
    board = two_memories(tmp_path, fast=512, slow=1900)
    program = make_program(convolutional(), "net", board)
    assert program.streamed and len(program.regions) == 2
    check_build(program, board, tmp_path / "build")


def test_most_accesses_are_to_the_fast_memory(tmp_path: Path) -> None:
    board = two_memories(tmp_path, fast=1500)
    program = make_program(convolutional(), "net", board)
    fast, slow = program.regions
    assert fast.nbytes < slow.nbytes
    counts = [0, 0]

    def count(uc: object, access: int, address: int, size: int, value: int, user: object) -> None:
        if address >= EMULATED_LAYOUT.arenas:
            counts[(address - EMULATED_LAYOUT.arenas) // EMULATED_LAYOUT.gap] += size

    made = check_build(program, board, tmp_path / "build")
    samples = random_samples(program.graph, np.random.default_rng(0), 1)
    with UnicornRunner(made.image, board) as runner:
        kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
        runner._uc.hook_add(kinds, count)
        list(runner.run(device_samples(program.graph, samples), count="none"))
    assert counts[0] > 2 * counts[1]
