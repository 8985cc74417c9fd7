"""What the ops refuse on int16 activations, and that they say why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cases_int16_mac import INT16_MAC_CASES
from support.case import q
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.onnx import to_onnx_qdq
from tinsmith.pipeline.graph import DType, Graph, GraphBuilder, QuantParams, rebuild
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.verify import verify

INT16 = DType.INT16
SEVERAL = QuantParams((0.1,) * 8, (0,), 0)


def case(op: str, name: str) -> Graph:
    found = next(c for c in INT16_MAC_CASES[op] if c.name == f"int16_{name}")
    return found.build(np.random.default_rng(0))


def changed(graph: Graph, i: int, **fields: Any) -> Graph:
    """The graph with other fields of input i of its node; i = -1: of its output."""
    node = graph.nodes[0]
    tensor = graph.tensors[node.outputs[0] if i < 0 else node.inputs[i]]
    return rebuild(graph, tensors=[replace(tensor, **fields)])


@pytest.mark.parametrize(
    ("op", "name", "i", "fields", "message"),
    [
        ("conv2d", "one_pixel", 0, {"quant": q(0.1, 3)}, "int16 with zero point 3; allowed: 0"),
        ("conv2d", "one_pixel", -1, {"quant": q(0.1, 3)}, "int16 with zero point 3; allowed: 0"),
        ("conv2d", "one_pixel", -1, {"quant": q(1e-9)}, "are multiplied by .*; allowed for int16"),
        ("conv2d", "one_pixel", 2, {"data": np.full(11, 1 << 46)}, r"holds .*; allowed: below 2"),
        ("conv2d", "one_pixel", 0, {"quant": SEVERAL}, "has 8 scales; allowed: one"),
        ("conv2d", "one_pixel", -1, {"quant": SEVERAL}, "has 8 scales; allowed: one"),
        ("batch_matmul", "matrices", 0, {"quant": SEVERAL}, "has 8 scales; allowed: one"),
        ("fully_connected", "small", -1, {"quant": q(1e-9)}, "allowed for int16: below 128"),
        ("batch_matmul", "matrices", -1, {"quant": q(1e-9)}, "allowed for int16: below 128"),
    ],
)
def test_layers_on_int16_say_what_they_refuse(
    op: str, name: str, i: int, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        verify(changed(case(op, name), i, **fields))


@pytest.mark.parametrize("op", ["depthwise_conv2d", "transpose_conv2d"])
def test_an_int32_bias_is_refused_where_runtimes_read_it_as_int64(op: str) -> None:
    graph = case(op, "one_pixel")
    bias = graph.tensors[graph.nodes[0].inputs[2]].value().astype(np.int32)
    with pytest.raises(UnsupportedModel, match="the bias is int32; allowed: int64"):
        verify(changed(graph, 2, data=bias, dtype=DType.INT32))


def test_weights_of_4_bits_are_refused_beside_int16() -> None:
    graph = case("conv2d", "per_tensor")
    quant = graph.tensors[graph.nodes[0].inputs[1]].quant
    assert quant is not None
    with pytest.raises(UnsupportedModel, match="weights have 4 bits; allowed beside int16: 8"):
        verify(changed(graph, 1, quant=replace(quant, bits=4)))


def test_sums_that_may_leave_an_int32_are_refused() -> None:
    for op, attrs in (
        ("mean", ReduceAttrs((1, 2))),
        ("sum", ReduceAttrs((1, 2))),
        ("average_pool2d", Pool2dAttrs((256, 256), (1, 1))),
    ):
        b = GraphBuilder("net")
        x = b.input("x", (1, 256, 256, 1), INT16, q(0.1))
        with pytest.raises(UnsupportedModel, match="sums 65536 int16 values; allowed: 65535"):
            verify(b.build([b.node(op, [x], attrs, quant=q(0.1))]))


def test_products_of_very_long_rows_are_refused() -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 1 << 17), INT16, q(0.1))
    y = b.input("y", (1 << 17, 1), INT16, q(0.1))
    with pytest.raises(UnsupportedModel, match="rows of 131072 int16 values; allowed: 65536"):
        verify(b.build([b.node("batch_matmul", [x, y], BatchMatmulAttrs(), quant=q(1.0))]))


def test_onnx_has_no_form_for_the_biases_of_int16_layers() -> None:
    with pytest.raises(UnsupportedModel, match=r"'.*' is int16: .* int64 biases.*; allowed: int8"):
        to_onnx_qdq(case("conv2d", "pointwise"))
