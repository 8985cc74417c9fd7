"""The interpreter runs graphs step by step; its ops are proven in test_ops_oracle."""

from __future__ import annotations

import numpy as np
import pytest

from support.nets import Net, random_samples
from support.random_network import random_network
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.errors import DataError
from tinsmith.pipeline.graph import DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs

HALF = QuantParams.per_tensor(0.5, 0)


def running_sum() -> Graph:
    """y = state + x, and the state becomes y."""
    b = GraphBuilder("running_sum")
    x = b.input("x", (1, 2), DType.INT8, HALF)
    held = b.state_var("total", np.array([[1, 2]], np.int8), HALF)
    y = b.node("add", [held, x], AddAttrs(), quant=HALF)
    b.assign("total", y)
    return b.build([y])


def test_state_goes_from_step_to_step_and_starts_from_its_first_value() -> None:
    graph = running_sum()
    x = {"x": np.array([[3, -4]], np.int8)}
    tensors, state = interpreter.run(graph, x)
    assert interpreter.outputs(graph, tensors)[0].tolist() == [[4, -2]]
    tensors, state = interpreter.run(graph, x, state)
    assert interpreter.outputs(graph, tensors)[0].tolist() == [[7, -6]]
    tensors, _ = interpreter.run(graph, x, interpreter.initial_state(graph))
    assert interpreter.outputs(graph, tensors)[0].tolist() == [[4, -2]]


def test_samples_each_start_from_the_first_state() -> None:
    x = np.array([[[3, -4]]] * 3, np.int8)
    (y,) = interpreter.run_samples(running_sum(), {"x": x})
    assert y.tolist() == [[[4, -2]]] * 3


def test_a_watcher_sees_every_node_in_order() -> None:
    graph = random_network(5)
    seen = []
    samples = random_samples(graph, np.random.default_rng(0), 1)
    interpreter.run(
        graph, {k: v[0] for k, v in samples.items()}, watch=lambda node, _: seen.append(node.name)
    )
    assert seen == [node.name for node in graph.nodes]
    assert len(seen) >= 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"input 'x' is missing; expected int8\[1, 2\]"),
        ({"x": np.zeros((2, 1), np.int8)}, r"input 'x' is int8\[2, 1\]; expected int8\[1, 2\]"),
        ({"x": np.zeros((1, 2), np.float32)}, r"float32\[1, 2\]; expected int8\[1, 2\]"),
    ],
)
def test_inputs_of_another_shape_or_type_are_refused(
    inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        interpreter.run(running_sum(), inputs)


@pytest.mark.parametrize("seed", range(30))
def test_many_samples_at_once_give_what_single_samples_give(seed: int) -> None:
    graph = random_network(seed)
    samples = random_samples(graph, np.random.default_rng(seed), 6)
    together = interpreter.run_samples(graph, samples, batch=4)
    alone = interpreter.run_samples(graph, samples, batch=1000)
    for y, z in zip(together, alone, strict=True):
        np.testing.assert_array_equal(y, z)


def test_most_networks_can_be_run_many_samples_at_once() -> None:
    """The test above would say nothing if every network fell back to one sample at a time."""
    wide = [interpreter.with_batch(random_network(seed), 4) for seed in range(30)]
    assert sum(g is not None for g in wide) >= 10


def test_a_constant_may_be_an_output() -> None:
    net = Net("constant", np.random.default_rng(0))
    x = net.input((1, 4))
    w = net.weights((3, 4), x)
    y = net.node("fully_connected", [x, w], FullyConnectedAttrs())
    graph = net.graph([y, w])
    tensors, _ = interpreter.run(graph, {"x": np.zeros((1, 4), np.int8)})
    assert interpreter.outputs(graph, tensors)[1] is graph.tensors[w].data
