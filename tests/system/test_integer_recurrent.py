"""LSTMs, and what stands around them, trained in integers, which are those that devices compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from support.corner_network import SAMPLES, quiet, recipe  # noqa: E402
from support.devices import differences  # noqa: E402
from tinsmith.pipeline.errors import UnsupportedModel  # noqa: E402
from tinsmith.pipeline.exporters.tflite import to_tflite  # noqa: E402
from tinsmith.pipeline.frontends.onnx import input_axes  # noqa: E402
from tinsmith.pipeline.graph import Graph, dequantize_array, rebuild  # noqa: E402
from tinsmith.pipeline.interpreter import run_samples  # noqa: E402
from tinsmith.pipeline.model_files import read_model, to_input  # noqa: E402
from tinsmith.pipeline.ops.lstm import LstmAttrs  # noqa: E402
from tinsmith.pipeline.quantization import QuantizeOptions  # noqa: E402
from tinsmith.pipeline.training.export import export_onnx  # noqa: E402
from tinsmith.pipeline.training.integer_network import IntegerNetwork, Ranges  # noqa: E402
from tinsmith.pipeline.training.loop import fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import label_loss  # noqa: E402
from tinsmith.pipeline.training.networks import accuracy  # noqa: E402


class Rows(nn.Module):
    """An LSTM over the rows of an image; a layer on its last state, or the mean of both ways."""

    def __init__(self, both_ways: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 8, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(16 if both_ways else 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lstm(x.flatten(1, 2))[0]
        return self.head(y.mean(1) if self.lstm.bidirectional else y[:, -1])


class Gated(nn.Module):
    """Two LSTMs on top of each other, the mean over time, and gates that multiply it."""

    def __init__(self, swish: bool = False) -> None:
        super().__init__()
        self.swish = swish
        self.lstm = nn.LSTM(12, 8, num_layers=2, batch_first=True)
        self.gate, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lstm(x.flatten(1, 2))[0].mean(1)
        shift = F.hardswish(y) if self.swish else F.relu(y)
        return self.head(torch.tanh(y) * torch.sigmoid(self.gate(y)) - shift)


def float_network(net: nn.Module, folder: Path, epochs: int = 4) -> tuple[Graph, tuple[int, ...]]:
    """The graph of a network that was trained a little, and the axes of its input."""
    fit(net, SAMPLES, recipe(epochs, 2e-2), label_loss, folder / "a.pt", quiet)
    export_onnx(net, SAMPLES.x_test[:1], folder / "m.onnx")
    graph = read_model(folder / "m.onnx").graph
    return graph, tuple(input_axes(folder / "m.onnx")[graph.inputs[0]])


def integer_network(
    graph: Graph, axes: tuple[int, ...], learn: Ranges = "lsq", **options: Any
) -> IntegerNetwork:
    samples = {graph.inputs[0]: SAMPLES.x_train.permute(axes).numpy()[:, None]}
    return IntegerNetwork(graph, samples, QuantizeOptions(**options), learn, axes)


CASES = [
    pytest.param(Rows, {}, id="int8"),
    pytest.param(lambda: Rows(True), {"weights": "int4"}, id="both-ways-int4"),
    pytest.param(Gated, {"activations": 16}, id="gated-int16"),
    pytest.param(lambda: Gated(True), {"power_of_two": True}, id="gated-power-of-two"),
]


@pytest.mark.parametrize(("make", "options"), CASES)
def test_what_is_trained_is_what_the_file_the_interpreter_and_the_c_compute(
    make: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    with repeatable(2, 1):
        graph, axes = float_network(make(), tmp_path, 1)
        net = integer_network(graph, axes, **options)
        before = [c.detach().clone() for c in net.constants]
        fit(net, SAMPLES, recipe(1, 1e-3), label_loss, tmp_path / "c.pt", quiet)
    assert all(bool((a != b).any()) for a, b in zip(before, net.constants, strict=True))
    with torch.no_grad():
        said = net(SAMPLES.x_test)
    (tmp_path / "m.tflite").write_bytes(to_tflite(net.integer_graph()))
    written = read_model(tmp_path / "m.tflite").graph
    entry, out = (written.tensors[n[0]] for n in (written.inputs, written.outputs))
    assert out.quant is not None
    x = to_input(SAMPLES.x_test.permute(axes).numpy(), entry, "test")
    y = run_samples(written, {entry.name: x})[0]
    assert torch.equal(said, torch.from_numpy(dequantize_array(y, out.quant)).flatten(1))
    found = differences(net.integer_graph(), "cortex-m4", tmp_path / "c", {entry.name: x[:8]})
    assert not any(found.values()), found


def test_gradients_are_those_of_the_float_network(tmp_path: Path) -> None:
    with repeatable(3, 1):
        module = Gated()
        graph, axes = float_network(module, tmp_path)
    x, labels = SAMPLES.x_train[:60], SAMPLES.y_train[:60]
    module.zero_grad()
    label_loss(module.eval(), x, labels).backward()
    gates = torch.split(module.lstm.weight_hh_l1.grad, 8)  # input, forget, cell, output
    for bits, least in ((16, 0.999), (8, 0.97)):
        net = integer_network(graph, axes, activations=bits)
        label_loss(net, x, labels).backward()
        second = [node for node in graph.nodes if node.op == "lstm"][1]
        for gate, wanted in enumerate(gates):
            found = net.constants[net.names.index(second.inputs[5 + gate])].grad
            similar = F.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)
            assert float(similar) > least, (bits, gate)


@pytest.mark.parametrize("learn", ["lsq", "pact"])
def test_a_hidden_state_that_is_cut_off_learns_its_range(learn: Ranges, tmp_path: Path) -> None:
    with repeatable(4, 1):
        graph, axes = float_network(Rows(), tmp_path, 6)
        net = integer_network(graph, axes, learn)
        states = next(node.outputs[0] for node in graph.nodes if node.op == "lstm")
        place = net.places[net.roots[states]]
        with torch.no_grad():
            net.ranges[place] *= 0.1
        narrow = float(net.ranges[place].detach().abs().max())
        start = accuracy(net, SAMPLES.x_test, SAMPLES.y_test)
        fit(net, SAMPLES, recipe(4, 1e-2), label_loss, tmp_path / "c.pt", quiet)
    assert float(net.ranges[place].detach().abs().max()) > narrow
    assert accuracy(net, SAMPLES.x_test, SAMPLES.y_test) > max(start, 90)


def test_an_lstm_whose_time_comes_first_is_refused(tmp_path: Path) -> None:
    graph, axes = float_network(Rows(), tmp_path, 1)
    nodes = [replace(n, attrs=LstmAttrs(True)) if n.op == "lstm" else n for n in graph.nodes]
    turned = rebuild(graph, nodes=nodes)
    with pytest.raises(UnsupportedModel, match="samples can't run side by side"):
        integer_network(turned, axes)
