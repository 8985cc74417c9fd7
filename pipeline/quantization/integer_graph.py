"""The integer graph, once the parameters of its activations are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import (
    Array,
    DType,
    Graph,
    Node,
    QuantParams,
    StateVar,
    Tensor,
    rebuild,
)
from tinsmith.pipeline.ops import OPS, lstm
from tinsmith.pipeline.quantization import recurrent
from tinsmith.pipeline.quantization.options import QuantizeOptions
from tinsmith.pipeline.quantization.parameters import (
    carried_integer_parameters,
    integer_parameters,
)


def parameter_slots(node: Node) -> frozenset[int]:
    """The inputs of a node that are weights or biases."""
    if node.op == recurrent.LSTM:
        return recurrent.PARAMETERS
    op = OPS[node.op]
    return frozenset(i for i in (op.weights, op.bias) if i is not None)


def weight_slots(node: Node) -> tuple[int, ...]:
    """The inputs of a node that are weights, which a grid is chosen for."""
    if node.op == recurrent.LSTM:
        return (*lstm.INPUT_WEIGHTS, *lstm.RECURRENT_WEIGHTS)
    weights = OPS[node.op].weights
    return () if weights is None else (weights,)


def activations(graph: Graph) -> list[str]:
    """Inputs, state and computed tensors, and constants that ops read as activations."""
    names = dict.fromkeys(graph.inputs)
    names.update(dict.fromkeys(s.tensor for s in graph.state))
    for node in graph.nodes:
        slots = parameter_slots(node)
        constants = (
            name
            for i, name in enumerate(node.inputs)
            if name and graph.tensors[name].is_constant and i not in slots
        )
        names.update(dict.fromkeys(constants))
        names.update(dict.fromkeys(node.outputs))
    return [name for name in names if graph.tensors[name].dtype is DType.FLOAT32]


def integer_graph(
    graph: Graph, params: Mapping[str, QuantParams], options: QuantizeOptions
) -> Graph:
    """The graph with every tensor of `params` as integers, and integer weights and biases."""
    tensors = {name: _integer_tensor(graph.tensors[name], quant) for name, quant in params.items()}
    nodes = [_integer_node(graph, node, params, tensors, options) for node in graph.nodes]
    state = [_integer_state(var, params) for var in graph.state]
    return rebuild(graph, nodes=nodes, tensors=tensors.values(), state=state)


def _dtype(quant: QuantParams) -> DType:
    return DType.INT16 if quant.bits == 16 else DType.INT8


def _integer_tensor(t: Tensor, quant: QuantParams) -> Tensor:
    dtype = _dtype(quant)
    data = None if t.data is None else np.asarray(numerics.quantize_array(t.data, quant, dtype))
    return Tensor(t.name, t.shape, dtype, quant, data)


def _integer_state(var: StateVar, params: Mapping[str, QuantParams]) -> StateVar:
    if var.tensor not in params:
        return var
    quant = params[var.tensor]
    q: Array = numerics.quantize_array(var.initial, quant, _dtype(quant))
    return replace(var, initial=q)


def _integer_node(
    graph: Graph,
    node: Node,
    params: Mapping[str, QuantParams],
    tensors: dict[str, Tensor],
    options: QuantizeOptions,
) -> Node:
    """The node as it reads integer weights and bias, which it adds to `tensors`."""
    op = OPS[node.op]
    if node.op == recurrent.LSTM:
        return _integer_lstm(graph, node, params, tensors, options)
    if op.weights is None:
        return node
    wanted = options.per_channel_fc if node.op == "fully_connected" else options.per_channel
    axis = op.weight_axis if wanted else None
    w_name = node.inputs[op.weights]
    weights = graph.tensors[w_name].value()
    b_name = node.inputs[op.bias] if op.bias is not None and op.bias < len(node.inputs) else ""
    # Every layer gets a bias, of zeros where it had none: TFLite's integer kernels ask for one.
    channels = weights.shape[op.weight_axis or 0]
    bias = graph.tensors[b_name].value() if b_name else np.zeros(channels, np.float32)
    scale = params[node.inputs[0]].scale[0]
    made = carried_integer_parameters(
        graph.tensors[w_name], bias, graph.tensors[b_name] if b_name else None, scale
    ) or integer_parameters(
        weights, bias, axis, scale, wide=options.wide, rule=options.rule_of(node.name)
    )
    inputs = list(node.inputs)
    inputs[op.weights] = _add_constant(graph, tensors, w_name, made.weights, made.weights_quant)
    if op.bias is not None:
        wish = b_name or f"{node.name}_bias"
        integers = made.bias.reshape(bias.shape)
        name = _add_constant(graph, tensors, wish, integers, made.bias_quant)
        inputs[op.bias :] = [name, *inputs[op.bias + 1 :]]
    return replace(node, inputs=tuple(inputs))


def _integer_lstm(
    graph: Graph,
    node: Node,
    params: Mapping[str, QuantParams],
    tensors: dict[str, Tensor],
    options: QuantizeOptions,
) -> Node:
    inputs = list(node.inputs)
    scale = params[node.inputs[0]].scale[0]
    rule = options.rule_of(node.name)
    made = recurrent.gate_parameters(graph, node, scale, rule, wide=options.wide)
    for i, (data, quant) in made.items():
        inputs[i] = _add_constant(graph, tensors, node.inputs[i], data, quant)
    return replace(node, inputs=tuple(inputs))


def _add_constant(
    graph: Graph,
    tensors: dict[str, Tensor],
    wish: str,
    data: Array,
    quant: QuantParams,
) -> str:
    """The name of an integer constant; nodes that shared a float constant may need their own."""
    name, count = wish, 1
    while name in tensors or (name != wish and name in graph.tensors):
        name, count = f"{wish}_{count}", count + 1
    tensors[name] = Tensor(name, data.shape, DType.of(data), quant, data)
    return name


def float_borders(graph: Graph) -> Graph:
    """The graph with float32 inputs and outputs of the same names, where they have a scale."""
    ins, outs = (
        [name for name in ends if graph.tensors[name].quant is not None]
        for ends in (graph.inputs, graph.outputs)
    )
    names = {name: f"{name}_{graph.tensors[name].dtype.value}" for name in (*ins, *outs)}
    tensors = [replace(graph.tensors[old], name=new) for old, new in names.items()]
    tensors += [Tensor(name, graph.tensors[name].shape, DType.FLOAT32) for name in names]
    nodes = [Node(f"quantize_{i}", "quantize", (i,), (names[i],)) for i in ins]
    for node in graph.nodes:
        nodes.append(
            replace(
                node,
                inputs=tuple(names.get(i, i) for i in node.inputs),
                outputs=tuple(names.get(o, o) for o in node.outputs),
            )
        )
    nodes += [Node(f"dequantize_{o}", "dequantize", (names[o],), (o,)) for o in outs]
    state = [
        replace(s, tensor=names.get(s.tensor, s.tensor), next=names.get(s.next, s.next))
        for s in graph.state
    ]
    return rebuild(graph, nodes=nodes, tensors=tensors, state=state)
