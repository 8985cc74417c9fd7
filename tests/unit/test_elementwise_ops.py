"""Ops that join, cut and combine tensors: what they mean in real numbers, how they are laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases_elementwise import ELEMENTWISE_CASES
from support.case import Case
from support.nets import Net, random_samples
from tinsmith.codegen.lower import lower
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.graph import (
    Activation,
    DType,
    Graph,
    GraphBuilder,
    QuantParams,
    dequantize_array,
)
from tinsmith.pipeline.numerics import integer_range
from tinsmith.pipeline.ops import OPS, ScaleRule, call_of
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.split import SplitAttrs
from tinsmith.pipeline.quantization import quantize

# Where TFLite's arithmetic itself is off by more than roundings: hard_swish has 16 bits
# on the way; where scales leave a radius of 0 or 1, logistic and tanh saturate too soon.
QUIRKS = {
    ("logistic", "scale_4"), ("logistic", "scale_8"), ("logistic", "scale_20"),
    ("tanh", "scale_8"), ("tanh", "scale_20"),
}  # fmt: skip
STEPS = {"hard_swish": 2.0}

INT8 = [
    pytest.param(op, case, id=f"{op}-{case.name}")
    for op, cases in ELEMENTWISE_CASES.items()
    for case in cases
    if not case.name.startswith(("float", "int")) and (op, case.name) not in QUIRKS
]


@pytest.mark.parametrize(("op", "case"), INT8)
def test_integers_are_the_real_result_to_a_step_of_the_output(op: str, case: Case) -> None:
    rng = np.random.default_rng(5)
    graph = case.build(rng)
    samples = random_samples(graph, rng, 4)
    (node,) = graph.nodes
    call = call_of(graph, node)
    for i in range(4):
        tensors, _ = interpreter.run(graph, {n: samples[n][i] for n in graph.inputs})
        reals = [
            dequantize_array(tensors[t.name] if t.data is None else t.data, t.quant)
            for t in call.inputs
            if t is not None and t.quant is not None
        ]
        wanted = OPS[op].run_float(call, reals)
        for tensor, want in zip(call.outputs, wanted, strict=True):
            low, high = integer_range(tensor.dtype)
            exact = np.clip(want.astype(np.float64) / tensor.scale + tensor.zero_point, low, high)
            off = np.abs(tensors[tensor.name] - exact).max()
            assert off <= STEPS.get(op, 1.0 + 1e-3), tensor.name


@pytest.mark.parametrize("name", ["logistic", "tanh"])
def test_with_a_scale_of_eight_and_more_zero_counts_as_below(name: str) -> None:
    """As in tflite-micro, whose radius is 0 there."""
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 3), 8.0, 0)
    graph = net.graph([net.node(name, [x])])
    tensors, _ = interpreter.run(graph, {"x": np.array([[-1, 0, 1]], np.int8)})
    assert interpreter.outputs(graph, tensors)[0].tolist() == [[-128, -128, 127]]


def float_graph(build: Any) -> Graph:
    b = GraphBuilder("float")
    return b.build(build(b))


def test_inputs_of_one_concatenation_get_one_scale() -> None:
    def build(b: GraphBuilder) -> list[str]:
        x = b.input("x", (1, 8))
        ten = b.constant("ten", np.full(1, 10.0, np.float32))
        wide = b.node("mul", [x, ten], MulAttrs(), name="wide")
        return [b.node("concatenation", [x, wide], ConcatenationAttrs(1), name="both")]

    samples = {"x": np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)}
    graph = quantize(float_graph(build), samples)
    both = graph.nodes[-1]
    assert both.op == "concatenation"
    assert len({graph.tensors[n].quant for n in (*both.inputs, *both.outputs)}) == 1


def test_fixed_scales_are_requantized_before_a_concatenation() -> None:
    def build(b: GraphBuilder) -> list[str]:
        x = b.input("x", (1, 8))
        parts = [b.node("logistic", [x]), b.node("tanh", [x]), b.node("hard_swish", [x])]
        return [b.node("concatenation", parts, ConcatenationAttrs(1))]

    rng = np.random.default_rng(0)
    samples = {"x": rng.normal(0, 2, (50, 8)).astype(np.float32)}
    source = float_graph(build)
    graph = quantize(source, samples, None)
    assert [n.op for n in graph.nodes].count("quantize") >= 2
    y = graph.tensors[graph.outputs[0]]
    x = graph.tensors["x"]
    assert x.quant is not None
    assert y.quant is not None
    for sample in samples["x"][:20]:
        want = interpreter.run(source, {"x": sample[None]})[0][source.outputs[0]]
        q = np.clip(np.round(sample / x.scale) + x.zero_point, -128, 127).astype(np.int8)
        got = interpreter.run(graph, {"x": q[None]})[0][y.name]
        assert np.abs(dequantize_array(got, y.quant) - want).max() < 4 * y.scale


def arena(graph: Graph) -> int:
    return lower(graph, "net", ("c",)).arena_bytes


def test_a_concatenation_along_the_outer_axis_needs_no_room_of_its_own() -> None:
    net = Net("net", np.random.default_rng(0))
    parts = [net.input((1, rows, 8)) for rows in (2, 5, 3)]
    y = net.node("concatenation", parts, ConcatenationAttrs(1))
    assert arena(net.graph([y])) == 80


@pytest.mark.parametrize(
    "attrs", [SliceAttrs((0, 2, 0), (1, 5, 8)), SliceAttrs((0, 0, 0), (1, 5, 4), (1, 2, 2))]
)
def test_a_slice_may_lie_over_its_input(attrs: SliceAttrs) -> None:
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 10, 8))
    assert arena(net.graph([net.node("slice", [x], attrs)])) == 80


def test_a_reversed_tensor_may_not_lie_over_its_input() -> None:
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 80))
    y = net.node("slice", [x], SliceAttrs((0, 79), (1, 80), (1, -1)))
    assert arena(net.graph([y])) == 160


def test_an_operand_of_one_value_is_a_table() -> None:
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 4, 4, 3))
    names = []
    for op, attrs in (("mul", MulAttrs()), ("sub", AddAttrs(Activation.RELU)), ("add", AddAttrs())):
        k = net.builder.constant("k", np.array([77], np.int8), QuantParams.per_tensor(0.02, 5))
        names.append(net.node(op, [k, x], attrs))
    program = lower(net.graph(names), "net", ("c",))
    assert list(program.kernels.values()) == ["mul_table", "sub_table", "add_table"]


def int8(b: GraphBuilder, name: str, shape: tuple[int, ...], scale: float = 0.5) -> str:
    return b.input(name, shape, DType.INT8, QuantParams.per_tensor(scale))


REFUSED: dict[str, tuple[str, tuple[tuple[int, ...], ...], Any, str]] = {
    "concatenation of other sizes": ("concatenation", ((1, 4), (2, 5)), ConcatenationAttrs(1),
                                     r"\[1, 4\], \[2, 5\] along axis 1; allowed: equal sizes"),
    "concatenation of other ranks": ("concatenation", ((1, 4), (4,)), ConcatenationAttrs(0),
                                     "allowed: equal sizes"),
    "concatenation axis": ("concatenation", ((1, 4),), ConcatenationAttrs(2), "along axis 2"),
    "split sizes": ("split", ((1, 4),), SplitAttrs(1, (3, 3)), "add up to the axis"),
    "split of nothing": ("split", ((1, 4),), SplitAttrs(1, (4, 0)), "at least 1"),
    "slice beyond": ("slice", ((1, 4),), SliceAttrs((0, 2), (1, 3)), "all inside"),
    "slice step 0": ("slice", ((1, 4),), SliceAttrs((0, 2), (1, 1), (1, 0)), "step"),
    "prelu alpha": ("prelu", ((1, 1), (1, 4)), None, "larger than the input"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_is_refused_with_what_is_allowed(case: str) -> None:
    op, shapes, attrs, message = REFUSED[case]
    b = GraphBuilder("net")
    names = [int8(b, f"x{i}", shape) for i, shape in enumerate(shapes)]
    options = () if attrs is None else (attrs,)
    with pytest.raises(ModelError, match=message):
        b.node(op, names, *options)


def test_a_falling_slope_below_zero_is_refused_in_integers() -> None:
    b = GraphBuilder("net")
    x = int8(b, "x", (1, 4))
    y = b.node("leaky_relu", [x], LeakyReluAttrs(-0.1), quant=QuantParams.per_tensor(0.5))
    with pytest.raises(UnsupportedModel, match=r"alpha -0\.1; allowed: 0 and above \(prelu"):
        b.build([y])


def test_scales_too_far_apart_for_hard_swish_are_refused() -> None:
    b = GraphBuilder("net")
    x = int8(b, "x", (1, 4))
    y = b.node("hard_swish", [x], quant=QuantParams.per_tensor(0.001))
    with pytest.raises(UnsupportedModel, match="128 times"):
        b.build([y])


@pytest.mark.parametrize("op", ["concatenation", "maximum", "minimum"])
def test_tensors_of_several_scales_are_refused_where_only_integers_count(op: str) -> None:
    assert OPS[op].scale_rule is ScaleRule.ALL_SAME
    b = GraphBuilder("net")
    names = [int8(b, "a", (1, 4)), int8(b, "b", (1, 4), 0.25)]
    options = (ConcatenationAttrs(1),) if op == "concatenation" else ()
    y = b.node(op, names, *options, quant=QuantParams.per_tensor(0.5))
    with pytest.raises(ModelError, match="different scales"):
        b.build([y])
