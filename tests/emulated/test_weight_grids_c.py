"""Weights of few integers in C: kernels that join products by magnitudes stay exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.devices import differences
from support.float_nets import residual_net, samples_of
from support.nets import random_samples
from tinsmith.pipeline.passes import INT_PASSES, run_passes
from tinsmith.pipeline.quantization import QuantizeOptions, quantize


@pytest.mark.parametrize("grid", ["ternary", "binary"])
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3"])
def test_the_c_of_a_network_with_few_integers_equals_the_interpreter(
    target: str, grid: str, tmp_path: Path
) -> None:
    graph = residual_net()
    quantized = quantize(graph, samples_of(graph), QuantizeOptions(weights=grid))
    quantized = run_passes(quantized, INT_PASSES)
    samples = random_samples(quantized, np.random.default_rng(5), 3)
    for name in samples:  # what is furthest from 0, and where all products have one sign
        samples[name][0], samples[name][1] = -128, 127
    assert sum(differences(quantized, target, tmp_path, samples).values()) == 0
