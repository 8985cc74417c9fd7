"""The oracles run models, sample by sample and layer by layer, and can't take us down with them."""

from __future__ import annotations

import numpy as np
import pytest

from support.nets import Net, random_samples
from support.random_network import GROWERS, random_network
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import DataError, ToolFailed, ToolMissing
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.ops import OPS, Oracle
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs

INSTALLED = [pytest.param(o, id=o.name) for o in oracles.ORACLES]
TFLM_OPS = sorted(op for op in GROWERS if OPS[op].oracle is Oracle.TFLM)


def needs(oracle: oracles.Oracle) -> oracles.Oracle:
    if oracle.name not in oracles.installed_oracles():
        pytest.skip(f"the oracle {oracle.name} is not installed")
    return oracle


def running_sum() -> Graph:
    half = QuantParams.per_tensor(0.5, 0)
    b = GraphBuilder("running_sum")
    x = b.input("x", (1, 2), DType.INT8, half)
    held = b.state_var("total", np.array([[1, 2]], np.int8), half)
    y = b.node("add", [held, x], AddAttrs(), quant=half)
    b.assign("total", y)
    return b.build([y])


@pytest.mark.parametrize("oracle", INSTALLED)
def test_samples_may_be_named_or_numbered_and_leave_out_ones(oracle: oracles.Oracle) -> None:
    graph = random_network(3, ["conv2d", "max_pool2d"])
    model = to_tflite(graph)
    samples = random_samples(graph, np.random.default_rng(0), 3)
    name = graph.inputs[0]
    by_name = needs(oracle).run(model, samples)
    flat: dict[str | int, np.ndarray] = {i: samples[n][:, 0] for i, n in enumerate(graph.inputs)}
    by_index = oracle.run(model, flat)
    assert by_name[0].shape == (3, *graph.tensors[graph.outputs[0]].shape)
    for a, b in zip(by_name, by_index, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(DataError, match=f"input '{name}' is missing"):
        oracle.run(model, {})


@pytest.mark.parametrize("oracle", INSTALLED)
def test_every_layer_can_be_compared(oracle: oracles.Oracle) -> None:
    graph = random_network(11, TFLM_OPS)
    sample = {k: v[0] for k, v in random_samples(graph, np.random.default_rng(1), 1).items()}
    ours, _ = interpreter.run(graph, sample)
    theirs = needs(oracle).run_layers(to_tflite(graph), sample)
    for node in graph.nodes:
        for name in node.outputs:
            np.testing.assert_array_equal(theirs[name], ours[name], err_msg=name)


@pytest.mark.parametrize("oracle", INSTALLED)
@pytest.mark.parametrize("isolated", [False, True])
def test_state_is_kept_only_where_asked(oracle: oracles.Oracle, isolated: bool) -> None:
    model = to_tflite(running_sum())
    x = np.array([[[3, -4]]] * 3, np.int8)
    kept = needs(oracle).run(model, {"x": x}, stateful=True, isolated=isolated)[0]
    assert kept.tolist() == [[[4, -2]], [[7, -6]], [[10, -10]]]
    fresh = oracle.run(model, {"x": x}, isolated=isolated)[0]
    assert fresh.tolist() == [[[4, -2]]] * 3


def test_an_oracle_that_aborts_is_an_error_and_not_the_end() -> None:
    """A row of 1000 equal logits asks TFLM for a shift by 33, on which its debug build aborts."""
    net = Net("flat", np.random.default_rng(0))
    x = net.input((1, 1000))
    graph = net.graph([net.node("softmax", [x], SoftmaxAttrs())])
    samples = {"x": np.zeros((1, 1, 1000), np.int8)}
    with pytest.raises(ToolFailed, match="tflite-micro ended with signal"):
        needs(oracles.TFLM).run(to_tflite(graph), samples, isolated=True)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_model_that_an_oracle_refuses_is_an_error(isolated: bool) -> None:
    net = Net("nibbles", np.random.default_rng(0))
    x = net.input((1, 4))
    w = net.weights((3, 4), x, bits=4)
    graph = net.graph([net.node("fully_connected", [x, w], FullyConnectedAttrs())])
    samples = {"x": np.zeros((1, 1, 4), np.int8)}
    with pytest.raises(ToolFailed, match="tflite-runtime refuses the model"):
        needs(oracles.TFLITE_REF).run(to_tflite(graph), samples, isolated=isolated)


def test_an_oracle_that_is_not_installed_is_listed_and_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = oracles.Oracle("tflite-micro", "no_such_package", oracles.tflm)
    monkeypatch.setattr(oracles, "ORACLES", (gone,))
    assert oracles.installed_oracles() == {}
    assert oracles.absent_oracles() == {"tflite-micro": "pip install tflite-micro"}
    with pytest.raises(ToolMissing, match="run: pip install tflite-micro"):
        oracles.oracle("tflite-micro")


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_give_the_bytes_of_tflite_micro(seed: int) -> None:
    graph = random_network(seed, TFLM_OPS, float_borders=seed % 4 == 0)
    samples = random_samples(graph, np.random.default_rng(seed), 4)
    ours = interpreter.run_samples(graph, samples)
    theirs = needs(oracles.TFLM).run(to_tflite(graph), samples)
    for y, z in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(y, z)
