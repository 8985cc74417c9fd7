"""Weights on grids of few integers, scales that are powers of two, and a grid for each layer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from support.float_nets import exact_net, residual_net, samples_of
from tinsmith.pipeline.errors import ConfigError, DataError, UnsupportedModel
from tinsmith.pipeline.graph import Array, Graph, QuantParams, dequantize_array
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.numerics import power_of_two_from, quantize_array
from tinsmith.pipeline.quantization import (
    WEIGHT_GRIDS,
    QuantizeOptions,
    plan_precision,
    quantize,
)
from tinsmith.pipeline.quantization.grids import bytes_of
from tinsmith.pipeline.quantization.parameters import WeightRule, integer_parameters
from tinsmith.pipeline.quantization.precision import cheapest

RNG = np.random.default_rng(3)
LAYERS = ("conv0", "dw1", "conv3", "fc5")


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def made(weights: Array, grid: str, axis: int | None = 0, *, power_of_two: bool = False) -> Array:
    """The real values that weights become."""
    zeros = np.zeros(weights.shape[axis or 0], np.float32)
    rule = WeightRule(WEIGHT_GRIDS[grid], power_of_two)
    p = integer_parameters(weights, zeros, axis, 0.05, rule=rule)
    assert p.weights.min() >= WEIGHT_GRIDS[grid].low
    assert p.weights.max() <= WEIGHT_GRIDS[grid].high
    assert p.weights_quant.bits == 8
    return dequantize_array(p.weights, p.weights_quant)


def quantized_weights(graph: Graph, options: QuantizeOptions) -> dict[str, Array]:
    """The integers of each layer's weights."""
    integers = quantize(graph, samples_of(graph), options)
    return {
        n.name: integers.tensors[n.inputs[1]].value() for n in integers.nodes if n.name in LAYERS
    }


@pytest.mark.parametrize("axis", [0, 3, None])
@pytest.mark.parametrize("grid", [*WEIGHT_GRIDS])
def test_a_finer_grid_is_nearer_to_the_weights(grid: str, axis: int | None) -> None:
    w = floats(6, 3, 3, 4)
    error = np.square(made(w, grid, axis) - w).mean() / np.square(w).mean()
    # For normal weights the best that n levels of one step can do (Max 1960), and a little more.
    bound = {"int8": 1e-4, "int4": 0.03, "int2": 0.25, "ternary": 0.25, "binary": 0.45}[grid]
    assert error < bound
    assert error > bound / 20


def test_ternary_weights_are_those_of_the_paper() -> None:
    w = np.array([[0.1, -0.2, 0.8, -1.0, 0.05, 0.6]], np.float32)
    # Delta = 0.7 * 2.75 / 6 = 0.32; alpha = (0.8 + 1.0 + 0.6) / 3.
    np.testing.assert_allclose(made(w, "ternary"), [[0, 0, 0.8, -0.8, 0, 0.8]], rtol=1e-6)


def test_binary_weights_are_signs_times_the_mean_magnitude() -> None:
    w = np.array([[0.1, -0.3, 0.0, 0.4], [-2.0, 1.0, 1.0, -2.0]], np.float32)
    want = [[0.2, -0.2, 0.2, 0.2], [-1.5, 1.5, 1.5, -1.5]]
    np.testing.assert_allclose(made(w, "binary"), want, rtol=1e-6)


@pytest.mark.parametrize("grid", [*WEIGHT_GRIDS])
def test_a_channel_of_zeros_stays_one_on_every_grid(grid: str) -> None:
    w = floats(3, 8)
    w[1] = 0
    real = made(w, grid)
    assert not real[1].any()
    assert real[0].any()


def test_few_integers_cut_off_a_weight_that_stands_alone() -> None:
    w = floats(1, 500)
    w[0, 7] = 8.0
    real = made(w, "int4")
    assert real.max() < 6
    assert (
        np.square(real - w).sum()
        < np.square(np.clip(np.rint(w / (8 / 7)), -7, 7) * 8 / 7 - w).sum()
    )


@pytest.mark.parametrize("grid", [*WEIGHT_GRIDS])
@pytest.mark.parametrize("activations", [8, 16])
def test_scales_that_are_powers_of_two_are_so_everywhere(grid: str, activations: int) -> None:
    graph = residual_net()
    options = QuantizeOptions(activations=activations, weights=grid, power_of_two=True)
    integers = quantize(graph, samples_of(graph), options)
    for t in integers.tensors.values():
        assert t.quant is not None
        np.testing.assert_array_equal(np.frexp(t.quant.scales)[0], 0.5, t.name)


def test_a_range_holds_what_was_seen_when_its_step_is_a_power_of_two() -> None:
    graph = exact_net()
    x = samples_of(graph)
    plain, even = (
        quantize(graph, x, QuantizeOptions(power_of_two=p)).tensors["conv0_out"]
        for p in (False, True)
    )
    assert plain.scale <= even.scale < 2 * plain.scale
    assert even.zero_point == plain.zero_point == -128


def test_the_next_power_of_two_is_exact() -> None:
    given = [0.0, 1.0, 1.5, 0.5, np.nextafter(0.5, 1), 3e-39, 2.0**-149]
    want = [0.0, 1.0, 2.0, 0.5, 1.0, 2.0**-127, 2.0**-149]
    np.testing.assert_array_equal(power_of_two_from(given), want)


def test_a_scale_that_its_bias_raises_stays_a_power_of_two() -> None:
    w = np.full((2, 4), 1e-9, np.float32)
    rule = WeightRule(WEIGHT_GRIDS["int4"], power_of_two=True)
    p = integer_parameters(w, np.array([3.0, 0.0], np.float32), 0, 0.01, rule=rule)
    np.testing.assert_array_equal(np.frexp(p.weights_quant.scales)[0], 0.5)
    np.testing.assert_allclose(dequantize_array(p.bias, p.bias_quant), [3.0, 0.0], rtol=1e-3)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("grid", [*WEIGHT_GRIDS])
def test_every_layer_of_a_network_is_on_its_grid(grid: str, per_channel: bool) -> None:
    options = QuantizeOptions(weights=grid, per_channel=per_channel, per_channel_fc=per_channel)
    for name, w in quantized_weights(exact_net(), options).items():
        assert w.dtype == np.int8
        assert WEIGHT_GRIDS[grid].low <= w.min() < w.max() <= WEIGHT_GRIDS[grid].high, name


def test_single_layers_and_the_ends_may_have_grids_of_their_own() -> None:
    def most(options: QuantizeOptions) -> list[int]:
        return [int(np.abs(w).max()) for w in quantized_weights(exact_net(), options).values()]

    assert most(QuantizeOptions(weights="binary")) == [1, 1, 1, 1]
    assert most(QuantizeOptions(weights="binary", int8_ends=True)) == [127, 1, 1, 127]
    own = QuantizeOptions(weights="binary", layers={"conv3": "int4", "fc5": "int4"}, int8_ends=True)
    assert most(own) == [127, 1, 7, 7]


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    graph = exact_net()
    with pytest.raises(
        DataError, match=r"layers conv9, which the graph has not; .* conv0, dw1, co"
    ):
        quantize(graph, samples_of(graph), QuantizeOptions(layers={"conv9": "int4"}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int3"}, "weights 'int3' do not exist; allowed: int8, int4, int2, ternary"),
        ({"layers": {"a": "int5"}}, "weights 'int5' do not exist"),
        ({"rounding": "up"}, "rounding 'up' does not exist; allowed: nearest, adaround"),
        (
            {"rounding": "adaround", "weights": "ternary"},
            "neighbouring integers, which weights 'ternary' don't have; .*: int8, int4, int2",
        ),
    ],
)
def test_what_does_not_exist_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QuantizeOptions(**options)


@pytest.mark.parametrize(
    "options", [{"weights": "int4"}, {"power_of_two": True}, {"rounding": "adaround"}]
)
def test_carried_integers_are_not_put_on_another_grid(options: dict[str, object]) -> None:
    graph = exact_net()
    weights = graph.tensors["w0"]
    quant = QuantParams(tuple([0.01] * 8), (0,), 0)
    carried = type(weights)("w0", weights.shape, weights.dtype, quant, weights.data)
    from tinsmith.pipeline.graph import rebuild

    with pytest.raises(UnsupportedModel, match="'w0' carries the parameters of an int8 model"):
        quantize(rebuild(graph, tensors=[carried]), samples_of(graph), QuantizeOptions(**options))


def output_error(graph: Graph, options: QuantizeOptions) -> float:
    x = samples_of(graph, 64)
    integers = quantize(graph, x, options)
    entry, out = (integers.tensors[n[0]] for n in (integers.inputs, integers.outputs))
    q = {entry.name: quantize_array(x[entry.name], entry.quant, entry.dtype)}
    real = dequantize_array(run_samples(integers, q)[0], out.quant)
    return float(np.square(real - run_samples(graph, x)[0]).mean())


def test_a_budget_is_kept_and_more_bytes_never_lose_more() -> None:
    graph = exact_net()
    x = samples_of(graph, 64)
    sizes = {"conv0": 216, "dw1": 72, "conv3": 96, "fc5": 60}
    planned, measured = [], []
    for budget in (111, 200, 300, 444):
        plan = plan_precision(graph, x, QuantizeOptions(per_channel_fc=True), budget)
        counted = sum(bytes_of(WEIGHT_GRIDS[g], sizes[n]) for n, g in plan.layers.items())
        assert plan.weight_bytes == counted <= budget
        options = QuantizeOptions(per_channel_fc=True, layers=plan.layers)
        planned.append(sum(plan.errors[n][g] for n, g in plan.layers.items()))
        measured.append(output_error(graph, options))
    assert set(plan.layers.values()) == {"int8"}
    assert planned == sorted(planned, reverse=True)
    assert planned[-1] == 0 < planned[0]
    assert measured[-1] < measured[0] / 10


def test_measured_errors_grow_as_bits_go() -> None:
    graph = exact_net()
    plan = plan_precision(graph, samples_of(graph, 64), QuantizeOptions(equalize=True), 300)
    for name in LAYERS:
        assert (
            plan.errors[name]["int2"] > plan.errors[name]["int4"] > plan.errors[name]["int8"] == 0
        )


def test_layers_that_are_given_have_no_choice() -> None:
    graph = exact_net()
    options = QuantizeOptions(layers={"conv0": "int8"}, int8_ends=True)
    plan = plan_precision(graph, samples_of(graph), options, 320)
    assert plan.layers["conv0"] == plan.layers["fc5"] == "int8"
    with pytest.raises(
        ConfigError, match=r"weight_bytes = 317 can't be met: .* take 318 bytes; all"
    ):
        plan_precision(graph, samples_of(graph), options, 317)


def test_the_choice_is_the_best_that_there_is() -> None:
    rng = np.random.default_rng(8)
    for _ in range(30):
        choices = {
            f"layer{i}": {
                grid: (int(size), float(error))
                for grid, size, error in zip(
                    "abc", rng.integers(1, 40, 3), rng.integers(0, 9, 3), strict=True
                )
            }
            for i in range(5)
        }
        least = sum(min(size for size, _ in c.values()) for c in choices.values())
        budget = least + int(rng.integers(0, 60))
        taken = cheapest(choices, budget)
        ways = itertools.product(*(c.values() for c in choices.values()))
        best = min(
            sum(error for _, error in way) for way in ways if sum(s for s, _ in way) <= budget
        )
        assert sum(choices[name][grid][0] for name, grid in taken.items()) <= budget
        assert sum(choices[name][grid][1] for name, grid in taken.items()) == best
