"""Random networks over all ops: the oracles and the C agree with the interpreter on every layer."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.devices import differences
from support.merge import merge
from support.nets import random_samples
from support.random_network import random_network
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops import OPS, Oracle, call_of
from tinsmith.pipeline.oracles import installed_oracles

COUNT = 50
GROUP = 10
ORACLE_NAMES = {"tflite-micro": Oracle.TFLM, "tflite-runtime": Oracle.REF}
# The first set of ops, on which both oracles agree with each other on every byte.
FIRST_SET = (
    "conv2d", "depthwise_conv2d", "fully_connected", "add", "max_pool2d", "average_pool2d", "mean",
    "pad", "reshape", "softmax", "quantize",
)  # fmt: skip
MIN_DISTINCT = 8


def first_set_network(seed: int) -> Graph:
    """A network over the first set; every third has float borders: quantize and dequantize."""
    return random_network(seed, ops=FIRST_SET, float_borders=seed % 3 == 0)


def both_oracles_take(graph: Graph) -> bool:
    """Whether tflite-runtime loads it too: it wants biases, and per-tensor dense weights."""
    for node in graph.nodes:
        weights = OPS[node.op].weights
        if weights is None:
            continue
        quant = graph.tensors[node.inputs[weights]].quant
        if len(node.inputs) < 3 or not node.inputs[2]:
            return False
        if node.op == "fully_connected" and quant is not None and quant.per_channel:
            return False
    return True


SEEDS = tuple(
    itertools.islice(
        (s for s in itertools.count() if both_oracles_take(first_set_network(s))), COUNT
    )
)


def all_layers(graph: Graph) -> Graph:
    """The same graph with every computed tensor as an output."""
    computed = tuple(name for node in graph.nodes for name in node.outputs)
    return replace(graph, outputs=computed)


def test_layers_of_the_random_networks_take_many_values() -> None:
    few = 0
    layers = 0
    for seed in SEEDS:
        graph = first_set_network(seed)
        samples = random_samples(graph, np.random.default_rng(seed), 64)
        runs = [interpreter.run(graph, {n: a[i] for n, a in samples.items()})[0] for i in range(64)]
        for node in graph.nodes:
            values = np.concatenate([r[node.outputs[0]].reshape(-1) for r in runs])
            layers += 1
            few += len(np.unique(values)) < min(MIN_DISTINCT, values.size // 64)
    assert layers > 150
    assert few == 0


@pytest.mark.parametrize("name", sorted(ORACLE_NAMES))
@pytest.mark.parametrize("seed", SEEDS)
def test_every_layer_equals_the_oracle(seed: int, name: str) -> None:
    oracle = installed_oracles().get(name)
    if oracle is None:
        pytest.skip(f"the oracle {name} is not installed")
    graph = first_set_network(seed)
    kind = ORACLE_NAMES[name]
    if not all(OPS[n.op].is_computed_by(call_of(graph, n), kind) for n in graph.nodes):
        pytest.skip(f"{name} lacks the definition of an op of this network")
    rng = np.random.default_rng(seed)
    samples = random_samples(graph, rng, 1)
    one = {n: a[0] for n, a in samples.items()}
    layers = oracle.run_layers(to_tflite(graph), one)
    tensors, _ = interpreter.run(graph, one)
    compared = 0
    for node in graph.nodes:
        for output in node.outputs:
            if output in layers:
                assert np.array_equal(layers[output].reshape(-1), tensors[output].reshape(-1)), (
                    f"{node.op} '{node.name}'"
                )
                compared += 1
    assert compared


@pytest.mark.parametrize("target", ["host", "cortex-m0plus", "cortex-m4", "raspberry-pi-4"])
@pytest.mark.parametrize("first", range(0, len(SEEDS), GROUP))
def test_every_layer_of_the_generated_c_equals_the_interpreter(
    first: int, target: str, tmp_path: Path
) -> None:
    graphs = [all_layers(first_set_network(s)) for s in SEEDS[first : first + GROUP]]
    graph = merge("nets", graphs)
    samples = random_samples(graph, np.random.default_rng(first), 2)
    assert sum(differences(graph, target, tmp_path, samples).values()) == 0


@pytest.mark.parametrize("first", range(100, 140, GROUP))
def test_networks_over_all_ops_run_clean_under_the_sanitizers(first: int, tmp_path: Path) -> None:
    from tinsmith.targets.toolchains import sanitizers_available

    if not sanitizers_available():
        pytest.skip("no gcc or clang with sanitizers here")
    graph = merge("nets", [random_network(s) for s in range(first, first + GROUP)])
    samples = random_samples(graph, np.random.default_rng(first), 2)
    assert sum(differences(graph, "host", tmp_path, samples, sanitize=True).values()) == 0


@pytest.mark.parametrize("target", ["host", "cortex-m0plus", "cortex-m4", "raspberry-pi-5"])
@pytest.mark.parametrize("first", range(200, 240, GROUP))
def test_networks_over_all_ops_equal_the_interpreter_in_c(
    first: int, target: str, tmp_path: Path
) -> None:
    graph = merge("nets", [random_network(s) for s in range(first, first + GROUP)])
    samples = random_samples(graph, np.random.default_rng(first), 2)
    assert sum(differences(graph, target, tmp_path, samples).values()) == 0
