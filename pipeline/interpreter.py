"""The living definition of every graph: runs it node by node with the ops' own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tinsmith.pipeline.errors import DataError
from tinsmith.pipeline.graph import Array, DType, Graph, Node, Tensor, rebuild
from tinsmith.pipeline.ops import OPS, call_of, lstm
from tinsmith.pipeline.ops.reshape import ReshapeAttrs

State = Mapping[str, Array]
Tensors = dict[str, Array]


def initial_state(graph: Graph) -> State:
    """What every state variable holds after a reset, by variable name."""
    return {s.name: s.initial for s in graph.state}


def run(
    graph: Graph,
    inputs: Mapping[str, Array],
    state: State | None = None,
    watch: Callable[[Node, tuple[Array, ...]], None] | None = None,
) -> tuple[Tensors, State]:
    """Every computed tensor by name, and the state after the step.

    inputs: by tensor name, of exactly the graph's shapes and types; DataError otherwise.
    state: as returned by the step before; None for the initial state.
    watch: called after each node with its outputs.
    """
    state = initial_state(graph) if state is None else state
    tensors: Tensors = {}
    for name in graph.inputs:
        tensors[name] = check_input(graph.tensors[name], inputs.get(name))
    for var in graph.state:
        tensors[var.tensor] = state[var.name]
    for node in graph.nodes:
        results = run_node(graph, node, tensors)
        tensors.update(zip(node.outputs, results, strict=True))
        if watch is not None:
            watch(node, results)
    return tensors, {s.name: _lookup(graph, tensors, s.next) for s in graph.state}


def run_node(graph: Graph, node: Node, tensors: Mapping[str, Array]) -> tuple[Array, ...]:
    """The outputs of one node, of the computed tensors that it reads."""
    call = call_of(graph, node)
    values = [
        None if t is None else (t.data if t.data is not None else tensors[t.name])
        for t in call.inputs
    ]
    is_float = call.output.dtype is DType.FLOAT32
    op = OPS[node.op]
    return (op.run_float if is_float else op.run_int)(call, values)


def outputs(graph: Graph, tensors: Tensors) -> tuple[Array, ...]:
    """The graph's outputs, in order, of what `run` returned."""
    return tuple(_lookup(graph, tensors, name) for name in graph.outputs)


def _lookup(graph: Graph, tensors: Tensors, name: str) -> Array:
    data = graph.tensors[name].data
    return tensors[name] if data is None else data


def check_input(tensor: Tensor, value: Array | None) -> Array:
    """The value itself where it has the tensor's shape and type; DataError otherwise."""
    want = f"{tensor.dtype.value}{list(tensor.shape)}"
    if value is None:
        raise DataError(f"input '{tensor.name}' is missing; expected {want}")
    if value.shape != tensor.shape or value.dtype != tensor.dtype.numpy:
        raise DataError(
            f"input '{tensor.name}' is {value.dtype}{list(value.shape)}; expected {want}"
        )
    return value


def run_samples(graph: Graph, inputs: Mapping[str, Array], *, batch: int = 64) -> tuple[Array, ...]:
    """The outputs for many samples, each from the initial state: arrays [N, *output shape].

    inputs: arrays [N, *input shape] by name. A graph whose leading dimension is a batch of 1
    throughout is run `batch` samples at a time, with the same result.
    """
    count = len(next(iter(inputs.values())))
    wide = with_batch(_after_reset(graph), batch) if count >= batch else None
    chunks: list[tuple[Array, ...]] = []
    start = 0
    while wide is not None and start + batch <= count:
        part = {
            k: v[start : start + batch].reshape(wide.tensors[k].shape) for k, v in inputs.items()
        }
        results = outputs(wide, run(wide, part)[0])
        shapes = [(batch, *graph.tensors[name].shape) for name in graph.outputs]
        chunks.append(tuple(r.reshape(s) for r, s in zip(results, shapes, strict=True)))
        start += batch
    for i in range(start, count):
        tensors, _ = run(graph, {k: v[i] for k, v in inputs.items()})
        chunks.append(tuple(r[None] for r in outputs(graph, tensors)))
    return tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))


def _after_reset(graph: Graph) -> Graph:
    """The graph with what its state holds after a reset as constants: one step from there."""
    if not graph.state:
        return graph
    held = [replace(graph.tensors[var.tensor], data=var.initial) for var in graph.state]
    return rebuild(graph, tensors=held, state=())


# Ops that treat index 0 of the first axis of their data as independent samples.
_BATCHED_OPS = frozenset(
    (
        "conv2d", "depthwise_conv2d", "fully_connected", "max_pool2d", "average_pool2d",
        "relu", "relu6", "relu_n1_to_1", "relu_0_to_1", "leaky_relu", "logistic", "tanh",
        "hard_swish", "quantize", "dequantize", "cast", "exp", "elu", "gelu", "sqrt", "square",
        "rsqrt", "abs", "neg", "resize_nearest", "resize_bilinear", "depth_to_space",
        "space_to_depth", "transpose_conv2d",
    )
)  # fmt: skip
# Ops of operands that broadcast.
_BROADCASTING_OPS = frozenset(
    ("add", "sub", "mul", "maximum", "minimum", "prelu", "squared_difference")
)
# Ops that work along the last axis, and over the axes of their attributes.
_ROW_OPS = frozenset(("softmax", "log_softmax", "l2_normalization"))
_REDUCING_OPS = frozenset(("mean", "sum", "reduce_max", "reduce_min"))


def with_batch(graph: Graph, batch: int) -> Graph | None:
    """The graph over `batch` samples at once, or None where its leading dimension is no batch.

    Only where every node keeps samples apart, so that the results are those of single samples.
    """
    if graph.state or any(graph.tensors[t].shape[:1] != (1,) for t in graph.inputs):
        return None
    wide: dict[str, Tensor] = {}
    nodes = []
    for name in graph.inputs:
        wide[name] = _widen(graph.tensors[name], batch)
    for node in graph.nodes:
        attrs = node.attrs
        if not _keeps_samples_apart(graph, node, wide):
            return None
        if node.op == "reshape":
            attrs = ReshapeAttrs((batch, *attrs.shape[1:]))
        if node.op == "slice":
            attrs = replace(attrs, size=(batch, *attrs.size[1:]))
        for out in node.outputs:
            wide[out] = _widen(graph.tensors[out], batch)
        inputs = node.inputs
        if node.op == "lstm":
            states = [_repeated(graph.tensors[i], batch) for i in inputs[lstm.HIDDEN :]]
            wide.update((t.name, t) for t in states)
            inputs = (*inputs[: lstm.HIDDEN], *(t.name for t in states))
        nodes.append(replace(node, attrs=attrs, inputs=inputs))
    if any(name not in wide for name in graph.outputs):
        return None
    return rebuild(graph, nodes=nodes, tensors=wide.values())


def _widen(tensor: Tensor, batch: int) -> Tensor:
    return replace(tensor, shape=(batch, *tensor.shape[1:]))


def _repeated(tensor: Tensor, batch: int) -> Tensor:
    """A constant of one sample, for a batch of them."""
    data = np.repeat(tensor.value(), batch, axis=0)
    return replace(tensor, name=f"{tensor.name}/batch", shape=data.shape, data=data)


def _keeps_samples_apart(graph: Graph, node: Node, wide: Mapping[str, Tensor]) -> bool:
    if any(graph.tensors[o].shape[:1] != (1,) for o in node.outputs):
        return False
    if node.op in _BROADCASTING_OPS:
        rank = len(graph.tensors[node.outputs[0]].shape)
        return all(_keeps_operand_apart(graph.tensors[i], i in wide, rank) for i in node.inputs)
    if not node.inputs or node.inputs[0] not in wide:
        return False
    if node.op in _BATCHED_OPS:
        return True
    rank = len(graph.tensors[node.inputs[0]].shape)
    if node.op == "reshape":
        return True
    if node.op in _ROW_OPS:
        return rank > 1
    if node.op == "pad":
        return bool(node.attrs.pads[0] == (0, 0))
    if node.op in _REDUCING_OPS:
        return 0 not in node.attrs.axes
    if node.op in ("arg_max", "arg_min"):
        return bool(node.attrs.axis != 0)
    if node.op == "gather":
        return node.attrs.axis != 0 and node.inputs[1] not in wide
    if node.op == "batch_matmul":
        shape = graph.tensors[node.outputs[0]].shape
        apart = (_keeps_operand_apart(graph.tensors[i], i in wide, len(shape)) for i in node.inputs)
        return len(shape) > 2 and all(apart)
    if node.op == "lstm":
        constant = all(graph.tensors[i].is_constant for i in node.inputs[1:])
        return constant and not node.attrs.time_major
    if node.op == "transpose":
        return bool(node.attrs.perm[0] == 0)
    if node.op == "concatenation":
        return node.attrs.axis != 0 and all(i in wide for i in node.inputs)
    if node.op == "split":
        return bool(node.attrs.axis != 0)
    return node.op == "slice" and bool(node.attrs.steps[0] == 1)


def _keeps_operand_apart(tensor: Tensor, is_wide: bool, rank: int) -> bool:
    """Samples need the output's rank; a constant must be the same for every sample."""
    if is_wide:
        return len(tensor.shape) == rank
    return tensor.is_constant and (len(tensor.shape) < rank or tensor.shape[0] == 1)
