"""Two models, or one in two runtimes, compared layer by layer: what `tinsmith diff` shows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ConfigError, DataError
from tinsmith.pipeline.graph import Array, DType, Graph, Shape, Tensor, dequantize_array
from tinsmith.pipeline.layer_traces import Trace
from tinsmith.pipeline.model_files import to_input
from tinsmith.pipeline.validation import random_samples


@dataclass(frozen=True)
class TensorComparison:
    """A tensor of A and the one of B that it is matched with.

    layer: the layer of A that computes it. matched_by: "name", "order" or "output".
    in_steps: the stored integers were compared, which have the same type and scale; else real
        values.
    cosine: of the real values, 1.0 where both are all zero.
    max_difference: in steps of the stored integers where in_steps, else in real values.
    differing: how many of the `values` over all samples differ.
    """

    layer: str
    tensor_a: str
    tensor_b: str
    op: str
    shape: Shape
    matched_by: str
    in_steps: bool
    cosine: float
    max_difference: float
    differing: int
    values: int


@dataclass(frozen=True)
class Comparison:
    """The result of a diff; a and b say what was compared. Tensors are in the order of A.

    first_difference: the first layer whose values differ, None where none does.
    worst: the layer with the lowest cosine. only_a, only_b: layers without a match.
    """

    a: str
    b: str
    samples: int
    tensors: tuple[TensorComparison, ...]
    first_difference: str | None
    worst: str
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return self.first_difference is None

    def json(self) -> dict[str, Any]:
        """The result as plain data, for a file."""
        return {**asdict(self), "identical": self.identical}


@dataclass(frozen=True, eq=False)
class Side:
    """A graph, what its layers computed, and how the report calls the two."""

    label: str
    graph: Graph
    trace: Trace


def compare(a: Side, b: Side) -> Comparison:
    """Compares all tensors of two traces that match. ConfigError where none does.

    A tensor matches that of the same name and size; an output that of the same place and size;
    what then remains, those of the same op and shape in the same order.
    """
    pairs = match(a.graph, list(a.trace), b.graph, list(b.trace))
    if not pairs:
        raise ConfigError(
            f"{a.label} and {b.label} have nothing to compare: no tensors of the same name and "
            f"size, nor of the same op and shape; A computes {_some(a.graph, a.trace)}; "
            f"B computes {_some(b.graph, b.trace)}"
        )
    tensors = tuple(_compare(a, b, x, pairs[x][0], pairs[x][1]) for x in a.trace if x in pairs)
    first = next((t.layer for t in tensors if t.differing), None)
    worst = min(tensors, key=lambda t: t.cosine).layer
    taken = {y for y, _ in pairs.values()}
    return Comparison(
        a.label,
        b.label,
        len(next(iter(a.trace.values()))),
        tensors,
        first,
        worst,
        tuple(_layer(a.graph, x) for x in a.trace if x not in pairs),
        tuple(_layer(b.graph, y) for y in b.trace if y not in taken),
    )


def match(
    a: Graph, names_a: Sequence[str], b: Graph, names_b: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Tensor of A -> (tensor of B, what they are matched by)."""
    known_b = set(names_b)
    pairs: dict[str, tuple[str, str]] = {}
    for name in names_a:
        if name in known_b and a.tensors[name].size == b.tensors[name].size:
            pairs[name] = (name, "name")
    for x, y in zip(a.outputs, b.outputs, strict=False):
        free = x not in pairs and y not in {p for p, _ in pairs.values()}
        if free and x in names_a and y in known_b and a.tensors[x].size == b.tensors[y].size:
            pairs[x] = (y, "output")
    taken = {y for y, _ in pairs.values()}
    rest_a = [n for n in names_a if n not in pairs]
    rest_b = [n for n in names_b if n not in taken]
    keys_a = [_key(a, n) for n in rest_a]
    keys_b = [_key(b, n) for n in rest_b]
    blocks = difflib.SequenceMatcher(None, keys_a, keys_b, autojunk=False).get_matching_blocks()
    for block in blocks:
        for i in range(block.size):
            pairs[rest_a[block.a + i]] = (rest_b[block.b + i], "order")
    return pairs


def _key(graph: Graph, name: str) -> tuple[str, Shape]:
    node = graph.producer(name)
    return (node.op if node else "", _plain(graph.tensors[name].shape))


def _plain(shape: Shape) -> Shape:
    return tuple(d for d in shape if d != 1)


def _layer(graph: Graph, tensor: str) -> str:
    """The layer that computes a tensor, with the tensor's name where it isn't the layer's first."""
    node = graph.producer(tensor)
    if node is None:
        return tensor
    return node.name if node.outputs[0] == tensor else f"{node.name} ({tensor})"


def _some(graph: Graph, trace: Trace) -> str:
    parts = [
        f"'{_layer(graph, n)}' {'x'.join(map(str, graph.tensors[n].shape))}" for n in [*trace][:3]
    ]
    return ", ".join(parts) + (", ..." if len(trace) > len(parts) else "") or "nothing"


def _compare(a: Side, b: Side, name_a: str, name_b: str, by: str) -> TensorComparison:
    first, second = a.graph.tensors[name_a], b.graph.tensors[name_b]
    x, y = a.trace[name_a], b.trace[name_b]
    count = min(len(x), len(y))
    x, y = x[:count].reshape(count, -1), y[:count].reshape(count, -1)
    same = first.dtype is second.dtype and _quant(first) == _quant(second)
    real_x, real_y = real_values(x, first), real_values(y, second)
    if same:
        gap = np.abs(x.astype(np.float64) - y.astype(np.float64))
        differs = (x != y) & ~(_is_nan(x) & _is_nan(y))
    else:
        gap = np.abs(real_x - real_y)
        differs = real_x != real_y
    node = a.graph.producer(name_a)
    return TensorComparison(
        _layer(a.graph, name_a),
        name_a,
        name_b,
        node.op if node else "",
        first.shape,
        by,
        same and first.dtype.is_integer,
        cosine(real_x, real_y),
        float(gap.max(initial=0.0)),
        int(np.count_nonzero(differs)),
        int(x.size),
    )


def _quant(tensor: Tensor) -> tuple[Any, Any] | None:
    return None if tensor.quant is None else (tensor.quant.scale, tensor.quant.zero_point)


def _is_nan(values: Array) -> NDArray[np.bool_]:
    if values.dtype.kind != "f":
        return np.zeros(values.shape, np.bool_)
    return np.isnan(values)


def real_values(values: Array, tensor: Tensor) -> NDArray[np.float64]:
    """Stored values of a tensor as real ones."""
    single = tensor.quant is not None and len(tensor.quant.scale) == 1
    if single and tensor.quant is not None:
        return dequantize_array(values, tensor.quant).astype(np.float64)
    return values.astype(np.float64)


def cosine(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The cosine of the angle between two arrays as vectors; 1.0 where both are zero."""
    # Scaled first, so that no square is beyond a float's range.
    scale_x, scale_y = float(np.abs(x).max(initial=0.0)), float(np.abs(y).max(initial=0.0))
    if scale_x == 0.0 or scale_y == 0.0:
        return 1.0 if scale_x == scale_y else 0.0
    x, y = x / scale_x, y / scale_y
    product = float(np.vdot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)))
    return min(1.0, max(-1.0, product))


# The samples of both


def inputs_for(
    graphs: Sequence[Graph],
    given: Mapping[str, Array] | None,
    where: str,
    count: int = 8,
    seed: int = 0,
) -> list[Mapping[str, Array]]:
    """The same samples for every graph, each in its own types, at most `count`.

    given: arrays [N, *shape] by the first graph's input names, or None for random ones. Integers
    are stored values of the first graph whose inputs have their type; floats are real values.
    DataError where the inputs of the graphs don't belong together.
    """
    shapes = {tuple(_plain(g.tensors[n].shape) for n in g.inputs) for g in graphs}
    if len(shapes) > 1:
        listed = "; ".join(
            f"'{g.name}' takes " + ", ".join(str(list(g.tensors[n].shape)) for n in g.inputs)
            for g in graphs
        )
        raise DataError(f"the models have inputs of different shapes: {listed}")
    if given is None:
        integer = next((g for g in graphs if _stores_integers(g)), graphs[0])
        random = random_samples(integer, count, seed)
        arrays = [random[n] for n in integer.inputs]
    else:
        arrays = [given[n][:count] for n in graphs[0].inputs]
    return [
        {
            name: _as_input(arrays[i], [g.tensors[g.inputs[i]] for g in graphs], tensor, where)
            for i, (name, tensor) in enumerate((n, graph.tensors[n]) for n in graph.inputs)
        }
        for graph in graphs
    ]


def _stores_integers(graph: Graph) -> bool:
    return all(graph.tensors[n].dtype.is_integer for n in graph.inputs)


def _as_input(values: Array, places: Sequence[Tensor], tensor: Tensor, where: str) -> Array:
    """The values of input `tensor`, one of the `places` that are the same input of each graph."""
    if values.dtype.kind in "iu" and values.dtype != tensor.dtype.numpy:
        source = next((p for p in places if p.dtype.numpy == values.dtype and p.quant), None)
        if source is not None:
            shaped = values.reshape(len(values), -1)
            real = real_values(shaped, source).astype(np.float32)
            values = real.reshape(len(values), *tensor.shape)
    if values.dtype.kind == "f" and tensor.dtype is DType.FLOAT32:
        values = values.astype(np.float32)
    return to_input(values, tensor, where)
