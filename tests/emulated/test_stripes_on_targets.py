"""Layers made in stripes of rows: the same bytes as whole, in less RAM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.chains import any_chain_networks, encoder, in_stripes, pooled
from support.devices import differences
from support.goldens import goldens, load, on_device
from support.nets import random_samples
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.deployment import make_program, temporary_build
from tinsmith.pipeline.graph import DType, Graph
from tinsmith.pipeline.passes import INT_PASSES, run_passes
from tinsmith.pipeline.validation import compare_layers
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.target import target_named, with_limits

MOST_ARENA_BYTES = {
    "mlperf_tiny/ad01_int8": 1_024,
    "mlperf_tiny/kws_ref_model_int8": 7_400,
    "mlperf_tiny/ic_resnet8_int8": 18_500,
    "mlperf_tiny/vww_96_int8": 28_200,
}


@pytest.mark.parametrize(
    ("target", "dtype", "first"),
    [
        ("cortex-m4", DType.INT8, 0),
        ("cortex-m4", DType.INT8, 10),
        ("cortex-m0plus", DType.INT8, 20),
        ("cortex-m4", DType.INT16, 30),
        ("host", DType.INT8, 40),
    ],
)
def test_random_chains_in_stripes_give_the_bytes_of_the_interpreter(
    target: str, dtype: DType, first: int, tmp_path: Path
) -> None:
    graph = any_chain_networks(range(first, first + 10), dtype)
    program = in_stripes(graph, target_named(target).isa, np.random.default_rng(first))
    assert len(program.streamed) > 10
    assert program.loops
    samples = random_samples(graph, np.random.default_rng(1), 3)
    found = differences(graph, target, tmp_path, samples, program=program)
    assert not {name: count for name, count in found.items() if count}


def test_the_c_models_of_assembly_stay_within_their_rows(tmp_path: Path) -> None:
    graph = any_chain_networks(range(50, 54), DType.INT8)
    program = in_stripes(graph, target_named("cortex-m4").isa, np.random.default_rng(2))
    samples = random_samples(graph, np.random.default_rng(1), 2)
    found = differences(graph, "host", tmp_path, samples, program=program, sanitize=True)
    assert not {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("name", MOST_ARENA_BYTES)
def test_the_least_ram_gives_the_bytes_of_tflite_micro_on_every_sample(name: str) -> None:
    graph, target = run_passes(load(name), INT_PASSES), target_named("cortex-m4")
    samples = goldens(graph, name)
    program = lower(graph, "net", target.isa, LowerOptions("ram"))
    with temporary_build(program, target) as made, open_runner(made.image, target) as runner:
        assert made.image.sizes is not None
        assert made.image.sizes.ram_bytes <= MOST_ARENA_BYTES[name]
        for golden in samples[:1]:
            y = on_device(graph, golden, runner).reshape(golden.y.shape)
            np.testing.assert_array_equal(y, golden.y, err_msg=golden.kind)


@pytest.mark.parametrize(
    ("core", "name", "arena_bytes", "stack_bytes"),
    [
        ("cortex-m0plus", "mlperf_tiny/kws_ref_model_int8", 5_120, 400),
        ("cortex-m3", "mlperf_tiny/kws_ref_model_int8", 5_120, 400),
        ("cortex-m0plus", "mlperf_tiny/ic_resnet8_int8", 22_000, 512),
    ],
)
def test_cores_of_few_registers_need_little_arena_and_stack(
    core: str, name: str, arena_bytes: int, stack_bytes: int
) -> None:
    graph, target = run_passes(load(name), INT_PASSES), target_named(core)
    golden = goldens(graph, name)[0]
    program = lower(graph, "net", target.isa, LowerOptions("ram"))
    with temporary_build(program, target) as made, open_runner(made.image, target) as runner:
        assert made.image.sizes is not None
        (result,) = runner.run([(golden.x[0].tobytes(),)])
    assert result.outputs[0] == golden.y[0].tobytes()
    assert made.image.sizes.ram_bytes <= arena_bytes
    assert (result.stack_bytes or 0) <= stack_bytes


@pytest.mark.parametrize("name", ["mlperf_tiny/kws_ref_model_int8", "mlperf_tiny/vww_96_int8"])
def test_stripes_take_few_instructions_more(name: str) -> None:
    graph, target = run_passes(load(name), INT_PASSES), target_named("cortex-m4")
    sample = (goldens(graph, name)[0].x[0].tobytes(),)
    counts = {}
    for objective in ("balanced", "ram"):
        program = lower(graph, "net", target.isa, LowerOptions(objective))
        with temporary_build(program, target) as made, open_runner(made.image, target) as runner:
            (result,) = runner.run([sample])
            counts[objective] = result.instructions or 0
    assert 0 < counts["ram"] < 1.1 * counts["balanced"]


@pytest.mark.parametrize(
    ("target_name", "graph"),
    [("cortex-m4", encoder()), ("host", encoder()), ("cortex-m4", pooled("mean"))],
)
def test_the_rows_of_a_layer_are_put_together_for_its_trace(target_name: str, graph: Graph) -> None:
    target = target_named(target_name)
    program = lower(graph, "net", target.isa, LowerOptions("ram"))
    assert program.streamed
    samples = random_samples(graph, np.random.default_rng(1), 2)
    layers = compare_layers(program, target, samples)
    assert [layer.name for layer in layers] == [node.name for node in graph.nodes]
    assert [layer.shape for layer in layers] == [
        graph.tensors[node.outputs[0]].shape for node in graph.nodes
    ]
    assert not any(layer.mismatches for layer in layers)


def test_a_board_that_is_too_small_for_whole_tensors_gets_stripes(tmp_path: Path) -> None:
    graph, core = encoder(), target_named("cortex-m4")
    whole = lower(graph, "net", core.isa)
    assert not whole.streamed
    board = with_limits(core, ram_bytes=whole.arena_bytes * 2 // 3)
    program = make_program(graph, "net", board)
    assert program.streamed
    assert program.objective == "balanced"
    assert program.whole_arena_bytes == whole.arena_bytes
    assert program.arena_bytes <= whole.arena_bytes * 2 // 3
    samples = random_samples(graph, np.random.default_rng(1), 3)
    found = differences(graph, "cortex-m4", tmp_path, samples, program=program)
    assert not any(found.values())
