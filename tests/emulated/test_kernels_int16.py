"""int16 layers on cores that multiply two pairs at once, at the edges; the C models on the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cases_int16_mac import INT16_MAC_CASES
from support.case import Case
from support.kernel_edges import check
from support.mac_cases import ConvSpec, FcSpec, conv_case, fully_connected_case
from support.merge import merge
from tinsmith.codegen.kernels import kernels_of, wide_dsp, wide_pays
from tinsmith.codegen.kernels.mac import window_overlap
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.graph import Activation, DType, Graph
from tinsmith.pipeline.ops import OpCall, call_of
from tinsmith.pipeline.tuning import measure_kernel
from tinsmith.pipeline.validation import random_samples
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import sanitizers_available

DSP = CORES_BY_NAME["cortex-m4"].isa
M4 = target_named("cortex-m4")
RELU, NONE = Activation.RELU, Activation.NONE


@pytest.fixture
def at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels also take layers on which plain C is faster."""
    for op in ("conv2d", "fully_connected"):
        monkeypatch.setattr(wide_dsp, f"{op}_pays", lambda call: True)


def filled(graph: Graph, value: int) -> Graph:
    """The same graph with all weights of one value."""
    name = graph.nodes[0].inputs[1]
    w = graph.tensors[name]
    tensors = {**graph.tensors, name: replace(w, data=np.full(w.shape, value, np.int8))}
    return replace(graph, tensors=tensors)


def edges() -> list[Graph]:
    """Every remainder of pixels, channels and taps; strides, borders and extreme weights."""
    specs = [
        ConvSpec("point", (1, 1, pixels, taps), 1 + (pixels + i) % 4, (1, 1),
                 activation=(NONE, RELU)[i % 2])
        for pixels in (1, 2, 3) for i, taps in enumerate((1, 2, 3, 8, 18))
    ]  # fmt: skip
    specs += [
        ConvSpec("window", (n, 5, 6, c), out, (3, 2), stride, pads=pads, saturate=0.05)
        for n, c, out, stride in ((1, 1, 3, (1, 1)), (1, 2, 2, (2, 2)), (2, 3, 5, (1, 2)))
        for pads in ("valid", "same", (3, 0, 0, 4))
    ]  # fmt: skip
    specs += [
        ConvSpec("rows", (1, 9, 5, 2), 3, (3, 3), (1, 1), (2, 1), pads="same"),
        ConvSpec("tensor", (1, 3, 3, 4), 4, (3, 3), pads="same", per_channel=False),
    ]
    dense = [
        FcSpec("dense", (rows, inputs), inputs, outputs, per_channel=bool(inputs % 2))
        for rows, outputs in ((1, 1), (1, 8), (2, 3), (3, 6)) for inputs in (1, 2, 3, 6, 13)
    ]  # fmt: skip
    rng = np.random.default_rng(11)
    graphs = [conv_case(replace(s, dtype=DType.INT16)).build(rng) for s in specs]
    graphs += [fully_connected_case(replace(s, dtype=DType.INT16)).build(rng) for s in dense]
    wide = conv_case(ConvSpec("wide", (1, 2, 2, 64), 8, (1, 1), dtype=DType.INT16))
    graphs += [filled(wide.build(rng), value) for value in (127, -127, -128, 1, 0)]
    return graphs


@pytest.mark.usefixtures("at_every_size")
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33"])
def test_the_kernels_equal_the_interpreter_at_every_edge(target: str, tmp_path: Path) -> None:
    check([merge("edges", edges())], target, tmp_path, 4)


@pytest.mark.usefixtures("at_every_size")
def test_their_c_models_give_the_same_bytes_on_the_host(tmp_path: Path) -> None:
    graph = merge("edges", edges()[::3])
    check([graph], "host", tmp_path, 4, isa=DSP, sanitize=sanitizers_available())


def case(op: str, name: str) -> Graph:
    found = next(c for c in INT16_MAC_CASES[op] if c.name == f"int16_{name}")
    return found.build(np.random.default_rng(0))


@pytest.mark.usefixtures("at_every_size")
@pytest.mark.parametrize(
    ("op", "name", "kernel"),
    [
        ("conv2d", "three_by_three", "conv2d_int16_dsp"),
        ("conv2d", "pointwise", "conv2d_int16_dsp"),
        ("conv2d", "wrapping_short_bias", "conv2d_int16_dsp"),
        ("conv2d", "large_bias", "conv2d_int16"),
        ("conv2d", "deep", "conv2d_int16"),
        ("conv2d", "dilated", "conv2d_int16"),
        ("conv2d", "grouped", "conv2d_int16"),
        ("fully_connected", "small", "fully_connected_int16_dsp"),
        ("fully_connected", "large_bias", "fully_connected_int16"),
    ],
)
def test_the_pairs_are_for_sums_that_fit_an_int32(op: str, name: str, kernel: str) -> None:
    graph = case(op, name)
    call = call_of(graph, graph.nodes[0])
    assert next(k.name for k in kernels_of(op, DSP) if k.when(call)) == kernel


@pytest.mark.usefixtures("at_every_size")
@pytest.mark.parametrize(
    "case",
    [
        conv_case(ConvSpec("point", (1, 4, 4, 32), 8, (1, 1), dtype=DType.INT16)),
        conv_case(ConvSpec("window", (1, 6, 6, 3), 4, (3, 3), pads="same", dtype=DType.INT16)),
        # Half of what the tiles make is thrown away.
        conv_case(ConvSpec("channel", (1, 6, 6, 8), 1, (3, 3), pads="same", dtype=DType.INT16)),
        # Eight of nine taps are border, which plain C leaves out.
        conv_case(ConvSpec("border", (1, 1, 1, 16), 8, (3, 3), pads="same", dtype=DType.INT16)),
        fully_connected_case(FcSpec("dense", (1, 32), 32, 8, dtype=DType.INT16)),
        fully_connected_case(FcSpec("one", (1, 32), 32, 1, dtype=DType.INT16)),
    ],
    ids=lambda case: case.name,
)
def test_pairs_are_taken_where_they_are_faster(case: Case) -> None:
    graph = case.build(np.random.default_rng(0))
    call = call_of(graph, graph.nodes[0])
    pairs, plain = (
        measure_kernel(graph, f"{call.op}_{kind}", M4, random_samples(graph, 1)).instructions
        for kind in ("int16_dsp", "int16")
    )
    pays = wide_pays.conv2d_pays if call.op == "conv2d" else wide_pays.fully_connected_pays
    assert pays(call) == (pairs < plain), f"{pairs:.0f} instead of {plain:.0f} instructions"


def test_a_layer_on_int16_overlaps_its_input_by_twice_the_bytes_of_int8() -> None:
    def call(dtype: DType) -> OpCall:
        spec = ConvSpec("net", (1, 9, 8, 3), 5, (3, 3), (2, 1), pads="same", dtype=dtype)
        graph = conv_case(spec).build(np.random.default_rng(0))
        return call_of(graph, graph.nodes[0])

    narrow, wide = (window_overlap(call(t), reads_first=True) for t in (DType.INT8, DType.INT16))
    np.testing.assert_array_equal(wide.read_low, 2 * narrow.read_low)
    np.testing.assert_array_equal(wide.write_high, 2 * narrow.write_high)
    assert wide.max_delta() == 2 * narrow.max_delta()


def test_a_layer_of_one_window_a_pixel_writes_over_its_input() -> None:
    spec = ConvSpec("net", (1, 6, 6, 8), 8, (3, 3), pads="same", dtype=DType.INT16)
    graph = conv_case(spec).build(np.random.default_rng(0))
    program = lower(graph, "net", DSP)
    tensor = 6 * 6 * 8 * 2
    assert program.arena_bytes < 2 * tensor
