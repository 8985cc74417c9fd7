"""Recurrent layers: weights per tensor, an int16 cell state, and its range over all time steps."""

from __future__ import annotations

import math

import numpy as np

from tinsmith.pipeline.graph import Array, Graph, Node, QuantParams
from tinsmith.pipeline.ops import lstm
from tinsmith.pipeline.ops.op import call_of
from tinsmith.pipeline.quantization.parameters import (
    IntegerParameters,
    WeightRule,
    integer_parameters,
)
from tinsmith.pipeline.quantization.ranges import Groups

LSTM = "lstm"
ACTIVATIONS = (0, lstm.HIDDEN, lstm.CELL)
BIASES = tuple(lstm.BIASES)
PARAMETERS = frozenset((*lstm.INPUT_WEIGHTS, *lstm.RECURRENT_WEIGHTS, *lstm.BIASES))
INT16_MAX = 32767


def cell_tensors(graph: Graph) -> frozenset[str]:
    """The tensors that hold cell states, which are int16."""
    names: set[str] = set()
    for node in graph.nodes:
        if node.op == LSTM:
            names |= {node.inputs[lstm.CELL], node.outputs[2]}
    return frozenset(names)


def join_hidden(graph: Graph, groups: Groups) -> None:
    """The hidden state and the output of a layer have one scale; so has its cell state."""
    for node in graph.nodes:
        if node.op == LSTM:
            groups.join(node.outputs[0], node.outputs[1])
            groups.join(node.outputs[0], node.inputs[lstm.HIDDEN])
            groups.join(node.outputs[2], node.inputs[lstm.CELL])


def cell_parameters(low: float, high: float) -> QuantParams:
    """int16 with the finest power of two that holds the range (TFLite's PowerOfTwoScale)."""
    peak = max(abs(low), abs(high), 2.0 ** (lstm.CELL_SCALE_POWERS.start + 15))
    power = math.ceil(math.log2(peak / (INT16_MAX + 1)))
    return QuantParams.per_tensor(2.0 ** min(power, lstm.CELL_SCALE_POWERS.stop - 1), 0, 16)


def cell_states(graph: Graph, node: Node, x: Array, h: Array, c: Array) -> Array:
    """The cell state after each time step [steps, batch, units]: what the layer keeps to itself."""
    call = call_of(graph, node)
    values: list[Array | None] = [None if t is None else t.data for t in call.inputs]
    axis = 0 if node.attrs.time_major else 1
    cells = []
    for t in range(x.shape[axis]):
        values[0], values[lstm.HIDDEN], values[lstm.CELL] = np.take(x, [t], axis), h, c
        _, h, c = lstm.run_float(call, values)
        cells.append(c)
    return np.stack(cells)


def gate_parameters(
    graph: Graph, node: Node, input_scale: float, rule: WeightRule, *, wide: bool = False
) -> dict[int, tuple[Array, QuantParams]]:
    """Integers and scales of weights and biases, int64 where wide, by index of the input."""
    made: dict[int, tuple[Array, QuantParams]] = {}
    for w, r, b in zip(lstm.INPUT_WEIGHTS, lstm.RECURRENT_WEIGHTS, lstm.BIASES, strict=True):
        bias = graph.tensors[node.inputs[b]].value()
        weights = graph.tensors[node.inputs[w]].value()
        gate = integer_parameters(weights, bias, None, input_scale, wide=wide, rule=rule)
        made[w], made[b] = (gate.weights, gate.weights_quant), (gate.bias, gate.bias_quant)
        recurrent = _weights_alone(graph.tensors[node.inputs[r]].value(), rule)
        made[r] = (recurrent.weights, recurrent.weights_quant)
    return made


def _weights_alone(weights: Array, rule: WeightRule) -> IntegerParameters:
    return integer_parameters(weights, np.zeros(len(weights), np.float32), None, 1.0, rule=rule)
