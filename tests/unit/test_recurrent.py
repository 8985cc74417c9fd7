"""Layers with a state: what they keep from call to call, here and in other runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cases_int16 import INT16_CASES
from more_cases import MORE_CASES
from support.case import q
from support.more_growers import lstm_node
from support.nets import Net, random_samples
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import DType, Graph, rebuild
from tinsmith.pipeline.ops.lstm import LstmAttrs

CASES = [
    pytest.param(case.build, id=f"{op}-{case.name}")
    for op in ("lstm", "svdf")
    for case in (*MORE_CASES[op], *INT16_CASES.get(op, ()))
    if "stateless" not in case.name
]


def lstm(steps: int, dtype: DType = DType.INT8, *, stateful: bool = True) -> Graph:
    net = Net("net", np.random.default_rng(4))
    x = net.input((1, steps, 3), 0.02, 3, dtype)
    return net.graph([lstm_node(net, x, 5, LstmAttrs(), q(1 / 127, -1), stateful=stateful)])


def run_in_order(graph: Graph, x: np.ndarray) -> np.ndarray:
    state, rows = None, []
    for sample in x:
        tensors, state = interpreter.run(graph, {graph.inputs[0]: sample}, state)
        rows.append(interpreter.outputs(graph, tensors)[0])
    return np.stack(rows)


@pytest.mark.parametrize("build", CASES)
def test_a_state_goes_on_from_call_to_call_as_in_tflite_micro(
    build: Callable[[np.random.Generator], Graph],
) -> None:
    if oracles.TFLM.name not in oracles.installed_oracles():
        pytest.skip("tflite-micro is not installed")
    rng = np.random.default_rng(8)
    graph = build(rng)
    x = random_samples(graph, rng, 5)[graph.inputs[0]]
    (theirs,) = oracles.TFLM.run(to_tflite(graph), {0: x}, stateful=True)
    ours = run_in_order(graph, x)
    if ours.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
def test_a_sequence_in_parts_gives_what_the_whole_gives(dtype: DType) -> None:
    whole, part = lstm(12, dtype), lstm(3, dtype)
    weights = {n: t for n, t in whole.tensors.items() if t.is_constant}
    part = rebuild(part, tensors=weights.values())
    x = random_samples(whole, np.random.default_rng(2), 1)["x"]
    together = run_in_order(whole, x)[0]
    pieces = run_in_order(part, x.reshape(4, 1, 3, 3))
    np.testing.assert_allclose(pieces.reshape(together.shape), together, rtol=1e-5, atol=1e-6)


def test_without_a_state_every_call_starts_afresh() -> None:
    graph = lstm(4, stateful=False)
    x = random_samples(graph, np.random.default_rng(2), 1)["x"]
    first, second = run_in_order(graph, np.concatenate([x, x]))
    np.testing.assert_array_equal(first, second)
    kept = run_in_order(lstm(4), np.concatenate([x, x]))
    assert np.any(kept[0] != kept[1])


def test_time_major_is_the_same_with_the_first_axes_swapped() -> None:
    graph = lstm(6)
    node = graph.nodes[0]
    swapped = rebuild(
        graph,
        nodes=[replace(node, attrs=LstmAttrs(time_major=True))],
        tensors=[
            replace(graph.tensors[n], shape=(6, 1, s)) for n, s in (("x", 3), (node.outputs[0], 5))
        ],
    )
    x = random_samples(graph, np.random.default_rng(2), 1)["x"]
    y = run_in_order(graph, x)[0]
    z = run_in_order(swapped, x.swapaxes(1, 2))[0]
    np.testing.assert_array_equal(z.swapaxes(0, 1), y)


def test_a_state_of_the_file_is_a_state_of_the_graph() -> None:
    graph = lstm(4)
    again = read_tflite(to_tflite(graph))
    assert {s.tensor for s in again.state} == {s.tensor for s in graph.state}
    hidden = next(s for s in again.state if s.tensor == graph.nodes[0].inputs[13])
    assert hidden.initial.dtype == np.int8
    assert np.all(hidden.initial == -1)  # the zero point


@pytest.mark.parametrize("time_major", [False, True])
def test_the_last_hidden_state_can_be_an_output_of_the_file(time_major: bool) -> None:
    net = Net("net", np.random.default_rng(4))
    x = net.input((4, 1, 3) if time_major else (1, 4, 3), 0.02)
    attrs = LstmAttrs(time_major)
    y = lstm_node(net, x, 5, attrs, q(1 / 127, -1), stateful=False)
    graph = net.graph([y, net.builder.nodes[-1].outputs[1]])
    samples = random_samples(graph, np.random.default_rng(2), 3)
    model = to_tflite(graph)
    again = read_tflite(model)
    theirs = (
        []
        if oracles.TFLM.name not in oracles.installed_oracles()
        else [oracles.TFLM.run(model, samples)]
    )
    for others in (interpreter.run_samples(again, samples), *theirs):
        for ours, other in zip(interpreter.run_samples(graph, samples), others, strict=True):
            np.testing.assert_array_equal(ours, other)
