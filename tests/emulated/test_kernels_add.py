"""The sum limited by one instruction, at its edges: cores that have it, and its C on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.kernel_edges import check, most_specific
from support.merge import merge
from support.nets import Net
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.graph import Activation, Graph, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.toolchains import sanitizers_available

DSP = CORES_BY_NAME["cortex-m4"].isa
LIMITED = ("add_saturated_dsp", "add_saturated_m3")


def added(
    rng: np.random.Generator, size: int, scales: tuple[float, float], activation: Activation,
    quant: QuantParams | None = None, *, twice: bool = False,
) -> Graph:  # fmt: skip
    """x + y, or x + x, of scales by a zero point of either sign."""
    net = Net("added", rng)
    a = net.input((1, size), scales[0], -7)
    b = a if twice else net.input((1, size), scales[1], 20)
    return net.graph([net.node("add", [a, b], AddAttrs(activation), saturate=0.3, quant=quant)])


@pytest.fixture(scope="module")
def edges() -> Graph:
    """Every remainder of eight, few and many values; scales apart; bounds of every kind."""
    rng = np.random.default_rng(2)
    none, relu, relu6 = Activation.NONE, Activation.RELU, Activation.RELU6
    inside = QuantParams.per_tensor(0.05, -120)
    graphs = [
        added(rng, size, scales, act, quant)
        for size in (1, 2, 3, 8, 12, 13, 30, 67, 128)
        for scales, act, quant in (
            ((0.05, 0.04), none, None),
            ((0.03, 0.09), relu, None),
            ((0.05, 0.04), relu6, inside),
        )
    ]
    graphs += [added(rng, size, (0.05, 0.05), none, twice=True) for size in (8, 9)]
    return merge("edges", graphs)


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m33"])
def test_sums_equal_the_interpreter(core: str, edges: Graph, tmp_path: Path) -> None:
    isa = CORES_BY_NAME[core].isa
    used = [s.kernel for s in lower(edges, "net", isa, most_specific(edges, isa)).steps]
    assert {*used} <= {*LIMITED}
    check([edges], core, tmp_path, 4)


def test_sums_are_the_same_without_optimization(edges: Graph, tmp_path: Path) -> None:
    check([edges], "cortex-m4", tmp_path, 3, opt="-O0")


def test_sums_are_the_same_on_the_host(edges: Graph, tmp_path: Path) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with AddressSanitizer")
    check([edges], "host", tmp_path, 4, sanitize=True, isa=DSP)
