"""Training in integers: the forward pass is what the file, the interpreter and the C compute."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from support.corner_network import IMAGES, SAMPLES, quiet, recipe, trained  # noqa: E402
from support.devices import differences  # noqa: E402
from tinsmith.pipeline import oracles  # noqa: E402
from tinsmith.pipeline.errors import UnsupportedModel  # noqa: E402
from tinsmith.pipeline.exporters.tflite import to_tflite  # noqa: E402
from tinsmith.pipeline.graph import Graph, dequantize_array  # noqa: E402
from tinsmith.pipeline.interpreter import run_samples  # noqa: E402
from tinsmith.pipeline.model_files import read_model, to_input  # noqa: E402
from tinsmith.pipeline.quantization import QuantizeOptions  # noqa: E402
from tinsmith.pipeline.training.export import export_onnx  # noqa: E402
from tinsmith.pipeline.training.integer_network import IntegerNetwork, Ranges  # noqa: E402
from tinsmith.pipeline.training.loop import fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import label_loss  # noqa: E402
from tinsmith.pipeline.training.networks import accuracy  # noqa: E402


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A float graph that was trained a little."""
    return read_model(trained(tmp_path_factory.mktemp("net")) / "model.onnx").graph


def integer_network(graph: Graph, learn: Ranges = "lsq", **options: Any) -> IntegerNetwork:
    samples = {graph.inputs[0]: IMAGES[:, None]}
    return IntegerNetwork(graph, samples, QuantizeOptions(**options), learn)


def computed(integers: Graph, x: Tensor) -> Tensor:
    """The integer graph's outputs by the interpreter, as real values."""
    entry, out = (integers.tensors[n[0]] for n in (integers.inputs, integers.outputs))
    q = to_input(x.permute(0, 2, 3, 1).numpy(), entry, "test")
    assert out.quant is not None
    y = run_samples(integers, {entry.name: q})[0]
    return torch.from_numpy(dequantize_array(y, out.quant)).flatten(1)


@pytest.mark.parametrize("learn", ["lsq", "pact", "fixed"])
@pytest.mark.parametrize("activations", [8, 16])
def test_what_is_trained_is_what_the_file_the_interpreter_and_the_c_compute(
    learn: Ranges, activations: int, graph: Graph, tmp_path: Path
) -> None:
    with repeatable(2, 1):
        net = integer_network(graph, learn, activations=activations)
        fit(net, SAMPLES, recipe(2, 1e-3), label_loss, tmp_path / "c.pt", quiet)
    with torch.no_grad():
        said = net(SAMPLES.x_test)
    integers = net.integer_graph()
    assert torch.equal(said, computed(integers, SAMPLES.x_test))
    (tmp_path / "m.tflite").write_bytes(to_tflite(integers))
    written = read_model(tmp_path / "m.tflite").graph
    assert torch.equal(said, computed(written, SAMPLES.x_test))
    entry = written.tensors[written.inputs[0]]
    x = to_input(SAMPLES.x_test[:20].permute(0, 2, 3, 1).numpy(), entry, "test")
    found = differences(written, "host", tmp_path / "c", {entry.name: x})
    assert not any(found.values()), found


GRIDS = [
    {"weights": "int4"},
    {"weights": "int2", "per_channel": False},
    {"weights": "ternary", "int8_ends": True},
    {"weights": "binary"},
    {"weights": "int4", "power_of_two": True},
    {"weights": "int8", "symmetric": True},
]


@pytest.mark.parametrize("options", GRIDS, ids=lambda o: "-".join(map(str, o.values())))
def test_on_every_grid_the_runtime_and_the_emulated_core_give_the_same_too(
    options: dict[str, Any], graph: Graph, tmp_path: Path
) -> None:
    """On every output of each convolution, the depthwise and the dense layers, then in the end."""
    with repeatable(2, 1):
        net = integer_network(graph, **options)
        fit(net, SAMPLES, recipe(1, 1e-3), label_loss, tmp_path / "c.pt", quiet)
    with torch.no_grad():
        said = net(SAMPLES.x_test)
    integers = net.integer_graph()
    assert torch.equal(said, computed(integers, SAMPLES.x_test))
    model = to_tflite(integers)
    (tmp_path / "m.tflite").write_bytes(model)
    written = read_model(tmp_path / "m.tflite").graph
    entry, out = (written.tensors[n[0]] for n in (written.inputs, written.outputs))
    x = to_input(SAMPLES.x_test.permute(0, 2, 3, 1).numpy(), entry, "test")
    assert out.quant is not None
    for oracle in oracles.installed_oracles().values():
        y = oracle.run(model, {entry.name: x}, isolated=True)[0]
        assert torch.equal(said, torch.from_numpy(dequantize_array(y, out.quant)).flatten(1))
    for target in ("host", "cortex-m4"):
        folder = tmp_path / target
        folder.mkdir()
        found = differences(written, target, folder, {entry.name: x})
        assert not any(found.values()), (target, found)


def test_gradients_are_nearly_those_of_the_float_network(graph: Graph) -> None:
    wide, net = (integer_network(graph, activations=bits) for bits in (16, 8))
    gradients = []
    for module in (wide, net):
        label_loss(module, SAMPLES.x_train[:60], SAMPLES.y_train[:60]).backward()
        gradients.append(torch.cat([c.grad.flatten() for c in module.constants]))
    assert float(F.cosine_similarity(*gradients, dim=0)) > 0.97


@pytest.mark.parametrize("learn", ["lsq", "pact"])
def test_ranges_that_are_far_too_wide_are_learned(
    learn: Ranges, graph: Graph, tmp_path: Path
) -> None:
    """Too wide ones for the step, too narrow ones for the clip, which they cut off."""
    factor = 30.0 if learn == "lsq" else 0.2
    with repeatable(3, 1):
        net = integer_network(graph, learn)
        given = {net.places[root] for root in net.given}
        with torch.no_grad():
            for place in range(len(net.ranges)):
                if place not in given:
                    net.ranges[place] *= factor
        before = net.ranges.detach().clone()
        start = accuracy(net, SAMPLES.x_test, SAMPLES.y_test)
        fit(net, SAMPLES, recipe(6, 2e-2), label_loss, tmp_path / "c.pt", quiet)
    assert start < 90
    assert accuracy(net, SAMPLES.x_test, SAMPLES.y_test) >= 95
    moved = (net.ranges.detach() - before).abs().sum(1) > 0
    assert [place for place in range(len(moved)) if not moved[place]] == sorted(given)


def test_fixed_ranges_stay(graph: Graph, tmp_path: Path) -> None:
    with repeatable(4, 1):
        net = integer_network(graph, "fixed")
        before = net.ranges.detach().clone()
        fit(net, SAMPLES, recipe(1), label_loss, tmp_path / "c.pt", quiet)
    assert torch.equal(net.ranges, before)


def test_an_op_without_a_gradient_is_refused_by_name(tmp_path: Path) -> None:
    class Ranked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(144, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.softmax(x.flatten(1), 1))

    export_onnx(Ranked(), SAMPLES.x_test[:1], tmp_path / "m.onnx")
    graph = read_model(tmp_path / "m.onnx").graph
    with pytest.raises(UnsupportedModel, match=r"softmax '.*': its gradient is not known here"):
        integer_network(graph)
