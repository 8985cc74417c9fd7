"""Lookups, image ops and layers with a state come in from files that no writer of ours makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from more_cases import MORE_CASES
from support.case import q
from support.more_growers import lstm_node
from support.nets import Net
from support.tflite_edit import FileMaker, edit
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.ops.lstm import LstmAttrs

T = schema.TensorType


def lstm_file() -> bytes:
    net = Net("net", np.random.default_rng(4))
    x = net.input((1, 4, 3), 0.02)
    return to_tflite(net.graph([lstm_node(net, x, 5, LstmAttrs(), q(1 / 127, -1))]))


def with_operator(model: bytes, change: Callable[[Any], object]) -> bytes:
    """The file with its first operator changed."""
    return edit(model, lambda m: change(m.subgraphs[0].operators[0]))


def set_input(i: int, value: int) -> Callable[[Any], object]:
    def change(op: Any) -> None:
        op.inputs = np.array(op.inputs)
        op.inputs[i] = value

    return change


def set_option(name: str, value: Any) -> Callable[[Any], object]:
    return lambda op: setattr(op.builtinOptions, name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_input(9, 1), "it has peepholes; allowed: a plain lstm"),
        (set_input(16, 1), "it has a projection; allowed: a plain lstm"),
        (set_input(21, 1), "it has layer norm; allowed: a plain lstm"),
        (set_input(1, -1), "coupled to the forget gate; allowed: four gates"),
        (set_option("fusedActivationFunction", 1), r"activation 1; allowed: 4 \(tanh\)"),
    ],
)
def test_lstms_of_other_kinds_are_refused(change: Callable[[Any], object], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read_tflite(with_operator(lstm_file(), change))


def test_an_lstm_of_too_few_inputs_is_an_error() -> None:
    with pytest.raises(ModelError, match="7 inputs; allowed: 20, 24"):
        read_tflite(with_operator(lstm_file(), lambda op: setattr(op, "inputs", op.inputs[:7])))


def test_an_lstm_without_the_inputs_of_a_layer_norm_is_read() -> None:
    whole = lstm_file()
    short = with_operator(whole, lambda op: setattr(op, "inputs", op.inputs[:20]))
    assert [n.inputs for n in read_tflite(short).nodes] == [
        n.inputs for n in read_tflite(whole).nodes
    ]


def test_layers_that_share_a_state_are_refused() -> None:
    def twice(model: Any) -> None:
        main = model.subgraphs[0]
        first = main.operators[0]
        main.tensors.append(
            schema.TensorT(
                shape=np.array([1, 4, 5], np.int32), type=T.INT8, buffer=0, name="again",
                quantization=main.tensors[first.outputs[0]].quantization,
            )
        )  # fmt: skip
        second = schema.OperatorT(
            opcodeIndex=first.opcodeIndex, inputs=first.inputs.copy(),
            outputs=np.array([len(main.tensors) - 1], np.int32),
            builtinOptionsType=first.builtinOptionsType, builtinOptions=first.builtinOptions,
        )  # fmt: skip
        main.operators.append(second)
        main.outputs = np.array([first.outputs[0], second.outputs[0]], np.int32)

    with pytest.raises(UnsupportedModel, match="its state 'h' is shared with another layer"):
        read_tflite(edit(lstm_file(), twice))


def file_of(op: str, case: str) -> bytes:
    found = next(c for c in MORE_CASES[op] if c.name == case)
    return to_tflite(found.build(np.random.default_rng(1)))


@pytest.mark.parametrize(
    ("op", "case", "change", "error", "message"),
    [
        ("gather", "rows", set_option("batchDims", 1), UnsupportedModel, "batch_dims 1"),
        ("l2_normalization", "rows", set_option("fusedActivationFunction", 1), UnsupportedModel,
         "fused activation; allowed: none"),
        ("transpose_conv2d", "twice", set_option("padding", 7), ModelError, "padding 7; allowed"),
        ("transpose_conv2d", "twice", set_option("strideH", 0), ModelError, r"stride \(0, 2\)"),
        ("resize_nearest", "twice", set_input(1, 0), UnsupportedModel,
         "sizes are computed at run time"),
        ("depth_to_space", "two", set_option("blockSize", 0), ModelError, "blocks of at least 1"),
        ("sum", "image", set_input(1, 0), UnsupportedModel,
         "axes are computed at run time"),
    ],
)  # fmt: skip
def test_what_is_broken_or_beyond_the_ops_is_refused(
    op: str,
    case: str,
    change: Callable[[Any], object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        read_tflite(with_operator(file_of(op, case), change))


def test_sizes_must_be_two() -> None:
    m = FileMaker()
    x = m.tensor("x", (1, 2, 2, 1))
    size = m.tensor("size", (3,), T.INT32, np.array([4, 4, 4], np.int32))
    y = m.tensor("y", (1, 4, 4, 1))
    m.operator("RESIZE_BILINEAR", [x, size], [y], schema.ResizeBilinearOptionsT())
    with pytest.raises(ModelError, match=r"sizes \[4, 4, 4\]; allowed: two"):
        read_tflite(m.finish([x], [y]))


def test_an_embedding_lookup_is_a_gather_of_rows() -> None:
    m = FileMaker()
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    ids = m.tensor("ids", (4,), T.INT32)
    table = m.tensor("table", (5, 3), data=rows)
    y = m.tensor("y", (4, 3))
    m.operator("EMBEDDING_LOOKUP", [ids, table], [y])
    model = m.finish([ids], [y])
    graph = read_tflite(model)
    assert [n.op for n in graph.nodes] == ["gather"]
    picks = np.array([[3, 0, 4, 4], [1, 1, 2, 0]], np.int32)
    (found,) = interpreter.run_samples(graph, {"ids": picks})
    np.testing.assert_array_equal(found, rows[picks])
    if oracles.TFLM.name in oracles.installed_oracles():
        (theirs,) = oracles.TFLM.run(model, {"ids": picks})
        np.testing.assert_array_equal(found, theirs)
