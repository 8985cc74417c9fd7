"""Which kernel a layer gets: by the cost model, by measured costs, by name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from support.kernel_edges import conv, dense, depthwise
from support.merge import merge
from tinsmith.codegen.choice import BY_ORDER, JUSTIFIED_BYTES, JUSTIFIED_RATIO, usable_kernels
from tinsmith.codegen.cost import QUANTITIES, Cost, dims_of, estimate
from tinsmith.codegen.cost_table import TABLE
from tinsmith.codegen.emit import emit
from tinsmith.codegen.kernels import KERNELS
from tinsmith.codegen.lower import OBJECTIVES, LowerOptions, lower
from tinsmith.pipeline.graph import DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.ops import OpCall, call_of
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.targets.cores import CORES

DSP = ("dsp", "c")
ISAS = (DSP, ("m3", "c"), ("m0", "c"))
SAME = (1, 1, 1, 1)


def call_in(graph: Graph) -> OpCall:
    return call_of(graph, graph.nodes[0])


@pytest.fixture(scope="module")
def square() -> Graph:
    """A 3x3 convolution of 16 to 16 channels."""
    return conv(np.random.default_rng(0), (1, 16, 16, 16), 16, (3, 3), Conv2dAttrs(pads=SAME))


def first(graph: Graph, isa: tuple[str, ...], objective: str = "balanced") -> str:
    return usable_kernels(graph, isa, objective)[graph.nodes[0].name][0].name


def specific() -> Iterator[tuple[str, str]]:
    """(set, kernel) of every kernel that is written for cores with a set of instructions."""
    for core in CORES:
        for kernel in KERNELS:
            if kernel.isa != "c" and kernel.isa == core.isa[0]:
                yield kernel.isa, kernel.name


@pytest.mark.parametrize(("isa", "kernel"), sorted(set(specific())))
def test_every_kernel_that_is_not_plain_c_has_its_costs_in_the_table(isa: str, kernel: str) -> None:
    assert kernel in TABLE[isa] or kernel in BY_ORDER, (
        f"name {kernel} in bench/fit_costs.py and run it"
    )


@pytest.mark.parametrize("isa", sorted(TABLE))
def test_the_table_has_the_plain_c_kernel_of_every_op_and_no_kernel_that_is_gone(isa: str) -> None:
    by_name = {k.name: k for k in KERNELS}
    assert set(TABLE[isa]) <= set(by_name)
    for op in {by_name[name].op for name in TABLE[isa]}:
        assert any(by_name[n].op == op and by_name[n].isa == "c" for n in TABLE[isa])


def test_the_table_is_made_of_known_quantities_and_adds_nothing_below_zero() -> None:
    for kernels in TABLE.values():
        for fields in kernels.values():
            assert set(fields) == {"instructions", "code_bytes", "constant_bytes"}
            for terms in fields.values():
                assert set(terms) <= set(QUANTITIES)
                assert min(terms.values(), default=0) >= 0


@pytest.mark.parametrize("isa", ISAS)
def test_the_arrays_of_a_layer_are_estimated_well(isa: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    layers = [
        conv(rng, (1, 8, 8, 16), 24, (1, 1), Conv2dAttrs()),
        conv(rng, (1, 9, 7, 5), 12, (3, 3), Conv2dAttrs(pads=SAME)),
        depthwise(rng, (1, 8, 8, 24), DepthwiseConv2dAttrs(pads=SAME)),
        dense(rng, 1, 64, 32),
    ]
    seen = 0
    for graph in layers:
        for kernel in usable_kernels(graph, isa, "ram")[graph.nodes[0].name]:
            cost = estimate(kernel.name, call_in(graph), isa)
            if cost is not None:
                seen += 1
                real = sum(c.nbytes for c in kernel.plan(call_in(graph)).constants)
                assert cost.constant_bytes == pytest.approx(real, rel=0.15)
    assert seen > len(layers)


def test_a_window_of_one_pixel_is_read_where_it_lies(square: Graph) -> None:
    rng = np.random.default_rng(2)
    pointwise = dims_of(call_in(conv(rng, (1, 4, 5, 8), 8, (1, 1), Conv2dAttrs())))
    windows = dims_of(call_in(square))
    assert pointwise is not None and windows is not None
    assert (pointwise.gathered, pointwise.border, pointwise.taps) == (0, 0, 8)
    assert (windows.gathered, windows.border, windows.taps) == (256 * 144, 60, 144)


def test_time_takes_winograd_where_balanced_finds_its_flash_unjustified(square: Graph) -> None:
    assert first(square, DSP, "time") == "conv2d_winograd"
    assert first(square, DSP, "balanced") == "conv2d_dsp"
    winograd = estimate("conv2d_winograd", call_in(square), DSP)
    plain = estimate("conv2d_c", call_in(square), DSP)
    assert winograd is not None and plain is not None
    assert winograd.flash_bytes > JUSTIFIED_RATIO * plain.flash_bytes + JUSTIFIED_BYTES


@pytest.mark.parametrize("isa", ISAS[1:])
def test_one_pixel_goes_by_plain_c_where_tiles_make_four_or_eight(isa: tuple[str, ...]) -> None:
    rng = np.random.default_rng(3)
    one = conv(rng, (1, 1, 1, 32), 32, (1, 1), Conv2dAttrs())
    many = conv(rng, (1, 8, 8, 32), 32, (1, 1), Conv2dAttrs())
    assert first(one, isa) == "conv2d_c"
    assert first(many, isa) != "conv2d_c"


@pytest.mark.parametrize("size", [4, 5])
def test_few_pixels_at_stride_two_go_by_plain_c_where_lines_are_laid_anew(size: int) -> None:
    """Measured on a Cortex-M3: from a line they take 1.6 and 1.3 times as many instructions."""
    attrs = DepthwiseConv2dAttrs((2, 2), pads=SAME)
    small = depthwise(np.random.default_rng(7), (1, size, size, 84), attrs)
    large = depthwise(np.random.default_rng(7), (1, 24, 24, 8), attrs)
    assert first(small, ISAS[1]) == "depthwise_conv2d_c"
    assert first(large, ISAS[1]) == "depthwise_line_m3"


@pytest.mark.parametrize("isa", ISAS[1:])
def test_a_large_dense_layer_gets_the_kernel_that_is_a_tenth_faster(isa: tuple[str, ...]) -> None:
    graph = dense(np.random.default_rng(9), 1, 640, 128)
    assert first(graph, isa) == f"fully_connected_fours_{isa[0]}"


@pytest.mark.parametrize("isa", ISAS[1:])
def test_flash_that_a_layer_is_not_worth_is_taken_for_time_alone(isa: tuple[str, ...]) -> None:
    wide = conv(np.random.default_rng(8), (1, 8, 8, 64), 64, (1, 1), Conv2dAttrs())
    eights = f"conv2d_eights_{isa[0]}"
    assert first(wide, isa, "time") == eights
    for objective in ("balanced", "ram", "size"):
        names = [k.name for k in usable_kernels(wide, isa, objective)[wide.nodes[0].name]]
        assert eights not in names


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("objective", ["balanced", "time"])
def test_nothing_is_chosen_that_the_model_says_is_slower_than_plain_c(
    isa: tuple[str, ...], objective: str
) -> None:
    rng = np.random.default_rng(4)
    layers = [
        conv(rng, (1, h, w, c), out, kernel, Conv2dAttrs())
        for h, w in ((3, 3), (5, 8), (12, 12)) for c in (1, 4, 10) for out in (1, 2, 8)
        for kernel in ((1, 1), (3, 3))
    ]  # fmt: skip
    for graph in layers:
        (taken, *_) = usable_kernels(graph, isa, objective)[graph.nodes[0].name]
        cost, plain = (estimate(k, call_in(graph), isa) for k in (taken.name, "conv2d_c"))
        assert cost is not None and plain is not None
        assert cost.instructions <= plain.instructions


def test_measured_costs_count_before_the_model(square: Graph) -> None:
    name = square.nodes[0].name
    costs = {
        "conv2d_winograd": Cost(900, 100, 100),
        "conv2d_dsp": Cost(901, 100, 100),
        "conv2d_c": Cost(899, 100, 100),
    }

    def taken(objective: str) -> str:
        return usable_kernels(square, DSP, objective, measured={name: costs})[name][0].name

    assert [taken(o) for o in ("balanced", "time")] == ["conv2d_c"] * 2
    costs["conv2d_c"] = Cost(1000, 10, 10)
    assert taken("time") == "conv2d_winograd"
    costs["conv2d_winograd"] = Cost(900, 100, 10_000)
    assert (taken("time"), taken("balanced")) == ("conv2d_winograd", "conv2d_dsp")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_layer_gets_the_kernel_that_is_named_for_it(square: Graph, objective: str) -> None:
    for kernel in ("conv2d_c", "conv2d_dsp", "conv2d_winograd"):
        options = LowerOptions(objective, choice={square.nodes[0].name: kernel})
        assert list(lower(square, "net", DSP, options).kernels.values()) == [kernel]


def test_a_kernel_that_cannot_compute_its_layer_is_not_forced(square: Graph) -> None:
    options = LowerOptions(choice={square.nodes[0].name: "fully_connected_c"})
    assert list(lower(square, "net", DSP, options).kernels.values()) == ["conv2d_dsp"]


@pytest.mark.parametrize("isa", ISAS)
def test_size_takes_the_fewest_bytes_of_all_the_layers_together(isa: tuple[str, ...]) -> None:
    rng = np.random.default_rng(5)
    graph = merge("net", [dense(rng, 1, inputs, 8) for inputs in (16, 32, 64)])
    flash = {o: _flash(graph, isa, o) for o in ("size", "balanced", "time")}
    assert flash["size"] <= min(flash.values())


def _flash(graph: Graph, isa: tuple[str, ...], objective: str) -> float:
    """The arrays, and the functions of each kernel once."""
    program = lower(graph, "net", isa, LowerOptions(objective))
    code = {}
    for step, node in zip(program.steps, graph.nodes, strict=True):
        cost = estimate(step.kernel, call_of(graph, node), isa)
        assert cost is not None
        code[step.kernel] = max(code.get(step.kernel, 0), cost.code_bytes)
    return sum(code.values()) + sum(c.nbytes for c in program.constants)


def test_a_dense_row_has_no_kernel_for_several_rows_among_its_candidates() -> None:
    graph = dense(np.random.default_rng(6), 1, 16, 8)
    usable = usable_kernels(graph, DSP, "ram")[graph.nodes[0].name]
    assert {k.name for k in usable} == {"fully_connected_dsp", "fully_connected_c"}
    for kernel in usable:
        choice = {graph.nodes[0].name: kernel.name}
        assert emit(lower(graph, "net", DSP, LowerOptions(choice=choice))).model


def added(size: int, y_scale: float) -> Graph:
    builder = GraphBuilder("added")
    shape = (1, size)
    names = [
        builder.input(name, shape, DType.INT8, QuantParams.per_tensor(scale, 3))
        for name, scale in (("a", 0.05), ("b", 0.04))
    ]
    quant = QuantParams.per_tensor(y_scale, 5)
    return builder.build([builder.node("add", names, AddAttrs(), quant=quant)])


@pytest.mark.parametrize(("isa", "limited"), [(DSP, "dsp"), (("m3", "c"), "m3")])
def test_sums_that_need_no_limit_are_left_to_plain_c_where_they_are_few(
    isa: tuple[str, ...], limited: str
) -> None:
    def chosen(size: int, y_scale: float) -> str:
        ((kernel,),) = usable_kernels(added(size, y_scale), isa, "time").values()
        return kernel.name

    assert {chosen(size, 0.11) for size in (1, 3, 9)} == {"add_weighted"}
    assert {chosen(size, 0.07) for size in (8, 100, 5000)} == {f"add_saturated_{limited}"}
