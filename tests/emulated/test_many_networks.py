"""500 random networks over all ops: interpreter, oracle and C agree on every byte."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cases import CASES
from support.devices import differences
from support.merge import merge
from support.nets import random_samples
from support.random_network import GROWERS, random_network
from support.uint8_layers import layers
from support.uint8_nets import uint8_network
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.errors import TinsmithError
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import DType, Graph, Node
from tinsmith.pipeline.ops import OPS, Oracle, call_of
from tinsmith.pipeline.oracles import installed_oracles
from tinsmith.targets.toolchains import sanitizers_available

NETWORKS = 500
FIRST = 500  # the first seed; over these seeds every op occurs
GROUP = 25
WIDE_NETWORKS = 100  # of int16 activations
ORACLE_NAMES = {Oracle.TFLM: "tflite-micro", Oracle.REF: "tflite-runtime"}


def defining_oracle(graph: Graph) -> str | None:
    """The oracle that defines every op of a network, if one does: tflite-micro before the other."""
    for oracle, name in ORACLE_NAMES.items():
        if all(_agrees(graph, node, oracle) for node in graph.nodes):
            return name
    return None


def _agrees(graph: Graph, node: Node, oracle: Oracle) -> bool:
    """Ops that move, select or clamp values are the same everywhere."""
    op, call = OPS[node.op], call_of(graph, node)
    moves = op.scale_rule.name in ("SAME", "ALL_SAME")
    return op.definer(call) is oracle or (moves and op.is_computed_by(call, oracle))


def test_the_defining_oracle_agrees_on_every_output(capsys: pytest.CaptureFixture[str]) -> None:
    if not installed_oracles():
        pytest.skip("no oracle is installed")
    asked: Counter[str] = Counter()

    @settings(
        max_examples=NETWORKS,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**31 - 1))
    @example(seed=7)
    def compare(seed: int) -> None:
        asked[compare_with_oracle(seed)] += 1

    compare()
    with capsys.disabled():
        print(f"\nnetworks by oracle: {dict(asked)}")
    assert asked["tflite-micro"] + asked["tflite-runtime"] >= sum(asked.values()) // 2


def test_the_defining_oracle_agrees_on_every_output_of_int16_networks() -> None:
    if not installed_oracles():
        pytest.skip("no oracle is installed")
    asked = Counter(compare_with_oracle(s, DType.INT16) for s in range(WIDE_NETWORKS))
    assert asked["refused"] == 0
    assert asked["tflite-micro"] >= WIDE_NETWORKS // 2


def compare_with_oracle(seed: int, dtype: DType = DType.INT8) -> str:
    """The oracle that was asked, "none" where none defines the network, or "refused"."""
    graph = random_network(seed, dtype=dtype)
    name = defining_oracle(graph)
    oracle = installed_oracles().get(name or "")
    if oracle is None:
        return "none"
    samples = random_samples(graph, np.random.default_rng(seed), 2)
    try:
        outputs = oracle.run(to_tflite(graph), dict(samples), stateful=True)
    except TinsmithError:
        # A runtime may refuse an odd model; what it takes, it has to agree on.
        return "refused"
    state = None
    for i in range(2):
        tensors, state = interpreter.run(graph, {n: a[i] for n, a in samples.items()}, state)
        for want, have in zip(interpreter.outputs(graph, tensors), outputs, strict=True):
            assert np.array_equal(have[i].reshape(-1), want.reshape(-1)), f"seed {seed}"
    return oracle.name


@pytest.mark.parametrize("first", range(FIRST, FIRST + NETWORKS, GROUP))
def test_the_c_agrees_on_every_output(first: int, tmp_path: Path) -> None:
    graph = merge("nets", [random_network(s) for s in range(first, first + GROUP)])
    samples = random_samples(graph, np.random.default_rng(first), 2)
    wrong = {n: c for n, c in differences(graph, "host", tmp_path, samples, opt="-O1").items() if c}
    assert not wrong


@pytest.mark.parametrize("first", range(0, WIDE_NETWORKS, GROUP))
def test_the_c_of_int16_networks_agrees_on_every_output(first: int, tmp_path: Path) -> None:
    """On a target each, and clean under the sanitizers on the host."""
    target = ("host", "cortex-m0plus", "cortex-m4", "raspberry-pi-4")[first // GROUP]
    seeds = range(first, first + GROUP)
    graph = merge("nets", [random_network(s, dtype=DType.INT16) for s in seeds])
    samples = random_samples(graph, np.random.default_rng(first), 2)
    sanitize = target == "host" and sanitizers_available()
    found = differences(graph, target, tmp_path, samples, sanitize=sanitize)
    assert not {n: c for n, c in found.items() if c}


def test_every_op_on_int16_occurs_in_the_int16_networks() -> None:
    networks = [random_network(s, dtype=DType.INT16) for s in range(WIDE_NETWORKS)]
    grown = {node.op for graph in networks for node in graph.nodes}
    assert {n for n in GROWERS if OPS[n].int16 is not None} <= grown


def test_every_op_and_attribute_occurs(capsys: pytest.CaptureFixture[str]) -> None:
    """Over the networks, the table of cases and those of uint8, which run at the same tiers."""
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    count: Counter[str] = Counter()
    networks = [random_network(seed) for seed in range(FIRST, FIRST + NETWORKS)]
    rng = np.random.default_rng(0)
    cases = [case.build(rng) for table in CASES.values() for case in table]
    of_uint8 = [layers(), *(read_tflite(uint8_network(seed)) for seed in range(10))]
    for graph in (*networks, *cases, *of_uint8):
        for node in graph.nodes:
            count[node.op] += 1
            for field in dataclasses.fields(node.attrs):
                values[node.op][field.name].add(str(getattr(node.attrs, field.name)))
    with capsys.disabled():
        print("\nop, how often, and of each attribute how many values:")
        for op in sorted(count):
            kinds = ", ".join(f"{f} {len(v)}" for f, v in sorted(values[op].items()))
            print(f"  {op:20} {count[op]:5}  {kinds}")
    assert set(GROWERS) <= {node.op for graph in networks for node in graph.nodes}
    assert set(OPS) <= set(count)
    narrow = {f"{op}.{f}" for op in values for f, seen in values[op].items() if len(seen) < 2}
    narrow -= {"max_pool2d.as_uint8"}  # both pools share their attributes; this one is of means
    assert not narrow, f"attributes with one value only: {narrow}"
