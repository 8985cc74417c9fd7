"""Files of layers on int16 activations: what is written is read again, and computes the same."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from cases_int16_mac import INT16_MAC_CASES
from support.case import Case
from support.nets import random_samples
from support.tflite_edit import edit
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Array, DType, Graph
from tinsmith.pipeline.passes import INT_PASSES, run_passes

ALL = [
    pytest.param(op, case, id=f"{op}-{case.name}")
    for op, cases in INT16_MAC_CASES.items()
    for case in cases
]


def built(op: str, case: Case) -> tuple[Graph, dict[str, Array]]:
    rng = np.random.default_rng(zlib.crc32(f"{op}/{case.name}".encode()))
    graph = case.build(rng)
    return graph, random_samples(graph, rng, 4)


@pytest.mark.parametrize(("op", "case"), ALL)
def test_a_file_is_read_as_what_was_written_and_the_passes_keep_its_bytes(
    op: str, case: Case
) -> None:
    graph, samples = built(op, case)
    again = read_tflite(to_tflite(graph))
    want = interpreter.run_samples(graph, samples)
    for other in (again, run_passes(again, INT_PASSES)):
        for y, z in zip(want, interpreter.run_samples(other, samples), strict=True):
            assert y.dtype == z.dtype == np.int16
            np.testing.assert_array_equal(y, z)


def test_a_bias_that_int32_can_not_hold_survives_the_file() -> None:
    case = next(c for c in INT16_MAC_CASES["conv2d"] if c.name == "int16_large_bias")
    graph, _ = built("conv2d", case)
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
    graph, samples = built(op, case)

    def without_bias(model: schema.ModelT) -> None:
        operator = model.subgraphs[0].operators[0]
        operator.inputs = operator.inputs[:2]

    file = edit(to_tflite(graph), without_bias)
    read = read_tflite(file)
    assert len(read.nodes[0].inputs) == 2
    ours = interpreter.run_samples(read, samples)
    np.testing.assert_array_equal(ours[0], oracles.oracle("tflite-micro").run(file, samples)[0])
