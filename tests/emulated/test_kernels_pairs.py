"""The kernels of two pixels in one multiply at their edges: Cortex-M3 and M0+, and their C models
on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.kernel_edges import check, edge_parts, lowered
from tinsmith.codegen.kernels.dealing import GROUP_SUM, deal, deal_parts
from tinsmith.pipeline.graph import Graph
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.toolchains import sanitizers_available

CORES = ("cortex-m3", "cortex-m0plus")


@pytest.fixture(scope="module")
def edge_graphs() -> list[Graph]:
    return edge_parts()


@pytest.mark.parametrize("core", CORES)
def test_the_edge_cases_take_the_kernels_of_the_core(core: str, edge_graphs: list[Graph]) -> None:
    isa = CORES_BY_NAME[core].isa
    programs = [lowered(graph, isa) for graph in edge_graphs]
    used = [s.kernel for program in programs for s in program.steps]
    own = {"cortex-m3": "conv2d_pairs", "cortex-m0plus": "conv2d_octets"}[core]
    assert used.count(own) > 80
    assert sum(k.startswith("conv2d_eights") for k in used) > 12
    assert sum(k.startswith("depthwise_line") for k in used) > 40
    assert sum(k.startswith("fully_connected_fours") for k in used) > 30


@pytest.mark.parametrize("core", CORES)
def test_the_edge_cases_equal_the_interpreter(
    core: str, edge_graphs: list[Graph], tmp_path: Path
) -> None:
    check(edge_graphs, core, tmp_path, 4)


@pytest.mark.parametrize("core", CORES)
def test_the_edge_cases_are_the_same_without_optimization(
    core: str, edge_graphs: list[Graph], tmp_path: Path
) -> None:
    check(edge_graphs[1:2], core, tmp_path, 2, opt="-O0")


@pytest.mark.parametrize("core", CORES)
def test_the_c_models_of_the_tiles_walk_the_same_bytes_under_sanitizers(
    core: str, edge_graphs: list[Graph], tmp_path: Path
) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with AddressSanitizer")
    isa = CORES_BY_NAME[core].isa
    check(edge_graphs, "host", tmp_path, 3, sanitize=True, isa=isa)


def test_dealt_groups_never_exceed_what_a_half_word_holds() -> None:
    rng = np.random.default_rng(5)
    for channels, taps in ((1, 1), (3, 7), (16, 64), (40, 150)):
        for spread in (5, 40, 127):
            w = rng.integers(-spread, spread + 1, (channels, taps)).astype(np.int8)
            group, place = deal(w, lambda g: 1 / g)
            assert len(set(place.tolist())) == taps
            for i in range(int(place.max()) // group + 1):
                inside = place // group == i
                assert np.abs(w[:, inside].astype(int)).sum(axis=1).max() <= GROUP_SUM


def test_taps_are_dealt_again_until_heavy_ones_lie_apart() -> None:
    rng = np.random.default_rng(8)
    w = rng.integers(-90, 91, (24, 60)).astype(np.int8)
    group, place = deal(w, lambda g: 1 / g)
    assert group == 4  # 3 where no tap changes its place
    sums = np.zeros((24, 60 // group), int)
    for tap, at in enumerate(place):
        sums[:, at // group] += np.abs(w[:, tap].astype(int))
    assert sums.max() <= GROUP_SUM


def test_parts_of_the_channels_have_one_length_and_places_of_their_own() -> None:
    rng = np.random.default_rng(9)
    parts = [rng.integers(-60, 61, (8, 40)).astype(np.int8) for _ in range(3)]
    group, places = deal_parts(parts, lambda g: 1 / g)
    assert len({tuple(p.tolist()) for p in places}) == 3
    alone = [deal(w, lambda g: 1 / g)[0] for w in parts]
    assert group == min(alone)


def test_weights_of_minus_128_go_one_by_one_where_two_would_not_fit() -> None:
    group, place = deal(np.full((1, 4), -128, np.int8), lambda g: 1 / g)
    assert group == 1
    assert place.tolist() == [0, 1, 2, 3]
