"""int16 activations: files, a whole network, what is refused, and how near real arithmetic is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import CASES
from cases_int16 import INT16_CASES
from support.case import built, q
from support.int16_network import int16_network
from support.nets import random_samples
from support.tflite_edit import edit
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import DType, GraphBuilder, dequantize_array
from tinsmith.pipeline.ops import OPS, OpCall
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.verify import verify


def test_every_layer_of_a_whole_network_is_that_of_tflite_micro() -> None:
    if oracles.TFLM.name not in oracles.installed_oracles():
        pytest.skip("tflite-micro is not installed")
    graph = int16_network()
    model = to_tflite(graph)
    again = read_tflite(model)
    samples = random_samples(again, np.random.default_rng(1), 5)
    rows = oracles.TFLM.run_all_layers(model, samples)
    compared = 0
    for i in range(5):
        tensors, _ = interpreter.run(again, {n: a[i] for n, a in samples.items()})
        for node in again.nodes:
            for out in node.outputs:
                np.testing.assert_array_equal(rows[out][i].reshape(-1), tensors[out].reshape(-1))
                compared += 1
    assert compared == 5 * len(again.nodes)


@pytest.mark.parametrize("op", ["add", "sub"])
def test_general_scales_are_computed_where_a_file_promises_powers_of_two(op: str) -> None:
    """As tflite-micro does, which doesn't read the promise."""
    if oracles.TFLM.name not in oracles.installed_oracles():
        pytest.skip("tflite-micro is not installed")
    case = next(c for c in INT16_CASES[op] if c.name == "int16_power_of_two")
    graph, samples = built(op, case, 4)

    def promise(model: Any) -> None:
        model.subgraphs[0].operators[0].builtinOptions.potScaleInt16 = True

    model = edit(to_tflite(graph), promise)
    theirs = oracles.TFLM.run(model, samples)
    ours = interpreter.run_samples(read_tflite(model), samples)
    np.testing.assert_array_equal(ours[0], theirs[0])


def _takes_int16(op: str) -> bool:
    """Whether an op accepts its first int8 case with int16 in the place of activations."""
    graph = CASES[op][0].build(np.random.default_rng(3))
    node = next(n for n in graph.nodes if n.op == op)
    definition = OPS[op]

    def wide(t: Any, is_activation: bool) -> Any:
        if t is None or not is_activation or t.dtype is not DType.INT8:
            return t
        data = None if t.data is None else t.data.astype(np.int16)
        return type(t)(t.name, t.shape, DType.INT16, t.quant and q(t.scale / 256), data)

    ins = tuple(wide(t, i < definition.data_inputs) for i, t in enumerate(graph.ins(node)))
    outs = tuple(wide(t, True) for t in graph.outs(node))
    reasons = definition.accepts(OpCall(node.name, node.attrs, ins, outs, op))
    return not any("type" in r or "int16" in r for r in reasons)


@pytest.mark.parametrize("op", sorted(OPS))
def test_an_op_that_says_whose_int16_it_computes_has_cases_of_it_and_others_refuse_it(
    op: str,
) -> None:
    wide = [
        case.name
        for case in CASES[op]
        if "int16" in case.name
        for graph in [case.build(np.random.default_rng(3))]
        if any(graph.tensors[n].dtype is DType.INT16 for n in graph.inputs)
    ]
    assert bool(wide) == (OPS[op].int16 is not None)
    if OPS[op].int16 is None:
        assert not _takes_int16(op)


@pytest.mark.parametrize(
    ("op", "attrs", "scale", "message"),
    [
        ("logistic", None, 4.1, r"input scale 4.1; allowed for int16: up to 4"),
        ("tanh", None, 5.0, r"input scale 5; allowed for int16: up to 4"),
        ("exp", None, 0.0025, r"input scale 0.0025; allowed for int16: up to 0.00244"),
        ("softmax", SoftmaxAttrs(3.0), 0.7, r"input scale 0.7 with beta 3; allowed for int16"),
    ],
)
def test_scales_at_which_an_int32_would_overflow_are_refused(
    op: str, attrs: Any, scale: float, message: str
) -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 5), DType.INT16, q(scale))
    fixed = OPS[op].fixed_quant_int16
    y = b.node(op, [x], *([] if attrs is None else [attrs]), quant=q(*(fixed or (0.1, 0))))
    with pytest.raises(UnsupportedModel, match=message):
        b.build([y])


def test_a_row_whose_exponentials_an_int32_can_not_sum_is_refused() -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 1 << 17), DType.INT16, q(0.001))
    y = b.node("softmax", [x], SoftmaxAttrs(), quant=q(1 / 32768))
    with pytest.raises(UnsupportedModel, match="rows of 131072; allowed for int16: up to 65536"):
        b.build([y])


@pytest.mark.parametrize(
    ("source", "to", "x", "y", "message"),
    [
        (DType.INT16, DType.INT8, q(0.1, 3), q(0.1), "int16 with zero point 3; allowed: 0"),
        (DType.INT8, DType.INT16, q(0.1), q(0.1, 3), "int16 with zero point 3; allowed: 0"),
        (DType.INT8, DType.INT32, q(0.1), q(0.1, 3), "int32 with zero point 3; allowed: 0"),
        (DType.INT16, DType.UINT8, q(0.1), q(0.1), "int16 to uint8; allowed: int8, int16, int32"),
        (DType.INT64, DType.INT8, q(0.1), q(0.1), "int64 to int8; allowed: from float32"),
    ],
)  # fmt: skip
def test_changes_of_type_that_no_runtime_has_are_refused(
    source: DType, to: DType, x: Any, y: Any, message: str
) -> None:
    b = GraphBuilder("net")
    a = b.input("a", (1, 5), source, x)
    out = b.node("quantize", [a], quant=y, dtype=to)
    with pytest.raises(UnsupportedModel, match=message):
        b.build([out])


def test_int32_can_not_be_dequantized_since_no_runtime_has_it() -> None:
    b = GraphBuilder("net")
    y = b.node("dequantize", [b.input("x", (1, 5), DType.INT32, q(0.1))])
    with pytest.raises(UnsupportedModel, match="type int32; allowed: int8, uint8, int16, float32"):
        b.build([y])


@pytest.mark.parametrize(
    ("op", "name", "bound"),
    [
        ("logistic", "usual", 3.0),
        ("tanh", "usual", 5.0),
        ("exp", "fine", 3.0),
        ("softmax", "classes", 16.0),
    ],
)
def test_the_tables_are_near_the_real_functions(op: str, name: str, bound: float) -> None:
    """bound: in steps of the output."""
    case = next(c for c in INT16_CASES[op] if c.name == f"int16_{name}")
    graph, samples = built(op, case, 4)
    (node,) = graph.nodes
    x, y = graph.tensors[node.inputs[0]], graph.tensors[node.outputs[0]]
    assert x.quant is not None
    assert y.quant is not None
    ours = interpreter.run_samples(graph, samples)[0]
    call = OpCall(op, node.attrs, (x,), (y,), op)
    for stored, got in zip(samples[graph.inputs[0]], ours, strict=True):
        (real,) = OPS[op].run_float(call, [dequantize_array(stored, x.quant)])
        wanted = np.clip(real.astype(np.float64) / y.scale, -32768, 32767)
        assert np.abs(got - wanted).max() <= bound


def test_graphs_of_mixed_types_are_refused_by_every_op_of_two_inputs() -> None:
    for op in ("add", "sub", "mul", "maximum", "minimum", "squared_difference"):
        b = GraphBuilder("net")
        x = b.input("x", (1, 5), DType.INT16, q(0.1))
        k = b.input("k", (1, 5), DType.INT8, q(0.1))
        y = b.node(op, [x, k], OPS[op].attrs(), quant=q(0.1))
        with pytest.raises(UnsupportedModel, match="types int16, int8; allowed: all of one type"):
            verify(b.build([y]))
