"""Operators that cut and join tensors come in as what the runtime makes of them, masks and all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from support.tflite_edit import FileMaker
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Graph

T = schema.TensorType
Shape = tuple[int, ...]


def vector(m: FileMaker, name: str, values: Sequence[int]) -> int:
    return m.tensor(name, (len(values),), T.INT32, np.array(values, np.int32))


def agrees_with_the_runtime(model: bytes, graph: Graph, shapes: Sequence[Shape]) -> None:
    name = oracles.TFLITE_REF.name
    if name not in oracles.installed_oracles():
        pytest.skip(f"the oracle {name} is not installed")
    rng = np.random.default_rng(3)
    samples = {
        i: rng.normal(0, 1, (2, *s)).astype(np.float32)
        for i, s in zip(graph.inputs, shapes, strict=True)
    }
    ours = interpreter.run_samples(graph, samples)
    theirs = oracles.oracle(name).run(model, samples)
    for y, z in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(y, z)


def strided(
    shape: Shape, begin: Sequence[int], end: Sequence[int], steps: Sequence[int], **masks: Any
) -> Any:
    """(begin, end, stride) of the input, as NumPy has it, for the shape of the output."""
    index: list[Any] = []
    for i, (b, e, s) in enumerate(zip(begin, end, steps, strict=True)):
        if masks.get("ellipsisMask", 0) >> i & 1:
            index.append(Ellipsis)
        elif masks.get("newAxisMask", 0) >> i & 1:
            index.append(None)
        elif masks.get("shrinkAxisMask", 0) >> i & 1:
            index.append(b)
        else:
            first = None if masks.get("beginMask", 0) >> i & 1 else b
            last = None if masks.get("endMask", 0) >> i & 1 else e
            index.append(slice(first, last, s))
    return np.empty(shape)[tuple(index)].shape


STRIDED: dict[str, tuple[Shape, list[int], list[int], list[int], dict[str, int]]] = {
    "plain": ((4, 5, 6), [1, 0, 2], [3, 5, 6], [1, 2, 3], {}),
    "fewer entries than axes": ((4, 5, 6), [1], [3], [1], {}),
    "from the back": ((4, 5, 6), [-3, -4, 0], [-1, -1, 6], [1, 1, 1], {}),
    "beyond the ends": ((4, 5, 6), [-90, 1, 0], [90, 70, 6], [1, 1, 1], {}),
    "backwards": ((4, 5, 6), [3, 4, 5], [0, 1, -7], [-1, -2, -1], {}),
    "backwards from beyond": ((4, 5, 6), [90, 4, 5], [-90, 0, 1], [-1, -1, -3], {}),
    "backwards, masked": ((4, 5, 6), [0, 0, 0], [0, 0, 0], [-1, -2, 1],
                          {"beginMask": 7, "endMask": 7}),
    "begin masked": ((4, 5, 6), [2, 2, 2], [3, 4, 5], [1, 1, 1], {"beginMask": 5}),
    "end masked": ((4, 5, 6), [2, 2, 2], [3, 3, 3], [1, 1, 1], {"endMask": 6}),
    "shrunk": ((4, 5, 6), [1, 2, 0], [2, 3, 6], [1, 1, 1], {"shrinkAxisMask": 3}),
    "shrunk from the back": ((4, 5, 6), [-1, 0, -2], [0, 5, 0], [1, 1, 1], {"shrinkAxisMask": 5}),
    "all shrunk but one": ((4, 5, 6), [1, 0, 3], [2, 5, 4], [1, 1, 1], {"shrinkAxisMask": 5}),
    "new axis first": ((4, 5, 6), [0, 1], [0, 3], [1, 1], {"newAxisMask": 1}),
    "new axis between": ((4, 5), [1, 0, 2], [3, 0, 4], [1, 1, 1], {"newAxisMask": 2}),
    "ellipsis first": ((4, 5, 6), [0, 2], [0, 5], [1, 2], {"ellipsisMask": 1}),
    "ellipsis between": ((2, 4, 5, 6), [1, 0, 2], [2, 0, 5], [1, 1, 1], {"ellipsisMask": 2}),
    "ellipsis last": ((4, 5, 6), [1, 0], [3, 0], [1, 1], {"ellipsisMask": 2}),
    "ellipsis, new axis": ((4, 5, 6), [0, 0, 1], [0, 0, 4], [1, 1, 1],
                           {"ellipsisMask": 1, "newAxisMask": 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", STRIDED)
def test_a_strided_slice_is_what_the_runtime_makes_of_it(case: str) -> None:
    shape, begin, end, steps, masks = STRIDED[case]
    m = FileMaker()
    x = m.tensor("x", shape)
    y = m.tensor("y", strided(shape, begin, end, steps, **masks))
    parts = [vector(m, n, v) for n, v in (("begin", begin), ("end", end), ("steps", steps))]
    options = schema.StridedSliceOptionsT(**masks)
    m.operator("STRIDED_SLICE", [x, *parts], [y], options)
    model = m.finish([x], [y])
    graph = read_tflite(model)
    assert {n.op for n in graph.nodes} <= {"slice", "reshape"}
    agrees_with_the_runtime(model, graph, [shape])


def test_ends_may_count_from_the_begin() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (9, 7)), m.tensor("y", (3, 2))
    parts = [vector(m, n, v) for n, v in (("b", [2, -3]), ("e", [3, 2]), ("s", [1, 1]))]
    m.operator("STRIDED_SLICE", [x, *parts], [y], schema.StridedSliceOptionsT(offset=True))
    graph = read_tflite(m.finish([x], [y]))
    (node,) = graph.nodes
    assert (node.attrs.begin, node.attrs.size) == ((2, 4), (3, 2))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_pack_puts_tensors_beside_each_other_along_a_new_axis(axis: int) -> None:
    m = FileMaker()
    names = [m.tensor(n, (4, 5)) for n in ("a", "b", "c")]
    y = m.tensor("y", np.stack([np.empty((4, 5))] * 3, axis).shape)
    m.operator("PACK", names, [y], schema.PackOptionsT(valuesCount=3, axis=axis))
    model = m.finish(names, [y])
    agrees_with_the_runtime(model, read_tflite(model), [(4, 5)] * 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_unpack_takes_a_tensor_apart(axis: int) -> None:
    m = FileMaker()
    x = m.tensor("x", (3, 4, 2))
    part = np.empty((3, 4, 2)).take(0, axis).shape
    count = (3, 4, 2)[axis]
    outs = [m.tensor(f"y{i}", part) for i in range(count)]
    m.operator("UNPACK", [x], outs, schema.UnpackOptionsT(num=count, axis=axis))
    model = m.finish([x], outs)
    agrees_with_the_runtime(model, read_tflite(model), [(3, 4, 2)])


def test_a_size_of_minus_one_is_the_rest() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (4, 9)), m.tensor("y", (2, 6))
    m.operator("SLICE", [x, vector(m, "b", [1, 3]), vector(m, "s", [2, -1])], [y],
               schema.SliceOptionsT())  # fmt: skip
    parts = [m.tensor(f"p{i}", (2, n)) for i, n in enumerate((1, 3, 2))]
    sizes, axis = vector(m, "sizes", [1, -1, 2]), vector(m, "axis", [-1])
    m.operator("SPLIT_V", [y, sizes, axis], parts, schema.SplitVOptionsT(numSplits=3))
    model = m.finish([x], parts)
    graph = read_tflite(model)
    assert graph.nodes[1].attrs.sizes == (1, 3, 2)
    agrees_with_the_runtime(model, graph, [(4, 9)])


def int8(m: FileMaker, name: str, shape: Shape, scale: float) -> int:
    quant = schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([0], np.int64)
    )
    return m.tensor(name, shape, T.INT8, quantization=quant)


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("CONCATENATION", schema.ConcatenationOptionsT(axis=1)),
        ("MAXIMUM", schema.MaximumMinimumOptionsT()),
        ("PACK", schema.PackOptionsT(valuesCount=2, axis=0)),
    ],
)
def test_scales_that_differ_where_integers_are_only_moved_are_refused(
    code: str, options: Any
) -> None:
    m = FileMaker()
    a, b = int8(m, "a", (1, 4), 0.5), int8(m, "b", (1, 4), 0.25)
    y = int8(m, "y", (1, 8), 0.5)
    m.operator(code, [a, b], [y], options)
    with pytest.raises(UnsupportedModel, match=f"{code} 'y'.*different scales"):
        read_tflite(m.finish([a, b], [y]))


def test_a_fused_activation_of_a_concatenation_is_refused() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1, 8))
    m.operator("CONCATENATION", [x, x], [y],
               schema.ConcatenationOptionsT(axis=1, fusedActivationFunction=1))  # fmt: skip
    with pytest.raises(UnsupportedModel, match="fused activation; allowed: none"):
        read_tflite(m.finish([x], [y]))


BROKEN: dict[str, tuple[str, list[list[int]], Any, str]] = {
    "stride 0": ("STRIDED_SLICE", [[0, 0], [4, 5], [1, 0]], schema.StridedSliceOptionsT(),
                 "no stride 0"),
    "counts differ": ("STRIDED_SLICE", [[0, 0], [4], [1, 1]], schema.StridedSliceOptionsT(),
                      "as many of each"),
    "too many": ("STRIDED_SLICE", [[0] * 3, [4] * 3, [1] * 3], schema.StridedSliceOptionsT(),
                 "3 axes of 2"),
    "two ellipses": ("STRIDED_SLICE", [[0] * 2, [4] * 2, [1] * 2],
                     schema.StridedSliceOptionsT(ellipsisMask=3), "axes of 2"),
    "slice of another rank": ("SLICE", [[0], [1]], schema.SliceOptionsT(), "rank 2"),
    "slice beyond": ("SLICE", [[0, 3], [4, 3]], schema.SliceOptionsT(), "all inside"),
    "slice before": ("SLICE", [[-1, 0], [2, 2]], schema.SliceOptionsT(), "all inside"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_slices_that_break_the_rules_are_errors(case: str) -> None:
    code, vectors, options, message = BROKEN[case]
    m = FileMaker()
    x, y = m.tensor("x", (4, 5)), m.tensor("y", ())
    parts = [vector(m, f"v{i}", v) for i, v in enumerate(vectors)]
    m.operator(code, [x, *parts], [y], options)
    with pytest.raises(ModelError, match=message):
        read_tflite(m.finish([x], [y]))


def test_a_slice_of_nothing_is_refused() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (4, 5)), m.tensor("y", ())
    parts = [vector(m, f"v{i}", v) for i, v in enumerate(([2], [1], [1]))]
    m.operator("STRIDED_SLICE", [x, *parts], [y], schema.StridedSliceOptionsT())
    with pytest.raises(UnsupportedModel, match="nothing is left of axis 0"):
        read_tflite(m.finish([x], [y]))


def test_an_ellipsis_of_nothing_is_refused() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (4, 5)), m.tensor("y", ())
    parts = [vector(m, f"v{i}", v) for i, v in enumerate(([1, 0, 2], [3, 0, 4], [1, 1, 1]))]
    m.operator("STRIDED_SLICE", [x, *parts], [y], schema.StridedSliceOptionsT(ellipsisMask=2))
    with pytest.raises(UnsupportedModel, match="its ellipsis stands for no axis"):
        read_tflite(m.finish([x], [y]))


@pytest.mark.parametrize(("outputs", "num"), [(2, 3), (3, 2)])
def test_a_split_into_unequal_parts_is_an_error(outputs: int, num: int) -> None:
    m = FileMaker()
    x = m.tensor("x", (1, 6))
    axis = m.tensor("axis", (), T.INT32, np.array(1, np.int32))
    outs = [m.tensor(f"y{i}", (1, 2)) for i in range(outputs)]
    m.operator("SPLIT", [axis, x], outs, schema.SplitOptionsT(numSplits=num))
    with pytest.raises(ModelError, match="equal parts"):
        read_tflite(m.finish([x], outs))


def test_an_axis_that_the_tensor_has_not_is_an_error() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1, 8))
    m.operator("CONCATENATION", [x, x], [y], schema.ConcatenationOptionsT(axis=2))
    with pytest.raises(ModelError, match=r"axes \[2\] of an input of rank 2"):
        read_tflite(m.finish([x], [y]))
