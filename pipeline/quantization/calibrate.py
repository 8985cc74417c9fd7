"""Calibration: the float graph run over samples, and the range of every tensor that it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import DataError
from tinsmith.pipeline.graph import Array, DType, Graph, Tensor
from tinsmith.pipeline.interpreter import State, initial_state, run, with_batch
from tinsmith.pipeline.quantization import recurrent
from tinsmith.pipeline.quantization.observers import BINS, OBSERVERS, Range, Seen

Samples = Mapping[str, Array]

# Values that a batch may hold at once; the interpreter keeps all tensors of a step.
BATCH_ELEMENTS = 1 << 24
MAX_BATCH = 64


def check_samples(graph: Graph, samples: Samples) -> dict[str, Array]:
    """The samples as arrays [N, *input shape] of the inputs' types; DataError where they aren't.

    Where an input has a leading dimension of 1, samples without it are taken too.
    """
    missing = [name for name in graph.inputs if name not in samples]
    extra = [name for name in samples if name not in graph.inputs]
    if missing or extra:
        raise DataError(
            f"calibration samples are for the inputs {sorted(samples)}; "
            f"expected {sorted(graph.inputs)}"
        )
    checked = {name: _check(graph.tensors[name], samples[name]) for name in samples}
    counts = {name: len(x) for name, x in checked.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"calibration samples differ in number: {counts}; expected the same of each"
        )
    return checked


def _check(tensor: Tensor, samples: Array) -> Array:
    x, name, shape = np.asarray(samples), tensor.name, tensor.shape
    want = f"[N, {', '.join(map(str, shape))}]"
    if x.dtype.kind not in "fiu":
        raise DataError(f"calibration samples of '{name}' are {x.dtype}; expected float32 {want}")
    if shape[:1] == (1,) and x.shape[1:] == shape[1:]:
        x = x[:, None]
    if x.shape[1:] != shape or x.ndim == 0:
        raise DataError(
            f"calibration samples of '{name}' have the shape {list(x.shape)}; expected {want}"
        )
    if len(x) == 0:
        raise DataError(f"there are no calibration samples of '{name}'; expected at least one")
    if tensor.dtype is not DType.FLOAT32:
        return np.ascontiguousarray(x, tensor.dtype.numpy)
    x = np.ascontiguousarray(x, np.float32)
    bad = int(np.count_nonzero(~np.isfinite(x)))
    if bad:
        raise DataError(
            f"calibration samples of '{name}' hold {bad} values that are NaN or infinite; "
            "expected finite numbers"
        )
    return x


@dataclass
class _Statistics:
    low: float = np.inf
    high: float = -np.inf
    counts: NDArray[np.int64] | None = None

    def widen(self, x: Array) -> None:
        self.low = min(self.low, float(x.min()))
        self.high = max(self.high, float(x.max()))

    def count(self, x: Array) -> None:
        if not self.low < self.high:
            return  # a constant
        counts, _ = np.histogram(x.astype(np.float64), BINS, (self.low, self.high))
        self.counts = counts if self.counts is None else self.counts + counts


def calibrate(
    graph: Graph,
    samples: Samples,
    observer: str = "minmax",
    percentile: float = 99.99,
    steps: int = 255,
) -> dict[str, Range]:
    """(min, max) by name of every input and computed tensor of a float graph.

    steps: so many a range has, for the observers that ask for the error.
    samples: as check_samples gives them. A graph with state is run over the samples in order.
    """
    statistics: dict[str, _Statistics] = {}

    def each(visit: Callable[[_Statistics, Array], None]) -> None:
        for name, value in _values(graph, samples):
            if value.size:
                visit(statistics.setdefault(name, _Statistics()), value)

    each(_Statistics.widen)
    chosen = OBSERVERS[observer]
    if chosen.needs_counts:
        each(_Statistics.count)
    ranges = {}
    for name, s in statistics.items():
        if not (np.isfinite(s.low) and np.isfinite(s.high)):
            raise DataError(
                f"'{name}' becomes NaN or infinite on the calibration samples; "
                "check the weights, and the scaling of the samples"
            )
        counts = np.zeros(0, np.int64) if s.counts is None else s.counts
        ranges[name] = chosen.choose(Seen(s.low, s.high, counts, steps), percentile)
    return ranges


def channel_means(graph: Graph, samples: Samples) -> dict[str, NDArray[np.float64]]:
    """The mean over samples and positions for each index of the last axis, by tensor name.

    graph, samples: as in `calibrate`.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for name, value in _values(graph, samples):
        if value.size and value.ndim:
            rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
            sums[name] = sums.get(name, 0.0) + rows.sum(axis=0)
            counts[name] = counts.get(name, 0) + len(rows)
    return {name: total / counts[name] for name, total in sums.items()}


def _values(graph: Graph, samples: Samples) -> Iterator[tuple[str, Array]]:
    """Every input and computed tensor of floats with a value of it, step by step."""
    total = len(next(iter(samples.values()))) if samples else 1
    elements = sum(t.size for t in graph.tensors.values() if t.data is None)
    batch = max(1, min(MAX_BATCH, total, BATCH_ELEMENTS // max(elements, 1)))
    wide = with_batch(graph, batch) if batch > 1 else None
    state: State = initial_state(graph)
    start = 0
    while start < total:
        many = wide is not None and start + batch <= total
        current, count = (wide, batch) if many and wide is not None else (graph, 1)
        feeds = {
            name: x[start : start + count].reshape(current.tensors[name].shape)
            for name, x in samples.items()
        }
        values, after = run(current, feeds, state)
        yield from ((k, v) for k, v in values.items() if v.dtype == np.float32)
        yield from _inner_values(current, values)
        state = after
        start += count


def _inner_values(graph: Graph, values: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """The cell states of recurrent layers between the steps of a sequence."""
    for node in graph.nodes:
        if node.op == recurrent.LSTM:
            x, h, c = (
                values[name] if graph.tensors[name].data is None else graph.tensors[name].value()
                for name in (node.inputs[i] for i in recurrent.ACTIVATIONS)
            )
            yield node.outputs[2], recurrent.cell_states(graph, node, x, h, c)
