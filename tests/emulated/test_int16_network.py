"""A whole int16 network, read from its file: the generated C equals the interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.devices import differences
from support.int16_network import int16_network
from support.nets import random_samples
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.passes import INT_PASSES, run_passes


@pytest.mark.parametrize("target", ["host", "cortex-m0plus", "cortex-m4", "raspberry-pi-4"])
def test_the_c_of_a_whole_int16_network_equals_the_interpreter(target: str, tmp_path: Path) -> None:
    graph = run_passes(read_tflite(to_tflite(int16_network())), INT_PASSES)
    samples = random_samples(graph, np.random.default_rng(5), 4)
    assert sum(differences(graph, target, tmp_path, samples).values()) == 0
