"""A part cut out of a graph computes what the whole computes there."""

from __future__ import annotations

import numpy as np
import pytest

from support.goldens import goldens, load
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.cut import cut, nearest
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.graph import DType, Graph, GraphBuilder
from tinsmith.pipeline.ops.add import AddAttrs


def branches() -> Graph:
    """y = relu(a) + relu6(relu(a) + b), z = total, the sum of all a so far."""
    b = GraphBuilder("net")
    a, other = b.input("a", (1, 4)), b.input("b", (1, 4))
    first = b.node("relu", [a], name="first")
    inner = b.node("add", [first, other], AddAttrs(), name="inner")
    second = b.node("relu6", [inner], name="second")
    y = b.node("add", [first, second], AddAttrs(), name="joined")
    total = b.state_var("total", np.zeros((1, 4), np.float32))
    z = b.node("add", [total, first], AddAttrs(), name="summed")
    b.assign("total", z)
    w = b.constant("w", np.ones((1, 4), np.float32))
    out = b.node("add", [z, w], AddAttrs(), name="shifted")
    return b.build([y, out])


def sample(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal((1, 4)).astype(np.float32) * 3 for n in ("a", "b")}


def test_a_part_computes_what_the_whole_computes_there() -> None:
    whole = branches()
    tensors, _ = interpreter.run(whole, sample())
    part = cut(whole, ["first"], ["summed"])
    assert [n.name for n in part.nodes] == ["summed"]
    assert part.inputs == ("first_out",) and part.outputs == ("summed_out",)
    got, _ = interpreter.run(part, {"first_out": tensors["first_out"]})
    np.testing.assert_array_equal(got["summed_out"], tensors["summed_out"])


def test_several_starts_and_ends_keep_their_order() -> None:
    whole = branches()
    tensors, _ = interpreter.run(whole, sample())
    part = cut(whole, ["second_out", "first"], ["joined", "shifted"])
    assert part.inputs == ("second_out", "first_out")
    assert part.outputs == ("joined_out", "shifted_out")
    got, _ = interpreter.run(part, {n: tensors[n] for n in part.inputs})
    for name in part.outputs:
        np.testing.assert_array_equal(got[name], tensors[name])


def test_without_a_start_the_inputs_that_matter_stay() -> None:
    part = cut(branches(), end=["first"])
    assert part.inputs == ("a",) and not part.state
    assert [n.name for n in part.nodes] == ["first"]


def test_without_an_end_the_outputs_stay() -> None:
    part = cut(branches(), ["first_out", "b"])
    assert part.outputs == ("joined_out", "shifted_out")
    assert part.nodes[0].name == "inner"


def test_state_that_the_part_reads_is_kept_with_what_updates_it() -> None:
    """The end stands before the state's update, which the next step needs nevertheless."""
    b = GraphBuilder("net")
    x = b.input("x", (1, 4))
    held = b.state_var("held", np.ones((1, 4), np.float32))
    y = b.node("add", [x, held], AddAttrs(), name="early")
    b.assign("held", b.node("relu", [y], name="late"))
    z = b.node("relu6", [y], name="end")
    part = cut(b.build([z]), end=["early"])
    assert [n.name for n in part.nodes] == ["early", "late"]
    assert [s.name for s in part.state] == ["held"]
    x0 = np.full((1, 4), 2, np.float32)
    _, state = interpreter.run(part, {"x": x0})
    got, _ = interpreter.run(part, {"x": x0}, state)
    np.testing.assert_array_equal(got["early_out"], x0 + 3)


def test_a_state_tensor_as_a_start_becomes_an_input() -> None:
    part = cut(branches(), ["total", "first_out"], ["summed"])
    assert part.inputs == ("total", "first_out") and not part.state


def test_a_quantized_models_part_gives_the_bytes_of_the_whole() -> None:
    whole = load("microwakeword_v2/vad")
    part = cut(whole, ["stream_1/concat"], ["activation_3/Relu"])
    assert 0 < len(part.state) < len(whole.state)
    assert part.tensors[part.inputs[0]].dtype is DType.INT8
    (golden,) = goldens(whole, "microwakeword_v2/vad")
    state = inner = None
    for x in golden.x[:20]:
        tensors, state = interpreter.run(whole, {whole.inputs[0]: x}, state)
        got, inner = interpreter.run(part, {part.inputs[0]: tensors[part.inputs[0]]}, inner)
        np.testing.assert_array_equal(got[part.outputs[0]], tensors[part.outputs[0]])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (["frist"], [], r"--start frist: no tensor and no layer .*; the nearest are first"),
        ([], ["JOINED"], r"--end JOINED: .*nearest are joined"),
        ([], ["w"], "it is a constant"),
        (["first"], ["joined"], r"'inner' still needs b; give --start for every tensor"),
        (["first", "second"], ["summed"], r"--start second_out: no end depends on it"),
        (["first"], ["first"], "nothing lies between"),
        ([], ["a"], "nothing lies between"),
    ],
)
def test_a_cut_that_is_none_is_refused_with_what_to_do(
    start: list[str], end: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cut(branches(), start, end)


def test_the_nearest_names_are_those_with_the_same_part() -> None:
    assert nearest("conv", ["relu", "model/conv_1", "conv_2"]) == ["conv_2", "model/conv_1"]
    assert nearest("zzz", ["relu"]) == []
