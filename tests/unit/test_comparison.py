"""Models and runtimes are compared layer by layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.command import run
from support.goldens import load, model_path
from support.nets import Net
from tinsmith.pipeline.comparison import Side, compare, cosine, inputs_for, match
from tinsmith.pipeline.errors import ConfigError, DataError
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Graph, GraphBuilder, rebuild
from tinsmith.pipeline.layer_traces import trace
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs


def small_net(seed: int = 0) -> Graph:
    net = Net("net", np.random.default_rng(seed))
    x = net.input((1, 5, 5, 3))
    y = net.node("conv2d", [x, net.weights((4, 3, 3, 3), x, axis=0)], Conv2dAttrs(), name="first")
    z = net.node("conv2d", [y, net.weights((2, 1, 1, 4), y, axis=0)], Conv2dAttrs(), name="second")
    return net.graph([z])


def with_one_weight_changed(graph: Graph, layer: str) -> Graph:
    node = next(n for n in graph.nodes if n.name == layer)
    weights = graph.tensors[node.inputs[1]]
    data = weights.value().copy()
    data.flat[0] ^= 64
    return rebuild(graph, tensors=[replace(weights, data=data)])


def side(graph: Graph, runtime: str = "interpreter") -> Side:
    (feeds,) = inputs_for([graph], None, "random")
    return Side(runtime, graph, trace(graph, feeds, runtime))


def test_a_model_does_not_differ_from_itself() -> None:
    report = compare(side(small_net()), side(small_net()))
    assert report.identical and report.first_difference is None
    assert [t.layer for t in report.tensors] == ["first", "second"]
    assert all(t.cosine == pytest.approx(1) and t.max_difference == 0 for t in report.tensors)
    assert report.tensors[0].values == report.samples * 3 * 3 * 4 and report.tensors[0].in_steps


def test_the_first_layer_that_differs_is_named() -> None:
    graph = small_net()
    report = compare(side(graph), side(with_one_weight_changed(graph, "second")))
    first, second = report.tensors
    assert report.first_difference == "second" and not report.identical
    assert first.differing == 0
    a, b = side(graph), side(with_one_weight_changed(graph, "second"))
    gap = np.abs(a.trace[second.tensor_a].astype(int) - b.trace[second.tensor_b].astype(int))
    assert second.differing == np.count_nonzero(gap) > 0
    assert second.max_difference == gap.max()


@pytest.mark.parametrize("runtime", ["tflite-micro", "tflite-runtime", "host", "cortex-m4"])
def test_a_runtime_is_compared_with_the_interpreter(runtime: str) -> None:
    if runtime.startswith("tflite"):
        pytest.importorskip(runtime.replace("-", "_"), reason=f"{runtime} is not installed")
    report = compare(side(small_net()), side(small_net(), runtime))
    assert report.identical and len(report.tensors) == 2
    assert {t.matched_by for t in report.tensors} == {"name"}


def test_a_float_and_an_int8_model_are_compared_in_real_values() -> None:
    names = ("mlperf_tiny/ic_resnet8_float", "mlperf_tiny/ic_resnet8_int8")
    graphs = [load(n) for n in names]
    data = inputs_for(graphs, None, "random", 4)
    a, b = (Side(g.name, g, trace(g, d)) for g, d in zip(graphs, data, strict=True))
    report = compare(a, b)
    assert len(report.tensors) == 16
    assert all(not t.in_steps and t.cosine > 0.95 for t in report.tensors)
    assert report.tensors[-1].matched_by == "output"
    assert not report.only_a and not report.only_b


def test_the_state_goes_on_from_sample_to_sample_in_every_runtime() -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    graph = load("microwakeword_v2/vad")
    (feeds,) = inputs_for([graph], None, "random")
    sides = [Side(r, graph, trace(graph, feeds, r)) for r in ("interpreter", "tflite-micro")]
    report = compare(*sides)
    assert report.identical and len(report.tensors) > 15
    x = feeds[graph.inputs[0]]
    again = trace(graph, {graph.inputs[0]: x[-1:]})
    last = report.tensors[1].tensor_a
    assert not np.array_equal(again[last][0], sides[0].trace[last][-1])


def relu_chain(names: list[str], shapes: tuple[int, ...] = (1, 4)) -> Graph:
    b = GraphBuilder("net")
    x = b.input("x", shapes)
    for name in names:
        x = b.node("relu", [x], name=name)
    return b.build([x])


def test_layers_of_other_names_are_matched_in_their_order() -> None:
    a, b = relu_chain(["p", "q", "r"]), relu_chain(["s", "t"])
    pairs = match(a, ["p_out", "q_out", "r_out"], b, ["s_out", "t_out"])
    assert pairs == {"r_out": ("t_out", "output"), "p_out": ("s_out", "order")}


def test_models_without_anything_in_common_are_refused() -> None:
    a, b = relu_chain(["p"]), relu_chain(["q"])
    empty = Side("B", b, {})
    with pytest.raises(ConfigError, match=r"A and B have nothing to compare.*'p' 1x4"):
        compare(Side("A", a, trace(a, {"x": np.zeros((1, 1, 4), np.float32)})), empty)
    with pytest.raises(DataError, match=r"inputs of different shapes: 'net' takes \[1, 4\]; 'net'"):
        inputs_for([a, relu_chain(["p"], (1, 5))], None, "random")


def test_the_cosine_of_nothing_with_nothing_is_one() -> None:
    zero, one = np.zeros(3), np.ones(3)
    assert cosine(zero, zero) == 1.0
    assert cosine(zero, one) == 0.0
    assert cosine(one, -one) == pytest.approx(-1)
    assert cosine(one * 1e300, one) == pytest.approx(1)


def test_the_command_writes_its_report_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    graph = small_net()
    a, b, report = tmp_path / "a.tflite", tmp_path / "b.tflite", tmp_path / "r.json"
    a.write_bytes(to_tflite(graph))
    b.write_bytes(to_tflite(with_one_weight_changed(graph, "first")))
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(1).standard_normal((3, 5, 5, 3)).astype(np.float32))
    assert run("diff", a, b, "--inputs", x, "--json", report) == 0, "see stderr"
    read = json.loads(report.read_text())
    assert read["samples"] == 3 and read["identical"] is False
    assert read["first_difference"] == read["tensors"][0]["layer"]
    assert run("diff", a, b, "--inputs", x, "--exact") == 1
    assert run("diff", a, a, "--exact") == 0


def test_the_command_refuses_what_is_no_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = tmp_path / "a.tflite"
    a.write_bytes(to_tflite(small_net()))
    assert run("diff", a) == 2
    assert "give a second model" in capsys.readouterr().err
    assert run("diff", a, "--runtime-b", "tensorrt") == 2
    assert "allowed: interpreter, tflite-micro, tflite-runtime, host" in capsys.readouterr().err


def test_stored_integers_feed_a_float_model_as_real_values() -> None:
    graphs = [load("mlperf_tiny/ic_resnet8_int8"), load("mlperf_tiny/ic_resnet8_float")]
    model_path("mlperf_tiny/ic_resnet8_float")
    x = np.random.default_rng(0).integers(-128, 128, (2, 32, 32, 3)).astype(np.int8)
    first, second = inputs_for(graphs, {graphs[0].inputs[0]: x}, "x.npy")
    np.testing.assert_array_equal(first[graphs[0].inputs[0]].reshape(x.shape), x)
    real = second[graphs[1].inputs[0]].reshape(x.shape)
    np.testing.assert_array_equal(real, x.astype(np.float32) + 128)  # scale 1, zero point -128
