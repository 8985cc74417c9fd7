"""Chains of layers in stripes of rows: which there are, what they need, and what proves them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from support.chains import any_chain_networks, chain_network, encoder, in_stripes, pooled
from support.nets import Net
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import MOVE, SUM, Loop, Program, Step
from tinsmith.codegen.row_windows import part_of, row_windows
from tinsmith.codegen.summaries import streaming_summary
from tinsmith.codegen.verify import verify
from tinsmith.pipeline.analysis import analyze
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.graph import DType, Graph
from tinsmith.pipeline.ops import call_of
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.targets.target import target_named

M4 = ("dsp", "c")


def made_in_stripes() -> Program:
    program = lower(encoder(), "net", M4, LowerOptions("ram"))
    assert program.streamed
    return program


def two_convs(batch: int) -> Graph:
    net = Net("net", np.random.default_rng(0))
    x = net.input((batch, 20, 8, 4))
    for channels in (16, 4):
        w = net.weights((channels, 3, 3, net.shape(x)[3]), x, axis=0)
        x = net.node("conv2d", [x, w, net.bias(w, x, channels)], Conv2dAttrs(pads=(1, 1, 1, 1)))
    return net.graph([x])


def test_stripes_need_less_ram_and_no_more_weights() -> None:
    whole, program = lower(encoder(), "net", M4), made_in_stripes()
    assert program.arena_bytes < whole.arena_bytes * 2 // 3
    assert program.whole_arena_bytes == whole.arena_bytes
    assert program.weight_bytes == whole.weight_bytes
    assert program.kernels.keys() == whole.kernels.keys()


@pytest.mark.parametrize("first", [100, 110, 120])
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "cortex-m0plus"])
def test_any_chains_are_proven(first: int, target: str) -> None:
    graph = any_chain_networks(range(first, first + 5), DType.INT8)
    program = in_stripes(graph, target_named(target).isa, np.random.default_rng(first))
    assert program.streamed
    assert program.arena_bytes >= program.arena_lower_bound


def test_stripes_that_make_nothing_are_left_out() -> None:
    program = in_stripes(chain_network(762), M4, np.random.default_rng(762))
    assert program.streamed
    assert [place for place, _ in program.run()]


def test_every_row_is_made_once() -> None:
    program = made_in_stripes()
    for layer in program.streamed:
        parts = [s.outs[0] for _, s in program.run() if s.node.name == layer]
        tensor = program.graph.tensors[
            next(s for s in program.steps if s.node.name == layer).node.outputs[0]
        ]
        assert [p.start for p in parts] == list(np.cumsum([0, *(p.nbytes for p in parts[:-1])]))
        assert sum(p.nbytes for p in parts) == tensor.nbytes


def test_stripes_that_are_alike_are_a_loop() -> None:
    program = made_in_stripes()
    assert len(program.steps) < len(list(program.run())) // 2
    text = emit(program).model["net.c"]
    assert text.count("for (int32_t stripe = 0; stripe < ") == len(program.loops)
    assert " * stripe]" in text
    assert "a round */" in text


@pytest.mark.parametrize(("isa", "shared"), [(M4, True), (("m0", "c"), False)])
def test_layers_in_stripes_share_functions_unless_registers_are_few(
    isa: tuple[str, ...], shared: bool
) -> None:
    program = lower(encoder(), "net", isa, LowerOptions("ram"))
    calls = re.findall(r"/\* (\w+): .*\n +(\w+)\(", emit(program).model["net.c"])
    found = {(layer, function) for layer, function in calls if layer in program.streamed}
    functions = [function for _, function in found]
    assert {layer for layer, _ in found} == {*program.streamed}
    assert (len(functions) > len(set(functions))) == shared


def changed(program: Program, place: int, step: Step) -> Program:
    return replace(program, steps=(*program.steps[:place], step, *program.steps[place + 1 :]))


def first_move(program: Program) -> int:
    return next(i for i, s in enumerate(program.steps) if s.node.op == MOVE)


def without(program: Program, place: int) -> Program:
    loops = tuple(
        Loop(o.first - (o.first > place), o.end - (o.end > place), o.rounds) for o in program.loops
    )
    return replace(
        program, steps=(*program.steps[:place], *program.steps[place + 1 :]), loops=loops
    )


def test_the_proof_finds_rows_that_were_not_moved() -> None:
    program = made_in_stripes()
    with pytest.raises(AssertionError, match="overwritten before it is read"):
        verify(without(program, first_move(program)))


def test_the_proof_finds_rows_at_the_wrong_place() -> None:
    program = made_in_stripes()
    place = first_move(program)
    step = program.steps[place]
    low = replace(step.outs[0], offset=step.outs[0].offset + 4)
    with pytest.raises(AssertionError):
        verify(changed(program, place, replace(step, outs=(low,))))


def test_the_proof_finds_a_loop_of_too_many_rounds() -> None:
    program = made_in_stripes()
    loop = program.loops[0]
    longer = replace(loop, rounds=loop.rounds + 1)
    with pytest.raises(AssertionError):
        verify(replace(program, loops=(longer, *program.loops[1:])))


def test_the_proof_finds_a_kernel_that_is_told_of_other_rows() -> None:
    program = made_in_stripes()
    for place, step in enumerate(program.steps):
        if step.node.op == "conv2d" and program.is_part(step):
            wrong = replace(step.plan, shape={**step.plan.shape, "in_h": 99})
            with pytest.raises(AssertionError, match=step.node.name):
                verify(changed(program, place, replace(step, plan=wrong)))


def test_several_images_are_not_made_in_stripes() -> None:
    assert lower(two_convs(1), "net", M4, LowerOptions("ram")).streamed
    assert not lower(two_convs(2), "net", M4, LowerOptions("ram")).streamed


def test_inputs_that_are_kept_stay_whole() -> None:
    program = lower(encoder(), "net", M4, LowerOptions("ram", preserve_inputs=True))
    ((_, view),) = program.inputs
    for _, step in program.run():
        for out in (*step.outs, *([step.scratch] if step.scratch else [])):
            apart = (
                out.offset + out.nbytes <= view.offset or view.offset + view.nbytes <= out.offset
            )
            assert apart, step.node.name


def test_a_part_of_a_window_reads_the_rows_that_it_needs() -> None:
    graph = two_convs(1)
    call = call_of(graph, graph.nodes[0])
    windows = row_windows(call)
    assert windows is not None
    for begin, end, rows, pads in (
        (0, 3, (0, 4), (1, 0)),
        (5, 6, (4, 7), (0, 0)),
        (18, 20, (17, 20), (0, 1)),
        (0, 20, (0, 20), (1, 1)),
    ):
        part = part_of(call, windows, begin, end)
        assert part is not None
        assert part[1] == {0: rows}
        assert part[0].attrs.pads == (*pads, 1, 1)
        assert part[0].output.shape[1] == end - begin


def test_a_preflight_tells_of_stripes_and_their_cost() -> None:
    graph, target = encoder(), target_named("cortex-m4")
    program = lower(graph, "net", target.isa, LowerOptions("ram"))
    text = analyze(graph, target, CodeOptions("ram")).streaming
    assert text == streaming_summary(program)
    assert all(name in text for name in program.streamed)
    assert f"{program.arena_bytes:,} bytes instead of {program.whole_arena_bytes:,}" in text
    assert not analyze(graph, target).streaming


@pytest.mark.parametrize("op", ["mean", "average_pool2d"])
def test_a_pixel_of_a_whole_image_is_made_of_sums_of_rows(op: str) -> None:
    whole, program = lower(pooled(op), "net", M4), lower(pooled(op), "net", M4, LowerOptions("ram"))
    assert program.arena_bytes < whole.arena_bytes // 2
    assert len(program.streamed) == 2
    assert [s.node.name for s in program.layers] == [s.node.name for s in whole.layers]
    assert program.kernels[program.layers[-1].node.name] == "pixel_of_sums"


def test_the_proof_finds_rows_that_are_not_in_the_sums() -> None:
    program = lower(pooled("mean"), "net", M4, LowerOptions("ram"))
    place = max(i for i, s in enumerate(program.steps) if s.node.op == SUM)
    with pytest.raises(AssertionError):
        verify(without(program, place))
