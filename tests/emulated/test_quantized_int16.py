"""A network quantized to int16 activations: its C equals the interpreter on every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.devices import differences
from support.float_nets import exact_net, residual_net, samples_of
from support.nets import random_samples
from tinsmith.codegen.lower import LowerOptions
from tinsmith.pipeline.passes import INT_PASSES, run_passes
from tinsmith.pipeline.quantization import QuantizeOptions, quantize


@pytest.mark.parametrize("objective", ["balanced", "ram"])
@pytest.mark.parametrize("target", ["host", "cortex-m0plus", "cortex-m4", "raspberry-pi-4"])
def test_the_c_of_a_network_quantized_to_int16_equals_the_interpreter(
    target: str, objective: str, tmp_path: Path
) -> None:
    for name, graph in (("exact", exact_net()), ("residual", residual_net())):
        quantized = quantize(graph, samples_of(graph), QuantizeOptions(activations=16))
        quantized = run_passes(quantized, INT_PASSES)
        samples = random_samples(quantized, np.random.default_rng(5), 3)
        folder = tmp_path / name
        folder.mkdir()
        options = LowerOptions(objective)
        assert sum(differences(quantized, target, folder, samples, options=options).values()) == 0
