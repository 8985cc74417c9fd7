"""AdaRound: rounding that is learned serves the outputs better than rounding to the nearest."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from support.float_nets import exact_net, samples_of  # noqa: E402
from tinsmith.pipeline.errors import DataError, UnsupportedModel  # noqa: E402
from tinsmith.pipeline.graph import (  # noqa: E402
    Activation,
    Array,
    Graph,
    GraphBuilder,
    dequantize_array,
)
from tinsmith.pipeline.interpreter import run_samples  # noqa: E402
from tinsmith.pipeline.numerics import quantize_array  # noqa: E402
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs  # noqa: E402
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs  # noqa: E402
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs  # noqa: E402
from tinsmith.pipeline.ops.lstm import LstmAttrs  # noqa: E402
from tinsmith.pipeline.quantization import QuantizeOptions, quantize  # noqa: E402

RELU = Activation.RELU


def correlated(count: int, shape: tuple[int, ...], seed: int = 4) -> Array:
    """Positive samples whose values go together, as those of images do."""
    rng = np.random.default_rng(seed)
    common = rng.random((count, *(1 for _ in shape))) * 2
    return (common + 0.2 * rng.normal(size=(count, *shape))).clip(0).astype(np.float32)


def layers(seed: int = 5) -> Graph:
    """Strided and dilated, in groups, depthwise of two channels each, dense over whole images."""
    rng, b = np.random.default_rng(seed), GraphBuilder("net")

    def w(name: str, *shape: int) -> str:
        return b.constant(name, rng.normal(size=shape).astype(np.float32))

    x = b.input("x", (1, 9, 8, 4))
    y = b.node("conv2d", [x, w("w0", 6, 3, 2, 2), w("b0", 6)],
               Conv2dAttrs((2, 1), (1, 2), (1, 0, 1, 2), RELU), name="groups")  # fmt: skip
    y = b.node("depthwise_conv2d", [y, w("w1", 1, 3, 3, 12), w("b1", 12)],
               DepthwiseConv2dAttrs((1, 2), (1, 1), (0, 2, 1, 0), RELU), name="thin")  # fmt: skip
    y = b.node("fully_connected", [y, w("w2", 5, np.prod(b.tensors[y].shape))],
               FullyConnectedAttrs(), name="dense")  # fmt: skip
    return b.build([y])


def error(graph: Graph, x: Array, fresh: Array, options: QuantizeOptions) -> float:
    """The mean square error of the outputs of fresh samples."""
    quantized = quantize(graph, {"x": x}, options)
    entry, out = (quantized.tensors[n[0]] for n in (quantized.inputs, quantized.outputs))
    q = quantize_array(fresh, entry.quant, entry.dtype)
    real = dequantize_array(run_samples(quantized, {"x": q})[0], out.quant)
    return float(np.square(real - run_samples(graph, {"x": fresh})[0]).mean())


@pytest.mark.parametrize("per_channel", [True, False])
def test_learned_rounding_loses_less_on_samples_that_it_has_not_seen(per_channel: bool) -> None:
    graph = layers()
    x, fresh = correlated(64, (1, 9, 8, 4)), correlated(64, (1, 9, 8, 4), 5)
    nearest, learned = (
        error(graph, x, fresh, QuantizeOptions(
            weights="int4", per_channel=per_channel, per_channel_fc=per_channel, rounding=rounding
        ))
        for rounding in ("nearest", "adaround")
    )  # fmt: skip
    assert learned < 0.8 * nearest


def test_weights_move_to_one_of_their_neighbours_and_each_layer_is_told() -> None:
    graph, x = layers(), {"x": correlated(40, (1, 9, 8, 4))}
    told: list[tuple[str, float]] = []
    options = QuantizeOptions(weights="int4", rounding="adaround")
    nearest = quantize(graph, x, QuantizeOptions(weights="int4"))
    learned = quantize(graph, x, options, lambda line, share: told.append((line, share)))
    moved = 0
    for name in ("w0", "w1", "w2"):
        before, after = nearest.tensors[name], learned.tensors[name]
        assert before.quant == after.quant
        shape = [1] * before.value().ndim
        if before.quant.axis is not None:
            shape[before.quant.axis] = -1
        steps = graph.tensors[name].value() / before.quant.scales.reshape(shape)
        below = np.floor(steps).clip(-7, 7)
        above = np.ceil(steps).clip(-7, 7)
        assert np.all((after.value() == below) | (after.value() == above))
        moved += int(np.count_nonzero(after.value() != before.value()))
    assert moved > 0
    assert [share for _, share in told] == pytest.approx([1 / 3, 2 / 3, 1])
    assert told[0][0].startswith("rounding layer 1/3 'groups': ")


def test_the_same_seed_gives_the_same_integers_and_another_may_not() -> None:
    graph, x = layers(), {"x": correlated(40, (1, 9, 8, 4))}
    made = [
        quantize(graph, x, QuantizeOptions(weights="int4", rounding="adaround", seed=seed))
        for seed in (1, 1, 2)
    ]
    values = [
        np.concatenate([g.tensors[w].value().ravel() for w in ("w0", "w1", "w2")]) for g in made
    ]
    np.testing.assert_array_equal(values[0], values[1])
    assert np.any(values[0] != values[2])


def test_weights_that_are_on_the_grid_already_stay() -> None:
    graph = exact_net()
    x = samples_of(graph)
    options = QuantizeOptions(per_channel_fc=True)
    plain = quantize(graph, x, options)
    learned = quantize(graph, x, QuantizeOptions(per_channel_fc=True, rounding="adaround"))
    for name in ("w0", "w1", "w3", "w5"):
        difference = plain.tensors[name].value().astype(int) - learned.tensors[name].value()
        assert np.abs(difference).max() <= 1
        assert np.mean(difference != 0) < 0.5


def test_a_network_that_runs_step_by_step_is_refused() -> None:
    rng, b = np.random.default_rng(0), GraphBuilder("net")
    x = b.input("x", (1, 4, 3))
    sizes = [(5, 3)] * 4 + [(5, 5)] * 4 + [(5,)] * 4
    constants = [
        b.constant(f"p{i}", rng.normal(size=s).astype(np.float32)) for i, s in enumerate(sizes)
    ]
    states = [b.state_var(n, np.zeros((1, 5), np.float32)) for n in ("hidden", "cell")]
    y, h, c = b.node_multi("lstm", [x, *constants, *states], LstmAttrs(), name="lstm")
    b.assign("hidden", h)
    b.assign("cell", c)
    graph = b.build([y])
    with pytest.raises(
        UnsupportedModel, match=r"'adaround' needs a network without state .* 'nearest'"
    ):
        quantize(graph, samples_of(graph), QuantizeOptions(rounding="adaround"))


def test_samples_are_needed() -> None:
    with pytest.raises(DataError, match="adaround need calibration samples; give some"):
        quantize(layers(), None, QuantizeOptions(rounding="adaround"))


def test_only_learned_rounding_loads_torch() -> None:
    code = "import sys, tinsmith.pipeline.quantization; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
