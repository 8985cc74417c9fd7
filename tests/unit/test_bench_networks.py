"""The benchmarks of networks and of a grid of shapes: what they measure and how they tell it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.nets import Net, random_samples
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The scripts as modules; they find each other as they do when one is started."""
    names = ("kept", "layers", "ordinary", "networks", "kernel_grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def dense() -> Graph:
    net = Net("net", np.random.default_rng(1))
    x = net.input((1, 40))
    for outputs in (8, 4):
        w = net.weights((outputs, net.shape(x)[1]), x)
        x = net.node("fully_connected", [x, w, net.bias(w, x, outputs)], FullyConnectedAttrs())
    return net.graph([x])


def a_layer(bench: SimpleNamespace) -> Any:
    return bench.layers.Layer("d", "conv2d", "conv2d_dsp", "conv2d [1] -> [1]", 100, 200, 500, "c")


def test_every_layer_is_counted_beside_its_plain_kernel(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("unicorn")
    monkeypatch.setattr(bench.kept, "cache_dir", lambda: tmp_path)
    graph = dense()
    samples = random_samples(graph, np.random.default_rng(2), 3)
    found = bench.layers.measure(graph, "cortex-m4", samples)
    assert [layer.macs for layer in found.layers] == [320, 32]
    assert [layer.plain_kernel for layer in found.layers] == ["fully_connected_c"] * 2
    assert all(0 < layer.instructions <= 1.2 * layer.plain for layer in found.layers)
    assert found.mismatches == 0
    # What was measured is kept: a second run starts no compiler.
    monkeypatch.setattr(bench.layers, "_run", None)
    assert bench.layers.measure(graph, "cortex-m4", samples) == found


def test_bytes_that_differ_are_counted(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("unicorn")
    monkeypatch.setattr(bench.kept, "cache_dir", lambda: tmp_path)
    wrong = bench.layers.interpret
    monkeypatch.setattr(bench.layers, "interpret", lambda *a: tuple(y ^ 1 for y in wrong(*a)))
    graph = dense()
    samples = random_samples(graph, np.random.default_rng(2), 2)
    assert bench.layers.measure(graph, "cortex-m3", samples).mismatches == 2 * 2 * 4


def test_a_layer_is_slower_only_where_another_kernel_was_chosen(bench: SimpleNamespace) -> None:
    fast = a_layer(bench)
    slow = replace(fast, instructions=600)
    assert (fast.is_slower, slow.is_slower) == (False, True)
    assert not replace(slow, plain_kernel="conv2d_dsp").is_slower
    assert "1.20 of plain C" in slow.told() and "plain" not in fast.told()


@pytest.mark.parametrize("family", ["MobileNetV1", "MobileNetV2", "ResNet", "DS-CNN", "1D"])
def test_random_networks_are_the_same_each_time_and_saturate_nowhere(
    bench: SimpleNamespace, family: str
) -> None:
    make = bench.ordinary.FAMILIES[family]
    nets = [Net("net", np.random.default_rng(3)) for _ in range(2)]
    one, two = (make(net) for net in nets)
    assert [n.op for n in one.nodes] == [n.op for n in two.nodes]
    for node in one.nodes[:-1]:
        y = np.stack(nets[0].values[node.outputs[0]])
        np.testing.assert_array_equal(y, np.stack(nets[1].values[node.outputs[0]]))
        zero_point = nets[0].tensor(node.outputs[0]).quant.zero_points[0]
        ends = (y == 127) | ((y == -128) & (zero_point != -128))
        # The range is that of the samples: few of many values, but some of a few, are its ends,
        # and 6 is where RELU6 ends.
        bounded = getattr(node.attrs, "activation", None) is bench.ordinary.RELU6
        assert np.mean(ends) < 0.02 or bounded or y.size < 500, node.name
        assert len(np.unique(y)) >= min(8, y.size // 2), node.name


def test_the_sections_tell_each_network_kernel_and_kind_of_layer(bench: SimpleNamespace) -> None:
    layer = a_layer(bench)
    found = {c: bench.layers.Measured(c, (layer,), 0) for c in bench.networks.CORES}
    text = bench.networks.section({"some net": found}, bench.networks.CORES)
    assert "| some net | 0.000M | 0.000M | 2.00 | 2.5x |" in text
    assert "| `conv2d_dsp` | m4 | 1 | 2.00 | 2.00 | 2.00 | 2.00 | conv2d [1] -> [1] |" in text
    assert "Of these 3 layers, 0 take more" in text
    slow = bench.kernel_grid.Cell(replace(layer, instructions=600), 100)
    row = bench.kernel_grid.as_row("conv 1x1", "cortex-m4", [slow])
    assert row == ["conv 1x1", "m4", "1", "6.00", "6.00", "6.00", "0.8x", "1, at most 1.20x"]


def test_the_grid_has_every_kind_of_layer_that_has_kernels_of_its_own(
    bench: SimpleNamespace,
) -> None:
    graphs = [
        points[0].graph(np.random.default_rng(1)) for points in bench.kernel_grid.LAYERS.values()
    ]
    ops = {node.op for graph in graphs for node in graph.nodes}
    assert {"conv2d", "depthwise_conv2d", "fully_connected", "add"} <= ops
    assert all(len(points) >= 18 for points in bench.kernel_grid.LAYERS.values())


def test_a_network_with_a_wrong_byte_is_an_error(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = bench.networks.Subject("net", dense(), {}, None)
    monkeypatch.setattr(bench.networks, "models", lambda data: [subject])
    monkeypatch.setattr(bench.networks, "random_networks", list)
    wrong = bench.layers.Measured("cortex-m4", (a_layer(bench),), 3)
    monkeypatch.setattr(bench.networks, "measure", lambda *a: wrong)
    assert bench.networks.main(["--cores", "cortex-m4"]) == 1
    assert "3 output bytes differ" in capsys.readouterr().err


def test_models_that_are_absent_are_named(
    bench: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = bench.networks.models(tmp_path)
    assert len(found) in (0, len(bench.networks.PACKAGED))
    assert f"person_detect: skipped, {tmp_path}" in capsys.readouterr().err
