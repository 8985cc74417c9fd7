"""The kernels for dual multiplies at their edges: on emulated cores, and by their C models on the
host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cases import CASES
from support.devices import differences
from support.kernel_edges import check, edge_parts, lowered
from support.merge import merge
from support.nets import random_samples
from tinsmith.pipeline.graph import Graph
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.toolchains import sanitizers_available

DSP_TARGETS = ("cortex-m4", "cortex-m7", "cortex-m33")


@pytest.fixture(scope="module")
def edge_graphs() -> list[Graph]:
    return edge_parts()


def test_the_edge_cases_take_the_kernels_for_dual_multiplies(edge_graphs: list[Graph]) -> None:
    isa = CORES_BY_NAME["cortex-m4"].isa
    programs = [lowered(graph, isa) for graph in edge_graphs]
    steps = [s for program in programs for s in program.steps]
    used = [s.kernel for s in steps]
    assert used.count("conv2d_dsp") > 80
    assert used.count("depthwise_window_dsp") > 25
    assert used.count("depthwise_taps_dsp") > 15
    tiles = {s.plan.fixed["tile"] for s in steps if "tile" in s.plan.fixed}
    assert {"taps_3_wide_quick", "window_3x3_2_quick", "dot_4x2_high_quick"} < tiles
    assert {"taps_3_wide_exact", "window_3x3_2_exact", "dot_4x2_high_exact"} < tiles


@pytest.mark.parametrize("target", DSP_TARGETS)
def test_the_edge_cases_equal_the_interpreter(
    edge_graphs: list[Graph], target: str, tmp_path: Path
) -> None:
    check(edge_graphs, target, tmp_path, 4)


def test_the_edge_cases_are_the_same_without_optimization(
    edge_graphs: list[Graph], tmp_path: Path
) -> None:
    check(edge_graphs[:2], "cortex-m4", tmp_path, 2, opt="-O0")


def test_the_c_models_of_the_tiles_walk_the_same_bytes_under_sanitizers(
    edge_graphs: list[Graph], tmp_path: Path
) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with AddressSanitizer")
    check(edge_graphs, "host", tmp_path, 3, sanitize=True, isa=CORES_BY_NAME["cortex-m4"].isa)


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "fully_connected", "add"])
@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m33"])
def test_every_case_of_the_op_equals_the_interpreter(op: str, target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    graphs = [g for g in (case.build(rng) for case in CASES[op]) if g.is_quantized]
    graph = merge(op, graphs)
    found = differences(graph, target, tmp_path, random_samples(graph, rng, 3))
    assert not {n: c for n, c in found.items() if c}
