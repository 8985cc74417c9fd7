"""3x3 convolutions by Winograd at their edges, on emulated cores; their C models on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.kernel_edges import check, conv, lowered
from support.merge import merge
from support.nets import Net
from tinsmith.codegen.kernels.dsp_winograd import transformed
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.graph import Activation, Graph, QuantParams
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.toolchains import sanitizers_available

DSP = CORES_BY_NAME["cortex-m4"].isa
NONE, RELU = Activation.NONE, Activation.RELU
SAME = (1, 1, 1, 1)
PADS = (SAME, (0, 0, 0, 0), (0, 1, 0, 1), (2, 2, 2, 2), (0, 3, 2, 0))


def attrs(pads: tuple[int, int, int, int], activation: Activation = NONE) -> Conv2dAttrs:
    return Conv2dAttrs(pads=pads, activation=activation)


def clamped(rng: np.random.Generator, channels: int, out: int) -> Graph:
    """An activation whose bounds lie inside the range of int8."""
    net = Net("clamped", rng)
    x = net.input((1, 4, 6, channels), 0.05, 3)
    w = net.weights((out, 3, 3, channels), x, axis=0)
    quant = QuantParams.per_tensor(0.04, -100)
    operands = [x, w, net.bias(w, x, out)]
    return net.graph([net.node("conv2d", operands, attrs(SAME, Activation.RELU6), quant=quant)])


def chain(
    rng: np.random.Generator, image: tuple[int, ...], pads: tuple[int, int, int, int]
) -> Graph:
    """Convolutions one after another: in the arena, outputs lie over inputs as far as they may."""
    net = Net("chain", rng)
    x = net.input(image)
    for _ in range(4):
        w = net.weights((image[3], 3, 3, image[3]), x, axis=0)
        bias = net.bias(w, x, image[3])
        x = net.node("conv2d", [x, w, bias], Conv2dAttrs(pads=pads), saturate=0.05)
    return net.graph([x])


@pytest.fixture(scope="module")
def edges() -> Graph:
    """Sizes that fill units or not, channels for every kind of round, borders, extreme weights."""
    rng = np.random.default_rng(5)
    graphs = [
        conv(rng, (1, h, w, c), out, (3, 3), attrs(SAME, (NONE, RELU)[(h + c // 4) % 2]))
        for h, w in ((2, 4), (3, 5), (5, 6), (4, 7), (8, 8))
        for c, out in ((4, 4), (8, 12), (12, 4), (16, 8), (32, 4))
    ]
    graphs += [
        conv(rng, (n, 4, 6, 8), 4, (3, 3), attrs(pads, act), zero_point=zero)
        for n in (1, 2)
        for pads in PADS
        for act, zero in ((NONE, -128), (RELU, 127))
    ]
    graphs += [
        conv(rng, (1, 2, 4, 64), 4, (3, 3), attrs(SAME), weights=value, zero_point=zero)
        for value in (127, -127, -128, 1, 0)
        for zero in (-128, 127)
    ]
    graphs += [
        conv(rng, (1, 4, 4, 8), 4, (3, 3), attrs(SAME), saturate=saturate)
        for saturate in (0.0, 0.5, 0.9)
    ]
    graphs += [clamped(rng, c, out) for c, out in ((4, 4), (8, 16), (32, 32))]
    graphs += [
        chain(rng, (n, h, w, 8), pads)
        for n, h, w, pads in ((1, 10, 12, SAME), (2, 9, 11, SAME), (1, 11, 13, (0, 0, 0, 0)))
    ]
    return merge("edges", graphs)


def test_the_edge_cases_take_winograd_in_all_its_forms(edges: Graph) -> None:
    program = lowered(edges, DSP, without="")
    used = [s for s in program.steps if s.template == "conv2d_winograd"]
    # An output of 2x4 at least: all but those whose borders leave less.
    assert len(used) >= len(program.steps) - 8
    assert {s.plan.fixed["tile"] for s in used} == {
        "winograd_4x2_rounds_of_4", "winograd_4x2_rounds_of_8", "winograd_4x2_rounds_of_16",
    }  # fmt: skip
    forms = {"quick", "quick_clamped", "exact", "exact_clamped"}
    assert {s.plan.fixed["outputs"] for s in used} == {f"winograd_outputs_{f}" for f in forms}


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_winograd_equals_the_interpreter(edges: Graph, target: str, tmp_path: Path) -> None:
    check([edges], target, tmp_path, 4, without="")


def test_winograd_is_the_same_without_optimization(edges: Graph, tmp_path: Path) -> None:
    check([edges], "cortex-m4", tmp_path, 2, without="", opt="-O0")


def test_the_c_models_of_winograd_walk_the_same_bytes_under_sanitizers(
    edges: Graph, tmp_path: Path
) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with AddressSanitizer")
    check([edges], "host", tmp_path, 3, sanitize=True, isa=DSP, without="")


def test_the_transform_of_weights_is_four_times_g_w_gt() -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(-128, 128, (2, 3, 3, 4)).astype(np.int8)
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    for out in range(2):
        for c in range(4):
            expected = 4 * g @ w[out, :, :, c].astype(float) @ g.T
            np.testing.assert_array_equal(transformed(w)[:, :, out, c], expected)


def test_winograd_spends_flash_only_for_the_objective_time() -> None:
    rng = np.random.default_rng(2)
    graph = conv(rng, (1, 16, 16, 4), 4, (3, 3), attrs(SAME))
    kernels = {
        objective: next(iter(lower(graph, "net", DSP, LowerOptions(objective)).kernels.values()))
        for objective in ("balanced", "time", "size")
    }
    assert kernels["time"] == "conv2d_winograd"
    assert kernels["balanced"] == "conv2d_dsp"
    assert "winograd" not in kernels["size"]
