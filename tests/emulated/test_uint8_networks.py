"""Networks of uint8 in C: weights of 9 bits, means whose ties go up, on every kind of core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.devices import differences
from support.merge import merge
from support.nets import random_samples
from support.uint8_layers import layers
from support.uint8_nets import uint8_network
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.passes import INT_PASSES, run_passes
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import sanitizers_available


def test_layers_of_wide_weights_take_many_values() -> None:
    graph = layers()
    for y in run_samples(graph, random_samples(graph, np.random.default_rng(1), 8)):
        assert len(np.unique(y)) >= 8


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4"])
def test_every_layer_of_wide_weights_equals_the_interpreter(target: str, tmp_path: Path) -> None:
    graph = layers()
    samples = random_samples(graph, np.random.default_rng(1), 8)
    assert sum(differences(graph, target, tmp_path, samples).values()) == 0


def test_kernels_of_wide_weights_run_clean_under_the_sanitizers(tmp_path: Path) -> None:
    """Those of a core with 16-bit multiplies by the C models of their tiles, and plain C beside."""
    if not sanitizers_available():
        pytest.skip("no gcc or clang with sanitizers here")
    graph, isa = layers(), target_named("cortex-m4").isa
    samples = random_samples(graph, np.random.default_rng(1), 4)
    found = differences(graph, "host", tmp_path, samples, sanitize=True, isa=isa)
    assert sum(found.values()) == 0


def test_wide_weights_take_the_kernels_of_a_core_with_16_bit_multiplies() -> None:
    steps = lower(layers(), "net", target_named("cortex-m4").isa).steps
    names = {s.kernel for s in steps}
    dsp = {"conv2d_dsp", "fully_connected_rows_dsp", "depthwise_window_dsp", "depthwise_taps_dsp"}
    assert dsp <= names
    assert sum(s.kernel == "conv2d_c" for s in steps) == 1  # of groups


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_random_networks_of_uint8_equal_the_interpreter_in_c(target: str, tmp_path: Path) -> None:
    graphs = [run_passes(read_tflite(uint8_network(s)), INT_PASSES) for s in range(200, 205)]
    graph = merge("nets", graphs)
    samples = random_samples(graph, np.random.default_rng(7), 2)
    assert sum(differences(graph, target, tmp_path, samples).values()) == 0
