"""Graph to .tflite, node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite_file import File, Subgraph
from tinsmith.pipeline.exporters.tflite_more_ops import (
    STATE_INPUTS,
    check_states,
    is_read,
    node_states,
)
from tinsmith.pipeline.exporters.tflite_ops import WRITERS, Site, Writer
from tinsmith.pipeline.exporters.tflite_uint8 import in_uint8
from tinsmith.pipeline.graph import Graph, Node, QuantParams, StateVar
from tinsmith.pipeline.ops import OPS, OpCall, call_of, lstm, svdf


def to_tflite(graph: Graph) -> bytes:
    """The graph as a .tflite file; the same graph gives the same bytes.

    Tensor names are kept. Explicit pads become SAME or VALID where they equal it, else a PAD before
    the node. State becomes resource variables with an initializing subgraph, but for that of an
    lstm or svdf, which becomes a variable tensor.
    Where layers compute as TFLite's uint8 kernels do, the file is one of uint8.
    UnsupportedModel, with every reason, for what the format can't say.
    """
    graph = in_uint8(graph)
    file = File()
    main = Subgraph("main", file)
    for name in (*graph.inputs, *(s.tensor for s in graph.state)):
        main.tensor(graph.tensors[name])
    inside = node_states(graph)
    for var in inside:
        main.tensors[main.index[var.tensor]].isVariable = True
    resources = tuple(var for var in graph.state if var not in inside)
    if resources:
        _write_state_start(main, resources)
    reasons: list[str] = check_states(graph)
    for node in graph.nodes:
        writer = WRITERS.get(node.op)
        if writer is None:
            reasons.append(f"{node.op} '{node.name}': the op has no counterpart in .tflite")
            continue
        try:
            _write_node(main, graph, node, writer)
        except UnsupportedModel as e:
            reasons.append(str(e))
    if reasons:
        raise UnsupportedModel("the graph can't be written as .tflite:\n  " + "\n  ".join(reasons))
    for var in resources:
        handle = _variable(main, var)
        value = main.tensor(graph.tensors[var.next])
        main.operator("ASSIGN_VARIABLE", 1, schema.AssignVariableOptionsT(), (handle, value), ())
    subgraphs = [main.finish(graph.inputs, graph.outputs, graph)]
    if resources:
        subgraphs.append(_initializer(file, graph, resources))
    return file.pack(subgraphs)


def _write_node(sub: Subgraph, graph: Graph, node: Node, writer: Writer) -> None:
    sub.reserved = frozenset(graph.tensors)
    call = call_of(graph, node)
    states = STATE_INPUTS.get(node.op, ())
    inputs = [
        # A constant state becomes a variable, which its writer makes.
        -1 if t is None or (i in states and t.is_constant) else sub.tensor(t, _bias_quant(call, i))
        for i, t in enumerate(call.inputs)
    ]
    outputs = [
        # The next state stays inside the layer, unless somebody asks for it.
        sub.tensor(t) if not states or i == 0 or is_read(graph, t.name) else -1
        for i, t in enumerate(call.outputs)
    ]
    writer(Site(sub, call, tuple(inputs), tuple(outputs)))


# Of the biases whose op has several: the inputs whose scales each is the product of.
BIAS_SCALES: Mapping[str, Mapping[int, tuple[int, int]]] = {
    "svdf": {svdf.BIAS: (svdf.STATE, svdf.TIME_WEIGHTS)},
    "lstm": dict(zip(lstm.BIASES, ((0, weights) for weights in lstm.INPUT_WEIGHTS), strict=True)),
}


def _bias_quant(call: OpCall, i: int) -> QuantParams | None:
    """The quantization of a bias that has none of its own: input scale * weight scale."""
    op = OPS[call.op]
    sources = BIAS_SCALES.get(call.op, {}).get(i)
    if sources is None and i == op.bias and op.weights is not None:
        sources = (0, op.weights)
    if sources is None:
        return None
    x, weights, bias = call.input(sources[0]), call.input(sources[1]), call.optional(i)
    if bias is None or bias.quant is not None or weights.quant is None:
        return None
    scales = np.float32(x.scale) * weights.quant.scales
    axis = 0 if weights.quant.per_channel else None
    return QuantParams(tuple(scales.tolist()), (0,), axis)


def _variable(sub: Subgraph, var: StateVar) -> int:
    """The resource tensor of a state variable, made by a VAR_HANDLE at its first use."""
    key = f"{var.name}/handle"
    if key not in sub.index:
        index = sub.resource(key)
        options = schema.VarHandleOptionsT(container="", sharedName=var.name)
        sub.operator("VAR_HANDLE", 1, options, (), (index,))
    return sub.index[key]


def _write_state_start(main: Subgraph, state: Sequence[StateVar]) -> None:
    main.operator("CALL_ONCE", 1, schema.CallOnceOptionsT(initSubgraphIndex=1), (), ())
    for var in state:
        handle = _variable(main, var)
        options = schema.ReadVariableOptionsT()
        main.operator("READ_VARIABLE", 1, options, (handle,), (main.index[var.tensor],))


def _initializer(file: File, graph: Graph, state: Sequence[StateVar]) -> Any:
    sub = Subgraph("initialize", file)
    for var in state:
        quant = graph.tensors[var.tensor].quant
        value = sub.constant(f"{var.name}/initial", var.initial, quant)
        options = schema.AssignVariableOptionsT()
        sub.operator("ASSIGN_VARIABLE", 1, options, (_variable(sub, var), value), ())
    return sub.finish((), (), graph)
