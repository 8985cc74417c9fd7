"""Damaged and hostile .tflite files end in a ModelError, soon and with little memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from support.random_network import random_network
from support.tflite_edit import FileMaker, edit
from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite

T = schema.TensorType
OPS = ["conv2d", "depthwise_conv2d", "fully_connected", "add", "pad", "mean", "reshape", "softmax"]


@pytest.fixture(scope="module")
def model() -> bytes:
    return to_tflite(random_network(4, OPS))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.tflite can't be read: No such file"):
        read_tflite(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="can't be read: Is a directory"):
        read_tflite(tmp_path)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.tflite"
    path.touch()
    with pytest.raises(ModelError, match="has only 0 bytes"):
        read_tflite(path)


def test_a_file_of_another_kind_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"not a \.tflite: bytes 4 to 8 are b'JFIF'"):
        read_tflite(b"\xff\xd8\xff\xe0JFIF" + bytes(100))


def test_every_shorter_file_is_an_error(model: bytes) -> None:
    """A flatbuffer refers to what lies behind it, so that a part is never whole."""
    for size in range(0, len(model) - 16, 7):
        with pytest.raises(ModelError):
            read_tflite(model[:size])


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_never_ends_otherwise(model: bytes, seed: int) -> None:
    """150 files a seed: bytes replaced, bits flipped, words set to what offsets break on."""
    rng = np.random.default_rng(seed)
    words = [0, 1, 4, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 65536]
    sound = 0
    for _ in range(150):
        data = bytearray(model)
        for _ in range(int(rng.choice([1, 2, 8, 32]))):
            at = int(rng.integers(0, len(data) - 4))
            kind = rng.integers(0, 3)
            if kind == 0:
                data[at] = int(rng.integers(0, 256))
            elif kind == 1:
                data[at] ^= 1 << int(rng.integers(0, 8))
            else:
                data[at : at + 4] = int(rng.choice(words)).to_bytes(4, "little")
        try:
            read_tflite(bytes(data))
            sound += 1
        except ModelError:
            continue
    assert sound < 150


def change_tensor(name: str, **fields: Any) -> Any:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name == name.encode():
                for key, value in fields.items():
                    setattr(tensor, key, value)
                return
        raise AssertionError(name)

    return change


def change_quant(name: str, **fields: Any) -> Any:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name == name.encode():
                for key, value in fields.items():
                    setattr(tensor.quantization, key, value)

    return change


def change_operator(index: int, **fields: Any) -> Any:
    def change(model: Any) -> None:
        for key, value in fields.items():
            setattr(model.subgraphs[0].operators[index], key, value)

    return change


def change_options(index: int, **fields: Any) -> Any:
    def change(model: Any) -> None:
        for key, value in fields.items():
            setattr(model.subgraphs[0].operators[index].builtinOptions, key, value)

    return change


def change_main(**fields: Any) -> Any:
    def change(model: Any) -> None:
        for key, value in fields.items():
            setattr(model.subgraphs[0], key, value)

    return change


def change_model(**fields: Any) -> Any:
    def change(model: Any) -> None:
        for key, value in fields.items():
            setattr(model, key, value)

    return change


def both(first: Any, second: Any) -> Any:
    def change(model: Any) -> None:
        first(model)
        second(model)

    return change


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def sound_file() -> bytes:
    """x -> CONV_2D -> y -> RELU -> z."""
    m = FileMaker()
    quant = schema.QuantizationParametersT(
        scale=np.array([0.5], np.float32), zeroPoint=np.array([3], np.int64)
    )
    channels = schema.QuantizationParametersT(
        scale=np.array([0.5, 0.25], np.float32), zeroPoint=np.array([0, 0], np.int64)
    )
    x = m.tensor("x", (1, 4, 4, 3), T.INT8, quantization=quant)
    w = m.tensor("w", (2, 3, 3, 3), T.INT8, np.ones((2, 3, 3, 3), np.int8), channels)
    b = m.tensor("b", (2,), T.INT32, np.ones(2, np.int32))
    y = m.tensor("y", (1, 2, 2, 2), T.INT8, quantization=quant)
    z = m.tensor("z", (1, 2, 2, 2), T.INT8, quantization=quant)
    m.operator("CONV_2D", [x, w, b], [y], schema.Conv2DOptionsT(1, 1, 1))
    m.operator("RELU", [y], [z])
    return m.finish([x], [z])


DAMAGE = {
    "negative shape": (change_tensor("x", shape=i32(1, -4, 4, 3)), "allowed: fixed sizes"),
    "huge shape": (change_tensor("x", shape=i32(1 << 20, 1 << 20, 1, 3)), "allowed: up to"),
    "huge rank": (change_tensor("x", shape=i32(*([1] * 100))), "rank 100; allowed: up to 8"),
    "shape beyond its buffer": (
        change_tensor("w", shape=i32(2, 3, 3, 4)), "72 bytes, but its buffer has 54"),
    "buffer out of range": (change_tensor("w", buffer=99), "buffer 99 of 3"),
    "no such type": (change_tensor("x", type=77), "tensor 'x' is type 77"),
    "external": (change_tensor("w", externalBuffer=5), "kept in another file"),
    "scale nan": (change_quant("y", scale=np.array([np.nan], np.float32)), "scale nan"),
    "scale negative": (change_quant("y", scale=np.array([-1], np.float32)), "scale -1"),
    "zero point": (change_quant("y", zeroPoint=np.array([300])), "zero point 300..300; allowed"),
    "zero points": (change_quant("w", zeroPoint=np.zeros(5, np.int64)), "5 zero points for 2"),
    "axis": (change_quant("w", quantizedDimension=7), "2 scales along axis 7"),
    "axis of another size": (change_quant("w", quantizedDimension=1), "2 scales along axis 1"),
    "input of an operator": (change_operator(0, inputs=i32(0, 1, 50)), "names tensor 50 of 5"),
    "negative input": (change_operator(0, inputs=i32(0, -7, 2)), "names tensor -7 of 5"),
    "absent input": (change_operator(0, inputs=i32(0, -1, 2)), "input 1 is absent"),
    "too few inputs": (change_operator(0, inputs=i32()), "input 0 is absent"),
    "operator code": (change_operator(0, opcodeIndex=9), "operator code 9 of 2"),
    "no outputs": (change_operator(1, outputs=i32()), "read before it is computed"),
    "two outputs": (change_operator(1, outputs=i32(4, 2)), "2 outputs, expected 1"),
    "computed twice": (change_operator(1, outputs=i32(3)), "computed by two operators"),
    "cycle": (change_operator(0, inputs=i32(4, 1, 2)), "form a cycle, or one is missing"),
    "itself": (change_operator(1, inputs=i32(4)), "form a cycle, or one is missing"),
    "missing producer": (change_main(operators=[]), "tensor 'z' is read before it is computed"),
    "over a constant": (
        both(change_operator(1, outputs=i32(2)), change_main(outputs=i32(2))),
        "tensor 'b' has two sources",
    ),
    "stride 0": (change_options(0, strideH=0), "stride 0x1; allowed: at least 1"),
    "stride negative": (change_options(0, strideW=-5), "stride 1x-5; allowed: at least 1"),
    "dilation 0": (change_options(0, dilationHFactor=0), "dilation 0x1; allowed: at least 1"),
    "padding": (change_options(0, padding=9), "padding 9; allowed: 0"),
    "shape that isn't so": (change_options(0, strideH=2), r"said to be \[1, 2, 2, 2\]"),
    "other options": (
        change_operator(
            0, builtinOptionsType=schema.BuiltinOptions.AddOptions,
            builtinOptions=schema.AddOptionsT()), "its options are AddOptionsT"),
    "unknown options": (change_operator(0, builtinOptionsType=250), "options of unknown kind"),
    "inputs": (change_main(inputs=i32(12)), "list of inputs names tensor 12"),
    "no outputs at all": (change_main(outputs=i32()), "has no output"),
    "input twice": (change_main(inputs=i32(0, 0)), "tensor 'x' has two sources"),
    "constant input": (change_main(inputs=i32(0, 1)), "tensor 'w' has two sources"),
    "computed input": (change_main(inputs=i32(0, 3)), "tensor 'y' has two sources"),
    "version": (change_model(version=2), "schema version 2; allowed: 3"),
    "no subgraph": (change_model(subgraphs=[]), "has no subgraph"),
    "no buffers": (change_model(buffers=None), "buffer 1 of 0"),
}  # fmt: skip


def test_the_file_that_is_damaged_below_is_sound() -> None:
    assert [n.op for n in read_tflite(sound_file()).nodes] == ["conv2d", "relu"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_breaks_the_rules_of_the_format_is_named(kind: str) -> None:
    change, message = DAMAGE[kind]
    with pytest.raises(ModelError, match=message):
        read_tflite(edit(sound_file(), change))


def within(seconds: float, megabytes: int, data: bytes, message: str) -> None:
    tracemalloc.start()
    start = time.monotonic()
    try:
        with pytest.raises(ModelError, match=message):
            read_tflite(data)
        assert time.monotonic() - start < seconds
        assert tracemalloc.get_traced_memory()[1] < megabytes << 20
    finally:
        tracemalloc.stop()


def shared_vector(items: int) -> bytes:
    """A model of many subgraphs that are one, of many tensors that are one: items^2 of work."""
    data = bytearray()
    data += struct.pack("<I", 8) + b"TFL3"
    # The model: a table whose layout lies behind it.
    data += struct.pack("<iII", 8 - 24, 3, 0)  # layout at 24, version, where its subgraphs are
    data += bytes(4)
    data += struct.pack("<HHHHH", 10, 12, 4, 0, 8) + bytes(2)
    tables = len(data)
    struct.pack_into("<I", data, 16, tables - 16)
    subgraph = tables + 4 + 4 * items
    data += struct.pack("<I", items)
    for i in range(items):
        data += struct.pack("<I", subgraph - (tables + 4 + 4 * i))
    # The subgraph: tensors only.
    layout = subgraph + 8
    data += struct.pack("<iI", subgraph - layout, 0)
    data += struct.pack("<HHH", 6, 8, 4) + bytes(2)
    vector = len(data)
    struct.pack_into("<I", data, subgraph + 4, vector - (subgraph + 4))
    tensor = vector + 4 + 4 * items
    data += struct.pack("<I", items)
    for i in range(items):
        data += struct.pack("<I", tensor - (vector + 4 + 4 * i))
    data += struct.pack("<i", -4) + struct.pack("<HH", 4, 4)
    return bytes(data)


def test_a_file_of_few_shared_parts_reads_as_what_it_is() -> None:
    """The bomb below is refused for its size, not because it is malformed."""
    with pytest.raises(ModelError, match="has no output"):
        read_tflite(shared_vector(2))


def test_shared_parts_do_not_multiply_the_work() -> None:
    within(5.0, 200, shared_vector(5_000), "shared beyond reason")


def test_sparse_constants_do_not_multiply_the_memory() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 1 << 14)), m.tensor("y", (1, 1 << 14))
    empty = schema.DimensionMetadataT(
        format=schema.DimensionType.SPARSE_CSR,
        arraySegmentsType=schema.SparseIndexVector.Int32Vector,
        arraySegments=schema.Int32VectorT(i32(0, 0)),
        arrayIndicesType=schema.SparseIndexVector.Int32Vector,
        arrayIndices=schema.Int32VectorT(i32()),
    )
    sparsity = schema.SparsityParametersT(traversalOrder=i32(0, 1), dimMetadata=[empty, empty])
    shape = (1 << 14, 1 << 14)
    w = m.tensor("w", shape, T.FLOAT32, np.zeros(0, np.float32), sparsity=sparsity)
    m.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())
    within(5.0, 50, m.finish([x], [y]), "expands beyond 256 MB")


def test_a_list_longer_than_the_file_is_an_error() -> None:
    data = bytearray(sound_file())
    file = schema.Model.GetRootAs(bytes(data), 0)
    offset = file._tab.Offset(8)  # subgraphs
    start = file._tab.Vector(offset) - 4
    struct.pack_into("<I", data, start, 0x3FFFFFFF)
    within(1.0, 10, bytes(data), "more than the file holds")


def test_offsets_out_of_the_file_are_errors() -> None:
    data = bytearray(sound_file())
    struct.pack_into("<I", data, 0, 0x7FFFFFFF)
    with pytest.raises(ModelError, match="the model points to byte"):
        read_tflite(bytes(data))
