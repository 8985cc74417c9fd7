"""How far the integer ops are from real arithmetic: bounds that no rounding may leave."""

from __future__ import annotations

import math

import numpy as np
import pytest

from more_cases import MORE_CASES
from support.case import Case
from support.nets import random_samples
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.graph import Array, DType, Graph, dequantize_array
from tinsmith.pipeline.ops import OPS, call_of
from tinsmith.pipeline.ops.fixedpoint import inverse_square_root, log_of_at_least_one
from tinsmith.pipeline.ops.gate_functions import (
    sigmoid_q15,
    sigmoid_table,
    tanh_q15,
    tanh_scaling,
)

# Output steps between an int8 op and the same function of real values, saturated likewise.
STEPS = {
    "sum": 1.0,
    "resize_bilinear": 1.5,  # weights of 10 bits
    "batch_matmul": 0.55,
    "transpose_conv2d": 0.55,
    "squared_difference": 1.0,
    "l2_normalization": 1.0,
    "log_softmax": 1.0,
    "exp": 0.51,
    "elu": 0.51,
    "gelu": 0.51,
    "sqrt": 0.51,
    "square": 0.51,
    "rsqrt": 1.0,
    "abs": 0.51,
    "neg": 0.51,
}
BOUNDED = [pytest.param(op, c, id=f"{op}-{c.name}") for op in STEPS for c in MORE_CASES[op]]


def real_output(graph: Graph, sample: dict[str, Array]) -> Array:
    """What the graph's one node gives of the real values that its inputs stand for."""
    call = call_of(graph, graph.nodes[0])
    op = OPS[graph.nodes[0].op]
    values: list[Array | None] = []
    for i, tensor in enumerate(call.inputs):
        assert tensor is not None
        stored = sample[tensor.name] if tensor.data is None else tensor.data
        if i == op.bias:
            weights = call.input(1)
            assert weights.quant is not None
            real = stored * (call.input(0).scale * weights.quant.scales.astype(np.float64))
            values.append(real.astype(np.float32))
        else:
            assert tensor.quant is not None
            values.append(dequantize_array(stored, tensor.quant))
    return op.run_float(call, values)[0]


@pytest.mark.parametrize(("op", "case"), BOUNDED)
def test_an_integer_op_is_within_its_bound_of_real_arithmetic(op: str, case: Case) -> None:
    rng = np.random.default_rng(3)
    graph = case.build(rng)
    out = graph.tensors[graph.outputs[0]]
    if out.dtype is not DType.INT8:
        pytest.skip("this case is in float")
    samples = random_samples(graph, rng, 4)
    for i in range(4):
        sample = {name: values[i] for name, values in samples.items()}
        (q,) = interpreter.outputs(graph, interpreter.run(graph, sample)[0])
        assert out.quant is not None
        wanted = np.clip(real_output(graph, sample) / out.scale + out.zero_point, -128, 127)
        assert float(np.abs(q - wanted).max()) <= STEPS[op]


def test_the_sigmoid_is_within_two_steps_of_the_real_one_everywhere() -> None:
    x = np.arange(-32768, 32768)
    real = 32768.0 / (1.0 + np.exp(-x / 4096.0))
    assert float(np.abs(sigmoid_q15(x) - np.minimum(real, 32767)).max()) <= 2.0


@pytest.mark.parametrize("power", [-15, -12, -9])
def test_the_tanh_is_within_four_steps_of_the_real_one_everywhere(power: int) -> None:
    x = np.arange(-32768, 32768)
    real = 32768.0 * np.tanh(x * 2.0**power)
    assert float(np.abs(tanh_q15(x, tanh_scaling(power)) - np.minimum(real, 32767)).max()) <= 4.0


def test_the_sigmoid_table_rises_from_a_half_to_saturation() -> None:
    table = sigmoid_table().astype(np.int64)
    assert (table[0], table[255]) == (32768, 65535)
    assert np.all(np.diff(table) >= 0)


@pytest.mark.parametrize(
    "value", [1, 2, 3, 4, 5, 17, 255, 65025, 1 << 20, (1 << 29) - 1, (1 << 31) - 1]
)
def test_the_inverse_square_root_has_seventeen_bits(value: int) -> None:
    found = inverse_square_root(value).real
    assert found == pytest.approx(1.0 / math.sqrt(value), rel=2.0**-17)


def test_zero_has_the_inverse_square_root_of_one() -> None:
    assert inverse_square_root(0) == inverse_square_root(1)


def test_the_logarithm_is_within_a_millionth_of_the_real_one() -> None:
    x = np.unique(np.geomspace(1 << 19, (1 << 31) - 1, 4000).astype(np.int64))
    found = log_of_at_least_one(x, 12, 5) / 2.0**26
    assert float(np.abs(found - np.log(x / 2.0**19)).max()) < 1e-6
