"""Files of layers on int16 activations: what is written is read again, and computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from cases_int16 import INT16_CASES
from cases_int16_mac import INT16_MAC_CASES
from support.case import Case, built
from support.tflite_edit import edit
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.passes import INT_PASSES, run_passes

ALL = [
    pytest.param(op, case, id=f"{op}-{case.name}")
    for table in (INT16_MAC_CASES, INT16_CASES)
    for op, cases in table.items()
    for case in cases
]


@pytest.mark.parametrize(("op", "case"), ALL)
def test_a_file_is_read_as_what_was_written_and_the_passes_keep_its_bytes(
    op: str, case: Case
) -> None:
    graph, samples = built(op, case, 4)
    again = read_tflite(to_tflite(graph))
    want = interpreter.run_samples(graph, samples)
    for other in (again, run_passes(again, INT_PASSES)):
        named = dict(zip(other.inputs, samples.values(), strict=True))
        for y, z in zip(want, interpreter.run_samples(other, named), strict=True):
            assert y.dtype == z.dtype
            assert y.dtype == np.int16 or op not in INT16_MAC_CASES
            np.testing.assert_array_equal(y, z)


def test_a_bias_that_int32_can_not_hold_survives_the_file() -> None:
    case = next(c for c in INT16_MAC_CASES["conv2d"] if c.name == "int16_large_bias")
    graph, _ = built("conv2d", case, 4)
    bias = graph.tensors[graph.nodes[0].inputs[2]].value()
    assert np.abs(bias).max() > 1 << 32
    again = read_tflite(to_tflite(graph))
    read = again.tensors[again.nodes[0].inputs[2]]
    assert read.dtype is DType.INT64
    np.testing.assert_array_equal(read.value(), bias)


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "fully_connected"])
def test_a_file_without_a_bias_computes_as_tflite_micro_does(op: str) -> None:
    """The exporter writes zeros, so that every runtime takes it; other converters leave it out."""
    if "tflite-micro" not in oracles.installed_oracles():
        pytest.skip("the oracle tflite-micro is not installed")
    case = next(c for c in INT16_MAC_CASES[op] if c.name == "int16_no_bias")
    graph, samples = built(op, case, 4)

    def without_bias(model: schema.ModelT) -> None:
        operator = model.subgraphs[0].operators[0]
        operator.inputs = operator.inputs[:2]

    file = edit(to_tflite(graph), without_bias)
    read = read_tflite(file)
    assert len(read.nodes[0].inputs) == 2
    ours = interpreter.run_samples(read, samples)
    np.testing.assert_array_equal(ours[0], oracles.oracle("tflite-micro").run(file, samples)[0])
