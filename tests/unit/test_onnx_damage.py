"""Damaged and hostile ONNX files end in a ModelError that says what is wrong."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx import read_onnx
from tinsmith.pipeline.frontends.onnx_file import MAX_ELEMENTS


def small_model() -> ModelProto:
    """conv, relu, flatten, gemm."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(2, 1, 3, 3)).astype(np.float32),
        "v": rng.normal(size=(3, 72)).astype(np.float32),
        "shape": np.array([1, -1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Reshape", ["b", "shape"], ["c"], "flat"),
        helper.make_node("Gemm", ["c", "v"], ["y"], "gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def changed(change: Callable[[ModelProto], object]) -> ModelProto:
    proto = small_model()
    change(proto)
    return proto


def _set_dims(proto: ModelProto, name: str, dims: list[int]) -> None:
    (tensor,) = [t for t in proto.graph.initializer if t.name == name]
    tensor.dims[:] = dims


def _fold(proto: ModelProto, op: str, size: int, name: str = "huge") -> None:
    target, one = np.array([size, size], np.int64), np.ones((1, 1), np.float32)
    for data, what in ((target, "shape"), (one, "one")):
        proto.graph.initializer.append(numpy_helper.from_array(data, f"{name}_{what}"))
    inputs = [f"{name}_shape"] if op == "ConstantOfShape" else [f"{name}_one", f"{name}_shape"]
    proto.graph.node.append(helper.make_node(op, inputs, [name], name))
    proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


def _attribute(proto: ModelProto, node: int, attribute: onnx.AttributeProto) -> None:
    kept = [a for a in proto.graph.node[node].attribute if a.name != attribute.name]
    del proto.graph.node[node].attribute[:]
    proto.graph.node[node].attribute.extend([*kept, attribute])


DAMAGE: dict[str, Callable[[ModelProto], object]] = {
    r"a cycle through": lambda m: m.graph.node[0].input.__setitem__(0, "b"),
    r"nothing computes its input 'nowhere'": lambda m: m.graph.node[1].input.__setitem__(
        0, "nowhere"
    ),
    r"'a' is computed twice": lambda m: m.graph.node[1].output.__setitem__(0, "a"),
    r"output 'z' of the ONNX model is computed by no node": lambda m: setattr(
        m.graph.output[0], "name", "z"
    ),
    r"no graph with outputs": lambda m: m.graph.ClearField("output"),
    r"names no opset of the domain ai\.onnx": lambda m: m.ClearField("opset_import"),
    r"uses opset 9; allowed: 13 to \d+; convert": lambda m: setattr(
        m.opset_import[0], "version", 9
    ),
    r"uses opset 9999": lambda m: setattr(m.opset_import[0], "version", 9999),
    r"initializer 'w': its data does not fill its shape": lambda m: _set_dims(m, "w", [2, 1, 3, 4]),
    r"initializer 'w' has the shape .* with a negative": lambda m: _set_dims(m, "w", [-2, 1, 3, 3]),
    r"initializer 'w' has the shape .* allowed: up to": lambda m: _set_dims(
        m, "w", [1 << 20, 1 << 20, 1 << 20, 3]
    ),
    r"two initializers are called 'w'": lambda m: m.graph.initializer.append(
        m.graph.initializer[0]
    ),
    r"initializer 'w' has the unknown type 99": lambda m: setattr(
        m.graph.initializer[0], "data_type", 99
    ),
    r"input 'x' has the shape .* allowed: up to": lambda m: (
        m.graph.input[0].type.tensor_type.shape.dim.__getitem__(2).__setattr__("dim_value", 1 << 40)
    ),
    r"input 'x' has no shape": lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
    r"Conv 'conv': 0 groups of weights": lambda m: _attribute(
        m, 0, helper.make_attribute("group", 0)
    ),
    r"strides \(0, 1\); allowed: at least 1": lambda m: _attribute(
        m, 0, helper.make_attribute("strides", [0, 1])
    ),
    r"its output has the shape .* allowed: up to|pads": lambda m: _attribute(
        m, 0, helper.make_attribute("pads", [1 << 40, 0, 0, 0])
    ),
    r"pads \[1\] for an input of rank 4": lambda m: _attribute(
        m, 0, helper.make_attribute("pads", [1])
    ),
    r"breaks the ONNX schema": lambda m: _attribute(m, 0, helper.make_attribute("pads", "text")),
    r"Relu 'relu' breaks the ONNX schema": lambda m: m.graph.node[1].input.append("w"),
    r"does not go into \[1, 7\]": lambda m: m.graph.initializer[2].CopyFrom(
        numpy_helper.from_array(np.array([1, 7], np.int64), "shape")
    ),
    r"its constant result would have \d+ elements": lambda m: _fold(m, "Expand", 1 << 30),
    r"its constant result would have \d+ elements; allowed": lambda m: _fold(
        m, "ConstantOfShape", 1 << 30
    ),
    r"Max 'max': its input 1 is absent": lambda m: m.graph.node.append(
        helper.make_node("Max", ["a", ""], ["e"], "max")
    ),
    r"the constants that the ONNX model computes have more than": lambda m: [
        _fold(m, "Expand", 5000, f"huge{i}") for i in range(3)
    ],
    r"sparse initializers": lambda m: m.graph.sparse_initializer.add(),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_model_is_refused_with_what_is_wrong(message):
    with pytest.raises(ModelError, match=message):
        read_onnx(changed(DAMAGE[message]))


def test_nodes_in_another_order_are_sorted():
    proto = small_model()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert [n.op for n in read_onnx(proto).nodes if n.op != "transpose"] == [
        "conv2d", "relu", "reshape", "fully_connected",
    ]  # fmt: skip


def test_an_empty_and_an_absent_file_are_refused(tmp_path: Path):
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match=r"empty\.onnx' is empty"):
        read_onnx(tmp_path / "empty.onnx")
    with pytest.raises(ModelError, match=r"absent\.onnx' can't be read: No such file"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="can't be read"):
        read_onnx(tmp_path)


def test_text_is_no_model():
    with pytest.raises(ModelError, match="no ONNX model, or is truncated"):
        read_onnx(b"this is some text that is not a protobuf at all")


def test_a_model_cut_anywhere_is_refused_or_sound():
    data = small_model().SerializeToString()
    refused = 0
    for length in range(1, len(data), 7):
        try:
            read_onnx(data[:length])
        except ModelError:
            refused += 1
    assert refused > 0.9 * len(range(1, len(data), 7))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_model_with_changed_bytes_is_refused_or_read_but_never_crashes(changes):
    data = bytearray(small_model().SerializeToString())
    for position, value in changes:
        data[position % len(data)] = value
    with contextlib.suppress(ModelError):
        read_onnx(bytes(data))


def external(proto: ModelProto, **fields: str) -> ModelProto:
    """The model with its first initializer outside."""
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=value)
    return proto


def test_external_data_is_read_from_beside_the_model(tmp_path: Path):
    values = np.arange(18, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(struct.pack("<I", 7) + values.tobytes())
    proto = external(small_model(), location="weights.bin", offset="4", length="72")
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    graph = read_onnx(tmp_path / "net.onnx")
    weights = next(t for t in graph.tensors.values() if t.name == "w")
    np.testing.assert_array_equal(np.sort(weights.value().ravel()), values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"location": "../secret.bin"}, "outside the model's folder; not allowed"),
        ({"location": "/etc/passwd"}, "outside the model's folder; not allowed"),
        ({"location": "link.bin"}, "outside the model's folder; not allowed"),
        ({"location": "absent.bin"}, "external data 'absent.bin' can't be read"),
        ({"location": "weights.bin", "offset": "8"}, "ends 8 bytes early"),
        ({"location": "weights.bin", "length": "71"}, "external data of 71 bytes, expected 72"),
        ({"location": "weights.bin", "offset": "-1"}, "external data of 72 bytes"),
        ({"location": "weights.bin", "offset": "x"}, "is no number"),
        ({}, "outside the model's folder; not allowed"),
    ],
)
def test_external_data_that_is_not_right_is_refused(tmp_path: Path, fields, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(72))
    (folder / "weights.bin").write_bytes(bytes(72))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "net.onnx").write_bytes(external(small_model(), **fields).SerializeToString())
    with pytest.raises(ModelError, match=message):
        read_onnx(folder / "net.onnx")


def test_external_data_of_a_model_given_as_bytes_is_refused():
    proto = external(small_model(), location="weights.bin")
    with pytest.raises(ModelError, match=r"kept in the file 'weights\.bin' beside the model"):
        read_onnx(proto.SerializeToString())


def test_the_limit_of_a_tensor_is_far_above_what_a_target_holds():
    assert MAX_ELEMENTS >= 1 << 26
