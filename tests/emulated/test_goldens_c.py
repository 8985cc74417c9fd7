"""Every int8 model that others trained gives the bytes of tflite-micro, interpreted and as C."""

from __future__ import annotations

import numpy as np
import pytest

from support.goldens import INT8, goldens, interpreted, load, on_device
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.deployment import temporary_build
from tinsmith.pipeline.passes import INT_PASSES, run_passes
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.target import target_named


@pytest.mark.parametrize("name", INT8)
def test_the_interpreter_gives_the_bytes_of_tflite_micro_on_every_sample(name: str) -> None:
    graph = run_passes(load(name), INT_PASSES)
    for golden in goldens(graph, name):
        y = interpreted(graph, golden).reshape(golden.y.shape)
        np.testing.assert_array_equal(y, golden.y, err_msg=golden.kind)


@pytest.mark.parametrize("target_name", ["host", "cortex-m4"])
@pytest.mark.parametrize("name", INT8)
def test_the_c_gives_the_bytes_of_tflite_micro_on_every_sample(name: str, target_name: str) -> None:
    graph, target = run_passes(load(name), INT_PASSES), target_named(target_name)
    samples = goldens(graph, name)
    program = lower(graph, "net", target.isa, LowerOptions())
    with temporary_build(program, target) as made, open_runner(made.image, target) as runner:
        for golden in samples:
            y = on_device(graph, golden, runner).reshape(golden.y.shape)
            np.testing.assert_array_equal(y, golden.y, err_msg=golden.kind)
