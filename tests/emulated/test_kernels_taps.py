"""Depthwise windows of any size on cores with dual multiplies; the tiles' C models on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.kernel_edges import check, lowered
from support.merge import merge
from support.nets import Net
from tinsmith.pipeline.graph import Activation, Graph, QuantParams
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.toolchains import sanitizers_available

DSP = CORES_BY_NAME["cortex-m4"].isa
NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
BOTH_SIDES = Activation.RELU_N1_TO_1


def depthwise(
    rng: np.random.Generator, image: tuple[int, int, int, int], kernel: tuple[int, int],
    attrs: DepthwiseConv2dAttrs, zero_point: int = 3,
) -> Graph:  # fmt: skip
    """RELU6 and RELU_N1_TO_1 get bounds that lie inside the range of int8."""
    net = Net("depthwise", rng)
    x = net.input(image, 0.05, zero_point)
    w = net.weights((1, *kernel, image[3]), x, axis=3, fan_in=kernel[0] * kernel[1])
    bounds = attrs.activation in (RELU6, BOTH_SIDES)
    quant = QuantParams.per_tensor(0.04, -100) if bounds else None
    operands = [x, w, net.bias(w, x, image[3])]
    y = net.node("depthwise_conv2d", operands, attrs, saturate=0.05, quant=quant)
    return net.graph([y])


def attrs(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], same: bool,
    activation: Activation = NONE,
) -> DepthwiseConv2dAttrs:  # fmt: skip
    """same: borders of half the window, one less at the beginning where it is even."""
    pads = [0, 0, 0, 0]
    for axis in (0, 1) if same else ():
        span = (kernel[axis] - 1) * dilation[axis]
        pads[2 * axis : 2 * axis + 2] = [span // 2, span - span // 2]
    return DepthwiseConv2dAttrs(stride, dilation, (pads[0], pads[1], pads[2], pads[3]), activation)


@pytest.fixture(scope="module")
def edges() -> Graph:
    """Every number of columns; strides, dilations, borders larger than the image, batches."""
    rng = np.random.default_rng(5)
    sizes = [(kh, kw) for kw in range(1, 8) for kh in (1, 2, 5) if (kh, kw) != (1, 1)]
    graphs = [
        depthwise(rng, (1, 8, 9, c), kernel, attrs(kernel, (1, 1), (1, 1), c == 4, act))
        for kernel in sizes
        for c, act in ((4, NONE), (32, RELU6), (8, RELU), (12, BOTH_SIDES))
    ]
    graphs += [
        depthwise(rng, (n, 9, 10, 8), (k, k), attrs((k, k), stride, dilation, same), zero)
        for k, dilation in ((3, (2, 2)), (5, (1, 1)), (2, (3, 1)))
        for n, stride, same, zero in ((1, (2, 2), True, -128), (2, (1, 3), False, 127))
    ]
    graphs += [
        depthwise(rng, (1, h, w, 4), (5, 5), attrs((5, 5), (1, 1), (1, 1), True))
        for h, w in ((1, 1), (1, 4), (3, 2), (2, 7))
    ]
    return merge("edges", graphs)


def test_the_edge_cases_take_the_kernel_in_all_its_forms(edges: Graph) -> None:
    steps = lowered(edges, DSP).steps
    tiles = [s.plan.fixed["tile"] for s in steps if s.kernel == "depthwise_taps_dsp"]
    assert len(tiles) == len(steps)
    assert {t.split("_wide_")[0] for t in tiles} == {f"taps_{n}" for n in range(1, 8)}
    forms = {"quick", "quick_clamped", "exact", "exact_clamped"}
    assert {t.split("_wide_")[1] for t in tiles} == forms


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_windows_equal_the_interpreter(edges: Graph, target: str, tmp_path: Path) -> None:
    check([edges], target, tmp_path, 4)


def test_windows_are_the_same_without_optimization(edges: Graph, tmp_path: Path) -> None:
    check([edges], "cortex-m4", tmp_path, 2, opt="-O0")


def test_the_c_models_walk_the_same_bytes_under_sanitizers(edges: Graph, tmp_path: Path) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with AddressSanitizer")
    check([edges], "host", tmp_path, 3, sanitize=True, isa=DSP)
