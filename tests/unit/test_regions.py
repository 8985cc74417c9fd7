"""Several memories: what goes where, what is refused, and what the C says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.boards import two_memories
from support.nets import Net
from support.networks import convolutional, recurrent
from support.random_network import random_network
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Memory, Program
from tinsmith.codegen.verify import verify
from tinsmith.pipeline.analysis import analyze
from tinsmith.pipeline.code_options import CodeOptions, parse_memories
from tinsmith.pipeline.deployment import CODE_RESERVE_BYTES, make_program
from tinsmith.pipeline.errors import ConfigError, DoesNotFit
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.targets.target import target_named

DSP = ("dsp", "c")


def memories(fast: int, slow: int = 1 << 20) -> tuple[Memory, ...]:
    return Memory("tcm", 0, ".bss.tcm", fast), Memory("sram", 0, "", slow)


def split(graph: Graph, fast: int, slow: int = 1 << 20) -> Program:
    return lower(graph, "net", DSP, LowerOptions(memories=memories(fast, slow)))


def regions_of(program: Program) -> dict[str, str]:
    return {b.name: b.region for b in program.buffers}


def dense_after_convolution() -> Graph:
    """A convolution that reads its 576 weights at 64 places, a dense layer its 5,120 once."""
    net = Net("net", np.random.default_rng(3))
    x = net.input((1, 8, 8, 8))
    w = net.weights((8, 3, 3, 8), x, axis=0)
    x = net.node("conv2d", [x, w, net.bias(w, x, 8)],
                 Conv2dAttrs(pads=(1, 1, 1, 1)), name="conv")  # fmt: skip
    w = net.weights((10, 512), x)
    x = net.node("reshape", [x], ReshapeAttrs((1, 512)))
    x = net.node("fully_connected", [x, w, net.bias(w, x, 10)], FullyConnectedAttrs(), name="dense")
    return net.graph([x])


def test_a_model_that_fits_the_fastest_memory_lies_there_as_a_whole() -> None:
    plain = lower(convolutional(), "net", DSP)
    program = split(convolutional(), plain.arena_bytes)
    assert program.regions == (Memory("tcm", plain.arena_bytes, ".bss.tcm", plain.arena_bytes),)
    sources, other = emit(program).model, emit(plain).model
    assert sources["net.c"] == other["net.c"]
    assert sources["net_weights.h"] == other["net_weights.h"]
    assert '__attribute__((section(".bss.tcm")))' in sources["net.h"]
    assert "static net_t ctx NET_TCM_SECTION;" in sources["net.h"]


def test_a_slower_memory_without_a_section_changes_nothing_where_it_takes_all() -> None:
    graph = convolutional()
    assert emit(split(graph, 0)).model == emit(lower(graph, "net", DSP)).model


def test_what_the_kernels_use_most_lies_in_the_fast_memory() -> None:
    graph = convolutional()
    program = split(graph, 1500)
    where = regions_of(program)
    # Scratch is read for every output channel; the first layer's image is the largest of all.
    assert {r for n, r in where.items() if n.startswith("scratch")} == {"tcm"}
    assert where[graph.nodes[0].outputs[0]] == "sram"
    assert [m.name for m in program.regions] == ["tcm", "sram"]
    assert program.regions[0].nbytes <= 1500
    assert program.arena_bytes == sum(m.nbytes for m in program.regions)
    assert program.arena_bytes >= program.arena_lower_bound


def test_random_networks_fit_the_memories_or_are_known_not_to() -> None:
    several = 0
    for seed in range(12):
        graph = random_network(seed)
        whole = lower(graph, "net", ("c",)).arena_bytes
        for share in (0.2, 0.5, 0.8):
            options = LowerOptions(memories=memories(int(whole * share)))
            program = lower(graph, "net", ("c",), options)  # proven by `verify` on the way
            assert all(m.nbytes <= (m.limit_bytes or 0) for m in program.regions)
            again = lower(graph, "net", ("c",), options)
            assert (again.buffers, again.regions) == (program.buffers, program.regions)
            several += len(program.regions) == 2
    assert several > 10


def test_the_proof_tells_a_byte_of_one_memory_from_that_of_another() -> None:
    program = split(convolutional(), 1500)
    fast = [s for s in program.steps if s.scratch is not None and s.scratch.region == "tcm"]
    step = next(s for s in fast if any(v is not None and v.region == "sram" for v in s.ins))
    at = program.steps.index(step)
    source = next(v for v in step.ins if v is not None)
    assert step.scratch is not None
    moved = replace(step.scratch, region=source.region, offset=source.offset)
    steps = (*program.steps[:at], replace(step, scratch=moved), *program.steps[at + 1 :])
    with pytest.raises(AssertionError, match=r"overwritten before it is read|scratch"):
        verify(replace(program, steps=steps))


def test_a_memory_that_is_too_small_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    board = two_memories(tmp_path, fast=64, slow=128)
    with pytest.raises(
        DoesNotFit,
        match=r"RAM 'sram': needs [\d,]+ bytes, the model may take 128: [\d,]+ too many; beside "
        r"it [\d,]+ of 64 bytes of 'tcm' are used; the most are alive in '\w+' \(.*Use -O ram",
    ):
        make_program(convolutional(), "net", board)


def test_one_arena_may_span_memories_that_are_adjacent() -> None:
    board = target_named("nucleo-f746zg")
    graph = convolutional(size=192, channels=8)  # one image of 294,912 bytes
    assert graph.tensors[graph.nodes[0].outputs[0]].nbytes > 262_144
    program = make_program(graph, "net", board)
    assert program.regions == () and 262_144 < program.arena_bytes <= 327_680


def test_weights_that_do_not_fit_leave_the_least_read_first() -> None:
    graph = dense_after_convolution()
    flashes = (Memory("qspi", 0, ".rodata.qspi", 1 << 20),)
    whole = lower(graph, "net", DSP)
    total = sum(c.nbytes for c in whole.constants)
    options = LowerOptions(own_flash_bytes=total - 1000, flashes=flashes)
    program = lower(graph, "net", DSP, options)
    outside = [c for c in program.constants if c.flash]
    assert outside and all(c.name.startswith("dense") for c in outside)
    assert program.flashes == (replace(flashes[0], nbytes=sum(c.nbytes for c in outside)),)
    assert program.weight_bytes == whole.weight_bytes
    text = emit(program).model["net_weights.h"]
    assert text.count(" NET_QSPI_SECTION = {") == len(outside)
    assert '#define NET_QSPI_SECTION __attribute__((section(".rodata.qspi")))' in text
    assert lower(graph, "net", DSP, replace(options, own_flash_bytes=total)).flashes == ()


def test_weights_that_fit_no_flash_are_refused(tmp_path: Path) -> None:
    own = CODE_RESERVE_BYTES + 1000
    board = two_memories(tmp_path, flash=own, outer_flash=2000)
    with pytest.raises(DoesNotFit, match=r"flash 'qspi': needs [\d,]+ bytes, .* take 2,000: "):
        make_program(dense_after_convolution(), "net", board)


def test_analyze_shows_what_each_memory_holds(tmp_path: Path) -> None:
    board = two_memories(tmp_path, fast=1500, flash=CODE_RESERVE_BYTES + 1000)
    report = analyze(dense_after_convolution(), board)
    assert {(m.name, m.kind, m.fits) for m in report.memories} >= {("qspi", "flash", True)}
    report = analyze(convolutional(), board)
    used = {m.name: m.nbytes for m in report.memories if m.kind == "ram"}
    assert set(used) == {"tcm", "sram"} and report.fits
    for place in report.buffers:
        assert place.offset + place.nbytes <= used[place.memory]
    assert analyze(convolutional(), two_memories(tmp_path, fast=64, slow=64)).fits is False


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("tcm", "--memory tcm: allowed: NAME=BYTES"),
        ("tcm=12k", "allowed: NAME=BYTES, like dtcm=65536"),
        ("itcm=5", "has no memory 'itcm'; allowed: flash, qspi, tcm, sram"),
        ("tcm=5000", "memory 'tcm' of board: 5,000 bytes; allowed: 0 to 4,096"),
    ],
)
def test_a_wrong_limit_says_what_is_allowed(tmp_path: Path, flag: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        parse_memories([flag], two_memories(tmp_path))


def test_limits_bind_the_targets_that_have_the_memory(tmp_path: Path) -> None:
    options = CodeOptions(memories=(("flash", 40_000), ("sram", 5000), ("tcm", 0)))
    limited = options.limited(two_memories(tmp_path))
    assert limited.flash_bytes == 40_000
    assert [(r.name, r.bytes) for r in limited.arena_regions] == [("sram", 5000)]
    assert options.limited(target_named("cortex-m4")) == target_named("cortex-m4")


def test_the_state_may_lie_in_any_memory() -> None:
    whole = lower(recurrent(), "net", DSP).arena_bytes
    program = split(recurrent(), whole // 2)
    assert len(program.regions) == 2
    header = emit(replace(program, caller_arena=True)).model["net.h"]
    assert "int net_init(net_t *ctx, void *tcm_arena, void *sram_arena);" in header
    assert "hold the state from run to run" in header


def test_layers_are_made_in_stripes_where_whole_tensors_fit_no_memory(tmp_path: Path) -> None:
    board = two_memories(tmp_path, fast=512, slow=1900)
    program = make_program(convolutional(), "net", board)
    assert program.streamed and all(not m.excess_bytes for m in program.regions)
    roomy = make_program(convolutional(), "net", two_memories(tmp_path, fast=1500, slow=4096))
    assert not roomy.streamed and len(roomy.regions) == 2
