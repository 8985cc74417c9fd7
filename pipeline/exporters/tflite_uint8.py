"""Graphs that compute as TFLite's uint8 kernels do, in uint8 again, as they came."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.pipeline.graph import Array, DType, Graph, QuantParams, Tensor
from tinsmith.pipeline.ops import call_of
from tinsmith.pipeline.ops.mac import is_as_uint8

SHIFT = 128


def in_uint8(graph: Graph) -> Graph:
    """The graph with uint8 for int8 where a layer is `as_uint8`, as only runtimes read it.

    No graph of the IR: it is for the writers of .tflite alone.
    """
    if not _computes_as_uint8(graph):
        return graph
    state = tuple(replace(s, initial=_shifted_data(s.initial)) for s in graph.state)
    return replace(
        graph, tensors={name: _shifted(t) for name, t in graph.tensors.items()}, state=state
    )


def _computes_as_uint8(graph: Graph) -> bool:
    return any(is_as_uint8(call_of(graph, node)) for node in graph.nodes)


def in_file(graph: Graph, values: Array) -> Array:
    """Values of an input of the graph as the file that is written of it takes them."""
    return _shifted_data(values) if _computes_as_uint8(graph) else values


def of_type(values: Array, tensor: Tensor) -> Array:
    """What a runtime gives for a tensor of a file so written, as the graph's own values."""
    if values.dtype != np.uint8 or tensor.dtype is not DType.INT8:
        return values
    return np.asarray((values.astype(np.int16) - SHIFT).astype(np.int8))


def _shifted(t: Tensor) -> Tensor:
    if t.dtype is DType.INT16 and t.data is not None and t.quant is not None:
        # Weights of 9 bits: any zero point that makes bytes of them is right.
        zero = max(0, -int(t.data.min(initial=0)))
        stored = (t.data.astype(np.int64) + zero).astype(np.uint8)
        quant = replace(t.quant, zero_point=(zero,))
        return replace(t, dtype=DType.UINT8, data=stored, quant=quant)
    if t.dtype is not DType.INT8:
        return t
    data = None if t.data is None else _shifted_data(t.data)
    return replace(t, dtype=DType.UINT8, data=data, quant=_shifted_quant(t.quant))


def _shifted_quant(quant: QuantParams | None) -> QuantParams | None:
    if quant is None:
        return None
    return replace(quant, zero_point=tuple(z + SHIFT for z in quant.zero_point))


def _shifted_data(data: Array) -> Array:
    if data.dtype != np.int8:
        return data
    return np.asarray((data.astype(np.int16) + SHIFT).astype(np.uint8))
