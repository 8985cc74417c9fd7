"""Kernels chosen by measurement in the emulator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.nets import Net
from tinsmith.codegen.lower import OBJECTIVES
from tinsmith.pipeline import tuning
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import lower_for
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.generation import generate
from tinsmith.pipeline.graph import Activation, Graph
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.tuning import Tuning, tune
from tinsmith.pipeline.validation import random_samples
from tinsmith.targets.target import target_named, with_limits

M4 = target_named("cortex-m4")
RELU = Activation.RELU


@pytest.fixture(scope="module")
def net() -> Graph:
    """3x3 convolution, two equal depthwise layers, pointwise convolution, dense: 3 outputs."""
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 8, 8, 4))
    w = net.weights((8, 3, 3, 4), x, axis=0)
    attrs = Conv2dAttrs(pads=(1, 1, 1, 1), activation=RELU)
    y = net.node("conv2d", [x, w, net.bias(w, x, 8)], attrs, name="first")
    for name in ("second", "third"):
        w = net.weights((1, 3, 3, 8), y, axis=3, fan_in=9)
        depthwise = DepthwiseConv2dAttrs(pads=(1, 1, 1, 1), activation=RELU)
        y = net.node("depthwise_conv2d", [y, w, net.bias(w, y, 8)], depthwise, name=name)
    w = net.weights((4, 8, 8, 8), y, axis=0)
    y = net.node("conv2d", [y, w, net.bias(w, y, 4)], Conv2dAttrs(), name="whole")
    w = net.weights((3, 4), y)
    y = net.node("fully_connected", [y, w, net.bias(w, y, 3)], FullyConnectedAttrs(), name="dense")
    return net.graph([y])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def tuned(net: Graph, cache: Path, objective: str = "balanced") -> Tuning:
    options = CodeOptions(objective)
    return tune(net, M4, options, random_samples(net, 1), cache=cache)


def test_every_candidate_of_every_layer_is_measured_once(net: Graph, cache: Path) -> None:
    first = tuned(net, cache, "time")
    assert [layer.name for layer in first.layers] == ["first", "second", "third", "whole", "dense"]
    assert set(first.layers[0].costs) == {"conv2d_winograd", "conv2d_dsp", "conv2d_c"}
    assert all(len(layer.costs) > 1 for layer in first.layers)
    assert first.measured >= sum(len(layer.costs) for layer in first.layers)
    again = tuned(net, cache, "time")
    assert again.measured == 0
    assert replace(again, measured=first.measured) == first


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_tuned_network_is_no_worse_than_the_cost_models(
    net: Graph, cache: Path, objective: str
) -> None:
    found = tuned(net, cache, objective)
    measure = "flash_bytes" if objective == "size" else "instructions"
    options = CodeOptions(objective, choice=found.choice)
    program, plain = (lower_for(net, "network", M4, o) for o in (options, CodeOptions(objective)))
    run = {p: tuning.measure(p, M4, random_samples(net, 1)) for p in (program, plain)}
    assert getattr(run[program], measure) == getattr(found.after, measure)
    assert getattr(run[plain], measure) == getattr(found.before, measure)
    if objective == "ram":
        assert program.arena_bytes <= plain.arena_bytes
    else:
        assert getattr(found.after, measure) <= getattr(found.before, measure)
    assert all(program.kernels[layer.name] == layer.chosen for layer in found.layers)


def test_the_fastest_measured_kernel_is_taken_where_the_model_errs(
    net: Graph, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"conv2d_c": {"instructions": {"call": 1.0}, "code_bytes": {}, "constant_bytes": {}}}
    monkeypatch.setattr("tinsmith.codegen.cost.TABLE", {"dsp": wrong})
    plain = lower_for(net, "network", M4, CodeOptions("time"))
    assert plain.kernels["first"] == "conv2d_c"
    found = tuned(net, cache, "time")
    chosen = {layer.name: layer for layer in found.layers}
    for layer in chosen.values():
        least = min(c.instructions for c in layer.costs.values())
        assert layer.costs[layer.chosen].instructions == least
    assert found.after.instructions < found.before.instructions


def test_what_is_damaged_in_the_cache_is_measured_again(net: Graph, cache: Path) -> None:
    first = tuned(net, cache)
    files = sorted(cache.glob("*.json"))
    files[0].write_text("{")
    files[1].write_text(json.dumps({"instructions": 1}))
    again = tuned(net, cache)
    assert 1 <= again.measured <= 2
    assert again.layers == first.layers


def test_layers_measured_before_an_interruption_are_known_afterwards(
    net: Graph, tmp_path: Path
) -> None:
    def stop(message: str, fraction: float) -> None:
        if message == "third":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(net, M4, CodeOptions(), random_samples(net, 1), cache=tmp_path, progress=stop)
    kept = len(list(tmp_path.iterdir()))
    assert kept >= 5
    rest = tune(net, M4, CodeOptions(), random_samples(net, 1), cache=tmp_path)
    assert rest.measured == len(list(tmp_path.iterdir())) - kept


def test_a_faster_kernel_is_not_taken_where_its_scratch_does_not_fit(
    net: Graph, cache: Path
) -> None:
    roomy = tuned(net, cache, "time")
    plain = lower_for(net, "network", M4, CodeOptions("balanced"))
    wanting = CodeOptions("time", choice=roomy.choice)
    arena = lower_for(net, "network", M4, wanting).arena_bytes
    tight = with_limits(M4, ram_bytes=plain.arena_bytes)
    found = tune(net, tight, CodeOptions("time"), random_samples(net, 1), cache=cache)
    fitting = lower_for(net, "network", tight, CodeOptions("time", choice=found.choice))
    assert fitting.arena_bytes <= max(plain.arena_bytes, tight.ram_bytes or 0)
    assert arena >= fitting.arena_bytes


def test_tuned_c_computes_the_same_bytes_and_says_what_was_chosen(
    net: Graph, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "cache_dir", lambda: cache)
    made = generate(net, M4, options=CodeOptions("time"), tune=True)  # compares with golden vectors
    assert made.tuning is not None
    for layer in made.tuning.layers:
        assert made.program.kernels[layer.name] == layer.chosen


def test_a_target_whose_instructions_nobody_counts_is_refused(net: Graph) -> None:
    with pytest.raises(ConfigError, match=r"host has no emulator that counts .*cortex-m4"):
        tune(net, target_named("host"), CodeOptions(), random_samples(net, 1))
