"""Transposes and reshapes: moved, merged and absorbed, with the same results."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinsmith.pipeline.graph import DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.interpreter import outputs, run
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.split import SplitAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs
from tinsmith.pipeline.passes import INT_PASSES, run_passes
from tinsmith.pipeline.passes.layout import simplify_layout
from tinsmith.pipeline.passes.layout_sink import reshape_before_transpose

RNG = np.random.default_rng(0)
TO_NCHW, TO_NHWC = TransposeAttrs((0, 3, 1, 2)), TransposeAttrs((0, 2, 3, 1))


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def check_same(before: Graph, after: Graph) -> None:
    """Both graphs, of one interface, give the same outputs for random inputs."""
    assert after.inputs == before.inputs
    assert after.outputs == before.outputs
    feeds = {}
    for name in before.inputs:
        t = before.tensors[name]
        if t.dtype is DType.INT8:
            feeds[name] = RNG.integers(-128, 128, t.shape).astype(np.int8)
        else:
            feeds[name] = RNG.normal(size=t.shape).astype(np.float32)
    wants, gots = outputs(before, run(before, feeds)[0]), outputs(after, run(after, feeds)[0])
    for want, got in zip(wants, gots, strict=True):
        if want.dtype == np.int8:
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def simplified(builder: GraphBuilder, *outs: str) -> Graph:
    before = builder.build(list(outs))
    after = simplify_layout(before)
    check_same(before, after)
    return after


def test_two_inverse_transposes_go():
    b = GraphBuilder("g")
    x = b.input("x", (1, 3, 4, 5))
    y = b.node("relu", [b.node("transpose", [b.node("transpose", [x], TO_NCHW)], TO_NHWC)])
    assert ops(simplified(b, y)) == ["relu"]


def test_a_transpose_moves_below_a_relu_and_meets_its_inverse():
    b = GraphBuilder("g")
    x = b.input("x", (1, 3, 4, 5))
    y = b.node("transpose", [b.node("relu", [b.node("transpose", [x], TO_NCHW)])], TO_NHWC)
    after = simplified(b, y)
    assert ops(after) == ["relu"]
    assert after.nodes[0].outputs == after.outputs


def test_a_transpose_moves_below_pad_and_mean_with_their_axes():
    b = GraphBuilder("g")
    x = b.input("x", (2, 3, 4, 5))
    t = b.node("transpose", [x], TO_NCHW)
    padded = b.node("pad", [t], PadAttrs(((0, 1), (2, 0), (1, 3), (0, 2)), 0.5))
    kept = b.node("mean", [padded], ReduceAttrs((2, 3), True))
    back = b.node("transpose", [kept], TO_NHWC)
    dropped = b.node("mean", [padded], ReduceAttrs((1, 3)))
    after = simplified(b, back, dropped)
    assert ops(after) == ["pad", "mean", "mean"]


def test_a_transpose_moves_below_softmax_only_where_the_last_axis_stays():
    for perm, left in (
        ((1, 0, 2), ["softmax"]),
        ((0, 2, 1), ["transpose", "softmax", "transpose"]),
    ):
        b = GraphBuilder("g")
        x = b.input("x", (2, 3, 4))
        t = b.node("transpose", [x], TransposeAttrs(perm))
        y = b.node("transpose", [b.node("softmax", [t], SoftmaxAttrs())], TransposeAttrs(perm))
        assert ops(simplified(b, y)) == left


def test_an_add_of_two_transposed_images_and_one_of_a_constant_move_up():
    b = GraphBuilder("g")
    x, z = b.input("x", (1, 3, 4, 5)), b.input("z", (1, 3, 4, 5))
    c = b.constant("c", RNG.normal(size=(5, 1, 1)).astype(np.float32))
    tx, tz = (b.node("transpose", [i], TO_NCHW) for i in (x, z))
    added = b.node("add", [b.node("add", [tx, tz], AddAttrs()), c], AddAttrs())
    after = simplified(b, b.node("transpose", [added], TO_NHWC))
    assert ops(after) == ["add", "add"]


def test_an_add_of_a_vector_per_channel_needs_only_a_reshape():
    b = GraphBuilder("g")
    x, z = b.input("x", (1, 3, 4, 5)), b.input("z", (1, 5, 1, 1))
    added = b.node("add", [b.node("transpose", [x], TO_NCHW), z], AddAttrs())
    after = simplified(b, b.node("transpose", [added], TO_NHWC))
    assert ops(after) == ["reshape", "add"]


def test_an_add_of_images_in_two_layouts_keeps_its_transpose():
    b = GraphBuilder("g")
    x, z = b.input("x", (1, 3, 4, 5)), b.input("z", (1, 5, 3, 4))
    added = b.node("add", [b.node("transpose", [x], TO_NCHW), z], AddAttrs())
    assert sorted(ops(simplified(b, added))) == ["add", "transpose"]


def test_a_transpose_of_axes_of_one_is_a_reshape():
    b = GraphBuilder("g")
    x = b.input("x", (1, 1, 1, 6))
    y = b.node("relu", [b.node("transpose", [x], TO_NCHW)])
    assert ops(simplified(b, y)) == ["relu", "reshape"]


def test_reshapes_in_a_row_are_one_and_one_that_changes_nothing_goes():
    b = GraphBuilder("g")
    x = b.input("x", (2, 6))
    y = b.node("reshape", [x], ReshapeAttrs((3, 4)))
    z = b.node("reshape", [y], ReshapeAttrs((12,)))
    w = b.node("reshape", [b.node("relu", [z])], ReshapeAttrs((2, 6)))
    assert ops(simplified(b, w)) == ["relu"]


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_flatten_of_channels_first_goes_into_the_weights_of_a_fully_connected_layer(
    batch, keep_dims
):
    b = GraphBuilder("g")
    x = b.input("x", (batch, 3, 4, 5))
    flat = b.node("reshape", [b.node("transpose", [x], TO_NCHW)], ReshapeAttrs((batch, 60)))
    act = b.node("relu", [flat])
    w = b.constant("w", RNG.normal(size=(7, 60)).astype(np.float32))
    y = b.node("fully_connected", [act, w], FullyConnectedAttrs(keep_dims=keep_dims))
    assert ops(simplified(b, y)) == ["relu", "reshape", "fully_connected"]


def test_rows_that_mix_samples_keep_their_transpose():
    b = GraphBuilder("g")
    x = b.input("x", (2, 3, 2, 2))
    flat = b.node("reshape", [b.node("transpose", [x], TO_NCHW)], ReshapeAttrs((4, 6)))
    w = b.constant("w", RNG.normal(size=(2, 6)).astype(np.float32))
    y = b.node("fully_connected", [flat, w], FullyConnectedAttrs())
    assert ops(simplified(b, y)) == ["transpose", "reshape", "fully_connected"]


def test_a_matrix_product_between_reshapes_of_its_rows_keeps_the_leading_axes():
    b = GraphBuilder("g")
    x = b.input("x", (1, 6, 5))
    rows = b.node("reshape", [x], ReshapeAttrs((6, 5)))
    w = b.constant("w", RNG.normal(size=(4, 5)).astype(np.float32))
    y = b.node("fully_connected", [rows, w], FullyConnectedAttrs())
    after = simplified(b, b.node("relu", [b.node("reshape", [y], ReshapeAttrs((1, 6, 4)))]))
    assert ops(after) == ["fully_connected", "relu"]


def test_a_mean_drops_the_axes_that_its_reader_drops():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4, 4, 3))
    mean = b.node("mean", [x], ReduceAttrs((1, 2), True))
    after = simplified(b, b.node("relu", [b.node("reshape", [mean], ReshapeAttrs((1, 3)))]))
    assert ops(after) == ["mean", "relu"]


def test_an_output_that_others_read_too_keeps_its_layout_and_name():
    b = GraphBuilder("g")
    x = b.input("x", (1, 3, 4, 5))
    t = b.node("relu", [b.node("transpose", [x], TO_NCHW)], name="act")
    y = b.node("transpose", [b.node("relu", [t])], TO_NHWC)
    after = simplified(b, t, y)
    assert after.tensors[t].shape == (1, 5, 3, 4)
    assert ops(after).count("transpose") == 1


def test_integer_graphs_keep_every_byte():
    b = GraphBuilder("g")
    q, r = QuantParams.per_tensor(0.05, 3), QuantParams.per_tensor(0.04, -20)
    x = b.input("x", (1, 6, 5, 4), DType.INT8, q)
    t = b.node("transpose", [x], TO_NCHW, quant=q)
    p = b.node("pad", [t], PadAttrs(((0, 0), (0, 0), (1, 1), (1, 1))), quant=q)
    act = b.node("relu", [p], quant=r)
    total = b.node("add", [act, act], AddAttrs(), quant=r)
    back = b.node("transpose", [total], TO_NHWC, quant=r)
    w = b.constant(
        "w", RNG.integers(-127, 128, (3, 3, 3, 4)).astype(np.int8),
        QuantParams((0.01, 0.02, 0.03), (0,), 0),
    )  # fmt: skip
    conv = b.node("conv2d", [back, w], Conv2dAttrs(), quant=q)
    flat = b.node("reshape", [b.node("transpose", [conv], TO_NCHW, quant=q)],
                  ReshapeAttrs((1, 90)), quant=q)  # fmt: skip
    v = b.constant("v", RNG.integers(-127, 128, (2, 90)).astype(np.int8),
                   QuantParams.per_tensor(0.01))  # fmt: skip
    y = b.node("fully_connected", [flat, v], FullyConnectedAttrs(), quant=r)
    before = b.build([y])
    after = run_passes(before, INT_PASSES)
    check_same(before, after)
    assert ops(after) == ["pad", "relu", "add", "conv2d", "reshape", "fully_connected"]


@given(st.data())
def test_a_reshape_before_a_transpose_gives_what_it_gives_behind(data):
    rank = data.draw(st.integers(1, 5))
    source = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=rank, max_size=rank)))
    perm = tuple(data.draw(st.permutations(range(rank))))
    middle = [source[p] for p in perm]
    target: list[int] = []
    # Split some axes, merge some neighbours, and put ones in between.
    for d in middle:
        choice = data.draw(st.sampled_from(["keep", "split", "merge", "one"]))
        if choice == "split" and d % 2 == 0:
            target += [2, d // 2]
        elif choice == "merge" and target:
            target[-1] *= d
        else:
            target += [1, d] if choice == "one" else [d]
    x = np.arange(math.prod(source)).reshape(source)
    found = reshape_before_transpose(source, perm, tuple(target))
    want = x.transpose(perm).reshape(target)
    if found is not None:
        shape, order = found
        np.testing.assert_array_equal(x.reshape(shape).transpose(order), want)
    else:
        # None is right only where no order of the target's axes works.
        assert len(target) > 5 or not any(
            np.array_equal(x.reshape([target[i] for i in order]).transpose(np.argsort(order)), want)
            for order in itertools.permutations(range(len(target)))
        )


def test_what_moves_nothing_goes_and_what_turns_or_cuts_stays():
    half = QuantParams.per_tensor(0.5, 3)

    def left(op: str, attrs: object) -> list[str]:
        b = GraphBuilder("net")
        x = b.node("relu", [b.input("x", (1, 4, 3, 2), DType.INT8, half)], quant=half)
        y = b.node(op, [x], attrs, quant=half)
        before = b.build([b.node("relu", [y], quant=half)])
        after = simplify_layout(before)
        check_same(before, after)
        return ops(after)[1:-1]

    shape = (1, 4, 3, 2)
    assert left("slice", SliceAttrs((0, 0, 0, 0), shape)) == []
    assert left("slice", SliceAttrs((0, 3, 0, 0), shape, (1, -1, 1, 1))) == ["slice"]
    assert left("slice", SliceAttrs((0, 1, 0, 0), (1, 3, 3, 2))) == ["slice"]
    assert left("split", SplitAttrs(1, (4,))) == []
    assert left("pad", PadAttrs(((0, 0),) * 4)) == []
    assert left("pad", PadAttrs(((0, 0), (0, 1), (0, 0), (0, 0)))) == ["pad"]
    assert left("concatenation", ConcatenationAttrs(1)) == []


def test_an_output_that_is_the_whole_of_the_input_stays_a_copy():
    b = GraphBuilder("net")
    x = b.input("x", (1, 4), DType.INT8, QuantParams.per_tensor(0.5, 3))
    y = b.node("slice", [x], SliceAttrs((0, 0), (1, 4)), quant=QuantParams.per_tensor(0.5, 3))
    assert ops(simplified(b, y)) == ["slice"]
